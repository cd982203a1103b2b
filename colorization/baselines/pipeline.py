"""Photographs in, colored photographs of the same size out, with a baseline instead of diffusion."""

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from diffusers import DiffusionPipeline

from .. import __version__
from ..batching import batches_of_one_shape, model_size, one_per_image
from ..computation import computations
from ..errors import ColorizationWarning
from ..hints import HintField
from ..jobs import (
    View,
    check_amount,
    check_output_type,
    check_whole,
    collect,
    describe_hints,
    look_at,
    output,
    read_photos,
    seeds_per_image,
    variant_seed,
)
from ..prediction import ChromaPrediction, ColorizationPipelineOutput
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
        check_output_type(output_type, OUTPUT_TYPES)
        color_scale = self.config.default_color_scale if color_scale is None else color_scale
        check_amount("color_scale", color_scale)
        batch_size = self.config.default_batch_size if batch_size is None else batch_size
        check_whole("batch_size", batch_size)
        check_whole("num_images_per_prompt", num_images_per_prompt)
        photos = read_photos(image)
        if any(one_per_image("prompt", prompt, len(photos), str)):
            warnings.warn("baselines read no text: `prompt` has no effect", ColorizationWarning, stacklevel=2)
        seeds = seeds_per_image(self.config.default_seed if seed is None else seed, len(photos))
        views = look_at(photos, self.model_size, hints, reach=self.model.hint_reach)
        jobs = [
            (view, variant_seed(own, variant))
            for view, own in zip(views, seeds, strict=True)
            for variant in range(num_images_per_prompt)
        ]

        def predict(batch: Sequence[tuple[View, int]]) -> torch.Tensor:
            generators = [torch.Generator().manual_seed(own) for _, own in batch]
            guides = torch.stack([view.guide for view, _ in batch]).to(self._execution_device)
            return self.model.predict_chroma(guides, generators)

        batches = batches_of_one_shape([view.gray.shape for view, _ in jobs], batch_size)
        chromas = collect(self.progress_bar(batches), jobs, predict, self.model.dtype)
        predictions = [
            ChromaPrediction(
                chroma if view.hints is None else self.model.with_hints(chroma, view.hints),
                view.guide,
                self._describe(color_scale, own, view.hints),
                view.hints,
                computation,
            )
            for chroma, (view, own), computation in zip(
                chromas, jobs, computations(self, self.model, batches), strict=True
            )
        ]
        settings = [prediction.settings for prediction in predictions]
        return output(predictions, settings, photos, output_type, return_dict)

    def expected_settings(
        self, color_scale: float | None = None, seed: int | None = None, hints: Sequence = (), **ignored
    ) -> dict:
        """What results of a call with these arguments will say of themselves, see `jobs.expected_settings`."""
        scale = self.config.default_color_scale if color_scale is None else color_scale
        described = self._describe(scale, self.config.default_seed if seed is None else seed, None)
        described["hints"] = [hint.as_list() for hint in hints]
        return {name: value for name, value in described.items() if name != "software"}

    def _describe(self, color_scale: float, seed: int, hints: HintField | None) -> dict:
        return {
            "software": f"Cold Colorizer {__version__}",
            "model": type(self.model).__name__,
            **self.provenance,
            "color_scale": float(color_scale),
            "color_scale_space": "chroma",
            "seed": seed,
            **describe_hints(hints),
        }
