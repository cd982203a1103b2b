"""Where photographs come from: a data set on the Hub, a local folder of images, or parquet files.

Whatever the source, every split has a column `image` of undecoded images, so that bytes reach the reader untouched.
"""

import glob
import io
import os
from pathlib import Path

import datasets
import fsspec
import httpx
import pyarrow as pa
from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError
from huggingface_hub import HfApi
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError
from PIL import Image

from colorization.errors import one_line
from colorization.files import IMAGE_SUFFIXES
from colorization.in_memory import open_picture
from colorization.photo import ImageError

from .image_folder import SPLITS, load_image_folder, text_of

CONVERTED = "refs/convert/parquet"  # the branch on which the Hub keeps `config/split/0000.parquet` of every data set
IMAGE_COLUMNS = ("image", "img", "jpg", "png", "webp", "picture")  # in order of preference
CAPTION_COLUMNS = ("caption", "text")  # in order of preference
# Pillow's plain raster formats: others start programs, or draw what is no photograph.
_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "AVIF", "JPEG2000")

# Data sets whose main branch is a loading script, which datasets >= 4 refuses: (revision, config) to take instead.
_DEFAULTS = {"frgfm/imagenette": (CONVERTED, "full_size")}

Source = dict[str, datasets.Dataset | datasets.IterableDataset]


def load_source(
    source: str, config: str | None = None, revision: str | None = None, streaming: bool = False
) -> Source:
    """The splits of a data set by name; nothing is decoded.

    Every split has a column `image` of `datasets.Image(decode=False)`, whose cells :func:`image_bytes` reads; a column
    with another usual name (`img`, `jpg`, ...) is renamed. All other columns stay as they are.

    Args:
        source: one of
            - a folder of images, with or without folders per class or per split (`train/`, `validation/`, ...), see
              `train.image_folder`,
            - a folder of parquet files, the Hub's layout (`data/train-*.parquet`, README.md) included,
            - a parquet file or glob; the split is the file name up to the first "-" if that is train, validation or
              test, else "train",
            - the id of a data set on the Hub. Of `frgfm/imagenette` the configuration `full_size` is read from the
              branch of converted parquet files, its main branch being a loading script.
        config: configuration (subset) of the data set; in a local folder also the name of a sub-folder.
        revision: branch, tag or commit on the Hub.
        streaming: give `IterableDataset`s, which read while they are iterated over.

    Raises:
        ValueError: there is no such source, configuration or revision, it cannot be read, or it has no images.
        OSError: the Hub cannot be reached.
    """
    source = os.path.expanduser(str(source))
    local = is_local(source)
    if local and revision is not None:
        raise ValueError(f"`revision` {revision!r} makes no sense for the local source {source!r}")
    try:
        splits = _load_local(source, config, streaming) if local else _load_hub(source, config, revision, streaming)
    except (DatasetGenerationError, pa.ArrowException) as error:
        raise ValueError(f"source {source!r} cannot be read: {one_line(error.__cause__ or error)}") from error
    return {str(name): _with_image_column(split, f"{source} ({name})") for name, split in splits.items()}


def is_local(source: str) -> bool:
    """Whether a source is a path or a glob (which may match nothing), and no id on the Hub."""
    source = os.path.expanduser(source)
    return not source or Path(source).exists() or glob.has_magic(source) or source.startswith((".", os.sep))


class UnreadablePhoto(OSError):
    """A photograph that cannot be had: its file is missing, damaged, or not what can be learned from.

    Attributes:
        cause: one line.
    """

    def __init__(self, cause: str, name: str = ""):
        self.cause = cause
        super().__init__(f"{name}: {self.cause}" if name else self.cause)


def image_bytes(cell: dict) -> bytes:
    """The encoded image in a cell of an undecoded image column: its "bytes", or what the file at its "path" holds.

    Raises:
        UnreadablePhoto: the cell holds neither, or the file cannot be read.
    """
    if cell is not None and cell.get("bytes") is not None:
        return cell["bytes"]
    if cell is None or cell.get("path") is None:
        raise UnreadablePhoto("the cell holds no image")
    try:
        with fsspec.open(cell["path"], "rb") as file:
            return file.read()
    except OSError as error:
        raise UnreadablePhoto(error.strerror or one_line(error)) from error


def open_photo(data: bytes) -> Image.Image:
    """The photograph that an image file holds, decoded.

    Raises:
        UnreadablePhoto: it is damaged, or of no format that photographs have.
    """
    try:
        return open_picture(io.BytesIO(data), _FORMATS)
    except ImageError as error:
        raise UnreadablePhoto(str(error)) from error


def read_photo(cell: dict, place: str) -> tuple[bytes, Image.Image]:
    """The encoded and the decoded image in a cell of an undecoded image column.

    Args:
        cell: of the column.
        place: of the cell, for messages.

    Raises:
        UnreadablePhoto: it cannot be read; the message names the file, where the cell knows it, and the cause.
    """
    try:
        data = image_bytes(cell)
        return data, open_photo(data)
    except UnreadablePhoto as error:
        raise UnreadablePhoto(error.cause, file_name(cell, place)) from error


def file_name(cell: dict, place: str) -> str:
    """What to call a photograph in messages: its file, or its place in a table and the name there, if any."""
    path = cell.get("path") if cell is not None else None
    if path is None:
        return place
    return path if cell.get("bytes") is None or not place else f"{path} in {place}"


def own_caption(row: dict) -> str:
    """What a row of a data set says is in its photograph, under one of the usual names; "" if nothing."""
    return next((text for name in CAPTION_COLUMNS if (text := text_of(row.get(name)))), "")


# Local


def _load_local(source: str, config: str | None, streaming: bool) -> Source:
    path = Path(source)
    if path.is_dir():
        return _load_folder(path, config, streaming)
    files = [source] if path.is_file() else sorted(glob.glob(source, recursive=True))
    if not files:
        raise ValueError(f"source {source!r}: no such file or folder")
    others = [file for file in files if not file.lower().endswith(".parquet")]
    if others:
        raise ValueError(f"source {source!r}: expected parquet files or a folder, got {others[0]!r}")
    if config is not None:
        raise ValueError(f"`config` {config!r} makes no sense for parquet files")
    by_split: dict[str, list[str]] = {}
    for file in files:
        by_split.setdefault(_split_of(Path(file)), []).append(os.path.abspath(file))
    return datasets.load_dataset("parquet", data_files=by_split, streaming=streaming)


def _split_of(file: Path) -> str:
    prefix = file.stem.split("-")[0]
    return prefix if prefix in SPLITS else "train"


def _load_folder(folder: Path, config: str | None, streaming: bool) -> Source:
    if config is not None and (folder / config).is_dir():
        folder, config = folder / config, None
    files = [file for file in sorted(map(str, folder.absolute().rglob("*"))) if os.path.isfile(file)]
    if any(file.endswith(".parquet") and os.path.basename(file) != "metadata.parquet" for file in files):
        return _load_tables(folder, config, streaming)
    if config is not None:
        raise ValueError(f"`config` {config!r} is no folder in {str(folder)!r}")
    if not any(Path(file).suffix.lower() in IMAGE_SUFFIXES for file in files):
        raise ValueError(f"source {str(folder)!r} holds neither images nor parquet files")
    splits = load_image_folder(folder.absolute(), map(Path, files))
    return {name: split.to_iterable_dataset() for name, split in splits.items()} if streaming else splits


def _load_tables(folder: Path, config: str | None, streaming: bool) -> Source:
    """A folder of parquet files, whose splits its README.md or the files' names tell."""
    try:
        # `load_dataset` may return rows that it kept of a folder's former content; by files it sees that they have
        # changed.
        files = datasets.load_dataset_builder(str(folder), config).config.data_files
        by_split = {str(name): list(paths) for name, paths in files.items()}
        return datasets.load_dataset("parquet", data_files=by_split, streaming=streaming)
    except (OSError, ValueError) as error:
        raise ValueError(f"source {str(folder)!r}: {one_line(error)}") from error


# Hub


def _load_hub(source: str, config: str | None, revision: str | None, streaming: bool) -> Source:
    if source in _DEFAULTS and revision is None:
        revision, default = _DEFAULTS[source]
        config = config or default
    try:
        if revision == CONVERTED:
            files = _converted_files(source, config)
            return datasets.load_dataset("parquet", data_files=files, streaming=streaming)
        return datasets.load_dataset(source, config, revision=revision, streaming=streaming)
    except (DatasetNotFoundError, RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise ValueError(_missing(source, revision, error)) from error
    except FileNotFoundError as error:  # the repository is there, but holds no data
        raise ValueError(f"source {source!r}: {one_line(error)}") from error
    except (ConnectionError, httpx.TransportError, HfHubHTTPError) as error:
        offline = datasets.config.HF_HUB_OFFLINE
        reason = "HF_HUB_OFFLINE is set" if offline else one_line(error)
        raise OSError(
            f"source {source!r} is neither here nor in the local cache, and the Hub cannot be reached: {reason}"
        ) from error
    except RuntimeError as error:
        if "script" not in str(error):
            raise
        raise ValueError(
            f"source {source!r} is a loading script, which is not run; try the revision {CONVERTED!r} with a config"
        ) from error
    except ValueError as error:
        raise ValueError(f"source {source!r}: {one_line(error)}") from error


def _missing(source: str, revision: str | None, error: Exception) -> str:
    if isinstance(error, GatedRepoError) or "gated" in str(error):
        return f"source {source!r}: access is restricted; accept its terms on the Hub and log in with `hf auth login`"
    if isinstance(error, RevisionNotFoundError) or "Revision" in str(error):
        return f"source {source!r} has no revision {revision!r}"
    return f"source {source!r}: no such file or folder, and no such data set on the Hub (or it is private)"


def _converted_files(source: str, config: str | None) -> dict[str, list[str]]:
    """Addresses of a data set's converted parquet files by split, pinned to the branch's commit."""
    info = HfApi().dataset_info(source, revision=CONVERTED)
    by_config: dict[str, dict[str, list[str]]] = {}
    for name in sorted(file.rfilename for file in info.siblings):
        parts = name.split("/")
        if len(parts) == 3 and name.endswith(".parquet"):
            split = parts[1].removeprefix("partial-")  # of large data sets only the beginning is converted
            address = f"hf://datasets/{source}@{info.sha}/{name}"
            by_config.setdefault(parts[0], {}).setdefault(split, []).append(address)
    if config is None and len(by_config) == 1:
        (config,) = by_config
    if config not in by_config:
        raise ValueError(f"`config` must be one of {', '.join(sorted(by_config)) or '(none converted)'}, got {config}")
    return by_config[config]


# Columns


def _with_image_column(split: datasets.Dataset | datasets.IterableDataset, name: str):
    """The split with an undecoded column `image`."""
    if split.features is None:  # a streamed format that does not declare its columns
        split = split._resolve_features()
    column = next((column for column in IMAGE_COLUMNS if _holds_images(split.features.get(column))), None)
    if column is None:
        raise ValueError(f"source {name} has no column of images, only {', '.join(split.features)}")
    # Undecoded before anything else: renaming a streamed column would decode it, and casting encode it again.
    split = split.cast_column(column, datasets.Image(decode=False))
    if column == "image":
        return split
    if "image" in split.features:  # of another kind, such as a file name
        split = split.remove_columns("image")
    return split.rename_column(column, "image")


def _holds_images(feature) -> bool:
    """Whether a column is one of images: declared so, or plain bytes, or the struct that images are stored as."""
    if isinstance(feature, dict):
        return "bytes" in feature
    return isinstance(feature, datasets.Image) or getattr(feature, "dtype", None) in ("binary", "large_binary")
