"""The score of a run: its rows' metrics, as score.json holds them, and a table of its photographs."""

import argparse
import tempfile
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
import torch

from .checked_run import CheckedRun, Item
from .files import package_versions, write_result
from .metrics.color_words import HUE_WORDS, judge, word_hit_rate
from .metrics.colors import HUE_SECTORS, MINIMUM_CHROMA
from .networks import Networks, load_networks
from .photos import decode
from .row_metrics import row_metrics
from .runs import COLOR_WORDS, FORMAT, ORIGINAL, OUTPUT, SCORE_FILE, write_per_image
from .scorer import Scorer
from .summary import feature_shifts

PACKAGES = (
    *("cold-colorizer", "torch", "torchvision", "torchmetrics", "torch-fidelity", "lpips", "transformers", "numpy"),
    *("pillow", "efficientnet_lite_pytorch"),
)
_PER_IMAGE = ("psnr", "ssim", "lpips", "ciede2000", "colorfulness", "reference_colorfulness", "feature_distance")
_PER_IMAGE += ("chroma_error",)


def score_run(arguments: argparse.Namespace, scored: CheckedRun, extra: Sequence[CheckedRun]) -> Path:
    """Measure a run and write what was found into its folder.

    Args:
        arguments: of the command.
        scored: the run.
        extra: runs over the same pictures with other seeds.

    Returns:
        The path of score.json.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if scored.request.get("prompt_mode") == COLOR_WORDS:
        networks = Networks()
        rows = {OUTPUT: {"color_word_hit_rate": color_word_hit_rate(scored.items, arguments.seed)}}
    else:
        networks = _load_networks(arguments, scored, device)
        rows = _measure_rows(arguments, scored, extra, networks)
    file = arguments.folder / SCORE_FILE
    write_result(file, _result(arguments, scored, networks, rows, device))
    return file


def color_word_hit_rate(items: Sequence[Item], seed: int) -> dict:
    """How often pictures take the color that their prompts name, of a run with color words.

    Args:
        items: of each photograph one for every word of `HUE_WORDS` and one without.
        seed: of the resampling.

    Raises:
        ValueError: a photograph lacks one; the message names it.
    """
    verdicts = []  # for each photograph and word: hit with the word, hit without it; NaN where it cannot be shown
    for photo, group in groupby(sorted(items, key=lambda item: item.photo), key=lambda item: item.photo):
        pictures = {item.word: decode(item.image) for item in group}
        missing = {"", *HUE_WORDS} - pictures.keys()
        if missing:
            raise ValueError(f"{photo}: has no picture with the word {sorted(missing)[0]!r}")
        pairs = [(judge(pictures[word], word), judge(pictures[""], word)) for word in HUE_WORDS]
        verdicts.append([[np.nan if None in pair else float(hit) for hit in pair] for pair in pairs])
    return word_hit_rate(np.array(verdicts), seed)


def _load_networks(arguments: argparse.Namespace, scored: CheckedRun, device: str) -> Networks:
    prompted = any(item.caption for item in scored.items)
    return load_networks(
        arguments.inception_weights,
        arguments.inception,
        arguments.lpips_weights,
        arguments.clip_model if prompted else None,
        device,
    )


def _measure_rows(
    arguments: argparse.Namespace, scored: CheckedRun, extra: Sequence[CheckedRun], networks: Networks
) -> dict[str, dict]:
    """The metrics of each row; those of the photographs are written."""
    with tempfile.TemporaryDirectory(prefix="eval-score-") as workspace:
        scorer = Scorer(scored, extra, networks, Path(workspace), arguments.cache)
        scorer.measure()
        rows = {name: row_metrics(name, scorer, networks, scored, arguments.seed) for name in scorer.rows}
        write_per_image(arguments.folder, [item.id for item in scored.items], _per_image(scorer, len(scored.items)))
    return rows


def _per_image(scorer: Scorer, n: int) -> dict[str, np.ndarray]:
    """What was measured of each photograph, `(n,)` by name."""
    values, original = scorer.rows[OUTPUT], scorer.rows[ORIGINAL]
    columns = values.scores | {"reference_colorfulness": original.scores["colorfulness"]}
    columns["feature_distance"] = np.full(n, np.nan)
    if "lite2" in values.features:
        columns["feature_distance"] = feature_shifts(values.features["lite2"], original.features["lite2"])
    return {name: columns[name] for name in _PER_IMAGE}


def _result(arguments: argparse.Namespace, scored: CheckedRun, networks: Networks, rows: dict, device: str) -> dict:
    inception = networks.features.get("inception")
    lite2 = networks.features.get("lite2")
    return {
        "format": FORMAT,
        "run": scored.request,
        "data": scored.data,
        "rows": rows,
        "settings": {
            "resize": {name: network.resize for name, network in networks.features.items()},
            "seed": arguments.seed,
            "inception": arguments.inception if inception else None,
            "clip_model": networks.clip.name if networks.clip else None,
            "hue_sectors": {"space": "OKLCh", "minimum_chroma": MINIMUM_CHROMA, "start_degrees": HUE_SECTORS},
            "extra_seeds": [folder.resolve().name for folder in arguments.extra_seeds],
            "device": device,
        },
        "seed": arguments.seed,
        "versions": package_versions(PACKAGES),
        "weights": {
            "lite2": lite2.weights_sha256 if lite2 else None,
            "inception": inception.weights_sha256 if inception else None,
            "lpips": networks.lpips.weights_sha256 if networks.lpips else None,
        },
    }
