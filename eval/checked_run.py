"""Outputs and originals that belong together: what is scored, checked file by file."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from PIL.ExifTags import Base
from tqdm import tqdm

from colorization.atomic import sha256_of
from colorization.files import IMAGE_SUFFIXES

from .runs import LEFT_OUT_FILE, MANIFEST_FILE, RUN_FILE, read_json, read_manifest

_SHOWN = 10  # ids in an error


@dataclass(frozen=True)
class Item:
    """One colored picture, its original and what is known of it.

    Attributes:
        id: the same in all runs over the same pictures.
        image, reference: files of the output and of the color original.
        vae: file of the original after a round trip through the VAE, or None.
        reference_sha256: of the original's file.
        caption: the prompt; "" where there was none.
        seconds: that coloring took, or None.
        photo, word: of a run with color words, the photograph and the word, "" for the picture without one.
    """

    id: str
    image: Path
    reference: Path
    vae: Path | None
    reference_sha256: str
    caption: str
    seconds: float | None
    photo: str = ""
    word: str = ""


@dataclass(frozen=True)
class CheckedRun:
    """A checked set of outputs.

    Attributes:
        request: what run.json says, or {"name": folder name} for outputs that did not come from `eval generate`.
        data: name, number, geometry of the photographs, and how many were left out.
        items: sorted by id.
    """

    request: dict
    data: dict
    items: list[Item]


def load_run(folder: Path, reference: Path | None = None) -> CheckedRun:
    """Find outputs and originals and check that they belong together.

    Args:
        folder: what `eval generate` wrote, or any folder of images named by id.
        reference: a run or a folder of color originals; None takes those of `folder`, which then must be a run.

    Raises:
        ValueError: the ids differ, files are missing, too many, changed or unreadable, or sizes differ. Names them.
    """
    for path in (folder, reference):
        if path is not None and not path.is_dir():
            raise ValueError(f"{path} is not a folder")
    entries = _manifest(folder)
    if entries is None and reference is None:
        raise ValueError(f"{folder} has no {MANIFEST_FILE}: name the originals' run or folder with --reference")
    source = folder if reference is None else reference
    originals = entries if source == folder else _manifest(source)
    problems: dict[str, list[str]] = {}

    outputs = _listed(folder, entries, "file", "images", problems) if entries else _pictures_in(folder)
    references = _listed(source, originals, "reference", "originals", problems) if originals else _pictures_in(source)
    vaes = _listed(source, originals, "vae", "VAE round trips", problems) if originals else {}
    if not references:
        raise ValueError(f"{source} holds no originals")
    _note(problems, "images missing", references.keys() - outputs.keys())
    _note(problems, "images without original", outputs.keys() - references.keys())
    _refuse(folder, problems)

    digests, sides = {}, set()
    for key in tqdm(sorted(outputs), desc="checking", unit="picture"):
        digests[key] = sha256_of(references[key])
        for stored, path, name in (
            (entries, outputs[key], "sha256"),
            (originals, references[key], "reference_sha256"),
        ):
            if stored and stored[key].get(name) != (digests[key] if path == references[key] else sha256_of(path)):
                _note(problems, "not the file that was written (SHA-256 differs)", [key])
        try:
            sizes = {_size(path) for path in (outputs[key], references[key], vaes.get(key)) if path is not None}
        except (OSError, ValueError, SyntaxError):  # Pillow's errors on damaged files
            _note(problems, "unreadable", [key])
            continue
        if len(sizes) > 1 or (originals and sizes != {(originals[key]["width"], originals[key]["height"])}):
            _note(problems, "of another size than the original", [key])
        sides |= {side for size in sizes for side in size}
    _refuse(folder, problems)

    items = [
        Item(key, outputs[key], references[key], vaes.get(key), digests[key], *_told(entries[key] if entries else {}))
        for key in sorted(outputs)
    ]
    request = read_json(folder / RUN_FILE, {"name": folder.resolve().name})
    description = read_json(source / RUN_FILE, {})
    data = {
        "name": description.get("dataset_name", source.resolve().name),
        "n": len({item.photo or item.id for item in items}),
        "geometry": description.get("geometry", f"measured as stored, sides of {min(sides)} to {max(sides)} pixels"),
        "left_out": len(read_json(source / LEFT_OUT_FILE, [])),
    }
    return CheckedRun(request, data, items)


def _told(line: dict) -> tuple:
    """What a line of the manifest says of an output, in the order of :class:`Item`."""
    return line.get("caption", ""), line.get("seconds"), line.get("photo", ""), line.get("word", "")


def _manifest(folder: Path) -> dict[str, dict] | None:
    """The manifest's lines, of which there must be some; None where the folder is no run."""
    entries = read_manifest(folder)
    if entries == {}:
        raise ValueError(f"{folder / MANIFEST_FILE} lists no pictures")
    return entries


def _listed(
    folder: Path, entries: Mapping[str, dict], column: str, what: str, problems: dict[str, list[str]]
) -> dict[str, Path]:
    """Files that a manifest names in one column, after a check that they are there and that no others are."""
    files = {key: folder / entry[column] for key, entry in entries.items() if entry[column] is not None}
    _note(problems, f"{what} missing", [key for key, file in files.items() if not file.is_file()])
    expected = {file.resolve() for file in files.values()}
    for directory in {file.parent for file in files.values()}:
        found = [f for f in directory.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES] if directory.is_dir() else []
        _note(problems, f"{what} not in the manifest", [f.stem for f in found if f.resolve() not in expected])
    return files


def _pictures_in(folder: Path) -> dict[str, Path]:
    """The images of a folder by file stem."""
    pictures: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        if file.suffix.lower() in IMAGE_SUFFIXES:
            if file.stem in pictures:
                raise ValueError(f"{folder}: {pictures[file.stem].name} and {file.name} have the same id")
            pictures[file.stem] = file
    if not pictures:
        raise ValueError(f"{folder} holds no images")
    return pictures


def _note(problems: dict[str, list[str]], what: str, ids: Iterable[str]) -> None:
    found = problems.setdefault(what, [])
    found += [key for key in sorted(ids) if key not in found]


def _refuse(folder: Path, problems: Mapping[str, list[str]]) -> None:
    """ValueError with all problems in one line, if there are any."""
    parts = [
        f"{what}: {', '.join(ids[:_SHOWN])}" + (f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else "")
        for what, ids in problems.items()
        if ids
    ]
    if parts:
        raise ValueError(f"{folder} cannot be scored: {'; '.join(parts)}")


def _size(path: Path) -> tuple[int, int]:
    """Width and height of an image file as it is to be shown."""
    with Image.open(path) as image:
        turned = image.getexif().get(Base.Orientation, 1) >= 5
        return image.size[::-1] if turned else image.size
