"""Pictures for the page and files for the visitor, made of what was sampled; no model is needed for either."""

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from colorization.image_io import read_image, write_image
from colorization.photo import Photo
from colorization.prediction import ChromaPrediction

from .visits import Visit

MAX_PIXELS = 100_000_000
PREVIEW_SIDE = 4096  # pixels on the long side of what the page shows; the download has all of them
THUMBNAIL_SIDE = 512
_PREVIEW_QUALITY = 90
CHOSEN_COLOR_SCALE = "automatic_color_scale"  # in the settings of a call with the color scale "auto"
SUFFIXES = {"PNG": ".png", "JPEG": ".jpg"}


@functools.lru_cache(maxsize=2)
def read_photo(path: str) -> Photo:
    """An uploaded photograph; the last ones are remembered, for the color scale asks for the same again and again.

    Raises:
        ImageError: it cannot be used; the message names it.
    """
    return read_image(path, max_pixels=MAX_PIXELS)


def shrink(luma: np.ndarray, side: int) -> np.ndarray:
    """An 8-bit copy of luma (H, W), uint8 or uint16, whose sides are at most `side` pixels."""
    if luma.dtype == np.uint16:
        luma = (luma >> 8).astype(np.uint8)
    picture = Image.fromarray(luma)
    picture.thumbnail((side, side), reducing_gap=2.0)
    return np.asarray(picture)


def own_color_scale(prediction: ChromaPrediction, color_scale: float) -> float:
    """The color scale that the model has chosen for this prediction, or else the one on the page."""
    return prediction.settings.get(CHOSEN_COLOR_SCALE, color_scale)


def rendered_settings(prediction: ChromaPrediction, color_scale: float) -> dict:
    """What made a picture that was rendered at this color scale; it acts on the decoded chroma here."""
    settings = prediction.settings | {"color_scale": float(color_scale), "color_scale_space": "chroma"}
    if settings.get(CHOSEN_COLOR_SCALE) != settings["color_scale"]:  # the visitor has chosen another one since
        settings.pop(CHOSEN_COLOR_SCALE, None)
    return settings


def write_before(visit: Visit, photo: Photo, kind: str = "before") -> str:
    """File of the gray photograph for the page; `kind` as for `Visit.new_file`."""
    path = visit.new_file(kind, f"{Path(photo.name).stem}-gray.jpg")
    gray = Image.fromarray(shrink(photo.luma, PREVIEW_SIDE)).convert("RGB")
    gray.save(path, quality=_PREVIEW_QUALITY)
    return path


def write_after(visit: Visit, photo: Photo, prediction: ChromaPrediction, color_scale: float) -> str:
    """File of the colored photograph for the page."""
    path = visit.new_file("after", f"{Path(photo.name).stem}-preview.jpg")
    pixels = prediction.render(shrink(photo.luma, PREVIEW_SIDE), color_scale)
    write_image(path, pixels, settings=rendered_settings(prediction, color_scale), quality=_PREVIEW_QUALITY)
    return path


def write_download(
    visit: Visit, photo: Photo, prediction: ChromaPrediction, color_scale: float, file_format: str
) -> str:
    """File of the colored photograph with all its pixels, its EXIF and the settings.

    Args:
        file_format: a key of `SUFFIXES`.
    """
    path = visit.new_file("download", f"{Path(photo.name).stem}-colorized{SUFFIXES[file_format]}")
    pixels = prediction.render(photo.luma, color_scale)
    write_image(path, pixels, source=photo, settings=rendered_settings(prediction, color_scale))
    return path


def write_thumbnails(
    visit: Visit, kind: str, photo: Photo, predictions: Sequence[ChromaPrediction], scales: Sequence[float]
) -> list[str]:
    """Small files of several predictions about one photograph, each at its color scale, in their order."""
    luma = shrink(photo.luma, THUMBNAIL_SIDE)
    folder = Path(visit.new_file(kind, ""))
    paths = []
    for index, (prediction, scale) in enumerate(zip(predictions, scales, strict=True)):
        path = str(folder / f"{Path(photo.name).stem}-{index + 1}.jpg")
        write_image(path, prediction.render(luma, scale), settings=rendered_settings(prediction, scale))
        paths.append(path)
    return paths
