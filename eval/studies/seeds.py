"""How different are the seeds? Scored runs that were made several times, with nothing but another seed.

python -m eval score runs/gan-0 --extra-seeds runs/gan-1 runs/gan-2 runs/gan-3
python -m eval study seeds --add GAN runs/gan-0
"""

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path

from ..columns import METRICS, show_metric, value_of
from ..runs import GRAY, OUTPUT, Run
from ..tables import metric_table
from .alternatives import in_order
from .ledger import Entry, read_entries, record
from .scored import describe_weights, entry_of_score, generate_command, read_scored, run_of
from .sections import Section, show_sections

STUDY = "seeds"
QUESTION = "How different are the seeds?"
SHOWN = ("diversity", "best_of_k_ciede2000", "ciede2000", "colorfulness_ratio", "psnr")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this study."""
    words = ("LABEL", "RUN")
    parser.add_argument(
        "--add", nargs=2, action="append", default=[], metavar=words, help="a run scored with --extra-seeds to keep"
    )


def run(arguments: argparse.Namespace) -> int:
    """Keep runs and print all that are kept; returns the exit status. ValueError where a run is of no use here."""
    for label, folder in arguments.add:
        score = read_scored(Path(folder))
        if value_of(score["rows"][OUTPUT].get("diversity")) is None:
            raise ValueError(f"argument --add: {folder} was scored without --extra-seeds")
        score |= {"rows": {name: score["rows"][name] for name in (OUTPUT, GRAY)}}
        entry = entry_of_score(STUDY, label, score, SHOWN)
        in_order([*read_entries(STUDY, arguments.ledger), entry])
        record([entry], arguments.ledger)
    print(show_sections(sections(read_entries(STUDY, arguments.ledger))), end="")
    return 0


def sections(entries: Sequence[Entry]) -> list[Section]:
    """The section that compares how different models' outputs are between seeds; none where nothing was measured."""
    if not entries:
        return []
    runs = [run_of(entry) for entry in in_order(entries)]
    data, commands = runs[0].score["data"], []
    for made in runs:
        extra = " ".join(map(shlex.quote, made.score["settings"]["extra_seeds"]))
        commands += [
            f"{generate_command(made.request)} --output RUN",
            f"python -m eval score RUN --extra-seeds {extra}",
        ]
    facts = {
        "photographs": f"{data['n']} of {data['name']}, each at its own size",
        "seeds": "the runs behind --extra-seeds were made as RUN was, but for --seed",
    }
    facts |= {f"weights of {made.label}": describe_weights(made.request) for made in runs}
    table = metric_table("", [METRICS[name] for name in SHOWN], runs)
    return [Section(QUESTION, table, commands, facts, seeds_findings(runs))]


def seeds_findings(runs: Sequence[Run]) -> list[str]:
    """Which models ignore the seed, and which of the others vary most and least."""
    entries = {run.label: run.metric("diversity") for run in runs}
    entries = {label: entry for label, entry in entries.items() if value_of(entry) is not None}
    ranked = sorted(entries, key=lambda label: -entries[label]["value"])
    sentences = [
        f"{label}: {show_metric(entries[label], '.2f')} between seeds, so the seed changes nothing."
        for label in ranked
        if entries[label]["value"] == 0
    ]
    varied = [label for label in ranked if entries[label]["value"] > 0]
    if len(varied) > 1:
        ends = [f"{label} ({show_metric(entries[label], '.2f')})" for label in (varied[0], varied[-1])]
        sentences.append(f"Of those that vary, most between seeds: {ends[0]}; least: {ends[1]}.")
    return sentences
