"""From a photograph to the training picture: augmented, resized, cropped to a square, in [-1, 1].

The recipe: 10% of the pictures get one or more of Gaussian blur, random contrast, random brightness and an increase of
chroma; 40% get a saturation and chroma boost. The gray version is not made here: the caller takes
`colorization.degradation.to_gray` of the very pixels that `prepare_image` returned, so that the pair shares its luma.

All randomness comes from the generator that is passed in. One picture always takes the same number of draws, so
changing one setting (a probability, the resolution, the kind of crop) leaves what the others draw alone.
"""

import hashlib
import operator
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torchvision.transforms.v2.functional as F
from PIL import Image
from torchvision.transforms import InterpolationMode

from colorization.color import luma, merge_luma_chroma, rgb_to_chroma
from colorization.image_io import as_photo
from colorization.photo import Photo

from .film import Film, draw_film, film_picture

CROPS = ("random", "center")
MIN_RESOLUTION = 8
MAX_ZOOM = 1.15  # a random crop's side is at least the short side divided by this

# What an augmented picture gets of each with even odds, and the range that the amount is drawn from: wide enough to
# matter, narrow enough that the picture could still have come out of a camera.
AUGMENTATIONS = {
    "blur": (0.001, 0.004),  # standard deviation of the Gaussian, as share of the picture's side
    "contrast": (0.8, 1.2),  # factor on the distance from the picture's mean luma
    "brightness": (0.8, 1.2),  # factor on all channels
    "chroma": (1.1, 1.3),  # factor on Cb and Cr
}
BOOST = "saturation"
BOOST_RANGE = (1.1, 1.5)  # factor on Cb and Cr
MAX_CHROMA_FACTOR = 1.5  # of chroma increase and boost together: beyond it, vivid surfaces turn neon
_MIN_BLUR = 0.4  # pixels; a narrower Gaussian falls between the pixels and changes nothing


@dataclass(frozen=True)
class TransformConfig:
    """How a photograph becomes a training picture.

    Attributes:
        resolution: side of the square picture in pixels, at least 8.
        crop: "random" (a square of the short side or down to 1/1.15 of it, anywhere) or "center" (all of the short
            side).
        augment_probability: share in [0, 1] of the pictures that get one or more of blur, contrast, brightness and
            chroma increase.
        saturation_probability: share in [0, 1] of the pictures that get the saturation and chroma boost.
        flip: whether pictures are mirrored at random. `prepare_image` never does: the caller does, who may store
            both.
        film_probability: share in [0, 1] of the pictures that get the luma that a random old film saw.
    """

    resolution: int = 512
    crop: str = "random"
    augment_probability: float = 0.1
    saturation_probability: float = 0.4
    flip: bool = True
    film_probability: float = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.resolution, int) or isinstance(self.resolution, bool):
            raise ValueError(f"`resolution` must be a whole number, got {self.resolution!r}")
        if self.resolution < MIN_RESOLUTION:
            raise ValueError(f"`resolution` must be at least {MIN_RESOLUTION}, got {self.resolution}")
        if self.crop not in CROPS:
            raise ValueError(f"`crop` must be one of {CROPS}, got {self.crop!r}")
        for name in ("augment_probability", "saturation_probability", "film_probability"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
                raise ValueError(f"`{name}` must be a number in [0, 1], got {value!r}")
        if not isinstance(self.flip, bool):
            raise ValueError(f"`flip` must be True or False, got {self.flip!r}")


@dataclass(frozen=True)
class Operation:
    """One change of a picture's pixels.

    Attributes:
        name: a key of `AUGMENTATIONS`, or `BOOST`.
        amount: see the ranges there.
    """

    name: str
    amount: float

    def __str__(self) -> str:
        return f"{self.name} {self.amount:.2%}" if self.name == "blur" else f"{self.name} x{self.amount:.2f}"


def sample_rng(seed: int, purpose: str, *key: int) -> np.random.Generator:
    """A generator of its own for one purpose and key, such as (sample, epoch).

    The same arguments give the same stream in whatever order and process; any other seed, purpose or key an
    independent one. The arguments are hashed as text: numpy's own mixing of integers takes (1,) and (1, 0) for the
    same.
    """
    identity = repr((operator.index(seed), str(purpose), *map(operator.index, key)))
    return np.random.default_rng(int.from_bytes(hashlib.sha256(identity.encode()).digest(), "big"))


def flip(image: torch.Tensor) -> torch.Tensor:
    """`(..., height, width)` mirrored left to right."""
    return F.horizontal_flip(image)


def boost_chroma(image: torch.Tensor, factor: float) -> torch.Tensor:
    """`(3, height, width)` RGB in [0, 1] with chroma times `factor` at constant luma and hue, inside the gamut.

    Saturation about the luma and chroma are the same linear operation. torchvision's `adjust_saturation` clips each
    channel where the result leaves the gamut, which shifts luma and hue; here the chroma stops at the boundary.
    """
    batch = image[None]
    return merge_luma_chroma(luma(batch), factor * rgb_to_chroma(batch))[0]


def blur(image: torch.Tensor, share: float) -> torch.Tensor:
    """Gaussian blur of `(3, side, side)`, standard deviation `share * side`, at least 0.4 pixels."""
    sigma = max(share * image.shape[-1], _MIN_BLUR)
    size = min(2 * round(3 * sigma) + 1, 2 * image.shape[-1] - 1)  # the border is mirrored: no wider than the picture
    return F.gaussian_blur(image, [size, size], [sigma, sigma])


_APPLY: dict[str, Callable[[torch.Tensor, float], torch.Tensor]] = {
    "blur": blur,
    "contrast": F.adjust_contrast,
    "brightness": F.adjust_brightness,
    "chroma": boost_chroma,
    BOOST: boost_chroma,
}


def draw_operations(config: TransformConfig, rng: np.random.Generator) -> list[Operation]:
    """What happens to one picture: empty for most. Takes the same number of draws whatever comes out."""
    augmented, subset, boosted = rng.random(3)
    places = rng.random(len(AUGMENTATIONS) + 1)
    lows, highs = np.array([*AUGMENTATIONS.values(), BOOST_RANGE]).T
    amounts = (lows + places * (highs - lows)).tolist()
    operations = []
    if augmented < config.augment_probability:
        chosen = 1 + int(subset * (2 ** len(AUGMENTATIONS) - 1))  # bits of one of the subsets that are not empty
        operations = [
            Operation(name, amount)
            for bit, (name, amount) in enumerate(zip(AUGMENTATIONS, amounts[:-1], strict=True))
            if chosen >> bit & 1
        ]
    if boosted < config.saturation_probability:
        increase = next((operation.amount for operation in operations if operation.name == "chroma"), 1.0)
        operations.append(Operation(BOOST, min(amounts[-1], MAX_CHROMA_FACTOR / increase)))
    return operations


def apply_operations(image: torch.Tensor, operations: list[Operation]) -> torch.Tensor:
    """`(3, side, side)` RGB in [0, 1] -> the same after all operations, in their order."""
    for operation in operations:
        image = _APPLY[operation.name](image, operation.amount)
    return image


def crop_box(width: int, height: int, config: TransformConfig, rng: np.random.Generator) -> tuple[int, int, int]:
    """Top, left and side of the square that is cut from a picture of `width` x `height` pixels.

    The square of a random crop is smaller than the short side only as far as it need not be enlarged.
    """
    side = min(width, height)
    zoom, down, across = rng.random(3)
    if config.crop == "center":
        return (height - side) // 2, (width - side) // 2, side
    zoomed = round(side / (1 + zoom * (MAX_ZOOM - 1)))
    side = min(side, max(zoomed, config.resolution))
    return int(down * (height - side + 1)), int(across * (width - side + 1)), side


def _cut(photo: Photo, box: tuple[int, int, int], resolution: int) -> torch.Tensor:
    """The square `box` of a photo over white, `(3, resolution, resolution)` float32 in [0, 1].

    Cut first, resized after: a narrow strip would take gigabytes the other way round.
    """
    top, left, side = box
    rows, columns = slice(top, top + side), slice(left, left + side)
    peak = float(np.iinfo(photo.rgb.dtype).max)
    pixels = torch.from_numpy(np.moveaxis(photo.rgb[rows, columns], -1, 0).astype(np.float32)) / peak
    if photo.alpha is not None:
        pixels = 1 + torch.from_numpy(photo.alpha[rows, columns].astype(np.float32) / peak) * (pixels - 1)
    # Bicubic interpolation overshoots at edges.
    return F.resize(pixels, [resolution, resolution], InterpolationMode.BICUBIC, antialias=True).clamp(0, 1)


def prepare_with_operations(
    image: Image.Image, config: TransformConfig, rng: np.random.Generator
) -> tuple[torch.Tensor, list[Operation | Film]]:
    """The picture of `prepare_image` and the list of the operations that made it."""
    photo = as_photo(image, keep_color=True)
    box = crop_box(*photo.size, config, rng)
    operations = draw_operations(config, rng)
    pixels = apply_operations(_cut(photo, box, config.resolution), operations)
    if config.film_probability > 0 and rng.random() < config.film_probability:
        film = draw_film(rng)
        pixels, operations = film_picture(pixels, film, rng), [*operations, film]
    return 2 * pixels - 1, operations


def prepare_image(image: Image.Image, config: TransformConfig, rng: np.random.Generator) -> torch.Tensor:
    """The training picture of a photograph; its gray partner is `to_gray` of the result. Never mirrored.

    Args:
        image: of any mode, turned upright by its EXIF, converted to sRGB, laid over white where transparent.
        config: see there.
        rng: see `sample_rng`; nothing else is random.

    Returns:
        `(3, resolution, resolution)` float32 in [-1, 1] (mean 0.5, standard deviation 0.5).

    Raises:
        ImageError: (a ValueError) for a picture without pixels, damaged, or with values out of range.
    """
    return prepare_with_operations(image, config, rng)[0]
