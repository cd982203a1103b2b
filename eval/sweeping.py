"""Measure a grid of settings, each once, and choose among them."""

import argparse
import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

from colorization import ColorizationPipeline
from colorization.errors import one_line

from .choosing import choose_setting, store_defaults
from .colorizers import load_quietly
from .files import PACKAGES, package_versions, write_result, write_text
from .grid import make_grid, pipeline_sha256, sampling_runs, with_noise_scale
from .measuring import PhotoSet, measure_gray, measure_run, prepare_photos
from .metrics.gray import is_gray
from .metrics.lite2 import Lite2Features
from .options import LABEL
from .photos import NamedPhoto, set_name
from .runs import NO_PROMPT
from .setting import Setting
from .sweep_page import RESULT_FILE, TABLE_FILE, render_sweep

FORMAT = 1
SETTINGS_FOLDER, GRAY_FILE = "settings", "gray.json"


def sweep(arguments: argparse.Namespace, photos: Sequence[NamedPhoto]) -> int:
    """Measure what is not measured yet and print the table; returns the exit status.

    Raises:
        ValueError, OSError: something that the user can mend.
    """
    pipeline = load_quietly(arguments.model)
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
        originals = prepare_photos(set_name(arguments.dataset), _colored(photos), lite2, fail)
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


def is_done(file: Path, request: dict, overwrite: bool) -> bool:
    """Whether a result is there and answers this request; ValueError when it answers another one."""
    if overwrite or not file.is_file():
        return False
    try:
        stored = json.loads(file.read_text(encoding="utf-8")).get("request")
    except ValueError as error:
        raise ValueError(f"{file} is no result: {error}; --overwrite replaces it") from error
    for key, value in request.items():
        if stored is None or stored.get(key) != value:
            other = None if stored is None else stored.get(key)
            raise ValueError(f"{file} was made with {key} {other}, not {value}; --overwrite replaces it")
    return True


def _check(
    pipeline: ColorizationPipeline, settings: Sequence[Setting], photos: Sequence[NamedPhoto], prompt_mode: str
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


def _request(pipeline: ColorizationPipeline, photos: Sequence[NamedPhoto], arguments: argparse.Namespace) -> dict:
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
    pipeline: ColorizationPipeline,
    settings: Sequence[Setting],
    photos: PhotoSet,
    lite2: Lite2Features,
    arguments: argparse.Namespace,
    base: dict,
    fail: Callable[[str], None],
) -> None:
    """Measure settings and write a JSON for each."""
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
                fail(f"{members[0]}: {one_line(error)}")
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
