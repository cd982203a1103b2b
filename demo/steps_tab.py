"""The "How it works" tab: from gray to color, step by step."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

import gradio as gr
import numpy as np

from colorization.pipeline import ColorizationPipeline

from . import look
from .engine import Engine
from .events import MODEL
from .hint_panel import read_lines
from .messages import problems_on_page
from .rendering import read_photo, write_thumbnails
from .settings import Chosen, Settings, read_controls
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
        hints: str,
        settings: Settings,
        request: gr.Request,
    ) -> gr.Gallery:
        """The gray photograph, and what the model takes for its colors after each step."""
        visit = self._visits.of(request)
        path = visit.originals.get(image, image) or self._example
        with problems_on_page(path), self._engine.request(visit.visitor) as run:
            photo = read_photo(path)
            predictions = self._engine.trace(
                run, settings.model, photo, prompt=prompt, hints=read_lines(hints), **settings.arguments()
            )
            shown = np.unique(np.linspace(0, len(predictions) - 1, _PICTURES_AT_MOST).round().astype(int))
            paths = write_thumbnails(
                visit, "walk", photo, [predictions[index] for index in shown], [settings.color_scale] * len(shown)
            )
        step = f"after step {{}} of {settings.steps}" if settings.steps else "first guess"
        captions = [step.format(index) if index else "gray" for index in shown]
        return gr.Gallery(value=list(zip(paths, captions, strict=True)), visible=True)


def steps_tab(handler: Walk, chosen: Chosen, pipelines: Mapping[str, ColorizationPipeline], card: Path) -> None:
    """The tab's components and events; `card` is the embedded model's."""
    with gr.Row(equal_height=False):
        with gr.Column(min_width=320):
            gr.Markdown(look.HOW)
            button = gr.Button("Show the steps for my photograph", variant="primary")
        with gr.Column(min_width=320):
            gr.Markdown(look.CONTROLS)
    strip = gr.Gallery(
        label="What the model sees after each step",
        columns=6,
        object_fit="contain",
        height="auto",
        interactive=False,
        buttons=["fullscreen"],
        elem_id="strip",
    )
    gr.Markdown(_links(pipelines))
    text = re.sub(r"\A---\n.*?\n---\n|!\[.*?\]\(.*?\)", "", card.read_text("utf-8"), flags=re.S)
    with gr.Accordion("Card of the embedded model", open=False):
        gr.Markdown(text)

    def walk(values: dict, request: gr.Request) -> gr.Gallery:
        asked = (values[one] for one in (chosen.image, chosen.prompt, chosen.hints))
        return handler.walk(*asked, read_controls(chosen.controls, values), request)

    inputs = {chosen.image, chosen.prompt, chosen.hints, *chosen.controls.values()}
    button.click(walk, inputs, strip, api_visibility="private", **MODEL)


def _links(pipelines: Mapping[str, ColorizationPipeline]) -> str:
    """Where to read on: the paper, the data set, and whatever of models and code is on the Hub."""
    hub = "https://huggingface.co"
    links = {
        "paper": "https://arxiv.org/abs/2312.04145",
        "cold diffusion": "https://arxiv.org/abs/2208.09392",
        "data set of the training recipe": f"{hub}/datasets/frgfm/imagenette",
    }
    if space := os.environ.get("SPACE_ID"):
        links |= {"code": f"{hub}/spaces/{space}/tree/main"}
    for pipeline in pipelines.values():
        for part in ("model", "adapter"):
            if f"{part}_revision" in pipeline.provenance:
                name = pipeline.provenance[part]
                links[f"card of {name}"] = f"{hub}/{name}"
    return "Read on: " + " · ".join(f"[{text}]({address})" for text, address in links.items())
