"""The metrics of a row, from what was measured of its pictures."""

from collections.abc import Callable, Sequence

import numpy as np

from .checked_run import CheckedRun, Item
from .metrics.colors import HUE_SECTORS
from .metrics.inception import kernel_inception_distance
from .metrics.intervals import wilson_interval
from .networks import NO_PROMPTS, Networks
from .runs import GRAY, ORIGINAL, OUTPUT
from .scorer import SMALLEST_FOR_LPIPS, SMALLEST_FOR_SSIM, Scorer
from .summary import (
    MINIMUM_FOR_FRECHET,
    TOO_FEW,
    absent,
    feature_metrics,
    frechet_metric,
    mean_metric,
    ratio_metric,
)


def row_metrics(name: str, scorer: Scorer, networks: Networks, run: CheckedRun, seed: int) -> dict:
    """The metrics of one row by name, each with value, n and interval, and a reason where there is no value."""
    values, original = scorer.rows[name], scorer.rows[ORIGINAL]
    n = len(run.items)

    def rng() -> np.random.Generator:  # a fresh one each time: no metric depends on which others are there
        return np.random.default_rng(seed)

    def mean(key: str, reason: str) -> dict:
        scores = values.scores[key]
        return mean_metric(scores[np.isfinite(scores)], rng(), reason)

    own, reference = values.scores["colorfulness"], original.scores["colorfulness"]
    pairs = np.stack([own, reference], axis=1)
    metrics = inception_metrics(name, scorer, networks, seed)
    if "lite2" in networks.features:
        metrics |= feature_metrics(values.features["lite2"], original.features["lite2"], seed)
    else:
        reason = networks.missing["lite2"]
        metrics |= {key: absent(reason, n) for key in ("fd_lite2", "kd_lite2", "feature_distance")}
    metrics |= {
        "colorfulness": mean_metric(own, rng()),
        "colorfulness_absolute": mean("colorfulness_absolute", "no values"),
        "delta_colorfulness_mean": mean_metric(
            pairs, rng(), of_means=lambda means: np.abs(means[..., 0] - means[..., 1])
        ),
        "delta_colorfulness_each": mean_metric(np.abs(own - reference), rng()),
        "colorfulness_ratio": ratio_metric(own, reference, rng(), "an original is gray"),
        "psnr": mean("psnr", "the pictures equal their originals"),
        "ssim": mean("ssim", f"all pictures have a side below {SMALLEST_FOR_SSIM} pixels"),
        "lpips": mean(
            "lpips", networks.missing.get("lpips", f"all pictures have a side below {SMALLEST_FOR_LPIPS} pixels")
        ),
        "ciede2000": mean("ciede2000", "no values"),
        "chroma_error": mean("chroma_error", "no values"),
        "clip_score": mean("clip_score", networks.missing.get("clip", NO_PROMPTS)),
        "color_word_hit_rate": hit_rate(values.scores["hit"], run.items),
    }
    metrics |= sector_metrics(values.sectors, rng)
    one_seed = "needs --extra-seeds" if name == OUTPUT else "only outputs depend on a seed"
    best, diversity = (scores if name == OUTPUT else scores[:0] for scores in (scorer.best, scorer.diversity))
    metrics["diversity"] = mean_metric(diversity[np.isfinite(diversity)], rng(), one_seed)
    metrics["best_of_k_ciede2000"] = mean_metric(best[np.isfinite(best)], rng(), one_seed)
    seconds = [item.seconds for item in run.items if item.seconds is not None] if name == OUTPUT else []
    metrics["seconds_per_image"] = mean_metric(np.array(seconds), rng(), "no time was taken")
    return metrics


def inception_metrics(name: str, scorer: Scorer, networks: Networks, seed: int) -> dict:
    """FID, KID and HI-FID of a row."""
    values, n = scorer.rows[name], len(scorer.diversity)
    if "inception" not in networks.features:
        return {key: absent(networks.missing["inception"], n) for key in ("fid", "kid", "hi_fid")}
    features, reference = values.features["inception"], scorer.rows[ORIGINAL].features["inception"]
    fid = frechet_inception_metric(features, reference)
    kid = absent("needs at least 4 photographs", n) | {"standard_error": None}
    if n >= 4:
        value, error = kernel_inception_distance(features, reference, np.random.default_rng(seed))
        kid = {"value": value, "standard_error": error, "n": n, "interval": None}
    if "inception_hi" in values.features:
        hi_fid = frechet_inception_metric(values.features["inception_hi"], reference)
        hi_fid["unmatched"] = values.unmatched
    elif name == GRAY:
        hi_fid = absent("gray pictures have no chroma to rescale", n)
    else:
        hi_fid = dict(fid)
    return {"fid": fid, "kid": kid, "hi_fid": hi_fid}


def frechet_inception_metric(features: np.ndarray, reference: np.ndarray) -> dict:
    """FID of features `(n, d)`: a value on few photographs too, as tables of others have, with a `note` that warns."""
    metric = frechet_metric(features, reference)
    few = metric["value"] is not None and metric["n"] < MINIMUM_FOR_FRECHET
    return metric | {"note": TOO_FEW} if few else metric


def hit_rate(verdicts: np.ndarray, items: Sequence[Item]) -> dict:
    """Color-word hit rate: share of prompts with a color word whose picture has that color in its middle.

    Args:
        verdicts: `(n,)`, 1 or 0, NaN where the prompt names no color or the luminance cannot show it.
    """
    counted = verdicts[np.isfinite(verdicts)]
    if not any(item.caption for item in items):
        return absent(NO_PROMPTS)
    if not len(counted):
        return absent("no prompt names a color that its picture can show")
    hits = int(counted.sum())
    return {
        "value": hits / len(counted),
        "n": len(counted),
        "interval": list(wilson_interval(hits, len(counted))),
    }


def sector_metrics(sectors: np.ndarray, rng: Callable[[], np.random.Generator]) -> dict:
    """Chroma error and retention by the hue of the original; a picture weighs by its share of pixels of that hue.

    Args:
        sectors: `(n, 1 + len(HUE_SECTORS), 4)`, see `RowValues`.
    """
    metrics = {}
    for index, sector in enumerate(HUE_SECTORS, 1):
        share, error, chroma, reference_chroma = sectors[sectors[:, index, 0] > 0, index].T
        reason = f"no original has {sector} pixels"
        metrics[f"chroma_error_{sector}"] = ratio_metric(error, share, rng(), reason)
        metrics[f"chroma_retention_{sector}"] = ratio_metric(chroma, reference_chroma, rng(), reason)
    return metrics
