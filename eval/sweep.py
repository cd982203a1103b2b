"""Measure a model over a grid of settings on a small set of photographs, to choose the defaults that it ships with.

The grid is full: every combination of the values given, since settings act on each other (few steps want another
sampler than many do). What is not given stays at the model's default. The color scale costs no sampling where the
model applies it to the decoded chroma: all scales are rendered from one run.

Settings that are measured already are skipped: the same command goes on where an interrupted one stopped, and one with
further values adds to the table.

A setting is chosen so that neither more color nor more steps win by themselves. Only settings count whose PSNR is at
most so many dB below that of the gray input: a color scale cannot buy color with errors. Of these the best by the
metric is sought, and whatever lies within one standard error of it is as good; the cheapest of those is chosen, and
among the cheapest the one whose colorfulness is nearest to the originals'. The table marks the front: settings that no
other one beats in colorfulness, PSNR and KD-Lite2 together.
"""

import argparse
import hashlib
import inspect
import json
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from colorization.command_line import at_least, share_cores

from .compare import PACKAGES, PhotoSet, gray_version, is_done, prepare_photos
from .photos import NamedPhoto, is_gray, load_photos, photo_seed, set_name
from .report import (
    GRAY,
    METRICS,
    PSEUDO_LABELS,
    Cell,
    Row,
    Table,
    badness,
    best_rows,
    render,
    show_metric,
    value_of,
    write_text,
)
from .summary import (
    both_colorfulnesses,
    feature_metrics,
    package_versions,
    pixel_metrics,
    to_tensor,
    write_result,
)

if TYPE_CHECKING:  # torch is imported once the arguments are known to be good
    from colorization import ColorizationPipeline

    from .features import Lite2Features

FORMAT = 1
SETTINGS_FOLDER, RESULT_FILE, TABLE_FILE = "settings", "sweep.json", "sweep.md"
NO_PROMPT, LABEL = "none", "label"
SAMPLERS = ("cold", "naive", "euler")
GRAY_FILE = "gray.json"
CHOICES = ("kd_lite2", "feature_distance", "psnr", "ciede2000")
RATIO = "colorfulness_ratio"
FRONT = ("kd_lite2", "psnr", RATIO)
DEFAULT_PSNR_LOSS = 1.0  # dB
_PREFIXES = ("imagefolder:", "parquet:")

_EXAMPLES = """examples:
  python -m eval sweep --dataset imagefolder:photos --output sweeps/embedded --steps 4 8 16 --color-scale 1 1.3 1.6
  python -m eval sweep --dataset imagefolder:photos --model runs/new/pipeline --output sweeps/new --steps 4 8 16 \\
      --store runs/new/pipeline
  python -m eval sweep --dataset "parquet:data/*.parquet:validation" --model runs/new/pipeline --output sweeps/new \\
      --limit 100 --sampler euler naive --noise-scale 0.4 0.6
  python -m eval sweep --dataset imagefolder:photos --output sweeps/guidance --prompt-mode label --guidance-scale 1 2 3

exit status: 0 all done, 1 some photographs or settings failed (each is named), 2 bad arguments"""


# Settings


@dataclass(frozen=True, order=True)
class Setting:
    """One point of the grid; `noise_scale` belongs to the model's scheduler, the rest to the pipeline's call."""

    num_inference_steps: int
    guidance_scale: float
    sampler: str
    noise_scale: float
    color_scale: float

    def __str__(self) -> str:
        return (
            f"{self.num_inference_steps} steps, guidance {self.guidance_scale:g}, {self.sampler}, "
            f"noise {self.noise_scale:g}, color {self.color_scale:g}"
        )

    @property
    def file_name(self) -> str:
        """Of its result."""
        numbers = self.guidance_scale, self.sampler, self.noise_scale, self.color_scale
        return "steps-{}_guidance-{}_{}_noise-{}_color-{}.json".format(self.num_inference_steps, *numbers)

    @property
    def call(self) -> dict:
        """Arguments of the pipeline's call, without the color scale."""
        names = ("num_inference_steps", "guidance_scale", "sampler")
        return {name: getattr(self, name) for name in names}

    @property
    def evaluations(self) -> int:
        """Of the UNet for one photograph that has a prompt: a guidance scale other than 1 doubles them."""
        return self.num_inference_steps * (1 if self.guidance_scale == 1 else 2)

    @property
    def model_config(self) -> dict:
        """Entries of a model's configuration that make it the default; `noise_scale` is the scheduler's."""
        defaults = {
            f"default_{name}": value for name, value in (self.call | {"color_scale": self.color_scale}).items()
        }
        return defaults | {"noise_scale": self.noise_scale}


def make_grid(
    pipeline: "ColorizationPipeline",
    steps: Sequence[int] | None = None,
    guidance_scale: Sequence[float] | None = None,
    sampler: Sequence[str] | None = None,
    noise_scale: Sequence[float] | None = None,
    color_scale: Sequence[float] | None = None,
) -> list[Setting]:
    """Every combination, sorted; None stands for the model's default (a sampler's may depend on the noise scale)."""
    from colorization.sampling import default_sampler

    config = pipeline.config
    values = product(
        steps or [config.default_num_inference_steps],
        guidance_scale or [config.default_guidance_scale],
        sampler or [config.default_sampler],
        noise_scale or [pipeline.scheduler.config.noise_scale],
        color_scale or [config.default_color_scale],
    )
    return sorted(
        {
            Setting(steps, float(guidance), sampler or default_sampler(noise), float(noise), float(color))
            for steps, guidance, sampler, noise, color in values
        }
    )


def sampling_runs(settings: Iterable[Setting], color_scale_space: str) -> list[list[Setting]]:
    """Settings that one sampling run serves: those that differ in a color scale on decoded chroma only."""
    runs: dict[Setting, list[Setting]] = {}
    for setting in settings:
        key = replace(setting, color_scale=1.0) if color_scale_space == "chroma" else setting
        runs.setdefault(key, []).append(setting)
    return list(runs.values())


def with_noise_scale(pipeline: "ColorizationPipeline", noise_scale: float) -> "ColorizationPipeline":
    """The pipeline, or one of the same networks with another noise scale; the one given stays as it is.

    Raises:
        ValueError: the networks do not allow this noise scale.
    """
    if noise_scale == pipeline.scheduler.config.noise_scale:
        return pipeline
    scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config, noise_scale=noise_scale)
    components = pipeline.components | {"scheduler": scheduler}
    names = inspect.signature(type(pipeline).__init__).parameters.keys() - components.keys()
    variant = type(pipeline)(**components, **{name: pipeline.config[name] for name in names & pipeline.config.keys()})
    variant.provenance = dict(pipeline.provenance)
    variant.set_progress_bar_config(disable=True)
    return variant


def pipeline_sha256(pipeline: "ColorizationPipeline") -> str:
    """SHA-256 of the weights of all networks, as they are loaded."""
    import torch

    total = hashlib.sha256()
    for name in ("vae", "text_encoder", "unet"):
        for key, tensor in sorted(getattr(pipeline, name).state_dict().items()):
            total.update(f"{name}.{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
            total.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return total.hexdigest()


# Measuring


def measure_run(
    pipeline: "ColorizationPipeline",
    settings: Sequence[Setting],
    photos: PhotoSet,
    prompts: Sequence[str],
    lite2: "Lite2Features",
    seed: int,
    update: Callable[[int], object] = lambda count: None,
) -> dict[Setting, dict]:
    """Color every photograph once and measure it at every color scale.

    Args:
        pipeline: with the settings' noise scale.
        settings: that differ in the color scale only; several only where it acts on decoded chroma.
        photos: the originals, with their features.
        prompts: one per photograph.
        lite2: gives features.
        seed: of the noise (each photograph has its own, made from it) and of the resampling.
        update: called with the number of photographs after each batch.

    Returns:
        Metrics of each setting, as in the contract of score.json.
    """
    from colorization.image_io import as_photo

    from .pixel_metrics import chroma_error, mean_ciede2000, psnr

    n, batch_size = len(photos.photos), pipeline.config.default_batch_size
    order = sorted(range(n), key=lambda row: pipeline.model_size(*photos.sizes[row]))
    features = {setting: np.empty_like(photos.features) for setting in settings}
    # PSNR, CIEDE2000, chroma error, colorfulness as published and of absolute differences
    scores = {setting: np.empty((n, 5)) for setting in settings}
    seconds = 0.0
    for start in range(0, n, batch_size):
        rows = order[start : start + batch_size]
        originals = [photos.photos[row].pixels() for row in rows]
        grays = [as_photo(original) for original in originals]
        begin = time.perf_counter()
        predictions = pipeline(
            grays,
            prompt=[prompts[row] for row in rows],
            seed=[photo_seed(seed, photos.photos[row]) for row in rows],
            color_scale=settings[0].color_scale,
            output_type="chroma",
            **settings[0].call,
        ).images
        seconds += time.perf_counter() - begin
        for row, original, gray, prediction in zip(rows, originals, grays, predictions, strict=True):
            reference = to_tensor(original)
            for setting in settings:
                # Where the scale has acted on the latent, rendering must leave the prediction as it is.
                output = prediction.render(gray.luma, setting.color_scale if len(settings) > 1 else None)
                features[setting][row] = lite2([output])[0]
                image = to_tensor(output)
                errors = [metric(image, reference).item() for metric in (psnr, mean_ciede2000, chroma_error)]
                scores[setting][row] = [*errors, *both_colorfulnesses(image)]
        update(len(rows))
    speed = {"seconds_per_image": {"value": seconds / n, "n": n, "interval": None}}
    return {
        setting: feature_metrics(features[setting], photos.features, seed)
        | pixel_metrics(scores[setting], photos.colorfulness, seed)
        | speed
        for setting in settings
    }


def measure_gray(photos: PhotoSet, lite2: "Lite2Features", seed: int) -> dict:
    """The metrics of the gray inputs, as of a setting."""
    from .pixel_metrics import chroma_error, mean_ciede2000, psnr

    features, scores = np.empty_like(photos.features), np.empty((len(photos.photos), 5))
    for row, photo in enumerate(photos.photos):
        original = photo.pixels()
        gray = gray_version([original], [], [])[0]
        image, reference = to_tensor(gray), to_tensor(original)
        features[row] = lite2([gray])[0]
        errors = [metric(image, reference).item() for metric in (psnr, mean_ciede2000, chroma_error)]
        scores[row] = [*errors, *both_colorfulnesses(image)]
    return feature_metrics(features, photos.features, seed) | pixel_metrics(scores, photos.colorfulness, seed)


# Choosing


def choose_setting(rows: Sequence[dict], gray: dict, metric: str, psnr_loss: float) -> dict:
    """The cheapest row that is as good as the best one, and what to know about it.

    Args:
        rows: of a sweep, at least one.
        gray: the metrics of the gray input.
        metric: one of `CHOICES`.
        psnr_loss: by how many dB a row's PSNR may be below that of the gray input.

    Returns:
        `metric`; `psnr_loss`; `psnr_gray`; `reached`, whether any row keeps that bound, and `eligible`, how many;
        `best`, the setting with the best value among them, or among all where there is none; `equal`, settings as
        eligible that lie within one standard error of the best one's value, itself included; `setting`, the chosen
        one: of `equal` that with the fewest evaluations of the UNet, and of several such the one whose colorfulness is
        nearest to the originals', then the one with the best value;
        `unconditional`, the best of all rows. Settings are None where nothing was measured.
    """
    measured = [row for row in rows if value_of(row["metrics"].get(metric)) is not None]
    psnr_gray = gray["psnr"]["value"]
    within = [row for row in measured if row["metrics"]["psnr"]["value"] >= psnr_gray - psnr_loss]
    choice = {
        "metric": metric,
        "psnr_loss": psnr_loss,
        "psnr_gray": psnr_gray,
        "reached": bool(within),
        "eligible": len(within),
    }
    if not measured:
        return choice | {"setting": None, "best": None, "equal": [], "unconditional": None}

    def rank(row: dict) -> float:
        return badness(value_of(row["metrics"][metric]), METRICS[metric].better, None)

    eligible = within or measured
    best = min(eligible, key=rank)
    bound = rank(best) + standard_error(best["metrics"][metric])
    equal = [row for row in eligible if rank(row) <= bound]

    def cost(row: dict) -> tuple[int, float, float]:
        return Setting(**row["setting"]).evaluations, _missing_colorfulness(row["metrics"]), rank(row)

    chosen = min(equal, key=cost)
    return choice | {
        "setting": chosen["setting"],
        "best": best["setting"],
        "equal": [row["setting"] for row in equal],
        "unconditional": min(measured, key=rank)["setting"],
    }


def _missing_colorfulness(metrics: dict) -> float:
    """How far the mean colorfulness is from the originals', as a share of it."""
    ratio = value_of(metrics.get("colorfulness_ratio"))
    return 1.0 if ratio is None else abs(1 - ratio)


def standard_error(entry: dict) -> float:
    """Of a metric, from its 95% interval where it has no other; 0 where it has neither."""
    if entry.get("interval"):
        low, high = entry["interval"]
        return (high - low) / (2 * 1.96)
    return entry.get("standard_error") or 0.0


def front(rows: Sequence[dict]) -> set[int]:
    """Rows that no other one beats in one of `FRONT` and equals in the rest; rows without a value take no part."""
    points = {}
    for index, row in enumerate(rows):
        values = [value_of(row["metrics"].get(name)) for name in FRONT]
        if None not in values:
            points[index] = [
                badness(value, METRICS[name].better, None) for name, value in zip(FRONT, values, strict=True)
            ]

    def beaten(point: list[float]) -> bool:
        return any(
            other != point and all(b <= a for a, b in zip(point, other, strict=True)) for other in points.values()
        )

    return {index for index, point in points.items() if not beaten(point)}


def explain_choice(choice: dict, rows: Sequence[dict]) -> str:
    """The choice in words."""
    metric = METRICS[choice["metric"]]
    if choice["setting"] is None:
        return f"No setting can be chosen: {metric.title} was not measured."

    def show(setting: dict) -> str:
        metrics = next(row["metrics"] for row in rows if row["setting"] == setting)
        names = dict.fromkeys((choice["metric"], "psnr", RATIO))
        values = [f"{METRICS[name].title} {show_metric(metrics.get(name), METRICS[name].form)}" for name in names]
        return f"{Setting(**setting)} ({', '.join(values)})"

    floor = f"at most {choice['psnr_loss']:g} dB below the gray input's {choice['psnr_gray']:.2f} dB"
    if choice["reached"]:
        among = f"of the {choice['eligible']} of {len(rows)} settings whose PSNR is {floor}"
    else:
        among = f"of all {len(rows)} settings, as none has a PSNR {floor}"
    text = f"Chosen: {show(choice['setting'])}. "
    if choice["setting"] == choice["best"]:
        text += f"It has the best {metric.title} {among}"
    else:
        text += f"The best {metric.title}, {among}, has {show(choice['best'])}"
    others = len(choice["equal"]) - 1
    if others:
        text += (
            f"; {others} more lie within one standard error of it and count as equally good. Of these the cheapest "
            "was taken, and among the cheapest the one whose colorfulness is nearest to the originals'"
        )
    text += "."
    if choice["unconditional"] != choice["best"]:
        text += f" Without regard to PSNR the best would be {show(choice['unconditional'])}."
    return text


def store_defaults(folder: Path, setting: Setting) -> list[Path]:
    """Make a setting the default of a model in diffusers layout; the files that were changed.

    Raises:
        ValueError: the folder holds no model.
    """
    index, scheduler = folder / "model_index.json", folder / "scheduler" / "scheduler_config.json"
    for file in (index, scheduler):
        if not file.is_file():
            raise ValueError(f"argument --store: {folder} has no {file.relative_to(folder)}")
    defaults = setting.model_config
    changed = []
    for file, names in ((index, defaults.keys() - {"noise_scale"}), (scheduler, {"noise_scale"})):
        old = json.loads(file.read_text(encoding="utf-8"))
        new = old | {name: defaults[name] for name in sorted(names)}
        if new != old:
            write_result(file, new)
            changed.append(file)
    return changed


def sweep_table(rows: Sequence[dict], gray: dict, with_seconds: bool = True) -> Table:
    """A row for each setting and one for the gray input; the best value of each column is marked, and the front.

    Args:
        rows, gray: of sweep.json.
        with_seconds: whether there is a column for the time, which tells something only of an otherwise idle machine.
    """
    names = (*CHOICES, RATIO, "colorfulness", *(["seconds_per_image"] if with_seconds else []))
    metrics = [METRICS[name] for name in names]
    metrics = [replace(metric, better="") if metric.better == "original" else metric for metric in metrics]
    best = [best_rows([value_of(row["metrics"].get(metric.name)) for row in rows], metric) for metric in metrics]
    table = Table("Settings", [*(metric.title for metric in metrics), "on the front"], [])
    on_front = front(rows)

    def cells(entries: dict, index: int | None) -> list[Cell]:
        cells = []
        for column, metric in enumerate(metrics):
            entry = entries.get(metric.name) or {}
            notes = () if value_of(entry) is not None else (table.note(entry.get("reason", "not measured")),)
            cells.append(Cell(show_metric(entry, metric.form), index in best[column], notes))
        return [*cells, Cell("yes" if index in on_front else "")]

    for index, row in enumerate(rows):
        table.rows.append(Row(str(Setting(**row["setting"])), cells(row["metrics"], index)))
    no_time = gray | {"seconds_per_image": {"value": None, "reason": "nothing is done"}}
    table.rows.append(Row(PSEUDO_LABELS[GRAY], cells(no_time, None), pseudo=True))
    return table


# Command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m eval sweep`."""
    parser.epilog = _EXAMPLES
    add, scale = parser.add_argument, at_least(0, float)
    add(
        "--dataset",
        required=True,
        metavar="SPEC",
        help="imagefolder:PATH (labels from its index.csv) or parquet:GLOB[:validation] (columns image and label)",
    )
    add("--model", default="embedded", metavar="ID_OR_DIR", help='folder, Hub id or "embedded" (default)')
    add("--output", required=True, type=Path, metavar="DIR", help="folder for the results")
    add("--steps", nargs="+", type=at_least(1), metavar="N", help="sampling steps")
    add("--guidance-scale", nargs="+", type=scale, metavar="S", help="several need prompts to act on")
    add("--sampler", nargs="+", choices=SAMPLERS, help="samplers")
    add("--noise-scale", nargs="+", type=scale, metavar="S", help="of the start, at inference only")
    add("--color-scale", nargs="+", type=scale, metavar="S", help="color intensities")
    add(
        "--prompt-mode",
        choices=(NO_PROMPT, LABEL),
        default=NO_PROMPT,
        help="none (default), or the data set's labels",
    )
    add("--limit", type=at_least(1), metavar="N", help="only a random sample of N, always the same")
    add("--seed", type=at_least(0), default=0, metavar="N", help="of noise and resampling (default: 0)")
    add("--choose", choices=CHOICES, default=CHOICES[0], help=f"choose by this metric (default: {CHOICES[0]})")
    add(
        "--psnr-loss",
        type=scale,
        default=DEFAULT_PSNR_LOSS,
        metavar="DB",
        help=f"how far below the gray input's a chosen setting's PSNR may be (default: {DEFAULT_PSNR_LOSS:g} dB)",
    )
    add("--store", type=Path, metavar="DIR", help="make the chosen setting the default of the model in this folder")
    add("--overwrite", action="store_true", help="measure settings again that are there already")


def run(arguments: argparse.Namespace) -> int:
    """Measure what is not measured yet and print the table; returns the exit status.

    Raises:
        ValueError, OSError: something that the user can mend.
    """
    spec = arguments.dataset
    for prefix in _PREFIXES:
        spec = spec.removeprefix(prefix)
    photos = load_photos(spec, arguments.limit)
    share_cores()
    from .features import Lite2Features

    pipeline = _load(arguments.model)
    settings = make_grid(
        pipeline,
        arguments.steps,
        arguments.guidance_scale,
        arguments.sampler,
        arguments.noise_scale,
        arguments.color_scale,
    )
    _check(pipeline, settings, photos, arguments.prompt_mode)
    base = _request(pipeline, photos, arguments)
    folder = arguments.output / SETTINGS_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    missing = [
        setting
        for setting in settings
        if not is_done(folder / setting.file_name, base | asdict(setting), arguments.overwrite)
    ]
    failures: list[str] = []

    def fail(line: str) -> None:
        failures.append(line)
        print(f"failed: {line}", file=sys.stderr)

    gray_file, gray_request = arguments.output / GRAY_FILE, _gray_request(base)
    gray_missing = not is_done(gray_file, gray_request, arguments.overwrite)
    if missing or gray_missing:
        lite2 = Lite2Features()
        originals = prepare_photos(set_name(spec), _colored(photos), lite2, None, fail)
        if gray_missing:
            metrics = measure_gray(originals, lite2, arguments.seed)
            write_result(gray_file, {"format": FORMAT, "metrics": metrics, "request": gray_request})
        _measure_all(pipeline, missing, originals, lite2, arguments, base, fail)
    rows = _read_rows(folder, base)
    if not rows:
        raise ValueError("no setting could be measured")
    gray = json.loads(gray_file.read_text(encoding="utf-8"))["metrics"]
    choice = choose_setting(rows, gray, arguments.choose, arguments.psnr_loss)
    result = {"format": FORMAT, "dataset": arguments.dataset, "limit": arguments.limit, "model": arguments.model}
    result |= {"request": base, "choice": choice, "rows": rows, "gray": gray, "versions": package_versions(PACKAGES)}
    write_result(arguments.output / RESULT_FILE, result)
    text = render_sweep(result)
    write_text(arguments.output / TABLE_FILE, text)
    print(text, end="")
    if arguments.store is not None:
        if choice["setting"] is None:
            raise ValueError("argument --store: no setting was chosen")
        for file in store_defaults(arguments.store, Setting(**choice["setting"])):
            print(file)
    return 1 if failures else 0


def render_sweep(result: dict) -> str:
    """sweep.md of the content of sweep.json."""
    rows = result["rows"]
    return render(
        "sweep.md.jinja",
        data=rows[0]["data"],
        request=result["request"],
        table=sweep_table(rows, result["gray"]),
        choice=explain_choice(result["choice"], rows),
    )


def _load(model: str) -> "ColorizationPipeline":
    import diffusers
    import transformers

    from colorization import load_pipeline

    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
    pipeline = load_pipeline(model)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _check(
    pipeline: "ColorizationPipeline", settings: Sequence[Setting], photos: Sequence[NamedPhoto], prompt_mode: str
) -> None:
    """ValueError on what would fail later, or measure the same thing twice."""
    if prompt_mode == LABEL and not any(photo.label for photo in photos):
        raise ValueError("argument --prompt-mode: the data set has no labels")
    guided = prompt_mode != NO_PROMPT or pipeline.config.default_negative_prompt
    if not guided and len({setting.guidance_scale for setting in settings}) > 1:
        raise ValueError(
            "argument --guidance-scale: without prompts and without a negative prompt in the model all values give "
            f"the same pictures; add --prompt-mode {LABEL}"
        )
    for noise_scale in {setting.noise_scale for setting in settings}:
        with_noise_scale(pipeline, noise_scale)


def _request(pipeline: "ColorizationPipeline", photos: Sequence[NamedPhoto], arguments: argparse.Namespace) -> dict:
    """What all settings of a sweep have in common, the grid apart."""
    config, scheduler = pipeline.config, pipeline.scheduler.config
    return {
        "photos_sha256": hashlib.sha256("\n".join(photo.digest for photo in photos).encode()).hexdigest(),
        "weights_sha256": pipeline_sha256(pipeline),
        "seed": arguments.seed,
        "prompt_mode": arguments.prompt_mode,
        "negative_prompt": config.default_negative_prompt,
        "resolution": config.resolution,
        "color_scale_space": config.color_scale_space,
        "final": config.final,
        "prediction_type": scheduler.prediction_type,
        "trained_noise_scale": scheduler.noise_scale,
    }


def _gray_request(base: dict) -> dict:
    """What the metrics of the gray input depend on."""
    return {key: base[key] for key in ("photos_sha256", "seed")}


def _colored(photos: Sequence[NamedPhoto]) -> list[NamedPhoto]:
    """Photographs that have color; damaged ones stay, for the decoder to name."""

    def has_color(photo: NamedPhoto) -> bool:
        try:
            return not is_gray(photo.pixels())
        except ValueError:
            return True

    colored = [photo for photo in photos if has_color(photo)]
    if not colored:
        raise ValueError("argument --dataset: all of its photographs are gray")
    if len(colored) < len(photos):
        print(f"left out: {len(photos) - len(colored)} gray photographs", file=sys.stderr)
    return colored


def _measure_all(
    pipeline: "ColorizationPipeline",
    settings: Sequence[Setting],
    photos: PhotoSet,
    lite2: "Lite2Features",
    arguments: argparse.Namespace,
    base: dict,
    fail: Callable[[str], None],
) -> None:
    """Measure settings and write a JSON for each."""
    from tqdm import tqdm

    runs = sampling_runs(settings, pipeline.config.color_scale_space)
    prompts = [photo.label if arguments.prompt_mode == LABEL else "" for photo in photos.photos]
    sides = sorted({side for size in photos.sizes for side in size})
    shown = {
        "data": {
            "name": photos.name,
            "n": len(photos.photos),
            "geometry": f"each at its own size, sides of {sides[0]} to {sides[-1]} pixels",
        },
        "device": str(pipeline.device),
        "dtype": str(pipeline.unet.dtype).removeprefix("torch."),
        "feature_weights_sha256": lite2.weights_sha256,
        "versions": package_versions(PACKAGES),
    }
    with tqdm(total=len(runs) * len(photos.photos), desc="sweep", unit="photo") as progress:
        for members in runs:
            variant = with_noise_scale(pipeline, members[0].noise_scale)
            try:
                results = measure_run(variant, members, photos, prompts, lite2, arguments.seed, progress.update)
            except RuntimeError as error:  # values that are not finite, out of memory
                fail(f"{members[0]}: {' '.join(str(error).split())}")
                continue
            for setting, metrics in results.items():
                content = {"format": FORMAT, "setting": asdict(setting), "metrics": metrics, **shown}
                file = arguments.output / SETTINGS_FOLDER / setting.file_name
                write_result(file, content | {"request": base | asdict(setting)})


def _read_rows(folder: Path, base: dict) -> list[dict]:
    """Results that answer this request, whatever their setting, sorted by it."""
    results = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(folder.glob("steps-*.json"))]
    rows = [row for row in results if base.items() <= row["request"].items()]
    return sorted(rows, key=lambda row: Setting(**row["setting"]))
