"""The prompt: a text, words that a click adds to it, what the model sees, a caption where a captioner is at hand."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr

from colorization.naming import Sighting

from . import look
from .captions import caption, find_captioner
from .events import MODEL, PRIVATE
from .inputs import PhotoInput
from .messages import problems_on_page
from .rendering import read_photo

_WORDS_AT_MOST = 4  # the table of usual colors has no more for a thing


@dataclass(frozen=True)
class Seen:
    """What the model has seen and understood, below the prompt.

    Args:
        sentence: says what is seen.
        words: buttons, one for each usual color of it.
        prompts: what a click on each word makes of the prompt.
        notes: what else there is to say of the prompt.
    """

    sentence: gr.Markdown
    words: list[gr.Button]
    prompts: gr.State
    notes: gr.Markdown

    @property
    def components(self) -> list[gr.components.Component]:
        """In the order of :func:`seen_values`."""
        return [self.sentence, *self.words, self.prompts, self.notes]


def seen_box(prompt: gr.Textbox) -> Seen:
    """Shown once there is something to say."""
    with gr.Row(elem_classes="chips seen", elem_id="seen"):
        sentence = gr.Markdown("", visible=False)
        words = [gr.Button("", size="sm", min_width=0, visible=False) for _ in range(_WORDS_AT_MOST)]
    prompts = gr.State({})
    for word in words:
        word.click(lambda text, known: known.get(text, gr.skip()), [word, prompts], prompt, **PRIVATE)
    return Seen(sentence, words, prompts, gr.Markdown("", visible=False, elem_classes="note", elem_id="notes"))


def seen_values(settings: Mapping[str, Any] | None) -> list:
    """What `Seen` shows of a result's settings, or of no result.

    Where the model has not looked because there was a prompt, what was seen before stays: its words may have made it.
    """
    settings = settings or {"prompt": ""}
    sighting = Sighting.of_dict(settings["seen"]) if "seen" in settings else None
    sentence = sighting.sentence if sighting else ""
    notes = [note.removeprefix(sentence).removeprefix("; ") for note in settings.get("notes", ())]
    told = gr.Markdown("  \n".join(filter(None, notes)), visible=any(notes))
    if sighting is None and settings["prompt"].strip():
        return [*(gr.skip() for _ in range(_WORDS_AT_MOST + 2)), told]
    prompts = sighting.prompts if sighting else {}
    buttons = [gr.Button(word, visible=True) for word in prompts][:_WORDS_AT_MOST]
    hidden = [gr.Button(visible=False)] * (_WORDS_AT_MOST - len(buttons))
    shown = gr.Markdown(sentence.partition(":")[0] + ":", visible=sighting is not None)
    return [shown, *buttons, *hidden, prompts, told]


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
