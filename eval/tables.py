"""Tables of runs that may be compared, and of what others published."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .columns import METRICS, SECTIONS, Metric, best_rows, show_metric, value_of
from .runs import GRAY, ORIGINAL, OUTPUT, VAE, Run

RIVALS_FILE = Path(__file__).parent / "rivals.json"
PSEUDO_LABELS = {
    GRAY: "gray input (nothing done)",
    VAE: "VAE round trip (a perfect prediction)",
    ORIGINAL: "original",
}
_NETWORKS = {  # whose features a metric compares, as score.json names them
    **dict.fromkeys(("fid", "kid", "hi_fid"), "inception"),
    **dict.fromkeys(("fd_lite2", "kd_lite2", "feature_distance"), "lite2"),
    "lpips": "lpips",
}
# Entries of score.json's settings, and how the names of the metrics begin that they define.
_DEFINITIONS = {"clip_model": "clip_score", "hue_sectors": "chroma_"}
QUOTED_TITLE = "Published figures, quoted, other protocols"
RIVAL_COLUMNS = {
    "fid": ("FID", ".2f"),
    "hi_fid": ("HI-FID", ".1f"),
    "colorfulness": ("colorfulness", ".2f"),
    "delta_colorfulness": ("delta of colorfulness", ".2f"),
    "psnr": ("PSNR (dB)", ".2f"),
    "ssim": ("SSIM", ".3f"),
    "lpips": ("LPIPS", ".3f"),
    "ciede2000": ("CIEDE2000", ".2f"),
    "clip_score": ("CLIP score", ".1f"),
}


@dataclass(frozen=True)
class Cell:
    """Text, whether it is the best of its column, and the numbers of its footnotes."""

    text: str
    best: bool = False
    notes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Row:
    """One row; `pseudo` for those that no model made."""

    label: str
    cells: list[Cell]
    pseudo: bool = False


@dataclass
class Table:
    """A table with footnotes, numbered from 1."""

    title: str
    columns: list[str]
    rows: list[Row]
    notes: list[str] = field(default_factory=list)

    def note(self, text: str) -> int:
        """The number of this footnote."""
        if text not in self.notes:
            self.notes.append(text)
        return self.notes.index(text) + 1


def metric_tables(runs: Sequence[Run]) -> list[Table]:
    """The tables of one group of runs, a table for each section of METRICS that any of them has."""
    present = {name for run in runs for row in run.rows.values() for name in row}
    unknown = tuple(Metric(name, name, ".4g", "") for name in sorted(present - METRICS.keys()))
    tables = []
    for title, metrics in [*SECTIONS.items(), ("Others", unknown)]:
        shown = [metric for metric in metrics if metric.name in present]
        if shown:
            tables.append(metric_table(title, shown, runs))
    words = words_table(runs)
    return tables if words is None else [*tables, words]


def metric_table(title: str, metrics: Sequence[Metric], runs: Sequence[Run]) -> Table:
    """Some metrics of runs that may be compared, and of what no model made."""
    table = Table(title, [metric.title for metric in metrics], [])
    best = [_best_outputs(metric, runs, table) for metric in metrics]
    for index, run in enumerate(runs):
        cells = [_cell(metric, run, OUTPUT, table, index in best[c]) for c, metric in enumerate(metrics)]
        table.rows.append(Row(run.label, cells, run.pseudo))
    for kind, label in PSEUDO_LABELS.items():
        variants: dict[tuple[str, ...], tuple[list[Cell], list[str]]] = {}
        for run in runs:
            if kind in run.rows:
                cells = [_cell(metric, run, kind, table) for metric in metrics]
                variants.setdefault(tuple(cell.text for cell in cells), (cells, []))[1].append(run.label)
        for cells, of in variants.values():  # one row unless runs differ, as they do with another VAE
            suffix = "" if len(variants) == 1 else f", of {', '.join(of)}"
            table.rows.append(Row(label + suffix, cells, pseudo=True))
    return table


def words_table(runs: Sequence[Run]) -> Table | None:
    """The color-word hit rate by word, of runs whose photographs were colored with every word; None without any."""
    rates = {run.label: run.metric("color_word_hit_rate") or {} for run in runs}
    rates = {label: rate for label, rate in rates.items() if "by_word" in rate}
    if not rates:
        return None
    words = list(next(iter(rates.values()))["by_word"])
    table = Table("Color words", ["pairs", "hit rate", "without the word", *words], [])
    for label, rate in rates.items():
        shown = [show_metric(rate, ".1%"), show_metric({"value": rate["unprompted"]}, ".1%")]
        shown += [show_metric(rate["by_word"][word], ".0%") for word in words]
        table.rows.append(Row(label, [Cell(str(rate["n"])), *map(Cell, shown)]))
    return table


def measured_with(run: Run, name: str) -> dict[str, object]:
    """What must agree between runs whose values of a metric are compared, besides the photographs."""
    entry, settings = run.metric(name) or {}, run.score.get("settings") or {}
    network, seeds = _NETWORKS.get(name), name in ("diversity", "best_of_k_ciede2000")
    weights, resize = run.score.get("weights") or {}, settings.get("resize") or {}
    definition = [settings.get(key) for key, prefix in _DEFINITIONS.items() if name.startswith(prefix)]
    if name == "seconds_per_image":
        definition = [run.request.get(key) for key in ("device", "dtype", "batch_size", "processes")]
    return {
        "numbers of photographs": entry.get("n"),
        "numbers of seeds": len(settings.get("extra_seeds") or []) if seeds else None,
        "implementations": [entry.get("backend"), weights.get(network), resize.get(network), definition],
    }


def _best_outputs(metric: Metric, runs: Sequence[Run], table: Table) -> set[int]:
    """Which runs are best; none, with a footnote, where their values were not measured alike or do not compare."""
    values = [None if run.pseudo else value_of(run.metric(metric.name)) for run in runs]
    ways = [measured_with(run, metric.name) for run, value in zip(runs, values, strict=True) if value is not None]
    for what in ways[0] if ways else ():
        if any(way[what] != ways[0][what] for way in ways):
            table.note(f"{metric.title}: measured with different {what}, so no value is marked as the best.")
            return set()
    if any((run.metric(metric.name) or {}).get("note") for run in runs):
        return set()
    targets = {value_of(run.metric(metric.name, ORIGINAL)) for run in runs}
    return best_rows(values, metric, targets.pop() if len(targets) == 1 else None)


def _cell(metric: Metric, run: Run, row: str, table: Table, best: bool = False) -> Cell:
    entry = run.metric(metric.name, row)
    if value_of(entry) is None:
        reason = (entry or {}).get("reason") or ("not measured" if entry is None else "the value is not finite")
        return Cell("n/a", notes=(table.note(str(reason)),))
    n = entry.get("n")
    texts = [] if n in (None, run.score["data"]["n"]) else [f"n = {n}"]
    texts += [entry["note"]] if entry.get("note") else []
    notes = tuple(table.note(text) for text in texts)
    return Cell(show_metric(entry, metric.form), best, notes)


def settings_table(runs: Sequence[Run]) -> Table:
    """What made each run."""
    columns = {
        "model": lambda run: _with_revision(run.request.get("model"), run.request.get("model_revision")),
        "adapter": lambda run: _with_revision(run.request.get("adapter"), run.request.get("adapter_revision")),
        "prompts": lambda run: run.request.get("prompt_mode"),
        "sampler": lambda run: run.settings.get("sampler"),
        "steps": lambda run: run.settings.get("num_inference_steps"),
        "guidance scale": lambda run: run.settings.get("guidance_scale"),
        "color scale": _color_scale,
        "severity": lambda run: run.settings.get("severity"),
        "longest side": lambda run: run.request.get("max_side"),
        "seed": lambda run: run.request.get("seed"),
    }
    rows = []
    for run in runs:
        values = [column(run) for column in columns.values()]
        rows.append(Row(run.label, [Cell("" if value is None else str(value)) for value in values]))
    return Table("Runs", list(columns), rows)


def _with_revision(name: str | None, revision: str | None) -> str | None:
    return f"{name} at {revision}" if name and revision else name


def _color_scale(run: Run) -> str | None:
    scale, space = run.settings.get("color_scale"), run.settings.get("color_scale_space")
    return None if scale is None else f"{scale} ({space})" if space else str(scale)


def rivals_table(file: Path = RIVALS_FILE) -> tuple[Table, str]:
    """Published figures, one row each with protocol and source, and what to know before reading them."""
    content = json.loads(file.read_text(encoding="utf-8"))
    titles = [title for title, _ in RIVAL_COLUMNS.values()]
    table = Table(QUOTED_TITLE, ["data", "n", *titles, "protocol", "source"], [])
    for entry in content["entries"]:
        protocol, metrics = content["protocols"][entry["protocol"]], entry["metrics"]
        cells = [Cell(protocol["data"]), Cell(str(protocol["n"] or "not stated"))]
        for name, (_, form) in RIVAL_COLUMNS.items():
            cells.append(Cell(format(metrics[name], form) if name in metrics else ""))
        notes = (table.note(entry["note"]),) if "note" in entry else ()
        cells += [Cell(protocol["text"]), Cell(entry["source"], notes=notes)]
        table.rows.append(Row(f"quoted: {entry['method']}", cells))
    return table, content["note"]
