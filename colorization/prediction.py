"""What a model says about a photograph, and the picture that is made of it."""

from dataclasses import dataclass, field

import numpy as np
import PIL.Image
import torch
from diffusers.utils import BaseOutput

from .color import colorize_luma
from .hints import HintField

COMPUTATION = "computation"  # in what a file keeps
OUTPUT_TYPES = ("pil", "np", "pt", "latent", "chroma")


@dataclass
class ColorizationPipelineOutput(BaseOutput):
    """Result of :class:`ColorizationPipeline`.

    Args:
        images (`list[PIL.Image.Image]`, `list[np.ndarray]` or `list[torch.Tensor]`):
            One entry per image and variant (all variants of the first image first). PIL: RGB, the size of each input.
            np: float32 `(height, width, 3)` in [0, 1]. pt: float32 `(3, height, width)` in [0, 1]. latent: float32
            `(channels, h, w)` at model resolution, on which a color scale in chroma space has not acted. chroma:
            :class:`ChromaPrediction`.
        settings (`list[dict]`): what made each image, enough to make it again.
        notes (`list[list[str]]`): of each image, sentences on what is seen in the photograph and used as a prompt,
            and on what of the prompt was understood otherwise than it stands there, or not at all.
    """

    images: list
    settings: list[dict]
    notes: list[list[str]]


@dataclass(frozen=True, eq=False)
class ChromaPrediction:
    """What the model says about one photograph, at model resolution and before the chroma-space color scale.

    Rendering is cheap and needs no model, so the color scale can be changed after sampling.

    Args:
        chroma: Cb, Cr `(2, h, w)`, float32, CPU.
        guide: luma that the model saw, `(1, h, w)` in [0, 1], float32, CPU.
        settings: what made it. `color_scale` in it is the one asked for: replace it when another is rendered. Where
            "auto" was asked for, it is the number chosen, which `automatic_color_scale` in it repeats.
        hints: the photograph's color hints, None where there are none. The color scale does not act on them.
        computation: what else the last bit depends on, see `colorization.computation`.
    """

    chroma: torch.Tensor
    guide: torch.Tensor
    settings: dict
    hints: HintField | None = None
    computation: dict = field(default_factory=dict)

    @property
    def record(self) -> dict:
        """What a file keeps of how it was made, see `colorization.redo`."""
        return self.settings | ({COMPUTATION: self.computation} if self.computation else {})

    def render(self, luminance: np.ndarray, color_scale: float | None = None) -> np.ndarray:
        """RGB `(height, width, 3)` for a full-resolution luma `(height, width)`, in its dtype (uint8 or uint16).

        Args:
            luminance: Rec. 601 luma of the photograph, or of a smaller copy of it.
            color_scale: factor on the decoded chroma; None is the one that was asked for in the call, or 1 when that
                one has acted in latent space already.
        """
        if color_scale is None:
            in_chroma = self.settings["color_scale_space"] == "chroma"
            color_scale = self.settings["color_scale"] if in_chroma else 1.0
        pixels = colorize_luma(luminance, self.scaled_chroma(color_scale), self.guide)
        if self.hints is not None:
            self.hints.pin(pixels, luminance)
        return pixels

    def scaled_chroma(self, color_scale: float) -> torch.Tensor:
        """Cb, Cr `(2, h, w)` at a color scale, which does not act where hints say the color."""
        scaled = color_scale * self.chroma
        return scaled if self.hints is None else self.hints.blend(scaled)


def render_photo(prediction: ChromaPrediction, luminance: np.ndarray, output_type: str):
    """A prediction at full resolution as "pil" (8 bit), "np" or "pt" (float32 in [0, 1])."""
    if output_type == "pil":
        if luminance.dtype == np.uint16:
            luminance = ((luminance.astype(np.uint32) + 128) // 257).astype(np.uint8)
        return PIL.Image.fromarray(prediction.render(luminance))
    pixels = prediction.render(luminance)
    array = pixels.astype(np.float32) / np.iinfo(pixels.dtype).max
    return array if output_type == "np" else torch.from_numpy(array).permute(2, 0, 1)
