"""Speed and memory of the shipped model on this machine, and the table in README.md that is made of it.

    python -m eval study speed --run     # measure (several minutes), and write the table
    python -m eval study speed           # print and write the table again

Every case runs in a process of its own, so that peak memory is that case's. Photographs are made from `examples/` by
resizing and cropping; they are read from and written to files.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from colorization import load_pipeline
from colorization.batch_run import colorize_files
from colorization.files import Report, Task
from colorization.image_io import read_image, write_image

from ..files import package_versions
from ..runs import OUTPUT
from .examples import make_photo
from .ledger import Entry, read_entries, record
from .machine import describe_machine

STUDY = "speed"
PACKAGES = ("torch", "diffusers", "transformers", "numpy", "pillow", "pyvips-binary")
REPEATS = 5
SETTINGS = {"num_inference_steps": 8, "prompt": "", "seed": 0, "dtype": "float32"}

# The table: what is measured, in which case, its unit and what the project promises of it on 2 CPU cores.
ROWS = {
    "`python -m colorization --help`": ("help", "seconds", "s", 1.0),
    "load the model, after imports": ("folder_8_steps", "load_seconds", "s", 2.0),
    "768 x 512 photograph, file to file": ("photo_768x512", "seconds", "s", 1.5),
    "100 photographs of 768 pixels in batches": ("folder_8_steps", "photos_per_second", "per s", 1.0),
    "the same with 4 steps": ("folder_4_steps", "photos_per_second", "per s", 2.0),
    "12-megapixel photograph, file to file": ("photo_12mp", "seconds", "s", 4.0),
    "peak memory at 12 megapixels": ("photo_12mp", "peak_gb", "GB", 2.0),
    "peak memory at 100 megapixels": ("photo_100mp", "peak_gb", "GB", 6.0),
}


# Cases


def peak_gigabytes() -> float:
    """Peak resident memory of this process (Linux counts kilobytes)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def time_photo(width: int, height: int, repeats: int) -> dict:
    """File to file, after loading: the median of `repeats` calls that follow a first one, which is told apart."""
    pipeline = load_pipeline("embedded", device="cpu")
    pipeline.set_progress_bar_config(disable=True)
    with tempfile.TemporaryDirectory() as name:
        path = make_photo(Path(name), width, height)
        seconds = []
        for _ in range(repeats + 1):
            start = time.perf_counter()
            photo = read_image(path)
            output = pipeline(photo, num_inference_steps=8, output_type="chroma")
            write_image(Path(name) / "out.jpg", output.images[0].render(photo.luma), photo, output.settings[0])
            seconds.append(time.perf_counter() - start)
    return {
        "first_seconds": seconds[0],
        "seconds": statistics.median(seconds[1:]),
        "peak_gb": peak_gigabytes(),
        "n": repeats,
    }


def time_folder(steps: int, count: int) -> dict:
    """A folder of 768-pixel photographs of three shapes through the command line's own batching."""
    shapes = ((768, 512), (512, 768), (768, 576))
    start = time.perf_counter()
    pipeline = load_pipeline("embedded", device="cpu")
    load_seconds = time.perf_counter() - start
    pipeline.set_progress_bar_config(disable=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        photos = [make_photo(folder, *shapes[k % len(shapes)], index=k) for k in range(count)]
        report = Report()
        start = time.perf_counter()
        tasks = [Task(photo, folder / "out" / photo.name) for photo in photos]
        colorize_files(pipeline, tasks, report, num_inference_steps=steps)
        seconds = time.perf_counter() - start
    assert report.done == count, report.failed
    return {
        "photos_per_second": count / seconds,
        "load_seconds": load_seconds,
        "peak_gb": peak_gigabytes(),
        "n": count,
    }


def time_help() -> dict:
    """Seconds of `python -m colorization --help`, process start included."""
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "colorization", "--help"], stdout=subprocess.DEVNULL, check=True)
        seconds.append(time.perf_counter() - start)
    return {"seconds": statistics.median(seconds), "n": REPEATS}


CASES: dict[str, Callable[[], dict]] = {
    "photo_768x512": lambda: time_photo(768, 512, REPEATS),
    "folder_8_steps": lambda: time_folder(steps=8, count=100),
    "folder_4_steps": lambda: time_folder(steps=4, count=100),
    "photo_12mp": lambda: time_photo(4000, 3000, REPEATS),
    "photo_100mp": lambda: time_photo(11548, 8660, 1),
}


def print_case(name: str) -> None:
    """Run a case in this process and print what it measured."""
    print(json.dumps(CASES[name]()))


def run_case(name: str) -> dict:
    """Run one case in a fresh process."""
    command = [sys.executable, "-c", f"from {__name__} import print_case; print_case({name!r})"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


# The table


def entry_of(case: str, measured: dict, machine: dict, versions: dict) -> Entry:
    """What a case measured, with its number of repeats, as an entry."""
    metrics = {name: {"value": value, "n": measured["n"]} for name, value in measured.items() if name != "n"}
    return Entry(STUDY, case, settings=SETTINGS | {"machine": machine}, rows={OUTPUT: metrics}, versions=versions)


def render_table(entries: Sequence[Entry]) -> str:
    """The README's section about speed, as Markdown; ValueError where not all has been measured."""
    by_case = {entry.run: entry for entry in entries}
    missing = {case for case, *_ in ROWS.values()} - by_case.keys()
    if missing:
        raise ValueError(f"these cases have not been measured: {', '.join(sorted(missing))}; add --run")
    settings, versions = entries[0].settings, entries[0].versions
    machine = settings["machine"]
    lines = [
        f"Embedded model, {settings['num_inference_steps']} steps, no prompt, {settings['dtype']}, on the CPU "
        f"({machine['processor']}, {machine['cores']} cores; Python {machine['python']}, torch {versions['torch']}, "
        f"diffusers {versions['diffusers']}):",
        "",
        "| | measured | target |",
        "|---|---|---|",
    ]
    for title, (case, name, unit, target) in ROWS.items():
        bound, value = "at least" if unit == "per s" else "at most", by_case[case].metrics[name]["value"]
        lines.append(f"| {title} | {value:.2f} {unit} | {bound} {target:g} {unit} |")
    return "\n".join([*lines, "", "`make benchmark` measures it again."])


# Command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this study."""
    parser.add_argument("--run", action="store_true", help="measure, in place of what is in the ledger")


def run(arguments: argparse.Namespace) -> int:
    """Measure where asked to, and print the table; returns the exit status."""
    if arguments.run:
        machine, versions = describe_machine(), package_versions(PACKAGES)
        for case in ("help", *CASES):
            measured = time_help() if case == "help" else run_case(case)
            print(case, json.dumps(measured), file=sys.stderr, flush=True)
            record([entry_of(case, measured, machine, versions)], arguments.ledger)
    print(render_table(read_entries(STUDY, arguments.ledger)))
    return 0
