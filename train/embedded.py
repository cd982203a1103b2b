"""Train the small model that ships with the package: autoencoder, then UNet and text encoder.

  accelerate launch -m train.embedded --config embedded --data.sources '[data/photos]'
  accelerate launch -m train.embedded --config embedded-smoke --output-dir runs/embedded-smoke
  python -m train.embedded --config embedded --dry-run

The same command continues a run that was stopped. The result, a complete model, is in OUTPUT_DIR/model.
"""

import copy
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from diffusers import AutoencoderTiny
from torch import nn

from colorization import ColdDiffusionScheduler, ColorizationPipeline, load_pipeline
from colorization.adapters import widen_conv_in
from colorization.semantic import SemanticEncoder
from colorization.weights import load_network

from .autoencoder import train_vae
from .config import EmbeddedTraining
from .data import PhotoSet
from .diffusion import ColorTrainer, pipeline_defaults
from .loop import create_accelerator
from .saving import save_pipeline
from .small_model import new_text_encoder, new_tokenizer, new_unet, new_vae
from .text import Tokenize, learned_vocabulary
from .trainer import run_command


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
    if config.model.semantic_encoder is not None:
        encoder = load_network(SemanticEncoder, config.model.semantic_encoder, torch_dtype=torch.float32)
        pipeline.register_modules(semantic_encoder=encoder.to(device).eval().requires_grad_(False))
    walk_from = config.model.walk_from or pipeline.config.walk_from
    if (config.model.sees_guess or walk_from == "guess") and pipeline.semantic_encoder is None:
        raise ValueError("`model.semantic_encoder` must be a folder: the model to go on from has no encoder")
    if config.model.sees_guess and not pipeline.sees_guess:
        channels = 3 * pipeline.vae.config.latent_channels + pipeline.semantic_encoder.config.widths[0]
        widen_conv_in(pipeline.unet, channels)
    settings = pipeline_defaults(config.sampling, config.data.resolution)
    vocabulary = learned_vocabulary(photos.captions, pipeline.config.prompt_vocabulary)
    pipeline.register_to_config(**settings, walk_from=walk_from, prompt_vocabulary=vocabulary)
    pipeline.check_model()
    return pipeline


def freeze(pipeline: ColorizationPipeline, beginnings: Sequence[str]) -> None:
    """Keep the parameters of UNet and text encoder whose names begin so from learning."""
    for part in ("unet", "text_encoder"):
        for name, parameter in getattr(pipeline, part).named_parameters():
            parameter.requires_grad_(not f"{part}.{name}".startswith(tuple(beginnings)))


def save_model(pipeline: ColorizationPipeline, directory: Path) -> None:
    """The whole model in half precision, in diffusers layout."""
    networks = {name: part for name, part in pipeline.components.items() if isinstance(part, nn.Module)}
    components = {name: copy.deepcopy(network).half() for name, network in networks.items()}
    settings = {key: value for key, value in pipeline.config.items() if not key.startswith("_")}
    settings = {key: value for key, value in settings.items() if key not in pipeline.components}
    tokenizer = copy.deepcopy(pipeline.tokenizer)
    tokenizer.backend_tokenizer.no_padding()  # what the last call asked for would be saved with it
    tokenizer.backend_tokenizer.no_truncation()
    half = ColorizationPipeline(**components, tokenizer=tokenizer, scheduler=pipeline.scheduler, **settings)
    save_pipeline(half, directory)


class EmbeddedTrainer(ColorTrainer[EmbeddedTraining]):
    """Training of UNet and text encoder together, after the autoencoder's where that has steps."""

    settings = EmbeddedTraining
    built_from_photos = True  # the tokenizer learns from the captions
    train_text_encoder = True

    def build(self) -> None:
        self.pipeline = build_pipeline(self.config, self.photos, self.accelerator.device)

    def prepare(self) -> None:
        if self.config.vae.steps > 0:
            train_vae(self.pipeline, self.config, self.photos, self.accelerator)
            self.accelerator = create_accelerator(self.config.run)  # the first one remembers what it trained
        self.pipeline.vae.requires_grad_(False)
        freeze(self.pipeline, self.config.model.frozen)
        if self.config.run.gradient_checkpointing:
            self.pipeline.unet.enable_gradient_checkpointing()

    def save(self, directory: Path) -> None:
        save_model(self.pipeline, directory)

    @classmethod
    def describe(cls, config: EmbeddedTraining, photos: PhotoSet) -> Iterator[str]:
        pipeline = build_pipeline(config, photos, torch.device("cpu"))
        for name in ("vae", "unet", "text_encoder"):
            yield f"{name} parameters: {sum(p.numel() for p in getattr(pipeline, name).parameters()):,}"
        trained = sum(p.numel() for part in (pipeline.unet, pipeline.text_encoder) for p in part.parameters())
        # Weights, gradient, two moments of AdamW, moving average; all float32.
        yield f"memory of weights, gradients and optimizer: {trained * 20 / 1e9:.2f} GB; activations come on top"
        yield f"captions such as: {first_caption(pipeline, photos)}"


def first_caption(pipeline: ColorizationPipeline, photos: PhotoSet) -> str:
    """The first caption as the text encoder gets it."""
    return repr(pipeline.tokenizer.decode(Tokenize(pipeline)(photos.captions[0]), skip_special_tokens=True).strip())


def main(argv: list[str] | None = None) -> None:
    run_command(EmbeddedTrainer, __doc__, argv)


if __name__ == "__main__":
    main()
