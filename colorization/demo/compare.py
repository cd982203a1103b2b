"""The Compare tab's handler: one photograph with several prompts, samplers and color scales side by side."""

from collections.abc import Sequence
from itertools import product

import gradio as gr
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..prediction import ChromaPrediction
from .engine import Engine
from .messages import problems_on_page
from .rendering import THUMBNAIL_SIDE, read_photo, shrink, write_thumbnails
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
        negative_prompt: str,
        steps: int,
        guidance_scale: float,
        seed: int | None,
        model: str,
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
                    run,
                    model,
                    photo,
                    prompt=prompt,
                    negative_prompt=negative_prompt,
                    num_inference_steps=steps,
                    guidance_scale=guidance_scale,
                    seed=seed,
                    sampler=sampler,
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


def _label(prediction: ChromaPrediction, several_samplers: bool) -> str:
    prompt = prediction.settings["prompt"] or "no prompt"
    return f"{prompt} · {prediction.settings['sampler']}" if several_samplers else prompt


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
