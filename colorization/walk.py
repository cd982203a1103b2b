"""The walk from gray to color of a batch of jobs (Diffusing Colors, Algorithm 2)."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from tqdm import tqdm

from .color import rgb_to_chroma
from .conditioning import condition, encode_semantics
from .degradation import degrade, start_latent
from .jobs import Job, Settings, needs_guess

if TYPE_CHECKING:
    from .pipeline import ColorizationPipeline


def color_jobs(
    pipeline: "ColorizationPipeline",
    jobs: Sequence[Job],
    settings: Settings,
    output_type: str,
    progress_bar: tqdm,
    callback: Callable | None,
) -> torch.Tensor:
    """Latents of jobs that share shape and start, or their Cb and Cr `(len(jobs), 2, height, width)`."""
    if settings.num_inference_steps > 0:
        z = walk(pipeline, jobs, settings, progress_bar, callback)
        return z if output_type == "latent" else rgb_to_chroma(pipeline.decode_latents(z))
    # The first guess. A color scale that acts in latent space acts on it as on the end of a walk.
    semantics = encode_semantics(pipeline, jobs, encoded=output_type == "latent")
    scale = settings.color_scale if pipeline.config.color_scale_space == "latent" else 1.0
    if output_type != "latent":
        return scale * rgb_to_chroma(semantics.picture)
    z_gray = pipeline.encode_image(torch.stack([job.gray for job in jobs]))
    return torch.lerp(z_gray, semantics.z, scale)


def walk(
    pipeline: "ColorizationPipeline",
    jobs: Sequence[Job],
    settings: Settings,
    progress_bar: tqdm,
    callback: Callable | None,
) -> torch.Tensor:
    """Color latents `(len(jobs), channels, h, w)` of jobs that share one shape; Diffusing Colors, Algorithm 2."""
    device, noise_scale = pipeline._execution_device, pipeline.scheduler.config.noise_scale

    # 1. Gray latent, and where the walk starts
    z_gray = pipeline.encode_image(torch.stack([job.gray for job in jobs]))  # [B, C, h, w]
    noise = torch.stack([job.noise for job in jobs]).to(device) if noise_scale > 0 else None
    start = jobs[0].start
    semantics = encode_semantics(pipeline, jobs) if needs_guess(pipeline, start) else None
    z_base = semantics.z if pipeline.config.walk_from == "guess" else z_gray
    z = z_start = start_latent(z_base, noise, noise_scale)
    if start.origin == "guess":
        z = degrade(semantics.z, z_start, start.severity)
    elif start.origin == "input":
        # A faded photograph is D(z_color, severity) with z_1 = z_gray; what the model's own z_1 has beyond is missing.
        z = pipeline.encode_image(torch.stack([job.color for job in jobs]))
        z = z + start.severity * (z_start - z_gray)

    # 2. Prompts, what the UNet sees, hints
    told = condition(pipeline, jobs, settings.guidance_scale, z_gray, semantics if pipeline.sees_guess else None)

    # 3. Predict, put in the hints' colors, step
    pipeline.scheduler.set_timesteps(settings.num_inference_steps, device=device, severity=start.severity)
    for index, timestep in enumerate(pipeline.scheduler.timesteps):
        z, z_hat = pipeline.scheduler.step(
            told.predict(pipeline.unet, z, timestep),
            timestep,
            z,
            z_gray,
            z_start=z_start,
            sampler=settings.sampler,
            constrain=told.constrain,
            return_dict=False,
        )
        if callback is not None:
            changed = callback(pipeline, index, timestep, {"latents": z, "pred_original_sample": z_hat}) or {}
            z, z_hat = changed.get("latents", z), changed.get("pred_original_sample", z_hat)
        progress_bar.update()

    # 4. Color scale of the paper, in latent space; not of what the hints ask for
    z = z_hat if pipeline.config.final == "prediction" else z
    return told.scale(z, z_gray, settings.color_scale) if pipeline.config.color_scale_space == "latent" else z
