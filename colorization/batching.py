"""From a call's arguments to batches: images at model resolution, one value per image, one shape per batch."""

import math
import numbers
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import PIL.Image
import torch

# Sides at model resolution stay within [resolution / MAX_STRETCH, resolution * MAX_STRETCH]: the area is kept up to
# an aspect ratio of 16, more extreme pictures are squeezed rather than shrunk to a line.
MAX_STRETCH = 4


def model_size(width: int, height: int, resolution: int, multiple: int) -> tuple[int, int]:
    """(width, height) at model resolution: an area of about resolution^2, aspect kept, sides capped and rounded.

    Args:
        width, height: of the photograph, at least 1.
        resolution: square root of the wanted area, in pixels.
        multiple: both sides become multiples of it (the VAE's factor).
    """
    scale = resolution / math.sqrt(width * height)

    def side(length: int) -> int:
        capped = min(max(length * scale, resolution / MAX_STRETCH), resolution * MAX_STRETCH)
        return max(round(capped / multiple), 1) * multiple

    return side(width), side(height)


def resize_to_tensor(pixels: np.ndarray, size: tuple[int, int]) -> torch.Tensor:
    """Resize `(height, width)` or `(height, width, 3)` uint8/uint16 -> float32 `(3, h, w)` in [-1, 1]."""
    if pixels.dtype == np.uint16:
        # 16 bit matters for the output's luminance, not for what the model sees.
        pixels = np.right_shift(pixels, 8).astype(np.uint8)
    image = PIL.Image.fromarray(pixels).resize(size, PIL.Image.Resampling.BICUBIC, reducing_gap=3.0)
    tensor = torch.from_numpy(np.array(image, dtype=np.float32)) / 127.5 - 1
    return tensor.expand(3, -1, -1).contiguous() if tensor.ndim == 2 else tensor.permute(2, 0, 1).contiguous()


def one_per_image(name: str, value: Any, count: int, kind: type) -> list:
    """`value` as a list of `count` entries of type `kind`: one for all, or one per image."""

    def fits(candidate: Any) -> bool:
        return isinstance(candidate, kind) and not isinstance(candidate, bool)

    if fits(value):
        return [value] * count
    if isinstance(value, list | tuple) and all(fits(entry) for entry in value):
        if len(value) != count:
            raise ValueError(f"`{name}` must be one value or one per image ({count}), got {len(value)} values")
        return list(value)
    what = {str: "text", numbers.Integral: "a whole number"}.get(kind, f"a {kind.__name__}")
    raise ValueError(f"`{name}` must be {what} or a list of such, got {value!r}")


def is_whole(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def is_real(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def as_list(image: Any) -> list:
    """The call's `image` as a non-empty list of single images."""
    if isinstance(image, np.ndarray | torch.Tensor) and image.ndim == 4:
        image = list(image)
    if not isinstance(image, list | tuple):
        return [image]
    if len(image) == 0:
        raise ValueError("`image` must hold at least one image, got an empty list")
    return list(image)


def batches_of_one_shape(shapes: Sequence[Hashable], batch_size: int) -> list[list[int]]:
    """Positions in `shapes`, in batches of at most `batch_size` equal ones; pictures are never padded to fit."""
    buckets: dict[Hashable, list[int]] = {}
    for position, shape in enumerate(shapes):
        buckets.setdefault(shape, []).append(position)
    return [bucket[i : i + batch_size] for bucket in buckets.values() for i in range(0, len(bucket), batch_size)]
