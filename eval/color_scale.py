"""Compare color scales: fixed ones, and the one that the model chooses for each photograph (`color_scale="auto"`).

    python -m eval.color_scale --photos data/free-photos "data/tiny-imagenet-64/validation-*.parquet" --limit 300 \\
      --output eval/results/color-scale.json
    python -m eval.color_scale --table eval/results/color-scale.json

Every photograph is sampled once, with the model's default settings and without a prompt, and rendered at every scale.
Two more rules say what "auto" owes to what: "equal" gives all photographs of a set the same colorfulness, the mean of
those predicted, and "oracle" gives each its original's, as if the prediction were perfect.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from colorization.command_line import Parser, at_least, share_cores

from .compare import PACKAGES, model_folder, weights_sha256
from .photos import NamedPhoto, is_gray, load_photos, photo_seed, set_name
from .summary import absent, mean_metric, package_versions, psnr_metric, show_metric, to_tensor, write_result

if TYPE_CHECKING:  # torch is imported once the arguments are known to be good
    from colorization import ColorizationPipeline

FORMAT = 1
SCALES = (0.5, 1.0, 1.25, 1.5, 1.75, 2.0)
AUTO, EQUAL, ORACLE = "auto", "equal", "oracle"
RULES = {
    AUTO: "auto",
    EQUAL: "the same colorfulness for all",
    ORACLE: "the original's colorfulness (not known in use)",
}


# Measuring


def measure_set(
    pipeline: "ColorizationPipeline", photos: Sequence[NamedPhoto], scales: Sequence[float], seed: int
) -> dict:
    """Color every photograph of a set once and measure every scale and rule; an entry of "sets" without its data.

    Args:
        pipeline: with the component `vividness`.
        photos: with color, at least 2.
        scales: fixed color scales.
        seed: of the noise (each photograph has its own, made from it) and of the resampling.
    """
    from tqdm import tqdm

    from colorization.color import colorfulness
    from colorization.image_io import as_photo
    from colorization.vividness import choose_color_scale

    from .pixel_metrics import psnr

    originals = [photo.pixels() for photo in photos]
    grays = [as_photo(original) for original in originals]
    predictions = pipeline(
        grays, seed=[photo_seed(seed, photo) for photo in photos], color_scale=1.0, output_type="chroma"
    ).images
    actual = np.array([colorfulness(to_tensor(original)).item() for original in originals])
    predicted = np.array([pipeline.predict_colorfulness(prediction) for prediction in predictions])
    targets = {AUTO: predicted, EQUAL: np.full(len(photos), predicted.mean()), ORACLE: actual}
    chosen = {f"{scale:g}": np.full(len(photos), scale) for scale in scales}
    for rule, wanted in targets.items():
        pairs = zip(predictions, wanted, strict=True)
        chosen[rule] = np.array([choose_color_scale(p.scaled_chroma, p.guide, float(target)) for p, target in pairs])
    scores = {rule: np.empty((len(photos), 2)) for rule in chosen}
    for row, original in enumerate(tqdm(originals, desc="rendering", unit="photo")):
        for rule, values in chosen.items():
            image = to_tensor(predictions[row].render(grays[row].luma, float(values[row])))
            scores[rule][row] = psnr(image, to_tensor(original)).item(), colorfulness(image).item()
    return {
        "prediction": prediction_metrics(predicted, actual, seed),
        "rows": {rule: rule_metrics(scores[rule], chosen[rule], actual, seed) for rule in chosen},
        "auto_minus": {
            rule: difference_metrics(scores[AUTO], scores[rule], actual, seed) for rule in chosen if rule != AUTO
        },
    }


def prediction_metrics(predicted: np.ndarray, actual: np.ndarray, seed: int) -> dict:
    """How well colorfulness is predicted, both `(n,)` with n at least 2; means with 95% bootstrap intervals.

    Returns:
        `mean_absolute_error`; `mean_absolute_error_of_median`, that of the constant that is best in hindsight;
        `bias`, of the mean; `r2` of log(1 + M) and `rank_correlation` (Spearman's), no values where all originals
        have the same colorfulness.
    """
    rng = np.random.default_rng(seed)
    r2 = rank_correlation = absent("all originals have the same colorfulness", len(actual))
    if np.ptp(actual) > 0:
        x, y = np.log1p(predicted), np.log1p(actual)
        ranks = [values.argsort().argsort() for values in (predicted, actual)]
        r2 = {"value": float(1 - np.mean((x - y) ** 2) / y.var()), "n": len(y), "interval": None}
        rank_correlation = {"value": float(np.corrcoef(ranks)[0, 1]), "n": len(y), "interval": None}
    return {
        "mean_absolute_error": mean_metric(np.abs(predicted - actual), rng),
        "mean_absolute_error_of_median": mean_metric(np.abs(np.median(actual) - actual), rng),
        "bias": mean_metric(predicted - actual, rng),
        "r2": r2,
        "rank_correlation": rank_correlation,
    }


def rule_metrics(scores: np.ndarray, scales: np.ndarray, actual: np.ndarray, seed: int) -> dict:
    """Metrics of one rule.

    Args:
        scores: PSNR and colorfulness `(n, 2)`.
        scales: that were rendered, `(n,)`.
        actual: the originals' colorfulness, `(n,)`.
        seed: of the resampling.
    """
    rng = np.random.default_rng(seed)
    own = scores[:, 1]
    return {
        "colorfulness_difference": mean_metric(np.abs(own - actual), rng),
        "difference_of_means": mean_metric(np.stack([own, actual], axis=1), rng, of_means=_distance),
        "colorfulness": mean_metric(own, rng),
        "colorfulness_original": mean_metric(actual, rng),
        "psnr": psnr_metric(scores[:, 0], rng),
        "color_scale": {"mean": float(scales.mean()), "quartiles": np.quantile(scales, [0.25, 0.5, 0.75]).tolist()},
    }


def _distance(means: np.ndarray) -> np.ndarray:
    return np.abs(means[..., 0] - means[..., 1])


def difference_metrics(scores: np.ndarray, others: np.ndarray, actual: np.ndarray, seed: int) -> dict:
    """By how much one rule's scores `(n, 2)` exceed another's, photograph by photograph."""
    rng = np.random.default_rng(seed)
    own, other = (np.abs(values[:, 1] - actual) for values in (scores, others))
    return {
        "colorfulness_difference": mean_metric(own - other, rng),
        "psnr": psnr_metric(scores[:, 0], rng, others[:, 0]),
    }


# The table


def best_fixed(entry: dict) -> str:
    """The fixed scale of a set whose colorfulness differs least from the originals', in hindsight."""
    fixed = [rule for rule in entry["rows"] if rule not in RULES]
    return min(fixed, key=lambda rule: entry["rows"][rule]["colorfulness_difference"]["value"])


def render_table(result: dict) -> str:
    """The result as Markdown: a row for each rule, three columns for each set of photographs."""
    sets = result["sets"]
    titles = ("delta per photograph", "delta of means", "PSNR")
    heads = [f"{entry['data']['name']} ({entry['data']['n']}): {title}" for entry in sets for title in titles]
    lines = [f"| color scale | {' | '.join(heads)} |", "|---" * (1 + len(heads)) + "|"]
    for rule in sets[0]["rows"]:
        cells = []
        for entry in sets:
            row = entry["rows"][rule]
            cells.append(show_metric(row["colorfulness_difference"], ".1f"))
            cells += [f"{row['difference_of_means']['value']:.1f}", show_metric(row["psnr"], ".2f")]
        lines.append(f"| {RULES.get(rule, rule)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def describe(result: dict) -> str:
    """What the result says of "auto", in a sentence for each set."""
    sentences = []
    for entry in result["sets"]:
        best, prediction = best_fixed(entry), entry["prediction"]
        against = entry["auto_minus"][best]
        gain = against["colorfulness_difference"]
        low, high = gain["interval"]
        verdict = "nearer to" if high < 0 else "farther from" if low > 0 else "no nearer to (within the uncertainty)"
        sentences.append(
            f"On {entry['data']['name']} (n = {entry['data']['n']}) the result is {verdict} the original's "
            f"colorfulness than with the best fixed scale, {best}: {show_metric(gain, '+.1f')}, PSNR "
            f"{show_metric(against['psnr'], '+.2f')} dB; the prediction's own error is "
            f"{prediction['mean_absolute_error']['value']:.1f} against "
            f"{prediction['mean_absolute_error_of_median']['value']:.1f} of the best constant, its rank correlation "
            f"{show_metric(prediction['rank_correlation'], '.2f')}."
        )
    return " ".join(sentences)


# Command


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m eval.color_scale", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add: Callable = parser.add_argument
    add("--photos", nargs="+", metavar="SPEC", help="folders or globs of parquet files, see eval.compare")
    add("--model", default="embedded", metavar="DIR", help='folder or "embedded" (default)')
    add("--limit", type=at_least(2), metavar="N", help="only a random sample of N of each set, always the same")
    add("--scales", nargs="+", type=at_least(0, float), default=list(SCALES), metavar="S", help="fixed color scales")
    add("--seed", type=at_least(0), default=0, metavar="N", help="of noise and resampling (default: 0)")
    add("--output", type=Path, metavar="FILE", help="the JSON to write")
    add("--table", type=Path, metavar="FILE", help="only print the table of this JSON")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = build_parser()
    arguments = parser.parse_args(argv)
    try:
        if arguments.table is not None:
            result = json.loads(arguments.table.read_text(encoding="utf-8"))
        elif arguments.photos is None or arguments.output is None:
            parser.error("arguments --photos and --output are required")
        else:
            result = _measure(arguments)
            write_result(arguments.output, result)
    except (OSError, ValueError) as error:
        parser.error(" ".join(str(error).split()))
    print(f"{render_table(result)}\n\n{describe(result)}")
    return 0


def _load_colored(spec: str, limit: int | None) -> tuple[list[NamedPhoto], int]:
    """The photographs with color, and how many have none; ValueError where fewer than 2 have."""
    photos = load_photos(spec, limit)
    colored = [photo for photo in photos if not is_gray(photo.pixels())]
    if len(colored) < 2:
        raise ValueError(f"argument --photos: {spec} must hold at least 2 color photographs, got {len(colored)}")
    return colored, len(photos) - len(colored)


def _measure(arguments: argparse.Namespace) -> dict:
    sources = [(spec, *_load_colored(spec, arguments.limit)) for spec in arguments.photos]
    share_cores()
    from colorization import load_pipeline

    folder = model_folder(arguments.model)
    pipeline = load_pipeline(arguments.model)
    pipeline.check_automatic_color_scale()
    sets = []
    for spec, colored, gray_count in sources:
        data = {"name": set_name(spec), "n": len(colored), "gray_left_out": gray_count}
        sets.append({"data": data} | measure_set(pipeline, colored, arguments.scales, arguments.seed))
    config = pipeline.config
    names = ("num_inference_steps", "guidance_scale", "sampler", "color_scale")
    return {
        "format": FORMAT,
        "model": arguments.model,
        "weights_sha256": weights_sha256(folder),
        "vividness_sha256": weights_sha256(folder / "vividness"),
        "settings": {name: config[f"default_{name}"] for name in names} | {"prompt": ""},
        "geometry": f"each at its own size, colors predicted at an area of {config.resolution} x {config.resolution}",
        "seed": arguments.seed,
        "sets": sets,
        "versions": package_versions(PACKAGES),
    }


if __name__ == "__main__":
    sys.exit(main())
