"""From values of single photographs and their features to metrics with intervals.

A metric is a dictionary with `value` (None where there is none, with a `reason`), `n` and `interval` (95%, or None).
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from .metrics.frechet import FeatureStatistics, frechet_distance, kernel_distance
from .metrics.intervals import bootstrap_interval

if TYPE_CHECKING:  # torch is imported once the arguments are known to be good
    import torch


MINIMUM_FOR_FRECHET = 2000  # photographs; below, the covariance of 1,280 or 2,048 features says too little
TOO_FEW = f"n too small to compare: below {MINIMUM_FOR_FRECHET:,} photographs n itself moves the distance"
KERNEL_PHOTOGRAPHS = 5000  # at most; the kernel distance takes 8 bytes for every pair of them, several times
_CHUNK = 512  # feature vectors in float64 at once


def absent(reason: str, n: int = 0) -> dict:
    """A metric that has no value."""
    return {"value": None, "n": n, "interval": None, "reason": reason}


def mean_metric(
    values: np.ndarray,
    rng: np.random.Generator,
    reason: str = "no values",
    of_means: Callable[[np.ndarray], np.ndarray] = lambda means: means,
) -> dict:
    """Mean over photographs, or something made of several means, with its 95% bootstrap interval.

    Args:
        values: `(n,)` or `(n, k)`, finite.
        rng: draws the resamples.
        reason: why there is no value where n is 0.
        of_means: see `intervals.bootstrap_interval`.
    """
    values = np.asarray(values, np.float64)
    if not len(values):
        return absent(reason)
    interval = list(bootstrap_interval(values, rng, of_means)) if len(values) > 1 else None
    return {"value": float(of_means(values.mean(axis=0))), "n": len(values), "interval": interval}


def psnr_metric(values: np.ndarray, rng: np.random.Generator, baseline: np.ndarray | float = 0.0) -> dict:
    """Mean PSNR, or mean gain over a baseline's, of the photographs where it is finite; of equal pictures it is not.

    Args:
        values: `(n,)`.
        rng: draws the resamples.
        baseline: PSNR of the same photographs, `(n,)`.
    """
    finite = np.isfinite(values) & np.isfinite(baseline)
    gains = values[finite] - np.broadcast_to(baseline, values.shape)[finite]
    return mean_metric(gains, rng, "output and original are equal everywhere")


def ratio_metric(numerator: np.ndarray, denominator: np.ndarray, rng: np.random.Generator, reason: str) -> dict:
    """Sum of one value over the sum of another, over photographs; both `(n,)`.

    Args:
        reason: why there is no value where a denominator is 0, so that a resample's sum could be.
    """
    pairs = np.stack([numerator, denominator], axis=1)
    if not len(pairs) or not pairs[:, 1].all():
        return absent(reason, len(pairs))
    return mean_metric(pairs, rng, of_means=lambda means: means[..., 0] / means[..., 1])


def feature_statistics(features: np.ndarray) -> FeatureStatistics:
    """Mean and covariance of features `(n, d)`, which may lie in a file: they are read in parts."""
    statistics = FeatureStatistics(features.shape[1])
    for start in range(0, len(features), _CHUNK):
        statistics.update(features[start : start + _CHUNK])
    return statistics


def frechet_metric(features: np.ndarray, reference: np.ndarray, minimum: int = 2) -> dict:
    """Frechet distance, also `relative` to the trace of the reference's covariance; none below `minimum` vectors.

    Args:
        features, reference: `(n, d)`; they may lie in files.
        minimum: of n.
    """
    n, dimension = features.shape
    if n < minimum:
        return absent(f"needs at least {minimum} photographs", n) | {"relative": None}
    if n < dimension:
        distance, variance = _frechet_distance_of_few(features, reference)
    else:
        statistics, reference_statistics = feature_statistics(features), feature_statistics(reference)
        sigma = reference_statistics.covariance
        distance = frechet_distance(statistics.mean, statistics.covariance, reference_statistics.mean, sigma)
        variance = float(np.trace(sigma))
    relative = distance / variance if variance > 0 else None
    return {"value": distance, "relative": relative, "n": n, "interval": None}


def _frechet_distance_of_few(features: np.ndarray, reference: np.ndarray) -> tuple[float, float]:
    """The same Frechet distance, and the trace of the reference's covariance, where n < d.

    The covariances are X^T X and Y^T Y with X and Y of n rows. The trace of the root of their product is then the sum
    of the singular values of X Y^T, which is n x n: no matrix of d x d is needed.
    """
    x, y = np.asarray(features, np.float64), np.asarray(reference, np.float64)
    shift = x.mean(axis=0) - y.mean(axis=0)
    x, y = ((part - part.mean(axis=0)) / np.sqrt(len(part) - 1) for part in (x, y))
    variance = float((y**2).sum())
    trace_of_root = np.linalg.svd(x @ y.T, compute_uv=False).sum()
    return max(float((shift**2).sum() + (x**2).sum() + variance - 2 * trace_of_root), 0.0), variance


def kernel_metric(features: np.ndarray, reference: np.ndarray, rng: np.random.Generator) -> dict:
    """Kernel distance of paired features `(n, d)` with its standard error.

    Of more than `KERNEL_PHOTOGRAPHS` photographs so many are drawn, without replacement; `n` is how many were.
    """
    n = len(features)
    if n < 4:  # two subsets of two that differ
        return absent("needs at least 4 photographs", n) | {"standard_error": None}
    if n > KERNEL_PHOTOGRAPHS:
        rows = np.sort(rng.choice(n, size=KERNEL_PHOTOGRAPHS, replace=False))
        features, reference, n = features[rows], reference[rows], KERNEL_PHOTOGRAPHS
    value, standard_error = kernel_distance(features, reference, rng)
    return {"value": value, "standard_error": standard_error, "n": n, "interval": None}


def feature_metrics(features: np.ndarray, reference: np.ndarray, seed: int) -> dict:
    """FD-Lite2, KD-Lite2 and the mean distance of a picture's features from its original's.

    Args:
        features, reference: `(n, d)`, row i of both made from photograph i; they may lie in files.
        seed: of the resampling.
    """
    rng = np.random.default_rng(seed)
    distance = frechet_metric(features, reference, MINIMUM_FOR_FRECHET)
    kernel = kernel_metric(features, reference, rng)
    shifts = feature_shifts(features, reference)
    return {"fd_lite2": distance, "kd_lite2": kernel, "feature_distance": mean_metric(shifts, rng)}


def feature_shifts(features: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Euclidean distance of each photograph's features from its original's, `(n, d)` twice to `(n,)`."""
    return np.concatenate(
        [
            np.linalg.norm(
                features[start : start + _CHUNK].astype(np.float64) - reference[start : start + _CHUNK], axis=1
            )
            for start in range(0, len(features), _CHUNK)
        ]
    )


def pixel_metrics(scores: np.ndarray, original_colorfulness: np.ndarray, seed: int) -> dict:
    """Means with 95% bootstrap intervals over the photographs.

    Args:
        scores: `(n, 5)`: PSNR, CIEDE2000, chroma error, colorfulness as published and of absolute differences.
        original_colorfulness: `(n, 2)`: the last two for the originals.
        seed: of the resampling.
    """
    rng = np.random.default_rng(seed)
    own, original = scores[:, 3], original_colorfulness[:, 0]
    ratio = ratio_metric(own, original, rng, "an original is gray")
    return {
        "psnr": psnr_metric(scores[:, 0], rng),
        "ciede2000": mean_metric(scores[:, 1], rng),
        "chroma_error": mean_metric(scores[:, 2], rng),
        "colorfulness": mean_metric(own, rng),
        "colorfulness_original": mean_metric(original, rng),
        "colorfulness_ratio": ratio,
        "colorfulness_difference": mean_metric(np.abs(own - original), rng),
        "colorfulness_absolute": mean_metric(scores[:, 4], rng),
        "colorfulness_absolute_original": mean_metric(original_colorfulness[:, 1], rng),
    }


def to_tensor(image: np.ndarray) -> "torch.Tensor":
    """uint8 `(height, width, 3)` to float32 `(1, 3, height, width)` in [0, 1]."""
    import torch

    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255


def both_colorfulnesses(image: "torch.Tensor") -> tuple[float, float]:
    """Colorfulness of one picture `(1, 3, height, width)` as published, and of absolute differences."""
    from colorization.color import colorfulness

    return colorfulness(image).item(), colorfulness(image, absolute=True).item()
