"""Photographs to evaluate on, each with an id and a label: from folders, lists, parquet files and the Hub.

:func:`list_photos` says which there are without reading all of them, :func:`load_photos` reads them.
"""

import csv
import glob
import hashlib
import io
import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
from PIL import ImageOps

from colorization.errors import ColorizationWarning, explain, one_line
from colorization.files import IMAGE_SUFFIXES, is_hidden, left_out_lines
from colorization.image_io import as_photo
from colorization.in_memory import open_picture

INDEX_FILE = "index.csv"
VALIDATION = ":validation"
COCO_2017_VALIDATION = "hub:detection-datasets/coco:val"
DEFAULT_SPLIT = "validation"
FORMS = "imagefolder:PATH[:validation], parquet:GLOB[:validation], hub:ID[:SPLIT] or ctest10k:LIST.txt:IMAGENET_DIR"
_VALIDATION_SHARE = 20  # one row in twenty
_IMAGE_COLUMNS = ("image", "img")
_ID_COLUMNS = ("image_id", "id", "file_name", "filename")  # in order of preference
_LABEL_COLUMN, _COLLECTION_COLUMN = "label", "source"
_LONGEST_ID = 180  # bytes; file systems take 255, and names get suffixes and prefixes
_CONVERTED = "refs/convert/parquet"  # where the Hub keeps `config/split/0000.parquet` of every data set

_T = TypeVar("_T")


@dataclass(frozen=True)
class NamedPhoto:
    """One photograph as it is stored.

    Attributes:
        id: of its source.
        data: the image file's bytes.
        label: what is in the picture; "" where nobody said.
        origin: file, or parquet file and row, for messages; "" where there is none.
    """

    id: str
    data: bytes
    label: str
    origin: str = ""

    @property
    def digest(self) -> str:
        """SHA-256 of `data`, hexadecimal."""
        return hashlib.sha256(self.data).hexdigest()

    def pixels(self) -> np.ndarray:
        """Upright RGB `(height, width, 3)` uint8; ValueError, naming the photograph, where it cannot be decoded."""
        return decode(io.BytesIO(self.data), self.origin or self.id)


@dataclass(frozen=True)
class PhotoSource:
    """One photograph of a data set.

    Attributes:
        id: safe as a file name and, after :func:`list_photos`, unique whatever the case of its letters.
        origin: file, or parquet file and row, for messages.
        read: gives the image file's bytes; OSError where there are none.
        label: what is in the picture; "" where nobody said.
        collection: which of several collections in one data set it comes from; "" where nobody said.
    """

    id: str
    origin: str
    read: Callable[[], bytes]
    label: str = ""
    collection: str = ""

    def load(self) -> NamedPhoto:
        """The photograph; OSError or ValueError where it cannot be read."""
        return NamedPhoto(self.id, self.read(), self.label, self.origin)


@dataclass(frozen=True)
class PhotoList:
    """A data set.

    Attributes:
        name: short, for results.
        revision: the commit, of a data set on the Hub.
        sources: in stored order, so that reading them one after another is cheap.
    """

    name: str
    revision: str | None
    sources: list[PhotoSource]


def decode(file: Path | BinaryIO, name: str | None = None) -> np.ndarray:
    """Upright RGB `(height, width, 3)` uint8; ValueError, with the name or else the path, where it is damaged."""
    try:
        image = open_picture(io.BytesIO(file.read_bytes()) if isinstance(file, Path) else file)
        if image.mode.startswith(("I", "F")):  # of more than 8 bits, which Pillow cuts off instead of scaling
            return (as_photo(image, keep_color=True).rgb / 257).round().astype(np.uint8)
        return np.array(ImageOps.exif_transpose(image).convert("RGB"))
    except Exception as error:  # no photograph is worth the run
        raise ValueError(f"{name or file}: cannot be decoded: {explain(error)}") from error


def photo_seed(seed: int, photo: NamedPhoto) -> int:
    """A seed of its own for each photograph, in [0, 2^63): one noise for all would tint them all alike."""
    return int(hashlib.sha256(f"{seed}:{photo.digest}".encode()).hexdigest()[:16], 16) >> 1


def is_validation(digest: str) -> bool:
    """Whether a photograph with this hexadecimal SHA-256 belongs to the fixed validation split."""
    return int(digest, 16) % _VALIDATION_SHARE == 0


# Data sets


def list_photos(spec: str, limit: int | None = None) -> PhotoList:
    """The photographs that `spec` names.

    Args:
        spec: one of
            - `imagefolder:PATH`: images below a folder; the id is the file's stem, with its sub-folders before it. An
              `index.csv` in the folder, with columns `file` and `caption`, gives labels;
            - `parquet:GLOB`: parquet files with a column `image` (bytes, or a struct with `bytes`); the id is the
              row's `image_id`, `id` or `file_name`, else the stem of the image's own path, else file and row. A column
              `label` of text gives labels;
            - `hub:ID[:SPLIT]`: the parquet files of one split (default: validation) of a data set on the Hub, or,
              where it has none, of their converted copies; the other splits are not downloaded;
            - `ctest10k:LIST.txt:IMAGENET_DIR`: the images whose names a text file lists, one a line, anywhere below a
              folder. ctest10k is such a list of 10,000 photographs of ImageNet's validation set.
            The first two with ":validation" at the end: only photographs of the fixed validation split, those whose
            SHA-256, read as an integer, is 0 modulo 20.
        limit: at most this many, those whose ids have the smallest SHA-256: a random sample that is always the same,
            whatever the order and number of files.

    Raises:
        ValueError: the form is unknown, nothing is there, columns are missing, two ids are the same, or a limit below
            1.
    """
    kind, _, rest = spec.partition(":")
    if kind not in _READERS or not rest:
        raise ValueError(f"must be {FORMS}, got {spec!r}")
    photos = _READERS[kind](rest)
    if not photos.sources:
        raise ValueError(f"{rest}: no photographs found")
    _check_unique(photos.sources)
    if limit is None:
        return photos
    sources = take(photos.sources, limit, lambda source: hashlib.sha256(source.id.encode()).hexdigest())
    return PhotoList(photos.name, photos.revision, sources)


def load_photos(spec: str, limit: int | None = None) -> list[NamedPhoto]:
    """The photographs that `spec` names, read, in stored order.

    Args:
        spec: as for :func:`list_photos`; the kind may be left out of a folder and of a glob of parquet files.
        limit: at most this many, those with the smallest SHA-256 of their bytes: the same wherever they are stored.

    Raises:
        ValueError: as for :func:`list_photos`.
        OSError: one cannot be read.
    """
    photos = [source.load() for source in list_photos(_with_kind(spec)).sources]
    return photos if limit is None else take(photos, limit, lambda photo: photo.digest)


def take(items: list[_T], count: int, digest: Callable[[_T], str]) -> list[_T]:
    """The `count` items with the smallest digests, in the order given; ValueError on a count below 1.

    A random sample that is always the same, where the first rows of a file could all be of one kind.
    """
    if count < 1:
        raise ValueError(f"the number of photographs must be at least 1, got {count}")
    rows = sorted(range(len(items)), key=lambda row: digest(items[row]))[:count]
    return [items[row] for row in sorted(rows)]


@contextmanager
def naming(argument: str) -> Iterator[None]:
    """A ValueError inside begins with the name of the argument that is to blame."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"argument {argument}: {error}") from error


def set_name(spec: str) -> str:
    """A name for results: the folder's, or the parquet file's with its folder's ("tiny-imagenet-64-validation")."""
    kind, _, rest = spec.partition(":")
    source = rest if kind in _READERS else spec
    path = Path(source.removesuffix(VALIDATION)).expanduser().resolve()
    if path.is_dir():
        name = path.name
    else:  # shard numbers and glob characters say nothing
        stem = path.name.removesuffix(".parquet").split("-")[0].strip("*")
        name = f"{path.parent.name}-{stem}" if stem else path.parent.name
    return name + ("-held-out" if source.endswith(VALIDATION) else "")


def safe_id(name: str) -> str:
    """A name as a file name on any system: letters, digits, "_", "-" and "." stay, all else becomes "_"."""
    safe = re.sub(r"[^\w.-]", "_", name).lstrip(".") or "_"
    if len(safe.encode()) <= _LONGEST_ID:
        return safe
    return f"{safe.encode()[:_LONGEST_ID].decode(errors='ignore')}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"


def _with_kind(spec: str) -> str:
    if spec.partition(":")[0] in _READERS:
        return spec
    return f"{'imagefolder' if Path(spec.removesuffix(VALIDATION)).is_dir() else 'parquet'}:{spec}"


def _check_unique(sources: Iterable[PhotoSource]) -> None:
    owners: dict[str, PhotoSource] = {}
    for source in sources:
        owner = owners.setdefault(source.id.casefold(), source)
        if owner is not source:
            raise ValueError(f"{owner.origin} and {source.origin} would both be called {source.id!r}")


def _validation_only(text: str, sources: list[PhotoSource]) -> list[PhotoSource]:
    """All sources, or those of the validation split where the text ends in ":validation"."""
    if not text.endswith(VALIDATION):
        return sources
    return [source for source in sources if is_validation(hashlib.sha256(source.read()).hexdigest())]


# Folders and lists


def _from_folder(text: str) -> PhotoList:
    folder = Path(text.removesuffix(VALIDATION)).expanduser()
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder")
    labels = _read_labels(folder / INDEX_FILE)
    files = [file for file in folder.rglob("*") if file.is_file()]
    names = sorted(file.relative_to(folder) for file in files if _is_image(file))
    for line in left_out_lines((file for file in files if not _is_image(file)), pictures_only=True):
        warnings.warn(f"{folder}: {line}", ColorizationWarning, stacklevel=2)
    sources = [
        PhotoSource(
            safe_id(name.with_suffix("").as_posix()),
            str(folder / name),
            (folder / name).read_bytes,
            labels.get(name.as_posix(), ""),
        )
        for name in names
    ]
    return PhotoList(set_name(text), None, _validation_only(text, sources))


def _read_labels(file: Path) -> dict[str, str]:
    """Labels by file name; none where there is no such list."""
    if not file.is_file():
        return {}
    with open(file, newline="", encoding="utf-8") as stream:
        return {row.get("file") or "": row.get("caption") or "" for row in csv.DictReader(stream)}


def _is_image(file: Path) -> bool:
    return file.suffix.lower() in IMAGE_SUFFIXES and not is_hidden(file)


def _from_list(text: str) -> PhotoList:
    list_name, _, folder_name = text.rpartition(":")
    file, folder = Path(list_name).expanduser(), Path(folder_name).expanduser()
    if not file.is_file():
        raise ValueError(f"must be ctest10k:LIST.txt:IMAGENET_DIR, and {list_name!r} is no file")
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder")
    names = [line.split()[0] for line in file.read_text(encoding="utf-8").splitlines() if line.split()]
    # Copies of ImageNet differ in folders (one per class, or none), hardly ever in file names.
    places = {path.name: path for path in sorted(folder.rglob("*")) if _is_image(path)}
    files = [places.get(Path(name).name, folder / name) for name in names]
    if not any(file.exists() for file in files):
        raise ValueError(f"{folder} holds none of the {len(names)} photographs that {file} lists")
    return PhotoList(file.stem, None, [PhotoSource(safe_id(f.stem), str(f), f.read_bytes) for f in files])


# Parquet


def _from_parquet(text: str) -> PhotoList:
    pattern = Path(text.removesuffix(VALIDATION)).expanduser()
    files = [Path(name) for name in sorted(glob.glob(str(pattern), recursive=True))]
    return PhotoList(set_name(text), None, _validation_only(text, list(_parquet_sources(files))))


def _parquet_sources(files: Iterable[Path]) -> Iterator[PhotoSource]:
    import pyarrow

    for file in files:
        try:
            images = _ParquetImages(file)
            columns = images.names(), images.words(_LABEL_COLUMN), images.words(_COLLECTION_COLUMN)
            for row, (name, label, collection) in enumerate(zip(*columns, strict=True)):
                read = partial(images.read, row)
                yield PhotoSource(safe_id(name), f"{file}, row {row}", read, label, collection)
        except pyarrow.ArrowInvalid as error:
            raise ValueError(f"{file}: cannot be read as parquet: {one_line(error)}") from error


class _ParquetImages:
    """The images of one parquet file; the row group that was read last stays in memory."""

    def __init__(self, path: Path):
        import pyarrow.parquet

        self._path, self._file = path, pyarrow.parquet.ParquetFile(path)
        self._columns = self._file.schema_arrow.names
        self._column = next((name for name in _IMAGE_COLUMNS if name in self._columns), None)
        if self._column is None:
            raise ValueError(f"{path}: has no column 'image', only {', '.join(self._columns)}")
        self._id_column = next((name for name in _ID_COLUMNS if name in self._columns), None)
        self._group, self._cells = None, []

    def names(self) -> list[str]:
        """What each row calls itself."""
        if self._id_column is not None:
            values = self._values(self._id_column)
            return [Path(value).stem if "name" in self._id_column else str(value) for value in values]
        rows = [f"{self._path.stem}-{row}" for row in range(self._file.metadata.num_rows)]
        image = self._file.schema_arrow.field(self._column).type
        if not hasattr(image, "get_field_index") or image.get_field_index("path") < 0:
            return rows
        cells = self._file.read(columns=[f"{self._column}.path"])[self._column].to_pylist()
        stems = [Path(cell["path"]).stem if cell and cell["path"] else "" for cell in cells]
        return stems if all(stems) and len(set(stems)) == len(stems) else rows

    def words(self, column: str) -> list[str]:
        """A column's text in each row; "" where there is no such column or no text."""
        if column not in self._columns:
            return [""] * self._file.metadata.num_rows
        return [value if isinstance(value, str) else "" for value in self._values(column)]

    def read(self, row: int) -> bytes:
        """The image file's bytes in a row; OSError where there are none."""
        group = 0
        while row >= (length := self._file.metadata.row_group(group).num_rows):
            row, group = row - length, group + 1
        if group != self._group:
            self._cells = self._file.read_row_group(group, columns=[self._column])[self._column]
            self._group = group
        cell = self._cells[row].as_py()
        data = cell.get("bytes") if isinstance(cell, dict) else cell
        if not data:
            raise OSError("the row holds no image")
        return data

    def _values(self, column: str) -> list:
        return self._file.read(columns=[column])[column].to_pylist()


# The Hub


def _from_hub(text: str) -> PhotoList:
    name, _, split = text.partition(":")
    split = split or DEFAULT_SPLIT
    folder, files = _download(name, split)
    return PhotoList(f"{name.split('/')[-1]}-{split}", folder.name, list(_parquet_sources(files)))


def _download(name: str, split: str) -> tuple[Path, list[Path]]:
    """The local snapshot of a data set, named by its commit, and the parquet files of one split in it."""
    from huggingface_hub import snapshot_download

    patterns = [f"{split}-*.parquet", f"*/{split}-*.parquet", f"{split}/*.parquet", f"*/{split}/*.parquet"]
    for revision in (None, _CONVERTED):
        try:
            folder = Path(snapshot_download(name, repo_type="dataset", revision=revision, allow_patterns=patterns))
        except (OSError, ValueError) as error:
            if revision is not None:  # it is there and has no converted copies
                break
            raise ValueError(f"{name} cannot be had from the Hub: {one_line(error)}") from error
        files = sorted([*folder.rglob(f"{split}-*.parquet"), *folder.rglob(f"{split}/*.parquet")])
        if len({file.parent for file in files}) > 1:
            raise ValueError(f"{name} has several sets of parquet files of a split {split!r}")
        if files:
            return folder, files
    raise ValueError(f"{name} has no parquet files of a split {split!r}")


_READERS = {"imagefolder": _from_folder, "parquet": _from_parquet, "hub": _from_hub, "ctest10k": _from_list}
