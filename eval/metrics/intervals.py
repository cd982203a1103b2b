"""Intervals of means and of shares."""

import math
from collections.abc import Callable

import numpy as np

_RESAMPLED = 2**18  # values that the bootstrap holds at once


def bootstrap_interval(
    values: np.ndarray,
    rng: np.random.Generator,
    of_means: Callable[[np.ndarray], np.ndarray] = lambda means: means,
    level: float = 0.95,
    resamples: int = 1000,
) -> tuple[float, float]:
    """Percentile bootstrap interval (Efron 1979) of a mean over pictures, or of something made of several means.

    Args:
        values: `(n,)`, or `(n, k)` where a picture has several values: they stay together.
        rng: draws the resamples.
        of_means: from means over pictures `(..., k)`, for `(n,)` values `(...)`, to the statistic `(...)`.
        level: share of resamples inside the interval, between 0 and 1.
        resamples: how many.

    Raises:
        ValueError: no values, some that are not finite, or a level out of range.
    """
    values = np.asarray(values, np.float64)
    if not len(values) or not np.isfinite(values).all():
        raise ValueError(f"`values` must be finite and at least one, got {len(values)}")
    if not 0 < level < 1:
        raise ValueError(f"`level` must be between 0 and 1, got {level}")
    n = len(values)
    columns = np.ascontiguousarray(values.reshape(n, -1).T)
    means = np.empty((resamples, len(columns)))
    at_once = max(1, _RESAMPLED // n)
    for start in range(0, resamples, at_once):
        part = means[start : start + at_once]
        rows = rng.integers(n, size=(len(part), n))
        for column, mean in zip(columns, part.T, strict=True):
            mean[:] = column.take(rows).mean(axis=1)
    means = means.reshape(resamples, *values.shape[1:])
    low, high = np.quantile(of_means(means), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def wilson_interval(hits: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson (1927) score interval of a share; `z` is the normal quantile, 95% by default.

    Raises:
        ValueError: no trials, or more hits than trials.
    """
    if n < 1 or not 0 <= hits <= n:
        raise ValueError(f"`hits` must be from 0 to `n` and `n` at least 1, got {hits} of {n}")
    share = hits / n
    center = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    # Rounding must not take the limits 0 and 1 away where no trial, or every trial, was a hit.
    return 0.0 if hits == 0 else center - half, 1.0 if hits == n else center + half
