"""The prompt: a text, words that a click adds to it, and a caption where a caption model is on this machine."""

import json

import gradio as gr

from . import look
from .captions import caption, find_captioner
from .events import MODEL, PRIVATE
from .inputs import PhotoInput
from .messages import problems_on_page
from .rendering import read_photo


def prompt_box(image: PhotoInput) -> gr.Textbox:
    """The prompt for a photograph."""
    prompt = gr.Textbox("", label="Prompt", placeholder="a woman in a red dress, blue sky", max_lines=3)
    captioner = find_captioner()
    with gr.Row(elem_classes="chips"):
        for text in look.SUGGESTIONS:
            _add_to_prompt(gr.Button(text, size="sm", min_width=0), prompt, text)
        if captioner is not None:
            suggest = gr.Button("✨ describe it for me", size="sm", min_width=0)
            suggest.click(lambda path: _suggest(captioner, path), image, prompt, api_visibility="private", **MODEL)
    return prompt


def _add_to_prompt(chip: gr.Button, prompt: gr.Textbox, text: str) -> None:
    quoted = json.dumps(text)
    script = f"(prompt) => !prompt ? {quoted} : prompt.includes({quoted}) ? prompt : prompt + ', ' + {quoted}"
    chip.click(None, prompt, prompt, js=script, **PRIVATE)


def _suggest(captioner: str, path: str | None) -> str:
    if path is None:
        raise gr.Error("Choose a photograph first.", print_exception=False)
    with problems_on_page(path):
        return caption(captioner, read_photo(path))
