"""Photographs to evaluate on, from a folder or from parquet files, each with an id and a label."""

import csv
import glob
import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
INDEX_FILE = "index.csv"
VALIDATION = ":validation"
_VALIDATION_SHARE = 20  # one row in twenty
_DECODING_ERRORS = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)  # Pillow's on damaged files


@dataclass(frozen=True)
class NamedPhoto:
    """One photograph as it is stored.

    Attributes:
        id: file name, or name of the parquet file and row number.
        data: the image file's bytes.
        label: what is in the picture; "" where nobody said.
    """

    id: str
    data: bytes
    label: str

    @property
    def digest(self) -> str:
        """SHA-256 of `data`, hexadecimal."""
        return hashlib.sha256(self.data).hexdigest()

    def pixels(self) -> np.ndarray:
        """Upright RGB `(height, width, 3)` uint8; ValueError, naming the photograph, where it cannot be decoded."""
        try:
            with Image.open(io.BytesIO(self.data)) as image:
                return np.array(ImageOps.exif_transpose(image).convert("RGB"))
        except UnidentifiedImageError as error:  # its own text names an address in memory
            raise ValueError(f"{self.id}: cannot be decoded: no image, or of an unknown format") from error
        except _DECODING_ERRORS as error:
            raise ValueError(f"{self.id}: cannot be decoded: {error}") from error


def load_photos(spec: str, limit: int | None = None) -> list[NamedPhoto]:
    """The photographs that `spec` names, in stored order.

    Args:
        spec: a folder of images (an `index.csv` with columns `file` and `caption` gives labels), or a parquet file or
            glob of parquet files with columns `image` (bytes, or a struct with `bytes`) and `label` (text). With
            ":validation" at its end, only photographs of the fixed validation split: those whose SHA-256, read as an
            integer, is 0 modulo 20.
        limit: at most this many, those with the smallest SHA-256: a random sample that is always the same, where the
            first rows of a file could all be of one kind.

    Raises:
        ValueError: nothing there, no such columns, or a limit below 1.
    """
    source = spec.removesuffix(VALIDATION)
    photos = _from_folder(Path(source)) if Path(source).is_dir() else _from_parquet(source)
    if spec != source:
        photos = [photo for photo in photos if is_validation(photo.digest)]
    if not photos:
        raise ValueError(f"{spec}: no photographs found")
    return photos if limit is None else take(photos, limit)


def take(photos: list[NamedPhoto], count: int) -> list[NamedPhoto]:
    """The `count` photographs with the smallest SHA-256, in the order given; ValueError on a count below 1."""
    if count < 1:
        raise ValueError(f"the number of photographs must be at least 1, got {count}")
    rows = sorted(range(len(photos)), key=lambda row: photos[row].digest)[:count]
    return [photos[row] for row in sorted(rows)]


def photo_seed(seed: int, photo: NamedPhoto) -> int:
    """A seed of its own for each photograph, in [0, 2^63): one noise for all would tint them all alike."""
    return int(hashlib.sha256(f"{seed}:{photo.digest}".encode()).hexdigest()[:16], 16) >> 1


def is_validation(digest: str) -> bool:
    """Whether a photograph with this hexadecimal SHA-256 belongs to the fixed validation split."""
    return int(digest, 16) % _VALIDATION_SHARE == 0


def set_name(spec: str) -> str:
    """A name for results: the folder's, or the parquet file's with its folder's ("tiny-imagenet-64-validation")."""
    source = spec.removesuffix(VALIDATION)
    path = Path(source).resolve()
    if path.is_dir():
        name = path.name
    else:  # shard numbers and glob characters say nothing
        stem = path.name.removesuffix(".parquet").split("-")[0].strip("*")
        name = f"{path.parent.name}-{stem}" if stem else path.parent.name
    return name + ("" if spec == source else "-held-out")


def _from_folder(folder: Path) -> list[NamedPhoto]:
    labels = {}
    if (folder / INDEX_FILE).is_file():
        with open(folder / INDEX_FILE, newline="", encoding="utf-8") as file:
            labels = {row.get("file"): row.get("caption") or "" for row in csv.DictReader(file)}
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
    return [NamedPhoto(file.name, file.read_bytes(), labels.get(file.name, "")) for file in files]


def _from_parquet(pattern: str) -> list[NamedPhoto]:
    import pyarrow
    import pyarrow.parquet

    photos = []
    for path in sorted(glob.glob(pattern)):
        try:
            missing = {"image", "label"} - set(pyarrow.parquet.read_schema(path).names)
            if missing:
                raise ValueError(f"{path}: has no column {sorted(missing)[0]!r}")
            columns = pyarrow.parquet.read_table(path, columns=["image", "label"]).to_pydict()
        except pyarrow.ArrowInvalid as error:
            raise ValueError(f"{path}: cannot be read as parquet: {' '.join(str(error).split())}") from error
        for row, (image, label) in enumerate(zip(columns["image"], columns["label"], strict=True)):
            data = image["bytes"] if isinstance(image, dict) else image
            photos.append(NamedPhoto(f"{Path(path).stem}:{row}", data, label or ""))
    return photos
