"""Color a data set into a run's folder, with any number of processes."""

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from PIL import Image
from tqdm import tqdm

from colorization.atomic import is_full
from colorization.captioning import Captioner, load_captioner, strip_gray_words
from colorization.errors import explain
from colorization.loading import default_device

from .colorizers import Colorizer, load_colorizer, model_sha256
from .files import PACKAGES, package_versions
from .metrics.gray import luma_of
from .options import DEFAULT_CAPTIONER
from .originals import GRAY_PHOTO, NO_LABEL, Item, prepare
from .photos import PhotoList, PhotoSource, list_photos, naming
from .processes import main_first, only_main, progress_bar
from .run_folder import append_lines, close_run, finished_lines, open_run, write_picture
from .runs import COLOR_CAPTION, FORMAT, GRAY_CAPTION, OUTPUTS, REFERENCES, ROUND_TRIPS

_REQUEST_KEYS = ("prompt_mode", "settings", "model", "model_revision", "adapter", "adapter_revision")  # in every line


def generate(arguments: argparse.Namespace) -> int:
    """The command, in every process; the exit status.

    Raises:
        ValueError, OSError: something that the user can mend. Of several processes only the main one raises.
    """
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


def _generate(arguments: argparse.Namespace, state: PartialState) -> int:
    photos = main_first(state, lambda: _list_photos(arguments))
    captioner = main_first(state, lambda: _load_captioner(arguments, state.device))
    colorizer = main_first(state, lambda: load_colorizer(arguments, state.device))
    request = only_main(state, lambda: _start(arguments, photos, colorizer, state))
    made = finished_lines(arguments.output)
    state.wait_for_everyone()  # all have read the manifests before any of them grows

    with state.split_between_processes(photos.sources) as sources:
        items = gather_object(_prepare_all(sources, arguments, made, state))
    usable = [item for item in items if item.reason is None]
    if not usable:
        raise ValueError(f"argument --dataset: {_why_none(items)}")

    batches = batches_of_one_shape(usable, colorizer.model_size, arguments.batch_size)
    unfinished = [batch for batch in batches if any(item.line is None for item in batch)]
    with state.split_between_processes(unfinished) as mine:
        lines, failed = _color_all(mine, arguments, colorizer, captioner, request, state)
    lines = gather_object(lines)
    left_out = [item for item in items if item.reason is not None] + gather_object(failed)
    finished = [item.line for item in usable if item.line is not None]
    only_main(state, lambda: _finish(arguments, finished, lines, left_out))
    return 1 if any(item.failed for item in left_out) else 0


def _list_photos(arguments: argparse.Namespace) -> PhotoList:
    with naming("--dataset"):
        return list_photos(arguments.dataset, arguments.limit)


def _load_captioner(arguments: argparse.Namespace, device: torch.device) -> Captioner | None:
    if arguments.prompt_mode not in (GRAY_CAPTION, COLOR_CAPTION):
        return None
    return load_captioner(arguments.captioner or DEFAULT_CAPTIONER, device=device)


def _start(arguments: argparse.Namespace, photos: PhotoList, colorizer: Colorizer, state: PartialState) -> dict:
    request = _request(arguments, photos, colorizer, state)
    open_run(arguments.output, request, arguments.overwrite)
    return request


def _request(arguments: argparse.Namespace, photos: PhotoList, colorizer: Colorizer, state: PartialState) -> dict:
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
        "weights_sha256": model_sha256("model", arguments.model, provenance),
        "adapter_sha256": model_sha256("adapter", arguments.adapter, provenance),
        "versions": package_versions(PACKAGES),
    }


def _prepare_all(
    sources: Sequence[PhotoSource], arguments: argparse.Namespace, made: Mapping[str, dict], state: PartialState
) -> list[Item]:
    """:func:`prepare` for this process's share; what cannot be read is named."""
    items = []
    for source in progress_bar(sources, "reading", len(sources), state):
        found = prepare(source, arguments, made)
        for item in found:
            if item.failed:
                _name_failure(item, item.reason)
        items += found
    return items


def _why_none(items: Sequence[Item]) -> str:
    """Why no photograph can be used."""
    gray, unlabeled = (sum(item.reason == reason for item in items) for reason in (GRAY_PHOTO, NO_LABEL))
    text = f"none of the {len(items)} photographs can be used: {gray} are gray (--keep-gray keeps them), "
    text += f"{unlabeled} have no label without a color, " if unlabeled else ""
    return text + f"{len(items) - gray - unlabeled} unreadable"


# Coloring


def batches_of_one_shape(items: Iterable[Item], model_size: Callable, batch_size: int) -> list[list[Item]]:
    """Batches of photographs that the model sees at one size, whatever the number of processes and what is done."""
    shapes: dict[tuple[int, int], list[Item]] = {}
    for item in sorted(items, key=lambda item: item.id):
        shapes.setdefault(model_size(*item.size), []).append(item)
    return [
        shape[start : start + batch_size]
        for _, shape in sorted(shapes.items())
        for start in range(0, len(shape), batch_size)
    ]


def _color_all(
    batches: Sequence[list[Item]],
    arguments: argparse.Namespace,
    colorizer: Colorizer,
    captioner: Captioner | None,
    request: dict,
    state: PartialState,
) -> tuple[list[dict], list[Item]]:
    """Color this process's share: new lines of the manifest, which are on disk after each batch, and what failed."""
    lines, failed = [], []
    total = sum(item.line is None for batch in batches for item in batch)
    progress = progress_bar(None, f"coloring with {arguments.model}", total, state)
    with progress, ThreadPoolExecutor() as writers:
        for batch in batches:
            try:
                new = _color_batch(batch, arguments, colorizer, captioner, request, writers)
            except Exception as error:  # not finite, out of memory, too many pixels, or what nobody foresaw
                if is_full(error):  # no other picture would find room
                    raise
                reason = f"failed: {explain(error)}"
                missing = [replace(item, reason=reason) for item in batch if item.line is None]
                for item in missing:
                    _name_failure(item, explain(error))
                failed += missing
                progress.update(len(missing))
                continue
            append_lines(arguments.output, state.process_index, new)
            lines += new
            progress.update(len(new))
    return lines, failed


def _color_batch(
    batch: list[Item],
    arguments: argparse.Namespace,
    colorizer: Colorizer,
    captioner: Captioner | None,
    request: dict,
    writers: ThreadPoolExecutor,
) -> list[dict]:
    """Color a batch and write what is not there yet; the new lines of the manifest.

    The whole batch is colored even if some of it is finished: rounding may depend on what else is in a batch.
    """
    folder = arguments.output
    originals = [np.array(Image.open(folder / REFERENCES / f"{item.photo}.png")) for item in batch]
    grays = [luma_of(original) for original in originals]
    prompts = _prompts(arguments.prompt_mode, captioner, batch, originals, grays)
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
            write_picture(folder / ROUND_TRIPS / name, round_trips[row])
        return {
            "id": item.id,
            "file": f"{OUTPUTS}/{name}",
            "reference": f"{REFERENCES}/{item.photo}.png",
            "vae": None if round_trips is None else f"{ROUND_TRIPS}/{name}",
            "width": item.size[0],
            "height": item.size[1],
            "caption": prompts[row],
            "seed": item.seed,
            **({} if item.word is None else {"photo": item.photo, "word": item.word}),
            **{key: request[key] for key in _REQUEST_KEYS},
            "sha256": write_picture(folder / OUTPUTS / name, outputs[row]),
            "reference_sha256": item.reference_sha256,
            "source_sha256": item.source_sha256,
            "seconds": round(seconds, 6),
        }

    return list(writers.map(write, missing))


def _prompts(
    mode: str,
    captioner: Captioner | None,
    batch: Sequence[Item],
    originals: Sequence[np.ndarray],
    grays: Sequence[np.ndarray],
) -> list[str]:
    """The prompt of each photograph of a batch."""
    if mode == GRAY_CAPTION:
        images = [Image.fromarray(gray) for gray in grays]
        return [strip_gray_words(caption) for caption in captioner(images, batch_size=len(images))]
    if mode == COLOR_CAPTION:
        return captioner([Image.fromarray(original) for original in originals], batch_size=len(originals))
    return [item.prompt for item in batch]


def _finish(arguments: argparse.Namespace, finished: list[dict], new: list[dict], left_out: Sequence[Item]) -> None:
    """Write the manifest and what was left out, and say how many there are."""
    lines = sorted(finished + new, key=lambda line: line["id"])
    entries = sorted(({"id": item.id, "reason": item.reason} for item in left_out), key=lambda entry: entry["id"])
    close_run(arguments.output, lines, entries, changed=bool(new))
    gray, unlabeled = (sum(item.reason == reason for item in left_out) for reason in (GRAY_PHOTO, NO_LABEL))
    kept = f"{len(lines)} photographs colored, {gray} gray left out, "
    kept += f"{unlabeled} with no label without a color left out, " if unlabeled else ""
    print(f"{kept}{len(left_out) - gray - unlabeled} failed -> {arguments.output}")


def _name_failure(item: Item, reason: str) -> None:
    tqdm.write(f"failed: {item.origin}: {reason}", file=sys.stderr)
