"""The example photographs: where they come from, and small pictures of them to click on."""

import csv
from dataclasses import dataclass
from pathlib import Path

import gradio as gr
from PIL import Image

from .events import PRIVATE
from .inputs import PhotoInput
from .visits import Visits

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


def examples_gallery(examples: list[Example], visits: Visits, image: PhotoInput) -> None:
    """Thumbnails that fill in the photograph when clicked, and where they come from."""
    gallery = gr.Dataset(
        label=f"Examples ({' or '.join(sorted({example.license for example in examples}))})",
        components=[gr.Image(visible=False)],
        samples=[[picture] for picture in thumbnails(examples)],
        samples_per_page=len(examples),
        type="index",
        elem_id="examples",
    )

    def take(index: int, request: gr.Request) -> str:
        """A copy for the visitor: nothing but the visitor's files is served."""
        example = examples[index].path
        path = visits.of(request).new_file("example", example.name)
        Path(path).write_bytes(example.read_bytes())
        return path

    gallery.click(take, gallery, image, **PRIVATE)
    with gr.Accordion("Sources of the examples", open=False):
        gr.Markdown("\n".join(f"- [{one.title}](<{one.source}>), {one.license}" for one in examples))
