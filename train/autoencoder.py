"""The first stage of the small model's training: its autoencoder."""

from dataclasses import replace
from pathlib import Path

import torch
from accelerate import Accelerator
from diffusers import AutoencoderTiny
from torch import nn

from colorization import ColorizationPipeline
from colorization.degradation import degrade, to_gray
from colorization.weights import load_network

from .checkpoint import find_checkpoint, set_aside
from .config import EmbeddedTraining, OptimConfig, VaeConfig
from .data import PhotoSet, picture_stream
from .loop import SUMMARY_FILE, VAE_STAGE, samples_per_step, train, write_summary
from .objective import Loss, autoencoder_loss

SCALE_PHOTOS = 512  # photographs that the latents' scale is measured on


class _Autoencoder(nn.Module):
    """Encoder and decoder behind one `forward`, as distributed training wants it."""

    def __init__(self, vae: AutoencoderTiny):
        super().__init__()
        self.vae = vae

    def forward(
        self, color: torch.Tensor, gray: torch.Tensor, severity: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The decoded blend of both latents, in [-1, 1], and the color latent."""
        z_color, z_gray = self.vae.encode(torch.cat([color, gray])).latents.float().chunk(2)
        return self.vae.decode(degrade(z_color, z_gray, severity)).sample.float(), z_color


class VaeTask:
    """The autoencoder shall make a walk between two latents a desaturation: decode(D(z_color, a)) = D(image, a).

    Args:
        vae: what is trained.
        config: weights of the loss.
    """

    def __init__(self, vae: AutoencoderTiny, config: VaeConfig):
        self.network, self.config = _Autoencoder(vae), config

    def loss(self, network: nn.Module, batch: dict[str, torch.Tensor]) -> Loss:
        """Loss of a batch with `image` and `severity`."""
        color, severity = batch["image"], batch["severity"]
        gray = to_gray(color)
        decoded, z = network(color, gray, severity)
        weights = (self.config.chroma_weight, self.config.gradient_weight, self.config.energy_weight)
        per_sample = autoencoder_loss(decoded, degrade(color, gray, severity), z, *weights)
        total = per_sample.mean()
        return Loss(total, per_sample.detach(), severity, {"autoencoder": total.detach()})


def train_vae(
    pipeline: ColorizationPipeline, config: EmbeddedTraining, photos: PhotoSet, accelerator: Accelerator
) -> None:
    """Train the autoencoder in OUTPUT_DIR/vae, unless that is done, and measure its latents' scale."""
    directory = Path(config.run.output_dir) / VAE_STAGE
    if not (directory / SUMMARY_FILE).is_file():
        run = replace(config.run, batch_size=config.vae.batch_size, validation_every=0)
        # Both ends must come out right, the picture and its gray version: two fifths lie within a tenth of them.
        objective = replace(config.objective, severity="beta", severity_parameters=(0.5, 0.5))
        total = config.vae.steps * samples_per_step(run, accelerator.num_processes)
        stream = picture_stream(photos, total, config.data, objective, run.seed)
        warmup = min(100, config.vae.steps // 10)
        optim = OptimConfig(config.vae.learning_rate, "linear", warmup, weight_decay=0.0)
        checkpoint = find_checkpoint(directory, None)
        if accelerator.is_main_process:
            set_aside(directory, checkpoint)
        accelerator.wait_for_everyone()
        task = VaeTask(pipeline.vae, config.vae)
        summary = train(task, stream, optim, run, accelerator, checkpoint, directory, workers=config.data.workers)
        if accelerator.is_main_process:
            pipeline.vae.register_to_config(scaling_factor=_latent_scale(pipeline, config, photos))
            pipeline.vae.save_pretrained(directory / "model")
            write_summary(directory, summary)
        accelerator.wait_for_everyone()
    vae = load_network(AutoencoderTiny, directory / "model").to(accelerator.device)
    pipeline.register_modules(vae=vae.requires_grad_(False))


@torch.no_grad()
def _latent_scale(pipeline: ColorizationPipeline, config: EmbeddedTraining, photos: PhotoSet) -> float:
    """The factor that gives the latents a standard deviation of 1."""
    stream = picture_stream(photos, SCALE_PHOTOS, config.data, config.objective, config.run.seed)
    deviation = torch.cat(
        [
            pipeline.vae.encode(stream[i]["image"][None].to(pipeline.device)).latents.float().flatten()
            for i in range(min(len(photos), SCALE_PHOTOS))
        ]
    ).std()
    return float(1 / deviation)
