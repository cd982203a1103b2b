"""The page: which tabs there are, and how it is served."""

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gradio as gr

from colorization.pipeline import ColorizationPipeline

from . import look
from .batch_tab import BatchHandler, batch_tab
from .color_tab import color_tab
from .coloring import Color
from .compare_tab import Compare, compare_tab
from .engine import Engine
from .examples import read_examples
from .inputs import MAX_FILE_BYTES
from .steps_tab import Walk, steps_tab
from .visits import SECONDS_AT_MOST, VISITS_AT_MOST, Visits

QUEUE_SIZE = 16


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
            chosen = color_tab(engine, color, visits, examples)
        with gr.Tab("Batch", id="batch"):
            batch_tab(BatchHandler(engine, visits), color, chosen.controls)
        with gr.Tab("Compare", id="compare"):
            compare_tab(Compare(engine, visits), color, chosen)
        with gr.Tab("How it works", id="how"):
            steps_tab(Walk(engine, visits, str(examples[0].path)), chosen, pipelines, folder / "model_card.md")
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
