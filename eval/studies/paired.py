"""Differences between trainings at the same seeds: how large, how sure, and what is left of many of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..columns import badness

LEVEL = 0.05  # of the tests: 95% intervals, and the false discovery rate among many
NO_DIFFERENCE = "no difference shown"


@dataclass(frozen=True)
class Comparison:
    """A difference at the same seeds.

    Attributes:
        change: mean difference of the values.
        half: half the width of its 95% interval.
        verdict: "better", "worse", or `NO_DIFFERENCE` where the interval holds 0. Where the best value is 1, it is
            the distance from 1 that is compared.
        p: of the two-sided paired t-test behind the verdict.
    """

    change: float
    half: float
    verdict: str
    p: float


def student_interval(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean of a few values and half the width of its 95% interval (Student's t); None for a single value."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, None
    from scipy.stats import t

    quantile = float(t.ppf(1 - LEVEL / 2, len(values) - 1))
    return mean, quantile * float(np.std(values, ddof=1)) / math.sqrt(len(values))


def compare(pairs: Sequence[tuple[dict[int, float], dict[int, float]]], better: str) -> Comparison | None:
    """What an alteration does, over one pair of trainings before and after it, or the mean of several such pairs.

    Args:
        pairs: (before, after), each a value by seed.
        better: "lower", "higher" or "one" (closest to 1), see `eval.columns.Metric`.

    Returns:
        None where fewer than two seeds are in all of them.

    Raises:
        ValueError: a value is not finite.
    """
    seeds = sorted(set.intersection(*(set(values) for pair in pairs for values in pair)))
    if len(seeds) < 2:
        return None
    for seed in seeds:
        if not all(math.isfinite(values[seed]) for pair in pairs for values in pair):
            raise ValueError(f"values to compare must be finite, got {pairs}")
    changes = [float(np.mean([after[seed] - before[seed] for before, after in pairs])) for seed in seeds]

    def worsening(before: dict[int, float], after: dict[int, float], seed: int) -> float:
        return badness(after[seed], better, None) - badness(before[seed], better, None)

    worsenings = [float(np.mean([worsening(*pair, seed) for pair in pairs])) for seed in seeds]
    p = paired_p(worsenings)
    verdict = NO_DIFFERENCE if p > LEVEL else "better" if np.mean(worsenings) < 0 else "worse"
    return Comparison(*student_interval(changes), verdict, p)


def paired_p(differences: Sequence[float]) -> float:
    """The two-sided p of Student's paired t-test; 1 where all differences are 0, 0 where all are one other value."""
    from scipy.stats import ttest_1samp

    if np.ptp(differences) < 1e-12:  # rounding alone, of which a test makes nothing sensible
        return 1.0 if abs(differences[0]) < 1e-12 else 0.0
    return float(ttest_1samp(differences, 0.0).pvalue)


def remaining(comparisons: Sequence[Comparison]) -> list[bool]:
    """Which differences are still shown when it counts how many were sought (Benjamini and Hochberg 1995)."""
    if not comparisons:
        return []
    from scipy.stats import false_discovery_control

    adjusted = false_discovery_control([comparison.p for comparison in comparisons])
    return [bool(p <= LEVEL) for p in adjusted]
