"""Metrics of color alone: outputs rescaled to a given colorfulness, and errors by the hue of the original."""

import numpy as np
import torch

from colorization.color import colorfulness, luma, merge_luma_chroma, rgb_to_chroma
from colorization.color_words import srgb_to_oklch

# Hue angles in OKLCh at which the sectors begin, in degrees, each up to the next one's; pink goes through 0. Brown is
# dark orange here: only the hue counts.
HUE_SECTORS = {
    "red": 12,
    "orange": 35,
    "yellow": 80,
    "green": 116,
    "cyan": 170,
    "blue": 215,
    "purple": 284,
    "pink": 335,
}
MINIMUM_CHROMA = 0.04  # in OKLCh: below, pixels of the original count as gray and belong to no sector
_COLORFULNESS_TOLERANCE = 0.05  # on the 0 to 255 scale, where photographs average about 40
_MAXIMUM_FACTOR = 64.0  # of the chroma; what needs more is as good as gray


def match_colorfulness(image: torch.Tensor, target: float) -> tuple[torch.Tensor, bool]:
    """A picture with its chroma rescaled so that its colorfulness is `target`; luma and hue stay.

    Colorfulness (Hasler and Suesstrunk 2003) is linear in the chroma as long as nothing leaves the gamut; where
    something does, it is reduced at constant luma and hue, and the factor is found by bisection.

    Args:
        image: `(1, 3, height, width)` in [0, 1].
        target: colorfulness on the 0 to 255 scale, not negative.

    Returns:
        The picture, and whether the target was reached: a gray picture has no chroma to rescale, and the gamut has an
        end.
    """
    if not 0 <= target < float("inf"):
        raise ValueError(f"`target` must be finite and at least 0, got {target}")
    y, chroma = luma(image), rgb_to_chroma(image)

    def scaled(factor: float) -> torch.Tensor:
        return merge_luma_chroma(y, factor * chroma)

    own = colorfulness(image).item()
    if abs(own - target) <= _COLORFULNESS_TOLERANCE:
        return image, True
    low, high = 0.0, min(_MAXIMUM_FACTOR, target / own if own > 0 else _MAXIMUM_FACTOR)
    reached = colorfulness(scaled(high)).item()
    while reached < target - _COLORFULNESS_TOLERANCE and high < _MAXIMUM_FACTOR:
        low, high = high, min(2 * high, _MAXIMUM_FACTOR)
        reached = colorfulness(scaled(high)).item()
    if reached < target - _COLORFULNESS_TOLERANCE:
        return scaled(high), False
    factor = high
    while abs(reached - target) > _COLORFULNESS_TOLERANCE and high - low > 1e-6 * high:
        factor = (low + high) / 2
        reached = colorfulness(scaled(factor)).item()
        low, high = (factor, high) if reached < target else (low, factor)
    return scaled(factor), abs(reached - target) <= 2 * _COLORFULNESS_TOLERANCE


def hue_sectors(image: np.ndarray) -> np.ndarray:
    """The index in `HUE_SECTORS` of every pixel, -1 where it is gray; uint8 `(..., 3)` to int64 `(...)`."""
    _, chroma, hue = np.moveaxis(srgb_to_oklch(image), -1, 0)
    starts = list(HUE_SECTORS.values())
    sectors = (np.searchsorted(starts, hue, side="right") - 1) % len(starts)
    return np.where(chroma < MINIMUM_CHROMA, -1, sectors)


def sector_sums(lab: torch.Tensor, reference_lab: torch.Tensor, sectors: np.ndarray) -> np.ndarray:
    """Sums over the pixels of each hue sector, from which chroma error and retention are made; parts can be added.

    Args:
        lab, reference_lab: CIE Lab of the picture and of its original, `(1, 3, height, width)`.
        sectors: of the original, `(height, width)`, from :func:`hue_sectors`.

    Returns:
        float64 `(1 + len(HUE_SECTORS), 4)`, gray pixels first: their number, and the sums of the a*b* distance, of
        the picture's chroma and of the original's chroma.
    """
    ab, reference_ab = lab[0, 1:], reference_lab[0, 1:]
    values = [None, *(torch.hypot(*planes) for planes in (ab - reference_ab, ab, reference_ab))]
    index, length = sectors.ravel() + 1, len(HUE_SECTORS) + 1
    sums = [np.bincount(index, None if value is None else value.numpy().ravel(), length) for value in values]
    return np.stack(sums, axis=1)
