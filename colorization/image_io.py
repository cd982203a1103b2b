"""Reading photographs as full-resolution luminance, and writing colored ones.

Real files are 16-bit, CMYK, rotated by a tag, described by a color profile, or cut short by a broken copy.
`read_image` turns them into a `Photo` in sRGB or refuses with one line that names the file; `write_image` keeps what
belongs to the photograph (transparency, resolution, EXIF) and records how its colors came about.

Files are read and written by libvips, which streams: a picture is never held more than once as decoded pixels. Pillow
reads the two kinds that libvips has no loader for. Only loaders of plain raster formats are ever called, whatever the
file claims to be. All functions may be called from several threads at once.
"""

import json
import os
import secrets
import stat
import struct
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import numpy as np
import pyvips
from PIL import BmpImagePlugin, ExifTags, Image, ImageCms, PpmImagePlugin, TiffImagePlugin

if TYPE_CHECKING:
    import torch


DEFAULT_MAX_PIXELS = 200_000_000

# Rec. 601 in 16-bit fixed point, as in Pillow's convert("L"). The weights add up to 65536, so the largest sum,
# 65535 * 65536 + 32768, still fits uint32.
_LUMA_WEIGHTS = (19595, 38470, 7471)
_LUMA_HALF = 0x8000
_STRIP_PIXELS = 1 << 16  # pixels worked on at once where a temporary copy is needed: small enough for the L2 cache

_ORIENTATION_TAG = 0x0112
# What a TIFF file says of the photograph; its other tags describe how the pixels are stored.
_TIFF_TAGS = ("ImageDescription", "Make", "Model", "Software", "DateTime", "Artist", "Copyright")
_DESCRIPTION_TAG = 0x010E
_RESOLUTION_TAGS = (0x011A, 0x011B)
_RESOLUTION_UNIT_TAG = 0x0128
_EXIF_PREFIX = b"Exif\x00\x00"
_JPEG_SEGMENT_LIMIT = 65_000  # bytes of XMP that surely fit into one marker segment

_MM_PER_INCH = 25.4
_DEFAULT_DPI = 72.0
_MADE_UP_DPI = (25.4, _DEFAULT_DPI)  # what libvips reports for files without a resolution

_CREATOR = "Cold Colorizer"
_LABEL = "AI-colorized"
_SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
_SETTINGS_NAMESPACE = "urn:cold-colorizer:1.0:"

_DTYPES = {"uchar": np.uint8, "ushort": np.uint16, "float": np.float32, "double": np.float64}
_VIPS_FORMATS = {"uint8": "uchar", "uint16": "ushort"}
_PLAIN_SPACES = {"b-w", "grey16", "srgb", "rgb16", "scrgb", "cmyk", "multiband"}
_PROFILE_SPACES = {"sgrey": b"GRAY", "srgb": b"RGB ", "cmyk": b"CMYK"}

# libtiff fills the missing end of an uncompressed file with zeros unless every error counts.
_VIPS_LOADERS: dict[str, tuple[str, str]] = {
    "jpg": ("jpegload_source", "truncated"),
    "png": ("pngload_source", "truncated"),
    "webp": ("webpload_source", "truncated"),
    "gif": ("gifload_source", "truncated"),
    "tiff": ("tiffload_source", "error"),
    "avif": ("heifload_source", "truncated"),
}
# The plugin classes, not Image.open: they stop after the header without consulting Pillow's global pixel limit.
_PILLOW_READERS = {"bmp": BmpImagePlugin.BmpImageFile, "ppm": PpmImagePlugin.PpmImageFile}

_SAVERS: dict[str, tuple[str, dict[str, Any]]] = {
    ".jpg": ("jpegsave", {}),
    ".jpeg": ("jpegsave", {}),
    # Level 3 with one fixed filter is a third of the time of level 6 with all filters, for 3% more bytes.
    ".png": ("pngsave", {"compression": 3, "filter": "sub"}),
    ".webp": ("webpsave", {"effort": 2}),
}


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
    """

    luma: np.ndarray
    alpha: np.ndarray | None
    rgb: np.ndarray | None
    format: str
    exif: bytes | None
    dpi: tuple[float, float] | None
    name: str

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        height, width = self.luma.shape
        return width, height


@dataclass(frozen=True)
class _Origin:
    """What is known about a picture besides its pixels."""

    name: str
    format: str = ""
    exif: bytes | None = None
    dpi: tuple[float, float] | None = None
    orientation: int = 1


def read_image(path: str | os.PathLike, max_pixels: int = DEFAULT_MAX_PIXELS, keep_color: bool = False) -> Photo:
    """Read a JPEG, PNG, WebP, TIFF, GIF, BMP, PPM or AVIF file (of several pages or frames, the first).

    Embedded color profiles are converted to sRGB, the EXIF orientation is applied. Floating-point TIFF must hold
    gamma-encoded values in [0, 1] and is read as 16 bits.

    Args:
        path: the file; its suffix does not matter.
        max_pixels: refuse larger pictures, before decoding them.
        keep_color: also keep the colors, as `Photo.rgb`.

    Raises:
        ImageError: if the file is missing, not an image, damaged, cut short, too large or of an unsupported kind.
    """
    path = os.fsdecode(path)
    kind = _sniff(path)
    if kind in _PILLOW_READERS:
        return _read_with_pillow(path, kind, max_pixels, keep_color)
    with _one_line_errors(path):
        image = _open_vips(path, kind)
        _check_size(path, image.width, image.height, max_pixels)
        exif = _tiff_exif(path) if kind == "tiff" else _field(image, "exif-data")
        origin = _vips_origin(image, Path(path).name, kind, exif)
        pixels = _vips_pixels(_to_srgb(_integer_samples(image, path)))
    return _photo(pixels, origin, keep_color)


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
        return _photo_from_pillow(image, max_pixels, keep_color)
    if _is_tensor(image):
        image = _tensor_to_array(image)
    if isinstance(image, np.ndarray):
        return _photo_from_array(image, max_pixels, keep_color)
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
    """Write a colored picture as JPEG, PNG or WebP, whichever the suffix of `path` names.

    The file appears under its name only when it is complete. Its metadata always says "AI-colorized". PNG keeps every
    value; JPEG and WebP are lossy, and WebP stores luminance in 220 levels.

    Args:
        path: ends in .jpg, .jpeg, .png or .webp.
        pixels: (H, W, 3) sRGB, uint8 or uint16; 16 bits are kept in PNG and rounded to 8 elsewhere.
        source: the photograph that was colored; its transparency, EXIF and resolution are kept. JPEG has no
            transparency: there the picture is laid over white.
        settings: recorded as JSON, see `read_settings`.
        quality: 1 to 100, for JPEG and WebP.

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
    recorded = _settings_json(path, settings)
    packet = _xmp_packet(recorded)
    if len(packet) > _JPEG_SEGMENT_LIMIT and suffix in (".jpg", ".jpeg"):
        raise ImageError(f"{path}: settings of {len(packet):,} bytes do not fit a JPEG file, only PNG or WebP")

    saver, options = _SAVERS[suffix]
    if saver != "pngsave":
        options = options | {"Q": quality}
    with _one_line_errors(path, "cannot be written"), _replacing(path) as temporary:
        image = _output_image(pixels, alpha, sixteen_bits=saver == "pngsave", keep_alpha=saver != "jpegsave")
        image = _with_metadata(image, source, packet)
        if recorded and saver == "pngsave":  # XMP holds them too, but few programs show it
            image.set_type(pyvips.GValue.gstr_type, "png-comment-1-Settings", recorded)
        getattr(image, saver)(os.fsencode(temporary), **options)


def read_settings(path: str | os.PathLike) -> dict[str, Any] | None:
    """The settings recorded by `write_image`, None for a file without them.

    Raises:
        ImageError: if the file is missing or not an image.
    """
    path = os.fsdecode(path)
    kind = _sniff(path)
    if kind in _PILLOW_READERS:
        return None
    with _one_line_errors(path):
        packet = _field(_open_vips(path, kind), "xmp-data")
    try:
        text = ElementTree.fromstring(packet or b"").findtext(f".//{{{_SETTINGS_NAMESPACE}}}settings")
        return json.loads(text or "null")
    except (ElementTree.ParseError, json.JSONDecodeError):
        return None


# --- files ---------------------------------------------------------------------------------------------------------


def _sniff(path: str) -> str:
    """Kind of the file at `path`, by its first bytes; the suffix is often wrong. Raises `ImageError` otherwise."""
    with _one_line_errors(path):
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
    if kind is None:
        raise ImageError(f"{path}: not an image of a known kind ({', '.join([*_VIPS_LOADERS, *_PILLOW_READERS])})")
    return kind


def _kind_of(head: bytes) -> str | None:
    """Kind of the file that begins with these 16 bytes."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head[4:8] == b"ftyp":
        return "avif" if head[8:12] in (b"avif", b"avis") else None
    if head[:1] == b"P" and head[1:2] in b"123456" and head[2:3].isspace():
        return "ppm"
    magic = {
        b"\xff\xd8\xff": "jpg",
        b"\x89PNG\r\n\x1a\n": "png",
        b"GIF87a": "gif",
        b"GIF89a": "gif",
        b"II*\x00": "tiff",
        b"MM\x00*": "tiff",
        b"II+\x00": "tiff",
        b"MM\x00+": "tiff",
        b"BM": "bmp",
    }
    return next((kind for start, kind in magic.items() if head.startswith(start)), None)


def _open_vips(path: str, kind: str) -> pyvips.Image:
    """Open a file lazily: only its header is read here.

    A source is used because `new_from_file` takes brackets in a name for options, and because libvips would answer a
    second read of the same name from its cache.
    """
    loader, fail_on = _VIPS_LOADERS[kind]
    source = pyvips.Source.new_from_file(os.fsencode(path))
    return getattr(pyvips.Image, loader)(source, access="sequential", fail_on=fail_on)


def _tiff_exif(path: str) -> bytes | None:
    """EXIF made of a TIFF file's tags, for libvips reports none; None where there are none or they are broken."""
    exif = Image.Exif()
    with suppress(OSError, SyntaxError, ValueError, TypeError, KeyError, struct.error), open(path, "rb") as file:
        tags = TiffImagePlugin.TiffImageFile(file).getexif()
        for tag in (ExifTags.Base[name] for name in _TIFF_TAGS):
            if tag in tags:
                exif[tag] = tags[tag]
        for directory in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
            if entries := tags.get_ifd(directory):
                exif.get_ifd(directory).update(entries)
        return exif.tobytes() if exif else None
    return None


def _vips_origin(image: pyvips.Image, name: str, kind: str, exif: bytes | None) -> _Origin:
    exif = _clean_exif(exif)
    return _Origin(
        name=name,
        format=kind,
        exif=exif,
        dpi=_stated_dpi(exif, (image.xres * _MM_PER_INCH, image.yres * _MM_PER_INCH)),
        orientation=_valid_orientation(_field(image, "orientation")),
    )


def _read_with_pillow(path: str, kind: str, max_pixels: int, keep_color: bool) -> Photo:
    name = Path(path).name
    with _one_line_errors(path), open(path, "rb") as file:
        image = _PILLOW_READERS[kind](file)
        _check_size(path, *image.size, max_pixels)
        pixels = _pillow_pixels(image, path)
    return _photo(pixels, _Origin(name, kind, dpi=_stated_dpi(None, image.info.get("dpi"))), keep_color)


@contextmanager
def _replacing(path: str) -> Iterator[str]:
    """Yield a temporary name beside `path` that takes its place on success and is removed on any error."""
    temporary = os.path.join(os.path.dirname(path), f".{secrets.token_hex(8)}.tmp")
    try:
        # Created here rather than by the encoder: never over another file, and with the permissions of any new file.
        with open(temporary, "xb"):
            pass
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        with suppress(FileNotFoundError, NotADirectoryError):
            os.unlink(temporary)
        raise


# --- errors --------------------------------------------------------------------------------------------------------


@contextmanager
def _one_line_errors(name: str, trouble: str = "damaged, cut short, without pixels or unsupported") -> Iterator[None]:
    """Turn whatever the codecs and the operating system raise into an `ImageError` that names the image."""
    try:
        yield
    except ImageError:
        raise
    except (pyvips.Error, OSError, SyntaxError, ValueError, struct.error) as error:
        if isinstance(error, OSError) and error.strerror:
            raise ImageError(f"{name}: {error.strerror}") from error
        reason = _reason(error)
        raise ImageError(f"{name}: {trouble}" + (f" ({reason})" if reason else "")) from error


def _reason(error: Exception) -> str:
    """First line of an error's text. libvips keeps one text for all threads, so it is a hint, not a diagnosis."""
    lines = str(getattr(error, "detail", error)).splitlines()
    return next((line.strip() for line in lines if line.strip()), "")


def _check_size(name: str, width: int, height: int, max_pixels: int) -> None:
    if width < 1 or height < 1:
        raise ImageError(f"{name}: has no pixels ({width} x {height})")
    if width * height > max_pixels:
        raise ImageError(
            f"{name}: {width} x {height} = {width * height:,} pixels exceed the limit of {max_pixels:,};"
            " raise it with max_pixels"
        )


def _check_output(path: str, pixels: np.ndarray, alpha: np.ndarray | None) -> None:
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.size == 0:
        raise ImageError(f"{path}: pixels must have the shape (H, W, 3), got {pixels.shape}")
    if pixels.dtype.name not in _VIPS_FORMATS:
        raise ImageError(f"{path}: pixels must be uint8 or uint16, got {pixels.dtype}")
    if alpha is not None and alpha.shape != pixels.shape[:2]:
        raise ImageError(f"{path}: pixels of shape {pixels.shape} do not fit the source's alpha {alpha.shape}")


# --- color --------------------------------------------------------------------------------------------------------


def _integer_samples(image: pyvips.Image, name: str) -> pyvips.Image:
    """The image with 8- or 16-bit samples in gray, RGB or CMYK, with or without alpha."""
    if image.interpretation not in _PLAIN_SPACES:
        image = image.colorspace("srgb")
    if image.format in ("float", "double"):
        profile = _field(image, "icc-profile-data")
        image = _wrap(_floats_to_uint16(_vips_pixels(image), name), profile)
    if image.format not in ("uchar", "ushort"):
        raise ImageError(f"{name}: has {image.format} samples; 8 or 16 bits, or floats in [0, 1], can be read")
    if image.bands > (5 if image.interpretation == "cmyk" else 4):
        raise ImageError(f"{name}: has {image.bands} channels; gray, RGB and CMYK can be read")
    return image


def _to_srgb(image: pyvips.Image) -> pyvips.Image:
    """Convert 8- or 16-bit gray, RGB or CMYK by its embedded profile: 1 or 3 bands in sRGB, plus alpha.

    A profile that is broken or made for another kind of pixels is ignored, as browsers do.
    """
    if image.interpretation == "cmyk":
        # Without a usable profile CMYK means the press profile that comes with libvips.
        return _icc_transform(image, "srgb", input_profile="cmyk")
    target = "sgrey" if image.bands < 3 else "srgb"
    profile = _field(image, "icc-profile-data") or b""
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
    converted = _vips_pixels(_icc_transform(_wrap(colors, profile), target))
    return bool(np.abs(converted.astype(np.int16) - colors).max() <= 1)


def _photo(pixels: np.ndarray, origin: _Origin, keep_color: bool) -> Photo:
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


def _floats_to_uint16(values: np.ndarray, name: str) -> np.ndarray:
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


# --- in-memory images ----------------------------------------------------------------------------------------------


def _photo_from_pillow(image: Image.Image, max_pixels: int, keep_color: bool) -> Photo:
    path = str(getattr(image, "filename", "") or "image")
    _check_size(path, *image.size, max_pixels)
    with _one_line_errors(path):
        image.load()  # some plugins know the EXIF only then, and the TIFF plugin turns the picture itself
        exif = _clean_exif(image.info.get("exif"))
        origin = _Origin(
            name=Path(path).name,
            exif=exif,
            dpi=_stated_dpi(exif, image.info.get("dpi")),
            orientation=_pillow_orientation(image),
        )
        pixels = _pillow_pixels(image, path)
        profile = image.info.get("icc_profile")
        if profile or image.mode == "CMYK":
            pixels = _vips_pixels(_to_srgb(_wrap(pixels, profile, cmyk=image.mode == "CMYK")))
    return _photo(pixels, origin, keep_color)


def _pillow_orientation(image: Image.Image) -> int:
    with suppress(SyntaxError, ValueError, TypeError, KeyError, struct.error):  # broken EXIF spoils no picture
        return _valid_orientation(image.getexif().get(_ORIENTATION_TAG))
    return 1


def _pillow_pixels(image: Image.Image, name: str) -> np.ndarray:
    """A copy of a PIL image's pixels (H, W, C), uint8 or uint16: gray or RGB, with or without alpha, or CMYK."""
    if image.mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16)[..., None]
    if image.mode == "I":
        return _int32_to_uint16(np.asarray(image), name)[..., None]
    if image.mode == "F":
        return _floats_to_uint16(np.asarray(image), name)[..., None]
    if image.mode == "CMYK":
        return np.array(image)
    if image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        return np.array(ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB"))
    mode = "L" if image.mode in ("1", "L", "LA", "La") else "RGB"
    if image.has_transparency_data:
        mode += "A"
    pixels = np.array(image if image.mode == mode else image.convert(mode))
    return pixels[..., None] if mode == "L" else pixels


def _int32_to_uint16(values: np.ndarray, name: str) -> np.ndarray:
    low, high = values.min(), values.max()
    if low < 0 or high > 65535:
        raise ImageError(f"{name}: values of mode I must be in [0, 65535], got {low if low < 0 else high}")
    return values.astype(np.uint16)


def _photo_from_array(values: np.ndarray, max_pixels: int, keep_color: bool) -> Photo:
    if values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[2] not in (1, 2, 3, 4)):
        raise ImageError(f"image: expected an array (H, W) or (H, W, C) with C = 1 to 4, got shape {values.shape}")
    _check_size("image", values.shape[1], values.shape[0], max_pixels)
    pixels = values if values.ndim == 3 else values[..., None]
    if np.issubdtype(pixels.dtype, np.floating):
        pixels = _floats_to_uint16(pixels, "image")
    elif pixels.dtype.name in _VIPS_FORMATS:
        # A copy, in native byte order: a photo must not change with the caller's array.
        pixels = np.array(pixels, dtype=pixels.dtype.newbyteorder("="))
    else:
        raise ImageError(f"image: expected uint8, uint16 or floats in [0, 1], got {values.dtype}")
    return _photo(pixels, _Origin("image"), keep_color)


def _is_tensor(image: object) -> bool:
    """Whether this is a torch tensor; there is none unless somebody has imported torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(image, torch.Tensor)


def _tensor_to_array(tensor: "torch.Tensor") -> np.ndarray:
    """A tensor (H, W) or (C, H, W) as an array (H, W) or (H, W, C)."""
    if tensor.ndim not in (2, 3) or (tensor.ndim == 3 and tensor.shape[0] not in (1, 3, 4)):
        shape = tuple(tensor.shape)
        raise ImageError(f"image: expected a tensor (H, W) or (C, H, W) with C = 1, 3 or 4, got shape {shape}")
    if tensor.is_floating_point():
        tensor = tensor.float()  # numpy has no bfloat16
    array = tensor.detach().cpu().numpy()
    return array if array.ndim == 2 else array.transpose(1, 2, 0)


# --- libvips and numpy ---------------------------------------------------------------------------------------------


def _vips_pixels(image: pyvips.Image) -> np.ndarray:
    """Run the pipeline behind an image: (H, W, bands). The array owns the memory that libvips filled."""
    return np.frombuffer(image.write_to_memory(), _DTYPES[image.format]).reshape(
        image.height, image.width, image.bands
    )


def _wrap(pixels: np.ndarray, profile: bytes | None = None, cmyk: bool = False) -> pyvips.Image:
    """A libvips image over the memory of pixels (H, W, C), uint8 or uint16, copied only if not contiguous."""
    height, width, bands = pixels.shape
    format = _VIPS_FORMATS[pixels.dtype.name]
    gray, rgb = ("b-w", "srgb") if format == "uchar" else ("grey16", "rgb16")
    space = "cmyk" if cmyk else gray if bands < 3 else rgb
    native = np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder("="))
    image = pyvips.Image.new_from_memory(native.data, width, height, bands, format).copy(interpretation=space)
    if profile:
        image.set_type(pyvips.GValue.blob_type, "icc-profile-data", profile)
    return image


def _field(image: pyvips.Image, name: str) -> Any:
    """A metadata field, None where the image has none."""
    return image.get(name) if image.get_typeof(name) else None


def _output_image(pixels: np.ndarray, alpha: np.ndarray | None, sixteen_bits: bool, keep_alpha: bool) -> pyvips.Image:
    """The picture to encode, as a pipeline over the memory of pixels (H, W, 3) and alpha (H, W)."""
    image = _wrap(pixels)
    if not sixteen_bits:
        image = _to_8_bits(image)
    if alpha is None:
        return image
    opacity = _wrap(alpha[..., None])
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


# --- metadata ------------------------------------------------------------------------------------------------------


def _stated_dpi(exif: bytes | None, decoded: tuple[float, float] | None) -> tuple[float, float] | None:
    """The resolution that the decoder found or, failing that, the one in the EXIF. None where none is stated."""
    for dpi in (decoded, _exif_dpi(exif) if exif else None):
        if dpi and min(dpi) > 0:
            horizontal, vertical = (round(float(value), 1) for value in dpi)  # PNG states whole pixels per metre
            if horizontal != vertical or horizontal not in _MADE_UP_DPI:
                return horizontal, vertical
    return None


def _exif_dpi(exif: bytes) -> tuple[float, float] | None:
    """Resolution recorded in a blob that begins with `Exif\\0\\0`, None if there is none or it is broken."""
    with suppress(struct.error, KeyError, ZeroDivisionError):
        directory = _first_directory(exif)
        order, base, entries = directory.order, len(_EXIF_PREFIX), directory.entries
        per_inch = 2.54 if struct.unpack_from(f"{order}H", exif, entries[_RESOLUTION_UNIT_TAG] + 8)[0] == 3 else 1.0
        offsets = [struct.unpack_from(f"{order}I", exif, entries[tag] + 8)[0] for tag in _RESOLUTION_TAGS]
        fractions = [struct.unpack_from(f"{order}II", exif, base + offset) for offset in offsets]
        horizontal, vertical = (per_inch * numerator / denominator for numerator, denominator in fractions)
        return horizontal, vertical
    return None


def _with_metadata(image: pyvips.Image, source: Photo | None, packet: str) -> pyvips.Image:
    """Attach resolution, EXIF, XMP and, for PNG, text."""
    exif = source.exif if source else None
    horizontal, vertical = (source.dpi if source else None) or (_DEFAULT_DPI, _DEFAULT_DPI)
    image = image.copy(xres=horizontal / _MM_PER_INCH, yres=vertical / _MM_PER_INCH)
    blob, text = pyvips.GValue.blob_type, pyvips.GValue.gstr_type
    if exif:
        image.set_type(blob, "exif-data", exif)
    if not exif or _DESCRIPTION_TAG not in _first_directory(exif).entries:
        image.set_type(text, "exif-ifd0-ImageDescription", _LABEL)
    # The photograph may have been in another space, but these pixels are sRGB.
    image.set_type(text, "exif-ifd2-ColorSpace", "1")
    image.set_type(blob, "xmp-data", packet.encode())
    image.set_type(text, "png-comment-0-Software", f"{_CREATOR} ({_LABEL})")
    return image


def _settings_json(path: str, settings: Mapping[str, Any] | None) -> str:
    """The settings as JSON in ASCII, so that no character is illegal in XML or PNG text; "" for None."""
    try:
        return "" if settings is None else json.dumps(dict(settings), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ImageError(f"{path}: settings cannot be written as JSON ({_reason(error)})") from error


def _xmp_packet(settings: str) -> str:
    """XMP that marks the picture as colored by a model and holds the settings, unless they are ""."""
    description = f"{_LABEL} by {_CREATOR}: the colors are predicted, the luminance is the original's."
    element = f"<cold:settings>{escape(settings)}</cold:settings>" if settings else ""
    return f"""<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:xmp="http://ns.adobe.com/xap/1.0/"
 xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" xmlns:cold="{_SETTINGS_NAMESPACE}">
<xmp:CreatorTool>{_CREATOR}</xmp:CreatorTool>
<dc:description><rdf:Alt><rdf:li xml:lang="x-default">{description}</rdf:li></rdf:Alt></dc:description>
<dc:subject><rdf:Bag><rdf:li>{_LABEL}</rdf:li></rdf:Bag></dc:subject>
<Iptc4xmpExt:DigitalSourceType>{_SOURCE_TYPE}</Iptc4xmpExt:DigitalSourceType>
{element}
</rdf:Description>
</rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>"""


@dataclass(frozen=True)
class _ExifDirectory:
    """Where the entries of the first EXIF directory are, as offsets into the blob."""

    order: str
    entries: dict[int, int]
    next_pointer: int


def _first_directory(exif: bytes) -> _ExifDirectory:
    """Locate the first directory of a blob that begins with `Exif\\0\\0`. Raises struct.error if it is broken."""
    base = len(_EXIF_PREFIX)
    order = {b"II": "<", b"MM": ">"}.get(exif[base : base + 2])
    if order is None:
        raise struct.error("no TIFF header")
    start = base + struct.unpack_from(f"{order}I", exif, base + 4)[0]
    count = struct.unpack_from(f"{order}H", exif, start)[0]
    offsets = [start + 2 + 12 * index for index in range(count)]
    entries = {struct.unpack_from(f"{order}H", exif, offset)[0]: offset for offset in offsets}
    return _ExifDirectory(order, entries, start + 2 + 12 * count)


def _valid_orientation(value: Any) -> int:
    return value if value in range(1, 9) else 1


def _clean_exif(exif: bytes | None) -> bytes | None:
    """EXIF for an upright, colored picture: orientation 1 and no thumbnail. None if there is none or it is broken.

    The bytes are patched in place, because re-encoding moves and so breaks the maker notes.
    """
    if not exif:
        return None
    blob = bytearray(_EXIF_PREFIX + exif.removeprefix(_EXIF_PREFIX))
    try:
        directory = _first_directory(bytes(blob))
        if _ORIENTATION_TAG in directory.entries:
            struct.pack_into(f"{directory.order}H", blob, directory.entries[_ORIENTATION_TAG] + 8, 1)
        # The second directory describes the thumbnail, which shows the picture before coloring.
        struct.pack_into(f"{directory.order}I", blob, directory.next_pointer, 0)
    except struct.error:
        return None
    return bytes(blob)
