"""docs/results.md: every run, sweep and scale measurement in eval/results, as one page of tables.

    python -m eval.results_page                                          # write the page again
    python -m eval.results_page --add runs/free-photos runs/tiny --add-sweep sweeps/embedded

`--add` keeps a scored run's score.json as eval/results/scores/MODEL/DATASET.json and `--add-sweep` a sweep's
sweep.json as eval/results/sweeps/MODEL.json, then the page is written. Of the runs on free-photos, whose pictures may
be passed on, the report with pictures is kept too, as docs/results/free-photos.html.
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from colorization.command_line import Parser
from colorization.loading import EMBEDDED_DIRECTORY, EMBEDDED_MODEL

from .compare import weights_sha256
from .datasets import safe_id
from .report import (
    METRICS,
    Cell,
    Row,
    Run,
    Table,
    describe_group,
    group_runs,
    metric_table,
    read_runs,
    read_score,
    render,
    rivals_table,
    write_report,
    write_text,
)
from .summary import write_result
from .sweep import RESULT_FILE, Setting, explain_choice, sweep_table

RESULTS = Path(__file__).parent / "results"
SCORES, SWEEPS, SCALE = "scores", "sweeps", "scale.json"  # in RESULTS
PAGE = Path(__file__).parent.parent / "docs" / "results.md"
REPORTS = "results"  # folder beside the page
WITH_PICTURES = ("free-photos",)  # data sets whose pictures are in the public domain
LARGEST_REPORT = 1_500_000  # bytes
SHOWN = (
    *("fid", "fd_lite2", "kd_lite2", "feature_distance", "colorfulness", "colorfulness_ratio", "psnr", "ssim"),
    *("ciede2000", "chroma_error"),
)
SCALE_COLUMNS = ("pictures", "peak memory", "wall time", "CPU time", "CPU time per picture", "threads")
SCALE_CASES = {
    "score": "python -m eval score, all its metrics",
    "score_again": "the same with the originals' and gray inputs' features from its cache",
    "statistics": "FID, KID, FD-Lite2 and KD-Lite2 of random features in files: what score does last",
    "evaluate": "FID through evaluate.load and add_batch",
}


# Keeping


def keep_run(run: Path, results: Path) -> Path:
    """Copy a run's score.json to where the page finds it; its file there.

    Raises:
        ValueError: it was not scored, was not made by `eval generate`, or names a folder of this machine alone.
    """
    score = read_score(run)
    request = score["run"]
    for name in ("model", "dataset", "dataset_name"):
        if not isinstance(request.get(name), str):
            raise ValueError(f"argument --add: {run} was not made by python -m eval generate: it has no {name!r}")
        _check_relative(f"argument --add: {run}", request[name])
    file = results / SCORES / safe_id(request["model"]) / f"{safe_id(request['dataset_name'])}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    write_result(file, score)
    return file


def keep_sweep(folder: Path, kept: Path) -> Path:
    """Copy a sweep's result into a folder of those that are kept; its file there. ValueError like :func:`keep_run`."""
    source = folder / RESULT_FILE
    if not source.is_file():
        raise ValueError(f"argument --add-sweep: {folder} has no {RESULT_FILE}")
    sweep = json.loads(source.read_text(encoding="utf-8"))
    for name in ("model", "dataset"):
        _check_relative(f"argument --add-sweep: {folder}", sweep[name])
    file = kept / f"{safe_id(sweep['model'])}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    write_result(file, sweep)
    return file


def _check_relative(what: str, name: str) -> None:
    path = name.split(":", 1)[-1]
    if Path(path).expanduser().is_absolute():
        raise ValueError(f"{what} names {path}, a place on this machine: use a path relative to the checkout")


def keep_report(runs: Sequence[Path], page: Path) -> Path:
    """Write the report with pictures of runs on one data set beside the page; its file."""

    def fail(line: str) -> None:
        raise ValueError(f"argument --add: {line}")

    name = read_score(runs[0])["data"]["name"]
    with tempfile.TemporaryDirectory(prefix="eval-page-") as folder:
        write_report(read_runs(runs, fail), Path(folder), 4, fail)
        report = Path(folder) / "report.html"
        if report.stat().st_size > LARGEST_REPORT:
            raise ValueError(f"the report of {name} has {report.stat().st_size} bytes, more than {LARGEST_REPORT}")
        file = page.parent / REPORTS / f"{name}.html"
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(report, file)
    return file


# The page


def render_page(results: Path, page: Path) -> str:
    """docs/results.md from the JSONs in a folder.

    Raises:
        ValueError: there are no scores.
    """
    scores = [_read(file) for file in sorted((results / SCORES).glob("*/*.json"))]
    if not scores:
        raise ValueError(f"{results / SCORES} holds no scores: add a run with --add")
    runs = [Run(results, score["run"]["model"], score) for score in scores]
    runs.sort(key=lambda run: (run.score["data"]["name"], run.label))
    quoted, warning = rivals_table()
    return render(
        "results.md.jinja",
        groups=[_describe(members, page) for members in group_runs(runs)],
        sweeps=[_describe_sweep(_read(file)) for file in sorted((results / SWEEPS).glob("*.json"))],
        scale=scale_table(_read(results / SCALE)) if (results / SCALE).is_file() else None,
        quoted=quoted,
        warning=warning,
    )


def _read(file: Path) -> dict:
    return json.loads(file.read_text(encoding="utf-8"))


def _describe(runs: Sequence[Run], page: Path) -> dict:
    title, facts = describe_group(runs)
    name = runs[0].score["data"]["name"]
    report = page.parent / REPORTS / f"{name}.html"
    return {
        "title": title,
        "facts": [*((f"weights of {run.label}", describe_weights(run.request)) for run in runs), *facts],
        "commands": [generate_command(run.request) for run in runs],
        "metrics": metric_table("", [METRICS[name] for name in SHOWN], runs),
        "report": f"{REPORTS}/{name}.html" if report.is_file() else None,
    }


def describe_weights(request: dict) -> str:
    """Their SHA-256, and of the embedded model whether they are still those that are shipped."""
    digest = request.get("weights_sha256")
    if request["model"] != EMBEDDED_MODEL:
        return f"SHA-256 {digest}"
    same = digest == weights_sha256(EMBEDDED_DIRECTORY)
    return f"SHA-256 {digest}, {'those that are shipped' if same else 'not those that are shipped now'}"


def generate_command(request: dict) -> str:
    """The command that makes a run again."""
    settings = request["settings"]
    words = ["python -m eval generate", f'--dataset "{request["dataset"]}"', f"--model {request['model']}"]
    options = {
        "--adapter": request.get("adapter"),
        "--limit": request.get("limit"),
        "--prompt-mode": request.get("prompt_mode"),
        "--steps": settings.get("num_inference_steps"),
        "--guidance-scale": settings.get("guidance_scale"),
        "--color-scale": settings.get("color_scale"),
        "--sampler": settings.get("sampler"),
        "--seed": request.get("seed"),
        "--batch-size": request.get("batch_size"),
        "--max-side": request.get("max_side"),
        "--dtype": request.get("dtype"),
    }
    words += [f"{option} {value}" for option, value in options.items() if value is not None]
    return " ".join(words)


def _describe_sweep(sweep: dict) -> dict:
    rows, choice = sweep["rows"], sweep["choice"]
    text = explain_choice(choice, rows)
    if sweep["model"] == EMBEDDED_MODEL and choice["setting"] is not None:
        config = _read(EMBEDDED_DIRECTORY / "model_index.json")
        wanted = Setting(**choice["setting"]).model_config
        differing = [name for name, value in wanted.items() if name in config and _default(config, name) != value]
        if differing:
            shown = ", ".join(f"{name} {config[name]}" for name in sorted(differing))
            text += f" The shipped model keeps other defaults: {shown}."
        else:
            text += " These are the defaults that the model ships with."
    return {
        "model": sweep["model"],
        "data": rows[0]["data"],
        "request": sweep["request"],
        "table": sweep_table(rows, sweep["gray"]),
        "choice": text,
    }


def _default(config: dict, name: str):
    """A model's default; where it names no sampler, the scheduler's noise scale decides."""
    if name != "default_sampler" or config[name]:
        return config[name]
    from colorization.sampling import default_sampler

    return default_sampler(_read(EMBEDDED_DIRECTORY / "scheduler" / "scheduler_config.json")["noise_scale"])


def scale_table(scale: dict) -> Table:
    """What Inception metrics of many pictures cost."""
    table = Table("", list(SCALE_COLUMNS), [])
    for run in scale["runs"]:
        machine = run["machine"]
        cells = [
            f"{run['n']:,} of {run['picture_size']} x {run['picture_size']}",
            f"{run['peak_gb']:.2f} GB",
            f"{run['seconds']:.0f} s",
            f"{run['cpu_seconds']:.0f} s",
            f"{run['cpu_seconds_per_picture']:.2f} s",
            str(machine["threads"]),
        ]
        note = f"{machine['processor']}, {machine['cores']} cores, torch {machine['versions']['torch']}"
        notes = [*(() for _ in cells[1:]), (table.note(note),)]
        row = [Cell(text, notes=number) for text, number in zip(cells, notes, strict=True)]
        table.rows.append(Row(SCALE_CASES[run["case"]], row))
    return table


# Command


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = Parser(
        prog="python -m eval.results_page", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add: Callable = parser.add_argument
    add("--add", nargs="+", type=Path, default=[], metavar="RUN", help="scored runs to keep")
    add("--add-sweep", nargs="+", type=Path, default=[], metavar="DIR", help="sweeps to keep")
    add("--results", type=Path, default=RESULTS, metavar="DIR", help="folder of the JSONs (default: eval/results)")
    add("--page", type=Path, default=PAGE, metavar="FILE", help="the page to write (default: docs/results.md)")
    arguments = parser.parse_args(argv)
    try:
        kept = [keep_run(run, arguments.results) for run in arguments.add]
        kept += [keep_sweep(folder, arguments.results / SWEEPS) for folder in arguments.add_sweep]
        kept += _keep_reports(arguments.add, arguments.page)
        write_text(arguments.page, render_page(arguments.results, arguments.page))
    except ValueError as error:
        parser.error(str(error))
    for file in [*kept, arguments.page]:
        print(file)
    return 0


def _keep_reports(runs: Iterable[Path], page: Path) -> list[Path]:
    """Reports with pictures of the runs whose data set allows it."""
    runs = list(runs)
    by_name = {name: [run for run in runs if read_score(run)["data"]["name"] == name] for name in WITH_PICTURES}
    return [keep_report(members, page) for members in by_name.values() if members]


if __name__ == "__main__":
    sys.exit(main())
