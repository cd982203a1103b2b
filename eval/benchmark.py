"""Speed and memory of the embedded model on this machine: a JSON, and the table in README.md that is made of it.

    python -m eval.benchmark             # measure (several minutes), write eval/results/benchmark.json and the table
    python -m eval.benchmark --table     # only write the table again

Every case runs in a process of its own, so that peak memory is that case's. Photographs are made from `examples/` by
resizing and cropping; they are read from and written to files.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from PIL import Image, ImageOps

from colorization.command_line import share_cores

EXAMPLES = Path(__file__).parent.parent / "examples"
RESULTS = Path(__file__).parent / "results" / "benchmark.json"
README = Path(__file__).parent.parent / "README.md"
MARKERS = ("<!-- benchmark:begin -->", "<!-- benchmark:end -->")
PACKAGES = ("torch", "diffusers", "transformers", "numpy", "pillow", "pyvips-binary")
REPEATS = 5

# What the project promises on 2 CPU cores; the JSON holds them beside what was measured.
TARGETS = {
    "help_seconds": 1.0,
    "load_seconds": 2.0,
    "photo_768x512_seconds": 1.5,
    "folder_8_steps_photos_per_second": 1.0,
    "folder_4_steps_photos_per_second": 2.0,
    "photo_12mp_seconds": 4.0,
    "photo_12mp_peak_gb": 2.0,
    "photo_100mp_peak_gb": 6.0,
}


def make_photo(folder: Path, width: int, height: int, index: int = 0) -> Path:
    """A gray JPEG of exactly this size, from the example with this number (counted round)."""
    sources = sorted(EXAMPLES.glob("*.jpg"))
    path = folder / f"{index:03d}_{width}x{height}.jpg"
    with Image.open(sources[index % len(sources)]) as source:
        ImageOps.fit(source.convert("L"), (width, height)).save(path, quality=92)
    return path


def peak_gigabytes() -> float:
    """Peak resident memory of this process (Linux counts kilobytes)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def time_photo(width: int, height: int, repeats: int) -> dict:
    """File to file, after loading: the median of `repeats` calls that follow a first one, which is told apart."""
    from colorization import load_pipeline
    from colorization.image_io import read_image, write_image

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
        "model_size": pipeline.model_size(width, height),
        "n": repeats,
    }


def time_folder(steps: int, count: int) -> dict:
    """A folder of 768-pixel photographs of three shapes through the command line's own batching."""
    from colorization import load_pipeline
    from colorization.batch_run import colorize_files
    from colorization.files import Report, Task

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
        "batch_size": pipeline.config.default_batch_size,
        "peak_gb": peak_gigabytes(),
        "n": count,
    }


CASES: dict[str, Callable[[], dict]] = {
    "photo_768x512": lambda: time_photo(768, 512, REPEATS),
    "folder_8_steps": lambda: time_folder(steps=8, count=100),
    "folder_4_steps": lambda: time_folder(steps=4, count=100),
    "photo_12mp": lambda: time_photo(4000, 3000, REPEATS),
    "photo_100mp": lambda: time_photo(11548, 8660, 1),
}


def run_case(name: str) -> dict:
    """Run one case in a fresh process."""
    command = [sys.executable, "-m", "eval.benchmark", "--case", name]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def time_help() -> dict:
    """Seconds of `python -m colorization --help`, process start included."""
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "colorization", "--help"], stdout=subprocess.DEVNULL, check=True)
        seconds.append(time.perf_counter() - start)
    return {"seconds": statistics.median(seconds), "n": REPEATS}


def summarize(cases: dict[str, dict]) -> dict[str, float]:
    """The figures that have a target."""
    return {
        "help_seconds": cases["help"]["seconds"],
        "load_seconds": cases["folder_8_steps"]["load_seconds"],
        "photo_768x512_seconds": cases["photo_768x512"]["seconds"],
        "folder_8_steps_photos_per_second": cases["folder_8_steps"]["photos_per_second"],
        "folder_4_steps_photos_per_second": cases["folder_4_steps"]["photos_per_second"],
        "photo_12mp_seconds": cases["photo_12mp"]["seconds"],
        "photo_12mp_peak_gb": cases["photo_12mp"]["peak_gb"],
        "photo_100mp_peak_gb": cases["photo_100mp"]["peak_gb"],
    }


ROWS = {
    "`python -m colorization --help`": ("help_seconds", "s"),
    "load the model, after imports": ("load_seconds", "s"),
    "768 x 512 photograph, file to file": ("photo_768x512_seconds", "s"),
    "100 photographs of 768 pixels in batches": ("folder_8_steps_photos_per_second", "per s"),
    "the same with 4 steps": ("folder_4_steps_photos_per_second", "per s"),
    "12-megapixel photograph, file to file": ("photo_12mp_seconds", "s"),
    "peak memory at 12 megapixels": ("photo_12mp_peak_gb", "GB"),
    "peak memory at 100 megapixels": ("photo_100mp_peak_gb", "GB"),
}


def render_table(result: dict) -> str:
    """The README's section about speed, as Markdown."""
    machine, versions, settings = result["machine"], result["versions"], result["settings"]
    lines = [
        f"Embedded model, {settings['num_inference_steps']} steps, no prompt, {settings['dtype']}, on the CPU "
        f"({machine['processor']}, {machine['cores']} cores; Python {machine['python']}, torch {versions['torch']}, "
        f"diffusers {versions['diffusers']}):",
        "",
        "| | measured | target |",
        "|---|---|---|",
    ]
    for title, (name, unit) in ROWS.items():
        bound = "at least" if unit == "per s" else "at most"
        lines.append(
            f"| {title} | {result['measured'][name]:.2f} {unit} | {bound} {result['targets'][name]:g} {unit} |"
        )
    figures = "[eval/results/benchmark.json](eval/results/benchmark.json)"
    return "\n".join([*lines, "", f"All figures, with sample counts: {figures}, written by `make benchmark`."])


def insert_table(text: str, table: str) -> str:
    """`text` with the table between the two markers."""
    before, rest = text.split(MARKERS[0])
    return f"{before}{MARKERS[0]}\n{table}\n{MARKERS[1]}{rest.split(MARKERS[1])[1]}"


def replace_file(path: Path, text: str) -> None:
    """Write under a temporary name, then rename."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def processor() -> str:
    """The processor's name, where the system tells it."""
    info = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor()


def measure() -> dict:
    """Run every case."""
    cases = {"help": time_help()}
    for name in CASES:
        cases[name] = run_case(name)
        print(name, json.dumps(cases[name]), flush=True)
    return {
        "model": "embedded",
        "settings": {"num_inference_steps": 8, "prompt": "", "seed": 0, "dtype": "float32"},
        "machine": {"processor": processor(), "cores": os.cpu_count(), "python": platform.python_version()},
        "versions": {name: version(name) for name in PACKAGES},
        "measured": summarize(cases),
        "targets": TARGETS,
        "cases": cases,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", action="store_true", help="only write the README's table from the JSON")
    parser.add_argument("--case", choices=CASES, help="run one case in this process and print its JSON")
    arguments = parser.parse_args()
    if arguments.case:
        share_cores()
        print(json.dumps(CASES[arguments.case]()))
        return
    if not arguments.table:
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        replace_file(RESULTS, json.dumps(measure(), indent=2) + "\n")
    table = render_table(json.loads(RESULTS.read_text(encoding="utf-8")))
    replace_file(README, insert_table(README.read_text(encoding="utf-8"), table))


if __name__ == "__main__":
    main()
