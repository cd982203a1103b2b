"""Color-word hit rate: how often a colored photograph takes the color that its prompt names.

Each photograph is colored once for every word of `HUE_WORDS` with the prompt "{word} {label}", the form that captions
of object and color have in training ("blue jellyfish, black background"), and once with the label alone, which tells
how often the word would have come out by itself. Photographs without a label, or whose label names a color itself
("black swan"), are left out.

What is looked at. The picture is reduced to 96 pixels; pixels count by a Gaussian about the center (standard deviation
0.35 of the half side), as no one marked the object. The luminance of a pixel is the photograph's own and no model
may change it, and not every luminance has every color: there is no dark yellow and no light brown. So for each word
only those pixels count whose luma some sRGB color of that name has, and the pair of photograph and word counts only if
they hold at least half of the weight. The pair is a hit if the word is the name of most of these pixels, grays
included: a picture left gray is a miss.
"""

import functools

import numpy as np
from PIL import Image

from colorization.color import LUMA_WEIGHTS
from colorization.color_words import COLOR_WORDS, name_colors

from .intervals import bootstrap_interval, wilson_interval

HUE_WORDS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown")
MINIMUM_WEIGHT = 0.5
_LONG_SIDE = 96
_CENTER_SPREAD = 0.35
_GRID_STEP = 5  # between the sRGB values that are tried to learn which luma has which colors


def is_usable_label(label: str) -> bool:
    """Whether a label says something and names no color."""
    words = label.lower().split()
    return bool(words) and not set(words) & {*COLOR_WORDS, "grey"}


@functools.cache
def showable_lumas() -> np.ndarray:
    """Which luma some color of each name has: bool `(len(COLOR_WORDS), 256)`."""
    values = np.arange(0, 256, _GRID_STEP, dtype=np.uint8)
    colors = np.stack(np.meshgrid(values, values, values, indexing="ij"), axis=-1).reshape(-1, 3)
    table = np.zeros((len(COLOR_WORDS), 256), bool)
    table[name_colors(colors), _luma(colors)] = True
    return table


def judge(image: np.ndarray, word: str) -> bool | None:
    """Whether a picture's middle has the color that `word` names; None where its luminance cannot show that color.

    Args:
        image: `(height, width, 3)` uint8 RGB.
        word: one of `COLOR_WORDS`.
    """
    if word not in COLOR_WORDS:
        raise ValueError(f"`word` must be one of {COLOR_WORDS}, got {word!r}")
    height, width = image.shape[:2]
    scale = min(1, _LONG_SIDE / max(height, width))
    size = max(1, round(scale * width)), max(1, round(scale * height))
    small = np.array(Image.fromarray(image).resize(size, Image.Resampling.BOX))
    x, y = (((np.arange(length) + 0.5) / length * 2 - 1) ** 2 for length in size)
    weights = np.exp(-(y[:, None] + x[None]) / (2 * _CENTER_SPREAD**2))
    index = COLOR_WORDS.index(word)
    showable = showable_lumas()[index][_luma(small)]
    if weights[showable].sum() < MINIMUM_WEIGHT * weights.sum():
        return None
    shares = np.bincount(name_colors(small[showable]), weights[showable], minlength=len(COLOR_WORDS))
    return int(shares.argmax()) == index


def _luma(rgb: np.ndarray) -> np.ndarray:
    """Rec. 601 luma, rounded to uint8."""
    return (rgb @ np.array(LUMA_WEIGHTS)).round().astype(np.uint8)


def word_hit_rate(verdicts: np.ndarray, seed: int) -> dict:
    """Color-word hit rate with its interval.

    The interval of the whole rate comes from resampling photographs, since the eight pairs of one are not independent;
    those of single words, one pair a photograph, are Wilson's.

    Args:
        verdicts: `(photographs, words of HUE_WORDS, 2)`: whether the picture with the word and the one without it have
            that color, 1 or 0; NaN where it cannot be shown.
        seed: of the resampling.

    Returns:
        `value` (hits / n), `n` (pairs that can be hits), `interval` (95%), `unprompted` (the same pairs' rate without
        the color word), `photographs`, `not_showable` (pairs left out), and `by_word` with the same for each word.
    """
    counted = ~np.isnan(verdicts[..., 0])
    hits = np.nan_to_num(verdicts).astype(int)
    by_word = {word: _rates(hits[:, k], counted[:, k]) for k, word in enumerate(HUE_WORDS)}
    for word, rates in by_word.items():
        hit_count = int(hits[:, HUE_WORDS.index(word), 0].sum())
        rates["interval"] = list(wilson_interval(hit_count, rates["n"])) if rates["n"] else None
    per_photo = np.stack([hits[..., 0].sum(axis=1), counted.sum(axis=1)], axis=1)
    per_photo = per_photo[per_photo[:, 1] > 0]
    interval = None
    if len(per_photo) > 1:
        rng = np.random.default_rng(seed)
        interval = list(bootstrap_interval(per_photo, rng, lambda means: means[..., 0] / means[..., 1]))
    return {
        **_rates(hits, counted),
        "interval": interval,
        "photographs": len(verdicts),
        "not_showable": int((~counted).sum()),
        "by_word": by_word,
    }


def _rates(hits: np.ndarray, counted: np.ndarray) -> dict:
    n = int(counted.sum())
    prompted, unprompted = hits[counted].sum(axis=0).tolist() if n else (None, None)
    return {
        "value": prompted / n if n else None,
        "n": n,
        "unprompted": unprompted / n if n else None,
    }
