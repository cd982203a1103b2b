"""How colorful a photograph was, guessed from its gray version, and the color scale that makes a prediction so.

Diffusing Colors (Zabari et al. 2023) ranks renderings by their vividness to choose the color scale of each image. Here
a small network predicts the colorfulness of the original instead; the scale then follows by measuring.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

from .color import colorfulness, merge_luma_chroma

# Below a scale of 0.5 a picture looks unfinished; above 2.5 a prediction that is nearly gray becomes colored noise.
COLOR_SCALE_RANGE = (0.5, 2.5)
_DECIMALS = 2  # of a scale that is chosen: more cannot be seen
_NORM_GROUPS = 8


class _Level(nn.Module):
    """Half the sides, then a residual convolution."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.down = nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1)
        self.norm = nn.GroupNorm(_NORM_GROUPS, out_channels)
        self.conv = nn.Conv2d(out_channels, out_channels, 3, padding=1)

    def forward(self, planes: torch.Tensor) -> torch.Tensor:
        planes = F.silu(self.down(planes))
        return planes + self.conv(F.silu(self.norm(planes)))


class VividnessModel(ModelMixin, ConfigMixin):
    r"""
    Predicts log(1 + M), M being the colorfulness of Hasler and Suesstrunk, of the original from its gray version.

    Args:
        channels (`tuple[int, ...]`): of each level, multiples of 8; every level halves the sides.
        sample_size (`int`): pictures are resized to an area of `sample_size`^2 first, so that sharpness and size of
            the input matter little.
    """

    @register_to_config
    def __init__(self, channels: tuple[int, ...] = (16, 32, 64, 120), sample_size: int = 64):
        super().__init__()
        self.levels = nn.Sequential(*map(_Level, (1, *channels), channels))
        self.norm = nn.GroupNorm(_NORM_GROUPS, channels[-1])
        self.head = nn.Sequential(nn.Linear(channels[-1], channels[-1]), nn.SiLU(), nn.Linear(channels[-1], 1))

    def forward(self, gray: torch.Tensor) -> torch.Tensor:
        """log(1 + M) `(batch,)`, float32, of luma `(batch, 1, height, width)` in [0, 1], of any size and dtype."""
        if gray.ndim != 4 or gray.shape[1] != 1:
            raise ValueError(f"`gray` must have shape (batch, 1, height, width), got {tuple(gray.shape)}")
        height, width = gray.shape[-2:]
        scale = self.config.sample_size / math.sqrt(height * width)
        size = [max(round(side * scale), 1) for side in (height, width)]
        # Half precision has no antialiased resizing on every device.
        small = F.interpolate(gray.float(), size, mode="bilinear", antialias=True)
        planes = self.levels((2 * small - 1).to(self.dtype))
        pooled = F.silu(self.norm(planes)).mean(dim=(-2, -1))
        return self.head(pooled)[:, 0].float()

    @torch.no_grad()
    def predict_colorfulness(self, gray: torch.Tensor) -> torch.Tensor:
        """M `(batch,)`, at least 0, as :func:`colorization.color.colorfulness` gives it; `gray` as in `forward`."""
        return self(gray).expm1().clamp_min(0)


def choose_color_scale(scaled_chroma: Callable[[float], torch.Tensor], luma: torch.Tensor, target: float) -> float:
    """The color scale at which the picture, kept inside the gamut, has the colorfulness `target`.

    Colorfulness grows with the scale, less and less where colors reach the gamut's boundary, so it is found by
    bisection.

    Args:
        scaled_chroma: from a color scale to Cb, Cr `(2, h, w)`.
        luma: `(1, h, w)` in [0, 1].
        target: M of :func:`colorization.color.colorfulness`, at least 0.

    Returns:
        The scale in `COLOR_SCALE_RANGE`, to two decimals; an end of the range where the target lies beyond it.
    """
    if not target >= 0:
        raise ValueError(f"`target` must be a number of at least 0, got {target!r}")

    def rendered(scale: float) -> float:
        return colorfulness(merge_luma_chroma(luma, scaled_chroma(scale))[None]).item()

    lowest, highest = COLOR_SCALE_RANGE
    if rendered(lowest) >= target:
        return lowest
    if rendered(highest) <= target:
        return highest
    while highest - lowest > 0.1**_DECIMALS / 2:
        middle = (lowest + highest) / 2
        lowest, highest = (middle, highest) if rendered(middle) < target else (lowest, middle)
    return round((lowest + highest) / 2, _DECIMALS)
