"""Color arithmetic: luma, chroma, Lab, full-resolution merging of predicted chroma with the user's luminance.

Luminance transfer happens in one space throughout: gamma-encoded sRGB split into Rec. 601 luma Y (what Pillow's "L"
is) and the chroma planes Cb, Cr of the same standard (offset-free, about [-0.5, 0.5]). It is linear, so a pixel's
luma can be set exactly, and gray in means the same gray luma out. Lab is here for measuring, not for merging.

All image tensors are NCHW. "[0, 1]" ranges are gamma-encoded sRGB unless said otherwise.
"""

import itertools
import math

import numpy as np
import torch
import torch.nn.functional as F

LUMA_WEIGHTS = (0.299, 0.587, 0.114)  # Rec. 601
CB_SCALE = 2 * (1 - LUMA_WEIGHTS[2])  # B - Y = 1.772 Cb
CR_SCALE = 2 * (1 - LUMA_WEIGHTS[0])  # R - Y = 1.402 Cr

# Linear sRGB -> CIE XYZ (IEC 61966-2-1) and the D65 white point that its rows sum to.
_RGB_TO_XYZ = ((0.4124564, 0.3575761, 0.1804375), (0.2126729, 0.7151522, 0.0721750), (0.0193339, 0.1191920, 0.9503041))
_LAB_EPSILON = (6 / 29) ** 3
_LAB_KAPPA = (29 / 3) ** 3

# Pixels of the output merged at once. Four planes of them stay below the 32768 elements from which on torch splits an
# operation over threads: splitting gains nothing here (memory-bound) and costs dearly where threads must wait for a
# core, as beside a sampling model.
_TILE_PIXELS = 8000


def luma(image: torch.Tensor) -> torch.Tensor:
    """Rec. 601 luma of `(batch, 3, height, width)` gamma-encoded RGB -> `(batch, 1, height, width)`, same range."""
    if image.ndim != 4 or image.shape[1] != 3:
        raise ValueError(f"`image` must have shape (batch, 3, height, width), got {tuple(image.shape)}")
    weights = image.new_tensor(LUMA_WEIGHTS).view(1, 3, 1, 1)
    return (image * weights).sum(dim=1, keepdim=True)


def rgb_to_chroma(image: torch.Tensor) -> torch.Tensor:
    """Cb and Cr of `(batch, 3, height, width)` RGB in [0, 1] -> `(batch, 2, height, width)` in [-0.5, 0.5]."""
    y = luma(image)
    return torch.cat([(image[:, 2:3] - y) / CB_SCALE, (image[:, 0:1] - y) / CR_SCALE], dim=1)


def _chroma_to_offsets(chroma: torch.Tensor) -> torch.Tensor:
    """R - Y, G - Y and B - Y, stacked on dim -3, of Cb and Cr stacked on dim -3."""
    cb, cr = chroma.unbind(dim=-3)
    red, blue = CR_SCALE * cr, CB_SCALE * cb
    green = -(LUMA_WEIGHTS[0] * red + LUMA_WEIGHTS[2] * blue) / LUMA_WEIGHTS[1]
    return torch.stack([red, green, blue], dim=-3)


def merge_luma_chroma(y: torch.Tensor, chroma: torch.Tensor) -> torch.Tensor:
    """RGB with exactly the given luma; chroma that leaves the gamut is reduced at constant luma and hue.

    The offsets R - Y, G - Y, B - Y are scaled by the largest factor <= 1 that keeps all three channels in [0, 1]:
    a closed form per pixel, no channel is ever clipped, so the luma cannot drift.

    Args:
        y: luma `(..., 1, height, width)` in [0, 1].
        chroma: Cb and Cr `(..., 2, height, width)`.

    Returns:
        `(..., 3, height, width)` in [0, 1].
    """
    offsets = _chroma_to_offsets(chroma)
    tiny = torch.finfo(offsets.dtype).tiny
    headroom = (1 - y) / offsets.amax(dim=-3, keepdim=True).clamp_min(tiny)
    footroom = y / (-offsets.amin(dim=-3, keepdim=True)).clamp_min(tiny)
    return (y + offsets * torch.minimum(headroom, footroom).clamp_max(1)).clamp(0, 1)


def transfer_luminance(image: torch.Tensor, luminance_source: torch.Tensor) -> torch.Tensor:
    """`image` with the luma of `luminance_source`; color out of gamut is reduced at constant luma and hue.

    Args:
        image: RGB `(batch, 3, height, width)` in [0, 1] whose chroma is kept.
        luminance_source: `(batch, 3, height, width)` RGB or `(batch, 1, height, width)` luma in [0, 1], same size.

    Returns:
        `(batch, 3, height, width)` in [0, 1].
    """
    y = luminance_source if luminance_source.shape[1] == 1 else luma(luminance_source)
    if y.shape[-2:] != image.shape[-2:]:
        raise ValueError(
            f"`luminance_source` must have the size of `image`, "
            f"got {tuple(y.shape[-2:])} and {tuple(image.shape[-2:])}"
        )
    return merge_luma_chroma(y, rgb_to_chroma(image))


def _box_mean(planes: torch.Tensor, radius: int) -> torch.Tensor:
    """Mean over (2 radius + 1)^2 windows cut off at the border, `(batch, channels, height, width)`."""
    size = 2 * radius + 1
    return F.avg_pool2d(planes, size, stride=1, padding=radius, count_include_pad=False)


def guided_coefficients(
    guide: torch.Tensor, chroma: torch.Tensor, radius: int = 2, epsilon: float = 4e-4
) -> tuple[torch.Tensor, torch.Tensor]:
    """Slope and offset of the guided filter (He, Sun, Tang 2013, equations 5 to 8): chroma ~ slope * guide + offset.

    Args:
        guide: luma `(batch, 1, height, width)` in [0, 1].
        chroma: planes to explain, `(batch, channels, height, width)`.
        radius: of the window, in pixels; window means are taken over what lies inside the picture.
        epsilon: variance of the guide below which a region counts as flat.

    Returns:
        slope and offset, each `(batch, channels, height, width)`, averaged over the windows that cover a pixel.
    """
    mean_guide, mean_chroma = _box_mean(guide, radius), _box_mean(chroma, radius)
    variance = _box_mean(guide * guide, radius) - mean_guide**2
    covariance = _box_mean(guide * chroma, radius) - mean_guide * mean_chroma
    slope = covariance / (variance.clamp_min(0) + epsilon)
    return _box_mean(slope, radius), _box_mean(mean_chroma - slope * mean_guide, radius)


def _lerp_index(size: int, target: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Indices of both neighbours and the weight of the second for linear resizing, half-pixel centres."""
    position = (torch.arange(target, dtype=torch.float32, device=device) + 0.5) * (size / target) - 0.5
    position = position.clamp(0, size - 1)
    lower = position.floor().long()
    return lower, (lower + 1).clamp_max(size - 1), position - lower


def _widen(planes: torch.Tensor, width: int) -> torch.Tensor:
    """Resize `(channels, h, w)` linearly to `(channels, h, width)`."""
    left, right, weight = _lerp_index(planes.shape[-1], width, planes.device)
    return torch.lerp(planes[..., left], planes[..., right], weight)


def upsample_chroma(chroma: torch.Tensor, guide: torch.Tensor, luminance: torch.Tensor) -> torch.Tensor:
    """Edge-aware upsampling of chroma by the fast guided filter (He and Sun 2015).

    The linear model "chroma = slope * luma + offset" is fitted at the chroma's own resolution; its coefficients are
    upsampled linearly and applied to the full-resolution luma, so color follows the photograph's own edges.

    Args:
        chroma: `(channels, h, w)` at model resolution.
        guide: luma at model resolution, `(1, h, w)` in [0, 1].
        luminance: luma at full resolution, `(1, height, width)` in [0, 1].

    Returns:
        `(channels, height, width)`.
    """
    height, width = luminance.shape[-2:]
    coefficients = _widen(torch.cat(guided_coefficients(guide[None], chroma[None]), dim=1)[0], width)
    above, below, weight = _lerp_index(coefficients.shape[-2], height, coefficients.device)
    fine = torch.lerp(coefficients[:, above], coefficients[:, below], weight[:, None])
    slope, offset = fine.chunk(2)
    return torch.addcmul(offset, slope, luminance)


def colorize_luma(
    luminance: np.ndarray, chroma: torch.Tensor, guide: torch.Tensor, color_scale: float = 1.0
) -> np.ndarray:
    """The full-resolution picture: the photograph's own luma with upsampled chroma, in the luma's bit depth.

    The same as `merge_luma_chroma` of `upsample_chroma`, tile by tile: besides the result it needs only megabytes.

    Args:
        luminance: `(height, width)` uint8 or uint16.
        chroma: predicted Cb, Cr at model resolution, `(2, h, w)`, on the CPU.
        guide: luma at model resolution, `(1, h, w)` in [0, 1], on the CPU.
        color_scale: factor on the chroma; 0 is gray, 1 as predicted.

    Returns:
        RGB `(height, width, 3)` of the dtype of `luminance`.
    """
    if luminance.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"`luminance` must be uint8 or uint16, got {luminance.dtype}")
    peak = float(np.iinfo(luminance.dtype).max)
    height, width = luminance.shape
    coefficients = torch.cat(guided_coefficients(guide[None].float(), color_scale * chroma[None].float()), dim=1)
    coefficients = _widen(coefficients[0], width)
    above, below, weight = _lerp_index(coefficients.shape[-2], height, coefficients.device)
    output = np.empty((height, width, 3), luminance.dtype)
    tile_width = math.ceil(width / math.ceil(width / _TILE_PIXELS))  # equal parts of a row where it is too long
    tile_height = max(1, _TILE_PIXELS // tile_width)
    for top, left in itertools.product(range(0, height, tile_height), range(0, width, tile_width)):
        rows, columns = slice(top, top + tile_height), slice(left, left + tile_width)
        y = torch.from_numpy(luminance[rows, columns].astype(np.float32))[None] / peak
        band = coefficients[:, :, columns]
        slope, offset = torch.lerp(band[:, above[rows]], band[:, below[rows]], weight[rows, None]).chunk(2)
        rgb = merge_luma_chroma(y, torch.addcmul(offset, slope, y)).mul_(peak).round_()
        output[rows, columns] = rgb.permute(1, 2, 0).numpy()
    return output


def srgb_to_linear(image: torch.Tensor) -> torch.Tensor:
    """Undo sRGB's gamma encoding (IEC 61966-2-1); [0, 1] to [0, 1], elementwise."""
    return torch.where(image <= 0.04045, image / 12.92, ((image.clamp_min(0) + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(image: torch.Tensor) -> torch.Tensor:
    """Apply sRGB's gamma encoding; [0, 1] to [0, 1], elementwise."""
    return torch.where(image <= 0.0031308, image * 12.92, 1.055 * image.clamp_min(0.0031308) ** (1 / 2.4) - 0.055)


def _multiply(matrix: torch.Tensor, planes: torch.Tensor) -> torch.Tensor:
    """`matrix` `(3, 3)` times each pixel of `(batch, 3, height, width)`; in its own precision, autocast or not."""
    with torch.autocast(planes.device.type, enabled=False):
        return torch.einsum("ij,bjhw->bihw", matrix, planes)


def rgb_to_lab(image: torch.Tensor) -> torch.Tensor:
    """CIE L*a*b* (D65) of gamma-encoded sRGB.

    Args:
        image: `(batch, 3, height, width)` in [0, 1].

    Returns:
        `(batch, 3, height, width)`: L* in [0, 100], a* and b* roughly in [-110, 110].
    """
    matrix = image.new_tensor(_RGB_TO_XYZ)
    matrix = matrix / matrix.sum(dim=1, keepdim=True)  # relative to the white point
    xyz = _multiply(matrix, srgb_to_linear(image))
    f = torch.where(xyz > _LAB_EPSILON, xyz.clamp_min(_LAB_EPSILON) ** (1 / 3), (_LAB_KAPPA * xyz + 16) / 116)
    x, y, z = f.unbind(dim=1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=1)


def lab_to_rgb(lab: torch.Tensor) -> torch.Tensor:
    """Gamma-encoded sRGB of CIE L*a*b* (D65), `(batch, 3, height, width)`; values outside [0, 1] are out of gamut."""
    lightness, a, b = lab.unbind(dim=1)
    y = (lightness + 16) / 116
    f = torch.stack([y + a / 500, y, y - b / 200], dim=1)
    xyz = torch.where(f**3 > _LAB_EPSILON, f**3, (116 * f - 16) / _LAB_KAPPA)
    matrix = lab.new_tensor(_RGB_TO_XYZ)
    inverse = torch.linalg.inv(matrix / matrix.sum(dim=1, keepdim=True))
    return linear_to_srgb(_multiply(inverse, xyz))


def colorfulness(image: torch.Tensor, absolute: bool = False) -> torch.Tensor:
    """Colorfulness M of Hasler and Suesstrunk (2003), equation for natural images, on the 0 to 255 scale.

    Args:
        image: `(batch, 3, height, width)` gamma-encoded sRGB in [0, 1].
        absolute: take |R - G| and |(R + G) / 2 - B| first, as many colorization papers' code does; the numbers of
            the two variants must not be mixed.

    Returns:
        `(batch,)` tensor; 0 is gray, photographs average about 40.
    """
    red, green, blue = (255 * image).unbind(dim=1)
    rg, yb = (red - green).flatten(1), ((red + green) / 2 - blue).flatten(1)
    if absolute:
        rg, yb = rg.abs(), yb.abs()
    spread = (rg.var(dim=1, correction=0) + yb.var(dim=1, correction=0)).sqrt()
    return spread + 0.3 * (rg.mean(dim=1) ** 2 + yb.mean(dim=1) ** 2).sqrt()
