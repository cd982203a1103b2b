"""The checkpoints of the shipped model: what was measured before one of them was chosen.

python -m eval study checkpoints --add gpu runs/tiny-gpu
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from ..columns import show_metric
from ..metrics.color_words import HUE_WORDS
from ..runs import OUTPUT
from .ledger import Entry, read_entries, record
from .scored import entry_of_score, read_scored

STUDY = "checkpoints"
WORDS = "color_word_hit_rate"
SHOWN = (
    *("fd_lite2", "kd_lite2", "psnr", "ciede2000", "chroma_error", "colorfulness", "colorfulness_ratio"),
    *("seconds_8_steps", WORDS),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this study."""
    words = ("LABEL", "RUN")
    parser.add_argument("--add", nargs=2, action="append", default=[], metavar=words, help="a scored run to keep")


def run(arguments: argparse.Namespace) -> int:
    """Keep runs and print the tables of all that are kept; returns the exit status."""
    for label, folder in arguments.add:
        score = read_scored(Path(folder))
        score |= {"rows": {OUTPUT: score["rows"][OUTPUT]}}
        name = f"{label} on {score['data']['name']}"
        record([entry_of_score(STUDY, name, score, SHOWN, checkpoint=label)], arguments.ledger)
    print(render_tables(read_entries(STUDY, arguments.ledger)))
    return 0


def render_tables(entries: Sequence[Entry]) -> str:
    """The Markdown tables of all checkpoints, by photographs and name; a metric that is not there is "n/a"."""
    entries = sorted(entries, key=lambda entry: (entry.data["name"], entry.settings["checkpoint"]))
    compared = [entry for entry in entries if "psnr" in entry.metrics]
    prompted = [entry for entry in entries if (entry.metrics.get(WORDS) or {}).get("by_word")]
    parts = []
    if compared:
        columns = {
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
        parts.append(_markdown(compared, columns))
    if prompted:
        columns = {
            "pairs": lambda m: str(m[WORDS]["n"]),
            "hit rate": lambda m: show_metric(m[WORDS], ".1%"),
            "without the word": lambda m: show_metric({"value": m[WORDS]["unprompted"]}, ".1%"),
        }
        columns |= {word: lambda m, word=word: show_metric(m[WORDS]["by_word"][word], ".0%") for word in HUE_WORDS}
        parts.append(_markdown(prompted, columns))
    return "\n\n".join(parts)


def _markdown(entries: Sequence[Entry], columns: dict[str, Callable[[dict], str]]) -> str:
    lines = [f"| photographs | n | model | {' | '.join(columns)} |", "|" + "---|" * (3 + len(columns))]
    for entry in entries:
        cells = [entry.data["name"], str(entry.data["n"]), entry.settings["checkpoint"]]
        lines.append(f"| {' | '.join([*cells, *(cell(entry.metrics) for cell in columns.values())])} |")
    return "\n".join(lines)
