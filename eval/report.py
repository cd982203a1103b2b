"""Scores of runs as tables, plots and pictures: report.md, and report.html, which needs no other file.

Runs share a table only where they were measured on the same photographs in the same way. What others published is in
a table of its own, with its protocols, since their numbers and ours have no protocol in common.
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from colorization.command_line import at_least

from .columns import METRICS
from .files import write_text
from .pages import render
from .pictures import Grid, make_grids
from .plots import draw_plots
from .runs import OUTPUT, Run, captions_of, group_runs, read_runs
from .tables import Table, metric_tables, rivals_table, settings_table

EXAMPLES = """examples:
  python -m eval report runs/embedded
  python -m eval report runs/steps-4 runs/steps-8 runs/steps-16 --output reports/steps

exit status: 0 all done, 1 some runs or pictures could not be read (each is named), 2 bad arguments"""


@dataclass(frozen=True)
class Group:
    """What is shown of runs that may be compared."""

    title: str
    facts: list[tuple[str, str]]
    settings: Table
    tables: list[Table]
    plots: list[tuple[str, str]]
    grids: list[tuple[str, list[Grid]]]


def describe_group(runs: Sequence[Run]) -> tuple[str, list[tuple[str, str]]]:
    """Heading of a group and facts about it: data, n, geometry, prompts, seed, backends, weights and versions."""
    score = runs[0].score
    data = score["data"]
    title = f"{data['name']}, n = {data['n']}, {captions_of(runs[0])}"
    backends = {
        METRICS[name].title if name in METRICS else name: entry["backend"]
        for run in runs
        for name, entry in run.rows[OUTPUT].items()
        if entry.get("backend")
    }
    facts = {
        "geometry": data["geometry"],
        "photographs left out": _join(run.score["data"].get("left_out") for run in runs),
        "seed of resampling": _join(run.score.get("seed") for run in runs),
        "networks": _join(_networks(run.score) for run in runs),
        "backends": _describe(backends),
        "versions": _join(_describe(run.score.get("versions")) for run in runs),
    }
    return title, [(name, str(value)) for name, value in facts.items() if value]


def _networks(score: dict) -> str:
    """The networks behind the metrics: weights, resizing, variant."""
    settings = score.get("settings") or {}
    resize, parts = settings.get("resize") or {}, []
    for name, digest in (score.get("weights") or {}).items():
        details = [settings.get(name), resize.get(name), f"SHA-256 {digest}"] if digest else ["not there"]
        parts.append(f"{name}: {', '.join(str(detail) for detail in details if detail)}")
    if settings.get("clip_model"):
        parts.append(f"CLIP: {settings['clip_model']}")
    return "; ".join(parts)


def _describe(value: object) -> str:
    """A value of score.json on one line."""
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_describe(item) or 'none'}" for key, item in value.items())
    return "" if value is None else str(value)


def _join(values: Iterable[object]) -> str:
    """Different values of several runs, each once."""
    return " | ".join(dict.fromkeys(str(value) for value in values if value is not None))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m eval report`."""
    parser.epilog = EXAMPLES
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder with a score.json")
    parser.add_argument("--output", type=Path, metavar="DIR", help="folder for the report (default: the first RUN)")
    parser.add_argument(
        "--per-image-count",
        type=at_least(1),
        default=4,
        metavar="N",
        help="best, median and worst photographs of each run to show (default: 4 of each)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the report and print its tables; returns the exit status.

    Raises:
        ValueError: none of the runs can be used.
        OSError: the report cannot be written.
    """
    failures: list[str] = []

    def fail(line: str) -> None:
        failures.append(line)
        print(f"failed: {line}", file=sys.stderr)

    runs = read_runs(arguments.runs, fail)
    output = arguments.output or runs[0].folder
    output.mkdir(parents=True, exist_ok=True)
    print(write_report(runs, output, arguments.per_image_count, fail), end="")
    return 1 if failures else 0


def write_report(runs: Sequence[Run], output: Path, count: int, fail: Callable[[str], None]) -> str:
    """Write report.md and report.html; the same runs give the same files.

    Args:
        runs: at least one.
        output: existing folder.
        count: photographs in each grid.
        fail: called with a line on each picture that cannot be read.

    Returns:
        report.md without the quoted figures of others.
    """
    from tqdm import tqdm

    groups = []
    with tqdm(total=len(runs), desc="report", unit="run") as progress:
        for members in group_runs(runs):
            title, facts = describe_group(members)
            grids = []
            for member in members:
                grids.append((member.label, make_grids(member, members, count, fail)))
                progress.update()
            grids = [(label, of_run) for label, of_run in grids if of_run]
            tables, plots = metric_tables(members), draw_plots(members)
            groups.append(Group(title, facts, settings_table(members), tables, plots, grids))
    quoted, warning = rivals_table()
    for name in ("report.html", "report.md"):
        text = render(f"{name}.jinja", groups=groups, quoted=quoted, warning=warning)
        write_text(output / name, text)
    return render("report.md.jinja", groups=groups, quoted=None, warning="")
