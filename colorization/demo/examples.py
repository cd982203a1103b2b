"""The example photographs: small pictures of them, and where they come from."""

import csv
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

_THUMBNAIL = (160, 160)


@dataclass(frozen=True)
class Example:
    """One row of `index.csv`.

    Args:
        path: the photograph.
        caption: what is in it.
        title, source, license: of the original.
    """

    path: Path
    caption: str
    title: str
    source: str
    license: str


def read_examples(folder: Path) -> list[Example]:
    """The photographs of a folder with an `index.csv`."""
    with open(folder / "index.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [Example(folder / row["file"], row["caption"], row["title"], row["source"], row["licence"]) for row in rows]


def thumbnails(examples: list[Example]) -> list[Image.Image]:
    """Small gray copies, which load at once."""
    pictures = []
    for example in examples:
        with Image.open(example.path) as picture:
            picture.draft("L", _THUMBNAIL)
            small = picture.convert("L")
        small.thumbnail(_THUMBNAIL)
        pictures.append(small)
    return pictures
