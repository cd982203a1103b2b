"""What a study shows: its numbers and what follows from them, whole on the terminal, in short in a document."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from ..columns import badness, value_of
from ..pages import render
from ..tables import Cell, Row, Table
from .paired import NO_DIFFERENCE

_NORMAL = 1.96  # standard errors to either side make a 95% interval


@dataclass(frozen=True)
class Section:
    """All that a study found.

    Attributes:
        title: its heading.
        table: its numbers.
        commands: that made it.
        facts: names and values of what was measured and how.
        findings: sentences computed from the numbers.
    """

    title: str
    table: Table | None = None
    commands: Sequence[str] = ()
    facts: dict[str, str] = field(default_factory=dict)
    findings: Sequence[str] = ()


def show_sections(sections: Sequence[Section]) -> str:
    """Sections as Markdown."""
    return render("study.md.jinja", sections=sections).strip() + "\n"


def pick(table: Table, rows: Sequence[str], columns: Sequence[str], relabel: Callable[[str], str] = str) -> Table:
    """The rows and columns of a table that a document shows, in this order, with their footnotes.

    Raises:
        KeyError: there is no such row or column.
    """
    places = {name: place for place, name in enumerate(table.columns)}
    by_label = {row.label: row for row in table.rows}
    short = Table(table.title, list(columns), [])
    for row in (by_label[label] for label in rows):
        cells = [_renumbered(row.cells[places[name]], table, short) for name in columns]
        short.rows.append(Row(relabel(row.label), cells, row.pseudo))
    return short


def join(tables: Sequence[Table]) -> Table:
    """Tables of the same columns below each other, with one list of footnotes."""
    joined = Table("", tables[0].columns, [])
    for table in tables:
        for row in table.rows:
            joined.rows.append(replace(row, cells=[_renumbered(cell, table, joined) for cell in row.cells]))
    return joined


def _renumbered(cell: Cell, table: Table, other: Table) -> Cell:
    """A cell of a table with the footnotes' numbers of another one."""
    return replace(cell, notes=tuple(other.note(table.notes[number - 1]) for number in cell.notes))


# Differences. Two values count as different where their 95% intervals do not overlap: as they are of the same
# photographs, that is more cautious than it need be.


def badness_range(entry: dict, better: str) -> tuple[float, float] | None:
    """From the least to the greatest badness in a metric's 95% interval; None where it has none.

    Args:
        entry: of score.json or sweep.json, with `interval` or `standard_error`.
        better: "lower", "higher" or "one", see `eval.columns.Metric`.
    """
    value, interval = value_of(entry), entry.get("interval")
    if value is None:
        return None
    if interval is None:
        error = entry.get("standard_error")
        if error is None:
            return None
        interval = value - _NORMAL * error, value + _NORMAL * error
    ends = sorted(badness(end, better, None) for end in interval)
    if better == "one" and interval[0] <= 1 <= interval[1]:
        ends[0] = 0.0
    return ends[0], ends[1]


def verdict(entry: dict, other: dict, better: str) -> str:
    """ "better" or "worse" than another value, `NO_DIFFERENCE` where intervals overlap or are missing."""
    own, others = badness_range(entry, better), badness_range(other, better)
    if own is None or others is None or (own[0] <= others[1] and others[0] <= own[1]):
        return NO_DIFFERENCE
    return "better" if own[1] < others[0] else "worse"
