"""Training a pipeline to color: what the trainer of an adapter and that of the small model have in common."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import torch

from colorization.errors import one_line
from colorization.pipeline import ColorizationPipeline

from .cache import LatentCache, build_cache
from .config import EmbeddedTraining, LoraTraining, ObjectiveConfig, SamplingConfig, Training
from .data import CachedSamples, PixelSamples, Samples, transform_config
from .denoiser import ColorTask
from .teacher import Teacher
from .text import Tokenize
from .trainer import Trainer
from .validation import Validation, make_validation


def pipeline_defaults(sampling: SamplingConfig, resolution: int) -> dict:
    """The pipeline's settings that the trained model is saved with."""
    return {
        "default_num_inference_steps": sampling.num_inference_steps,
        "default_guidance_scale": sampling.guidance_scale,
        "default_color_scale": sampling.color_scale,
        "default_negative_prompt": sampling.negative_prompt,
        "resolution": resolution,
    }


def check_training(pipeline: ColorizationPipeline, config: LoraTraining | EmbeddedTraining) -> None:
    """ValueError on settings that do not suit the model, before anything long is begun."""
    multiple = pipeline.vae_scale_factor * 2 ** (len(pipeline.unet.config.block_out_channels) - 1)
    if config.data.resolution % multiple:
        raise ValueError(
            f"`data.resolution` must be a multiple of {multiple} for this model, got {config.data.resolution}"
        )
    if config.objective.alignment_weight > 0 and not config.data.cache:
        raise ValueError(
            "`objective.alignment_weight` above 0 needs `data.cache` true: the teacher's features are in it"
        )
    load_lpips(config.objective, torch.device("cpu"))
    load_teacher(config, pipeline, torch.device("cpu"))


class ColorTrainer(Trainer[Training]):
    """Training of what requires a gradient in a pipeline's UNet, and in its text encoder where that learns too.

    Attributes:
        train_text_encoder: whether it does.
        pipeline: made by `build`; weights that are trained are float32.
    """

    train_text_encoder: ClassVar[bool]
    pipeline: ColorizationPipeline
    _encoding_seconds = 0.0

    def check(self) -> None:
        check_training(self.pipeline, self.config)

    def task(self) -> ColorTask:
        objective, device = self.config.objective, self.accelerator.device
        self._teacher = load_teacher(self.config, self.pipeline, device)
        lpips = load_lpips(objective, device)
        self._task = ColorTask(self.pipeline, objective, self.train_text_encoder, lpips, self._teacher)
        return self._task

    def validation(self) -> Validation | None:
        config, accelerator = self.config, self.accelerator

        def make(images: torch.Tensor | None) -> Validation:
            return Validation(self._task, self.pipeline, images, config.run, accelerator, self._idle_components())

        return make_validation(make, config.run, config.data, self.held_out, accelerator)

    def samples(self) -> Samples:
        text = Tokenize(self.pipeline)
        if not self.config.data.cache:
            return PixelSamples(self.photos, transform_config(self.config.data), text)
        cache = self._cache()
        self._encoding_seconds = cache.cpu_seconds
        for component in self._idle_components():
            component.to("cpu")
        return CachedSamples(cache, text if self.train_text_encoder else None, self.photos.captions)

    def _cache(self) -> LatentCache:
        data, run = self.config.data, self.config.run
        return build_cache(
            self.photos,
            self.pipeline,
            transform_config(data),
            data.variants,
            run.seed,
            not self.train_text_encoder,
            data.cache_batch_size,
            Path(data.cache_directory or Path(run.output_dir) / "cache"),
            self.accelerator,
            data.workers,
            self._teacher,
            self.pipeline.uses_guess,
        )

    def _idle_components(self) -> list[torch.nn.Module]:
        """What training from a cache leaves alone and need not hold on the device."""
        if not self.config.data.cache:
            return []
        objective, pipeline = self.config.objective, self.pipeline
        pictures_lost = objective.saturation_weight > 0 or objective.lpips_weight > 0
        text_encoder = [] if self.train_text_encoder else [pipeline.text_encoder]
        vae = [] if pictures_lost or pipeline.uses_guess else [pipeline.vae]  # which encodes the first guess too
        return [*vae, *text_encoder]

    @property
    def objective(self) -> ObjectiveConfig:
        return self.config.objective

    @property
    def noise_shape(self) -> tuple[int, int, int]:
        side = self.config.data.resolution // self.pipeline.vae_scale_factor
        return self.pipeline.vae.config.latent_channels, side, side

    def facts(self, summary: dict) -> dict:
        """CPU seconds with those of encoding the cache, also where an earlier run did it: the training needs it."""
        return {"cpu_seconds": round(summary["cpu_seconds"] + self._encoding_seconds, 1)}


def load_lpips(objective: ObjectiveConfig, device: torch.device) -> Callable | None:
    """LPIPS with VGG features, when it has a weight; ValueError when its package or weights cannot be had."""
    if math.isclose(objective.lpips_weight, 0):
        return None
    try:
        import lpips

        network = lpips.LPIPS(net="vgg", verbose=False)
    except (ImportError, OSError) as error:
        reason = one_line(error)
        raise ValueError(f"`objective.lpips_weight` needs the package lpips and VGG's weights: {reason}") from error
    return network.requires_grad_(False).to(device)


def load_teacher(
    config: LoraTraining | EmbeddedTraining, pipeline: ColorizationPipeline, device: torch.device
) -> Teacher | None:
    """The network whose features are learned too, when that has a weight; ValueError when its packages are missing."""
    if math.isclose(config.objective.alignment_weight, 0):
        return None
    middle = pipeline.vae_scale_factor * 2 ** (len(pipeline.unet.config.block_out_channels) - 1)
    try:
        return Teacher(config.data.resolution // middle, device)
    except ImportError as error:
        raise ValueError(f"`objective.alignment_weight` above 0 needs the extra eval: {error}") from error
