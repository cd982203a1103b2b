"""Gray photographs: what a colorizer sees, and which originals have no color to speak of."""

import numpy as np
from PIL import Image

GRAY_LIMIT = 12  # of 255; JPEG compression gives gray photographs differences of a few units
MEASURED_SIDE = 512  # pixels, at most, at which color is looked for


def channel_difference(pixels: np.ndarray) -> float:
    """99th percentile of the difference between a pixel's largest and smallest channel, of 255.

    Args:
        pixels: RGB `(height, width, 3)` uint8.
    """
    return float(np.percentile(pixels.max(axis=-1) - pixels.min(axis=-1), 99))


def is_gray(pixels: np.ndarray) -> bool:
    """Whether a photograph has no color to speak of: it cannot say how well colors were guessed.

    The rule: at most 512 pixels wide and high (box filter), the difference between a pixel's largest and smallest
    channel has a 99th percentile of at most 12 of 255. `train.build_dataset` leaves out the same photographs.

    Args:
        pixels: RGB `(height, width, 3)` uint8.
    """
    image = Image.fromarray(pixels)
    image.thumbnail((MEASURED_SIDE, MEASURED_SIDE), Image.Resampling.BOX)
    return channel_difference(np.array(image)) <= GRAY_LIMIT


def luma_of(pixels: np.ndarray) -> np.ndarray:
    """Rec. 601 luma `(height, width)` uint8 of RGB `(height, width, 3)` uint8."""
    return np.array(Image.fromarray(pixels).convert("L"))


def gray_version(pixels: np.ndarray) -> np.ndarray:
    """Three equal channels of luma: what a model that does nothing returns."""
    return np.stack([luma_of(pixels)] * 3, axis=-1)
