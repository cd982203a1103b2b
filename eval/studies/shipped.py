"""The shipped model: its scores, which are kept whole, and the sweep that its default settings were chosen by.

    python -m eval study shipped --add runs/free-photos runs/tiny --add-sweep sweeps/embedded

Scores go to eval/results/embedded/DATASET/score.json, the sweep into the ledger. Of the runs on free-photos, whose
pictures may be passed on, the report with pictures is kept too, as docs/results/free-photos.html.
"""

import argparse
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from colorization.loading import EMBEDDED_DIRECTORY, EMBEDDED_MODEL
from colorization.sampling import default_sampler

from ..choosing import choose_setting, explain_choice
from ..columns import METRICS
from ..files import write_result
from ..photos import safe_id
from ..report import describe_group, write_report
from ..runs import SCORE_FILE, Run, group_runs, read_runs, read_score
from ..setting import Setting
from ..sweep_page import sweep_table
from ..tables import metric_table
from .ledger import Entry, read_entries, read_json, record
from .samplers import KEPT
from .scored import (
    SHIPPED,
    by_model,
    describe_weights,
    entries_of_sweep,
    generate_command,
    of_model,
    read_scored,
    read_sweep,
    rows_of_sweep,
    settings_of_sweep,
)
from .sections import Section, show_sections

STUDY = "shipped"
REPORTS = Path("docs", "results")
WITH_PICTURES = ("free-photos",)  # data sets whose pictures are in the public domain
LARGEST_REPORT = 1_500_000  # bytes
SHOWN = (
    *("fid", "fd_lite2", "kd_lite2", "feature_distance", "colorfulness", "colorfulness_ratio", "psnr", "ssim"),
    *("ciede2000", "chroma_error"),
)
SWEPT = (*KEPT, "seconds_per_image")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this study."""
    parser.add_argument("--add", nargs="+", type=Path, default=[], metavar="RUN", help="scored runs to keep")
    parser.add_argument("--add-sweep", nargs="+", type=Path, default=[], metavar="DIR", help="sweeps to keep")


def run(arguments: argparse.Namespace) -> int:
    """Keep runs and sweeps and print all that are kept; returns the exit status. ValueError where one is of no use."""
    for folder in arguments.add:
        keep_score(folder, arguments.ledger)
    for folder in arguments.add_sweep:
        sweep = read_sweep(folder, "--add-sweep")
        record(entries_of_sweep(STUDY, sweep, SWEPT), arguments.ledger, of_model(STUDY, sweep["model"]))
    _keep_reports(arguments.add, arguments.root)
    scores = score_sections(arguments.ledger)
    if not scores:
        raise ValueError("the shipped model has no scores to show: add a run with --add")
    print(show_sections([*scores, *sweep_sections(read_entries(STUDY, arguments.ledger))]), end="")
    return 0


# Scores


def keep_score(folder: Path, ledger: Path) -> Path:
    """Copy a run's score to where the pages find it; its file there. ValueError as of :func:`read_scored`."""
    score = read_scored(folder)
    if score["run"]["model"] != EMBEDDED_MODEL:
        raise ValueError(f"argument --add: {folder} is of {score['run']['model']}, not of the shipped model")
    file = ledger.parent / SHIPPED / safe_id(score["run"]["dataset_name"]) / SCORE_FILE
    file.parent.mkdir(parents=True, exist_ok=True)
    write_result(file, score)
    return file


def read_kept_scores(ledger: Path) -> list[Run]:
    """The shipped model's scored runs, by data set."""
    folders = sorted(file.parent for file in (ledger.parent / SHIPPED).glob(f"*/{SCORE_FILE}"))
    scores = [(folder, read_score(folder)) for folder in folders]
    runs = [Run(folder, score["run"]["model"], score) for folder, score in scores]
    return sorted(runs, key=lambda run: (run.score["data"]["name"], run.label))


def _keep_reports(folders: Iterable[Path], root: Path) -> None:
    """Write the reports with pictures of the runs whose data set allows it."""
    folders = list(folders)
    for name in WITH_PICTURES:
        members = [folder for folder in folders if read_score(folder)["data"]["name"] == name]
        if members:
            keep_report(members, root / REPORTS / f"{name}.html")


def keep_report(runs: Sequence[Path], file: Path) -> None:
    """Write the report with pictures of runs on one data set; ValueError where it is too large to be kept."""

    def fail(line: str) -> None:
        raise ValueError(f"argument --add: {line}")

    with tempfile.TemporaryDirectory(prefix="eval-page-") as folder:
        write_report(read_runs(runs, fail), Path(folder), 4, fail)
        report = Path(folder) / "report.html"
        if report.stat().st_size > LARGEST_REPORT:
            raise ValueError(f"the report {file.stem} has {report.stat().st_size} bytes, more than {LARGEST_REPORT}")
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(report, file)


def score_sections(ledger: Path) -> list[Section]:
    """A section for each set of photographs that the shipped model was scored on."""
    return [_score_section(members) for members in group_runs(read_kept_scores(ledger))]


def _score_section(runs: Sequence[Run]) -> Section:
    title, facts = describe_group(runs)
    weights = [(f"weights of {run.label}", describe_weights(run.request)) for run in runs]
    commands = [f"{generate_command(run.request)} --output RUN" for run in runs] + ["python -m eval score RUN"]
    return Section(title, metric_table("", [METRICS[name] for name in SHOWN], runs), commands, dict(weights + facts))


# The sweep


def sweep_sections(entries: Iterable[Entry]) -> list[Section]:
    """A section for each model whose settings were swept."""
    return [_sweep_section(model, swept) for model, swept in by_model(entries).items()]


def _sweep_section(model: str, entries: Sequence[Entry]) -> Section:
    settings, gray = settings_of_sweep(entries)
    data, common = settings[0].data, settings[0].settings
    facts = {
        "photographs": f"{data['name']}, n = {data['n']}, {data['geometry']}; prompts: {common['prompt_mode']}",
        "on the front": "no other setting is as good or better in KD-Lite2, PSNR and colorfulness together",
    }
    table = sweep_table(rows_of_sweep(settings), gray)
    return Section(f"Which settings: a sweep of {model}", table, facts=facts, findings=[explain(settings, gray)])


def explain(settings: Sequence[Entry], gray: dict) -> str:
    """Which setting was chosen, why, and whether the shipped model has it."""
    rows, common = rows_of_sweep(settings), settings[0].settings
    choice = choose_setting(rows, gray, **common["choice"])
    text = explain_choice(choice, rows)
    if common["model"] != EMBEDDED_MODEL or choice["setting"] is None:
        return text
    config = read_json(EMBEDDED_DIRECTORY / "model_index.json")
    wanted = Setting(**choice["setting"]).model_config
    differing = [name for name, value in wanted.items() if name in config and _default(config, name) != value]
    if differing:
        shown = ", ".join(f"{name} {config[name]}" for name in sorted(differing))
        return f"{text} The shipped model keeps other defaults: {shown}."
    return f"{text} These are the defaults that the model ships with."


def _default(config: dict, name: str):
    """A model's default; where it names no sampler, the scheduler's noise scale decides."""
    if name != "default_sampler" or config[name]:
        return config[name]
    scheduler = read_json(EMBEDDED_DIRECTORY / "scheduler" / "scheduler_config.json")
    return default_sampler(scheduler["noise_scale"])
