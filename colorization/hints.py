"""Color hints: single points of a photograph whose color the user has chosen.

How they are given, in a call or a file, and what the pipeline makes of them; how they spread is `hint_spread`'s.
"""

import csv
import math
import numbers
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from .color import merge_luma_chroma, rgb_to_chroma
from .hint_spread import REACH, hint_region, propagate_hints

FORM = 'Hint(x, y, "#rrggbb") or (x, y, "#rrggbb")'

# How far the last correction around a hint goes, in pixels of the model, and for what difference in luma.
_PIN_RADIUS = 2.0
_PIN_LUMA = 0.08


@dataclass(frozen=True)
class Hint:
    """The color that one pixel of a photograph shall have.

    Args:
        x, y: column and row, counted from 0 at the top left, after the file's EXIF rotation has been applied.
        color: "#rrggbb". Its chroma counts: the luminance is the photograph's.

    Raises:
        ValueError: a coordinate is negative or not whole, or the color has another form.
    """

    x: int
    y: int
    color: str

    def __post_init__(self):
        for name in ("x", "y"):
            value = getattr(self, name)
            if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < 0:
                raise ValueError(f"{name} of a hint must be a whole number of at least 0, got {value!r}")
            object.__setattr__(self, name, int(value))
        if not isinstance(self.color, str) or not re.fullmatch("#[0-9a-fA-F]{6}", self.color):
            raise ValueError(f'the color of a hint must be of the form "#rrggbb", got {self.color!r}')
        object.__setattr__(self, "color", self.color.lower())

    @property
    def chroma(self) -> tuple[float, float]:
        """Cb and Cr of the color."""
        rgb = torch.tensor(list(bytes.fromhex(self.color[1:]))).float().view(1, 3, 1, 1) / 255
        return tuple(rgb_to_chroma(rgb).flatten().tolist())

    def as_list(self) -> list:
        """[x, y, "#rrggbb"], as settings and metadata hold it."""
        return [self.x, self.y, self.color]


# Arguments and files


def _is_hint(value: Any) -> bool:
    return isinstance(value, Hint) or isinstance(value, list | tuple) and len(value) == 3 and not _is_list(value[0])


def _is_list(value: Any) -> bool:
    return value is None or isinstance(value, Hint | list | tuple)


def parse_hints(hints: Sequence | None) -> tuple[Hint, ...]:
    """Hints of one photograph, given as `Hint` or (x, y, "#rrggbb"); of several for one pixel the last one counts.

    Raises:
        ValueError: something else.
    """
    if not isinstance(hints, list | tuple) and hints is not None or isinstance(hints, Hint):
        raise ValueError(f"`hints` must be a list of {FORM}, got {hints!r}")
    parsed = {}
    for value in hints or ():
        if not _is_hint(value):
            raise ValueError(f"`hints` must hold {FORM}, got {value!r}")
        hint = value if isinstance(value, Hint) else Hint(*value)
        parsed[hint.x, hint.y] = hint
    return tuple(parsed.values())


def hints_per_image(hints: Sequence | None, count: int) -> list[tuple[Hint, ...]]:
    """One tuple of hints per image, of the pipeline's argument: None, a list for the one image, or a list per image.

    Raises:
        ValueError: another form, or the number of lists is not `count`.
    """
    if hints is None or isinstance(hints, list | tuple) and not hints:
        return [()] * count
    if not isinstance(hints, list | tuple) or not all(_is_list(entry) for entry in hints) or _is_hint(hints):
        raise ValueError(f"`hints` must be a list of {FORM}, or one such list per image, got {hints!r}")
    if count == 1 and all(map(_is_hint, hints)):
        return [parse_hints(hints)]
    if any(map(_is_hint, hints)):
        raise ValueError(f"`hints` must be one list of {FORM} per image ({count}), got {hints!r}")
    if len(hints) != count:
        raise ValueError(f"`hints` must be one list per image ({count}), got {len(hints)} lists")
    return [parse_hints(entry) for entry in hints]


def check_inside(hints: Iterable[Hint], width: int, height: int) -> None:
    """Raise ValueError if a hint lies outside a photograph of `width` x `height` pixels."""
    for hint in hints:
        if hint.x >= width or hint.y >= height:
            raise ValueError(
                f"a hint must lie inside the photograph: x from 0 to {width - 1} and y from 0 to {height - 1}, "
                f"got ({hint.x}, {hint.y})"
            )


def parse_lines(lines: Iterable[str], source: str) -> dict[str, tuple[Hint, ...]]:
    """Hints from lines `FILE,x,y,#rrggbb`, by FILE; `x,y,#rrggbb` is the short form, whose hints have the key "".

    Args:
        lines: CSV; empty ones are skipped.
        source: what to call them in messages.

    Raises:
        ValueError: a line has another form; the message names source and line.
    """
    rows: dict[str, list[Hint]] = {}
    reader = csv.reader(lines)
    try:
        for row in reader:
            fields = [field.strip() for field in row]
            if any(fields):
                rows.setdefault(fields[0] if len(fields) == 4 else "", []).append(_hint_of_fields(fields))
    except (ValueError, csv.Error) as error:  # UnicodeDecodeError is a ValueError
        reason = "is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else error
        raise ValueError(f"{source}, line {reader.line_num}: {reason}") from error
    return {name: parse_hints(hints) for name, hints in rows.items()}


def read_hints(path: str | os.PathLike) -> dict[str, tuple[Hint, ...]]:
    """Hints from a CSV file (UTF-8, no header) with one line `FILE,x,y,#rrggbb` for each, by FILE.

    `x,y,#rrggbb` is the short form where there is one photograph only: its hints have the key "".

    Raises:
        OSError: the file cannot be read.
        ValueError: a line has another form; the message names file and line.
    """
    with open(path, newline="", encoding="utf-8-sig") as file:
        return parse_lines(file, os.fspath(path))


def _hint_of_fields(fields: list[str]) -> Hint:
    if len(fields) not in (3, 4):
        raise ValueError(f"must be x,y,#rrggbb or FILE,x,y,#rrggbb, got {','.join(fields)!r}")
    x, y = (int(field) if re.fullmatch(r"-?[0-9]{1,9}", field) else field for field in fields[-3:-1])
    return Hint(x, y, fields[-1])


# What the pipeline uses


@dataclass(frozen=True, eq=False)
class HintField:
    """The hints of one photograph, spread at model resolution.

    Args:
        hints: at least one, inside the photograph.
        size: (width, height) of the photograph.
        chroma: Cb, Cr `(2, h, w)`, float32, CPU.
        region: where it counts, `(1, h, w)` in [0, 1], float32, CPU.
    """

    hints: tuple[Hint, ...]
    size: tuple[int, int]
    chroma: torch.Tensor
    region: torch.Tensor

    @classmethod
    def spread(
        cls, hints: tuple[Hint, ...], size: tuple[int, int], guide: torch.Tensor, reach: float = REACH
    ) -> "HintField":
        """Spread hints of a photograph of `size` (width, height) over its luma at model resolution, `(1, h, w)`.

        `reach` is that of :func:`~colorization.hint_spread.propagate_hints`.
        """
        luma = guide[0].double().numpy()
        columns, rows = _scale_places(hints, size, luma.shape[::-1]).T
        chroma = propagate_hints(luma, rows, columns, np.array([hint.chroma for hint in hints]), reach)
        region = hint_region(luma, rows, columns)
        return cls(hints, size, torch.from_numpy(chroma).float(), torch.from_numpy(region).float())

    def blend(self, chroma: torch.Tensor) -> torch.Tensor:
        """Chroma `(2, h, w)` with the hints' own inside their region."""
        return torch.lerp(chroma, self.chroma, self.region)

    def pin(self, pixels: np.ndarray, luminance: np.ndarray) -> None:
        """Give the hinted pixels of a colored picture exactly their colors, in place; what is off is little.

        Around each hint its correction fades out, at the next hint at the latest and where luma differs.

        Args:
            pixels: RGB `(height, width, 3)`, uint8 or uint16; of the photograph's size, or a smaller copy.
            luminance: the photograph's luma `(height, width)`, of the same type.
        """
        radius = max(_PIN_RADIUS * math.sqrt(luminance.size / self.region.numel()), 1.0)
        places = _scale_places(self.hints, self.size, luminance.shape[::-1])
        for hint, place in zip(self.hints, places, strict=True):
            distances = np.hypot(*(places - place).T)
            _pin(pixels, luminance, place, hint.chroma, distances[distances > 0].min(initial=radius))


def _scale_places(hints: Sequence[Hint], size: tuple[int, int], new_size: tuple[int, int]) -> np.ndarray:
    """Columns and rows `(k, 2)` of hints where a picture of `size` (width, height) has been resized to `new_size`."""
    places, old, new = np.array([(hint.x, hint.y) for hint in hints]), np.array(size), np.array(new_size)
    return (2 * places + 1) * new // (2 * old)


def _pin(pixels: np.ndarray, luminance: np.ndarray, place: np.ndarray, chroma: Sequence, radius: float) -> None:
    """Correct the pixel at `place` (column, row) to `chroma`, and what is like it within `radius`; in place."""
    peak = float(np.iinfo(luminance.dtype).max)
    low = np.maximum(np.ceil(place - radius), 0).astype(int)
    (left, top), (right, bottom) = low, np.floor(place + radius).astype(int) + 1
    y = torch.from_numpy(luminance[top:bottom, left:right].astype(np.float32))[None] / peak
    rgb = torch.from_numpy(pixels[top:bottom, left:right].astype(np.float32)).permute(2, 0, 1) / peak
    own = rgb_to_chroma(rgb[None])[0]
    column, row = place - low
    center = (slice(None), slice(row, row + 1), slice(column, column + 1))
    wanted = merge_luma_chroma(y[center], torch.tensor(chroma).view(2, 1, 1))
    missing = rgb_to_chroma(wanted[None])[0] - own[center]
    grid_y, grid_x = np.ogrid[: y.shape[1], : y.shape[2]]
    distance = torch.from_numpy(np.hypot(grid_x - column, grid_y - row)).float() / radius
    weight = (1 - distance**2).clamp_min(0) ** 2 * torch.exp(-((y - y[center]) ** 2) / (2 * _PIN_LUMA**2))
    corrected = merge_luma_chroma(y, own + weight * missing).mul_(peak).round_()
    pixels[top:bottom, left:right] = corrected.permute(1, 2, 0).numpy()
