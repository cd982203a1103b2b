"""Train a colorization adapter (LoRA) for a Stable Diffusion model.

  accelerate launch -m train.lora --config imagenette-sd21 --data.sources '[user/imagenette-captioned]'
  accelerate launch -m train.lora --config smoke --output-dir runs/smoke
  python -m train.lora --config imagenette-sd21 --dry-run

The same command continues a run that was stopped. The result is in OUTPUT_DIR/adapter.
"""

import json
import warnings
from pathlib import Path

import peft
import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.training_utils import cast_training_params

from colorization import ColdDiffusionScheduler, ColorizationPipeline, load_pipeline, save_adapter
from colorization.errors import ColorizationWarning
from colorization.loading import ADAPTER_NAME, EMBEDDED_DIRECTORY, EMBEDDED_MODEL, widen_conv_in

from .color import check_training, pipeline_defaults, train_color
from .command import begin_run, run_command, start_trackers
from .config import CONFIG_DIRECTORY, LoraTraining, to_yaml
from .data import load_photos
from .loop import create_accelerator, samples_per_step, total_steps, write_summary

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


def run(config: LoraTraining, resume: str | None = None) -> Path:
    """Train and save; returns the adapter's folder.

    Raises:
        ValueError: settings, data or model cannot be used.
        TrainingStopped: the loss was not finite.
    """
    directory = Path(config.run.output_dir)
    accelerator, checkpoint, photos, held_out = begin_run(config, resume)
    with accelerator.main_process_first():
        pipeline = build_pipeline(config, accelerator.device)
    check_training(pipeline, config, held_out)
    start_trackers(accelerator, config)
    summary = train_color(pipeline, config, photos, held_out, accelerator, checkpoint, train_text_encoder=False)
    if accelerator.is_main_process:
        save_adapter(pipeline, directory / "adapter", metadata={"training_config": to_yaml(config, public=True)})
        write_summary(directory, summary | {"photographs": len(photos)})
    accelerator.end_training()
    return directory / "adapter"


def unet_config(config: LoraTraining) -> dict:
    """Shape of the base's UNet, without its weights; of Stable Diffusion 2.1 also where no network is."""
    base = str(EMBEDDED_DIRECTORY) if config.model.base == EMBEDDED_MODEL else config.model.base
    try:
        return UNet2DConditionModel.load_config(base, subfolder="unet", revision=config.model.revision)
    except OSError as error:
        if "stable-diffusion-2-1" in base:
            return json.loads((SD21_CONFIGS / "unet_config.json").read_text(encoding="utf-8"))
        raise ValueError(f"`model.base` {base!r} cannot be read: {' '.join(str(error).split())[:200]}") from error


def dry_run(config: LoraTraining) -> None:
    """Print settings, parameter counts, memory and steps; no weights are loaded."""
    print(to_yaml(config))
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
    print(f"UNet parameters:      {base:,}")
    print(f"trainable parameters: {trainable:,}")
    print(f"memory of UNet, gradients and optimizer: {gigabytes:.2f} GB; activations come on top")
    processes = create_accelerator(config.run).num_processes
    per_step = samples_per_step(config.run, processes)
    try:
        photos, _ = load_photos(config.data)
    except (OSError, ValueError) as error:
        print(f"photographs: unknown ({' '.join(str(error).split())})")
        print(f"steps: {config.run.max_steps or f'{config.run.epochs} x photographs / {per_step}'}")
        return
    vae = _vae_config(config)
    levels = vae.get("block_out_channels") or vae["encoder_block_out_channels"]  # AutoencoderKL, AutoencoderTiny
    factor = 2 ** (len(levels) - 1)
    latent = channels * (config.data.resolution // factor) ** 2
    versions = config.data.variants * (2 if config.data.flip else 1)
    steps = total_steps(config.run, config.data.epoch_length(photos.sizes), processes)
    print(f"photographs: {len(photos):,}")
    print(f"steps: {steps:,} of {per_step} samples")
    if config.data.cache:
        print(f"cache of latents: {2 * 2 * latent * versions * len(photos) / 1e9:.2f} GB")


def _vae_config(config: LoraTraining) -> dict:
    base = str(EMBEDDED_DIRECTORY) if config.model.base == EMBEDDED_MODEL else config.model.base
    try:
        return AutoencoderKL.load_config(base, subfolder="vae", revision=config.model.revision)
    except OSError:
        return json.loads((SD21_CONFIGS / "vae_config.json").read_text(encoding="utf-8"))


def main(argv: list[str] | None = None) -> None:
    run_command(LoraTraining, __doc__, run, dry_run, argv)


if __name__ == "__main__":
    main()
