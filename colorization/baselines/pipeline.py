"""Photographs in, colored photographs of the same size out, with a baseline instead of diffusion."""

import numbers
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from diffusers import DiffusionPipeline

from .. import __version__
from ..batching import as_list, batches_of_one_shape, is_real, is_whole, model_size, one_per_image, resize_to_tensor
from ..errors import ColorizationWarning
from ..hints import Hint, HintField, check_inside, hints_per_image
from ..image_io import as_photo
from ..prediction import ChromaPrediction, ColorizationPipelineOutput, render_photo
from .base import Baseline

OUTPUT_TYPES = ("pil", "np", "pt", "chroma")


class BaselinePipeline(DiffusionPipeline):
    r"""
    Colors photographs with a [`Baseline`], at full resolution and with the input's luminance.

    Args:
        model ([`Baseline`]): predicts chroma at model resolution.
        resolution (`int`): square root of the pixel area that the model works at.
        default_color_scale, default_seed, default_batch_size: used where the call says None.
    """

    def __init__(
        self,
        model: Baseline,
        resolution: int = 64,
        default_color_scale: float = 1.0,
        default_seed: int = 0,
        default_batch_size: int = 8,
    ):
        super().__init__()
        self.register_modules(model=model)
        self.register_to_config(
            resolution=resolution,
            default_color_scale=default_color_scale,
            default_seed=default_seed,
            default_batch_size=default_batch_size,
        )
        # Where the weights came from; load_pipeline fills it in, image metadata repeats it.
        self.provenance: dict[str, str] = {}

    def model_size(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) at which the model sees a photograph of `width` x `height` pixels."""
        return model_size(width, height, self.config.resolution, self.model.size_multiple)

    @torch.no_grad()
    def __call__(
        self,
        image: Any,
        prompt: str | Sequence[str] = "",
        color_scale: float | None = None,
        seed: int | Sequence[int] | None = None,
        hints: Sequence | None = None,
        num_images_per_prompt: int = 1,
        batch_size: int | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
    ) -> ColorizationPipelineOutput | tuple[list]:
        r"""
        Color one photograph or a list of them; arguments as in [`ColorizationPipeline`].

        Args:
            image (PIL image, path, `np.ndarray`, `torch.Tensor` or a list of these): any sizes, mixed if need be.
            prompt (`str` or one per image): baselines read no text; anything but `""` gives a warning.
            color_scale (`float`, *optional*): factor on the predicted chroma; 0 is gray, 1 as predicted.
            seed (`int` or one per image, *optional*): of baselines that draw; variant k uses seed + k.
            hints (list of `(x, y, "#rrggbb")` or [`~colorization.hints.Hint`], or one such list per image):
                Colors of single pixels. The optimization baseline colors by nothing else; with others they hold around
                their places.
            num_images_per_prompt (`int`, defaults to 1): variants of each image.
            batch_size (`int`, *optional*): how many images at most go through the network at once.
            output_type (`str`, defaults to `"pil"`): `"pil"`, `"np"`, `"pt"` or `"chroma"`.
            return_dict (`bool`, defaults to `True`): False returns a tuple whose first entry is the list of images.

        Raises:
            ValueError: an argument is out of range, or an image cannot be used; the message names it.
        """
        if output_type not in OUTPUT_TYPES:
            raise ValueError(f"`output_type` must be one of {OUTPUT_TYPES}, got {output_type!r}")
        color_scale = self.config.default_color_scale if color_scale is None else color_scale
        if not is_real(color_scale) or not 0 <= color_scale < float("inf"):
            raise ValueError(f"`color_scale` must be a finite number of at least 0, got {color_scale!r}")
        batch_size = self.config.default_batch_size if batch_size is None else batch_size
        for name, value in (("batch_size", batch_size), ("num_images_per_prompt", num_images_per_prompt)):
            if not is_whole(value) or value < 1:
                raise ValueError(f"`{name}` must be a whole number of at least 1, got {value!r}")
        photos = [as_photo(item, keep_color=False) for item in as_list(image)]
        if any(one_per_image("prompt", prompt, len(photos), str)):
            warnings.warn("baselines read no text: `prompt` has no effect", ColorizationWarning, stacklevel=2)
        seed = self.config.default_seed if seed is None else seed
        seeds = one_per_image("seed", seed, len(photos), numbers.Integral)
        for value in seeds:
            if not 0 <= value < 2**63:
                raise ValueError(f"`seed` must be between 0 and 2**63 - 1, got {value}")

        all_hints = hints_per_image(hints, len(photos))
        for photo, own in zip(photos, all_hints, strict=True):
            check_inside(own, *photo.size)

        # One job per photograph and variant; all variants of the first photograph come first.
        owners = [i for i in range(len(photos)) for _ in range(num_images_per_prompt)]
        seeds = [(int(seeds[i]) + k % num_images_per_prompt) % 2**63 for k, i in enumerate(owners)]
        small = [resize_to_tensor(photo.luma, self.model_size(*photo.size))[:1] / 2 + 0.5 for photo in photos]
        grays = [small[i] for i in owners]
        fields = [
            HintField.spread(own, photo.size, gray, self.model.hint_reach) if own else None
            for own, photo, gray in zip(all_hints, photos, small, strict=True)
        ]
        predictions: list[ChromaPrediction | None] = [None] * len(owners)
        batches = batches_of_one_shape([gray.shape for gray in grays], batch_size)
        for batch in self.progress_bar(batches):
            generators = [torch.Generator().manual_seed(seeds[k]) for k in batch]
            gray = torch.stack([grays[k] for k in batch]).to(self._execution_device)
            chroma = self.model.predict_chroma(gray, generators).cpu()
            if not chroma.isfinite().all():
                raise RuntimeError(f"the model's output is not finite (network in {self.model.dtype}): use float32")
            for k, planes in zip(batch, chroma, strict=True):
                field = fields[owners[k]]
                planes = planes if field is None else self.model.with_hints(planes, field)
                description = self._describe(color_scale, seeds[k], all_hints[owners[k]])
                predictions[k] = ChromaPrediction(planes, grays[k], description, field)
        settings = [prediction.settings for prediction in predictions]
        images = predictions
        if output_type != "chroma":
            images = [
                render_photo(prediction, photos[i].luma, output_type)
                for prediction, i in zip(predictions, owners, strict=True)
            ]
        if not return_dict:
            return (images,)
        return ColorizationPipelineOutput(images=images, settings=settings)

    def _describe(self, color_scale: float, seed: int, hints: Sequence[Hint]) -> dict:
        described = {
            "software": f"Cold Colorizer {__version__}",
            "model": type(self.model).__name__,
            **self.provenance,
            "color_scale": float(color_scale),
            "color_scale_space": "chroma",
            "seed": seed,
        }
        if hints:
            described["hints"] = [hint.as_list() for hint in hints]
        return described
