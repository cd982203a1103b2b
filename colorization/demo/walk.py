"""The "How it works" tab's handler: from gray to color, step by step."""

import gradio as gr
import numpy as np

from .engine import Engine
from .messages import problems_on_page
from .placing import read_lines
from .rendering import read_photo, write_thumbnails
from .visits import Visits

_PICTURES_AT_MOST = 12


class Walk:
    """The handler for the models of an engine.

    Args:
        engine, visits: of the page.
        example: path of the photograph that is taken while the visitor has chosen none.
    """

    def __init__(self, engine: Engine, visits: Visits, example: str):
        self._engine, self._visits, self._example = engine, visits, example

    def walk(
        self,
        image: str | None,
        prompt: str,
        negative_prompt: str,
        steps: int,
        guidance_scale: float,
        color_scale: float,
        seed: int | None,
        model: str,
        hints: str,
        request: gr.Request,
    ) -> gr.Gallery:
        """The gray photograph, and what the model takes for its colors after each step."""
        visit = self._visits.of(request)
        path = visit.originals.get(image, image) or self._example
        with problems_on_page(path), self._engine.request(visit.visitor) as run:
            photo = read_photo(path)
            predictions = self._engine.trace(
                run,
                model,
                photo,
                prompt=prompt,
                negative_prompt=negative_prompt,
                num_inference_steps=steps,
                guidance_scale=guidance_scale,
                seed=seed,
                hints=read_lines(hints),
            )
            shown = np.unique(np.linspace(0, len(predictions) - 1, _PICTURES_AT_MOST).round().astype(int))
            paths = write_thumbnails(
                visit, "walk", photo, [predictions[index] for index in shown], [color_scale] * len(shown)
            )
        captions = [f"after step {index} of {len(predictions) - 1}" if index else "gray" for index in shown]
        return gr.Gallery(value=list(zip(paths, captions, strict=True)), visible=True)
