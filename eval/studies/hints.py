"""What color hints do: how well the hinted pixels are met, and how much closer the picture gets to its original.

    python -m eval study hints --run                                    # the photographs of examples/
    python -m eval study hints --run --dataset imagefolder:photos

For every photograph k random pixels get hints, once with the original's own colors and once with arbitrary ones: of a
random hue, as vivid as the pixel's luma allows. At the hints CIEDE2000 is measured between the picture and the hint's
chroma at the photograph's luma, both at full resolution. PSNR against the original is that of the model without hints,
of the model with them, and of the same hints spread over the whole photograph by the solver alone, with the reach that
the model's hints have ("solver") and without a limit as in Levin, Lischinski and Weiss ("solver_unlimited").
"""

import argparse
import math
from collections.abc import Sequence

import numpy as np
import torch
from tqdm import tqdm

from colorization import ColorizationPipeline, load_pipeline
from colorization.color import luma, merge_luma_chroma, rgb_to_lab
from colorization.command_line import at_least
from colorization.hint_spread import REACH
from colorization.hints import HintField, parse_hints
from colorization.image_io import as_photo
from colorization.prediction import ChromaPrediction

from ..columns import METRICS, show_metric
from ..files import package_versions
from ..metrics.gray import is_gray
from ..metrics.pixels import ciede2000, psnr
from ..photos import NamedPhoto, list_photos, photo_seed
from ..runs import OUTPUT
from ..summary import psnr_metric, to_tensor
from ..tables import Cell, Row, Table
from .examples import EXAMPLES
from .ledger import Entry, read_entries, record, without_nothing
from .sections import Section, show_sections

STUDY = "hints"
COUNTS = (1, 5, 20)
CLOSE = 10.0  # CIEDE2000
PACKAGES = ("torch", "diffusers", "transformers", "numpy", "scipy", "pillow")
WAYS = ("model", "solver", "solver_unlimited")


def random_hints(original: np.ndarray, count: int, rng: np.random.Generator) -> tuple[list, list]:
    """Hints (x, y, "#rrggbb") for `count` different random pixels: with the original's colors, with arbitrary ones.

    Args:
        original: RGB uint8 `(height, width, 3)`.
        count: how many, at most as many as there are pixels.
        rng: draws pixels and hues.
    """
    height, width = original.shape[:2]
    rows, columns = np.divmod(rng.choice(height * width, count, replace=False), width)
    own = original[rows, columns]
    angle = torch.from_numpy(rng.uniform(0, 2 * math.pi, count)).float()
    chroma = torch.stack([angle.cos(), angle.sin()])[None, :, None] / 2
    rgb = merge_luma_chroma(luma(to_tensor(own[None])), chroma)  # (1, 3, 1, count)
    arbitrary = (255 * rgb[0, :, 0].T).round().to(torch.uint8).numpy()

    def hints(colors: np.ndarray) -> list:
        places = zip(columns.tolist(), rows.tolist(), colors, strict=True)
        return [(x, y, f"#{bytes(color).hex()}") for x, y, color in places]

    return hints(own), hints(arbitrary)


def hint_errors(picture: np.ndarray, luminance: np.ndarray, hints: Sequence) -> np.ndarray:
    """CIEDE2000 at each hint between a picture and the hint's chroma at the photograph's luma, `(len(hints),)`.

    Args:
        picture: RGB uint8 `(height, width, 3)`.
        luminance: of the photograph, uint8 `(height, width)`.
        hints: (x, y, "#rrggbb").
    """
    hints = parse_hints(hints)
    rows, columns = [hint.y for hint in hints], [hint.x for hint in hints]
    y = torch.from_numpy(luminance[rows, columns]).float().view(1, 1, 1, -1) / 255
    chroma = torch.tensor([hint.chroma for hint in hints]).T.view(1, 2, 1, -1)
    wanted, found = merge_luma_chroma(y, chroma), to_tensor(picture[rows, columns][None])
    return ciede2000(rgb_to_lab(found), rgb_to_lab(wanted))[0, 0].numpy()


def measure_photo(
    pipeline: ColorizationPipeline,
    original: np.ndarray,
    counts: Sequence[int],
    seed: int,
    rng: np.random.Generator,
    steps: int | None = None,
) -> dict:
    """PSNR of each way to color one photograph, and CIEDE2000 at its hints.

    Args:
        pipeline: the model.
        original: RGB uint8 `(height, width, 3)`.
        counts: numbers of hints.
        seed: of the model's noise.
        rng: draws the hints.
        steps: of sampling; None is the model's default.

    Returns:
        `psnr`: (way, k) -> dB, k 0 without hints; `errors`: (colors, k) -> `(k,)`.
    """
    photo = as_photo(original)
    drawn = {count: random_hints(original, count, rng) for count in counts}
    all_hints = [[], *(hints for pair in drawn.values() for hints in pair)]
    predictions = pipeline(
        [photo] * len(all_hints), hints=all_hints, seed=seed, num_inference_steps=steps, output_type="chroma"
    ).images
    reference = to_tensor(original)

    def closeness(picture: np.ndarray) -> float:
        return psnr(to_tensor(picture), reference).item()

    plain, *hinted = predictions
    measured = {"psnr": {("model", 0): closeness(plain.render(photo.luma))}, "errors": {}}
    for (count, pair), own, arbitrary in zip(drawn.items(), hinted[::2], hinted[1::2], strict=True):
        pictures = [prediction.render(photo.luma) for prediction in (own, arbitrary)]
        for colors, picture, hints in zip(("original", "arbitrary"), pictures, pair, strict=True):
            measured["errors"][colors, count] = hint_errors(picture, photo.luma, hints)
        measured["psnr"]["model", count] = closeness(pictures[0])
        for way, reach in (("solver", REACH), ("solver_unlimited", math.inf)):
            field = HintField.spread(own.hints.hints, photo.size, own.guide, reach)
            alone = ChromaPrediction(field.chroma, own.guide, {}, field)
            measured["psnr"][way, count] = closeness(alone.render(photo.luma, 1.0))
    return measured


def summarize(photos: Sequence[dict], counts: Sequence[int], seed: int) -> dict:
    """What `measure_photo` gave for several photographs, as metrics; gains are over the model without hints."""
    rng = np.random.default_rng(seed)
    plain = np.array([photo["psnr"]["model", 0] for photo in photos])
    result = {"psnr_without_hints": psnr_metric(plain, rng), "hints_per_photograph": {}}
    for count in counts:
        part = {"ciede2000_at_hints": {}, "psnr": {}, "psnr_gain": {}}
        for colors in ("original", "arbitrary"):
            errors = np.concatenate([photo["errors"][colors, count] for photo in photos])
            part["ciede2000_at_hints"][colors] = {
                "median": float(np.median(errors)),
                "percentile_95": float(np.percentile(errors, 95)),
                "maximum": float(errors.max()),
                "share_within_10": float((errors <= CLOSE).mean()),
                "n": len(errors),
            }
        for way in WAYS:
            values = np.array([photo["psnr"][way, count] for photo in photos])
            part["psnr"][way] = psnr_metric(values, rng)
            part["psnr_gain"][way] = psnr_metric(values, rng, plain)
        result["hints_per_photograph"][str(count)] = part
    return result


def measure(spec: str, counts: Sequence[int], seed: int, limit: int | None, model: str, steps: int | None) -> dict:
    """Measure a data set's photographs that are in color; see the module.

    Raises:
        ValueError: no such data set, or no color photograph in it.
    """
    photos = list_photos(spec, limit)
    pipeline = load_pipeline(model)
    pipeline.set_progress_bar_config(disable=True)
    measured = []
    for source in tqdm(photos.sources, unit="photo"):
        photo = NamedPhoto(source.id, source.read(), "")
        original = photo.pixels()
        if not is_gray(original):
            own_seed = photo_seed(seed, photo)
            measured.append(
                measure_photo(pipeline, original, counts, own_seed, np.random.default_rng(own_seed), steps)
            )
    if not measured:
        raise ValueError(f"argument --dataset: {spec} holds no color photographs")
    config = pipeline.config
    return {
        "dataset": photos.name,
        "n": len(measured),
        "seed": seed,
        "model": model,
        "settings": {
            "resolution": config.resolution,
            "num_inference_steps": steps or config.default_num_inference_steps,
            "color_scale": config.default_color_scale,
            "prompt": "",
        },
        "versions": package_versions(PACKAGES),
        **summarize(measured, counts, seed),
    }


def entries_of(measured: dict) -> list[Entry]:
    """What :func:`measure` found as entries: one without hints, one for each number and way to use them."""

    def entry(name: str, metrics: dict, **settings: object) -> Entry:
        data = {"name": measured["dataset"], "n": measured["n"]}
        settings |= {"model": measured["model"], "seed": measured["seed"]} | measured["settings"]
        metrics = {key: without_nothing(value) for key, value in metrics.items()}
        return Entry(STUDY, name, data, settings, {OUTPUT: metrics}, measured["versions"])

    entries = [entry("model, 0 hints", {"psnr": measured["psnr_without_hints"]}, way="model", hints=0)]
    for count, found in measured["hints_per_photograph"].items():
        for way in WAYS:
            metrics = {"psnr": found["psnr"][way]}
            if way == "model":
                for colors, errors in found["ciede2000_at_hints"].items():
                    metrics[f"hint_error_{colors}"] = {"value": errors["median"], **errors}
            entries.append(entry(f"{way}, {count} hints", metrics, way=way, hints=int(count)))
    return entries


def hints_table(entries: Sequence[Entry]) -> Table:
    """PSNR with color hints: of the model, and of the optimization that spreads the hints without a model."""
    by_way = {(entry.settings["way"], entry.settings["hints"]): entry.metrics["psnr"] for entry in entries}
    form, table = METRICS["psnr"].form, Table("", ["shipped model, PSNR (dB)", "optimization alone, PSNR (dB)"], [])
    for count in sorted({count for _, count in by_way}):
        found = [by_way.get((way, count)) for way in ("model", "solver_unlimited")]
        table.rows.append(Row(str(count), [Cell(show_metric(metric, form)) for metric in found]))
    return table


def sections(entries: Sequence[Entry]) -> list[Section]:
    """The section with PSNR by the number of hints, and how well they are met; none where nothing was measured."""
    if not entries:
        return []
    data, findings = entries[0].data, []
    for entry in sorted(entries, key=lambda entry: entry.settings["hints"]):
        for name, errors in entry.metrics.items():
            if name.startswith("hint_error_"):
                findings.append(
                    f"CIEDE2000 at {errors['n']} hints of {name.removeprefix('hint_error_')} colors, "
                    f"{entry.settings['hints']} in each photograph: median {errors['value']:.2f}, 95% of them at most "
                    f"{errors['percentile_95']:.2f}, all at most {errors['maximum']:.2f}."
                )
    facts = {"photographs": f"{data['n']} of {data['name']}, hints of the original's colors at random places"}
    return [Section("What hints do", hints_table(entries), ["python -m eval study hints --run"], facts, findings)]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this study."""
    add = parser.add_argument
    add("--run", action="store_true", help="measure, in place of what is in the ledger")
    add("--dataset", default=f"imagefolder:{EXAMPLES}", metavar="SPEC", help="photographs with color")
    add("--limit", type=at_least(1), metavar="N", help="only a random sample of N, always the same")
    add("--counts", nargs="+", type=at_least(1), default=COUNTS, metavar="K", help="hints at a time")
    add("--seed", type=at_least(0), default=0, metavar="N", help="of noise and hints (default: 0)")
    add("--model", default="embedded", metavar="ID_OR_DIR", help='default: "embedded"')
    add("--steps", type=at_least(1), metavar="N", help="sampling steps (default: the model's)")


def run(arguments: argparse.Namespace) -> int:
    """Measure where asked to, and print what is in the ledger; returns the exit status."""
    if arguments.run:
        result = measure(
            arguments.dataset, arguments.counts, arguments.seed, arguments.limit, arguments.model, arguments.steps
        )
        record(entries_of(result), arguments.ledger, lambda entry: entry.study == STUDY)
    print(show_sections(sections(read_entries(STUDY, arguments.ledger))), end="")
    return 0
