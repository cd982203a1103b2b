"""Which colors fail? Errors of the shipped model by the original's hue, from its kept score on Tiny ImageNet.

python -m eval study hues
"""

import argparse
from pathlib import Path

from ..columns import HUE_SECTORS, METRICS, badness, show_metric, value_of
from ..runs import GRAY, Run
from ..tables import Cell, Row, Table
from .paired import NO_DIFFERENCE
from .scored import describe_weights, generate_command
from .sections import Section, show_sections, verdict
from .shipped import read_kept_scores

QUESTION = "Which colors fail?"
DATASET = "tiny-imagenet-64-validation"
SHOWN = {"chroma_error": "chroma error", "chroma_retention": "chroma retention"}
DOUBTED = ("red", "green")  # the hues that the student report found to fail


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """This study has none: `python -m eval study shipped --add` keeps the run that it reads."""


def run(arguments: argparse.Namespace) -> int:
    """Print the section; returns the exit status."""
    print(show_sections(sections(arguments.ledger)), end="")
    return 0


def sections(ledger: Path) -> list[Section]:
    """The section of the kept run, none where there is no such run."""
    return [_section(run) for run in kept_run(ledger)]


def kept_run(ledger: Path) -> list[Run]:
    """The shipped model's run that the study reads, none where it was not kept."""
    return [run for run in read_kept_scores(ledger) if run.score["data"]["name"] == DATASET]


def _section(run: Run) -> Section:
    score, definition = run.score, run.score["settings"]["hue_sectors"]
    starts = ", ".join(f"{name} from {start}°" for name, start in definition["start_degrees"].items())
    facts = {
        "photographs": f"{score['data']['n']} of {score['data']['name']}, {score['data']['geometry']}",
        "weights": describe_weights(score["run"]),
        "sectors": f"{starts}, of the original in {definition['space']}; pixels with a chroma below "
        f"{definition['minimum_chroma']:g} count as gray and are in none",
        " and ".join(DOUBTED): "the hues that fail by the student report that this project started from",
    }
    commands = [f"{generate_command(score['run'])} --output RUN", "python -m eval score RUN"]
    return Section(QUESTION, hue_table(run), commands, facts, hue_findings(run))


def hue_table(run: Run) -> Table:
    """A row for each hue sector; the gray input's chroma error, its original's chroma, beside the model's."""
    columns = [*SHOWN.values(), "chroma error of the gray input", "photographs with such pixels"]
    table = Table("", columns, [])
    for sector in HUE_SECTORS:
        entries = [run.metric(f"{name}_{sector}") for name in SHOWN] + [run.metric(f"chroma_error_{sector}", GRAY)]
        cells = [Cell(show_metric(entry, ".2f")) for entry in entries]
        table.rows.append(Row(sector, [*cells, Cell(f"{entries[0]['n']:,}")]))
    return table


def hue_findings(run: Run) -> list[str]:
    """Which sectors are worst, which are worse than doing nothing, and where red and green stand."""
    sentences = []
    for name, title in SHOWN.items():
        entries = {sector: run.metric(f"{name}_{sector}") for sector in HUE_SECTORS}
        entries = {sector: entry for sector, entry in entries.items() if value_of(entry) is not None}
        if not entries:
            continue
        better = METRICS[f"{name}_{HUE_SECTORS[0]}"].better
        ranked = sorted(entries, key=lambda sector: -badness(entries[sector]["value"], better, None))
        worst = ranked[0]
        equal = [sector for sector in ranked[1:] if verdict(entries[sector], entries[worst], better) == NO_DIFFERENCE]
        overlapping = f"; intervals that overlap with its own: {', '.join(equal)}" if equal else ""
        sentences.append(f"Worst sector by {title}: {worst}, {show_metric(entries[worst], '.2f')}{overlapping}.")
        places = [f"{sector} {ranked.index(sector) + 1}" for sector in DOUBTED if sector in ranked]
        sentences.append(f"Places by {title} of {len(ranked)}, the worst first: {', '.join(places)}.")
    return [*sentences, *_against_gray(run)]


def _against_gray(run: Run) -> list[str]:
    found: dict[str, list[str]] = {}
    for sector in HUE_SECTORS:
        own, gray = run.metric(f"chroma_error_{sector}"), run.metric(f"chroma_error_{sector}", GRAY)
        if own is not None and gray is not None:
            found.setdefault(verdict(own, gray, "lower"), []).append(sector)
    parts = [f"{word} in {', '.join(found[word])}" for word in ("better", "worse", NO_DIFFERENCE) if word in found]
    return [f"Chroma error against the gray input's: {'; '.join(parts)}."] if parts else []
