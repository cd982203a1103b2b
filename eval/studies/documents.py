"""The documents that show what the studies found, rendered from the ledger: the rows that carry an answer.

Three are made whole, from templates whose sentences the tests check against the ledger; others hold a table between
two markers. A study that has not been measured is left out or named as missing; a page without its main one is None.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from ..columns import HUE_SECTORS, METRICS
from ..files import write_text
from ..pages import render
from ..runs import GRAY, VAE
from ..setting import Setting
from ..tables import PSEUDO_LABELS, Table, rivals_table
from . import (
    alternatives,
    checkpoints,
    color_scale,
    experiment_tables,
    hints,
    hues,
    knowledge,
    samplers,
    scale,
    seeds,
    shipped,
    speed,
    unchanged,
)
from .ledger import Entry, read_entries
from .paired import NO_DIFFERENCE
from .sections import Section, join, pick
from .variants import NOISE_EFFECT

GRAY_ROW, VAE_ROW = PSEUDO_LABELS[GRAY], PSEUDO_LABELS[VAE]
QUOTED_DATA = "ImageNet, first 5,000 validation photographs"
QUOTED = ("CIC (Zhang 2016)", "DeOldify", "ColTran", "BigColor", "DDColor-L")


def write_document(name: str, ledger: Path, root: Path) -> None:
    """Write a document again.

    Args:
        name: of the file, in the checkout.
        ledger: what it shows.
        root: the checkout; a document with a table between markers that is not there is left alone, and so is a page
            that there is nothing to show on.

    Raises:
        ValueError: markers are not there.
    """
    file = root / name
    if name in PAGES:
        page = PAGES[name](ledger)
        if page is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_text(file, page)
    elif file.is_file():
        write_text(file, fill(file.read_text(encoding="utf-8"), name, ledger))


def fill(text: str, name: str, ledger: Path) -> str:
    """A document's text with its tables between their markers."""
    for marker, table in TABLES[name].items():
        begin, end = (f"<!-- {marker}:{word} -->" for word in ("begin", "end"))
        before, found, rest = text.partition(begin)
        _, closed, after = rest.partition(end)
        if not found or not closed:
            raise ValueError(f"{name} has no markers {begin} and {end}")
        text = f"{before}{begin}\n{table(ledger).strip()}\n{end}{after}"
    return text


def _titles(*names: str) -> list[str]:
    return [METRICS[name].title for name in names]


# docs/experiments.md


def experiments_page(ledger: Path) -> str:
    """docs/experiments.md."""
    swept, drawn = (read_entries(study, ledger) for study in (samplers.STUDY, seeds.STUDY))
    tables = {
        samplers.QUESTION: _samplers(samplers.sections(swept)),
        hues.QUESTION: _hues(hues.sections(ledger)),
        seeds.QUESTION: _seeds(seeds.sections(drawn)),
        "What do losses, targets, noise, data and adapters do?": _trained(ledger),
    }
    names = ("samplers", "hues", "seeds", "trained")
    return render(
        "experiments.md.jinja",
        **dict(zip(names, tables.values(), strict=True)),
        samplers_data=_data(swept),
        hues_data=next((run.score["data"] for run in hues.kept_run(ledger)), None),
        seeds_data=_data(drawn),
        missing=[question for question, found in tables.items() if found is None],
    )


def _data(entries: Sequence[Entry]) -> dict | None:
    return entries[0].data if entries else None


def _samplers(sections: Sequence[Section]) -> Table | None:
    chosen = [(1, "euler"), (4, "euler"), (8, "euler"), (16, "euler"), (50, "euler")]
    chosen += [(8, "cold"), (50, "cold"), (8, "naive"), (16, "naive")]
    rows = {
        str(Setting(steps, 1.0, sampler, 0.6, 1.0)): f"{steps} {'step' if steps == 1 else 'steps'}, {sampler}"
        for steps, sampler in chosen
    }
    columns = _titles("kd_lite2", "colorfulness_ratio", "psnr", "ciede2000")
    return _picked(sections, [*rows, GRAY_ROW], columns, lambda label: rows.get(label, label))


def _hues(sections: Sequence[Section]) -> Table | None:
    columns = ["chroma error", "chroma error of the gray input", "chroma retention"]
    return _picked(sections, HUE_SECTORS, columns)


def _seeds(sections: Sequence[Section]) -> Table | None:
    rows = [
        "classification (cic)",
        "GAN",
        "PixelCNN",
        "diffusion, cold",
        "diffusion, stochastic start",
        "shipped model",
    ]
    return _picked(sections, rows, _titles("diversity", "best_of_k_ciede2000", "ciede2000", "colorfulness_ratio"))


def _picked(
    sections: Sequence[Section], rows: Sequence[str], columns: Sequence[str], relabel: Callable[[str], str] = str
) -> Table | None:
    """Rows and columns of the first section's table; None where not all of them have been measured."""
    if not sections or not {row.label for row in sections[0].table.rows} >= set(rows):
        return None
    return pick(sections[0].table, rows, columns, relabel)


def _trained(ledger: Path) -> dict | None:
    trained, experiments = experiment_tables.read_trained(ledger), experiment_tables.read_experiments()
    if not {experiment.name for experiment in experiments} <= trained.results.keys():
        return None
    judged = experiment_tables.judge(experiment_tables.compare_all(experiments, trained.results))
    columns = _titles("kd_lite2", "colorfulness_ratio", "psnr", "ciede2000")

    def table(group: str, rows: Sequence[str]) -> Table:
        whole = experiment_tables.make_table(group, experiments, trained.results, judged)
        purposes = {row.label: row.cells[0].text for row in whole.rows}
        return pick(whole, rows, columns, purposes.get)

    effects = experiment_tables.make_effects(trained.results, judged)
    comparisons = [comparison for comparison, _ in judged.values()]
    names = [metric for _, metric in judged]
    return {
        "devices": sorted({e.settings["training"]["device"] for of in trained.results.values() for e in of.values()}),
        "comparisons": len(comparisons),
        "differences": sum(comparison.verdict != NO_DIFFERENCE for comparison in comparisons),
        "by_chance": round(len(comparisons) / 20),
        "remaining": sum(remains for _, remains in judged.values()),
        "noise": {name: experiment_tables.change(NOISE_EFFECT, name, judged) for name in dict.fromkeys(names)},
        "effects": pick(effects, [row.label for row in effects.rows], columns),
        "variants": join([table("target", ["base", "residual"]), _without_first(table("noise", ["base", "0"]))]),
        "adapters": table("adaptation", ["full", "lora-16-attention", "lora-16-both"]),
    }


def _without_first(table: Table) -> Table:
    return Table(table.title, table.columns, table.rows[1:], table.notes)


# docs/alternatives.md


def alternatives_page(ledger: Path) -> str | None:
    """docs/alternatives.md."""
    entries = read_entries(alternatives.STUDY, ledger)
    if not entries:
        return None
    (section,) = alternatives.sections(entries)
    hinted = read_entries(hints.STUDY, ledger)
    columns = _titles("fd_lite2", "kd_lite2", "colorfulness_ratio", "psnr", "ciede2000", "seconds_per_image")
    rows = [row.label for row in section.table.rows if not row.pseudo or row.label.startswith(GRAY_ROW)]
    return render(
        "alternatives.md.jinja",
        title=section.title,
        table=pick(section.table, rows, [*columns, "parameters", "training, CPU minutes"]),
        trained_on=section.facts["trained on"],
        hints=hints.hints_table(hinted) if hinted else None,
        hints_data=_data(hinted),
        samples=alternatives.trained_on(entries, "samples"),
    )


# docs/results.md


def results_page(ledger: Path) -> str | None:
    """docs/results.md."""
    scores = shipped.score_sections(ledger)
    if not scores:
        return None
    columns = _titles("fd_lite2", "kd_lite2", "colorfulness_ratio", "psnr", "ssim", "ciede2000")
    swept, costs = read_entries(shipped.STUDY, ledger), read_entries(scale.STUDY, ledger)
    quoted, warning = rivals_table()
    return render(
        "results.md.jinja",
        scores=join([_score(section, columns) for section in scores]),
        commands=scores[-1].commands,
        sweeps=[_swept(section) for section in shipped.sweep_sections(swept)],
        swept_data=_data(swept),
        scale=_scale(costs) if costs else None,
        scale_peak=f"{max((entry.metrics['peak_gb']['value'] for entry in costs), default=0):.2f} GB",
        quoted=_quoted(quoted),
        quoted_data=QUOTED_DATA,
        protocol=quoted.rows[0].cells[quoted.columns.index("protocol")].text,
        warning=warning,
    )


def _score(section: Section, columns: Sequence[str]) -> Table:
    """The model, the gray input and the perfect prediction on one set of photographs."""
    name = section.title.partition(", no captions")[0]
    shown = (GRAY_ROW, VAE_ROW)
    labels = [row.label for row in section.table.rows if not row.pseudo or row.label.startswith(shown)]
    return pick(section.table, labels, columns, lambda label: f"{name}: {label}")


def _swept(section: Section) -> dict:
    """The settings on a sweep's front that are compared in its sentence, and the gray input."""
    chosen = section.findings[0]
    rows = [row.label for row in section.table.rows if row.label in chosen] + [GRAY_ROW]
    columns = _titles("kd_lite2", "psnr", "ciede2000", "colorfulness_ratio", "seconds_per_image")
    return {"title": section.title, "table": pick(section.table, rows, columns), "choice": chosen}


def _scale(entries: Sequence[Entry]) -> Table:
    """The costs of most pictures."""
    most = max(entry.data["n"] for entry in entries)
    return scale.scale_table([entry for entry in entries if entry.data["n"] == most])


def _quoted(table: Table) -> Table:
    """Some of the figures of one protocol."""
    data = table.columns.index("data")
    of_one = [row for row in table.rows if row.cells[data].text == QUOTED_DATA]
    one = Table(table.title, table.columns, of_one, table.notes)
    return pick(one, [f"quoted: {method}" for method in QUOTED], ["FID", "colorfulness", "PSNR (dB)", "source"])


PAGES: dict[str, Callable[[Path], str | None]] = {
    "docs/experiments.md": experiments_page,
    "docs/alternatives.md": alternatives_page,
    "docs/results.md": results_page,
}
TABLES: dict[str, dict[str, Callable[[Path], str]]] = {
    "README.md": {"benchmark": lambda ledger: speed.render_table(read_entries(speed.STUDY, ledger))},
    "docs/use.md": {
        "color-scale": lambda ledger: color_scale.show(read_entries(color_scale.STUDY, ledger)),
        "unchanged": lambda ledger: unchanged.show(read_entries(unchanged.STUDY, ledger)),
    },
    "docs/embedded-model.md": {
        "comparison": lambda ledger: checkpoints.render_tables(read_entries(checkpoints.STUDY, ledger)),
        "knowledge": lambda ledger: knowledge.render_table(read_entries(knowledge.STUDY, ledger)),
    },
}


# Command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """This command has none of its own."""


def run(arguments: argparse.Namespace) -> int:
    """Write all documents again; returns the exit status."""
    for name in (*PAGES, *TABLES):
        write_document(name, arguments.ledger, arguments.root)
        print(arguments.root / name)
    return 0
