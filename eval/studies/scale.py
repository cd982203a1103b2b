"""What Inception metrics of thousands of pictures cost: peak memory and time.

    python -m eval study scale --run                                        # 5,000 pictures of 256 x 256
    python -m eval study scale --run --count 100 --cases evaluate

The pictures are crops of `examples/`, mirrored and with shifted hues, some of their color taken away for the outputs.
Inception-v3 gets random weights, which cost what the published ones cost: only memory and time are kept, the metrics
themselves mean nothing and are thrown away.

Each case runs in processes of its own, so that peak memory is that case's:

- "score" is `python -m eval score` with all that it measures, then ("score_again") once more with the features of the
  originals and the gray inputs from its cache;
- "statistics" is what `score` does with the features of a row after the last picture, on random features: the one
  part whose memory grows with the number of pictures;
- "evaluate" is the FID module through `evaluate.load`, fed in batches.

Measurements of other numbers of pictures stay in the ledger.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from tqdm import tqdm

from colorization.command_line import at_least

from ..__main__ import main
from ..files import package_versions
from ..metrics.inception import FEATURES as INCEPTION_FEATURES
from ..metrics.inception import kernel_inception_distance
from ..metrics.lite2 import FEATURES as LITE2_FEATURES
from ..publish_metric import METRICS
from ..runs import OUTPUT
from ..summary import feature_metrics, frechet_metric
from ..tables import Cell, Row, Table
from .examples import EXAMPLES
from .ledger import Entry, read_entries, record
from .machine import describe_machine
from .sections import Section, show_sections

STUDY = "scale"
CASES = ("score", "statistics", "evaluate")
PACKAGES = ("torch", "torch-fidelity", "torchmetrics", "evaluate", "numpy", "pillow", "efficientnet_lite_pytorch")
TARGET_PEAK_GB = 3.0
TITLES = {
    "score": "python -m eval score, all its metrics",
    "score_again": "the same with the originals' and gray inputs' features from its cache",
    "statistics": "FID, KID, FD-Lite2 and KD-Lite2 of random features in files: what score does last",
    "evaluate": "FID through evaluate.load and add_batch",
}
COLUMNS = ("pictures", "peak memory", "wall time", "CPU time", "CPU time per picture", "threads")
_ADDED = 16  # pictures that one call of add_batch gets


# Pictures and weights


def make_picture(index: int, size: int) -> np.ndarray:
    """The picture of this number, RGB uint8 `(size, size, 3)`: a crop of an example, always the same."""
    rng = np.random.default_rng(index)
    sources = sorted(EXAMPLES.glob("*.jpg"))
    with Image.open(sources[index % len(sources)]) as source:
        side = int(min(source.size) * rng.uniform(0.4, 1.0))
        left, top = (int(rng.integers(length - side + 1)) for length in source.size)
        image = source.convert("RGB").resize((size, size), box=(left, top, left + side, top + side))
    if rng.random() < 0.5:
        image = ImageOps.mirror(image)
    hue, saturation, value = image.convert("HSV").split()
    shift = int(rng.integers(256))
    hue = hue.point([(level + shift) % 256 for level in range(256)])
    return np.array(Image.merge("HSV", (hue, saturation, value)).convert("RGB"))


def fade(pixels: np.ndarray, index: int) -> np.ndarray:
    """What stands for a model's output: the picture with 30 to 90% of its color."""
    share = np.random.default_rng(index).uniform(0.3, 0.9)
    gray = np.array(Image.fromarray(pixels).convert("L"))[..., None]
    return np.rint(gray + share * (pixels.astype(np.float32) - gray)).clip(0, 255).astype(np.uint8)


def write_pictures(folder: Path, count: int, size: int) -> None:
    """Originals and outputs as JPEG files in `folder`/reference and `folder`/images."""
    (folder / "reference").mkdir(parents=True)
    (folder / "images").mkdir()
    for index in tqdm(range(count), desc="pictures", unit="picture"):
        original = make_picture(index, size)
        for part, pixels in (("reference", original), ("images", fade(original, index))):
            Image.fromarray(pixels).save(folder / part / f"{index:05d}.jpg", quality=92)


def random_inception_weights() -> dict:
    """A state dict of the FID network: normal weights that keep the activations' scale, always the same."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    class Untrained(FeatureExtractorInceptionV3):
        def load_state_dict(self, state_dict):
            """Keep what the layers were built with: there is nothing to load."""

    with tempfile.TemporaryDirectory() as folder:
        empty = Path(folder) / "empty.pth"
        torch.save({}, empty)
        network = Untrained("inception-v3-compat", ["2048"], str(empty))
    generator = torch.Generator().manual_seed(0)
    return {
        key: torch.randn(value.shape, generator=generator) * (2 / value[0].numel()) ** 0.5 if value.ndim > 1 else value
        for key, value in network.state_dict().items()
    }


# Cases, each in a process of its own


def run_score(folder: Path) -> None:
    """`python -m eval score` of the pictures, with a cache."""
    words = ["score", folder / "images", "--reference", folder / "reference", "--cache", folder / "cache"]
    if main([*map(str, words), "--inception-weights", str(folder / "inception.pth")]) != 0:
        raise RuntimeError("the pictures could not be scored")


def run_statistics(folder: Path) -> None:
    """Metrics of features in files, as `score` takes them of each row once the pictures have been measured."""
    count = int((folder / "count").read_text())
    rng = np.random.default_rng(0)
    files = {}
    for dimension in (LITE2_FEATURES, INCEPTION_FEATURES):
        for row in ("output", "original"):
            file = folder / f"{row}-{dimension}.npy"
            files[row, dimension] = np.lib.format.open_memmap(file, "w+", np.float32, (count, dimension))
            for vector in files[row, dimension]:
                vector[:] = rng.standard_normal(dimension)
    own, reference = (files[row, INCEPTION_FEATURES] for row in ("output", "original"))
    frechet_metric(own, reference)
    kernel_inception_distance(own, reference, rng)
    feature_metrics(files["output", LITE2_FEATURES], files["original", LITE2_FEATURES], seed=0)


def run_evaluate(folder: Path) -> None:
    """FID through `evaluate.load`."""
    import evaluate  # here alone: the other cases' peak memory is without it

    metric = evaluate.load(str(METRICS / "fid"), weights=str(folder / "inception.pth"))
    names = sorted(file.name for file in (folder / "images").glob("*.jpg"))
    for start in tqdm(range(0, len(names), _ADDED), desc="evaluate", unit="batch"):
        batch = names[start : start + _ADDED]
        metric.add_batch(
            predictions=[str(folder / "images" / name) for name in batch],
            references=[str(folder / "reference" / name) for name in batch],
        )
    metric.compute()


PEAK_FILE = "peak"
RUNNERS = {"score": run_score, "score_again": run_score, "statistics": run_statistics, "evaluate": run_evaluate}


def peak_bytes() -> int:
    """The most memory that this process has had; what its parent is told would count the parent's own too."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)[1])


def run_case(case: str, folder: str) -> None:
    """Run a case in this process and leave its peak memory in the folder."""
    RUNNERS[case](Path(folder))
    (Path(folder) / PEAK_FILE).write_text(str(peak_bytes()))


def measure_case(case: str, folder: Path, count: int) -> dict:
    """Run a case in a fresh process and ask the operating system what it took.

    Raises:
        RuntimeError: it failed.
    """
    environment = os.environ | {"HF_EVALUATE_OFFLINE": "1", "HF_MODULES_CACHE": str(folder / "modules")}
    start = time.perf_counter()
    command = [sys.executable, "-c", f"from {__name__} import run_case; run_case({case!r}, {str(folder)!r})"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    seconds, process.returncode = time.perf_counter() - start, os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"the case {case!r} ended with status {process.returncode}")
    cpu_seconds = usage.ru_utime + usage.ru_stime
    return {
        "n": count,
        "peak_gb": int((folder / PEAK_FILE).read_text()) / 1e9,
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "cpu_seconds_per_picture": cpu_seconds / count,
    }


def measure(cases: Sequence[str], count: int, size: int, save: Callable[[str, dict], object]) -> None:
    """Make pictures and weights in a temporary folder and run cases.

    Args:
        cases: names of `CASES`.
        count: pictures.
        size: their side in pixels.
        save: called with each name of `RUNNERS` and its result, as soon as it is there.
    """
    with tempfile.TemporaryDirectory(prefix="eval-scale-") as name:
        folder = Path(name)
        (folder / "count").write_text(str(count))
        if set(cases) != {"statistics"}:
            write_pictures(folder, count, size)
            torch.save(random_inception_weights(), folder / "inception.pth")
        for case in cases:
            save(case, measure_case(case, folder, count))
            if case == "score":
                save("score_again", measure_case("score_again", folder, count))


# The table


def entry_of(measured: dict) -> Entry:
    """What a case cost, as an entry; `measured` has the machine and the pictures' size too."""
    n, settings = measured["n"], {name: measured[name] for name in ("case", "picture_size")}
    machine = {key: value for key, value in measured["machine"].items() if key != "versions"}
    kept = ("peak_gb", "seconds", "cpu_seconds", "cpu_seconds_per_picture")
    rows = {OUTPUT: {name: {"value": measured[name], "n": n} for name in kept}}
    name = f"{measured['case']}, {n} pictures"
    return Entry(STUDY, name, {"n": n}, settings | {"machine": machine}, rows, measured["machine"]["versions"])


def scale_table(entries: Sequence[Entry]) -> Table:
    """A row for each case and number of pictures."""
    table = Table("", list(COLUMNS), [])
    for entry in sorted(entries, key=lambda entry: (entry.settings["case"], entry.data["n"])):
        machine, side = entry.settings["machine"], entry.settings["picture_size"]
        values = {name: metric["value"] for name, metric in entry.metrics.items()}
        cells = [
            f"{entry.data['n']:,} of {side} x {side}",
            f"{values['peak_gb']:.2f} GB",
            f"{values['seconds']:.0f} s",
            f"{values['cpu_seconds']:.0f} s",
            f"{values['cpu_seconds_per_picture']:.2f} s",
        ]
        note = f"{machine['processor']}, {machine['cores']} cores, torch {entry.versions['torch']}"
        threads = Cell(str(machine["threads"]), notes=(table.note(note),))
        table.rows.append(Row(TITLES[entry.settings["case"]], [*map(Cell, cells), threads]))
    return table


def sections(entries: Sequence[Entry]) -> list[Section]:
    """The section of all that was measured; none where nothing was."""
    facts = {"Inception": "had random weights; the metrics were thrown away"}
    title = "What Inception metrics of many pictures cost"
    return [Section(title, scale_table(entries), ["python -m eval study scale --run"], facts)] if entries else []


# Command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this study."""
    add = parser.add_argument
    add("--run", action="store_true", help="measure, in place of what the ledger has of these cases and this number")
    add("--count", type=at_least(4), default=5000, metavar="N", help="pictures (default: 5000)")
    add("--size", type=at_least(32), default=256, metavar="PX", help="their side (default: 256)")
    add("--cases", nargs="+", choices=CASES, default=CASES, help="default: all")


def run(arguments: argparse.Namespace) -> int:
    """Measure where asked to, and print the table; returns the exit status. ValueError where a case failed."""
    threads = int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1))
    machine = describe_machine() | {"threads": threads, "versions": package_versions(PACKAGES)}

    def save(case: str, measured: dict) -> None:
        entry = entry_of(measured | {"case": case, "picture_size": arguments.size, "machine": machine})
        record([entry], arguments.ledger)
        print(entry.run, file=sys.stderr, flush=True)

    if arguments.run:
        try:
            measure(arguments.cases, arguments.count, arguments.size, save)
        except RuntimeError as error:
            raise ValueError(str(error)) from error
    print(show_sections(sections(read_entries(STUDY, arguments.ledger))), end="")
    return 0
