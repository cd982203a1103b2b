"""What is measured of a photograph, and which photographs are kept by it."""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageOps

from colorization.color import colorfulness
from colorization.color_words import photo_colors, to_rgb

GRAY_LIMIT = 12  # of 255; JPEG compression gives gray photographs differences of a few units
MEASURED_SIDE = 512  # pixels


@dataclass(frozen=True)
class Filters:
    """Which photographs are kept, by their measures."""

    min_saturation: float = 0.18
    min_colorfulness: float | None = None

    def verdict(self, measures: dict) -> str:
        """ "kept", or the first reason against a photograph."""
        if "error" in measures:
            return "unreadable"
        if measures["channel_difference"] <= GRAY_LIMIT:
            return "gray"
        if measures["saturation"] < self.min_saturation:
            return "unsaturated"
        if self.min_colorfulness is not None and measures["colorfulness"] < self.min_colorfulness:
            return "not_colorful"
        return "kept"


@dataclass
class Counts:
    """What became of the photographs of a split."""

    read: int = 0
    unreadable: int = 0
    gray: int = 0
    unsaturated: int = 0
    not_colorful: int = 0
    kept: int = 0

    def add(self, verdict: str) -> None:
        self.read += 1
        setattr(self, verdict, getattr(self, verdict) + 1)


def upright(photo: Image.Image) -> Image.Image:
    """The photograph in RGB, turned by its EXIF."""
    return to_rgb(ImageOps.exif_transpose(photo))


def measure(photo: Image.Image) -> dict:
    """What the filters and captions need to know of a photograph, at `MEASURED_SIDE` at most.

    Returns:
        "saturation": mean HSV saturation in [0, 1]; "colorfulness" of Hasler and Suesstrunk; "channel_difference":
        99th percentile of the difference between a pixel's largest and smallest channel, 0 to 255; "palette": words
        of the object's and of the background's color, see :func:`colorization.color_words.photo_colors`.
    """
    colors = photo_colors(photo)
    small = photo.copy()
    small.thumbnail((MEASURED_SIDE, MEASURED_SIDE), Image.Resampling.BOX)
    rgb = np.array(small)
    largest = rgb.max(axis=-1).astype(np.float32)
    difference = largest - rgb.min(axis=-1)
    tensor = torch.from_numpy(rgb).permute(2, 0, 1)[None] / 255
    return {
        "saturation": float((difference / np.maximum(largest, 1)).mean()),
        "colorfulness": float(colorfulness(tensor)),
        "channel_difference": float(np.percentile(difference, 99)),
        "palette": (colors.object, colors.background),
    }
