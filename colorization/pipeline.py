"""The colorization pipeline: gray photographs in, colored photographs of the same size out."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, DiffusionPipeline, UNet2DConditionModel
from diffusers.loaders import StableDiffusionLoraLoaderMixin
from transformers import CLIPTextModel, PreTrainedTokenizerBase

from .batching import batches_of_one_shape, is_real, is_whole, model_size
from .computation import computations
from .conditioning import PromptCache
from .errors import ColorizationWarning
from .jobs import (
    AUTO,
    check_output_type,
    collect,
    describe,
    expected_settings,
    output,
    prepare_jobs,
    read_photos,
    resolve_settings,
)
from .naming import NamingHead, usual_colors
from .prediction import OUTPUT_TYPES, ChromaPrediction, ColorizationPipelineOutput
from .prompting import Vocabulary
from .scheduler import ColdDiffusionScheduler
from .semantic import SemanticEncoder
from .vividness import VividnessModel, choose_color_scale
from .walk import color_jobs
from .wording import find_words

REPORT_NEGATIVE_PROMPT = "grainy black-and-white photo, photo taken on an old box camera, grayscale photography"
COLOR_SCALE_SPACES = ("latent", "chroma")
FINALS = ("prediction", "state")
WALKS = ("gray", "guess")
# The optional components, in the order in which they are saved, and their classes.
EXTRAS = {"vividness": VividnessModel, "semantic_encoder": SemanticEncoder, "naming_head": NamingHead}


class ColorizationPipeline(DiffusionPipeline, StableDiffusionLoraLoaderMixin):
    r"""
    Text-guided colorization by cold diffusion: the latent walks from gray to color, the luminance stays the input's.

    UNets with 4 input channels see the current latent; wider ones also the gray latent, and what the encoder knows.

    Args:
        vae ([`AutoencoderKL`] or [`AutoencoderTiny`]): encodes gray pictures, decodes colored latents.
        text_encoder ([`~transformers.CLIPTextModel`]): its last hidden state conditions the UNet.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]): tokenizer of the text encoder.
        unet ([`UNet2DConditionModel`]): predicts color from the latent, the severity and the prompt.
        scheduler ([`ColdDiffusionScheduler`]): degradation, parameterisation and samplers.
        vividness ([`VividnessModel`], *optional*): predicts how colorful a photograph was, for `color_scale="auto"`.
        semantic_encoder ([`SemanticEncoder`], *optional*): makes a first guess of the colors.
        naming_head ([`NamingHead`], *optional*): says what the encoder sees, for photographs without prompt.
        default_num_inference_steps, default_guidance_scale, default_color_scale, default_negative_prompt,
        default_sampler, default_seed, default_batch_size:
            used where the call says None, saved with the checkpoint; here those of the Stable Diffusion 2.1 recipe.
        resolution (`int`): square root of the pixel area that the model works at.
        color_scale_space (`str`): where the color scale acts, `"latent"` (Diffusing Colors) or `"chroma"` (decoded).
        final (`str`): what is decoded, the last `"prediction"` (Diffusing Colors) or the last `"state"`.
        walk_from (`str`): what is at severity 1, as the UNet has learned it: `"gray"`, or the first `"guess"`.
        guess_severity, prompted_guess_severity (`float`): where the walk from gray is entered, at the first guess
            faded to this severity, without a prompt and with one; at 1 nothing is left of the guess.
        prompt_vocabulary (`dict`, *optional*): the words of the captions that the model has learned, into which
            prompts are translated, see [`~colorization.prompting.Vocabulary`]. None encodes prompts as they are.
    """

    model_cpu_offload_seq = "semantic_encoder->naming_head->text_encoder->unet->vae->vividness"
    _optional_components = list(EXTRAS)

    def __init__(
        self,
        vae: AutoencoderKL | AutoencoderTiny,
        text_encoder: CLIPTextModel,
        tokenizer: PreTrainedTokenizerBase,
        unet: UNet2DConditionModel,
        scheduler: ColdDiffusionScheduler,
        vividness: VividnessModel | None = None,
        semantic_encoder: SemanticEncoder | None = None,
        naming_head: NamingHead | None = None,
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
        prompt_vocabulary: dict | None = None,
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
            naming_head=naming_head,
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
            prompt_vocabulary=prompt_vocabulary,
        )
        self.check_model()
        self._prompt_cache = PromptCache()
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
        for name, known in (("walk_from", WALKS), ("color_scale_space", COLOR_SCALE_SPACES), ("final", FINALS)):
            if self.config[name] not in known:
                raise ValueError(f"`{name}` must be one of {known}, got {self.config[name]!r}")
        if self.config.walk_from == "guess" and self.semantic_encoder is None:
            raise ValueError('`walk_from` "guess" needs the component `semantic_encoder`, which is missing')
        for name in ("guess_severity", "prompted_guess_severity"):
            if not is_real(self.config[name]) or not 0 < self.config[name] <= 1:
                raise ValueError(f"`{name}` must be above 0 and at most 1, got {self.config[name]!r}")
        self._check_naming_head()
        Vocabulary.of_config(self.config.prompt_vocabulary)
        if noise_scale > 0 and in_channels == latent_channels:
            raise ValueError(
                f"`noise_scale` {noise_scale} needs a UNet with {2 * latent_channels} input channels that also sees "
                f"the gray latent, got {in_channels}; only noise_scale 0 works with {latent_channels}"
            )
        if not is_whole(self.config.resolution) or self.config.resolution < self.vae_scale_factor:
            raise ValueError(
                f"`resolution` must be a whole number of at least {self.vae_scale_factor}, "
                f"got {self.config.resolution!r}"
            )
        resolve_settings(self)

    def _check_naming_head(self) -> None:
        if self.naming_head is None:
            return
        if self.semantic_encoder is None:
            raise ValueError("`naming_head` needs the component `semantic_encoder`, which is missing")
        needed = self.semantic_encoder.backbone.feature_info.channels()[-1], len(usual_colors())
        found = self.naming_head.config.in_channels, self.naming_head.config.classes
        if found != needed:
            raise ValueError(f"`naming_head` must have (in_channels, classes) {needed} for this encoder, got {found}")

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
            for component, kind in EXTRAS.items():
                if config.get(component, [None])[0] is not None:
                    config[component] = [f"colorization.{kind.__module__.rsplit('.', 1)[-1]}", kind.__name__]
        return loaded

    def save_pretrained(self, save_directory, **kwargs) -> None:
        """Save the whole pipeline; refused while an adapter is attached, whose layers would make it unreadable."""
        if getattr(self.unet, "peft_config", None):
            raise ValueError("an adapter is attached: use `save_adapter`, or `unload_lora_weights` first")
        super().save_pretrained(save_directory, **kwargs)

    @property
    def vae_scale_factor(self) -> int:
        """Pixels per latent cell along each side."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    @property
    def sees_guess(self) -> bool:
        """Whether the UNet sees the first guess and what the semantic encoder knows, beside the gray latent."""
        return self.unet.config.in_channels > 2 * self.vae.config.latent_channels

    @property
    def uses_guess(self) -> bool:
        """Whether every walk needs the first guess: the UNet sees it, or has learned to begin there."""
        return self.sees_guess or self.config.walk_from == "guess"

    def model_size(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) at which this model sees a photograph of `width` x `height` pixels."""
        return model_size(width, height, self.config.resolution, self.vae_scale_factor)

    def encode_prompt(self, prompt: Sequence[str]) -> torch.Tensor:
        """Text embeddings `(len(prompt), tokens, width)`, in the UNet's dtype.

        A prompt longer than the text encoder's limit is cut, with a warning that quotes what is lost. Prompts are
        encoded one by one, so that a result does not depend on what else is asked for, and remembered as long as the
        text encoder stays the same. With gradients enabled, as in training, nothing is remembered.
        """
        embeds = self._prompt_cache.embed(self.tokenizer, self.text_encoder, prompt, self._execution_device)
        return embeds.to(self.unet.dtype)

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

    def expected_settings(self, **call) -> dict:
        """What results of a call with these arguments will say of themselves, see `jobs.expected_settings`."""
        return expected_settings(self, **call)

    # Calls

    @torch.no_grad()
    def __call__(
        self,
        image: Any,
        prompt: str | Sequence[str] | None = "",
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
        auto_prompt: bool = True,
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
                What is in the picture and its colors, e.g. `"red bus"`. Empty: the model decides, see `auto_prompt`.
                Where the model's `prompt_vocabulary` says what it has learned, the prompt is translated into that;
                "no red" in it goes to the negative prompt.
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
            auto_prompt (`bool`, defaults to `True`):
                Whether an empty prompt becomes what is seen in the photograph, as "red macaw", where the model has a
                `naming_head` that is sure enough. Notes and settings of the result tell. No effect where `severity`
                is below 1.
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
        check_output_type(output_type, OUTPUT_TYPES)
        self.check_model()
        settings = resolve_settings(
            self, num_inference_steps, guidance_scale, color_scale, sampler, severity, batch_size
        )
        if settings.automatic_color_scale and output_type == "latent":
            raise ValueError(
                f'`color_scale` "{AUTO}" has no effect on latents: pass another `output_type` or a number'
            )
        if any(negative_prompt or ()) and settings.guidance_scale == 1:
            message = "`negative_prompt` has no effect at a `guidance_scale` of 1"
            warnings.warn(message, ColorizationWarning, stacklevel=2)

        # 2. Luma of every photograph and the words for it; one job per photograph and variant
        photos = read_photos(image, keep_color=severity < 1)
        wordings = find_words(self, photos, settings, prompt, negative_prompt, auto_prompt)
        jobs = prepare_jobs(self, photos, settings, wordings, seed, generator, num_images_per_prompt, hints)
        descriptions = [describe(self, job, settings) for job in jobs]

        # 3. Sample in batches of one latent shape, and decode
        batches = batches_of_one_shape([(job.gray.shape, job.start) for job in jobs], settings.batch_size)
        with self.progress_bar(total=len(batches) * settings.num_inference_steps) as progress_bar:
            results = collect(
                batches,
                jobs,
                lambda batch: color_jobs(self, batch, settings, output_type, progress_bar, callback_on_step_end),
                self.unet.dtype,
            )

        # 4. Chroma at full resolution, luminance of the input
        if output_type != "latent":
            computed = computations(self, self.unet, batches)
            results = [
                ChromaPrediction(chroma, job.guide, description, job.hints, computation)
                for chroma, job, description, computation in zip(results, jobs, descriptions, computed, strict=True)
            ]
        if settings.automatic_color_scale:
            for prediction in results:
                scale = self.automatic_color_scale(prediction)
                prediction.settings.update(color_scale=scale, automatic_color_scale=scale)
        self.maybe_free_model_hooks()
        return output(results, descriptions, photos, output_type, return_dict)
