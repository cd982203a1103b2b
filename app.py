"""The demo: a page that colors a photograph, and the same as an API endpoint, `/colorize`.

    python app.py                                         # http://127.0.0.1:7860
    COLORIZER_MODEL=ID_OR_DIR COLORIZER_ADAPTER=ID_OR_DIR python app.py

GRADIO_SERVER_NAME and GRADIO_SERVER_PORT choose another address.
"""

import csv
import os
import sys
import tempfile
import textwrap
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import gradio as gr
import numpy as np
from PIL import Image

from colorization.cli import share_cores
from colorization.errors import ColorizationWarning, ModelLoadError
from colorization.image_io import ImageError, read_image, write_image

if TYPE_CHECKING:
    from colorization import ColorizationPipeline

EXAMPLES = Path(__file__).parent / "examples"
PREVIEW_SIDE = 2048  # pixels on the long side of what the page shows; the download has all of them
CACHE_SECONDS = 3600
QUEUE_SIZE = 16

INTRO = """# Cold Colorizer
Color a black-and-white photograph. Say what is in it and in which colors, or leave that to the model."""
NOTE = "The colors are a model's guess, not a record. The download says “AI-colorized” in its metadata."


def build_demo(pipeline: "ColorizationPipeline") -> gr.Blocks:
    """The page for a loaded pipeline; `launch` serves it."""
    config, cleanup = pipeline.config, (CACHE_SECONDS, CACHE_SECONDS)
    with gr.Blocks(title="Cold Colorizer", analytics_enabled=False, delete_cache=cleanup) as demo:
        gr.Markdown(INTRO)
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                # Not gr.Image: it fails on files that Pillow cannot open, and browsers show no TIFF. "image" filters
                # the file dialog; "file" makes the server accept any name, for read_image looks at the content.
                image = gr.File(label="Photograph", file_types=["image", "file"], height=130)
                prompt = gr.Textbox("", label="Prompt", placeholder="a red bus on a green meadow", max_lines=3)
                negative_prompt = gr.Textbox(
                    config.default_negative_prompt, label="Negative prompt", placeholder="what to avoid", max_lines=3
                )
                with gr.Accordion("Settings", open=False):
                    steps = gr.Slider(1, 100, config.default_num_inference_steps, step=1, precision=0, label="Steps")
                    guidance_scale = gr.Slider(
                        1, 15, config.default_guidance_scale, step=0.1, label="Guidance scale", info="1 is off"
                    )
                    color_scale = gr.Slider(
                        0, 3, config.default_color_scale, step=0.05, label="Color scale", info="0 is gray"
                    )
                    seed = gr.Number(config.default_seed, precision=0, label="Seed")
                button = gr.Button("Colorize", variant="primary")
            with gr.Column(scale=3, min_width=300):
                pictures = gr.ImageSlider(label="Before and after", buttons=["fullscreen"], interactive=False)
                download = gr.DownloadButton("Download PNG, full size", interactive=False)
                gr.Markdown(NOTE)
        _add_examples(image)

        image.change(_show_input, image, [pictures, download], show_progress="minimal", api_visibility="private")
        button.click(
            _colorize_with(pipeline, download.GRADIO_CACHE),
            [image, prompt, negative_prompt, steps, guidance_scale, color_scale, seed],
            [pictures, download],
            api_name="colorize",
            concurrency_limit=1,
            show_progress_on=pictures,
        ).success(lambda: gr.DownloadButton(interactive=True), outputs=download, api_visibility="private")
    return demo


def _add_examples(image: gr.File) -> None:
    """Thumbnails that fill in the photograph when clicked, and where they come from."""
    with open(EXAMPLES / "index.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    paths = [str(EXAMPLES / row["file"]) for row in rows]
    gallery = gr.Dataset(
        label=f"Examples ({' or '.join(sorted({row['licence'] for row in rows}))})",
        components=[gr.Image(visible=False)],
        samples=[[path] for path in paths],
        samples_per_page=len(paths),
        type="index",
    )
    gallery.click(lambda index: paths[index], gallery, image, show_progress="hidden", api_visibility="private")
    with gr.Accordion("Sources of the examples", open=False):
        gr.Markdown("\n".join(f"- [{row['title']}](<{row['source']}>), {row['licence']}" for row in rows))


def _show_input(path: str | None) -> tuple[tuple[Image.Image, Image.Image] | None, gr.DownloadButton]:
    """The chosen photograph as the model will see it, in gray; takes the previous result away."""
    pictures = None
    if path is not None:
        try:
            gray = _preview(read_image(path).luma)
            pictures = gray, gray
        except ImageError as error:
            gr.Warning(_text(error, path))
    return pictures, gr.DownloadButton(value=None, interactive=False)


def _colorize_with(pipeline: "ColorizationPipeline", cache: str) -> Callable:
    """The handler for a pipeline; its signature and docstring are the endpoint's documentation.

    Args:
        pipeline: colors the photographs.
        cache: gradio's folder for files. What is written there is served without a copy and deleted in time.
    """

    def colorize(
        image: str | None,
        prompt: str,
        negative_prompt: str,
        steps: int,
        guidance_scale: float,
        color_scale: float,
        seed: int | None,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 (gradio finds it by this default)
    ) -> tuple[tuple[Image.Image, Image.Image], str]:
        """Color a photograph. Its luminance, size, bit depth and transparency are kept; colors it has are ignored.

        Args:
            image: JPEG, PNG, WebP, TIFF, BMP, GIF or AVIF file of up to 200 megapixels.
            prompt: what is in the picture and its colors, e.g. "red bus"; empty: the model decides.
            negative_prompt: what to steer away from; acts only at a guidance scale above 1.
            steps: 1 to 100; more are slower.
            guidance_scale: 1 (off) to 15, how strongly the prompt acts; above 1 takes twice as long.
            color_scale: 0 (gray) to 3, color intensity; 1 is as predicted.
            seed: 0 or more; the same seed and settings give the same colors.

        Returns:
            The gray and the colored picture, at most 2048 pixels wide or high, and the full-size PNG file.
        """

        def show_step(pipeline, index, timestep, tensors) -> None:
            progress((index + 1, len(pipeline.scheduler.timesteps)), desc="Coloring", unit="steps")

        if image is None:
            raise gr.Error("Choose a photograph first.", print_exception=False)
        with _problems_on_page(image):
            photo = read_image(image)
            output = pipeline(
                photo,
                prompt=prompt,
                negative_prompt=negative_prompt,
                num_inference_steps=steps,
                guidance_scale=guidance_scale,
                color_scale=color_scale,
                seed=seed,
                output_type="chroma",
                callback_on_step_end=show_step,
            )
            pixels = output.images[0].render(photo.luma)
            path = os.path.join(tempfile.mkdtemp(dir=cache), f"{Path(photo.name).stem}-colorized.png")
            write_image(path, pixels, source=photo, settings=output.settings[0])
        return (_preview(photo.luma), _preview(pixels)), path

    return colorize


def _preview(pixels: np.ndarray) -> Image.Image:
    """An 8-bit copy of (H, W) or (H, W, 3) uint8 or uint16 pixels, small enough for a page."""
    if pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    picture = Image.fromarray(pixels)
    picture.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE), reducing_gap=2.0)
    return picture


@contextmanager
def _problems_on_page(path: str) -> Iterator[None]:
    """Show the user what the library refuses (ValueError) or warns of in the code inside."""
    messages, thread = [], threading.get_ident()
    with warnings.catch_warnings():
        warnings.simplefilter("always", ColorizationWarning)
        show_elsewhere = warnings.showwarning

        def show(message, category, *location) -> None:
            # The hook is the process's: other threads may warn meanwhile, and not all warnings are for users.
            if category is ColorizationWarning and threading.get_ident() == thread:
                messages.append(message)
            else:
                show_elsewhere(message, category, *location)

        warnings.showwarning = show
        try:
            yield
        except ValueError as error:
            # A bad file is the user's business; anything else may be ours and belongs in the server's log too.
            raise gr.Error(_text(error, path), print_exception=not isinstance(error, ImageError)) from error
    for message in messages:
        gr.Warning(_text(message, path))


def _text(message: object, path: str) -> str:
    """A message for gradio's pop-ups, which show HTML: one line, without the folder of the upload."""
    text = str(message).replace(os.path.join(os.path.dirname(path), ""), "")
    return escape(textwrap.shorten(text, 300, placeholder=" …"), quote=False)


def main() -> int:
    """Load the model once and serve the page; returns the exit status."""
    share_cores()
    from colorization import load_pipeline

    try:
        # Empty counts as unset.
        model, adapter = (os.environ.get(f"COLORIZER_{name}") or None for name in ("MODEL", "ADAPTER"))
        pipeline = load_pipeline(model, adapter=adapter)
    except ModelLoadError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    pipeline.set_progress_bar_config(disable=True)
    with tempfile.TemporaryDirectory(prefix="colorizer-", ignore_cleanup_errors=True) as folder:
        # Gradio deletes old files, but not the folders they were in; here all goes when the server stops.
        os.environ.setdefault("GRADIO_TEMP_DIR", folder)
        # The address is gradio's default or comes from its variables; a Space sets them.
        build_demo(pipeline).queue(max_size=QUEUE_SIZE).launch(allowed_paths=[str(EXAMPLES)])
    return 0


if __name__ == "__main__":
    sys.exit(main())
