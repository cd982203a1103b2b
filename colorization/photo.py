"""A photograph as coloring needs it: upright, in sRGB, its luminance at full resolution."""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyvips

INPUT = "input"  # in a result's settings: which file it was made of
DEFAULT_MAX_PIXELS = 200_000_000
RAISE_LIMIT = "raise it with max_pixels (on the command line --max-pixels)"

# Rec. 601 in 16-bit fixed point, as in Pillow's convert("L"). The weights add up to 65536, so the largest sum,
# 65535 * 65536 + 32768, still fits uint32.
_LUMA_WEIGHTS = (19595, 38470, 7471)
_LUMA_HALF = 0x8000
_STRIP_PIXELS = 1 << 16  # pixels worked on at once where a temporary copy is needed: small enough for the L2 cache


class ImageError(ValueError):
    """An image file or array that cannot be used; the message is one line and names the input."""


@dataclass(frozen=True, eq=False)
class Photo:
    """An upright photograph in sRGB, reduced to what coloring needs.

    Attributes:
        luma: (H, W) uint8 or uint16, Rec. 601 luma of the gamma-encoded sRGB values.
        alpha: (H, W) with the dtype of `luma`, not premultiplied, or None for an opaque picture.
        rgb: (H, W, 3) with the dtype of `luma`, only where the colors were asked for.
        format: kind of the file ("jpg", "png", "webp", "tiff", "bmp", "gif", ...), "" for in-memory input.
        exif: raw EXIF beginning with `Exif\\0\\0`, its orientation reset and its thumbnail unlinked.
        dpi: (horizontal, vertical) resolution, None where the file states none or only the meaningless default.
        name: file name, or "image", for messages.
        xmp: the XMP packet as it was read, None where there is none.
        iptc: IPTC records (IIM), None where there are none.
        digest: SHA-256 of the file, hexadecimal; None for in-memory input.
        page: of a file of several pages, from 0.
    """

    luma: np.ndarray
    alpha: np.ndarray | None
    rgb: np.ndarray | None
    format: str
    exif: bytes | None
    dpi: tuple[float, float] | None
    name: str
    xmp: bytes | str | None = None
    iptc: bytes | None = None
    digest: str | None = None
    page: int | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        height, width = self.luma.shape
        return width, height


@dataclass(frozen=True)
class Origin:
    """What is known about a picture besides its pixels."""

    name: str
    format: str = ""
    exif: bytes | None = None
    dpi: tuple[float, float] | None = None
    orientation: int = 1
    xmp: bytes | str | None = None
    iptc: bytes | None = None
    digest: str | None = None
    page: int | None = None


def input_record(name: str, digest: str, page: int | None) -> dict[str, Any]:
    """What a result says of the file, and the page of it, that it was made of."""
    return {"file": name, "sha256": digest} | ({} if page is None else {"page": page})


def make_photo(pixels: np.ndarray, origin: Origin, keep_color: bool) -> Photo:
    """Make a photo of pixels (H, W, C), uint8 or uint16, in gray (C = 1), gray and alpha, RGB, or RGB and alpha."""
    channels = pixels.shape[2]
    colored = channels >= 3
    rgb = None
    if keep_color:
        rgb = pixels[..., :3] if colored else np.repeat(pixels[..., :1], 3, axis=2)
    luma = _luma(pixels) if colored else pixels[..., 0]
    alpha = pixels[..., -1] if channels in (2, 4) else None
    swap = origin.orientation >= 5
    return Photo(
        luma=_upright(luma, origin.orientation),
        alpha=None if alpha is None else _upright(alpha, origin.orientation),
        rgb=None if rgb is None else _upright(rgb, origin.orientation),
        format=origin.format,
        exif=origin.exif,
        dpi=origin.dpi[::-1] if origin.dpi and swap else origin.dpi,
        name=origin.name,
        xmp=origin.xmp,
        iptc=origin.iptc,
        digest=origin.digest,
        page=origin.page,
    )


def _luma(pixels: np.ndarray) -> np.ndarray:
    """Rec. 601 luma (H, W) of pixels (H, W, 3 or more), in their dtype, rounded as Pillow rounds."""
    luma = np.empty(pixels.shape[:2], pixels.dtype)
    for rows in _strips(luma.shape):
        total = np.full(luma[rows].shape, _LUMA_HALF, np.uint32)
        for channel, weight in enumerate(_LUMA_WEIGHTS):
            total += pixels[rows, :, channel].astype(np.uint32) * np.uint32(weight)
        total >>= 16
        luma[rows] = total
    return luma


def _strips(shape: tuple[int, ...]) -> Iterator[slice]:
    """Slices of rows that cover an array (H, W, ...), each of about `_STRIP_PIXELS` pixels."""
    step = max(1, _STRIP_PIXELS // shape[1])
    return (slice(top, top + step) for top in range(0, shape[0], step))


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Undo an EXIF orientation (1 to 8) of pixels (H, W, ...); the result is contiguous."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    rows = -1 if orientation in (3, 4, 7, 8) else 1
    columns = -1 if orientation in (2, 3, 6, 7) else 1
    return np.ascontiguousarray(pixels[::rows, ::columns])


def floats_to_uint16(values: np.ndarray, name: str) -> np.ndarray:
    """Scale floats (H, W, ...) in [0, 1] to uint16; an excess below half a 16-bit step is a rounding error."""
    result = np.empty(values.shape, np.uint16)
    for rows in _strips(values.shape):
        with np.errstate(over="ignore", invalid="ignore"):
            scaled = np.rint(values[rows].astype(np.float32) * 65535)
        # Written so that NaN, for which every comparison is false, is refused too.
        if not (scaled.min() >= 0 and scaled.max() <= 65535):
            wrong = values[rows][~((scaled >= 0) & (scaled <= 65535))].flat[0]
            raise ImageError(f"{name}: floating-point values must be in [0, 1], got {wrong}")
        result[rows] = scaled
    return result


def check_size(name: str, width: int, height: int, max_pixels: int) -> None:
    if width < 1 or height < 1:
        raise ImageError(f"{name}: has no pixels ({width} x {height})")
    if width * height > max_pixels:
        raise ImageError(
            f"{name}: {width} x {height} = {width * height:,} pixels exceed the limit of {max_pixels:,}; {RAISE_LIMIT}"
        )


@contextmanager
def one_line_errors(name: str, trouble: str = "damaged, cut short, without pixels or unsupported") -> Iterator[None]:
    """Turn whatever the codecs and the operating system raise into an `ImageError` that names the image."""
    pyvips.vips_lib.vips_error_clear()  # what libvips noted of earlier images and told nobody
    try:
        yield
    except ImageError:
        raise
    except (pyvips.Error, OSError, SyntaxError, ValueError, struct.error) as error:
        if isinstance(error, OSError) and error.strerror:
            raise ImageError(f"{name}: {error.strerror}") from error
        reason = error_line(error)
        raise ImageError(f"{name}: {trouble}" + (f" ({reason})" if reason else "")) from error


def error_line(error: Exception) -> str:
    """First line of an error's text. libvips keeps one text for all threads, so it is a hint, not a diagnosis."""
    lines = str(getattr(error, "detail", error)).splitlines()
    return next((line.strip() for line in lines if line.strip()), "")
