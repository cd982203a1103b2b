"""What a model knows of a photograph's colors, as shares and errors of chroma in CIELAB (D65).

Pictures are `(batch, 3, height, width)` tensors of gamma-encoded sRGB in [0, 1]. A perfect sampler of all that is
plausible explains 2 R^2 - 1 of the chroma where the mean of its samples explains R^2: the mean over seeds shows what a
model knows, a single sample what a user gets.
"""

import torch
import torch.nn.functional as F

from colorization.color import rgb_to_lab

REDUCTION = 8  # pixels of a cell, along each side
SKIN_SHARE = 0.05  # of a picture that must be skin for its error to count
_SKIN_HUE, _SKIN_CHROMA, _SKIN_LIGHTNESS = (25.0, 75.0), (10.0, 45.0), 25.0


def cell_chroma(image: torch.Tensor) -> torch.Tensor:
    """a* and b* at an eighth of the size, means over 8 x 8 pixels: `(batch, 2, ceil(height / 8), ceil(width / 8))`."""
    return F.avg_pool2d(rgb_to_lab(image)[:, 1:], REDUCTION, ceil_mode=True, count_include_pad=False)


def chroma_energies(chroma: torch.Tensor, reference: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Squared error and squared chroma of each photograph, `(batch,)` each.

    The share of chroma that a set of photographs' results explain is 1 - sum of the errors / sum of the chroma: 0 for
    gray, 1 for the originals, below 0 for wrong colors.

    Args:
        chroma, reference: of :func:`cell_chroma`, of result and original.
    """
    return (chroma - reference).square().sum(dim=(1, 2, 3)), reference.square().sum(dim=(1, 2, 3))


def skin_mask(reference: torch.Tensor) -> torch.Tensor:
    """Which pixels of an original have the color of skin, `(batch, height, width)`."""
    lightness, a, b = rgb_to_lab(reference).unbind(dim=1)
    hue, chroma = torch.rad2deg(torch.atan2(b, a)), torch.hypot(a, b)
    skin = (hue > _SKIN_HUE[0]) & (hue < _SKIN_HUE[1]) & (lightness > _SKIN_LIGHTNESS)
    return skin & (chroma > _SKIN_CHROMA[0]) & (chroma < _SKIN_CHROMA[1])


def skin_error(image: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Mean distance in the a*b* plane over the skin of each original, `(batch,)`; NaN where it is under 5%."""
    mask = skin_mask(reference)
    distance = (rgb_to_lab(image)[:, 1:] - rgb_to_lab(reference)[:, 1:]).square().sum(dim=1).sqrt()
    pixels = mask.flatten(1).sum(dim=1)
    mean = (distance * mask).flatten(1).sum(dim=1) / pixels.clamp_min(1)
    return torch.where(pixels > SKIN_SHARE * mask[0].numel(), mean, torch.nan)
