"""The "copy as Python" box."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from colorization.jobs import AUTO

from .rendering import CHOSEN_COLOR_SCALE, SUFFIXES

_LOADING = {
    "model": "model",
    "model_revision": "revision",
    "adapter": "adapter",
    "adapter_revision": "adapter_revision",
}
_ARGUMENTS = tuple("prompt negative_prompt num_inference_steps guidance_scale sampler seed hints auto_prompt".split())


def python_code(settings: Mapping[str, Any], source: str, file_format: str) -> str:
    """A program that makes the same file again.

    Args:
        settings: as recorded in the file.
        source: name of the photograph.
        file_format: a key of `SUFFIXES`.
    """
    target = f"{Path(source).stem}-colorized{SUFFIXES[file_format]}"
    load = [f"{name}={settings[key]!r}" for key, name in _LOADING.items() if key in settings]
    load = [] if load == ["model='embedded'"] else load
    call = "".join(f"    {name}={settings[name]!r},\n" for name in _ARGUMENTS if name in settings)
    return f"""from colorization import load_pipeline
from colorization.image_io import read_image, write_image

pipe = load_pipeline({", ".join(load)})
photo = read_image({source!r})
prediction = pipe(
    photo,
{call}    color_scale={AUTO if CHOSEN_COLOR_SCALE in settings else 1.0!r},
    output_type="chroma",
).images[0]

color_scale = {settings["color_scale"]!r}
pixels = prediction.render(photo.luma, color_scale)
settings = prediction.settings | {{"color_scale": color_scale, "color_scale_space": "chroma"}}
write_image({target!r}, pixels, source=photo, settings=settings)
"""
