"""Compare color scales: fixed ones, and the one that the model chooses for each photograph (`color_scale="auto"`).

    python -m eval study color-scale --run --photos data/free-photos "data/tiny-imagenet-64/validation-*.parquet" \\
      --limit 300
    python -m eval study color-scale

Every photograph is sampled once, with the model's default settings and without a prompt, and rendered at every scale.
Two more rules say what "auto" owes to what: "equal" gives all photographs of a set the same colorfulness, the mean of
those predicted, and "oracle" gives each its original's, as if the prediction were perfect.
"""

import argparse
from collections.abc import Sequence

import numpy as np
from tqdm import tqdm

from colorization import ColorizationPipeline, load_pipeline
from colorization.color import colorfulness
from colorization.command_line import at_least
from colorization.image_io import as_photo
from colorization.vividness import choose_color_scale

from ..columns import show_metric
from ..files import PACKAGES, package_versions, weights_sha256
from ..metrics.gray import is_gray
from ..metrics.pixels import psnr
from ..photos import NamedPhoto, load_photos, photo_seed, set_name
from ..runs import OUTPUT
from ..summary import absent, mean_metric, psnr_metric, to_tensor
from .ledger import Entry, read_entries, record, shown
from .scored import model_folder

STUDY = "color-scale"
SCALES = (0.5, 1.0, 1.25, 1.5, 1.75, 2.0)
AUTO, EQUAL, ORACLE = "auto", "equal", "oracle"
RULES = {
    AUTO: "auto",
    EQUAL: "the same colorfulness for all",
    ORACLE: "the original's colorfulness (not known in use)",
}


# Measuring


def measure_set(
    pipeline: ColorizationPipeline, photos: Sequence[NamedPhoto], scales: Sequence[float], seed: int
) -> dict:
    """Color every photograph of a set once and measure every scale and rule; an entry of "sets" without its data.

    Args:
        pipeline: with the component `vividness`.
        photos: with color, at least 2.
        scales: fixed color scales.
        seed: of the noise (each photograph has its own, made from it) and of the resampling.
    """
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


# The ledger

PREDICTION_SHOWN = ("mean_absolute_error", "mean_absolute_error_of_median", "rank_correlation")
RULE_SHOWN = ("colorfulness_difference", "difference_of_means", "psnr")
OF_AUTO = "auto_minus_"  # how names of metrics begin that say by how much "auto" exceeds a rule


def entries_of(measured: dict) -> list[Entry]:
    """What was measured as entries, one for each set and rule; the prediction's errors are with "auto"."""
    common = {key: measured[key] for key in ("model", "weights_sha256", "vividness_sha256", "seed")}
    entries = []
    for number, of_set in enumerate(measured["sets"]):
        for rule, metrics in of_set["rows"].items():
            kept = shown(metrics, RULE_SHOWN)
            if rule == AUTO:
                kept |= shown(of_set["prediction"], PREDICTION_SHOWN)
            else:
                against = shown(of_set["auto_minus"][rule], RULE_SHOWN)
                kept |= {f"{OF_AUTO}{name}": entry for name, entry in against.items()}
            settings = common | {"rule": rule, "set": number, "rendered_scale": metrics["color_scale"]}
            settings |= measured["settings"]
            data = of_set["data"] | {"geometry": measured["geometry"]}
            name = f"{of_set['data']['name']}: {rule}"
            entries.append(Entry(STUDY, name, data, settings, {OUTPUT: kept}, measured["versions"]))
    return entries


def sets_of(entries: Sequence[Entry]) -> list[dict[str, Entry]]:
    """Entries by rule, a dictionary for each set: fixed scales by their size, then the rules."""

    def place(entry: Entry) -> tuple[int, float]:
        rule = entry.settings["rule"]
        return (1, list(RULES).index(rule)) if rule in RULES else (0, float(rule))

    numbers = sorted({entry.settings["set"] for entry in entries})
    return [
        {e.settings["rule"]: e for e in sorted(entries, key=place) if e.settings["set"] == number}
        for number in numbers
    ]


# The table


def best_fixed(of_set: dict[str, Entry]) -> str:
    """The fixed scale of a set whose colorfulness differs least from the originals', in hindsight."""
    fixed = [rule for rule in of_set if rule not in RULES]
    return min(fixed, key=lambda rule: of_set[rule].metrics["colorfulness_difference"]["value"])


def render_table(sets: Sequence[dict[str, Entry]]) -> str:
    """Markdown: a row for each rule, three columns for each set of photographs."""
    titles = ("delta per photograph", "delta of means", "PSNR")
    data = [of_set[AUTO].data for of_set in sets]
    heads = [f"{of['name']} ({of['n']}): {title}" for of in data for title in titles]
    lines = [f"| color scale | {' | '.join(heads)} |", "|---" * (1 + len(heads)) + "|"]
    for rule in sets[0]:
        cells = []
        for metrics in (of_set[rule].metrics for of_set in sets):
            cells.append(show_metric(metrics["colorfulness_difference"], ".1f"))
            cells += [f"{metrics['difference_of_means']['value']:.1f}", show_metric(metrics["psnr"], ".2f")]
        lines.append(f"| {RULES.get(rule, rule)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def describe(sets: Sequence[dict[str, Entry]]) -> str:
    """What the result says of "auto", in a sentence for each set."""
    sentences = []
    for of_set in sets:
        best, auto = best_fixed(of_set), of_set[AUTO]
        gain, psnr_gain = (of_set[best].metrics[f"{OF_AUTO}{name}"] for name in ("colorfulness_difference", "psnr"))
        low, high = gain["interval"]
        verdict = "nearer to" if high < 0 else "farther from" if low > 0 else "no nearer to (within the uncertainty)"
        sentences.append(
            f"On {auto.data['name']} (n = {auto.data['n']}) the result is {verdict} the original's "
            f"colorfulness than with the best fixed scale, {best}: {show_metric(gain, '+.1f')}, PSNR "
            f"{show_metric(psnr_gain, '+.2f')} dB; the prediction's own error is "
            f"{auto.metrics['mean_absolute_error']['value']:.1f} against "
            f"{auto.metrics['mean_absolute_error_of_median']['value']:.1f} of the best constant, its rank correlation "
            f"{show_metric(auto.metrics['rank_correlation'], '.2f')}."
        )
    return " ".join(sentences)


def show(entries: Sequence[Entry]) -> str:
    """Table and sentences; ValueError where nothing was measured."""
    if not entries:
        raise ValueError("no color scales were measured: add --run and --photos")
    sets = sets_of(entries)
    return f"{render_table(sets)}\n\n{describe(sets)}"


# Command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this study."""
    add = parser.add_argument
    add("--run", action="store_true", help="measure, in place of what is in the ledger")
    add("--photos", nargs="+", default=[], metavar="SPEC", help="folders or globs of parquet files")
    add("--model", default="embedded", metavar="DIR", help='folder or "embedded" (default)')
    add("--limit", type=at_least(2), metavar="N", help="only a random sample of N of each set, always the same")
    add("--scales", nargs="+", type=at_least(0, float), default=list(SCALES), metavar="S", help="fixed color scales")
    add("--seed", type=at_least(0), default=0, metavar="N", help="of noise and resampling (default: 0)")


def run(arguments: argparse.Namespace) -> int:
    """Measure where asked to, and print what is in the ledger; returns the exit status. ValueError where photographs
    or model cannot be used."""
    if arguments.run:
        if not arguments.photos:
            raise ValueError("argument --photos is required with --run")
        record(entries_of(_measure(arguments)), arguments.ledger, lambda entry: entry.study == STUDY)
    print(show(read_entries(STUDY, arguments.ledger)))
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
        "model": arguments.model,
        "weights_sha256": weights_sha256(folder),
        "vividness_sha256": weights_sha256(folder / "vividness"),
        "settings": {name: config[f"default_{name}"] for name in names} | {"prompt": ""},
        "geometry": f"each at its own size, colors predicted at an area of {config.resolution} x {config.resolution}",
        "seed": arguments.seed,
        "sets": sets,
        "versions": package_versions(PACKAGES),
    }
