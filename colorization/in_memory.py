"""Pictures that are in memory already: PIL images, numpy arrays, torch tensors."""

import struct
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError

from .errors import one_line
from .image_metadata import ORIENTATION_TAG, clean_exif, stated_dpi, valid_orientation
from .iptc import RECORDS
from .photo import ImageError, Origin, Photo, check_size, floats_to_uint16, make_photo, one_line_errors
from .tiff import TIFF_STARTS, pictures
from .vips import VIPS_FORMATS, to_srgb, vips_pixels, wrap

if TYPE_CHECKING:
    import torch


def open_picture(file: BinaryIO, formats: Sequence[str] | None = None) -> Image.Image:
    """The decoded picture that an image file holds: of several pages the first one at full resolution.

    Args:
        file: is read to its end if need be.
        formats: of Pillow's; None tries all.

    Raises:
        ImageError: there is none; the message says why and names no file.
    """
    try:
        pages = pictures(file, "image") if file.read(4) in TIFF_STARTS else []
        file.seek(0)
        image = Image.open(file, formats=formats)
        if pages and pages[0].number:
            image.seek(pages[0].number)
        image.load()
    except MemoryError:  # no fault of the picture
        raise
    except ImageError as error:
        raise ImageError(str(error).removeprefix("image: ")) from error
    except UnidentifiedImageError as error:  # whose own text names an address in memory
        raise ImageError("no image, or of an unknown format") from error
    except Exception as error:  # decoders raise whatever they stumble over in a damaged file
        raise ImageError(one_line(error)) from error
    return image


def photo_from_pillow(image: Image.Image, max_pixels: int, keep_color: bool) -> Photo:
    path = str(getattr(image, "filename", "") or "image")
    check_size(path, *image.size, max_pixels)
    with one_line_errors(path):
        image.load()  # some plugins know the EXIF only then, and the TIFF plugin turns the picture itself
        exif = clean_exif(image.info.get("exif"))
        origin = Origin(
            name=Path(path).name,
            exif=exif,
            dpi=stated_dpi(exif, image.info.get("dpi")),
            orientation=_pillow_orientation(image),
            xmp=image.info.get("xmp") or image.info.get("XML:com.adobe.xmp"),
            iptc=_pillow_iptc(image),
        )
        pixels = pillow_pixels(image, path)
        profile = image.info.get("icc_profile")
        if profile or image.mode == "CMYK":
            pixels = vips_pixels(to_srgb(wrap(pixels, profile, cmyk=image.mode == "CMYK")))
    return make_photo(pixels, origin, keep_color)


def _pillow_orientation(image: Image.Image) -> int:
    with suppress(SyntaxError, ValueError, TypeError, KeyError, struct.error):  # broken EXIF spoils no picture
        return valid_orientation(image.getexif().get(ORIENTATION_TAG))
    return 1


def _pillow_iptc(image: Image.Image) -> bytes | None:
    """The IPTC records, where Pillow keeps them as they are."""
    resources = image.info.get("photoshop")  # of JPEG, by number
    return resources.get(RECORDS) if isinstance(resources, dict) else None


def pillow_pixels(image: Image.Image, name: str) -> np.ndarray:
    """A copy of a PIL image's pixels (H, W, C), uint8 or uint16: gray or RGB, with or without alpha, or CMYK."""
    if image.mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16)[..., None]
    if image.mode == "I":
        return _int32_to_uint16(np.asarray(image), name)[..., None]
    if image.mode == "F":
        return floats_to_uint16(np.asarray(image), name)[..., None]
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


def photo_from_array(values: np.ndarray, max_pixels: int, keep_color: bool) -> Photo:
    if values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[2] not in (1, 2, 3, 4)):
        raise ImageError(f"image: expected an array (H, W) or (H, W, C) with C = 1 to 4, got shape {values.shape}")
    check_size("image", values.shape[1], values.shape[0], max_pixels)
    pixels = values if values.ndim == 3 else values[..., None]
    if np.issubdtype(pixels.dtype, np.floating):
        pixels = floats_to_uint16(pixels, "image")
    elif pixels.dtype.name in VIPS_FORMATS:
        # A copy, in native byte order: a photo must not change with the caller's array.
        pixels = np.array(pixels, dtype=pixels.dtype.newbyteorder("="))
    else:
        raise ImageError(f"image: expected uint8, uint16 or floats in [0, 1], got {values.dtype}")
    return make_photo(pixels, Origin("image"), keep_color)


def is_tensor(image: object) -> bool:
    """Whether this is a torch tensor; there is none unless somebody has imported torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(image, torch.Tensor)


def tensor_to_array(tensor: "torch.Tensor") -> np.ndarray:
    """A tensor (H, W) or (C, H, W) as an array (H, W) or (H, W, C)."""
    if tensor.ndim not in (2, 3) or (tensor.ndim == 3 and tensor.shape[0] not in (1, 3, 4)):
        shape = tuple(tensor.shape)
        raise ImageError(f"image: expected a tensor (H, W) or (C, H, W) with C = 1, 3 or 4, got shape {shape}")
    if tensor.is_floating_point():
        tensor = tensor.float()  # numpy has no bfloat16
    array = tensor.detach().cpu().numpy()
    return array if array.ndim == 2 else array.transpose(1, 2, 0)
