"""A folder of images as a data set: every photograph in it, and what is written beside it.

Not by the loader of `datasets`: that takes words in names for splits and brackets for patterns, and drops photographs
that a metadata file does not list and formats that it does not know, all without a word.
"""

import csv
import json
import os
import re
import warnings
from collections.abc import Iterable
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

from colorization.errors import ColorizationWarning, one_line
from colorization.files import IMAGE_SUFFIXES, left_out_lines

SPLITS = ("train", "validation", "test")
METADATA_FILES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
TEXT_COLUMN = "text"  # of captions that lie in .txt files beside the photographs
_FILE_COLUMN = "file_name"
# What a folder that holds a split is called, a number after it allowed (`val2017`).
_SPLIT_FOLDERS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}

_Row = dict[str, str | None]


def load_image_folder(folder: Path, files: Iterable[Path]) -> dict[str, datasets.Dataset]:
    """The splits of a folder; `image` is undecoded, with the path of the file and no bytes.

    The columns of metadata files (`metadata.csv`, `.jsonl` or `.parquet` with a column `file_name`, in any folder)
    come along as text. A text file beside a photograph (`a.txt` of `a.jpg`) is its `text`. Where there are no metadata
    and all images lie equally deep in folders of several names, those are the labels. A warning names what is left
    out, and photographs that the metadata do not have.

    Args:
        folder: absolute.
        files: all that are in it and in its sub-folders.

    Raises:
        ValueError: a metadata file cannot be read.
    """
    visible = [file for file in files if not _is_hidden(file.relative_to(folder))]
    photos = [file for file in visible if file.suffix.lower() in IMAGE_SUFFIXES]
    for line in left_out_lines(set(visible) - set(photos), pictures_only=True):
        _warn(f"{folder}: {line}")
    metadata = [file for file in visible if file.name in METADATA_FILES]
    written = _read_metadata(metadata)
    if metadata:
        _name_unlisted(folder, photos, written)
        there = set(photos)
        photos = [file for file in written if file in there] + [file for file in photos if file not in written]
    _add_texts(photos, written)
    columns = list(dict.fromkeys(column for row in written.values() for column in row))
    labels = [] if metadata else _labels(photos)
    features = {"image": datasets.Image(decode=False)}
    features |= {"label": datasets.ClassLabel(names=labels)} if labels else {}
    features |= {column: datasets.Value("string") for column in columns}
    splits = {}
    for name, chosen in _by_split(folder, photos).items():
        table = {"image": [{"path": str(file), "bytes": None} for file in chosen]}
        if labels:
            table["label"] = [file.parent.name for file in chosen]
        table |= {column: [written.get(file, {}).get(column) for file in chosen] for column in columns}
        splits[name] = datasets.Dataset.from_dict(table, datasets.Features(features))
    return splits


def _warn(text: str) -> None:
    warnings.warn(text, ColorizationWarning, stacklevel=4)


def _is_hidden(file: Path) -> bool:
    return any(part.startswith(".") for part in file.parts) or any(part.startswith("__") for part in file.parts[:-1])


# Splits and labels


def _by_split(folder: Path, photos: list[Path]) -> dict[str, list[Path]]:
    """Files by split, by the folders' names if all images are in folders that are called like splits."""
    splits = {file: _split_of(file.relative_to(folder)) for file in photos}
    if None in splits.values():
        return {"train": photos}  # such a word is then the name of a class, or in a title
    return {name: chosen for name in SPLITS if (chosen := [file for file in photos if splits[file] == name])}


def _split_of(file: Path) -> str | None:
    """The split by the name of the first folder on a file's way that is called like one."""
    words = (re.fullmatch(r"([a-z]+)[-._ ]?\d*", part.lower()) for part in file.parts[:-1])
    found = (name for word in words if word for name, names in _SPLIT_FOLDERS.items() if word[1] in names)
    return next(found, None)


def _labels(photos: list[Path]) -> list[str]:
    """Names of the folders that hold the images; none where there is but one, or where some lie deeper than others."""
    names = {file.parent.name for file in photos}
    return sorted(names) if len(names) > 1 and len({len(file.parts) for file in photos}) == 1 else []


# What is written beside the photographs


def _read_metadata(files: list[Path]) -> dict[Path, _Row]:
    """Rows by photograph, in the order of the files."""
    rows: dict[Path, _Row] = {}
    for file in files:
        try:
            for row in _rows(file):
                name = row.pop(_FILE_COLUMN, None)
                if not name:
                    raise ValueError(f"must have a column {_FILE_COLUMN}, with a name in every row")
                rows[Path(os.path.normpath(file.parent / str(name)))] = {
                    column: text_of(value) for column, value in row.items() if column not in (None, "image")
                }
        except (OSError, ValueError, TypeError, AttributeError, csv.Error, pa.ArrowException) as error:
            raise ValueError(f"{file}: {one_line(error)}") from error
    return rows


def _rows(file: Path) -> Iterable[dict]:
    if file.suffix == ".parquet":
        return pq.read_table(file).to_pylist()
    with open(file, newline="", encoding="utf-8-sig") as stream:
        if file.suffix == ".csv":
            return list(csv.DictReader(stream))
        return [json.loads(line) for line in stream if line.strip()]


def text_of(value: object) -> str | None:
    """A value as text: captions may be numbers, or several of which the first one counts."""
    if isinstance(value, list | tuple):
        value = value[0] if value else None
    return value if value is None or isinstance(value, str) else str(value)


def _name_unlisted(folder: Path, photos: list[Path], written: dict[Path, _Row]) -> None:
    there = set(photos)
    if missing := [file for file in photos if file not in written]:
        count = f"{len(missing)} of {len(photos)} photographs"
        _warn(f"{folder}: {count} are not in the metadata and have none, such as {missing[0].name}")
    if gone := [file for file in written if file not in there]:
        _warn(f"{folder}: {len(gone)} files that the metadata list are not there, such as {gone[0].name}")


def _add_texts(photos: list[Path], written: dict[Path, _Row]) -> None:
    """Captions in text files, where nothing else says them."""
    for photo in photos:
        file = photo.with_suffix(".txt")
        if not (written.get(photo) or {}).get(TEXT_COLUMN) and file.is_file():
            try:
                text = " ".join(file.read_text(encoding="utf-8-sig").split())
            except (OSError, ValueError) as error:
                _warn(f"{file}: no caption ({one_line(error)})")
                continue
            written.setdefault(photo, {})[TEXT_COLUMN] = text
