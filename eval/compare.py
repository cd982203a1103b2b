"""Compare models on photographs: one JSON per model and set of photographs, and a table of them.

Every photograph is colored from its luminance at its own size, as users get it (the model works at its own resolution
inside), without a prompt, and is measured against its original at that size; the features of FD-Lite2 see the whole
picture at 260 x 260.

Models are folders in diffusers layout or "embedded". Two pseudo models show what the metrics say of doing nothing:
"gray" is the input itself, "vae" (or "vae:MODEL") what a perfect prediction would give: the original's colors, encoded
and decoded by that model's VAE and upsampled to the photograph's size like any prediction. The original itself has a
distance of 0.
"""

import argparse
import hashlib
import json
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from colorization.command_line import Parser, share_cores

from .photos import NamedPhoto, load_photos, photo_seed, set_name, take
from .summary import (
    both_colorfulnesses,
    feature_metrics,
    package_versions,
    pixel_metrics,
    replace_file,
    show_metric,
    to_tensor,
    write_result,
)

if TYPE_CHECKING:  # torch is imported once the arguments are known to be good
    from colorization import ColorizationPipeline

    from .features import Lite2Features

GRAY, VAE, EMBEDDED = "gray", "vae", "embedded"
TIMED_STEPS, TIMED_REPEATS = 8, 5
PACKAGES = ("cold-colorizer", "torch", "diffusers", "transformers", "numpy", "pillow", "efficientnet_lite_pytorch")

_EXAMPLES = """examples:
  python -m eval.compare gray vae embedded --photos examples --output results
  python -m eval.compare embedded runs/new/pipeline --photos "data/validation-*.parquet" --output results \\
      --dtype bfloat16 --hit-rate-photos "data/validation-*.parquet" --hit-rate-count 100
  python -m eval.compare --table results

Photographs are a folder of images (labels from its index.csv), or a parquet file or glob with columns image and label;
with ":validation" at the end, only its fixed validation split. Finished JSONs are skipped: the same command goes on
where an interrupted one stopped.

exit status: 0 all done, 1 some inputs failed (each is named), 2 bad arguments"""


@dataclass
class PhotoSet:
    """Decodable photographs with what is known of the originals.

    Attributes:
        name: for results.
        photos: `n` photographs.
        sizes: (width, height) of each.
        features: of the originals, `(n, 1280)`.
        colorfulness: of the originals, `(n, 2)`: as published, and of absolute differences.
    """

    name: str
    photos: list[NamedPhoto]
    sizes: list[tuple[int, int]]
    features: np.ndarray
    colorfulness: np.ndarray


# Photographs


def prepare_photos(
    name: str, photos: Sequence[NamedPhoto], lite2: "Lite2Features", cache: Path | None, fail: Callable[[str], None]
) -> PhotoSet:
    """Decode every photograph once and measure the original; those that cannot be decoded are reported and left out.

    Args:
        cache: folder in which the features are kept, under a name made of the photographs and the network; None keeps
            nothing.
        fail: called with a line on each photograph that cannot be used.
    """
    from .features import PREPROCESSING

    key = hashlib.sha256("\n".join([lite2.weights_sha256, PREPROCESSING, *(p.digest for p in photos)]).encode())
    file = None if cache is None else cache / f"lite2-{key.hexdigest()[:24]}.npy"
    cached = np.load(file) if file is not None and file.is_file() else None
    good, sizes, features, colors = [], [], [], []
    for photo in _progress(photos, f"originals of {name}"):
        try:
            pixels = photo.pixels()
        except ValueError as error:
            fail(str(error))
            continue
        good.append(photo)
        sizes.append((pixels.shape[1], pixels.shape[0]))
        colors.append(both_colorfulnesses(to_tensor(pixels)))
        if cached is None:
            features.append(lite2([pixels])[0])
    if not good:
        raise ValueError(f"{name}: none of its photographs can be decoded")
    if cached is None:
        cached = np.stack(features)
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            replace_file(file, lambda temporary: np.save(temporary, cached))
    return PhotoSet(name, good, sizes, cached, np.array(colors))


def describe_photos(photos: PhotoSet, model: str) -> dict:
    """The entry "data" of a result."""
    sides = sorted({size for width, height in photos.sizes for size in (width, height)})
    digest = hashlib.sha256("\n".join(photo.digest for photo in photos.photos).encode()).hexdigest()
    return {
        "name": photos.name,
        "n": len(photos.photos),
        "geometry": f"colored and measured at each photograph's own size, sides of {sides[0]} to {sides[-1]} pixels"
        + ("" if model == GRAY else ", colors predicted at the model's resolution"),
        "sha256": digest,
    }


# Models


def gray_version(images: Sequence[np.ndarray], prompts: Sequence[str], seeds: Sequence[int]) -> list[np.ndarray]:
    """Three equal channels of Rec. 601 luma: what a model that does nothing returns."""
    from PIL import Image

    return [np.array(Image.fromarray(image).convert("L").convert("RGB")) for image in images]


def pipeline_colorizer(pipeline: "ColorizationPipeline", batch_size: int, settings: dict) -> Callable:
    """Colors RGB pictures from their luminance: (images, prompts, seeds) -> RGB uint8 pictures of the same sizes."""

    def color(images: Sequence[np.ndarray], prompts: Sequence[str], seeds: Sequence[int]) -> list[np.ndarray]:
        output = pipeline(list(images), prompt=list(prompts), seed=list(seeds), batch_size=batch_size, **settings)
        return [np.array(image) for image in output.images]

    return color


def vae_colorizer(pipeline: "ColorizationPipeline") -> Callable:
    """Like :func:`pipeline_colorizer`, with the originals' own colors after a round trip through the VAE."""
    import torch
    from PIL import Image

    from colorization.color import rgb_to_chroma
    from colorization.prediction import ChromaPrediction

    @torch.no_grad()
    def color(images: Sequence[np.ndarray], prompts: Sequence[str], seeds: Sequence[int]) -> list[np.ndarray]:
        results = []
        for pixels in images:
            image = Image.fromarray(pixels)
            size = pipeline.model_size(*image.size)
            small = image.resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0)
            decoded = pipeline.decode_latents(pipeline.encode_image(2 * to_tensor(np.array(small)) - 1))
            guide = to_tensor(np.array(small.convert("L").convert("RGB")))[0, :1]
            settings = {"color_scale": 1.0, "color_scale_space": "chroma"}
            prediction = ChromaPrediction(rgb_to_chroma(decoded)[0].cpu(), guide, settings)
            results.append(prediction.render(np.array(image.convert("L"))))
        return results

    return color


def model_folder(model: str) -> Path | None:
    """The folder of a model's (or, for "vae", its VAE's) weights; None for "gray". ValueError where there is none."""
    from colorization.loading import EMBEDDED_DIRECTORY

    if model == GRAY:
        return None
    name, part = _pipeline_name(model), "vae" if _is_vae(model) else ""
    folder = (EMBEDDED_DIRECTORY if name == EMBEDDED else Path(name)) / part
    if not folder.is_dir() or not any(folder.rglob("*.safetensors")):
        raise ValueError(f"model {model!r} is neither {EMBEDDED!r} nor a folder with safetensors weights")
    return folder


def weights_sha256(folder: Path) -> str:
    """One SHA-256 for the safetensors files below a folder, their relative names included.

    The vividness network is left out: it only chooses a color scale, where that is asked for.
    """
    total = hashlib.sha256()
    for file in sorted(set(folder.rglob("*.safetensors")) - set(folder.glob("vividness/*"))):
        total.update(file.relative_to(folder).as_posix().encode() + hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()


def _is_vae(model: str) -> bool:
    return model == VAE or model.startswith(f"{VAE}:")


def _pipeline_name(model: str) -> str:
    """The model whose pipeline is needed: MODEL of "vae:MODEL"."""
    return model.removeprefix(f"{VAE}:") if model != VAE else EMBEDDED


def _load(model: str, dtype: str) -> "ColorizationPipeline":
    import diffusers
    import torch
    import transformers

    from colorization import load_pipeline

    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
    pipeline = load_pipeline(_pipeline_name(model), dtype=getattr(torch, dtype))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def time_pipeline(pipeline: "ColorizationPipeline", image: np.ndarray) -> dict:
    """Seconds for one photograph in 8 steps without prompt: the median of 5 calls that follow a first one."""
    seconds = []
    for _ in range(TIMED_REPEATS + 1):
        start = time.perf_counter()
        pipeline(image, num_inference_steps=TIMED_STEPS)
        seconds.append(time.perf_counter() - start)
    timed = seconds[1:]
    return {
        "value": statistics.median(timed),
        "n": TIMED_REPEATS,
        "interval": None,
        "range": [min(timed), max(timed)],
        "picture_size": [image.shape[1], image.shape[0]],
        "device": str(pipeline.device),
    }


# Metrics


def measure(
    photos: PhotoSet,
    color: Callable,
    size_of: Callable[[int, int], tuple[int, int]],
    lite2: "Lite2Features",
    seed: int,
    batch_size: int,
    name: str,
) -> dict:
    """Color every photograph and compare with the originals; the entry "metrics" of a result.

    Args:
        color: (images, prompts, seeds) -> colored images.
        size_of: (width, height) at model resolution; photographs of one such size share batches.
        seed: of the noise (each photograph has its own, made from it) and of the resampling.
        name: of the model, for the progress bar.
    """
    from .pixel_metrics import chroma_error, mean_ciede2000, psnr

    n = len(photos.photos)
    order = sorted(range(n), key=lambda row: size_of(*photos.sizes[row]))
    features = np.empty_like(photos.features)
    scores = np.empty((n, 5))  # psnr, ciede2000, chroma error, colorfulness as published and of absolute values
    with _progress(None, f"{name} on {photos.name}", total=n) as progress:
        for start in range(0, n, batch_size):
            rows = order[start : start + batch_size]
            originals = [photos.photos[row].pixels() for row in rows]
            seeds = [photo_seed(seed, photos.photos[row]) for row in rows]
            outputs = color(originals, [""] * len(rows), seeds)
            features[rows] = lite2(outputs)
            for row, output, original in zip(rows, outputs, originals, strict=True):
                pair = to_tensor(output), to_tensor(original)
                errors = [metric(*pair).item() for metric in (psnr, mean_ciede2000, chroma_error)]
                scores[row] = [*errors, *both_colorfulnesses(pair[0])]
            progress.update(len(rows))
    return feature_metrics(features, photos.features, seed) | pixel_metrics(scores, photos.colorfulness, seed)


# Results


def result_file(folder: Path, model: str, set_label: str) -> Path:
    """Where the result of a model on a set goes."""

    def slug(name: str) -> str:
        return re.sub(r"[^\w.]+", "-", name).strip("-.")

    return folder / f"{slug(model)}--{slug(set_label)}.json"


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


def render_table(results: Sequence[dict]) -> str:
    """The Markdown tables of results, sorted by set and model; a metric that is not there is "n/a".

    Raises:
        ValueError: there are none.
    """
    if not results:
        raise ValueError("no results to show")
    results = sorted(results, key=lambda result: (result["data"]["name"], result["model"]))
    compared = [result for result in results if "psnr" in result["metrics"]]
    prompted = [result for result in results if "color_word_hit_rate" in result["metrics"]]
    parts = []
    if compared:
        columns = {
            "FD-Lite2": lambda m: show_metric(m["fd_lite2"], ".2f"),
            "relative": lambda m: show_metric({"value": m["fd_lite2"]["relative"]}, ".4f"),
            "KD-Lite2": lambda m: show_metric(m["kd_lite2"], ".4f"),
            "PSNR": lambda m: show_metric(m["psnr"], ".2f"),
            "CIEDE2000": lambda m: show_metric(m["ciede2000"], ".2f"),
            "chroma error": lambda m: show_metric(m["chroma_error"], ".2f"),
            "colorfulness": lambda m: show_metric(m["colorfulness"], ".1f"),
            "of the original's": lambda m: show_metric(m["colorfulness_ratio"], ".0%"),
            "seconds": lambda m: show_metric(m.get("seconds_8_steps", {"value": None}), ".2f"),
        }
        parts.append(_markdown(compared, columns))
    if prompted:
        from .color_word_rate import HUE_WORDS

        def rate_of(word: str) -> Callable[[dict], str]:
            return lambda m: show_metric(m["color_word_hit_rate"]["by_word"][word], ".0%")

        columns = {
            "pairs": lambda m: str(m["color_word_hit_rate"]["n"]),
            "hit rate": lambda m: show_metric(m["color_word_hit_rate"], ".1%"),
            "without the word": lambda m: show_metric({"value": m["color_word_hit_rate"]["unprompted"]}, ".1%"),
        } | {word: rate_of(word) for word in HUE_WORDS}
        parts.append(_markdown(prompted, columns))
    return "\n\n".join(parts)


def _markdown(results: Sequence[dict], columns: dict[str, Callable[[dict], str]]) -> str:
    lines = [f"| photographs | n | model | {' | '.join(columns)} |", "|" + "---|" * (3 + len(columns))]
    for result in results:
        cells = [result["data"]["name"], str(result["data"]["n"]), result["model"]]
        lines.append(f"| {' | '.join([*cells, *(cell(result['metrics']) for cell in columns.values())])} |")
    return "\n".join(lines)


def _progress(items: Iterable | None, text: str, total: int | None = None):
    from tqdm import tqdm

    return tqdm(items, desc=text, total=total, unit="photo")


# Command


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m eval.compare",
        description=__doc__,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", nargs="*", metavar="MODEL", help='folder, "embedded", "gray", "vae" or "vae:MODEL"')
    parser.add_argument("--photos", nargs="+", default=[], metavar="SPEC", help="photographs to color")
    parser.add_argument("--output", type=Path, metavar="DIR", help="folder for the JSONs")
    parser.add_argument("--limit", type=int, metavar="N", help="at most N photographs of each set")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of noise and resampling (default: 0)")
    parser.add_argument("--steps", type=int, metavar="N", help="sampling steps (default: the model's)")
    parser.add_argument("--guidance-scale", type=float, metavar="S", help="for prompts (default: the model's)")
    parser.add_argument("--color-scale", type=float, metavar="S", help="color intensity (default: the model's)")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="of the networks")
    parser.add_argument("--batch-size", type=int, default=32, metavar="N", help="photographs at once (default: 32)")
    parser.add_argument("--hit-rate-photos", metavar="SPEC", help="labeled photographs for the color-word hit rate")
    parser.add_argument("--hit-rate-count", type=int, default=100, metavar="N", help="how many (default: 100)")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="keep the originals' features here")
    parser.add_argument("--overwrite", action="store_true", help="replace results that are there already")
    parser.add_argument("--table", type=Path, metavar="DIR", help="only print the table of the JSONs in this folder")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = build_parser()
    arguments = parser.parse_args(argv)
    try:
        if arguments.table is not None:
            print(render_table(_read_results(arguments.table)))
            return 0
        return _compare(arguments)
    except (ValueError, ImportError) as error:
        parser.error(str(error))
    except OSError as error:
        parser.error(f"{error.filename}: {error.strerror}" if error.filename else str(error))


def _read_results(folder: Path) -> list[dict]:
    if not folder.is_dir():
        raise ValueError(f"argument --table: {folder} is not a folder")
    results = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(folder.glob("*--*.json"))]
    if not results:
        raise ValueError(f"argument --table: {folder} holds no results")
    return results


def _check_arguments(arguments: argparse.Namespace) -> None:
    """ValueError on what argparse cannot see."""
    if not arguments.model:
        raise ValueError("argument MODEL: name at least one")
    if not arguments.photos and arguments.hit_rate_photos is None:
        raise ValueError("argument --photos or --hit-rate-photos is required")
    if arguments.output is None:
        raise ValueError("argument --output is required")
    for name, minimum in (("limit", 1), ("seed", 0), ("steps", 1), ("batch_size", 1), ("hit_rate_count", 1)):
        value = getattr(arguments, name)
        if value is not None and value < minimum:
            raise ValueError(f"argument --{name.replace('_', '-')}: must be at least {minimum}, got {value}")
    for name in ("guidance_scale", "color_scale"):
        value = getattr(arguments, name)
        if value is not None and not 0 <= value < float("inf"):
            raise ValueError(f"argument --{name.replace('_', '-')}: must be finite and at least 0, got {value}")


@dataclass(frozen=True)
class _Job:
    """One result that is still to be made."""

    model: str
    spec: str
    photos: list[NamedPhoto]
    hit_rate: bool
    file: Path
    request: dict


def _compare(arguments: argparse.Namespace) -> int:
    _check_arguments(arguments)
    jobs = _plan(arguments)
    if not jobs:
        print(f"nothing to do: all results are in {arguments.output}")
        return 0
    share_cores()
    from .features import Lite2Features

    arguments.output.mkdir(parents=True, exist_ok=True)
    lite2 = None if all(job.hit_rate for job in jobs) else Lite2Features()
    failures: dict[str, None] = {}  # each once, in order

    def fail(line: str) -> None:
        if line not in failures:
            failures[line] = None
            print(f"failed: {line}", file=sys.stderr)

    sets = {}
    for job in jobs:
        if not job.hit_rate and job.spec not in sets:
            sets[job.spec] = prepare_photos(set_name(job.spec), job.photos, lite2, arguments.cache, fail)
    for model in dict.fromkeys(job.model for job in jobs):
        own = [job for job in jobs if job.model == model]
        try:
            pipeline = None if model == GRAY else _load(model, arguments.dtype)
        except ValueError as error:
            fail(f"{model}: {error}")
            continue
        for job in own:
            try:
                result = _run_job(job, pipeline, sets.get(job.spec), lite2, arguments)
            except (RuntimeError, ValueError) as error:  # values that are not finite, out of memory
                fail(f"{model} on {set_name(job.spec)}: {error}")
                continue
            write_result(job.file, result)
            print(f"{job.file}")
    return 1 if failures else 0


def _plan(arguments: argparse.Namespace) -> list[_Job]:
    """What is to be done, after a check of everything that can be checked without a model."""
    from .color_word_rate import has_usable_label

    sources = [(spec, load_photos(spec, arguments.limit), False) for spec in dict.fromkeys(arguments.photos)]
    if arguments.hit_rate_photos is not None:
        labeled = [photo for photo in load_photos(arguments.hit_rate_photos) if has_usable_label(photo)]
        if not labeled:
            raise ValueError(f"argument --hit-rate-photos: {arguments.hit_rate_photos} has no labels to prompt with")
        sources.append((arguments.hit_rate_photos, take(labeled, arguments.hit_rate_count), True))
    jobs = {}
    for model in dict.fromkeys(arguments.model):
        folder = model_folder(model)
        digest = None if folder is None else weights_sha256(folder)
        options = {key: getattr(arguments, key) for key in _options_that_matter(model)}
        for spec, photos, hit_rate in sources:
            if hit_rate and (model == GRAY or _is_vae(model)):
                continue  # they see no prompt
            content = hashlib.sha256("\n".join(photo.digest for photo in photos).encode()).hexdigest()
            request = options | {"weights_sha256": digest, "photos_sha256": content}
            file = result_file(arguments.output, model, set_name(spec) + (" color words" if hit_rate else ""))
            if file in jobs:
                raise ValueError(
                    f"two results would have the same name, {file.name}: give one of them another --output"
                )
            jobs[file] = _Job(model, spec, photos, hit_rate, file, request)
    return [job for file, job in jobs.items() if not is_done(file, job.request, arguments.overwrite)]


def _options_that_matter(model: str) -> list[str]:
    """Which options change a model's result, besides those that choose the photographs."""
    if model == GRAY:
        return ["seed"]
    return ["seed", "dtype"] + ([] if _is_vae(model) else ["steps", "guidance_scale", "color_scale"])


def _run_job(
    job: _Job,
    pipeline: "ColorizationPipeline | None",
    photos: PhotoSet | None,
    lite2: "Lite2Features | None",
    arguments: argparse.Namespace,
) -> dict:
    """The whole result of one model on one set."""
    import torch

    from colorization.sampling import default_sampler

    real = pipeline is not None and not _is_vae(job.model)
    settings = {
        "num_inference_steps": arguments.steps,
        "guidance_scale": arguments.guidance_scale,
        "color_scale": arguments.color_scale,
    }
    if real:
        settings = {
            key: pipeline.config[f"default_{key}"] if value is None else value for key, value in settings.items()
        }
        color = pipeline_colorizer(pipeline, arguments.batch_size, settings)
    else:
        color = gray_version if pipeline is None else vae_colorizer(pipeline)
    size_of = (lambda *size: size) if pipeline is None else pipeline.model_size

    if job.hit_rate:
        from .color_word_rate import HUE_WORDS, measure_color_words

        total = len(job.photos) * (len(HUE_WORDS) + 1)
        with _progress(None, f"{job.model}, color words", total=total) as progress:
            metrics = {"color_word_hit_rate": measure_color_words(job.photos, color, arguments.seed, progress.update)}
        data = {
            "name": set_name(job.spec),
            "n": len(job.photos),
            "geometry": "colored at each photograph's own size, judged at 96 pixels about the center",
            "sha256": job.request["photos_sha256"],
        }
    else:
        metrics = measure(photos, color, size_of, lite2, arguments.seed, arguments.batch_size, job.model)
        if real:
            metrics["seconds_8_steps"] = time_pipeline(pipeline, photos.photos[0].pixels())
        data = describe_photos(photos, job.model)

    shown = {"dtype": arguments.dtype, "batch_size": arguments.batch_size, "threads": torch.get_num_threads()}
    if real:
        prompt = "{word} {label}" if job.hit_rate else ""
        sampler = pipeline.config.default_sampler or default_sampler(pipeline.scheduler.config.noise_scale)
        shown |= settings | {"prompt": prompt, "sampler": sampler}
        shown |= {"device": str(pipeline.device), "resolution": pipeline.config.resolution}
    return {
        "model": job.model,
        "data": data,
        "metrics": metrics,
        "settings": shown,
        "seed": arguments.seed,
        "versions": package_versions(PACKAGES),
        "weights_sha256": job.request["weights_sha256"],
        "feature_weights_sha256": None if job.hit_rate else lite2.weights_sha256,
        "request": job.request,
    }


if __name__ == "__main__":
    sys.exit(main())
