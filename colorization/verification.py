"""Whether nothing but color was changed: a result measured against the photograph that it was made of."""

import os
from dataclasses import dataclass

import numpy as np
from PIL import ExifTags, Image
from scipy import ndimage

from .image_io import read_image
from .iptc import described_fields
from .labels import NAMESPACES, property_names
from .photo import Photo

LIGHTNESS_LIMIT = 0.3  # mean |delta L*| up to which the luminance counts as kept: what JPEG of good quality costs
_STRIP_PIXELS = 1 << 20
_EDGE_SIDE = 1024  # pixels: edges and shifts are measured on copies and crops of at most this size
_EDGE_SHARE = 0.1  # of the pixels, those where most changes, are edges
_LEAST_EDGE = 2 / 255  # change per pixel below which nothing is an edge
_NEAR = 2  # pixels
# What has to change: how the pixels are stored, and where in the file things are.
_STORAGE_TAGS = {
    *(ExifTags.Base[name] for name in ("Orientation", "XResolution", "YResolution", "ResolutionUnit", "ColorSpace")),
    *(ExifTags.Base[name] for name in ("ExifImageWidth", "ExifImageHeight", "YCbCrPositioning", "ExifOffset")),
    *(ExifTags.Base[name] for name in ("GPSInfo", "ExifInteroperabilityOffset", "ExifVersion", "FlashPixVersion")),
    *(ExifTags.Base[name] for name in ("ComponentsConfiguration", "JpegIFOffset", "JpegIFByteCount", "Compression")),
}


@dataclass(frozen=True)
class Verification:
    """What a comparison of an original with its result has found. Luminance is Rec. 601 luma, which coloring keeps.

    Attributes:
        original_size, result_size: (width, height) of the upright pictures. Where they differ the next six are None.
        luminance_mean, luminance_max: difference in 8-bit levels (of 255).
        luminance_share: share of pixels that differ by more than one level, in [0, 1].
        lightness_mean: mean |delta L*| (CIELAB) of the two pictures in gray.
        shift: (x, y) by which the result is displaced, in pixels.
        chroma_edges: share of the result's chroma edges within two pixels of a luminance edge, and the share of all
            pixels that are; None where there are no chroma edges.
        kept, lost: names of the original's metadata.
    """

    original_size: tuple[int, int]
    result_size: tuple[int, int]
    luminance_mean: float | None
    luminance_max: float | None
    luminance_share: float | None
    lightness_mean: float | None
    shift: tuple[int, int] | None
    chroma_edges: tuple[float, float] | None
    kept: list[str]
    lost: list[str]

    @property
    def problems(self) -> list[str]:
        """What was changed besides color, in words; empty where nothing was."""
        found = []
        if self.original_size != self.result_size:
            sizes = [f"{width} x {height}" for width, height in (self.result_size, self.original_size)]
            found.append(f"size {sizes[0]} in place of {sizes[1]}")
        if self.shift not in (None, (0, 0)):
            found.append("displaced by {} x {} pixels".format(*self.shift))
        if self.lightness_mean is not None and self.lightness_mean > LIGHTNESS_LIMIT:
            found.append(f"mean lightness difference {self.lightness_mean:.2f} (at most {LIGHTNESS_LIMIT} is kept)")
        if self.lost:
            found.append(f"metadata lost: {', '.join(self.lost)}")
        return found


def verify(original: str | os.PathLike, result: str | os.PathLike) -> Verification:
    """Measure what differs between a photograph and its colored version besides the color.

    Args:
        original: file of the photograph; of one in color the luminance counts.
        result: file of the colored picture.

    Raises:
        ImageError: (a ValueError) a file cannot be read; the message names it.
    """
    before, after = read_image(original), read_image(result, keep_color=True)
    kept, lost = _compare_metadata(before, after)
    if before.size != after.size:
        return Verification(before.size, after.size, None, None, None, None, None, None, kept, lost)
    luminance = _compare_luminance(before, after)
    return Verification(before.size, after.size, *luminance, _shift(before, after), _chroma_edges(after), kept, lost)


# Luminance


def _compare_luminance(before: Photo, after: Photo) -> tuple[float, float, float, float]:
    """Mean and largest difference in levels of 255, share of pixels over one, mean |delta L*|."""
    over_white = (before.alpha is None) != (after.alpha is None)  # JPEG has no transparency
    total = lightness = largest = count = 0.0
    step = max(1, _STRIP_PIXELS // before.luma.shape[1])
    for top in range(0, before.luma.shape[0], step):
        rows = slice(top, top + step)
        old, new = (_levels(photo, rows, over_white) for photo in (before, after))
        difference = np.abs(old - new)
        total += difference.sum()
        largest = max(largest, float(difference.max()))
        count += np.count_nonzero(difference > 1 + 1e-3)  # 16-bit levels are no multiples of a 255th
        lightness += np.abs(lightness_of_gray(old) - lightness_of_gray(new)).sum()
    return total / before.luma.size, largest, count / before.luma.size, lightness / before.luma.size


def _levels(photo: Photo, rows: slice, over_white: bool) -> np.ndarray:
    """Luma (h, w) of some rows in [0, 255], with its transparency laid over white if asked for."""
    scale = np.iinfo(photo.luma.dtype).max
    levels = photo.luma[rows] * (255 / scale)
    if over_white and photo.alpha is not None:
        opacity = photo.alpha[rows] / scale
        levels = levels * opacity + 255 * (1 - opacity)
    return levels


def lightness_of_gray(levels: np.ndarray) -> np.ndarray:
    """CIELAB L* of neutral sRGB pixels with these levels in [0, 255]."""
    value = levels / 255
    light = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    return np.where(light > 216 / 24389, 116 * np.cbrt(light) - 16, light * 24389 / 27)


# Geometry and edges


def _shift(before: Photo, after: Photo) -> tuple[int, int]:
    """(x, y) of the peak of the phase correlation, on crops of the middle."""
    spectra = []
    for photo in (before, after):
        height, width = photo.luma.shape
        top, left = (max(0, (side - _EDGE_SIDE) // 2) for side in (height, width))
        crop = photo.luma[top : top + _EDGE_SIDE, left : left + _EDGE_SIDE].astype(np.float32)
        spectra.append(np.fft.rfft2(crop - crop.mean()))
    product = spectra[1] * spectra[0].conj()
    correlation = np.fft.irfft2(product / np.maximum(np.abs(product), 1e-6), s=crop.shape)
    place = np.unravel_index(np.argmax(correlation), correlation.shape)
    y, x = (int(at if at <= side // 2 else at - side) for at, side in zip(place, correlation.shape, strict=True))
    return x, y


def _chroma_edges(photo: Photo) -> tuple[float, float] | None:
    rgb = photo.rgb if photo.rgb.dtype == np.uint8 else (photo.rgb >> 8).astype(np.uint8)
    picture = Image.fromarray(np.ascontiguousarray(rgb))
    picture.thumbnail((_EDGE_SIDE, _EDGE_SIDE))
    luma, *chroma = np.moveaxis(np.asarray(picture.convert("YCbCr"), np.float32) / 255, -1, 0)
    edges = _strongest(np.hypot(*(_gradient(channel) for channel in chroma)))
    if not edges.any():
        return None
    near = ndimage.maximum_filter(_strongest(_gradient(luma)), size=2 * _NEAR + 1)
    return float(near[edges].mean()), float(near.mean())


def _strongest(gradient: np.ndarray) -> np.ndarray:
    return gradient > max(_LEAST_EDGE, float(np.quantile(gradient, 1 - _EDGE_SHARE)))


def _gradient(channel: np.ndarray) -> np.ndarray:
    """Change per pixel."""
    return np.hypot(ndimage.sobel(channel, 0), ndimage.sobel(channel, 1)) / 8


# Metadata


def _compare_metadata(before: Photo, after: Photo) -> tuple[list[str], list[str]]:
    """Names of the original's metadata that the result has, and of those that it lacks."""
    kept: dict[str, bool] = {}
    old, new = _exif_values(before.exif), _exif_values(after.exif)
    for tag, value in old.items():
        same = tag in new and (tag[1] == ExifTags.Base.MakerNote or new[tag] == value)
        kept[f"EXIF {ExifTags.TAGS.get(tag[1], tag[1]) if tag[0] != 'GPS' else f'GPS {tag[1]}'}"] = same
    present = property_names(after.xmp)
    for name in sorted(property_names(before.xmp)):
        kept[f"XMP {name.rpartition('}')[2]}"] = name in present
    for field in described_fields(before.iptc):
        kept[f"IPTC {field.name}"] = f"{{{NAMESPACES[field.prefix]}}}{field.name}" in present
    if before.dpi is not None:
        kept["resolution"] = after.dpi is not None and np.allclose(before.dpi, after.dpi, atol=0.1)
    return [name for name, is_kept in kept.items() if is_kept], [name for name, is_kept in kept.items() if not is_kept]


def _exif_values(exif: bytes | None) -> dict[tuple[str, int], str]:
    """Values as text, by directory and tag."""
    parsed = Image.Exif()
    if exif:
        parsed.load(exif)
    directories = {"": parsed, "Exif": parsed.get_ifd(ExifTags.IFD.Exif), "GPS": parsed.get_ifd(ExifTags.IFD.GPSInfo)}
    return {
        (name, tag): str(value).strip("\0 ")
        for name, directory in directories.items()
        for tag, value in directory.items()
        if name == "GPS" or tag not in _STORAGE_TAGS
    }
