"""Metrics as columns of tables: which are shown, how, and what is better."""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """One column.

    Attributes:
        name: key in score.json.
        title: heading.
        form: format specification of values.
        better: "lower", "higher", "one" (closest to 1), "original" (closest to the original's value), or "" where no
            value is better than another.
    """

    name: str
    title: str
    form: str = ".2f"
    better: str = "lower"


HUE_SECTORS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink")
SECTIONS: dict[str, tuple[Metric, ...]] = {
    "Distance to the originals": (
        Metric("fid", "FID"),
        Metric("kid", "KID", ".4f"),
        Metric("hi_fid", "HI-FID"),
        Metric("fd_lite2", "FD-Lite2"),
        Metric("kd_lite2", "KD-Lite2", ".4f"),
        Metric("feature_distance", "feature distance"),
    ),
    "Color": (
        Metric("colorfulness", "colorfulness", ".1f", "original"),
        Metric("colorfulness_absolute", "colorfulness of absolute differences", ".1f", "original"),
        Metric("colorfulness_ratio", "colorfulness / original's", ".2f", "one"),
        Metric("delta_colorfulness_mean", "difference of mean colorfulness", ".1f"),
        Metric("delta_colorfulness_each", "mean difference of colorfulness", ".1f"),
    ),
    "Pixels": (
        Metric("psnr", "PSNR (dB)", ".2f", "higher"),
        Metric("ssim", "SSIM", ".4f", "higher"),
        Metric("lpips", "LPIPS", ".4f"),
        Metric("ciede2000", "CIEDE2000"),
        Metric("chroma_error", "chroma error"),
    ),
    "Prompts, variety and speed": (
        Metric("clip_score", "CLIP score", ".2f", "higher"),
        Metric("color_word_hit_rate", "color-word hit rate", ".3f", "higher"),
        Metric("diversity", "diversity (CIEDE2000 between seeds)", ".2f", ""),
        Metric("best_of_k_ciede2000", "CIEDE2000, best of k seeds"),
        Metric("seconds_per_image", "seconds per photograph"),
    ),
    "Chroma error by the original's hue": tuple(Metric(f"chroma_error_{sector}", sector) for sector in HUE_SECTORS),
    "Chroma retention by the original's hue": tuple(
        Metric(f"chroma_retention_{sector}", sector, ".2f", "one") for sector in HUE_SECTORS
    ),
}
METRICS: dict[str, Metric] = {metric.name: metric for section in SECTIONS.values() for metric in section}
DISTANCES = ("fid", "fd_lite2", "kd_lite2", "feature_distance")  # the first that is there stands for quality in plots


def value_of(entry: dict | None) -> float | None:
    """The value of an entry of METRICS; None where it is absent or not finite."""
    value = None if entry is None else entry.get("value")
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def show_metric(entry: dict | None, form: str) -> str:
    """A value with its interval, or else with its standard error; "n/a" where there is none."""
    value = value_of(entry)
    if value is None:
        return "n/a"
    text = format(value, form)
    interval = entry.get("interval")
    if interval is not None:
        return f"{text} ({format(interval[0], form)} to {format(interval[1], form)})"
    error = entry.get("standard_error")
    return text if error is None else f"{text} ± {format(error, form)}"


def badness(value: float, better: str, target: float | None) -> float:
    """What the best value has least of: 0 at a target, unbounded for "lower" and "higher"."""
    if better in ("one", "original"):
        return abs(value - (1.0 if better == "one" else target))
    return -value if better == "higher" else value


def best_rows(values: Sequence[float | None], metric: Metric, target: float | None = None) -> set[int]:
    """Rows with the best value, those that look the same in print included.

    Args:
        values: one per row; None takes no part.
        metric: says what is better.
        target: the original's value, for metrics that are best there.

    Returns:
        Nothing where there are not two values to compare, or no value is better than another.
    """
    present = [value for value in values if value is not None]
    if len(present) < 2 or not metric.better or (metric.better == "original" and target is None):
        return set()
    best = format(min(present, key=lambda value: badness(value, metric.better, target)), metric.form)
    return {row for row, value in enumerate(values) if value is not None and format(value, metric.form) == best}
