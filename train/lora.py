"""Train a colorization adapter (LoRA) for a Stable Diffusion model.

  accelerate launch -m train.lora --config imagenette-sd21 --data.sources '[user/imagenette-captioned]'
  accelerate launch -m train.lora --config smoke --output-dir runs/smoke
  python -m train.lora --config imagenette-sd21 --dry-run

The same command continues a run that was stopped. The result is in OUTPUT_DIR/adapter.
"""

import json
import warnings
from collections.abc import Iterator
from pathlib import Path

import peft
import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.training_utils import cast_training_params

from colorization import ColdDiffusionScheduler, ColorizationPipeline, load_pipeline, save_adapter
from colorization.adapters import ADAPTER_NAME, widen_conv_in
from colorization.errors import ColorizationWarning, one_line
from colorization.loading import EMBEDDED_DIRECTORY, EMBEDDED_MODEL

from .config import LoraTraining
from .config_file import CONFIG_DIRECTORY, to_yaml
from .data import PhotoSet
from .diffusion import ColorTrainer, pipeline_defaults
from .trainer import run_command

DTYPES = {"no": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
# Published shapes of Stable Diffusion 2.1, so that its dry run needs no network.
SD21_CONFIGS = CONFIG_DIRECTORY / "sd21"


def add_adapter(unet: UNet2DConditionModel, config: LoraTraining, latent_channels: int) -> None:
    """Freeze the UNet and give it what is trained, in float32: the LoRA, and the input layer if it is widened."""
    unet.requires_grad_(False)
    if config.model.gray_conditioning and unet.config.in_channels == latent_channels:
        widen_conv_in(unet, 2 * latent_channels)
    unet.add_adapter(
        peft.LoraConfig(
            r=config.lora.rank,
            lora_alpha=config.lora.alpha,
            init_lora_weights="gaussian",
            target_modules=list(config.lora.targets),
        ),
        adapter_name=ADAPTER_NAME,
    )
    if unet.config.in_channels != latent_channels:
        unet.conv_in.requires_grad_(True)
    cast_training_params(unet, torch.float32)


def build_pipeline(config: LoraTraining, device: torch.device) -> ColorizationPipeline:
    """The base model with a fresh adapter; everything else is frozen, in the run's precision."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ColorizationWarning)  # the base cannot color yet: that is why we are here
        pipeline = load_pipeline(
            config.model.base,
            revision=config.model.revision,
            device=device,
            dtype=DTYPES[config.run.mixed_precision],
        )
    pipeline.vae.requires_grad_(False)
    pipeline.text_encoder.requires_grad_(False)
    add_adapter(pipeline.unet, config, pipeline.vae.config.latent_channels)
    scheduler = ColdDiffusionScheduler(
        prediction_type=config.objective.prediction_type, noise_scale=config.objective.noise_scale
    )
    pipeline.register_modules(scheduler=scheduler)
    pipeline.register_to_config(**pipeline_defaults(config.sampling, config.data.resolution))
    pipeline.check_model()
    if config.run.gradient_checkpointing:
        pipeline.unet.enable_gradient_checkpointing()
    return pipeline


def unet_config(config: LoraTraining) -> dict:
    """Shape of the base's UNet, without its weights; of Stable Diffusion 2.1 also where no network is."""
    base = str(EMBEDDED_DIRECTORY) if config.model.base == EMBEDDED_MODEL else config.model.base
    try:
        return UNet2DConditionModel.load_config(base, subfolder="unet", revision=config.model.revision)
    except OSError as error:
        if "stable-diffusion-2-1" in base:
            return json.loads((SD21_CONFIGS / "unet_config.json").read_text(encoding="utf-8"))
        raise ValueError(f"`model.base` {base!r} cannot be read: {one_line(error)[:200]}") from error


def _vae_config(config: LoraTraining) -> dict:
    base = str(EMBEDDED_DIRECTORY) if config.model.base == EMBEDDED_MODEL else config.model.base
    try:
        return AutoencoderKL.load_config(base, subfolder="vae", revision=config.model.revision)
    except OSError:
        return json.loads((SD21_CONFIGS / "vae_config.json").read_text(encoding="utf-8"))


class LoraTrainer(ColorTrainer[LoraTraining]):
    """Training of an adapter; the base model and its text encoder stay as they are."""

    settings = LoraTraining
    result = "adapter"
    train_text_encoder = False

    def build(self) -> None:
        self.pipeline = build_pipeline(self.config, self.accelerator.device)

    def save(self, directory: Path) -> None:
        save_adapter(self.pipeline, directory, metadata={"training_config": to_yaml(self.config, public=True)})

    @classmethod
    def describe(cls, config: LoraTraining, photos: PhotoSet | None) -> Iterator[str]:
        """Parameters and memory; no weights are loaded."""
        with init_empty_weights():
            unet = UNet2DConditionModel.from_config(unet_config(config))
        base = sum(parameter.numel() for parameter in unet.parameters())
        channels = unet.config.out_channels
        with init_empty_weights():
            add_adapter(unet, config, channels)
        trainable = sum(parameter.numel() for parameter in unet.parameters() if parameter.requires_grad)
        width = torch.finfo(DTYPES[config.run.mixed_precision]).bits // 8
        # Trained weights: themselves, gradient, two moments of AdamW, moving average; all float32.
        per_trained = 4 + 4 + (2 if config.optim.eight_bit else 8) + (4 if config.optim.ema_decay else 0)
        gigabytes = (base * width + trainable * per_trained) / 1e9
        yield f"UNet parameters:      {base:,}"
        yield f"trainable parameters: {trainable:,}"
        yield f"memory of UNet, gradients and optimizer: {gigabytes:.2f} GB; activations come on top"
        if config.data.cache and photos is not None:
            yield f"cache of latents: {cache_bytes(config, channels, len(photos)) / 1e9:.2f} GB"


def cache_bytes(config: LoraTraining, channels: int, photos: int) -> int:
    """Size of the latents of all photographs, color and gray, float16."""
    vae = _vae_config(config)
    levels = vae.get("block_out_channels") or vae["encoder_block_out_channels"]  # AutoencoderKL, AutoencoderTiny
    latent = channels * (config.data.resolution // 2 ** (len(levels) - 1)) ** 2
    versions = config.data.variants * (2 if config.data.flip else 1)
    return 2 * 2 * latent * versions * photos


def main(argv: list[str] | None = None) -> None:
    run_command(LoraTrainer, __doc__, argv)


if __name__ == "__main__":
    main()
