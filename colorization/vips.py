"""libvips and numpy: files opened, color profiles applied, pixels in and out of what libvips streams."""

import os
from typing import Any

import numpy as np
import pyvips

from .photo import ImageError, floats_to_uint16

_DTYPES = {"uchar": np.uint8, "ushort": np.uint16, "float": np.float32, "double": np.float64}
VIPS_FORMATS = {"uint8": "uchar", "uint16": "ushort"}
_PLAIN_SPACES = {"b-w", "grey16", "srgb", "rgb16", "scrgb", "cmyk", "multiband"}
_SIXTEEN_BITS = {"lab", "labs", "xyz", "yxy", "lch", "oklab"}  # spaces whose values have more than 8 bits
_PROFILE_SPACES = {"sgrey": b"GRAY", "srgb": b"RGB ", "cmyk": b"CMYK"}

# libtiff fills the missing end of an uncompressed file with zeros unless every error counts.
VIPS_LOADERS: dict[str, tuple[str, str]] = {
    "jpg": ("jpegload_source", "truncated"),
    "png": ("pngload_source", "truncated"),
    "webp": ("webpload_source", "truncated"),
    "gif": ("gifload_source", "truncated"),
    "tiff": ("tiffload_source", "error"),
    "avif": ("heifload_source", "truncated"),
}
PAGED = ("tiff", "gif", "webp", "avif")  # kinds of files that may hold several pictures


def open_vips(path: str, kind: str, page: int = 0) -> pyvips.Image:
    """Open a file (of several pages or frames, one) lazily: only its header is read here.

    A source is used because `new_from_file` takes brackets in a name for options, and because libvips would answer a
    second read of the same name from its cache.
    """
    loader, fail_on = VIPS_LOADERS[kind]
    pages = {"page": page} if kind in PAGED else {}
    source = pyvips.Source.new_from_file(os.fsencode(path))
    return getattr(pyvips.Image, loader)(source, access="sequential", fail_on=fail_on, **pages)


def integer_samples(image: pyvips.Image, name: str) -> pyvips.Image:
    """The image with 8- or 16-bit samples in gray, RGB or CMYK, with or without alpha."""
    if image.interpretation not in _PLAIN_SPACES:
        image = image.colourspace("rgb16" if image.interpretation in _SIXTEEN_BITS else "srgb")
    if image.format in ("float", "double"):
        profile, cmyk = field(image, "icc-profile-data"), image.interpretation == "cmyk"
        image = wrap(floats_to_uint16(vips_pixels(image), name), profile, cmyk)
    if image.format not in ("uchar", "ushort"):
        raise ImageError(f"{name}: has {image.format} samples; 8 or 16 bits, or floats in [0, 1], can be read")
    if image.bands > (5 if image.interpretation == "cmyk" else 4):
        raise ImageError(f"{name}: has {image.bands} channels; gray, RGB and CMYK can be read")
    return image


def to_srgb(image: pyvips.Image) -> pyvips.Image:
    """Convert 8- or 16-bit gray, RGB or CMYK by its embedded profile: 1 or 3 bands in sRGB, plus alpha.

    A profile that is broken or made for another kind of pixels is ignored, as browsers do.
    """
    if image.interpretation == "cmyk":
        # Without a usable profile CMYK means the press profile that comes with libvips.
        return _icc_transform(image, "srgb", input_profile="cmyk")
    target = "sgrey" if image.bands < 3 else "srgb"
    profile = field(image, "icc-profile-data") or b""
    if profile[16:20] != _PROFILE_SPACES[target] or _is_identity(profile, target):
        return image
    return _icc_transform(image, target)


def _icc_transform(image: pyvips.Image, target: str, **options: str) -> pyvips.Image:
    depth = 16 if image.format == "ushort" else 8
    # Black point compensation is what photo software does; without it CMYK black comes out as dark gray.
    return image.icc_transform(
        target, embedded=True, depth=depth, intent="relative", black_point_compensation=True, **options
    )


def _is_identity(profile: bytes, target: str) -> bool:
    """Whether a profile is the target space under one of its many names: skipping it saves time and rounding."""
    levels = np.arange(0, 256, 15, dtype=np.uint8)
    axes = np.meshgrid(*[levels] * (1 if target == "sgrey" else 3))
    colors = np.stack(axes, axis=-1).reshape(1, -1, len(axes))
    converted = vips_pixels(_icc_transform(wrap(colors, profile), target))
    return bool(np.abs(converted.astype(np.int16) - colors).max() <= 1)


def vips_pixels(image: pyvips.Image) -> np.ndarray:
    """Run the pipeline behind an image: (H, W, bands). The array owns the memory that libvips filled."""
    return np.frombuffer(image.write_to_memory(), _DTYPES[image.format]).reshape(
        image.height, image.width, image.bands
    )


def wrap(pixels: np.ndarray, profile: bytes | None = None, cmyk: bool = False) -> pyvips.Image:
    """A libvips image over the memory of pixels (H, W, C), uint8 or uint16, copied only if not contiguous."""
    height, width, bands = pixels.shape
    format = VIPS_FORMATS[pixels.dtype.name]
    gray, rgb = ("b-w", "srgb") if format == "uchar" else ("grey16", "rgb16")
    space = "cmyk" if cmyk else gray if bands < 3 else rgb
    native = np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder("="))
    image = pyvips.Image.new_from_memory(native.data, width, height, bands, format).copy(interpretation=space)
    if profile:
        image.set_type(pyvips.GValue.blob_type, "icc-profile-data", profile)
    return image


def field(image: pyvips.Image, name: str) -> Any:
    """A metadata field, None where the image has none."""
    return image.get(name) if image.get_typeof(name) else None


def output_image(pixels: np.ndarray, alpha: np.ndarray | None, sixteen_bits: bool, keep_alpha: bool) -> pyvips.Image:
    """The picture to encode, as a pipeline over the memory of pixels (H, W, 3) and alpha (H, W)."""
    image = wrap(pixels)
    if not sixteen_bits:
        image = _to_8_bits(image)
    if alpha is None:
        return image
    opacity = wrap(alpha[..., None])
    if image.format == "uchar":
        opacity = _to_8_bits(opacity)
    elif opacity.format == "uchar":
        opacity = (opacity * 257).cast("ushort")
    image = image.bandjoin(opacity)
    return image if keep_alpha else image.flatten(background=255)


def _to_8_bits(image: pyvips.Image) -> pyvips.Image:
    """Round 16-bit samples to v * 255 / 65535; libvips' own reduction drops the low byte."""
    if image.format == "uchar":
        return image
    space = "b-w" if image.bands == 1 else "srgb"
    # The half turns the truncation of `uchar` into rounding; v / 257 is never within 1/1000 of a tie.
    return image.linear(1 / 257, 0.5, uchar=True).copy(interpretation=space)
