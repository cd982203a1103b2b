"""The Color tab: a photograph and what is to become of it on one side, what has become of it on the other."""

import gradio as gr

from . import look
from .coloring import Color
from .engine import Engine
from .events import MODEL, PRIVATE, RENDER
from .examples import Example, examples_gallery
from .hint_panel import hint_panel
from .inputs import PhotoInput
from .prompt_box import prompt_box, seen_box
from .rendering import SUFFIXES
from .settings import MAX_VARIANTS, Chosen, color_scale_controls, follow_model, inputs_of, settings_panel
from .visits import Visits


def color_tab(engine: Engine, color: Color, visits: Visits, examples: list[Example]) -> Chosen:
    """The tab's components and events."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=320, elem_classes="inputs"):
            image = PhotoInput(
                label="Photograph",
                sources=["upload", "clipboard", "webcam"],
                alt_text="The photograph as uploaded",
                height=260,
                elem_id="photograph",
            )
            hints = hint_panel(image, visits)
            prompt = prompt_box(image)
            seen = seen_box(prompt)
            with gr.Row():
                button = gr.Button("Colorize", variant="primary", scale=3, min_width=160, elem_id="colorize")
                stop = gr.Button("Cancel", scale=1, min_width=80)
            controls, variants = settings_panel(engine)
            with gr.Column(elem_classes="examples"):
                examples_gallery(examples, visits, image)
        with gr.Column(scale=3, min_width=320, elem_classes="outputs"):
            pictures = gr.ImageSlider(
                label="Before and after",
                buttons=["fullscreen"],
                interactive=False,
                type="filepath",
                max_height=620,
                elem_id="pictures",
            )
            controls |= color_scale_controls(engine)
            color_scale = controls["color_scale"]
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
    follow_model(engine, controls, variants)
    changed = image.change(
        color.show_input, image, [image, pictures, gallery, download, code], show_progress="minimal", **RENDER
    )
    run = gr.on(
        [button.click, prompt.submit],
        color.colorize,
        inputs_of(
            color.colorize,
            image=image,
            prompt=prompt,
            variants=variants,
            file_format=file_format,
            hints=hints,
            **controls,
        ),
        [pictures, download],
        api_name="colorize",
        show_progress_on=pictures,
        **MODEL,
    )
    run.success(
        color.present,
        [color_scale, file_format],
        [gallery, download, code, color_scale],
        show_progress="hidden",
        **RENDER,
    )
    for event in (changed, run):
        event.success(color.tell, None, seen.components, show_progress="hidden", **RENDER)
    stop.click(color.cancel, cancels=run, queue=False, **PRIVATE)
    for live in (
        color_scale.input(
            color.rescale,
            color_scale,
            [pictures, download],
            show_progress="hidden",
            trigger_mode="always_last",
            **RENDER,
        ),
        gallery.select(color.choose, color_scale, [pictures, download, color_scale], show_progress="hidden", **RENDER),
    ):
        live.success(color.save, [color_scale, file_format], [download, code], show_progress="hidden", **RENDER)
    file_format.input(
        color.save,
        [color_scale, file_format],
        [download, code],
        show_progress="hidden",
        trigger_mode="always_last",
        **RENDER,
    )
    return Chosen(image, prompt, hints, controls)
