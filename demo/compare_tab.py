"""The Compare tab: one photograph with several prompts, samplers and color scales side by side."""

from collections.abc import Sequence
from itertools import product

import gradio as gr
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from colorization.prediction import ChromaPrediction
from colorization.sampling import SAMPLERS

from .coloring import Color
from .engine import Engine
from .events import MODEL, PRIVATE
from .inputs import PhotoInput
from .messages import problems_on_page
from .rendering import THUMBNAIL_SIDE, read_photo, shrink, write_thumbnails
from .settings import Chosen, Settings, read_controls
from .visits import Visits

MAX_ROWS = 8
_CELL_SIDE = 320
_GAP, _LABEL = 8, 30


class Compare:
    """The handler for the models of an engine."""

    def __init__(self, engine: Engine, visits: Visits):
        self._engine, self._visits = engine, visits

    def compare(
        self,
        image: str | None,
        prompts: str,
        samplers: list[str],
        color_scales: list[float],
        settings: Settings,
        request: gr.Request,
    ) -> tuple[gr.Gallery, gr.DownloadButton]:
        """Color a photograph once for each prompt and sampler, and show each at every color scale."""
        if image is None:
            raise gr.Error("Choose a photograph first.", print_exception=False)
        lines = list(dict.fromkeys(line.strip() for line in prompts.splitlines() if line.strip())) or [""]
        scales = sorted({float(scale) for scale in color_scales}) or [1.0]
        samplers = list(dict.fromkeys(samplers))
        rows = list(product(lines, samplers or [None]))
        if len(rows) > MAX_ROWS:
            raise gr.Error(
                f"{len(lines)} prompts with {len(samplers)} samplers are {len(rows)} rows; at most {MAX_ROWS} fit.",
                print_exception=False,
            )
        visit = self._visits.of(request, [image])
        image = visit.originals.get(image, image)
        with problems_on_page(image), self._engine.request(visit.visitor) as run:
            photo = read_photo(image)
            predictions = [
                self._engine.sample(
                    run, settings.model, photo, prompt=prompt, sampler=sampler, **settings.arguments()
                )[0]
                for prompt, sampler in rows
            ]
            cells = list(product(predictions, scales))
            paths = write_thumbnails(
                visit, "compare", photo, [cell for cell, _ in cells], [scale for _, scale in cells]
            )
            labels = [_label(prediction, several_samplers=len(samplers) > 1) for prediction in predictions]
            captions = [f"{label} · color scale {scale:g}" for label, scale in product(labels, scales)]
            path = visit.new_file("figure", "comparison.png")
            figure(shrink(photo.luma, THUMBNAIL_SIDE), predictions, labels, scales).save(path)
        gallery = gr.Gallery(value=list(zip(paths, captions, strict=True)), columns=min(len(scales), 4), visible=True)
        return gallery, gr.DownloadButton(value=path, interactive=True)


def compare_tab(handler: Compare, color: Color, chosen: Chosen) -> None:
    """The tab's components and events."""
    gr.Markdown(
        "One photograph, several prompts, samplers and color scales, without color hints. "
        "All other settings are those of the Color tab.",
        elem_classes="note",
    )
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=320):
            image = PhotoInput(label="Photograph", sources=["upload", "clipboard"], height=220, elem_id="compared")
            prompts = gr.Textbox(
                "red\ngreen\nblue", label="Prompts, one per line", info="empty: without a prompt", lines=3, max_lines=8
            )
            scales = gr.CheckboxGroup(
                [0.5, 0.8, 1.0, 1.2, 1.5, 2.0], value=[0.8, 1.2, 1.5], label="Color scales", type="value"
            )
            samplers = gr.CheckboxGroup(list(SAMPLERS), value=[], label="Samplers", info="none: the model's own")
            with gr.Row():
                button = gr.Button("Compare", variant="primary", scale=3, min_width=160)
                stop = gr.Button("Cancel", scale=1, min_width=80)
        with gr.Column(scale=3, min_width=320):
            gallery = gr.Gallery(
                label="Side by side",
                object_fit="contain",
                height="auto",
                interactive=False,
                buttons=["fullscreen"],
                elem_id="comparison",
            )
            sheet = gr.DownloadButton("Download as one figure", interactive=False)
    chosen.image.change(lambda path: path, chosen.image, image, **PRIVATE)
    image.change(color.keep, image, **PRIVATE)

    def compare(values: dict, request: gr.Request) -> tuple[gr.Gallery, gr.DownloadButton]:
        asked = (values[one] for one in (image, prompts, samplers, scales))
        return handler.compare(*asked, read_controls(chosen.controls, values), request)

    run = button.click(
        compare,
        {image, prompts, samplers, scales, *chosen.controls.values()},
        [gallery, sheet],
        show_progress_on=gallery,
        api_visibility="private",
        **MODEL,
    )
    stop.click(color.cancel, cancels=run, queue=False, **PRIVATE)


def _label(prediction: ChromaPrediction, several_samplers: bool) -> str:
    settings = prediction.settings
    prompt = settings["prompt"] or settings.get("encoded_prompt") or "no prompt"  # the model's own, if it has said one
    return f"{prompt} · {settings['sampler']}" if several_samplers else prompt


def figure(
    luma: np.ndarray, predictions: Sequence[ChromaPrediction], labels: Sequence[str], scales: Sequence[float]
) -> Image.Image:
    """A labeled grid: a row for each prediction, the gray photograph and then a column for each color scale.

    Args:
        luma: `(height, width)` uint8.
        predictions: about this photograph.
        labels: of the rows.
        scales: color scales.
    """
    luma = shrink(luma, _CELL_SIDE)
    height, width = luma.shape
    sheet = Image.new(
        "RGB",
        ((len(scales) + 1) * (width + _GAP) + _GAP, len(predictions) * (height + _LABEL + _GAP) + _LABEL + _GAP),
        "white",
    )
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(16)
    for column, title in enumerate(["input", *(f"color scale {scale:g}" for scale in scales)]):
        draw.text((_GAP + column * (width + _GAP), _GAP), title, "black", font)
    for row, (prediction, label) in enumerate(zip(predictions, labels, strict=True)):
        top = _LABEL + row * (height + _LABEL + _GAP)
        draw.text((_GAP, top + _GAP // 2), label, "black", font)
        for column, scale in enumerate([0.0, *scales]):
            cell = Image.fromarray(prediction.render(luma, scale))
            sheet.paste(cell, (_GAP + column * (width + _GAP), top + _LABEL))
    return sheet
