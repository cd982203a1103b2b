"""The demo: a page that colors photographs, and the same as an API and as tools for agents (MCP).

    python app.py                                         # http://127.0.0.1:7860
    COLORIZER_MODEL=ID_OR_DIR COLORIZER_ADAPTER=ID_OR_DIR python app.py

Several models, between which the page then lets one choose, are separated by commas; the first is the default and
"embedded" is the one that comes along: COLORIZER_MODEL=embedded,ID_OR_DIR COLORIZER_ADAPTER=,ID_OR_DIR.
GRADIO_SERVER_NAME and GRADIO_SERVER_PORT choose another address.
"""

import importlib.util
import os
import sys
import tempfile
from collections.abc import Mapping
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from colorization.command_line import share_cores, stoppable
from colorization.errors import ModelLoadError, explain

if TYPE_CHECKING:
    import gradio as gr

    from colorization import ColorizationPipeline


def build_demo(pipelines: "ColorizationPipeline | Mapping[str, ColorizationPipeline]") -> "gr.Blocks":
    """The page for a loaded pipeline, or for several by name; `main` serves it."""
    from demo.page import build_page

    if not isinstance(pipelines, Mapping):
        pipelines = {pipelines.provenance.get("model", "model"): pipelines}
    return build_page(pipelines, Path(__file__).parent)


def load_models() -> dict[str, "ColorizationPipeline"]:
    """The models that the environment names, by name; the embedded one where it names none.

    Raises:
        ModelLoadError: one cannot be loaded; the message names it.
    """
    from colorization import ColorizationPipeline, load_pipeline

    models, adapters = (os.environ.get(f"COLORIZER_{name}", "").split(",") for name in ("MODEL", "ADAPTER"))
    pipelines = {}
    for model, adapter in zip_longest(models, adapters, fillvalue=""):
        pipeline = load_pipeline(model.strip() or None, adapter=adapter.strip() or None)
        if not isinstance(pipeline, ColorizationPipeline):
            raise ModelLoadError(
                f"the demo needs a diffusion model, COLORIZER_MODEL names the baseline {model.strip()!r}"
            )
        pipeline.set_progress_bar_config(disable=True)
        name = " + ".join(pipeline.provenance[part] for part in ("model", "adapter") if part in pipeline.provenance)
        pipelines[name] = pipeline
    return pipelines


def check_port(text: str | None) -> None:
    """ValueError on what is no port; gradio would fail while it is imported."""
    if text is not None and not (text.isascii() and text.isdigit() and 0 < int(text) < 2**16):
        raise ValueError(f"GRADIO_SERVER_PORT must be a number from 1 to 65535, got {text!r}")


def main() -> int:
    """Load the models once and serve the page; returns the exit status."""
    try:
        check_port(os.environ.get("GRADIO_SERVER_PORT"))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    share_cores()
    if importlib.util.find_spec("spaces") is not None:
        importlib.import_module("spaces")  # before torch, whose CUDA it replaces until a GPU is borrowed
    from demo.page import QUEUE_SIZE, launch_options  # with torch

    try:
        pipelines = load_models()
    except ModelLoadError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    with stoppable(), tempfile.TemporaryDirectory(prefix="colorizer-", ignore_cleanup_errors=True) as folder:
        # Gradio deletes old files, but not the folders they were in; here all goes when the server stops.
        os.environ.setdefault("GRADIO_TEMP_DIR", folder)
        try:
            # The address is gradio's default or comes from its variables; a Space sets them.
            build_demo(pipelines).queue(max_size=QUEUE_SIZE, api_open=False).launch(**launch_options())
        except OSError as error:  # the port is taken
            print(f"error: {explain(error)}", file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
