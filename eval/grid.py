"""The grid of a sweep's settings, and pipelines that differ in a setting."""

import hashlib
import inspect
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import product

import torch

from colorization import ColorizationPipeline
from colorization.sampling import default_sampler

from .setting import Setting


def make_grid(
    pipeline: ColorizationPipeline,
    steps: Sequence[int] | None = None,
    guidance_scale: Sequence[float] | None = None,
    sampler: Sequence[str] | None = None,
    noise_scale: Sequence[float] | None = None,
    color_scale: Sequence[float] | None = None,
) -> list[Setting]:
    """Every combination, sorted; None stands for the model's default (a sampler's may depend on the noise scale)."""
    config = pipeline.config
    values = product(
        steps or [config.default_num_inference_steps],
        guidance_scale or [config.default_guidance_scale],
        sampler or [config.default_sampler],
        noise_scale or [pipeline.scheduler.config.noise_scale],
        color_scale or [config.default_color_scale],
    )
    return sorted(
        {
            Setting(steps, float(guidance), sampler or default_sampler(noise), float(noise), float(color))
            for steps, guidance, sampler, noise, color in values
        }
    )


def sampling_runs(settings: Iterable[Setting], color_scale_space: str) -> list[list[Setting]]:
    """Settings that one sampling run serves: those that differ in a color scale on decoded chroma only."""
    runs: dict[Setting, list[Setting]] = {}
    for setting in settings:
        key = replace(setting, color_scale=1.0) if color_scale_space == "chroma" else setting
        runs.setdefault(key, []).append(setting)
    return list(runs.values())


def with_noise_scale(pipeline: ColorizationPipeline, noise_scale: float) -> ColorizationPipeline:
    """The pipeline, or one of the same networks with another noise scale; the one given stays as it is.

    Raises:
        ValueError: the networks do not allow this noise scale.
    """
    if noise_scale == pipeline.scheduler.config.noise_scale:
        return pipeline
    scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config, noise_scale=noise_scale)
    components = pipeline.components | {"scheduler": scheduler}
    names = inspect.signature(type(pipeline).__init__).parameters.keys() - components.keys()
    variant = type(pipeline)(**components, **{name: pipeline.config[name] for name in names & pipeline.config.keys()})
    variant.provenance = dict(pipeline.provenance)
    variant.set_progress_bar_config(disable=True)
    return variant


def pipeline_sha256(pipeline: ColorizationPipeline) -> str:
    """SHA-256 of the weights of all networks, as they are loaded."""
    total = hashlib.sha256()
    for name in ("vae", "text_encoder", "unet"):
        for key, tensor in sorted(getattr(pipeline, name).state_dict().items()):
            total.update(f"{name}.{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
            total.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return total.hexdigest()
