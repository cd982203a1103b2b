"""What the trained variants show: differences at the same seeds, each with what is left of it among so many."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..columns import METRICS
from ..tables import Cell, Row, Table
from .ledger import Entry, read_entries
from .paired import NO_DIFFERENCE, Comparison, compare, remaining, student_interval
from .sections import Section
from .variants import (
    ADAPTATION,
    CONFIGS,
    COUNTED,
    DATA,
    EFFECTS,
    QUESTIONS,
    Experiment,
    read_experiments,
)

STUDY = "experiments"
EVALUATION_SEED = 0
SHOWN = ("kd_lite2", "feature_distance", "colorfulness_ratio", "psnr", "ciede2000")
_NOT_PROMPTS = "Measured without prompts, so it does not show how well prompts are followed."
NOTES = {  # what a reader of the table would miss
    "dropout": f"{_NOT_PROMPTS} A model trained without dropping captions has never seen the empty one that it "
    "is measured with.",
    "captions": _NOT_PROMPTS,
    DATA: "Fewer photographs are the first of each source, the same ones at every seed; with them the share of the "
    "sources changes a little. Rows differ from the first in up to three things, so none is called better or worse.",
    ADAPTATION: "Compared with full fine-tuning. Adapters learned at a learning rate of 1e-3, all weights at 1e-4.",
}

Results = dict[str, dict[int, Entry]]  # by experiment and seed
Judged = dict[tuple[str, str], tuple[Comparison, bool]]  # by experiment or effect, and metric; whether it remains


@dataclass(frozen=True)
class Trained:
    """What was trained: `results` by experiment and seed, and entries of trainings that `diverged`."""

    results: Results
    diverged: list[Entry]


def read_trained(ledger: Path) -> Trained:
    """What the ledger has of trained variants; ValueError where an experiment's seeds were trained or measured
    differently."""
    results: Results = {}
    diverged = []
    for entry in read_entries(STUDY, ledger):
        if "diverged" in entry.settings:
            diverged.append(entry)
        else:
            results.setdefault(entry.settings["experiment"], {})[entry.settings["seed"]] = entry
    for name, seeds in results.items():
        ways = {
            json.dumps([e.settings["changes"], e.data, e.settings["training"]["samples"]], sort_keys=True)
            for e in seeds.values()
        }
        if len(ways) > 1:
            raise ValueError(f"{ledger}: the seeds of {name} do not compare, they are of {' and '.join(sorted(ways))}")
    return Trained(results, diverged)


def compare_all(experiments: Sequence[Experiment], results: Results) -> dict[tuple[str, str], Comparison]:
    """Every comparison, by experiment or effect, and metric.

    What is in the group `DATA` differs from its reference in several things at once and takes part in `EFFECTS` alone.
    """
    pairs = {
        experiment.name: [(experiment.reference, experiment.name)]
        for experiment in experiments
        if experiment.group != DATA and experiment.name != experiment.reference
    }
    found = {}
    for what, names in (pairs | EFFECTS).items():
        if not {name for pair in names for name in pair} <= results.keys():
            continue
        for metric in SHOWN:
            values = [tuple(_values(results[name], metric) for name in pair) for pair in names]
            comparison = compare(values, METRICS[metric].better)
            if comparison is not None:
                found[what, metric] = comparison
    return found


def judge(comparisons: dict[tuple[str, str], Comparison]) -> Judged:
    """Each comparison with whether its difference is still shown when all of them count."""
    kept = remaining(list(comparisons.values()))
    return {key: (comparison, keep) for (key, comparison), keep in zip(comparisons.items(), kept, strict=True)}


def make_effects(results: Results, judged: Judged) -> Table | None:
    """What photographs, samples and noise do by themselves; None until all of that group has been run.

    Each row is a difference at the same seed, averaged over the pairs of experiments that differ in this alone.
    """
    if not all((label, metric) in judged for label in EFFECTS for metric in SHOWN):
        return None
    counts = {share: _photographs(results[name]) for share, name in COUNTED.items()}
    table = Table("", [METRICS[name].title for name in SHOWN], [])
    for label in EFFECTS:
        cells = []
        for name in SHOWN:
            comparison, remains = judged[label, name]
            cells.append(Cell(f"{change(label, name, judged)}, {comparison.verdict}", best=remains))
        table.rows.append(Row(label.format(**counts), cells))
    return table


def change(label: str, metric: str, judged: Judged) -> str:
    """A difference with half its 95% interval, as text."""
    comparison, form = judged[label, metric][0], METRICS[metric].form
    return f"{format(comparison.change, '+' + form)} ± {format(comparison.half, form)}"


def _photographs(seeds: dict[int, Entry]) -> str:
    """How many photographs were trained on, the mean over the seeds: what is held out may depend on them."""
    return f"{np.mean([entry.settings['training']['photographs'] for entry in seeds.values()]):,.0f}"


def make_table(group: str, experiments: Sequence[Experiment], results: Results, judged: Judged) -> Table | None:
    """The table of one question: its reference first; None where nothing of it has been run."""
    members = [experiment for experiment in experiments if experiment.group == group and experiment.name in results]
    if not members:
        return None
    reference = members[0].reference
    compared = [experiment for experiment in experiments if experiment.name == reference and reference in results]
    compared += [experiment for experiment in members if experiment.name != reference]
    metrics = [METRICS[name] for name in SHOWN]
    costs = ["seeds", "photographs", "trained samples", "CPU minutes"]
    table = Table("", ["what", *(metric.title for metric in metrics), *costs], [])
    for experiment in compared:
        seeds = results[experiment.name]
        cells = [Cell(experiment.purpose)]
        for metric in metrics:
            values = _values(seeds, metric.name)
            if not values:
                cells.append(Cell("n/a"))
                continue
            mean, half = student_interval(list(values.values()))
            text = format(mean, metric.form) + ("" if half is None else f" ± {format(half, metric.form)}")
            comparison, remains = judged.get((experiment.name, metric.name), (None, False))
            cells.append(Cell(text if comparison is None else f"{text}, {comparison.verdict}", best=remains))
        trainings = [entry.settings["training"] for entry in seeds.values()]
        cells += [Cell(str(len(seeds))), Cell(_photographs(seeds)), Cell(f"{trainings[0]['samples']:,}")]
        cells.append(Cell(f"{np.mean([training['cpu_seconds'] for training in trainings]) / 60:.1f}"))
        table.rows.append(Row(experiment.name.rpartition("/")[2], cells))
    return table


def _values(seeds: dict[int, Entry], name: str) -> dict[int, float]:
    values = {seed: entry.metrics[name]["value"] for seed, entry in seeds.items()}
    return {seed: value for seed, value in values.items() if value is not None}


def sections(ledger: Path, configs: Path = CONFIGS) -> list[Section]:
    """A section for each question that something was trained for, one of the effects, and what to know of all."""
    trained, experiments = read_trained(ledger), read_experiments(configs)
    judged = judge(compare_all(experiments, trained.results))
    found = []
    for group, question in QUESTIONS.items():
        table = make_table(group, experiments, trained.results, judged)
        if table is not None:
            data = _data_of(group, trained.results)
            facts = {"photographs": f"{data['n']} of {data['name']}, without prompts"}
            facts |= {"note": NOTES[group]} if group in NOTES else {}
            found.append(Section(question, table, facts=facts))
    effects = make_effects(trained.results, judged)
    if effects is not None:
        facts = {"differences": "at the same seeds, averaged over the experiments that differ in this alone"}
        found.append(Section("What each does by itself", effects, facts=facts))
    devices = {e.settings["training"]["device"] for seeds in trained.results.values() for e in seeds.values()}
    facts = {"trained on": ", ".join(sorted(devices))} if devices else {}
    return [*found, Section("All trainings", facts=facts, findings=describe(trained, judged))]


def describe(trained: Trained, judged: Judged) -> list[str]:
    """How many comparisons there are and what remains of them, what has fewer seeds, and what diverged."""
    comparisons = [comparison for comparison, _ in judged.values()]
    differences = sum(comparison.verdict != NO_DIFFERENCE for comparison in comparisons)
    kept = sum(remains for _, remains in judged.values())
    seeds = max((len(seeds) for seeds in trained.results.values()), default=0)
    sentences = [
        f"Of {len(comparisons)} comparisons {differences} show a difference by themselves, where chance alone would "
        f"give about {round(len(comparisons) / 20)}; {kept} remain when their number is corrected for."
    ]
    for name, of_it in trained.results.items():
        if len(of_it) < seeds:
            sentences.append(f"Fewer seeds than the others: {name} ({len(of_it)}).")
    for entry in trained.diverged:
        sentences.append(f"Diverged: {entry.run}: {entry.settings['diverged']}")
    return sentences


def _data_of(group: str, results: Results) -> dict:
    return next(e.data for name, seeds in results.items() if name.startswith(f"{group}/") for e in seeds.values())
