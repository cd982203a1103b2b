"""The checkpoints of the shipped model: what was measured before one of them was chosen.

python -m eval study checkpoints --add gpu runs/tiny-gpu
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from ..columns import show_metric, value_of
from ..runs import OUTPUT, Run
from ..tables import words_table
from .ledger import Entry, read_entries, record
from .scored import entry_of_score, read_scored

STUDY = "checkpoints"
WORDS = "color_word_hit_rate"
SHOWN = (
    *("fd_lite2", "kd_lite2", "psnr", "ciede2000", "chroma_error", "colorfulness", "colorfulness_ratio"),
    *("seconds_8_steps", WORDS),
)
COLUMNS: dict[str, Callable[[dict], str]] = {
    "FD-Lite2": lambda m: show_metric(m["fd_lite2"], ".2f"),
    "relative": lambda m: show_metric({"value": m["fd_lite2"].get("relative")}, ".4f"),
    "KD-Lite2": lambda m: show_metric(m["kd_lite2"], ".4f"),
    "PSNR": lambda m: show_metric(m["psnr"], ".2f"),
    "CIEDE2000": lambda m: show_metric(m["ciede2000"], ".2f"),
    "chroma error": lambda m: show_metric(m["chroma_error"], ".2f"),
    "colorfulness": lambda m: show_metric(m["colorfulness"], ".1f"),
    "of the original's": lambda m: show_metric(m["colorfulness_ratio"], ".0%"),
    "seconds": lambda m: show_metric(m.get("seconds_8_steps"), ".2f"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this study."""
    words = ("LABEL", "RUN")
    parser.add_argument("--add", nargs=2, action="append", default=[], metavar=words, help="a scored run to keep")


def run(arguments: argparse.Namespace) -> int:
    """Keep runs and print the tables of all that are kept; returns the exit status."""
    for label, folder in arguments.add:
        score = read_scored(Path(folder))
        score |= {"rows": {OUTPUT: score["rows"][OUTPUT]}}
        name = f"{label} on {score['data']['name']}" + (", color words" if _by_word(score["rows"][OUTPUT]) else "")
        record([entry_of_score(STUDY, name, score, SHOWN, checkpoint=label)], arguments.ledger)
    print(render_tables(read_entries(STUDY, arguments.ledger)))
    return 0


def render_tables(entries: Sequence[Entry]) -> str:
    """The Markdown tables of all checkpoints, by photographs and name; a metric that is not there is "n/a"."""
    entries = sorted(entries, key=lambda entry: (entry.data["name"], entry.settings["checkpoint"]))
    prompted = [entry for entry in entries if _by_word(entry.metrics)]
    compared = [
        entry for entry in entries if entry not in prompted and value_of(entry.metrics.get("psnr")) is not None
    ]
    parts = []
    if compared:
        rows = [[cell(entry.metrics) for cell in COLUMNS.values()] for entry in compared]
        parts.append(_markdown(compared, list(COLUMNS), rows))
    if prompted:
        table = words_table([Run(Path(), entry.run, {"rows": entry.rows}) for entry in prompted])
        rows = [[cell.text for cell in row.cells] for row in table.rows]
        parts.append(_markdown(prompted, table.columns, rows))
    return "\n\n".join(parts)


def _by_word(metrics: dict[str, dict]) -> dict | None:
    """The hit rate of each color word, of a run with every word."""
    return (metrics.get(WORDS) or {}).get("by_word")


def _markdown(entries: Sequence[Entry], columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| photographs | n | model | {' | '.join(columns)} |", "|" + "---|" * (3 + len(columns))]
    for entry, cells in zip(entries, rows, strict=True):
        first = [entry.data["name"], str(entry.data["n"]), entry.settings["checkpoint"]]
        lines.append(f"| {' | '.join([*first, *cells])} |")
    return "\n".join(lines)
