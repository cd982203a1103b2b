"""Models with their settings, as something that colors pictures."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import diffusers
import numpy as np
import torch
import transformers
from huggingface_hub import snapshot_download
from PIL import Image

from colorization import ColorizationPipeline, load_pipeline
from colorization.baselines.pipeline import BaselinePipeline
from colorization.color import rgb_to_chroma
from colorization.loading import EMBEDDED_DIRECTORY, EMBEDDED_MODEL, baseline_folder
from colorization.pipeline import REPORT_NEGATIVE_PROMPT
from colorization.prediction import ChromaPrediction
from colorization.sampling import default_sampler

from .files import weights_sha256
from .metrics.gray import gray_version, luma_of
from .options import DIFFUSION_ARGUMENTS, REPORT_GUIDANCE_SCALE, REPORT_STEPS, refuse
from .runs import COLOR_WORDS, GRAY, NEGATIVE_ONLY
from .summary import to_tensor

# (gray or RGB uint8 pictures, prompts, seeds) -> RGB uint8 pictures of the same sizes.
Color = Callable[[Sequence[np.ndarray], Sequence[str], Sequence[int]], list[np.ndarray]]


@dataclass(frozen=True)
class Colorizer:
    """A model with its settings.

    Attributes:
        color: colors gray `(height, width)` uint8 pictures.
        round_trip: RGB uint8 pictures -> the same after a round trip of their colors through the VAE, with their own
            luminance; None where there is no VAE.
        model_size: (width, height) -> the size at which the model sees such a photograph.
        settings: what the sampler was told, the model's defaults filled in; all None for the model "gray".
        provenance: {"model", "model_revision", "adapter", "adapter_revision"}; revisions are commits on the Hub.
        dtype: of the networks.
        geometry: at what size colors are predicted.
    """

    color: Color
    round_trip: Callable[[Sequence[np.ndarray]], list[np.ndarray]] | None
    model_size: Callable[[int, int], tuple[int, int]]
    settings: dict
    provenance: dict[str, str]
    dtype: str | None
    geometry: str


_SETTINGS = (
    "num_inference_steps",
    "guidance_scale",
    "color_scale",
    "color_scale_space",
    "negative_prompt",
    "sampler",
    "severity",
)


def load_colorizer(arguments: argparse.Namespace, device: torch.device) -> Colorizer:
    """The model that the arguments name, on a device.

    Raises:
        ValueError: it cannot be loaded, or a setting does not suit it.
    """
    if arguments.model == GRAY:
        return Colorizer(
            color=lambda grays, prompts, seeds: [np.stack([gray] * 3, axis=-1) for gray in grays],
            round_trip=None,
            model_size=lambda width, height: (width, height),
            settings=dict.fromkeys(_SETTINGS),
            provenance={},
            dtype=None,
            geometry="",
        )
    dtype = None if arguments.dtype is None else getattr(torch, arguments.dtype)
    names = arguments.model, arguments.adapter, arguments.revision, arguments.adapter_revision
    pipeline = load_quietly(*names, device, dtype)
    geometry = f", colors predicted at an area of {pipeline.config.resolution} x {pipeline.config.resolution} pixels"
    if isinstance(pipeline, BaselinePipeline):
        return _baseline_colorizer(pipeline, arguments, geometry)
    settings, given = _settings(pipeline, arguments)
    # With color words the same photograph comes again and again, and only its colors in the middle are looked at.
    without_round_trip = arguments.no_vae_row or arguments.prompt_mode == COLOR_WORDS
    return Colorizer(
        color=pipeline_colorizer(pipeline, arguments.batch_size, given),
        round_trip=None if without_round_trip else vae_round_trip(pipeline),
        model_size=pipeline.model_size,
        settings=settings,
        provenance=pipeline.provenance,
        dtype=str(pipeline.unet.dtype).removeprefix("torch."),
        geometry=geometry,
    )


def load_quietly(
    model: str,
    adapter: str | None = None,
    revision: str | None = None,
    adapter_revision: str | None = None,
    device: torch.device | None = None,
    dtype: torch.dtype | None = None,
) -> ColorizationPipeline | BaselinePipeline:
    """:func:`colorization.load_pipeline`, without progress bars while it loads and while it colors."""
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
    pipeline = load_pipeline(model, adapter, revision, adapter_revision, device, dtype)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _baseline_colorizer(pipeline: BaselinePipeline, arguments: argparse.Namespace, geometry: str) -> Colorizer:
    refuse(arguments, (*DIFFUSION_ARGUMENTS, "negative_prompt", "no_auto_prompt"))
    default = pipeline.config.default_color_scale
    color_scale = default if arguments.color_scale is None else arguments.color_scale
    return Colorizer(
        color=pipeline_colorizer(pipeline, arguments.batch_size, {"color_scale": color_scale}),
        round_trip=None,
        model_size=pipeline.model_size,
        settings=dict.fromkeys(_SETTINGS) | {"color_scale": color_scale, "color_scale_space": "chroma"},
        provenance=pipeline.provenance,
        dtype=str(pipeline.model.dtype).removeprefix("torch."),
        geometry=geometry,
    )


def _settings(pipeline: ColorizationPipeline, arguments: argparse.Namespace) -> tuple[dict, dict]:
    """All settings for the record, and those that the pipeline must be told because they are not its defaults."""
    given = {
        "num_inference_steps": arguments.steps,
        "guidance_scale": arguments.guidance_scale,
        "color_scale": arguments.color_scale,
        "negative_prompt": arguments.negative_prompt,
        "sampler": arguments.sampler,
    }
    if arguments.prompt_mode == NEGATIVE_ONLY:
        preset = {
            "num_inference_steps": REPORT_STEPS,
            "guidance_scale": REPORT_GUIDANCE_SCALE,
            "negative_prompt": REPORT_NEGATIVE_PROMPT,
        }
        given |= {name: value for name, value in preset.items() if given[name] is None}
    config = pipeline.config
    settings = {name: config[f"default_{name}"] if value is None else value for name, value in given.items()}
    settings["sampler"] = settings["sampler"] or default_sampler(pipeline.scheduler.config.noise_scale)
    settings |= {"color_scale_space": config.color_scale_space, "severity": 1.0}
    if given["negative_prompt"] and settings["guidance_scale"] == 1:
        raise ValueError("argument --negative-prompt: has no effect at a guidance scale of 1")
    recorded = {name: settings[name] for name in _SETTINGS}
    if arguments.no_auto_prompt:
        if pipeline.naming_head is None:
            raise ValueError("argument --no-auto-prompt: this model says nothing of what it sees")
        recorded["auto_prompt"] = given["auto_prompt"] = False
    return recorded, given


def pipeline_colorizer(pipeline: ColorizationPipeline | BaselinePipeline, batch_size: int, settings: dict) -> Color:
    """Colors pictures from their luminance with a pipeline."""

    def color(images: Sequence[np.ndarray], prompts: Sequence[str], seeds: Sequence[int]) -> list[np.ndarray]:
        output = pipeline(list(images), prompt=list(prompts), seed=list(seeds), batch_size=batch_size, **settings)
        return [np.array(image) for image in output.images]

    return color


def vae_round_trip(pipeline: ColorizationPipeline) -> Callable[[Sequence[np.ndarray]], list[np.ndarray]]:
    """RGB uint8 pictures with their own colors after a round trip through the VAE: what a perfect prediction gives."""

    @torch.no_grad()
    def round_trip(images: Sequence[np.ndarray]) -> list[np.ndarray]:
        results = []
        for pixels in images:
            image = Image.fromarray(pixels)
            small = np.array(
                image.resize(pipeline.model_size(*image.size), Image.Resampling.BICUBIC, reducing_gap=3.0)
            )
            decoded = pipeline.decode_latents(pipeline.encode_image(2 * to_tensor(small) - 1))
            guide = to_tensor(gray_version(small))[0, :1]
            settings = {"color_scale": 1.0, "color_scale_space": "chroma"}
            prediction = ChromaPrediction(rgb_to_chroma(decoded)[0].cpu(), guide, settings)
            results.append(prediction.render(luma_of(pixels)))
        return results

    return round_trip


# Weights


def model_sha256(kind: str, name: str | None, provenance: dict[str, str]) -> str | None:
    """SHA-256 of the weights of the "model" or "adapter": of a folder, or of a commit as the Hub's cache holds it."""
    if name is None or name == GRAY:
        return None
    if name == EMBEDDED_MODEL:
        return weights_sha256(EMBEDDED_DIRECTORY)
    if baseline_folder(name) is not None:
        return weights_sha256(baseline_folder(name))
    if Path(name).is_dir():
        return weights_sha256(Path(name))
    # What was loaded may be a mirror of what was asked for.
    commit = provenance[f"{kind}_revision"]
    return weights_sha256(Path(snapshot_download(provenance[kind], revision=commit, local_files_only=True)))
