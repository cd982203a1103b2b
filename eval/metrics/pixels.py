"""Errors of a colored picture against its original, pixel by pixel.

Pictures are `(batch, 3, height, width)` tensors of gamma-encoded sRGB in [0, 1], results `(batch,)`. Colorfulness is
:func:`colorization.color.colorfulness`.
"""

import torch

from colorization.color import rgb_to_lab


def psnr(image: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Peak signal-to-noise ratio over the three channels, in dB; infinite for equal pictures."""
    _check(image, reference)
    return -10 * torch.log10((image - reference).square().flatten(1).mean(dim=1))


def mean_ciede2000(image: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """CIEDE2000 color difference, mean over the pixels; about 1 is the least that an eye can tell apart."""
    _check(image, reference)
    return ciede2000(rgb_to_lab(image), rgb_to_lab(reference)).flatten(1).mean(dim=1)


def chroma_error(image: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Distance in the a*b* plane of CIE Lab, mean over the pixels: the error of color without that of lightness."""
    _check(image, reference)
    difference = rgb_to_lab(image)[:, 1:] - rgb_to_lab(reference)[:, 1:]
    return difference.square().sum(dim=1).sqrt().flatten(1).mean(dim=1)


def ciede2000(lab1: torch.Tensor, lab2: torch.Tensor) -> torch.Tensor:
    """CIEDE2000 color difference of CIE Lab values (Sharma, Wu and Dalal 2005, equations 2 to 22), all weights 1.

    Args:
        lab1, lab2: L* in [0, 100], a* and b* stacked on dimension 1, `(batch, 3, ...)`.

    Returns:
        `(batch, ...)`.
    """
    l1, a1, b1 = lab1.unbind(dim=1)
    l2, a2, b2 = lab2.unbind(dim=1)

    # a* is stretched near the gray axis (equations 2 to 7)
    c_mean = (torch.hypot(a1, b1) + torch.hypot(a2, b2)) / 2
    stretch = 1.5 - 0.5 * _saturating_root(c_mean)
    a1, a2 = a1 * stretch, a2 * stretch
    c1, c2 = torch.hypot(a1, b1), torch.hypot(a2, b2)
    h1, h2 = _hue(a1, b1), _hue(a2, b2)

    # Differences of lightness, chroma and hue (8 to 11); no hue where either color is gray
    colored = c1 * c2 > 0
    h_difference = torch.remainder(h2 - h1 + 180, 360) - 180
    h_difference = torch.where((h2 - h1 == 180) & colored, 180.0, h_difference * colored)
    l_difference, c_difference = l2 - l1, c2 - c1
    hue_term = 2 * (c1 * c2).sqrt() * torch.sin(torch.deg2rad(h_difference / 2))

    # Means (12 to 14); that of hues goes the short way round
    l_mean, c_mean = (l1 + l2) / 2, (c1 + c2) / 2
    h_sum = h1 + h2
    far = (h1 - h2).abs() > 180
    h_mean = torch.where(far, torch.where(h_sum < 360, h_sum + 360, h_sum - 360), h_sum) / 2
    h_mean = torch.where(colored, h_mean, h_sum)

    # Weights (15 to 21)
    t = (
        1
        - 0.17 * _cos(h_mean - 30)
        + 0.24 * _cos(2 * h_mean)
        + 0.32 * _cos(3 * h_mean + 6)
        - 0.20 * _cos(4 * h_mean - 63)
    )
    l_square = (l_mean - 50) ** 2
    l_weight = 1 + 0.015 * l_square / (20 + l_square).sqrt()
    c_weight = 1 + 0.045 * c_mean
    h_weight = 1 + 0.015 * c_mean * t
    rotation = 60 * torch.exp(-(((h_mean - 275) / 25) ** 2))
    interaction = -2 * _saturating_root(c_mean) * torch.sin(torch.deg2rad(rotation))

    # Equation 22; rounding can take the sum below zero where the difference is tiny
    dl, dc, dh = l_difference / l_weight, c_difference / c_weight, hue_term / h_weight
    return (dl**2 + dc**2 + dh**2 + interaction * dc * dh).clamp_min(0).sqrt()


def _saturating_root(chroma: torch.Tensor) -> torch.Tensor:
    """(C^7 / (C^7 + 25^7))^(1/2), by the quotient: C^7 itself leaves little of float32's range."""
    ratio = (chroma / 25) ** 7
    return (ratio / (ratio + 1)).sqrt()


def _hue(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Hue angle in degrees, [0, 360); 0 for gray."""
    return torch.remainder(torch.rad2deg(torch.atan2(b, a)), 360)


def _cos(degrees: torch.Tensor) -> torch.Tensor:
    return torch.cos(torch.deg2rad(degrees))


def _check(image: torch.Tensor, reference: torch.Tensor) -> None:
    if image.ndim != 4 or image.shape[1] != 3 or image.shape != reference.shape:
        shapes = f"{tuple(image.shape)} and {tuple(reference.shape)}"
        raise ValueError(f"`image` and `reference` must have one shape (batch, 3, height, width), got {shapes}")
