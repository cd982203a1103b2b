"""Train the small model that ships with the package: autoencoder, then UNet and text encoder.

  accelerate launch -m train.embedded --config embedded --data.sources '[data/photos]'
  accelerate launch -m train.embedded --config embedded-smoke --output-dir runs/embedded-smoke
  python -m train.embedded --config embedded --dry-run

The same command continues a run that was stopped. The result, a complete model, is in OUTPUT_DIR/model.
"""

import copy
from dataclasses import replace
from pathlib import Path

import torch
from accelerate import Accelerator
from diffusers import AutoencoderTiny, UNet2DConditionModel
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerFast

from colorization import ColdDiffusionScheduler, ColorizationPipeline, load_pipeline
from colorization.degradation import degrade, to_gray

from .color import check_training, pipeline_defaults, train_color
from .command import begin_run, run_command, start_trackers
from .config import (
    EmbeddedModelConfig,
    EmbeddedTraining,
    OptimConfig,
    VaeConfig,
    to_yaml,
)
from .data import PhotoSet, PixelSamples, SampleStream, load_photos, transform_config
from .denoiser import Loss
from .loop import (
    SUMMARY_FILE,
    create_accelerator,
    find_checkpoint,
    samples_per_step,
    total_steps,
    train,
    write_summary,
)
from .objective import autoencoder_loss
from .saving import save_complete
from .text import Tokenize, no_text

HEAD_WIDTH = 32
SPECIAL_TOKENS = ("<pad>", "<s>", "</s>", "<unk>")
SCALE_PHOTOS = 512  # photographs that the latents' scale is measured on


# New components


def new_vae(config: EmbeddedModelConfig) -> AutoencoderTiny:
    """An autoencoder with random weights; every level but the first halves the picture's sides."""
    channels = [config.vae_channels] * len(config.vae_blocks)
    return AutoencoderTiny(
        encoder_block_out_channels=channels,
        decoder_block_out_channels=channels,
        num_encoder_blocks=list(config.vae_blocks),
        num_decoder_blocks=list(reversed(config.vae_blocks)),
        latent_channels=4,
    )


def new_unet(config: EmbeddedModelConfig, latent_channels: int, sample_size: int) -> UNet2DConditionModel:
    """A UNet with random weights that sees the gray latent too and attends to the text below its first level."""
    levels = len(config.unet_channels)
    return UNet2DConditionModel(
        sample_size=sample_size,
        in_channels=2 * latent_channels,
        out_channels=latent_channels,
        block_out_channels=list(config.unet_channels),
        layers_per_block=config.layers_per_block,
        down_block_types=["DownBlock2D"] + ["CrossAttnDownBlock2D"] * (levels - 1),
        up_block_types=["CrossAttnUpBlock2D"] * (levels - 1) + ["UpBlock2D"],
        cross_attention_dim=config.text_width,
        attention_head_dim=[channels // HEAD_WIDTH for channels in config.unet_channels],
    )


def new_tokenizer(config: EmbeddedModelConfig, captions: list[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer learned from the captions."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocabulary,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(captions, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        model_max_length=config.max_tokens,
    )


def new_text_encoder(config: EmbeddedModelConfig, vocabulary: int) -> CLIPTextModel:
    """A text encoder with random weights."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocabulary,
            hidden_size=config.text_width,
            intermediate_size=4 * config.text_width,
            projection_dim=config.text_width,
            num_hidden_layers=config.text_layers,
            num_attention_heads=max(config.text_width // 64, 1),
            max_position_embeddings=config.max_tokens,
            hidden_act="gelu",
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=0,
        )
    )


def _load_vae(name: str) -> AutoencoderTiny:
    return load_pipeline(name, device="cpu", dtype=torch.float32).vae


def build_pipeline(config: EmbeddedTraining, photos: PhotoSet, device: torch.device) -> ColorizationPipeline:
    """The model to train, float32: the one to go on from, or a new one."""
    if config.model.start is not None:
        pipeline = load_pipeline(config.model.start, device=device, dtype=torch.float32)
    else:
        vae = new_vae(config.model) if config.model.vae_start is None else _load_vae(config.model.vae_start)
        factor = 2 ** (len(vae.config.encoder_block_out_channels) - 1)
        tokenizer = new_tokenizer(config.model, photos.captions)
        pipeline = ColorizationPipeline(
            vae=vae,
            text_encoder=new_text_encoder(config.model, len(tokenizer)),
            tokenizer=tokenizer,
            unet=new_unet(config.model, vae.config.latent_channels, config.data.resolution // factor),
            scheduler=ColdDiffusionScheduler(),
            color_scale_space="chroma",
        ).to(device)
    pipeline.register_modules(
        scheduler=ColdDiffusionScheduler(
            prediction_type=config.objective.prediction_type, noise_scale=config.objective.noise_scale
        )
    )
    pipeline.register_to_config(**pipeline_defaults(config.sampling, config.data.resolution))
    pipeline.check_model()
    return pipeline


# Autoencoder


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
    directory = Path(config.run.output_dir) / "vae"
    if not (directory / SUMMARY_FILE).is_file():
        run = replace(config.run, batch_size=config.vae.batch_size, validation_every=0)
        # Both ends must come out right, the picture and its gray version: two fifths lie within a tenth of them.
        objective = replace(config.objective, severity="beta", severity_parameters=(0.5, 0.5))
        stream = SampleStream(
            PixelSamples(photos, transform_config(config.data), no_text),
            photos.sizes,
            config.vae.steps * samples_per_step(run, accelerator.num_processes),
            (1, 1, 1),
            config.data,
            objective,
            run.seed,
        )
        warmup = min(100, config.vae.steps // 10)
        optim = OptimConfig(config.vae.learning_rate, "linear", warmup, weight_decay=0.0)
        checkpoint = find_checkpoint(directory, None)
        task = VaeTask(pipeline.vae, config.vae)
        summary = train(task, stream, optim, run, accelerator, checkpoint, directory, workers=config.data.workers)
        if accelerator.is_main_process:
            pipeline.vae.register_to_config(scaling_factor=_latent_scale(pipeline, config, photos))
            pipeline.vae.save_pretrained(directory / "model")
            write_summary(directory, summary)
        accelerator.wait_for_everyone()
    vae = AutoencoderTiny.from_pretrained(directory / "model").to(accelerator.device)
    pipeline.register_modules(vae=vae.requires_grad_(False))


@torch.no_grad()
def _latent_scale(pipeline: ColorizationPipeline, config: EmbeddedTraining, photos: PhotoSet) -> float:
    """The factor that gives the latents a standard deviation of 1."""
    samples = PixelSamples(photos, transform_config(config.data), no_text)
    stream = SampleStream(
        samples, photos.sizes, SCALE_PHOTOS, (1, 1, 1), config.data, config.objective, config.run.seed
    )
    deviation = torch.cat(
        [
            pipeline.vae.encode(stream[i]["image"][None].to(pipeline.device)).latents.float().flatten()
            for i in range(min(len(photos), SCALE_PHOTOS))
        ]
    ).std()
    return float(1 / deviation)


# The run


def save_model(pipeline: ColorizationPipeline, directory: Path) -> None:
    """The whole model in half precision, in diffusers layout; it appears under its name when it is complete."""
    networks = {name: part for name, part in pipeline.components.items() if isinstance(part, nn.Module)}
    components = {name: copy.deepcopy(network).half() for name, network in networks.items()}
    settings = {key: value for key, value in pipeline.config.items() if not key.startswith("_")}
    settings = {key: value for key, value in settings.items() if key not in pipeline.components}
    tokenizer = copy.deepcopy(pipeline.tokenizer)
    tokenizer.backend_tokenizer.no_padding()  # what the last call asked for would be saved with it
    tokenizer.backend_tokenizer.no_truncation()
    half = ColorizationPipeline(**components, tokenizer=tokenizer, scheduler=pipeline.scheduler, **settings)
    save_complete(half, directory)


def run(config: EmbeddedTraining, resume: str | None = None) -> Path:
    """Train and save; returns the model's folder.

    Raises:
        ValueError: settings, data or model cannot be used.
        TrainingStopped: the loss was not finite.
    """
    directory = Path(config.run.output_dir)
    accelerator, checkpoint, photos, held_out = begin_run(config, resume)
    with accelerator.main_process_first():
        pipeline = build_pipeline(config, photos, accelerator.device)
    check_training(pipeline, config, held_out)
    if config.vae.steps > 0:
        train_vae(pipeline, config, photos, accelerator)
        accelerator = create_accelerator(config.run)  # the first one remembers what it trained
    start_trackers(accelerator, config)
    pipeline.vae.requires_grad_(False)
    if config.run.gradient_checkpointing:
        pipeline.unet.enable_gradient_checkpointing()
    summary = train_color(pipeline, config, photos, held_out, accelerator, checkpoint, train_text_encoder=True)
    if accelerator.is_main_process:
        save_model(pipeline, directory / "model")
        write_summary(directory, summary | {"photographs": len(photos)})
    accelerator.end_training()
    return directory / "model"


def dry_run(config: EmbeddedTraining) -> None:
    """Print settings, parameter counts and steps."""
    print(to_yaml(config))
    photos, _ = load_photos(config.data)
    pipeline = build_pipeline(config, photos, torch.device("cpu"))
    for name in ("vae", "unet", "text_encoder"):
        print(f"{name} parameters: {sum(p.numel() for p in getattr(pipeline, name).parameters()):,}")
    processes = create_accelerator(config.run).num_processes
    trained = sum(p.numel() for part in (pipeline.unet, pipeline.text_encoder) for p in part.parameters())
    # Weights, gradient, two moments of AdamW, moving average; all float32.
    print(f"memory of weights, gradients and optimizer: {trained * 20 / 1e9:.2f} GB; activations come on top")
    print(f"photographs: {len(photos):,}; captions such as: {first_caption(pipeline, photos)}")
    steps = total_steps(config.run, config.data.epoch_length(photos.sizes), processes)
    print(f"steps: {steps:,} of {samples_per_step(config.run, processes)} samples")


def first_caption(pipeline: ColorizationPipeline, photos: PhotoSet) -> str:
    """The first caption as the text encoder gets it."""
    return repr(pipeline.tokenizer.decode(Tokenize(pipeline)(photos.captions[0]), skip_special_tokens=True).strip())


def main(argv: list[str] | None = None) -> None:
    run_command(EmbeddedTraining, __doc__, run, dry_run, argv)


if __name__ == "__main__":
    main()
