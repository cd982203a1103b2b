"""The colorization pipeline: gray photographs in, colored photographs of the same size out."""

import math
import numbers
import warnings
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, AutoencoderTiny, DiffusionPipeline, UNet2DConditionModel
from diffusers.loaders import StableDiffusionLoraLoaderMixin
from diffusers.utils.torch_utils import randn_tensor
from transformers import CLIPTextModel, PreTrainedTokenizerBase

from . import __version__
from .batching import as_list, batches_of_one_shape, is_real, is_whole, model_size, one_per_image, resize_to_tensor
from .color import merge_luma_chroma, rgb_to_chroma
from .degradation import degrade, start_latent
from .errors import ColorizationWarning
from .hints import HintField, check_inside, hints_per_image
from .image_io import Photo, as_photo
from .prediction import OUTPUT_TYPES, ChromaPrediction, ColorizationPipelineOutput, render_photo
from .sampling import SAMPLERS, default_sampler
from .scheduler import ColdDiffusionScheduler
from .semantic import CELL, SemanticEncoder, guess_picture
from .vividness import VividnessModel, choose_color_scale

AUTO = "auto"
REPORT_NEGATIVE_PROMPT = "grainy black-and-white photo, photo taken on an old box camera, grayscale photography"
COLOR_SCALE_SPACES = ("latent", "chroma")
FINALS = ("prediction", "state")
WALKS = ("gray", "guess")

_PROMPT_CACHE_SIZE = 64


@dataclass(frozen=True)
class _Settings:
    """The call's settings with the model's defaults filled in."""

    num_inference_steps: int
    guidance_scale: float
    color_scale: float  # 1 where it is chosen after sampling
    automatic_color_scale: bool
    sampler: str
    severity: float
    batch_size: int


@dataclass(frozen=True)
class _Start:
    """Where a walk begins: at the gray latent, the first guess or the input's own faded color."""

    severity: float
    origin: Literal["gray", "guess", "input"]


@dataclass(frozen=True, eq=False)
class _Semantics:
    """What the semantic encoder says of a batch, as its UNet takes it."""

    picture: torch.Tensor  # the first guess, (batch, 3, height, width) in [0, 1]
    z: torch.Tensor  # the same encoded
    features: torch.Tensor  # (batch, width, h, w)


@dataclass(frozen=True, eq=False)
class _Job:
    """One output: an image at model resolution with its prompt and its noise."""

    index: int
    gray: torch.Tensor  # (3, h, w) in [-1, 1]
    seen: torch.Tensor | None  # the same as the semantic encoder sees it, (3, height, width), where it is needed
    color: torch.Tensor | None  # the same as `gray` in color, when it starts there
    start: _Start
    noise: torch.Tensor | None  # (channels, h, w) standard normal, when noise_scale > 0
    prompt: str
    negative_prompt: str
    seed: int | None
    hints: HintField | None


class ColorizationPipeline(DiffusionPipeline, StableDiffusionLoraLoaderMixin):
    r"""
    Text-guided colorization by cold diffusion: the latent walks from gray to color, the luminance stays the input's.

    UNets with 4 input channels see the current latent; those with 8 see it together with the gray latent.

    Args:
        vae ([`AutoencoderKL`] or [`AutoencoderTiny`]): encodes gray pictures, decodes colored latents.
        text_encoder ([`~transformers.CLIPTextModel`]): its last hidden state conditions the UNet.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]): tokenizer of the text encoder.
        unet ([`UNet2DConditionModel`]): predicts color from the latent, the severity and the prompt.
        scheduler ([`ColdDiffusionScheduler`]): degradation, parameterisation and samplers.
        vividness ([`VividnessModel`], *optional*): predicts how colorful a photograph was, for `color_scale="auto"`.
        semantic_encoder ([`SemanticEncoder`], *optional*): makes a first guess of the colors, from which the walk
            starts.
        default_num_inference_steps, default_guidance_scale, default_color_scale, default_negative_prompt,
        default_sampler, default_seed, default_batch_size:
            used where the call says None. They belong to the checkpoint and are saved with it; the values here are
            those of the Stable Diffusion 2.1 recipe.
        resolution (`int`): square root of the pixel area that the model works at.
        color_scale_space (`str`): where the color scale acts, `"latent"` (Diffusing Colors) or `"chroma"` (decoded).
        final (`str`): what is decoded, the last `"prediction"` (Diffusing Colors) or the last `"state"`.
        walk_from (`str`): what is at severity 1, as the UNet has learned it: `"gray"`, or the first `"guess"`.
        guess_severity, prompted_guess_severity (`float`): where the walk from gray is entered, at the first guess
            faded to this severity, without a prompt and with one; at 1 nothing is left of the guess.
    """

    model_cpu_offload_seq = "semantic_encoder->text_encoder->unet->vae->vividness"
    _optional_components = ["vividness", "semantic_encoder"]

    def __init__(
        self,
        vae: AutoencoderKL | AutoencoderTiny,
        text_encoder: CLIPTextModel,
        tokenizer: PreTrainedTokenizerBase,
        unet: UNet2DConditionModel,
        scheduler: ColdDiffusionScheduler,
        vividness: VividnessModel | None = None,
        semantic_encoder: SemanticEncoder | None = None,
        default_num_inference_steps: int = 50,
        default_guidance_scale: float = 2.6,
        default_color_scale: float = 1.0,
        default_negative_prompt: str = REPORT_NEGATIVE_PROMPT,
        default_sampler: str | None = None,
        default_seed: int = 0,
        default_batch_size: int = 8,
        resolution: int = 768,
        color_scale_space: str = "latent",
        final: str = "prediction",
        walk_from: str = "gray",
        guess_severity: float = 1.0,
        prompted_guess_severity: float = 1.0,
    ):
        super().__init__()
        self.register_modules(
            vae=vae,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            unet=unet,
            scheduler=scheduler,
            vividness=vividness,
            semantic_encoder=semantic_encoder,
        )
        self.register_to_config(
            default_num_inference_steps=default_num_inference_steps,
            default_guidance_scale=default_guidance_scale,
            default_color_scale=default_color_scale,
            default_negative_prompt=default_negative_prompt,
            default_sampler=default_sampler,
            default_seed=default_seed,
            default_batch_size=default_batch_size,
            resolution=resolution,
            color_scale_space=color_scale_space,
            final=final,
            walk_from=walk_from,
            guess_severity=guess_severity,
            prompted_guess_severity=prompted_guess_severity,
        )
        self.check_model()
        self._prompt_cache: OrderedDict[tuple, torch.Tensor] = OrderedDict()
        # Where the weights came from; load_pipeline fills it in, image metadata repeats it.
        self.provenance: dict[str, str] = {}

    # Checks

    def check_model(self) -> None:
        """Raise ValueError on components or defaults that do not fit together; they can be replaced after loading."""
        if not isinstance(self.scheduler, ColdDiffusionScheduler):
            raise ValueError(
                f"`scheduler` must be a ColdDiffusionScheduler, got {type(self.scheduler).__name__}: "
                "pass scheduler=ColdDiffusionScheduler() or use load_pipeline"
            )
        latent_channels = self.vae.config.latent_channels
        in_channels, noise_scale = self.unet.config.in_channels, self.scheduler.config.noise_scale
        allowed = [latent_channels, 2 * latent_channels]
        if self.semantic_encoder is not None:
            allowed.append(3 * latent_channels + self.semantic_encoder.config.widths[0])
        if in_channels not in allowed:
            text = f"{', '.join(map(str, allowed[:-1]))} or {allowed[-1]}"
            raise ValueError(f"`unet` must have {text} input channels, got {in_channels}")
        if self.config.walk_from not in WALKS:
            raise ValueError(f"`walk_from` must be one of {WALKS}, got {self.config.walk_from!r}")
        if self.config.walk_from == "guess" and self.semantic_encoder is None:
            raise ValueError('`walk_from` "guess" needs the component `semantic_encoder`, which is missing')
        for name in ("guess_severity", "prompted_guess_severity"):
            if not is_real(self.config[name]) or not 0 < self.config[name] <= 1:
                raise ValueError(f"`{name}` must be above 0 and at most 1, got {self.config[name]!r}")
        if noise_scale > 0 and in_channels == latent_channels:
            raise ValueError(
                f"`noise_scale` {noise_scale} needs a UNet with {2 * latent_channels} input channels that also sees "
                f"the gray latent, got {in_channels}; only noise_scale 0 works with {latent_channels}"
            )
        if self.config.color_scale_space not in COLOR_SCALE_SPACES:
            raise ValueError(
                f"`color_scale_space` must be one of {COLOR_SCALE_SPACES}, got {self.config.color_scale_space!r}"
            )
        if self.config.final not in FINALS:
            raise ValueError(f"`final` must be one of {FINALS}, got {self.config.final!r}")
        if not is_whole(self.config.resolution) or self.config.resolution < self.vae_scale_factor:
            raise ValueError(
                f"`resolution` must be a whole number of at least {self.vae_scale_factor}, "
                f"got {self.config.resolution!r}"
            )
        self._resolve_settings(None, None, None, None, severity=1.0, batch_size=None)

    def _resolve_settings(
        self,
        num_inference_steps: int | None,
        guidance_scale: float | None,
        color_scale: float | str | None,
        sampler: str | None,
        severity: float,
        batch_size: int | None,
    ) -> _Settings:
        """Fill in the model's defaults and check every number; ValueError names argument, value and range."""
        automatic = isinstance(color_scale, str) and color_scale == AUTO
        if automatic:
            self.check_automatic_color_scale()

        def default(value, name):
            return self.config[f"default_{name}"] if value is None else value

        settings = _Settings(
            num_inference_steps=default(num_inference_steps, "num_inference_steps"),
            guidance_scale=default(guidance_scale, "guidance_scale"),
            color_scale=1.0 if automatic else default(color_scale, "color_scale"),
            automatic_color_scale=automatic,
            sampler=default(sampler, "sampler") or default_sampler(self.scheduler.config.noise_scale),
            severity=severity,
            batch_size=default(batch_size, "batch_size"),
        )
        lowest = {"num_inference_steps": 1 if self.semantic_encoder is None else 0, "batch_size": 1}
        for name, least in lowest.items():
            value = getattr(settings, name)
            if not is_whole(value) or value < least:
                raise ValueError(f"`{name}` must be a whole number of at least {least}, got {value!r}")
        for name in ("guidance_scale", "color_scale"):
            value = getattr(settings, name)
            if not is_real(value) or not 0 <= value < math.inf:
                # A default is a number always: it is where the demo's slider and a sweep of settings begin.
                other = f' or "{AUTO}"' if name == "color_scale" and color_scale is not None else ""
                raise ValueError(f"`{name}` must be a finite number of at least 0{other}, got {value!r}")
        if settings.sampler not in SAMPLERS:
            raise ValueError(f"`sampler` must be one of {SAMPLERS}, got {settings.sampler!r}")
        if not is_real(severity) or not 0 < severity <= 1:
            raise ValueError(f"`severity` must be above 0 and at most 1 (1 = gray), got {severity!r}")
        return settings

    def check_automatic_color_scale(self) -> None:
        """Raise ValueError where this model cannot choose a color scale by itself."""
        if self.vividness is None:
            raise ValueError(
                f'`color_scale` "{AUTO}" needs a model with the component `vividness`, which this one does not have: '
                "pass a number"
            )
        if self.config.color_scale_space != "chroma":
            raise ValueError(
                f'`color_scale` "{AUTO}" needs a model with `color_scale_space` "chroma", got '
                f"{self.config.color_scale_space!r}, where every scale that is tried would have to be decoded"
            )

    @classmethod
    def load_config(cls, *args, **kwargs):
        """diffusers' own, and models that were published with a copy of this class are read with the class itself."""
        loaded = super().load_config(*args, **kwargs)
        config = loaded[0] if isinstance(loaded, tuple) else loaded
        if isinstance(config.get("_class_name"), list):
            config["_class_name"] = cls.__name__
            config["scheduler"] = ["colorization.scheduler", ColdDiffusionScheduler.__name__]
            for component, kind in (("vividness", VividnessModel), ("semantic_encoder", SemanticEncoder)):
                if config.get(component, [None])[0] is not None:
                    config[component] = [f"colorization.{kind.__module__.rsplit('.', 1)[-1]}", kind.__name__]
        return loaded

    def save_pretrained(self, save_directory, **kwargs) -> None:
        """Save the whole pipeline; refused while an adapter is attached, whose layers would make it unreadable."""
        if getattr(self.unet, "peft_config", None):
            raise ValueError("an adapter is attached: use `save_adapter`, or `unload_lora_weights` first")
        super().save_pretrained(save_directory, **kwargs)

    # Steps

    @property
    def vae_scale_factor(self) -> int:
        """Pixels per latent cell along each side."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    @property
    def sees_guess(self) -> bool:
        """Whether the UNet sees the first guess and what the semantic encoder knows, beside the gray latent."""
        return self.unet.config.in_channels > 2 * self.vae.config.latent_channels

    def model_size(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) at which this model sees a photograph of `width` x `height` pixels."""
        return model_size(width, height, self.config.resolution, self.vae_scale_factor)

    def encode_prompt(self, prompt: Sequence[str]) -> torch.Tensor:
        """Text embeddings `(len(prompt), tokens, width)`, in the UNet's dtype.

        A prompt longer than the text encoder's limit is cut, with a warning that quotes what is lost. Prompts are
        encoded one by one, so that a result does not depend on what else is asked for, and remembered as long as the
        text encoder stays the same. With gradients enabled, as in training, nothing is remembered.
        """
        # An adapter on the text encoder can be rescaled without a change of any parameter.
        cacheable = not torch.is_grad_enabled() and not hasattr(self.text_encoder, "peft_config")
        weights = self._text_encoder_fingerprint() if cacheable else ()
        embeddings = []
        for text in prompt:
            token_ids = self._tokenize(text)
            key = (tuple(token_ids), weights)
            embedding = self._prompt_cache.pop(key, None) if cacheable else None
            if embedding is None:
                ids = torch.tensor([token_ids], device=self._execution_device)
                embedding = self.text_encoder(ids).last_hidden_state
            if cacheable:
                self._prompt_cache[key] = embedding
            embeddings.append(embedding)
        while len(self._prompt_cache) > _PROMPT_CACHE_SIZE:
            self._prompt_cache.popitem(last=False)
        return torch.cat(embeddings).to(self.unet.dtype)

    def _text_encoder_fingerprint(self) -> tuple:
        """Changes when any weight does, however it was changed: versions and addresses miss writes through `.data`."""
        sums = torch.stack([parameter.sum(dtype=torch.float32) for parameter in self.text_encoder.parameters()])
        return (self._execution_device, self.text_encoder.dtype, *sums.tolist())

    def _tokenize(self, prompt: str) -> list[int]:
        """Token ids of one prompt, padded and cut to what the text encoder takes."""
        # Some tokenizers know no limit of their own.
        limit = min(self.tokenizer.model_max_length, self.text_encoder.config.max_position_embeddings)
        all_ids = self.tokenizer(prompt, truncation=False, verbose=False).input_ids
        if len(all_ids) > limit:
            lost = self.tokenizer.decode(all_ids[limit - 1 : -1], skip_special_tokens=True).strip()
            warnings.warn(
                f"the prompt is longer than the text encoder's {limit} tokens and was cut; ignored: {lost!r}",
                ColorizationWarning,
                stacklevel=2,
            )
        return self.tokenizer(prompt, padding="max_length", truncation=True, max_length=limit).input_ids

    def encode_image(self, image: torch.Tensor) -> torch.Tensor:
        """Latent `(batch, channels, h, w)`, float32 and scaled, of `(batch, 3, height, width)` in [-1, 1].

        The mode of the posterior, never a sample: the same picture always gives the same latent.
        """
        encoded = self.vae.encode(image.to(self._execution_device, self.vae.dtype))
        z = encoded.latents if isinstance(self.vae, AutoencoderTiny) else encoded.latent_dist.mode()
        return z.float() * self.vae.config.scaling_factor

    def decode_latents(self, z: torch.Tensor) -> torch.Tensor:
        """RGB `(batch, 3, height, width)` in [0, 1], float32, of scaled latents `(batch, channels, h, w)`."""
        image = self.vae.decode((z / self.vae.config.scaling_factor).to(self.vae.dtype), return_dict=False)[0]
        return (image.float() / 2 + 0.5).clamp(0, 1)

    def _encode_semantics(self, jobs: Sequence[_Job], encoded: bool = True) -> _Semantics:
        """The first guess of each job's photograph; computed once where several jobs share it."""
        photographs = list({id(job.seen): job for job in jobs}.values())
        rows = [[job.seen is photograph.seen for photograph in photographs].index(True) for job in jobs]
        seen, luma = (
            torch.stack([planes[:1] for planes in pictures]).to(self._execution_device) / 2 + 0.5
            for pictures in ([job.seen for job in photographs], [job.gray for job in photographs])
        )
        found = self.semantic_encoder(seen)
        picture = guess_picture(luma, found.chroma)
        z = self.encode_image(2 * picture - 1)[rows] if encoded else None
        return _Semantics(picture[rows], z, found.features[rows])

    def _sample(
        self, jobs: Sequence[_Job], settings: _Settings, progress_bar, callback: Callable | None
    ) -> torch.Tensor:
        """Color latents `(len(jobs), channels, h, w)` of jobs that share one shape; Diffusing Colors, Algorithm 2."""
        device, noise_scale = self._execution_device, self.scheduler.config.noise_scale

        # 1. Gray latent, and where the walk starts
        z_gray = self.encode_image(torch.stack([job.gray for job in jobs]))  # [B, C, h, w]
        noise = torch.stack([job.noise for job in jobs]).to(device) if noise_scale > 0 else None
        start, z_base, seen = jobs[0].start, z_gray, [z_gray]
        semantics = None if jobs[0].seen is None else self._encode_semantics(jobs)
        if self.sees_guess:
            seen += [semantics.z, semantics.features]
        if self.config.walk_from == "guess":
            z_base = semantics.z
        z_start = start_latent(z_base, noise, noise_scale)
        z = z_start
        if start.origin == "guess":
            z = degrade(semantics.z, z_start, start.severity)
        elif start.origin == "input":
            # A faded photograph is D(z_color, severity) with z_1 = z_gray already; only the noise is missing.
            z = self.encode_image(torch.stack([job.color for job in jobs]))
            z = z + start.severity * (z_start - z_base)

        # 2. Prompts: [negative, positive] in one batch. The positive one alone does where guidance changes nothing: at
        # a scale of 1, and where both prompts are the same (by default, both are empty)
        guided = settings.guidance_scale != 1 and any(job.prompt != job.negative_prompt for job in jobs)
        texts = [job.negative_prompt for job in jobs] if guided else []
        prompt_embeds = self.encode_prompt(texts + [job.prompt for job in jobs])  # [B or 2B, tokens, width]

        # 3. Predict, put in the hints' colors, step
        z_hint, region = self._encode_hints(jobs, z_gray)
        constrain = None if region is None else lambda z_hat: torch.lerp(z_hat, z_hint, region)
        self.scheduler.set_timesteps(settings.num_inference_steps, device=device, severity=start.severity)
        for index, timestep in enumerate(self.scheduler.timesteps):
            model_input = z if self.unet.config.in_channels == z.shape[1] else torch.cat([z, *seen], dim=1)
            if guided:
                model_input = torch.cat([model_input, model_input])
            model_output = self.unet(
                model_input.to(self.unet.dtype), timestep, encoder_hidden_states=prompt_embeds, return_dict=False
            )[0].float()
            if guided:
                negative, positive = model_output.chunk(2)
                model_output = negative + settings.guidance_scale * (positive - negative)
            z, z_hat = self.scheduler.step(
                model_output,
                timestep,
                z,
                z_gray,
                z_start=z_start,
                sampler=settings.sampler,
                constrain=constrain,
                return_dict=False,
            )
            if callback is not None:
                changed = callback(self, index, timestep, {"latents": z, "pred_original_sample": z_hat}) or {}
                z, z_hat = changed.get("latents", z), changed.get("pred_original_sample", z_hat)
            progress_bar.update()

        # 4. Color scale of the paper, in latent space; not of what the hints ask for
        z = z_hat if self.config.final == "prediction" else z
        if self.config.color_scale_space == "latent":
            scale = settings.color_scale
            z = torch.lerp(z_gray, z, scale if region is None else region + scale * (1 - region))  # exact at 1
        return z

    def _color(
        self, jobs: Sequence[_Job], settings: _Settings, output_type: str, progress_bar, callback: Callable | None
    ) -> torch.Tensor:
        """Latents of jobs that share shape and start, or their Cb and Cr `(len(jobs), 2, height, width)`."""
        if settings.num_inference_steps > 0:
            z = self._sample(jobs, settings, progress_bar, callback)
            return z if output_type == "latent" else rgb_to_chroma(self.decode_latents(z))
        semantics = self._encode_semantics(jobs, encoded=output_type == "latent")
        return semantics.z if output_type == "latent" else rgb_to_chroma(semantics.picture)

    def _encode_hints(
        self, jobs: Sequence[_Job], z_gray: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor] | tuple[None, None]:
        """Latents of the hints' colors, shaped as `z_gray`, and where they count, `(len(jobs), 1, h, w)` in [0, 1].

        Where only some jobs have hints the region of the others is 0; None where no job has any.
        """
        hinted = [index for index, job in enumerate(jobs) if job.hints is not None]
        if not hinted:
            return None, None
        pictures = [merge_luma_chroma(jobs[index].gray[:1] / 2 + 0.5, jobs[index].hints.chroma) for index in hinted]
        regions = torch.stack([jobs[index].hints.region for index in hinted])
        z_hint, region = z_gray.clone(), torch.zeros_like(z_gray[:, :1])
        z_hint[hinted] = self.encode_image(torch.stack(pictures) * 2 - 1)
        region[hinted] = F.avg_pool2d(regions, self.vae_scale_factor).to(region)
        return z_hint, region

    def predict_colorfulness(self, prediction: ChromaPrediction) -> float:
        """How colorful a prediction's photograph probably was: M of :func:`colorization.color.colorfulness`.

        Raises:
            ValueError: like :meth:`check_automatic_color_scale`.
        """
        self.check_automatic_color_scale()
        return self.vividness.predict_colorfulness(prediction.guide[None].to(self._execution_device)).item()

    def automatic_color_scale(self, prediction: ChromaPrediction) -> float:
        """The color scale at which a prediction becomes as colorful as its photograph probably was.

        A number in `vividness.COLOR_SCALE_RANGE`, to two decimals, for `prediction.render`; no new sampling is needed.

        Raises:
            ValueError: like :meth:`check_automatic_color_scale`.
        """
        return choose_color_scale(prediction.scaled_chroma, prediction.guide, self.predict_colorfulness(prediction))

    # Calls

    def _prepare_jobs(
        self,
        photos: Sequence[Photo],
        prompt: str | Sequence[str],
        negative_prompt: str | Sequence[str] | None,
        seed: int | Sequence[int] | None,
        generator: torch.Generator | Sequence[torch.Generator] | None,
        num_images_per_prompt: int,
        settings: _Settings,
        hints: Sequence | None,
    ) -> list[_Job]:
        """One job per image and variant; checks everything that comes as one value or one per image."""
        count = len(photos)
        if not is_whole(num_images_per_prompt) or num_images_per_prompt < 1:
            raise ValueError(
                f"`num_images_per_prompt` must be a whole number of at least 1, got {num_images_per_prompt!r}"
            )
        if num_images_per_prompt > 1 and self.scheduler.config.noise_scale == 0:
            message = "the model is deterministic (noise_scale 0): all variants of an image are equal"
            warnings.warn(message, ColorizationWarning, stacklevel=3)
        if seed is not None and generator is not None:
            raise ValueError("`seed` and `generator` exclude each other: pass one of them")
        default_negative = self.config.default_negative_prompt
        prompts = one_per_image("prompt", prompt, count, str)
        negatives = one_per_image(
            "negative_prompt", default_negative if negative_prompt is None else negative_prompt, count, str
        )
        if generator is not None:
            seeds = [None] * count
            generators = one_per_image("generator", generator, count, torch.Generator)
        else:
            seeds = one_per_image("seed", self.config.default_seed if seed is None else seed, count, numbers.Integral)
            for value in seeds:
                if not 0 <= value < 2**63:
                    raise ValueError(f"`seed` must be between 0 and 2**63 - 1, got {value}")
        all_hints = hints_per_image(hints, count)
        for photo, own in zip(photos, all_hints, strict=True):
            check_inside(own, *photo.size)
        jobs = []
        for i, photo in enumerate(photos):
            size = self.model_size(*photo.size)
            gray = resize_to_tensor(photo.luma, size)
            start = self._choose_start(settings, prompts[i])
            seen = None
            if start.origin == "guess" or self.sees_guess or self.config.walk_from == "guess":
                seen = resize_to_tensor(photo.luma, tuple(side // self.vae_scale_factor * CELL for side in size))
            color = resize_to_tensor(photo.rgb, size) if settings.severity < 1 else None
            field = HintField.spread(all_hints[i], photo.size, gray[:1] / 2 + 0.5) if all_hints[i] else None
            for variant in range(num_images_per_prompt):
                # Variant k of seed s is seed s + k: each can be made again alone.
                variant_seed = None if generator is not None else (int(seeds[i]) + variant) % 2**63
                source = generators[i] if generator is not None else torch.Generator().manual_seed(variant_seed)
                noise = self._draw_noise(size, source) if self.scheduler.config.noise_scale > 0 else None
                jobs.append(
                    _Job(len(jobs), gray, seen, color, start, noise, prompts[i], negatives[i], variant_seed, field)
                )
        return jobs

    def _choose_start(self, settings: _Settings, prompt: str) -> _Start:
        """Where the walk of a photograph with this prompt begins."""
        if settings.num_inference_steps == 0:
            return _Start(1.0, "guess")
        if settings.severity < 1:
            return _Start(settings.severity, "input")
        if self.config.walk_from == "guess":
            return _Start(1.0, "guess")
        severity = 1.0
        if self.semantic_encoder is not None:
            severity = self.config.prompted_guess_severity if prompt else self.config.guess_severity
        return _Start(severity, "guess" if severity < 1 else "gray")

    def _draw_noise(self, size: tuple[int, int], generator: torch.Generator) -> torch.Tensor:
        width, height = (side // self.vae_scale_factor for side in size)
        shape = (self.vae.config.latent_channels, height, width)
        return randn_tensor(shape, generator=generator, device=generator.device, dtype=torch.float32)

    def _describe(self, job: _Job, settings: _Settings) -> dict:
        described = {
            "software": f"Cold Colorizer {__version__}",
            "model": Path(self.config.get("_name_or_path") or "").name,
            **self.provenance,
            "prompt": job.prompt,
            "negative_prompt": job.negative_prompt,
            "num_inference_steps": int(settings.num_inference_steps),
            "guidance_scale": float(settings.guidance_scale),
            "color_scale": float(settings.color_scale),
            "color_scale_space": self.config.color_scale_space,
            "sampler": settings.sampler,
            "severity": float(settings.severity),
            "seed": job.seed,
        }
        if job.start.origin == "guess":
            described |= {"start": "first guess", "start_severity": float(job.start.severity)}
        if job.hints is not None:
            described["hints"] = [hint.as_list() for hint in job.hints.hints]
        return described

    @torch.no_grad()
    def __call__(
        self,
        image: Any,
        prompt: str | Sequence[str] = "",
        negative_prompt: str | Sequence[str] | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        color_scale: float | str | None = None,
        seed: int | Sequence[int] | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        num_images_per_prompt: int = 1,
        batch_size: int | None = None,
        sampler: str | None = None,
        severity: float = 1.0,
        hints: Sequence | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callable | None = None,
    ) -> ColorizationPipelineOutput | tuple[list]:
        r"""
        Color one photograph or a list of them. Only their luminance is used (but see `severity`).

        Args:
            image (PIL image, path, `np.ndarray`, `torch.Tensor` or a list of these):
                Any sizes, mixed if need be. Arrays are `(height, width)` or `(height, width, channels)`, tensors
                `(height, width)` or `(channels, height, width)`; integers use their type's range, floats [0, 1].
                A fourth, leading dimension is a batch.
            prompt (`str` or one per image, defaults to `""`):
                What is in the picture and its colors, e.g. `"red bus"`. Empty: the model decides.
            negative_prompt (`str` or one per image, *optional*):
                What to steer away from; acts only at a guidance scale other than 1.
            num_inference_steps (`int`, *optional*):
                T, the number of UNet steps. 0 is the first guess itself, of models with a `semantic_encoder`: prompt
                and seed have no effect on it.
            guidance_scale (`float`, *optional*):
                s of classifier-free guidance from the negative prediction; 1 is off and costs one UNet pass.
            color_scale (`float` or `"auto"`, *optional*):
                s', final color intensity: 0 is gray, 1 as predicted. It acts in the space that the model's config
                names (`color_scale_space`). "auto" chooses one for each image, so that the result is as colorful as
                the photograph probably was; it needs the component `vividness`. The number chosen is in `settings`.
            seed (`int` or one per image, *optional*):
                The same image, seed and settings give the same result alone or in a batch. Variant k uses seed + k.
            generator (`torch.Generator` or one per image, *optional*):
                Instead of `seed`.
            num_images_per_prompt (`int`, defaults to 1):
                Variants of each image; they differ when the model's `noise_scale` is above 0.
            batch_size (`int`, *optional*):
                How many images at most go through the networks at once.
            sampler (`str`, *optional*):
                `"cold"`, `"naive"` or `"euler"`; None is the model's: Euler where its `noise_scale` is above 0.
            severity (`float`, defaults to 1.0):
                1 colors from scratch. Below 1 the input is taken as a faded color photograph at that severity and
                its remaining color is kept.
            hints (list of `(x, y, "#rrggbb")` or [`~colorization.hints.Hint`], or one such list per image):
                Pixels of the photograph and the colors that they and what they are on shall have. Their chroma
                counts, and `color_scale` does not act on it.
            output_type (`str`, defaults to `"pil"`):
                `"pil"`, `"np"`, `"pt"`, `"latent"` or `"chroma"`, see [`ColorizationPipelineOutput`].
            return_dict (`bool`, defaults to `True`):
                False returns a tuple whose first entry is the list of images.
            callback_on_step_end (`Callable`, *optional*):
                Called as `callback(pipeline, step_index, timestep, tensors)` after each step of each batch; `tensors`
                holds `latents` and `pred_original_sample`, and what the callback returns in a dict replaces them. To
                cancel, raise an exception.

        Raises:
            ValueError: an argument is out of range, or an image cannot be used; the message names it.
            RuntimeError: the networks gave values that are not finite.
        """
        # 1. Check inputs, fill in the model's defaults
        if output_type not in OUTPUT_TYPES:
            raise ValueError(f"`output_type` must be one of {OUTPUT_TYPES}, got {output_type!r}")
        self.check_model()
        settings = self._resolve_settings(
            num_inference_steps, guidance_scale, color_scale, sampler, severity, batch_size
        )
        if settings.automatic_color_scale and output_type == "latent":
            raise ValueError(
                f'`color_scale` "{AUTO}" has no effect on latents: pass another `output_type` or a number'
            )
        if any(negative_prompt or ()) and settings.guidance_scale == 1:
            message = "`negative_prompt` has no effect at a `guidance_scale` of 1"
            warnings.warn(message, ColorizationWarning, stacklevel=2)

        # 2. Luma of every photograph; one job per photograph and variant
        photos = [as_photo(item, keep_color=severity < 1) for item in as_list(image)]
        jobs = self._prepare_jobs(
            photos, prompt, negative_prompt, seed, generator, num_images_per_prompt, settings, hints
        )
        descriptions = [self._describe(job, settings) for job in jobs]

        # 3. Sample in batches of one latent shape, and decode
        results: list = [None] * len(jobs)
        batches = batches_of_one_shape([(job.gray.shape, job.start) for job in jobs], settings.batch_size)
        with self.progress_bar(total=len(batches) * settings.num_inference_steps) as progress_bar:
            for positions in batches:
                batch = [jobs[position] for position in positions]
                decoded = self._color(batch, settings, output_type, progress_bar, callback_on_step_end).cpu()
                if not decoded.isfinite().all():
                    raise RuntimeError(
                        f"the model's output is not finite (networks in {self.unet.dtype}): load it with dtype=float32"
                    )
                for job, result in zip(batch, decoded, strict=True):
                    results[job.index] = result

        # 4. Chroma at full resolution, luminance of the input
        if output_type != "latent":
            results = [
                ChromaPrediction(chroma, job.gray[:1] / 2 + 0.5, description, job.hints)
                for chroma, job, description in zip(results, jobs, descriptions, strict=True)
            ]
        if settings.automatic_color_scale:
            for prediction in results:
                scale = self.automatic_color_scale(prediction)
                prediction.settings.update(color_scale=scale, automatic_color_scale=scale)
        if output_type in ("pil", "np", "pt"):
            results = [
                render_photo(prediction, photos[job.index // num_images_per_prompt].luma, output_type)
                for prediction, job in zip(results, jobs, strict=True)
            ]

        self.maybe_free_model_hooks()
        if not return_dict:
            return (results,)
        return ColorizationPipelineOutput(images=results, settings=descriptions)
