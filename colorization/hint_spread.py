"""How color hints spread over a photograph at model resolution.

Two things are made of them. The chroma of every pixel is a weighted mean of the hints' chroma, by the linear system
of Levin, Lischinski and Weiss (2004), "Colorization using Optimization". The region says where that chroma counts: it
ends a limited geodesic distance away from the hints, a way being the longer the more luma changes along it. So a hint
colors the object it is on, and the model decides about the rest.
"""

import math

import numpy as np
import scipy.sparse
import scipy.sparse.csgraph
import scipy.sparse.linalg

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
