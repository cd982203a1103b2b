"""Which files to color: what the user names, where each result goes, what became of it."""

import errno
import glob
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

if TYPE_CHECKING:
    from .hints import Hint

IMAGE_SUFFIXES = set(".jpg .jpeg .jpe .jfif .png .webp .tif .tiff .bmp .gif .avif .ppm .pgm .pnm".split())
OUTPUT_FORMATS = ("png", "jpg", "webp", "tiff")
_SAME_FORMAT = {".jpg": ".jpg", ".jpeg": ".jpg", ".jpe": ".jpg", ".jfif": ".jpg", ".png": ".png", ".webp": ".webp"}


@dataclass(frozen=True)
class Task:
    """One input file, where its result goes, and the color hints for it."""

    source: Path
    target: Path
    hints: "tuple[Hint, ...]" = ()


@dataclass
class Report:
    """What became of the inputs."""

    done: int = 0
    skipped: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)

    def fail(self, name: str | Path, reason: object) -> None:
        """Remember a failed input and name it at once."""
        text = str(reason).removeprefix(f"{name}: ")  # image errors begin with the file's name already
        text = " ".join(text.split()) or type(reason).__name__
        shown = str(name) if str(name).isprintable() else repr(str(name))
        self.failed.append((str(name), text))
        tqdm.write(f"failed: {shown}: {text}", file=sys.stderr)


def find_inputs(patterns: Iterable[str], recursive: bool, output: Path, report: Report) -> list[tuple[Path, Path]]:
    """Files to color, each with its path below the output folder; patterns that match nothing are reported.

    Args:
        patterns: files, folders or globs; a name that exists is never taken as a glob.
        recursive: descend into sub-folders.
        output: the output folder; when it lies inside an input folder, what is in it is no input.
    """
    found: dict[Path, tuple[Path, Path]] = {}
    for pattern in patterns:
        try:
            files = list(_expand(pattern, recursive, output.resolve(), report))
        except OSError as error:  # a name that is too long, a folder that may not be read
            report.fail(pattern, error.strerror)
            continue
        if not files:
            report.fail(pattern, "no images found" + ("" if recursive else " (sub-folders need --recursive)"))
        for file, name in files:
            found.setdefault(file.resolve(), (file, name))
    return list(found.values())


def _expand(pattern: str, recursive: bool, output: Path, report: Report) -> Iterator[tuple[Path, Path]]:
    """(file, name below the output folder) of a file, of the images in a folder, or of what a glob matches."""
    path = Path(pattern)
    if path.is_dir():
        yield from _images_below(path, path, recursive, output, report)
    elif path.exists():
        yield path, Path(path.name)
    elif not glob.has_magic(pattern):
        raise FileNotFoundError(errno.ENOENT, "no such file or folder")
    else:
        fixed = next(k for k, part in enumerate(path.parts) if glob.has_magic(part))
        base = Path(*path.parts[:fixed])
        for match in sorted(base.glob(str(Path(*path.parts[fixed:])))):
            if match.is_dir():
                yield from _images_below(match, base, recursive, output, report)
            elif not _is_inside(match, base, output):
                yield match, match.relative_to(base)


def _images_below(
    folder: Path, base: Path, recursive: bool, output: Path, report: Report
) -> Iterator[tuple[Path, Path]]:
    """(file, name relative to `base`) of the images in a folder; links to folders are not followed."""
    for current, folders, files in os.walk(folder, onerror=lambda e: report.fail(e.filename, e.strerror)):
        folders[:] = sorted(folders) if recursive else []
        for file in sorted(Path(current, name) for name in files):
            if file.suffix.lower() in IMAGE_SUFFIXES and not _is_inside(file, base, output):
                yield file, file.relative_to(base)


def _is_inside(file: Path, base: Path, output: Path) -> bool:
    """Whether a file is a result of an earlier run: below an output folder that lies below the input folder."""
    return base.resolve() in output.parents and output in file.resolve().parents


def plan_tasks(
    inputs: list[tuple[Path, Path]], output: Path, suffix: str | None, overwrite: bool, report: Report
) -> list[Task]:
    """Where each input's result goes; finished ones are skipped, clashes reported. No input is ever overwritten."""
    originals = {source.resolve() for source, _ in inputs}
    owners: dict[Path, Path] = {}
    tasks = []
    for source, name in inputs:
        target = output / name.with_suffix(suffix or _SAME_FORMAT.get(name.suffix.lower(), ".png"))
        owner = owners.setdefault(target, source)
        if owner != source:
            report.fail(source, f"its result would have the same name as that of {owner}: {target}")
        elif target.resolve() in originals:
            report.fail(source, f"the result would overwrite the input {target}: choose another --output or --format")
        elif target.is_dir():
            report.fail(source, f"a folder has the name of the result: {target}")
        elif target.exists() and not overwrite:
            report.skipped += 1
        else:
            tasks.append(Task(source, target))
    return tasks


def with_hints(tasks: list[Task], inputs: list[tuple[Path, Path]], path: Path) -> list[Task]:
    """The tasks with the hints that a file holds for them, see `hints.read_hints`.

    Raises:
        OSError: the file cannot be read.
        ValueError: a line has another form, names none of the inputs, or names none although there are several.
    """
    from .hints import read_hints

    hints = read_hints(path)
    sources = {source.resolve() for source, _ in inputs}
    of_source = {}
    for name, own in hints.items():
        if not name and len(sources) != 1:
            raise ValueError(f"{path}: each line must be FILE,x,y,#rrggbb, for there are {len(sources)} inputs")
        source = Path(name).resolve() if name else next(iter(sources))
        if source not in sources:
            raise ValueError(f"{path}: {name} is none of the inputs")
        of_source[source] = of_source.get(source, ()) + own
    return [replace(task, hints=of_source.get(task.source.resolve(), ())) for task in tasks]
