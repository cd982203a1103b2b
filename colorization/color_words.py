"""Color words of pixels and photographs, for captions and for measuring whether a prompt was followed.

Pixels are named in OKLCh, the polar form of OKLab (Ottosson 2020): lightness L in [0, 1], chroma C (0 is gray, sRGB
ends near 0.32), hue h in degrees. Eleven basic words share all colors among them; some shades have a word of their own
beside. The limits are set by hand on the named colors of CSS and, for shades, on those of the XKCD color survey.
"""

import re
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from .color import srgb_to_linear

COLOR_WORDS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white", "gray")
_INDEX = {word: index for index, word in enumerate(COLOR_WORDS)}

# Shades that people name, each with its region: lightness, chroma and hue, from (included) to (excluded).
SHADES = {
    "navy": ((0.12, 0.33), (0.05, 0.4), (240, 285)),
    "teal": ((0.35, 0.65), (0.05, 0.4), (175, 215)),
    "turquoise": ((0.65, 0.92), (0.06, 0.4), (170, 205)),
    "lavender": ((0.68, 0.95), (0.025, 0.13), (280, 315)),
    "maroon": ((0.2, 0.39), (0.07, 0.4), (355, 35)),
    "crimson": ((0.39, 0.62), (0.14, 0.4), (5, 28)),
    "ginger": ((0.48, 0.72), (0.09, 0.15), (45, 70)),
    "gold": ((0.66, 0.92), (0.125, 0.4), (75, 100)),
    "blond": ((0.68, 0.93), (0.072, 0.125), (74, 92)),
    "khaki": ((0.68, 0.93), (0.072, 0.125), (92, 116)),
    "beige": ((0.74, 0.98), (0.022, 0.072), (60, 110)),
    "olive": ((0.35, 0.65), (0.06, 0.2), (100, 130)),
    "silver": ((0.72, 0.89), (0, 0.02), (0, 360)),
}
_COLOR_WORD = re.compile(rf"\b(?:{'|'.join((*COLOR_WORDS, *SHADES))}|grey|blonde)\b")

# Linear sRGB -> cone responses -> OKLab.
_RGB_TO_LMS = (
    (0.4122214708, 0.5363325363, 0.0514459929),
    (0.2119034982, 0.6806995451, 0.1073969566),
    (0.0883024619, 0.2817188376, 0.6299787005),
)
_LMS_TO_OKLAB = (
    (0.2104542553, 0.7936177850, -0.0040720468),
    (1.9779984951, -2.4285922050, 0.4505937099),
    (0.0259040371, 0.7827717662, -0.8086757660),
)

_LONG_SIDE = 96  # pixels at which photographs are measured: texture and noise average out
_BORDER = 0.75  # pixels farther out than this, on the axis on which they are farthest, are background
_CENTER_SPREAD = 0.35  # standard deviation of the object's weight; the picture's edge is at 1
_GRAY_WEIGHT = 0.35  # of a gray pixel of the object, relative to a vivid one
_VIVID_CHROMA = 0.12  # chroma from which on a pixel counts fully
_CONTRAST = 0.5  # how much a color speaks against being the object's when it fills the border
_SHADE_SHARE = 0.4  # of the pixels of a basic color, from which on a shade is a name of them all


def srgb_to_oklch(rgb: np.ndarray) -> np.ndarray:
    """Lightness in [0, 1], chroma and hue in degrees [0, 360) of uint8 sRGB; `(..., 3)` to float32 `(..., 3)`."""
    rgb = np.asarray(rgb)
    if rgb.dtype != np.uint8 or rgb.ndim == 0 or rgb.shape[-1] != 3:
        raise ValueError(f"`rgb` must be uint8 of shape (..., 3), got {rgb.dtype} of shape {rgb.shape}")
    linear = srgb_to_linear(torch.arange(256, dtype=torch.float32) / 255).numpy()[rgb]
    lms = np.cbrt(linear @ np.array(_RGB_TO_LMS, np.float32).T)
    lightness, a, b = np.moveaxis(lms @ np.array(_LMS_TO_OKLAB, np.float32).T, -1, 0)
    return np.stack([lightness, np.hypot(a, b), np.degrees(np.arctan2(b, a)) % 360], axis=-1)


def name_colors(rgb: np.ndarray) -> np.ndarray:
    """The color word of every pixel.

    Colors of little chroma are black, gray or white by lightness. The others are told apart by hue; around red and
    orange also by lightness and chroma: brown is dark or dull orange, pink is light red or magenta.

    Args:
        rgb: uint8 `(..., 3)`, sRGB.

    Returns:
        Indices into `COLOR_WORDS`, int64 `(...)`.
    """
    return _name_oklch(srgb_to_oklch(rgb))


def _name_oklch(oklch: np.ndarray) -> np.ndarray:
    lightness, chroma, hue = np.moveaxis(oklch, -1, 0)
    light, dark = lightness >= 0.85, lightness < 0.5

    def hues(start: float, end: float) -> np.ndarray:
        return _between(hue, start, end)

    magenta_red, red, orange, yellow = hues(335, 12), hues(12, 35), hues(35, 80), hues(80, 116)
    rules = [  # the first that holds counts
        ("black", (lightness < 0.17) | ((lightness < 0.28) & (chroma < 0.05))),
        ("white", ((lightness >= 0.9) & (chroma < 0.035)) | ((lightness >= 0.96) & (chroma < 0.05))),
        ("gray", chroma < 0.035),
        ("brown", magenta_red & dark & (chroma < 0.07)),
        ("purple", magenta_red & dark & hues(335, 355)),
        ("red", magenta_red & dark),
        ("pink", magenta_red),
        ("pink", red & (lightness >= 0.68) & (chroma < 0.17)),
        ("brown", red & (lightness < 0.58) & (chroma < 0.11)),
        ("red", red),
        ("orange", orange & (lightness >= 0.64) & (chroma >= 0.13)),
        ("pink", hues(35, 48) & (lightness >= 0.7)),
        ("pink", hues(48, 62) & light),
        ("orange", hues(62, 68) & light),
        ("yellow", orange & light),
        ("brown", orange),
        ("yellow", yellow & ((lightness >= 0.72) & (chroma >= 0.08) | light)),
        ("brown", hues(80, 100)),
        ("green", hues(100, 188)),
        ("blue", hues(188, 284)),
        ("purple", hues(284, 335)),
    ]
    return np.select([holds for _, holds in rules], [_INDEX[word] for word, _ in rules])


def _between(hue: np.ndarray, start: float, end: float) -> np.ndarray:
    """Whether a hue lies in [start, end), counted upward through 0 if need be; 0 to 360 holds them all."""
    return (hue - start) % 360 < ((end - start) % 360 or 360)


def in_shade(rgb: np.ndarray, shade: str) -> np.ndarray:
    """Which pixels a word of `SHADES` fits: bool `(...)` of uint8 `(..., 3)`. No pixel fits two."""
    return _in_shade(srgb_to_oklch(rgb), shade)


def _in_shade(oklch: np.ndarray, shade: str) -> np.ndarray:
    lightness, chroma, hue = np.moveaxis(oklch, -1, 0)
    (darkest, lightest), (dullest, purest), (start, end) = SHADES[shade]
    fits = (darkest <= lightness) & (lightness < lightest) & (dullest <= chroma) & (chroma < purest)
    return fits & _between(hue, start, end)


def main_color(rgb: np.ndarray, weights: np.ndarray | None = None) -> str:
    """The word of most pixels.

    Args:
        rgb: uint8 `(..., 3)`, at least one pixel.
        weights: how much each pixel counts, `(...)`, not negative; None counts all alike.
    """
    return COLOR_WORDS[int(_shares(name_colors(rgb), weights).argmax())]


def _shares(names: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """Share of each word, by its number, in the pixels' weight; sums to 1."""
    if weights is not None and np.shape(weights) != names.shape:
        raise ValueError(f"`weights` must have shape {names.shape}, got {np.shape(weights)}")
    counts = np.bincount(
        names.ravel(), None if weights is None else np.ravel(weights), minlength=len(COLOR_WORDS)
    ).astype(np.float64)
    if not counts.sum() > 0:
        raise ValueError("`rgb` must hold at least one pixel of positive weight")
    return counts / counts.sum()


@dataclass(frozen=True)
class PhotoColors:
    """What the colors of a photograph may be called, the basic word first and then its shade, if it has one.

    Args:
        object: of what is in the middle.
        background: of the border.
    """

    object: tuple[str, ...]
    background: tuple[str, ...]


def object_and_background_colors(image: Image.Image) -> tuple[str, str]:
    """Basic color words of what is in the middle of a picture, and of its border; see :func:`photo_colors`."""
    colors = photo_colors(image)
    return colors.object[0], colors.background[0]


def photo_colors(image: Image.Image) -> PhotoColors:
    """Color words of what is in the middle of a picture, and of its border.

    For the object, pixels count by nearness to the center and by chroma (few objects are remembered as gray), and a
    color that fills the border counts less. The background is the word of most border pixels. A shade is added where
    it is that of many pixels of the basic word.
    """
    rgb = np.array(_shrink(image))
    height, width = rgb.shape[:2]
    y = np.abs((np.arange(height) + 0.5) / height * 2 - 1)[:, None]
    x = np.abs((np.arange(width) + 0.5) / width * 2 - 1)[None]
    # A picture of few pixels may have none beyond the limit: then its outermost ones are the border.
    distance = np.maximum(y, x)
    border = distance >= min(_BORDER, distance.max())
    oklch = srgb_to_oklch(rgb)
    names = _name_oklch(oklch)
    background = _shares(names, border)

    vividness = np.clip(oklch[..., 1] / _VIVID_CHROMA, _GRAY_WEIGHT, 1)
    middle = np.exp(-(y**2 + x**2) / (2 * _CENTER_SPREAD**2)) * vividness
    scores = _shares(names, middle) - _CONTRAST * background
    return PhotoColors(
        _with_shade(oklch, int(scores.argmax()), middle * (names == scores.argmax())),
        _with_shade(oklch, int(background.argmax()), border * (names == background.argmax())),
    )


def _with_shade(oklch: np.ndarray, word: int, weights: np.ndarray) -> tuple[str, ...]:
    """A basic word by its number, and the shade that has most of the weight of its pixels, if enough."""
    shares = {shade: weights[_in_shade(oklch, shade)].sum() for shade in SHADES}
    shade = max(shares, key=shares.get)
    return (COLOR_WORDS[word], *([shade] if shares[shade] > _SHADE_SHARE * weights.sum() else []))


def to_rgb(image: Image.Image) -> Image.Image:
    """An RGB version of a picture of any mode; what is transparent becomes white."""
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _shrink(image: Image.Image) -> Image.Image:
    """RGB with the long side at most `_LONG_SIDE`."""
    scale = min(1, _LONG_SIDE / max(image.size))
    size = tuple(max(1, round(scale * side)) for side in image.size)
    return to_rgb(image).resize(size, Image.Resampling.BOX)


def label_words(label: str) -> str:
    """ "garbage truck" of "Garbage_Truck"."""
    return " ".join(label.lower().replace("_", " ").split())


def names_color(text: str) -> bool:
    """Whether a lower-case text has a word of `COLOR_WORDS` or `SHADES`, standing alone."""
    return _COLOR_WORD.search(text) is not None


def palette_caption(image: Image.Image, label: str = "") -> str:
    """A caption of a label and measured colors: "blue jellyfish, black background", or "mostly blue, ..." without one.

    A label that names a color already ("black swan") gets no other, and without a label a background of the same
    color is not named again.
    """
    return compose_caption(*object_and_background_colors(image), label)


def compose_caption(color: str, background: str, label: str = "") -> str:
    """:func:`palette_caption` of an object's and a background's color words that were measured before."""
    label = label_words(label)
    if not label:
        return f"mostly {color}" if color == background else f"mostly {color}, {background} background"
    subject = label if names_color(label) else f"{color} {label}"
    return f"{subject}, {background} background"
