"""Plots of runs that may be compared."""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .columns import DISTANCES, METRICS, value_of
from .pictures import data_uri
from .runs import CIRCUMSTANCES, GRAY, ORIGINAL, OUTPUT, VAE, Run

if TYPE_CHECKING:  # imported once there is something to draw
    from matplotlib.figure import Figure


FACTORS = {"num_inference_steps": "steps", "guidance_scale": "guidance scale", "color_scale": "color scale"}
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
