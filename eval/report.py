"""Scores of runs as tables, plots and pictures: report.md, and report.html, which needs no other file.

Runs share a table only where they were measured on the same photographs in the same way. What others published is in
a table of its own, with its protocols, since their numbers and ours have no protocol in common.
"""

import argparse
import base64
import csv
import io
import json
import math
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from colorization.command_line import at_least

from .photos import IMAGE_SUFFIXES

if TYPE_CHECKING:  # imported once the runs are known to be good
    from markupsafe import Markup
    from matplotlib.figure import Figure

SCORE_FILE, PER_IMAGE_FILE, MANIFEST_FILE = "score.json", "score_per_image.csv", "manifest.jsonl"
RIVALS_FILE = Path(__file__).parent / "rivals.json"
TEMPLATES = Path(__file__).parent / "templates"
FORMAT = 1
THUMBNAIL_SIDE = 256  # pixels
OUTPUT, GRAY, VAE, ORIGINAL = "output", "gray", "vae", "original"
PSEUDO_LABELS = {
    GRAY: "gray input (nothing done)",
    VAE: "VAE round trip (a perfect prediction)",
    ORIGINAL: "original",
}
CAPTIONS = {
    "none": "no captions",
    "negative-only": "no captions",
    "gray-caption": "captions of the gray photographs",
    "color-caption": "captions of the color originals, which leak color",
}
# Of a run's request, what says how it was made and not what.
CIRCUMSTANCES = ("batch_size", "processes", "device", "versions")
QUOTED_TITLE = "Published figures, quoted, other protocols"

EXAMPLES = """examples:
  python -m eval report runs/embedded
  python -m eval report runs/steps-4 runs/steps-8 runs/steps-16 --output reports/steps

exit status: 0 all done, 1 some runs or pictures could not be read (each is named), 2 bad arguments"""


# Metrics: which are shown, how, and what is better


@dataclass(frozen=True)
class Metric:
    """One column.

    Attributes:
        name: key in score.json.
        title: heading.
        form: format specification of values.
        better: "lower", "higher", "one" (closest to 1), "original" (closest to the original's value), or "" where no
            value is better than another.
    """

    name: str
    title: str
    form: str = ".2f"
    better: str = "lower"


HUE_SECTORS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink")
SECTIONS: dict[str, tuple[Metric, ...]] = {
    "Distance to the originals": (
        Metric("fid", "FID"),
        Metric("kid", "KID", ".4f"),
        Metric("hi_fid", "HI-FID"),
        Metric("fd_lite2", "FD-Lite2"),
        Metric("kd_lite2", "KD-Lite2", ".4f"),
        Metric("feature_distance", "feature distance"),
    ),
    "Color": (
        Metric("colorfulness", "colorfulness", ".1f", "original"),
        Metric("colorfulness_absolute", "colorfulness of absolute differences", ".1f", "original"),
        Metric("colorfulness_ratio", "colorfulness / original's", ".2f", "one"),
        Metric("delta_colorfulness_mean", "difference of mean colorfulness", ".1f"),
        Metric("delta_colorfulness_each", "mean difference of colorfulness", ".1f"),
    ),
    "Pixels": (
        Metric("psnr", "PSNR (dB)", ".2f", "higher"),
        Metric("ssim", "SSIM", ".4f", "higher"),
        Metric("lpips", "LPIPS", ".4f"),
        Metric("ciede2000", "CIEDE2000"),
        Metric("chroma_error", "chroma error"),
    ),
    "Prompts, variety and speed": (
        Metric("clip_score", "CLIP score", ".2f", "higher"),
        Metric("color_word_hit_rate", "color-word hit rate", ".3f", "higher"),
        Metric("diversity", "diversity (CIEDE2000 between seeds)", ".2f", ""),
        Metric("best_of_k_ciede2000", "CIEDE2000, best of k seeds"),
        Metric("seconds_per_image", "seconds per photograph"),
    ),
    "Chroma error by the original's hue": tuple(Metric(f"chroma_error_{sector}", sector) for sector in HUE_SECTORS),
    "Chroma retention by the original's hue": tuple(
        Metric(f"chroma_retention_{sector}", sector, ".2f", "one") for sector in HUE_SECTORS
    ),
}
METRICS: dict[str, Metric] = {metric.name: metric for section in SECTIONS.values() for metric in section}
NETWORKS = {  # whose features a metric compares, as score.json names them
    **dict.fromkeys(("fid", "kid", "hi_fid"), "inception"),
    **dict.fromkeys(("fd_lite2", "kd_lite2", "feature_distance"), "lite2"),
    "lpips": "lpips",
}
# Entries of score.json's settings, and how the names of the metrics begin that they define.
_DEFINITIONS = {"clip_model": "clip_score", "hue_sectors": "chroma_"}
DISTANCES = ("fid", "fd_lite2", "kd_lite2", "feature_distance")  # the first that is there stands for quality in plots
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
FACTORS = {"num_inference_steps": "steps", "guidance_scale": "guidance scale", "color_scale": "color scale"}


def value_of(entry: dict | None) -> float | None:
    """The value of an entry of METRICS; None where it is absent or not finite."""
    value = None if entry is None else entry.get("value")
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def show_metric(entry: dict | None, form: str) -> str:
    """A value with its interval, or else with its standard error; "n/a" where there is none."""
    value = value_of(entry)
    if value is None:
        return "n/a"
    text = format(value, form)
    interval = entry.get("interval")
    if interval is not None:
        return f"{text} ({format(interval[0], form)} to {format(interval[1], form)})"
    error = entry.get("standard_error")
    return text if error is None else f"{text} ± {format(error, form)}"


def badness(value: float, better: str, target: float | None) -> float:
    """What the best value has least of: 0 at a target, unbounded for "lower" and "higher"."""
    if better in ("one", "original"):
        return abs(value - (1.0 if better == "one" else target))
    return -value if better == "higher" else value


def best_rows(values: Sequence[float | None], metric: Metric, target: float | None = None) -> set[int]:
    """Rows with the best value, those that look the same in print included.

    Args:
        values: one per row; None takes no part.
        metric: says what is better.
        target: the original's value, for metrics that are best there.

    Returns:
        Nothing where there are not two values to compare, or no value is better than another.
    """
    present = [value for value in values if value is not None]
    if len(present) < 2 or not metric.better or (metric.better == "original" and target is None):
        return set()
    best = format(min(present, key=lambda value: badness(value, metric.better, target)), metric.form)
    return {row for row, value in enumerate(values) if value is not None and format(value, metric.form) == best}


# Runs


@dataclass(frozen=True)
class Run:
    """One scored run.

    Attributes:
        folder: where it is.
        label: its name in this report, unique.
        score: content of score.json.
    """

    folder: Path
    label: str
    score: dict

    @property
    def request(self) -> dict:
        return self.score["run"]

    @property
    def pseudo(self) -> bool:
        """Whether no model made it: the gray inputs, generated as a run of their own."""
        return self.request.get("model") == GRAY

    @property
    def settings(self) -> dict:
        return self.request.get("settings") or {}

    @property
    def rows(self) -> dict[str, dict]:
        return self.score["rows"]

    def metric(self, name: str, row: str = OUTPUT) -> dict | None:
        """An entry of METRICS; None where it is absent."""
        return self.rows.get(row, {}).get(name)


def read_score(folder: Path) -> dict:
    """score.json of a run.

    Raises:
        ValueError: it is missing, damaged, or not of this format; the message names the file.
    """
    file = folder / SCORE_FILE
    if not file.is_file():
        raise ValueError(f"{folder}: has no {SCORE_FILE}: run python -m eval score {folder} first")
    try:
        score = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file}: is damaged: {error}") from error
    if not isinstance(score, dict) or score.get("format") != FORMAT:
        found = score.get("format") if isinstance(score, dict) else type(score).__name__
        raise ValueError(f"{file}: format must be {FORMAT}, got {found!r}")
    for key, kind in (("run", dict), ("data", dict), ("rows", dict)):
        if not isinstance(score.get(key), kind):
            raise ValueError(f"{file}: has no {key!r}")
    if not isinstance(score["rows"].get(OUTPUT), dict) or not {"name", "n", "geometry"} <= score["data"].keys():
        raise ValueError(f"{file}: has no rows.output, or data without name, n or geometry")
    return score


def label_runs(folders: Sequence[Path]) -> list[str]:
    """A short unique name for each folder: as much of the path's end as it takes to tell them apart."""
    parts = [folder.resolve().parts for folder in folders]
    length = 1
    while True:
        labels = ["/".join(part[-length:]) for part in parts]
        if len(set(labels)) == len(labels) or length > max(map(len, parts)):
            return labels
        length += 1


def captions_of(run: Run) -> str:
    """Where a run's prompts came from; captions of the originals leak color, so each kind is compared by itself."""
    mode = run.request.get("prompt_mode")
    return CAPTIONS.get(mode, f"prompts: {mode}") if mode else CAPTIONS["none"]


def photographs_of(run: Run) -> tuple[list[str], str]:
    """What tells sets of photographs of one name and number apart: ids, and the originals' mean colorfulness."""
    file, ids = run.folder / PER_IMAGE_FILE, []
    if file.is_file():
        with open(file, newline="", encoding="utf-8") as stream:
            ids = sorted(line.get("id") or "" for line in csv.DictReader(stream))
    colorfulness = value_of(run.metric("colorfulness", ORIGINAL))
    return ids, "" if colorfulness is None else format(colorfulness, ".3g")  # machines differ in further digits


def group_runs(runs: Sequence[Run]) -> list[list[Run]]:
    """Runs that may share a table: same photographs, number, geometry and kind of captions."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        key = json.dumps([run.score["data"], photographs_of(run), captions_of(run)], sort_keys=True)
        groups.setdefault(key, []).append(run)
    return list(groups.values())


# Tables


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
    return tables


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


def measured_with(run: Run, name: str) -> dict[str, object]:
    """What must agree between runs whose values of a metric are compared, besides the photographs."""
    entry, settings = run.metric(name) or {}, run.score.get("settings") or {}
    network, seeds = NETWORKS.get(name), name in ("diversity", "best_of_k_ciede2000")
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


# Plots

_BARS = {"capsize": 2, "elinewidth": 0.7, "capthick": 0.7}
_BARS_CAPTION = "Bars are 95% intervals, or one standard error where there is no interval."


@dataclass(frozen=True)
class Point:
    """One row of a table in a plot, with the entries of METRICS on both axes."""

    label: str
    pseudo: bool
    x: dict
    y: dict


def first_distance(runs: Sequence[Run]) -> str | None:
    """The name of the first of `DISTANCES` that was measured; None where none was."""
    for name in DISTANCES:
        if any(value_of(run.metric(name)) is not None for run in runs):
            return name
    return None


def distance_points(runs: Sequence[Run], name: str) -> list[Point]:
    """Colorfulness and a distance of every row that has both; equal pseudo rows of several runs only once."""
    points = []
    for row, label in ((OUTPUT, None), (GRAY, "gray input"), (VAE, "VAE round trip"), (ORIGINAL, "original")):
        for run in runs:
            x, y = run.metric("colorfulness", row), run.metric(name, row)
            if value_of(x) is None or value_of(y) is None:
                continue
            point = Point(label or run.label, row != OUTPUT or run.pseudo, x, y)
            if not point.pseudo or point not in points:
                points.append(point)
    return points


def plot_distance(runs: Sequence[Run]) -> "tuple[str, Figure] | None":
    """Caption and plot of the distance that is there against colorfulness; None where no run has both."""
    name = first_distance(runs)
    points = [] if name is None else distance_points(runs, name)
    if all(point.pseudo for point in points):
        return None
    figure = _figure(7, 4.5)
    axes = figure.subplots()
    for point in points:
        color, marker = ("0.55", "s") if point.pseudo else ("C0", "o")
        position = point.x["value"], point.y["value"]
        axes.errorbar(*position, _error(point.y), _error(point.x), fmt=marker, color=color, **_BARS)
        style = {"textcoords": "offset points", "fontsize": 8, "color": color, "parse_math": False}
        axes.annotate(_plain(point.label), position, xytext=(5, 5), **style)
    axes.set_xlabel("colorfulness")
    axes.set_ylabel(f"{METRICS[name].title} (lower is better)")
    axes.margins(0.15)
    return f"{METRICS[name].title} against colorfulness. {_BARS_CAPTION}", figure


def factor_lines(runs: Sequence[Run], factor: str) -> list[list[Run]]:
    """Runs that differ in exactly this setting, sorted by it: one list for each combination of all the rest."""
    lines: dict[str, list[Run]] = {}
    for run in runs:
        if isinstance(run.settings.get(factor), int | float):
            rest = {key: value for key, value in run.settings.items() if key != factor}
            request = {key: value for key, value in run.request.items() if key not in CIRCUMSTANCES}
            key = json.dumps(request | {"settings": rest}, sort_keys=True)
            lines.setdefault(key, []).append(run)
    several = [line for line in lines.values() if len({run.settings[factor] for run in line}) > 1]
    return [sorted(line, key=lambda run: run.settings[factor]) for line in several]


def plot_factor(runs: Sequence[Run], factor: str) -> "tuple[str, Figure] | None":
    """Caption and plots of metrics against a setting; None where no runs differ in it alone."""
    lines = factor_lines(runs, factor)
    names = [first_distance(runs), "colorfulness_ratio", "ciede2000"]
    shown = [n for n in names if any(value_of(run.metric(n)) is not None for line in lines for run in line)]
    if not shown:
        return None
    figure = _figure(3.6 * len(shown), 3.4)
    for axes, name in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        for number, line in enumerate(lines):
            known = [run for run in line if value_of(run.metric(name)) is not None]
            entries = [run.metric(name) for run in known]
            errors = [_error(entry) or [[0.0], [0.0]] for entry in entries]
            low, high = ([error[side][0] for error in errors] for side in (0, 1))
            positions = [run.settings[factor] for run in known]
            values = [entry["value"] for entry in entries]
            axes.errorbar(positions, values, [low, high], fmt="o-", color=f"C{number}", label="line", **_BARS)
        if METRICS[name].better == "one":
            axes.axhline(1, color="0.7", linewidth=0.8)
        axes.set_xticks(sorted({run.settings[factor] for line in lines for run in line}))
        axes.set_xlabel(FACTORS[factor])
        axes.set_ylabel(METRICS[name].title)
    if len(lines) > 1:
        legend = figure.axes[0].legend(fontsize=7, title="line through")
        for text, line in zip(legend.get_texts(), lines, strict=True):
            text.set_parse_math(False)
            text.set_text(_plain(line[0].label))
    return f"Metrics against {FACTORS[factor]}, all else equal. {_BARS_CAPTION}", figure


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=110, layout="constrained")


def _error(entry: dict) -> list[list[float]] | None:
    """Lengths of an error bar below and above: the interval's, or one standard error."""
    if entry.get("interval"):
        low, high = entry["interval"]
        return [[max(entry["value"] - low, 0.0)], [max(high - entry["value"], 0.0)]]
    error = entry.get("standard_error")
    return None if error is None else [[error], [error]]


def _plain(label: str) -> str:
    """A label that fonts can show, on one line and not too long."""
    text = "".join(character if character.isprintable() else "?" for character in label)
    return text if len(text) <= 40 else f"...{text[-37:]}"


def draw_plots(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """Captions and data URIs of every plot that this group of runs gives."""
    import matplotlib
    from matplotlib.style import context

    with context("default", after_reset=True), matplotlib.rc_context({"font.family": "DejaVu Sans"}):
        plots = [plot_distance(runs), *(plot_factor(runs, factor) for factor in FACTORS)]
        drawn = []
        for plot in plots:
            if plot is not None:
                stream = io.BytesIO()
                plot[1].savefig(stream, format="png", metadata={"Software": None})
                drawn.append((plot[0], data_uri(stream.getvalue(), "image/png")))
    return drawn


# Pictures


@dataclass(frozen=True)
class Picture:
    """Where an output and its original are; `file` and `reference` are names in their folders."""

    folder: Path
    file: str
    reference_folder: Path
    reference: str
    caption: str


@dataclass(frozen=True)
class Example:
    """One photograph of a grid: data URIs of what went in, what came out and the original."""

    id: str
    caption: str
    value: str
    gray: str
    output: str
    original: str


@dataclass(frozen=True)
class Grid:
    """Photographs with the best, median or worst values of a metric."""

    title: str
    examples: list[Example]


def data_uri(data: bytes, media_type: str) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def thumbnail(file: Path, gray: bool = False) -> str:
    """A picture as the data URI of a small JPEG, or its luma where `gray`; OSError where it cannot be read."""
    from PIL import Image

    with Image.open(file) as image:
        image = image.convert("L" if gray else "RGB")
    image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=88)
    return data_uri(stream.getvalue(), "image/jpeg")


def rank_photographs(file: Path) -> tuple[str, list[tuple[str, float]]]:
    """Ids and values of score_per_image.csv, best first, by LPIPS where it was measured, else by feature distance.

    Returns:
        The metric's name and the list; "" and nothing where neither was measured.
    """
    with open(file, newline="", encoding="utf-8") as stream:
        lines = list(csv.DictReader(stream))
    for name in ("lpips", "feature_distance"):
        values = [(line["id"], float(line[name])) for line in lines if line.get("id") and line.get(name)]
        values = [(photo, value) for photo, value in values if math.isfinite(value)]
        if values:
            return name, sorted(values, key=lambda item: (item[1], item[0]))
    return "", []


def pick_examples(ranked: Sequence, count: int) -> dict[str, list]:
    """The first, the middle and the last `count` entries; fewer where they would overlap, but at least one."""
    count = max(min(count, len(ranked) // 3), 1)
    start = (len(ranked) - count) // 2
    return {"Best": ranked[:count], "Median": ranked[start : start + count], "Worst": ranked[-count:]}


def read_manifest(folder: Path) -> dict[str, dict]:
    """Entries of manifest.jsonl by id."""
    lines = (folder / MANIFEST_FILE).read_text(encoding="utf-8").splitlines()
    entries = [json.loads(line) for line in lines if line.strip()]
    return {entry["id"]: entry for entry in entries}


def find_pictures(run: Run, others: Sequence[Run]) -> dict[str, Picture]:
    """Outputs and originals of a run by id.

    A run without a manifest is a folder of images named by id; the originals are then those of another run on the same
    photographs.

    Raises:
        ValueError, KeyError, TypeError: a manifest is damaged.
    """
    if (run.folder / MANIFEST_FILE).is_file():
        return {
            photo: Picture(run.folder, entry["file"], run.folder, entry["reference"], entry.get("caption") or "")
            for photo, entry in read_manifest(run.folder).items()
        }
    donor = next((other for other in others if (other.folder / MANIFEST_FILE).is_file()), None)
    if donor is None:
        return {}
    files = {file.stem: file.name for file in sorted(run.folder.iterdir()) if file.suffix.lower() in IMAGE_SUFFIXES}
    return {
        photo: Picture(run.folder, files[photo], donor.folder, entry["reference"], "")
        for photo, entry in read_manifest(donor.folder).items()
        if photo in files
    }


def make_grids(run: Run, others: Sequence[Run], count: int, fail: Callable[[str], None]) -> list[Grid]:
    """Grids of one run; none where there are no pictures or nothing to rank them by.

    Args:
        run: whose pictures are shown.
        others: on the same photographs; they lend originals where `run` has none.
        count: photographs in each grid.
        fail: called with a line on each picture that cannot be read.
    """
    if not (run.folder / PER_IMAGE_FILE).is_file():
        return []
    try:
        pictures = find_pictures(run, others)
        name, ranked = rank_photographs(run.folder / PER_IMAGE_FILE)
    except (ValueError, KeyError, TypeError) as error:
        fail(f"{run.folder}: manifest or scores of its photographs are damaged: {error}")
        return []
    known = [(photo, value) for photo, value in ranked if photo in pictures]
    if not known:
        return []
    grids = []
    for title, chosen in pick_examples(known, count).items():
        examples = []
        for photo, value in chosen:
            try:
                examples.append(_example(photo, pictures[photo], format(value, ".4f")))
            except (OSError, ValueError) as error:
                fail(f"{run.folder}: picture {photo!r}: {error}")
        if examples:
            grids.append(Grid(f"{title} by {METRICS[name].title}", examples))
    return grids


def _example(photo: str, picture: Picture, value: str) -> Example:
    reference = _inside(picture.reference_folder, picture.reference)
    thumbnails = (
        thumbnail(reference, gray=True),
        thumbnail(_inside(picture.folder, picture.file)),
        thumbnail(reference),
    )
    return Example(photo, picture.caption, value, *thumbnails)


def _inside(folder: Path, name: str) -> Path:
    """A file of a run; ValueError where its name leads out of the run's folder."""
    file = (folder / name).resolve()
    if not file.is_relative_to(folder.resolve()):
        raise ValueError(f"{name} is not in the run's folder")
    return file


# Report


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


def markdown_text(value: object) -> "Markup":
    """Text that Markdown shows as it is: one line, with nothing that could begin markup, HTML or a table's cell."""
    from markupsafe import Markup

    text = "".join(c if c.isprintable() else " " for c in str(value))
    text = re.sub(r"([\\`*\[\]<>|~])", r"\\\1", " ".join(text.split()))
    text = re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", text)  # inside of words it is no emphasis
    return Markup(text)


def render(template: str, **content: object) -> str:
    """A template of `eval/templates` with this content, all of it escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["markdown"] = markdown_text
    return environment.get_template(template).render(content)


def write_text(file: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    from .summary import replace_file

    replace_file(file, lambda temporary: temporary.write_text(text, encoding="utf-8"))


# Command


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


def read_runs(folders: Sequence[Path], fail: Callable[[str], None]) -> list[Run]:
    """Scored runs, each once, in the order given.

    Args:
        folders: of the runs.
        fail: called with a line on each run that cannot be used, where another one can.

    Raises:
        ValueError: none of them can be used.
    """
    scores, problems = {}, []
    for folder in {folder.resolve(): folder for folder in reversed(folders)}.values():
        try:
            scores[folder] = read_score(folder)
        except ValueError as error:
            problems.insert(0, str(error))
    if not scores:
        raise ValueError("; ".join(problems))
    for problem in problems:
        fail(problem)
    usable = [folder for folder in dict.fromkeys(folders) if folder in scores]
    return [Run(folder, label, scores[folder]) for folder, label in zip(usable, label_runs(usable), strict=True)]


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
