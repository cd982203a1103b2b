"""Training a pipeline to color: data, cache, stream, validation and loop put together, for both trainers."""

import math
from collections.abc import Callable
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from colorization.pipeline import ColorizationPipeline

from .cache import build_cache
from .config import EmbeddedTraining, LoraTraining, ObjectiveConfig, SamplingConfig
from .data import CachedSamples, PhotoSet, PixelSamples, SampleStream, transform_config
from .denoiser import ColorTask
from .loop import samples_per_step, total_steps, train
from .teacher import Teacher
from .text import Tokenize
from .validation import Validation, check_validation, load_validation


def pipeline_defaults(sampling: SamplingConfig, resolution: int) -> dict:
    """The pipeline's settings that the trained model is saved with."""
    return {
        "default_num_inference_steps": sampling.num_inference_steps,
        "default_guidance_scale": sampling.guidance_scale,
        "default_color_scale": sampling.color_scale,
        "default_negative_prompt": sampling.negative_prompt,
        "resolution": resolution,
    }


def check_training(
    pipeline: ColorizationPipeline, config: LoraTraining | EmbeddedTraining, held_out: PhotoSet
) -> None:
    """ValueError on settings that do not suit the model or the photographs, before anything long is begun."""
    multiple = pipeline.vae_scale_factor * 2 ** (len(pipeline.unet.config.block_out_channels) - 1)
    if config.data.resolution % multiple:
        raise ValueError(
            f"`data.resolution` must be a multiple of {multiple} for this model, got {config.data.resolution}"
        )
    run = config.run
    check_validation(run, held_out)
    if config.objective.alignment_weight > 0 and not config.data.cache:
        raise ValueError(
            "`objective.alignment_weight` above 0 needs `data.cache` true: the teacher's features are in it"
        )
    load_lpips(config.objective, torch.device("cpu"))
    load_teacher(config, pipeline, torch.device("cpu"))


def train_color(
    pipeline: ColorizationPipeline,
    config: LoraTraining | EmbeddedTraining,
    photos: PhotoSet,
    held_out: PhotoSet,
    accelerator: Accelerator,
    checkpoint: Path | None,
    train_text_encoder: bool,
) -> dict:
    """Train what requires a gradient in the pipeline's UNet (and text encoder); returns `train.loop.train`'s summary.

    Its CPU seconds hold the encoding of the cache too, also where an earlier run did it: the training needs it.

    Args:
        pipeline: on the accelerator's device; weights that are trained are float32.
        config: settings.
        photos, held_out: from `train.data.load_photos`.
        accelerator: from `train.loop.create_accelerator`.
        checkpoint: what to go on from, or None.
        train_text_encoder: whether the text encoder learns too.
    """
    data, run = config.data, config.run
    teacher = load_teacher(config, pipeline, accelerator.device)
    lpips = load_lpips(config.objective, accelerator.device)
    task = ColorTask(pipeline, config.objective, train_text_encoder, lpips, teacher)
    images = load_validation(run, data, held_out) if accelerator.is_main_process else None
    transform = transform_config(data)

    text = Tokenize(pipeline)
    if data.cache:
        directory = Path(data.cache_directory or Path(run.output_dir) / "cache")
        cache = build_cache(
            photos,
            pipeline,
            transform,
            data.variants,
            run.seed,
            not train_text_encoder,
            data.cache_batch_size,
            directory,
            accelerator,
            data.workers,
            teacher,
        )
        samples = CachedSamples(cache, text if train_text_encoder else None, photos.captions)
        encoding = cache.cpu_seconds
    else:
        samples = PixelSamples(photos, transform, text)
        encoding = 0.0
    idle = _idle_components(pipeline, config, train_text_encoder)
    for component in idle:
        component.to("cpu")

    steps = total_steps(run, data.epoch_length(photos.sizes), accelerator.num_processes)
    side = data.resolution // pipeline.vae_scale_factor
    stream = SampleStream(
        samples,
        photos.sizes,
        steps * samples_per_step(run, accelerator.num_processes),
        (pipeline.vae.config.latent_channels, side, side),
        data,
        config.objective,
        run.seed,
    )
    # Whether there is a validation is known to the process that loaded it; all must stop for it.
    validate = None
    if broadcast_object_list([images is not None])[0]:
        validate = Validation(task, pipeline, images, run, accelerator, idle)
    summary = train(
        task,
        stream,
        config.optim,
        run,
        accelerator,
        checkpoint,
        Path(run.output_dir),
        validate=validate,
        workers=data.workers,
    )
    return summary | {"cpu_seconds": round(summary["cpu_seconds"] + encoding, 1)}


def _idle_components(
    pipeline: ColorizationPipeline, config: LoraTraining | EmbeddedTraining, train_text_encoder: bool
) -> list[torch.nn.Module]:
    """What training from a cache leaves alone and need not hold on the device."""
    if not config.data.cache:
        return []
    pictures_lost = config.objective.saturation_weight > 0 or config.objective.lpips_weight > 0
    return [*([] if pictures_lost else [pipeline.vae]), *([] if train_text_encoder else [pipeline.text_encoder])]


def load_lpips(objective: ObjectiveConfig, device: torch.device) -> Callable | None:
    """LPIPS with VGG features, when it has a weight; ValueError when its package or weights cannot be had."""
    if math.isclose(objective.lpips_weight, 0):
        return None
    try:
        import lpips

        network = lpips.LPIPS(net="vgg", verbose=False)
    except (ImportError, OSError) as error:
        reason = " ".join(str(error).split())
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
