"""Reading photographs as full-resolution luminance, and writing colored ones.

Real files are 16-bit, CMYK, rotated by a tag, described by a color profile, or cut short by a broken copy.
`read_image` turns them into a `Photo` in sRGB or refuses with one line that names the file; `write_image` keeps what
belongs to the photograph (transparency, resolution, EXIF) and records how its colors came about.

Files are read and written by libvips, which streams: a picture is never held more than once as decoded pixels. Pillow
reads the two kinds that libvips has no loader for. Only loaders of plain raster formats are ever called, whatever the
file claims to be. All functions may be called from several threads at once.
"""

import os
import stat
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyvips
from PIL import BmpImagePlugin, Image, PpmImagePlugin

from . import tiff
from .atomic import replacing, sha256_of
from .errors import ColorizationWarning
from .image_metadata import JPEG_SEGMENT_LIMIT, add_tiff_tags, stated_dpi, vips_origin, with_metadata
from .in_memory import is_tensor, photo_from_array, photo_from_pillow, pillow_pixels, tensor_to_array
from .labels import recorded_settings, settings_json, xmp_packet
from .photo import (
    DEFAULT_MAX_PIXELS,
    INPUT,
    ImageError,
    Origin,
    Photo,
    check_size,
    input_record,
    make_photo,
    one_line_errors,
)
from .vips import (
    PAGED,
    VIPS_FORMATS,
    VIPS_LOADERS,
    field,
    integer_samples,
    open_vips,
    output_image,
    to_srgb,
    vips_pixels,
)

if TYPE_CHECKING:
    import torch

# The plugin classes, not Image.open: they stop after the header without consulting Pillow's global pixel limit.
_PILLOW_READERS = {"bmp": BmpImagePlugin.BmpImageFile, "ppm": PpmImagePlugin.PpmImageFile}
_AVIF_FILM = "avif film"
_SAVERS: dict[str, tuple[str, dict[str, Any]]] = {
    ".jpg": ("jpegsave", {}),
    ".jpeg": ("jpegsave", {}),
    # Level 3 with one fixed filter is a third of the time of level 6 with all filters, for 3% more bytes.
    ".png": ("pngsave", {"compression": 3, "filter": "sub"}),
    ".webp": ("webpsave", {"effort": 2, "lossless": True}),  # its lossy kind has 220 levels of luminance
    ".tif": ("tiffsave", {"compression": "deflate", "predictor": "horizontal"}),
    ".tiff": ("tiffsave", {"compression": "deflate", "predictor": "horizontal"}),
}
_KINDS = {"jpegsave": "jpg", "pngsave": "png", "webpsave": "webp", "tiffsave": "tiff"}
_SIXTEEN_BITS = ("pngsave", "tiffsave")


def read_image(
    path: str | os.PathLike,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    keep_color: bool = False,
    page: int | None = None,
) -> Photo:
    """Read a JPEG, PNG, WebP, TIFF, GIF, BMP, PPM or AVIF file.

    Embedded color profiles are converted to sRGB, the EXIF orientation is applied. Floating-point TIFF must hold
    gamma-encoded values in [0, 1] and is read as 16 bits.

    Args:
        path: the file; its suffix does not matter.
        max_pixels: refuse larger pictures, before decoding them.
        keep_color: also keep the colors, as `Photo.rgb`.
        page: one of `list_pages`; None takes the first, with a warning if there are several.

    Raises:
        ImageError: if the file is missing, not an image, damaged, cut short, too large or of an unsupported kind.
    """
    path = os.fsdecode(path)
    kind = _sniff(path)
    if kind in _PILLOW_READERS:
        return _read_with_pillow(path, kind, max_pixels, keep_color)
    with one_line_errors(path):
        pages = list_pages(path)
        if page is None:
            page = pages[0]
            if len(pages) > 1:
                message = f"{path} has {len(pages)} pages or frames: only the first is read"
                warnings.warn(message, ColorizationWarning, stacklevel=2)
        elif page not in pages:
            raise ImageError(f"{path}: `page` must be one of {pages}, got {page}")
        image = open_vips(path, kind, page)
        check_size(path, image.width, image.height, max_pixels)
        origin = vips_origin(image, path, kind, sha256_of(path), page if len(pages) > 1 else None)
        if kind == "tiff":
            image = _without_extra_channels(image, path, page)
        pixels = vips_pixels(to_srgb(integer_samples(image, path)))
    return make_photo(pixels, origin, keep_color)


def list_pages(path: str | os.PathLike) -> list[int]:
    """The numbers of a file's pages or frames that are pictures, at least one: previews and masks are left out.

    Raises:
        ImageError: the file is none that can be read.
    """
    path = os.fsdecode(path)
    kind = _sniff(path)
    if kind not in PAGED:
        return [0]
    with one_line_errors(path):
        if kind == "tiff":
            with open(path, "rb") as file:
                if pages := tiff.pictures(file, path):
                    return [page.number for page in pages]
        return list(range(field(open_vips(path, kind), "n-pages") or 1))


def _without_extra_channels(image: pyvips.Image, path: str, number: int) -> pyvips.Image:
    """The color channels of a TIFF file's page and its transparency; selections, infrared and the like go."""
    with open(path, "rb") as file:
        page = next((page for page in tiff.read_pages(file) if page.number == number), None)
    if page is None:
        return image
    tiff.check_readable(page, path)
    colors, alpha = page.channels
    if image.bands != page.samples or image.bands == colors:  # a palette has been looked up
        return image
    space = image.interpretation
    image, full = image.extract_band(0, n=colors), image
    if alpha is not None:
        image = image.bandjoin(full.extract_band(alpha))
    return image.copy(interpretation=space)


def as_photo(
    image: "str | os.PathLike | Photo | Image.Image | np.ndarray | torch.Tensor",
    max_pixels: int = DEFAULT_MAX_PIXELS,
    keep_color: bool = False,
) -> Photo:
    """Turn anything that holds one picture into a `Photo`.

    Args:
        image: one of
            - a path, see `read_image`;
            - a `Photo`, returned as it is;
            - a PIL image of any mode ("I" with values in [0, 65535], "F" in [0, 1]), its EXIF orientation applied;
            - an array (H, W) or (H, W, C), C = 1, 2 (gray, alpha), 3 or 4 (RGB, alpha);
            - a tensor (H, W) or (C, H, W), C = 1, 3 or 4.
            Arrays and tensors are uint8, uint16, or floating point in [0, 1], which becomes uint16.
        max_pixels: refuse larger pictures.
        keep_color: also keep the colors, as `Photo.rgb`.

    Raises:
        ImageError: if the input has another type, shape, dtype or range, or is too large.
    """
    if isinstance(image, Photo):
        if keep_color and image.rgb is None:
            raise ImageError(f"{image.name}: was read without its colors; read it with keep_color=True")
        return image
    if isinstance(image, (str, os.PathLike)):
        return read_image(image, max_pixels, keep_color)
    if isinstance(image, Image.Image):
        return photo_from_pillow(image, max_pixels, keep_color)
    if is_tensor(image):
        image = tensor_to_array(image)
    if isinstance(image, np.ndarray):
        return photo_from_array(image, max_pixels, keep_color)
    raise ImageError(
        f"image: expected a path, PIL image, numpy array, torch tensor or Photo, got {type(image).__name__}"
    )


def write_image(
    path: str | os.PathLike,
    pixels: np.ndarray,
    source: Photo | None = None,
    settings: Mapping[str, Any] | None = None,
    quality: int = 95,
) -> None:
    """Write a colored picture as JPEG, PNG, WebP or TIFF, whichever the suffix of `path` names.

    The file appears under its name only when it is complete. Its metadata always says "AI-colorized", for people and
    (XMP, IPTC 2025.1) for programs. PNG and TIFF keep every value, WebP every value of 8 bits; JPEG is lossy.

    Args:
        path: ends in .jpg, .jpeg, .png, .webp, .tif or .tiff.
        pixels: (H, W, 3) sRGB, uint8 or uint16; 16 bits are kept in PNG and TIFF and rounded to 8 elsewhere.
        source: the photograph that was colored; its transparency, EXIF, XMP, IPTC records and resolution are kept, and
            its name and digest recorded with the settings. JPEG has no transparency: there the picture is laid over
            white.
        settings: recorded as JSON, see `read_settings`. A JPEG file holds 64 KB: of more it holds what fits, and the
            digests of the others as "omitted".
        quality: 1 to 100, for JPEG.

    Raises:
        ImageError: if an argument is unusable or the file cannot be written; nothing is left on disk then.
    """
    path = os.fsdecode(path)
    suffix = os.path.splitext(path)[1].lower()
    if suffix not in _SAVERS:
        raise ImageError(f"{path}: cannot write {suffix or 'a name without suffix'!r}, only {', '.join(_SAVERS)}")
    if not 1 <= quality <= 100:
        raise ImageError(f"{path}: quality must be in [1, 100], got {quality}")
    alpha = source.alpha if source else None
    _check_output(path, pixels, alpha)
    saver, options = _SAVERS[suffix]
    if settings is not None and source is not None and source.digest is not None:
        settings = {INPUT: input_record(source.name, source.digest, source.page)} | dict(settings)
    recorded = settings_json(path, settings)
    packet = xmp_packet(recorded, source, JPEG_SEGMENT_LIMIT if saver == "jpegsave" else None)
    if saver == "jpegsave":
        options = options | {"Q": quality}
    with one_line_errors(path, "cannot be written"), replacing(path) as temporary:
        image = output_image(pixels, alpha, sixteen_bits=saver in _SIXTEEN_BITS, keep_alpha=saver != "jpegsave")
        image = with_metadata(image, source, packet, _KINDS[saver])
        if recorded and saver == "pngsave":  # XMP holds them too, but few programs show it
            image.set_type(pyvips.GValue.gstr_type, "png-comment-1-Settings", recorded)
        getattr(image, saver)(os.fsencode(temporary), **options)
        if saver == "tiffsave":
            add_tiff_tags(temporary, source, (image.width, image.height))


def read_settings(path: str | os.PathLike) -> dict[str, Any] | None:
    """The settings recorded by `write_image`, None for a file without them.

    Raises:
        ImageError: if the file is missing or not an image.
    """
    return recorded_settings(read_packet(path))


def read_packet(path: str | os.PathLike) -> bytes | str | None:
    """The XMP packet of a file, None where it has none.

    Raises:
        ImageError: if the file is missing or not an image.
    """
    path = os.fsdecode(path)
    kind = _sniff(path)
    if kind in _PILLOW_READERS:
        return None
    with one_line_errors(path):
        return field(open_vips(path, kind), "xmp-data")


def _sniff(path: str) -> str:
    """Kind of the file at `path`, by its first bytes; the suffix is often wrong. Raises `ImageError` otherwise."""
    with one_line_errors(path):
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise ImageError(f"{path}: is a directory, not an image file")
        if not stat.S_ISREG(mode):  # opening a named pipe would wait for its writer
            raise ImageError(f"{path}: is not a regular file")
        with open(path, "rb") as file:
            head = file.read(16)
    if not head:
        raise ImageError(f"{path}: the file is empty")
    kind = _kind_of(head)
    if kind == _AVIF_FILM:
        raise ImageError(f"{path}: is an AVIF animation, which cannot be read; GIF and WebP can")
    if kind is None:
        raise ImageError(f"{path}: not an image of a known kind ({', '.join([*VIPS_LOADERS, *_PILLOW_READERS])})")
    return kind


def _kind_of(head: bytes) -> str | None:
    """Kind of the file that begins with these 16 bytes."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head[4:8] == b"ftyp":
        return {b"avif": "avif", b"avis": _AVIF_FILM}.get(head[8:12])
    if head[:1] == b"P" and head[1:2] in b"123456" and head[2:3].isspace():
        return "ppm"
    magic = {
        b"\xff\xd8\xff": "jpg",
        b"\x89PNG\r\n\x1a\n": "png",
        b"GIF87a": "gif",
        b"GIF89a": "gif",
        **dict.fromkeys(tiff.TIFF_STARTS, "tiff"),
        b"BM": "bmp",
    }
    return next((kind for start, kind in magic.items() if head.startswith(start)), None)


def _read_with_pillow(path: str, kind: str, max_pixels: int, keep_color: bool) -> Photo:
    name = Path(path).name
    with one_line_errors(path), open(path, "rb") as file:
        image = _PILLOW_READERS[kind](file)
        check_size(path, *image.size, max_pixels)
        pixels = pillow_pixels(image, path)
    dpi = stated_dpi(None, image.info.get("dpi"))
    return make_photo(pixels, Origin(name, kind, dpi=dpi, digest=sha256_of(path)), keep_color)


def _check_output(path: str, pixels: np.ndarray, alpha: np.ndarray | None) -> None:
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.size == 0:
        raise ImageError(f"{path}: pixels must have the shape (H, W, 3), got {pixels.shape}")
    if pixels.dtype.name not in VIPS_FORMATS:
        raise ImageError(f"{path}: pixels must be uint8 or uint16, got {pixels.dtype}")
    if alpha is not None and alpha.shape != pixels.shape[:2]:
        raise ImageError(f"{path}: pixels of shape {pixels.shape} do not fit the source's alpha {alpha.shape}")
