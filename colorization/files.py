"""Which files to color: what the user names, what is left out of it and why, what became of each."""

import glob
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from .errors import REPORT_HINT, explain, is_unexpected

if TYPE_CHECKING:
    from .hints import Hint

IMAGE_SUFFIXES = set(".jpg .jpeg .jpe .jfif .png .webp .tif .tiff .bmp .gif .avif .ppm .pgm .pnm".split())
# Pictures, scans and films that are not read.
OTHER_PICTURES = set(
    ".heic .heif .hif .jxl .jp2 .j2k .j2c .jpf .jpx .jxr .wdp .hdr .exr .tga .pcx .psd .xcf .djvu .pdf .svg "
    ".dng .nef .nrw .cr2 .cr3 .crw .arw .sr2 .srf .raf .orf .rw2 .rwl .pef .srw .x3f .raw .3fr .fff .iiq .kdc "
    ".dcr .mrw .erf .mef .mos .mp4 .m4v .mov .avi .mkv .webm .mts .mpg .wmv".split()
)
OUTPUT_FORMATS = ("png", "jpg", "webp", "tiff")


@dataclass(frozen=True)
class Task:
    """One input file, where its result goes, and the color hints for it.

    Attributes:
        page: of the file, from 0; None where the file has but one, which will be found when it is read.
    """

    source: Path
    target: Path
    hints: "tuple[Hint, ...]" = ()
    page: int | None = None


@dataclass
class Report:
    """What became of the inputs."""

    done: int = 0
    skipped: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    _hinted: bool = False

    def fail(self, name: str | Path, reason: str | BaseException) -> None:
        """Remember a failed input and name it at once."""
        text = explain(reason) if isinstance(reason, BaseException) else " ".join(reason.split())
        text = text.removeprefix(f"{name}: ")  # image errors begin with the file's name already
        self.failed.append((str(name), text))
        self._tell(f"failed: {printable(name)}: {text}")
        if isinstance(reason, BaseException) and is_unexpected(reason) and not self._hinted:
            self._hinted = True
            self._tell(f"note: {REPORT_HINT}", reason)

    def tell_notes(self) -> None:
        """Say what the user should know and is no failure; not at once, for bad arguments are one line."""
        for line in self.notes:
            self._tell(line)
        self.notes.clear()

    def _tell(self, line: str, error: BaseException | None = None) -> None:
        """Show a line; `error` is the unexpected one that it is about."""
        tqdm.write(line, file=sys.stderr)


def printable(name: str | Path) -> str:
    """A name that stays on one line."""
    return str(name) if str(name).isprintable() else repr(str(name))


def is_hidden(file: Path) -> bool:
    """Whether systems and programs hide a file of that name: macOS leaves a `._NAME` beside every photograph."""
    return file.name.startswith(".")


def left_out_lines(files: Iterable[Path], pictures_only: bool = False) -> list[str]:
    """One line for each suffix of files that were left out of a folder, with the reason.

    Args:
        files: what was left out.
        pictures_only: only suffixes of what may be photographs, and hidden photographs not.
    """
    hidden, counts = 0, Counter()
    for file in files:
        suffix = file.suffix.lower()
        if is_hidden(file):
            hidden += suffix in IMAGE_SUFFIXES
        elif suffix in OTHER_PICTURES or not pictures_only:
            counts[suffix] += 1
    lines = []
    for suffix, count in sorted(counts.items()):
        why = "not supported, convert them to PNG or JPEG" if suffix in OTHER_PICTURES else "not known as pictures"
        lines.append(f"left out: {_count(count, f'{suffix} file' if suffix else 'file without suffix')} ({why})")
    if hidden and not pictures_only:
        lines.append(f"left out: {_count(hidden, 'hidden file')} (a name that begins with a dot)")
    return lines


def _count(number: int, noun: str) -> str:
    first, _, rest = noun.partition(" without")
    return f"{number} {first}{'' if number == 1 else 's'}" + (f" without{rest}" if rest else "")


# Inputs


@dataclass
class Found:
    """What was found below the names that the user gave.

    Attributes:
        inputs: file and its path below the output folder, by what the file is called.
        left_out: files in folders that are no inputs.
        folders: number of sub-folders that were not entered.
    """

    inputs: dict[str, tuple[Path, Path]] = field(default_factory=dict)
    left_out: set[Path] = field(default_factory=set)
    folders: int = 0

    def add(self, file: Path, name: Path) -> None:
        """Take a file in, once. Two links to one photograph are two inputs: their results have names of their own."""
        self.inputs.setdefault(os.path.join(os.path.realpath(file.parent), file.name), (file, name))


def find_inputs(patterns: Iterable[str], recursive: bool, output: Path, report: Report) -> list[tuple[Path, Path]]:
    """Files to color, each with its path below the output folder; patterns that match nothing are reported.

    What was left out of folders is said, a line for each suffix.

    Args:
        patterns: files, folders or globs; a name that exists is never taken as a glob.
        recursive: descend into sub-folders.
        output: the output folder; when it lies inside an input folder, what is in it is no input.
    """
    found = Found()
    for pattern in patterns:
        files = 0
        try:
            for file, name in _expand(pattern, recursive, Path(os.path.realpath(output)), report, found):
                found.add(file, name)
                files += 1
        except Exception as error:  # a name that is too long, a folder that may not be read
            report.fail(pattern, getattr(error, "strerror", None) or error)
            continue
        if not files:
            why = "no images found" + ("" if recursive else " (sub-folders need --recursive)")
            report.fail(pattern, why)
    report.notes += left_out_lines(found.left_out)
    if found.folders and found.inputs:
        report.notes.append(f"left out: {_count(found.folders, 'sub-folder')} (--recursive enters them)")
    return list(found.inputs.values())


def _expand(pattern: str, recursive: bool, output: Path, report: Report, found: Found) -> Iterator[tuple[Path, Path]]:
    """(file, name below the output folder) of a file, of the images in a folder, or of what a glob matches."""
    path = Path(pattern)
    if path.is_dir():
        yield from _images_below(path, path, recursive, output, report, found)
    elif os.path.lexists(path):
        yield path, Path(path.name)
    elif not glob.has_magic(pattern):
        os.stat(path)  # raises the system's own reason
    else:
        fixed = next(k for k, part in enumerate(path.parts) if glob.has_magic(part))
        base = Path(*path.parts[:fixed])
        for match in sorted(base.glob(str(Path(*path.parts[fixed:])))):
            if match.is_dir():
                yield from _images_below(match, base, recursive, output, report, found)
            elif is_hidden(match):
                found.left_out.add(match)
            elif not _is_inside(match, base, output):
                yield match, match.relative_to(base)


def _images_below(
    folder: Path, base: Path, recursive: bool, output: Path, report: Report, found: Found
) -> Iterator[tuple[Path, Path]]:
    """(file, name relative to `base`) of the images in a folder; links to folders are not followed."""
    for current, folders, files in os.walk(folder, onerror=lambda e: report.fail(e.filename, e.strerror)):
        if not recursive:
            found.folders += sum(os.path.realpath(Path(current, name)) != str(output) for name in folders)
        folders[:] = sorted(folders) if recursive else []
        for file in sorted(Path(current, name) for name in files):
            if _is_inside(file, base, output):
                continue
            if file.suffix.lower() in IMAGE_SUFFIXES and not is_hidden(file):
                yield file, file.relative_to(base)
            else:
                found.left_out.add(file)


def _is_inside(file: Path, base: Path, output: Path) -> bool:
    """Whether a file is a result of an earlier run: below an output folder that lies below the input folder."""
    folder = Path(os.path.realpath(file.parent))
    return Path(os.path.realpath(base)) in output.parents and (folder == output or output in folder.parents)


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
