"""The page: what is where, and which handler answers to what."""

import importlib.util
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from ..pipeline import ColorizationPipeline
from ..sampling import SAMPLERS
from . import look, placing
from .archive import MAX_BYTES, MAX_FILES
from .batch import BatchHandler
from .captions import caption, find_captioner
from .color import Color
from .compare import Compare
from .engine import Engine
from .examples import Example, read_examples, thumbnails
from .inputs import MAX_FILE_BYTES, PhotoFiles, PhotoInput
from .messages import problems_on_page
from .rendering import SUFFIXES, read_photo
from .visits import SECONDS_AT_MOST, VISITS_AT_MOST, Visits
from .walk import Walk

QUEUE_SIZE = 16
MAX_VARIANTS = 4
_MODEL = {"concurrency_id": "model", "concurrency_limit": 1}  # sampling: one at a time
_RENDER = {"concurrency_id": "render", "concurrency_limit": 1, "api_visibility": "private"}
_PRIVATE = {"api_visibility": "private", "show_progress": "hidden"}


@dataclass(frozen=True)
class _Settings:
    """Components of the Color tab whose values the other tabs use too."""

    negative_prompt: gr.Textbox
    model: gr.Dropdown
    steps: gr.Slider
    guidance_scale: gr.Slider
    seed: gr.Number
    color_scale: gr.Slider
    auto_color_scale: gr.Checkbox


def build_page(pipelines: Mapping[str, ColorizationPipeline], folder: Path) -> gr.Blocks:
    """The page for loaded pipelines; serve it with `launch_options`.

    Args:
        pipelines: name -> model. The first is the default, its settings are those of the page.
        folder: has `examples/` and `model_card.md`.
    """
    engine, visits = Engine(pipelines), Visits()
    color, examples = Color(engine, visits), read_examples(folder / "examples")
    cleanup = SECONDS_AT_MOST // 2, SECONDS_AT_MOST
    with gr.Blocks(title="Cold Colorizer", analytics_enabled=False, delete_cache=cleanup) as page:
        gr.Markdown(look.HERO, elem_classes="hero")
        with gr.Tab("Color", id="color"):
            image, prompt, hints, settings = _color_tab(engine, color, visits, examples)
        with gr.Tab("Batch", id="batch"):
            _batch_tab(BatchHandler(engine, visits), color, settings)
        with gr.Tab("Compare", id="compare"):
            _compare_tab(Compare(engine, visits), color, image, settings)
        with gr.Tab("How it works", id="how"):
            _how_tab(Walk(engine, visits, str(examples[0].path)), image, prompt, hints, settings, pipelines, folder)
        page.unload(color.leave)
    visits.spare_page_files()
    return page


def launch_options() -> dict[str, Any]:
    """Arguments of the page's `launch`: look, limits, and the MCP server where its package is installed."""
    return {
        "theme": look.THEME,
        "css": look.CSS,
        "footer_links": ["api", "settings"],
        "max_file_size": MAX_FILE_BYTES,
        "state_session_capacity": VISITS_AT_MOST,
        "mcp_server": importlib.util.find_spec("mcp") is not None,
    }


def _color_tab(
    engine: Engine, color: Color, visits: Visits, examples: list[Example]
) -> tuple[PhotoInput, gr.Textbox, gr.Textbox, _Settings]:
    """The tab; its photograph, prompt and color hints, and the settings."""
    config = engine.config(engine.models[0])
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=320, elem_classes="inputs"):
            image = PhotoInput(
                label="Photograph",
                sources=["upload", "clipboard", "webcam"],
                alt_text="The photograph as uploaded",
                height=260,
                elem_id="photograph",
            )
            with gr.Accordion("Color hints: click on the photograph", open=False) as hint_panel:
                hint_color = gr.ColorPicker("#c03030", label="Color", elem_id="hint-color")
                hints = gr.Textbox(
                    "",
                    label="Places",
                    info="column, row and color, one a line",
                    placeholder="120,80,#c03030",
                    lines=2,
                    max_lines=8,
                    elem_id="hints",
                )
                swatches = gr.HTML(elem_id="swatches")
                with gr.Row():
                    remove_last = gr.Button("Remove last", size="sm", min_width=80)
                    clear = gr.Button("Clear", size="sm", min_width=80)
            prompt = gr.Textbox("", label="Prompt", placeholder="a woman in a red dress, blue sky", max_lines=3)
            captioner = find_captioner()
            with gr.Row(elem_classes="chips"):
                for text in look.SUGGESTIONS:
                    _add_to_prompt(gr.Button(text, size="sm", min_width=0), prompt, text)
                if captioner is not None:
                    suggest = gr.Button("✨ describe it for me", size="sm", min_width=0)
            with gr.Row():
                button = gr.Button("Colorize", variant="primary", scale=3, min_width=160, elem_id="colorize")
                stop = gr.Button("Cancel", scale=1, min_width=80)
            with gr.Accordion("Settings", open=False):
                model = gr.Dropdown(
                    engine.models, value=engine.models[0], label="Model", visible=len(engine.models) > 1
                )
                negative_prompt = gr.Textbox(
                    config["default_negative_prompt"],
                    label="Negative prompt",
                    placeholder="what to avoid",
                    max_lines=3,
                )
                variants = gr.Slider(
                    1, MAX_VARIANTS, 1, step=1, precision=0, label="Variants", visible=engine.varies(engine.models[0])
                )
                steps = gr.Slider(1, 100, config["default_num_inference_steps"], step=1, precision=0, label="Steps")
                guidance_scale = gr.Slider(
                    1, 15, config["default_guidance_scale"], step=0.1, label="Guidance scale", info="1 is off"
                )
                with gr.Row(equal_height=True):
                    seed = gr.Number(config["default_seed"], precision=0, minimum=0, label="Seed", scale=3)
                    dice = gr.Button("🎲 Dice", scale=1, min_width=100)
            with gr.Column(elem_classes="examples"):
                _examples(examples, visits, image)
        with gr.Column(scale=3, min_width=320, elem_classes="outputs"):
            pictures = gr.ImageSlider(
                label="Before and after",
                buttons=["fullscreen"],
                interactive=False,
                type="filepath",
                max_height=620,
                elem_id="pictures",
            )
            color_scale = gr.Slider(
                0,
                3,
                config["default_color_scale"],
                step=0.05,
                label="Color scale",
                info="0 is gray, 1 as predicted; acts at once",
                elem_id="color-scale",
            )
            auto_color_scale = gr.Checkbox(
                False,
                label="Automatic color scale",
                info="set for each photograph when it is colored",
                visible=engine.chooses_color_scale(engine.models[0]),
            )
            gallery = gr.Gallery(
                label="Variants: click one to take it",
                columns=MAX_VARIANTS,
                height="auto",
                allow_preview=False,
                visible=False,
                interactive=False,
                buttons=[],
                elem_id="variants",
            )
            with gr.Row(equal_height=True):
                file_format = gr.Radio(list(SUFFIXES), value="PNG", label="Format", min_width=150)
                download = gr.DownloadButton(
                    "Download, full size", interactive=False, min_width=200, elem_id="download"
                )
            gr.Markdown(look.NOTE, elem_classes="note")
            with gr.Accordion("Copy as Python", open=False):
                code = gr.Code(language="python", show_label=False, interactive=False, elem_id="code")
    settings = _Settings(negative_prompt, model, steps, guidance_scale, seed, color_scale, auto_color_scale)
    image.change(
        color.show_input, image, [image, pictures, gallery, download, code], show_progress="minimal", **_RENDER
    )
    image.select(color.place_hint, [image, hint_color, hints], [hints, hint_panel], **_PRIVATE)
    hints.change(None, hints, swatches, js=placing.SWATCHES, **_PRIVATE)
    remove_last.click(None, hints, hints, js=placing.REMOVE_LAST, **_PRIVATE)
    gr.on([clear.click, image.change], None, outputs=hints, js=placing.CLEAR, **_PRIVATE)
    run = gr.on(
        [button.click, prompt.submit],
        color.colorize,
        [
            image,
            prompt,
            negative_prompt,
            steps,
            guidance_scale,
            color_scale,
            seed,
            variants,
            file_format,
            model,
            hints,
            auto_color_scale,
        ],
        [pictures, download],
        api_name="colorize",
        show_progress_on=pictures,
        **_MODEL,
    )
    run.success(
        color.present,
        [color_scale, file_format],
        [gallery, download, code, color_scale],
        show_progress="hidden",
        **_RENDER,
    )
    stop.click(color.cancel, cancels=run, queue=False, **_PRIVATE)
    for live in (
        color_scale.input(
            color.rescale,
            color_scale,
            [pictures, download],
            show_progress="hidden",
            trigger_mode="always_last",
            **_RENDER,
        ),
        gallery.select(
            color.choose, color_scale, [pictures, download, color_scale], show_progress="hidden", **_RENDER
        ),
    ):
        live.success(color.save, [color_scale, file_format], [download, code], show_progress="hidden", **_RENDER)
    file_format.input(
        color.save,
        [color_scale, file_format],
        [download, code],
        show_progress="hidden",
        trigger_mode="always_last",
        **_RENDER,
    )
    dice.click(None, outputs=seed, js="() => Math.floor(Math.random() * 2 ** 31)", **_PRIVATE)
    model.input(
        lambda name: _defaults(engine, name),
        model,
        [negative_prompt, steps, guidance_scale, color_scale, variants, auto_color_scale],
        **_PRIVATE,
    )
    if captioner is not None:
        suggest.click(lambda path: _suggest(captioner, path), image, prompt, api_visibility="private", **_MODEL)
    return image, prompt, hints, settings


def _batch_tab(handler: BatchHandler, color: Color, settings: _Settings) -> None:
    gr.Markdown(
        f"Up to {MAX_FILES} photographs, or zip archives of them ({MAX_BYTES >> 30} GB when unpacked). "
        "All other settings, the color scale included, are those of the Color tab.",
        elem_classes="note",
    )
    with gr.Row(equal_height=False):
        with gr.Column(min_width=320):
            files = PhotoFiles(label="Photographs or zip archives", file_count="multiple", height=220, elem_id="files")
            prompt = gr.Textbox("", label="Prompt for all of them", max_lines=3)
            file_format = gr.Radio(list(SUFFIXES), value="PNG", label="Format")
            with gr.Row():
                button = gr.Button("Colorize all", variant="primary", scale=3, min_width=160)
                stop = gr.Button("Cancel", scale=1, min_width=80)
        with gr.Column(min_width=320):
            archive = gr.File(label="Colored photographs", interactive=False, height=110, elem_id="archive")
            report = gr.Textbox(label="Report", lines=6, interactive=False, elem_id="report")
    files.change(color.keep, files, **_PRIVATE)
    run = button.click(
        handler.colorize_batch,
        [
            files,
            prompt,
            settings.negative_prompt,
            settings.steps,
            settings.guidance_scale,
            settings.color_scale,
            settings.seed,
            file_format,
            settings.model,
            settings.auto_color_scale,
        ],
        [archive, report],
        api_name="colorize_batch",
        show_progress_on=report,
        **_MODEL,
    )
    stop.click(color.cancel, cancels=run, queue=False, **_PRIVATE)


def _compare_tab(handler: Compare, color: Color, chosen: PhotoInput, settings: _Settings) -> None:
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
            figure = gr.DownloadButton("Download as one figure", interactive=False)
    chosen.change(lambda path: path, chosen, image, **_PRIVATE)
    image.change(color.keep, image, **_PRIVATE)
    run = button.click(
        handler.compare,
        [
            image,
            prompts,
            samplers,
            scales,
            settings.negative_prompt,
            settings.steps,
            settings.guidance_scale,
            settings.seed,
            settings.model,
        ],
        [gallery, figure],
        show_progress_on=gallery,
        api_visibility="private",
        **_MODEL,
    )
    stop.click(color.cancel, cancels=run, queue=False, **_PRIVATE)


def _how_tab(
    handler: Walk,
    image: PhotoInput,
    prompt: gr.Textbox,
    hints: gr.Textbox,
    settings: _Settings,
    pipelines: Mapping[str, ColorizationPipeline],
    folder: Path,
) -> None:
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
    card = re.sub(r"\A---\n.*?\n---\n|!\[.*?\]\(.*?\)", "", (folder / "model_card.md").read_text("utf-8"), flags=re.S)
    with gr.Accordion("Card of the embedded model", open=False):
        gr.Markdown(card)
    button.click(
        handler.walk,
        [
            image,
            prompt,
            settings.negative_prompt,
            settings.steps,
            settings.guidance_scale,
            settings.color_scale,
            settings.seed,
            settings.model,
            hints,
        ],
        strip,
        api_visibility="private",
        **_MODEL,
    )


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


def _examples(examples: list[Example], visits: Visits, image: PhotoInput) -> None:
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

    gallery.click(take, gallery, image, **_PRIVATE)
    with gr.Accordion("Sources of the examples", open=False):
        gr.Markdown("\n".join(f"- [{one.title}](<{one.source}>), {one.license}" for one in examples))


def _add_to_prompt(chip: gr.Button, prompt: gr.Textbox, text: str) -> None:
    quoted = json.dumps(text)
    script = f"(prompt) => !prompt ? {quoted} : prompt.includes({quoted}) ? prompt : prompt + ', ' + {quoted}"
    chip.click(None, prompt, prompt, js=script, **_PRIVATE)


def _defaults(engine: Engine, model: str) -> tuple:
    """Negative prompt, steps, guidance scale, color scale, variants and automatic color scale that suit a model."""
    names = ("negative_prompt", "num_inference_steps", "guidance_scale", "color_scale")
    values = (engine.config(model)[f"default_{name}"] for name in names)
    automatic = gr.Checkbox(value=False, visible=engine.chooses_color_scale(model))
    return *values, gr.Slider(value=1, visible=engine.varies(model)), automatic


def _suggest(captioner: str, path: str | None) -> str:
    if path is None:
        raise gr.Error("Choose a photograph first.", print_exception=False)
    with problems_on_page(path):
        return caption(captioner, read_photo(path))
