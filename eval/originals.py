"""The photographs of a run: their color originals, stored once, and what is to be made of each."""

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from colorization.atomic import sha256_of
from colorization.errors import explain, one_line

from .metrics.color_words import HUE_WORDS, is_usable_label
from .metrics.gray import is_gray
from .photos import NamedPhoto, PhotoSource, photo_seed
from .run_folder import has_digest, write_picture
from .runs import COLOR_WORDS, REFERENCES

# Why photographs are left out that could be read.
GRAY_PHOTO, NO_LABEL = "gray", "no label without a color"
_SOURCE_KEY = "source_sha256"


@dataclass(frozen=True)
class Item:
    """A picture to be made of a photograph whose original is stored, or a photograph that is left out.

    Attributes:
        id: of the picture; the photograph's where there is one picture of each.
        origin: of the photograph, for messages.
        photo: the photograph's id.
        reason: why it is left out.
        word: with color words, the one of this picture; "" for the one without; None in other runs.
        prompt: "" where there is none, or where it is a caption.
        size: width, height.
        line: of the manifest, when it is finished.
    """

    id: str
    origin: str
    photo: str
    reason: str | None = None
    word: str | None = None
    prompt: str = ""
    seed: int = 0
    source_sha256: str = ""
    reference_sha256: str = ""
    size: tuple[int, int] = (0, 0)
    line: dict | None = None

    @property
    def failed(self) -> bool:
        """Whether it is left out though it should not be."""
        return self.reason not in (None, GRAY_PHOTO, NO_LABEL)


def prepare(source: PhotoSource, arguments: argparse.Namespace, made: Mapping[str, dict]) -> list[Item]:
    """Store a photograph's color original, if it is not there yet; say what is to be done with it.

    Args:
        source: the photograph.
        arguments: of the command.
        made: lines of earlier manifests by id.
    """
    left_out = Item(source.id, source.origin, source.id)
    try:
        photo = source.load()
    except Exception as error:  # no photograph is worth the run
        return [replace(left_out, reason=f"unreadable: {explain(error)}")]
    file = arguments.output / REFERENCES / f"{source.id}.png"
    size = _size_if_made_of(file, photo.digest)
    if size is None:
        try:
            pixels = photo.pixels()
        except ValueError as error:
            return [replace(left_out, reason=f"unreadable: {one_line(error).removeprefix(f'{source.origin}: ')}")]
        if not arguments.keep_gray and is_gray(pixels):
            return [replace(left_out, reason=GRAY_PHOTO)]
        pixels = _scale_down(pixels, arguments.max_side)
        write_picture(file, pixels, {_SOURCE_KEY: photo.digest})
        size = pixels.shape[1], pixels.shape[0]
    item = Item(
        source.id,
        source.origin,
        source.id,
        seed=photo_seed(arguments.seed, photo),
        source_sha256=photo.digest,
        reference_sha256=sha256_of(file),
        size=size,
    )
    items = [item] if arguments.prompt_mode != COLOR_WORDS else list(_with_color_words(item, photo))
    return [_with_line(item, made.get(item.id), arguments.output) for item in items]


def _with_color_words(item: Item, photo: NamedPhoto) -> Iterator[Item]:
    """A picture for each color word and one without; a photograph whose label names a color itself is left out."""
    if not is_usable_label(photo.label):
        yield replace(item, reason=NO_LABEL)
        return
    for word in ("", *HUE_WORDS):
        # No photograph's id has an "@", see `photos.safe_id`.
        yield replace(item, id=f"{item.id}@{word or 'label'}", word=word, prompt=f"{word} {photo.label}".strip())


def _with_line(item: Item, line: dict | None, folder: Path) -> Item:
    """With its line of the manifest, if the files that it names are there and were made of this photograph."""
    if line is None or item.reason is not None:
        return item
    same = (line.get("source_sha256"), line.get("reference_sha256")) == (item.source_sha256, item.reference_sha256)
    there = line["vae"] is None or (folder / line["vae"]).is_file()
    return replace(item, line=line) if same and there and has_digest(folder / line["file"], line["sha256"]) else item


def _size_if_made_of(file: Path, digest: str) -> tuple[int, int] | None:
    """(width, height) of a stored original, if it was made of the image file with this SHA-256."""
    if not file.is_file():
        return None
    with Image.open(file) as image:
        return image.size if image.info.get(_SOURCE_KEY) == digest else None


def _scale_down(pixels: np.ndarray, max_side: int | None) -> np.ndarray:
    longest = max(pixels.shape[:2])
    if max_side is None or longest <= max_side:
        return pixels
    height, width = (max(round(side * max_side / longest), 1) for side in pixels.shape[:2])
    return np.array(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS))
