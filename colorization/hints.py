"""Color hints: single points of a photograph whose color the user has chosen, and how they spread.

Two things are made of them at model resolution. The chroma of every pixel is a weighted mean of the hints' chroma, by
the linear system of Levin, Lischinski and Weiss (2004), "Colorization using Optimization". The region says where that
chroma counts: it ends a limited geodesic distance away from the hints, a way being the longer the more luma changes
along it. So a hint colors the object it is on, and the model decides about the rest.
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
import scipy.sparse
import scipy.sparse.csgraph
import scipy.sparse.linalg
import torch

from .color import merge_luma_chroma, rgb_to_chroma

FORM = 'Hint(x, y, "#rrggbb") or (x, y, "#rrggbb")'

# Levin's weights: exp(-(luma difference)^2 / (0.6 times the variance of luma in the pixel's 3 x 3 window)). The lower
# bound is the noise of a photograph: without it a flat wall's grain would stop color like an edge.
_VARIANCE_SHARE = 0.6
_VARIANCE_FLOOR = 8e-4

_FEWEST = 1e-290  # share of walks that arrive; a quotient of smaller numbers has lost its digits

# Lengths as shares of the picture's side (the square root of its area), so that resolution does not matter.
REACH = 0.15  # over which a hint's say falls by a factor of e
_FARTHEST = 0.5  # where a hint's region ends, in a direction in which luma hardly changes
_FULL = 0.25  # up to this share of the whole way the hint alone counts
_LUMA_COST = 20.0  # of the whole way, for a change of luma by 1
_FREE_SLOPE = 4.0  # changes of luma per picture side that cost nothing: shading and fine texture

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


# Solver


def _check_points(luma: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Indices `(k,)` of the points in the flattened picture."""
    luma, rows, columns = np.asarray(luma), np.asarray(rows), np.asarray(columns)
    if luma.ndim != 2 or not luma.size:
        raise ValueError(f"`luma` must have shape (height, width), got {luma.shape}")
    if rows.ndim != 1 or rows.shape != columns.shape or not len(rows):
        raise ValueError(f"`rows` and `columns` must be (k,) with k at least 1, got {rows.shape} and {columns.shape}")
    height, width = luma.shape
    if rows.min() < 0 or columns.min() < 0 or rows.max() >= height or columns.max() >= width:
        raise ValueError(f"`rows` must be below {height} and `columns` below {width}, and neither negative")
    return rows * width + columns


def affinity(luma: np.ndarray) -> scipy.sparse.csr_array:
    """Levin's weights (equation 2): row r holds those of the up to 8 neighbors of pixel r, which sum to 1.

    Args:
        luma: `(height, width)` in [0, 1].

    Returns:
        `(n, n)` with n = height * width, float64.
    """
    height, width = luma.shape
    n = height * width
    padded = np.pad(np.asarray(luma, np.float64), 1, constant_values=np.nan)
    index = np.pad(np.arange(n).reshape(height, width), 1, constant_values=-1)
    offsets = [(dy, dx) for dy in (0, 1, 2) for dx in (0, 1, 2)]
    windows = np.stack([padded[dy : dy + height, dx : dx + width] for dy, dx in offsets])
    neighbors = np.stack([index[dy : dy + height, dx : dx + width] for dy, dx in offsets])
    spread = np.maximum(_VARIANCE_SHARE * np.nanvar(windows, axis=0), _VARIANCE_FLOOR)
    inside = neighbors >= 0
    inside[4] = False  # the pixel itself
    weights = np.where(inside, np.exp(-(np.nan_to_num(windows - luma) ** 2) / spread), 0)
    weights /= np.maximum(weights.sum(axis=0), np.finfo(np.float64).tiny)  # a picture of one pixel has no neighbors
    pixels = np.broadcast_to(index[1:-1, 1:-1], inside.shape)
    return scipy.sparse.csr_array((weights[inside], (pixels[inside], neighbors[inside])), shape=(n, n))


def propagate_hints(
    luma: np.ndarray, rows: np.ndarray, columns: np.ndarray, chroma: np.ndarray, reach: float = REACH
) -> np.ndarray:
    """Chroma for the whole picture from that of some pixels.

    Levin, Lischinski and Weiss: what no hint fixes is the weighted mean of its neighbors, U(r) = sum_s w_rs U(s). That
    is where a random walk from r first meets a hint, on average. Here, unless `reach` is infinite, the walk may also
    get lost at each step, and the mean is over walks that do not: near hints count for more than far ones, where the
    plain mean of a flat region is a mixture of all of them. U(r) stays a weighted mean of the neighbors.

    Args:
        luma: `(height, width)` in [0, 1].
        rows, columns: of the hints, `(k,)` whole numbers.
        chroma: of the hints, Cb and Cr `(k, 2)`. Several hints on one pixel count as their mean.
        reach: the way after which a walk is lost, as a share of the picture's side; `math.inf` is the paper's method.
            What is less than a pixel counts as about one.

    Returns:
        Cb and Cr `(2, height, width)`, float64, inside the range of the hints'; the hints' mean where, far beyond the
        reach, no walk is left to be counted.

    Raises:
        ValueError: shapes do not fit, points lie outside, `reach` is not above 0.
    """
    points = _check_points(luma, rows, columns)
    chroma = np.asarray(chroma, np.float64)
    if chroma.shape != (len(points), 2) or not np.isfinite(chroma).all():
        raise ValueError(f"`chroma` must be finite and ({len(points)}, 2), got {chroma.shape}")
    if not reach > 0:
        raise ValueError(f"`reach` must be above 0, got {reach!r}")
    luma = np.asarray(luma, np.float64)
    n = luma.size
    count = np.bincount(points, minlength=n)
    fixed = count > 0
    known = np.ones((n, 3))
    known[:, :2] = (
        np.stack([np.bincount(points, plane, n) for plane in chroma.T], axis=1) / np.maximum(count, 1)[:, None]
    )
    known[~fixed] = 0
    # A step to one of 8 equal neighbors has a variance of 3/4 along each axis, so u = lost / 0.375 u'' decays by e
    # over sqrt(0.375 / lost) pixels. At most every second walk is lost at a step.
    lost = 0.375 / max(reach**2 * n, 0.75)
    walk = scipy.sparse.diags_array(np.where(fixed, 0, 1 - lost)) @ affinity(luma)
    system = scipy.sparse.csc_array(scipy.sparse.eye_array(n) - walk)
    # Diagonally dominant with a symmetric pattern: no pivoting is needed, and this ordering halves the fill-in.
    factors = scipy.sparse.linalg.splu(
        system, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True}
    )
    solution = factors.solve(known)
    arrived = solution[:, 2:]
    counted = arrived > _FEWEST
    spread = np.where(counted, solution[:, :2] / np.where(counted, arrived, 1), chroma.mean(axis=0))
    return spread.T.reshape(2, *luma.shape)


def hint_region(luma: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Where hints count: 1 on and around them, falling to 0 with the geodesic distance.

    The length of a way is the distance it covers and the change of luma along it, slow changes left out; an edge thus
    ends a region however soft it is drawn, where weights of single pixels would let color through.

    Args:
        luma: `(height, width)` in [0, 1].
        rows, columns: of the hints, `(k,)` whole numbers.

    Returns:
        `(1, height, width)` in [0, 1], float64.

    Raises:
        ValueError: shapes do not fit, points lie outside.
    """
    points = _check_points(luma, rows, columns)
    luma = np.asarray(luma, np.float64)
    height, width = luma.shape
    side = math.sqrt(luma.size)
    index = np.arange(luma.size).reshape(height, width)
    starts, ends, lengths = [], [], []
    for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
        here = (slice(0, height - dy), slice(max(0, -dx), width - max(0, dx)))
        there = (slice(dy, height), slice(max(0, dx), width - max(0, -dx)))
        distance = math.hypot(dy, dx) / side
        change = np.maximum(np.abs(luma[there] - luma[here]) - _FREE_SLOPE * distance, 0)
        starts.append(index[here].ravel())
        ends.append(index[there].ravel())
        lengths.append((distance / _FARTHEST + _LUMA_COST * change).ravel())
    edges = (np.concatenate(lengths), (np.concatenate(starts), np.concatenate(ends)))
    graph = scipy.sparse.csr_array(edges, shape=(luma.size, luma.size))
    distances = scipy.sparse.csgraph.dijkstra(graph, directed=False, indices=np.unique(points), limit=1, min_only=True)
    share = np.clip((1 - distances) / (1 - _FULL), 0, 1)
    return (share**2 * (3 - 2 * share)).reshape(1, height, width)


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

        `reach` is that of :func:`propagate_hints`.
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
