"""Which photographs a data set has, without reading all of them: folders, lists, parquet files, the Hub."""

import glob
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .photos import IMAGE_SUFFIXES, VALIDATION, is_validation, set_name

COCO_2017_VALIDATION = "hub:detection-datasets/coco:val"
DEFAULT_SPLIT = "validation"
FORMS = "imagefolder:PATH, parquet:GLOB[:validation], hub:ID[:SPLIT] or ctest10k:LIST.txt:IMAGENET_DIR"

_IMAGE_COLUMNS = ("image", "img")
_ID_COLUMNS = ("image_id", "id", "file_name", "filename")  # in order of preference
_LONGEST_ID = 180  # bytes; file systems take 255, and names get suffixes and prefixes
_CONVERTED = "refs/convert/parquet"  # where the Hub keeps `config/split/0000.parquet` of every data set


@dataclass(frozen=True)
class PhotoSource:
    """One photograph of a data set.

    Attributes:
        id: safe as a file name and, after :func:`list_photos`, unique whatever the case of its letters.
        origin: file, or parquet file and row, for messages.
        read: gives the image file's bytes; OSError where there are none.
    """

    id: str
    origin: str
    read: Callable[[], bytes]


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


def list_photos(spec: str, limit: int | None = None) -> PhotoList:
    """The photographs that `spec` names.

    Args:
        spec: one of
            - `imagefolder:PATH`: images below a folder; the id is the file's stem, with its sub-folders before it;
            - `parquet:GLOB`: parquet files with a column `image` (bytes, or a struct with `bytes`); the id is the
              row's `image_id`, `id` or `file_name`, else the stem of the image's own path, else file and row. With
              ":validation" at the end only the fixed validation split of :mod:`eval.photos`;
            - `hub:ID[:SPLIT]`: the parquet files of one split (default: validation) of a data set on the Hub, or,
              where it has none, of their converted copies; the other splits are not downloaded;
            - `ctest10k:LIST.txt:IMAGENET_DIR`: the images whose names a text file lists, one a line, anywhere below a
              folder. ctest10k is such a list of 10,000 photographs of ImageNet's validation set.
        limit: at most this many, those whose ids have the smallest SHA-256: a random sample that is always the same,
            whatever the order and number of files.

    Raises:
        ValueError: the form is unknown, nothing is there, columns are missing, two ids are the same, or a limit below
            1.
    """
    kind, _, rest = spec.partition(":")
    readers = {"imagefolder": _from_folder, "parquet": _from_parquet, "hub": _from_hub, "ctest10k": _from_list}
    if kind not in readers or not rest:
        raise ValueError(f"argument --dataset: must be {FORMS}, got {spec!r}")
    photos = readers[kind](rest)
    if not photos.sources:
        raise ValueError(f"argument --dataset: {rest} holds no photographs")
    _check_unique(photos.sources)
    return photos if limit is None else PhotoList(photos.name, photos.revision, sample(photos.sources, limit))


def sample(sources: list[PhotoSource], count: int) -> list[PhotoSource]:
    """The `count` photographs whose ids have the smallest SHA-256, in the order given; ValueError below 1."""
    if count < 1:
        raise ValueError(f"argument --limit: must be at least 1, got {count}")
    rows = sorted(range(len(sources)), key=lambda row: hashlib.sha256(sources[row].id.encode()).digest())[:count]
    return [sources[row] for row in sorted(rows)]


def safe_id(name: str) -> str:
    """A name as a file name on any system: letters, digits, "_", "-" and "." stay, all else becomes "_"."""
    safe = re.sub(r"[^\w.-]", "_", name).lstrip(".") or "_"
    if len(safe.encode()) <= _LONGEST_ID:
        return safe
    return f"{safe.encode()[:_LONGEST_ID].decode(errors='ignore')}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"


def _check_unique(sources: Iterable[PhotoSource]) -> None:
    owners: dict[str, PhotoSource] = {}
    for source in sources:
        owner = owners.setdefault(source.id.casefold(), source)
        if owner is not source:
            raise ValueError(f"{owner.origin} and {source.origin} would both be called {source.id!r}")


# Folders and lists


def _from_folder(text: str) -> PhotoList:
    folder = Path(text).expanduser()
    if not folder.is_dir():
        raise ValueError(f"argument --dataset: {folder} is not a folder")
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file())
    sources = [_file_source(file.relative_to(folder).with_suffix("").as_posix(), file) for file in files]
    return PhotoList(folder.resolve().name, None, sources)


def _file_source(name: str, file: Path) -> PhotoSource:
    return PhotoSource(safe_id(name), str(file), file.read_bytes)


def _from_list(text: str) -> PhotoList:
    list_name, _, folder_name = text.rpartition(":")
    file, folder = Path(list_name).expanduser(), Path(folder_name).expanduser()
    if not file.is_file():
        raise ValueError(f"argument --dataset: must be ctest10k:LIST.txt:IMAGENET_DIR, and {list_name!r} is no file")
    if not folder.is_dir():
        raise ValueError(f"argument --dataset: {folder} is not a folder")
    names = [line.split()[0] for line in file.read_text(encoding="utf-8").splitlines() if line.split()]
    # Copies of ImageNet differ in folders (one per class, or none), hardly ever in file names.
    places = {path.name: path for path in sorted(folder.rglob("*")) if path.suffix.lower() in IMAGE_SUFFIXES}
    files = [places.get(Path(name).name, folder / name) for name in names]
    if not any(file.exists() for file in files):
        raise ValueError(f"argument --dataset: {folder} holds none of the {len(names)} photographs that {file} lists")
    return PhotoList(file.stem, None, [_file_source(file.stem, file) for file in files])


# Parquet


def _from_parquet(text: str) -> PhotoList:
    pattern = text.removesuffix(VALIDATION)
    files = [Path(name) for name in sorted(glob.glob(str(Path(pattern).expanduser()), recursive=True))]
    sources = list(_parquet_sources(files))
    if text != pattern:
        sources = [source for source in sources if is_validation(hashlib.sha256(source.read()).hexdigest())]
    return PhotoList(set_name(text), None, sources)


def _parquet_sources(files: Iterable[Path]) -> Iterator[PhotoSource]:
    import pyarrow

    for file in files:
        try:
            images = _ParquetImages(file)
            for row, name in enumerate(images.names()):
                yield PhotoSource(safe_id(name), f"{file}, row {row}", lambda row=row, images=images: images.read(row))
        except pyarrow.ArrowInvalid as error:
            raise ValueError(f"{file}: cannot be read as parquet: {' '.join(str(error).split())}") from error


class _ParquetImages:
    """The images of one parquet file; the row group that was read last stays in memory."""

    def __init__(self, path: Path):
        import pyarrow.parquet

        self._path, self._file = path, pyarrow.parquet.ParquetFile(path)
        columns = self._file.schema_arrow.names
        self._column = next((name for name in _IMAGE_COLUMNS if name in columns), None)
        if self._column is None:
            raise ValueError(f"{path}: has no column 'image', only {', '.join(columns)}")
        self._id_column = next((name for name in _ID_COLUMNS if name in columns), None)
        self._group, self._cells = None, []

    def names(self) -> list[str]:
        """What each row calls itself."""
        if self._id_column is not None:
            values = self._file.read(columns=[self._id_column])[self._id_column].to_pylist()
            return [Path(value).stem if "name" in self._id_column else str(value) for value in values]
        rows = [f"{self._path.stem}-{row}" for row in range(self._file.metadata.num_rows)]
        image = self._file.schema_arrow.field(self._column).type
        if not hasattr(image, "get_field_index") or image.get_field_index("path") < 0:
            return rows
        cells = self._file.read(columns=[f"{self._column}.path"])[self._column].to_pylist()
        stems = [Path(cell["path"]).stem if cell and cell["path"] else "" for cell in cells]
        return stems if all(stems) and len(set(stems)) == len(stems) else rows

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
            reason = " ".join(str(error).split())
            raise ValueError(f"argument --dataset: {name} cannot be had from the Hub: {reason}") from error
        files = sorted([*folder.rglob(f"{split}-*.parquet"), *folder.rglob(f"{split}/*.parquet")])
        if len({file.parent for file in files}) > 1:
            raise ValueError(f"argument --dataset: {name} has several sets of parquet files of a split {split!r}")
        if files:
            return folder, files
    raise ValueError(f"argument --dataset: {name} has no parquet files of a split {split!r}")
