"""The page of a sweep: a table of its settings, and the choice among them in words."""

from collections.abc import Sequence
from dataclasses import replace

from .choosing import CHOICES, RATIO, explain_choice, front
from .columns import METRICS, best_rows, show_metric, value_of
from .pages import render
from .runs import GRAY
from .setting import Setting
from .tables import PSEUDO_LABELS, Cell, Row, Table

RESULT_FILE, TABLE_FILE = "sweep.json", "sweep.md"


def render_sweep(result: dict) -> str:
    """sweep.md of the content of sweep.json."""
    rows = result["rows"]
    return render(
        "sweep.md.jinja",
        data=rows[0]["data"],
        request=result["request"],
        table=sweep_table(rows, result["gray"]),
        choice=explain_choice(result["choice"], rows),
    )


def sweep_table(rows: Sequence[dict], gray: dict, with_seconds: bool = True) -> Table:
    """A row for each setting and one for the gray input; the best value of each column is marked, and the front.

    Args:
        rows, gray: of sweep.json.
        with_seconds: whether there is a column for the time, which tells something only of an otherwise idle machine.
    """
    names = (*CHOICES, RATIO, "colorfulness", *(["seconds_per_image"] if with_seconds else []))
    metrics = [METRICS[name] for name in names]
    metrics = [replace(metric, better="") if metric.better == "original" else metric for metric in metrics]
    best = [best_rows([value_of(row["metrics"].get(metric.name)) for row in rows], metric) for metric in metrics]
    table = Table("Settings", [*(metric.title for metric in metrics), "on the front"], [])
    on_front = front(rows)

    def cells(entries: dict, index: int | None) -> list[Cell]:
        cells = []
        for column, metric in enumerate(metrics):
            entry = entries.get(metric.name) or {}
            notes = () if value_of(entry) is not None else (table.note(entry.get("reason", "not measured")),)
            cells.append(Cell(show_metric(entry, metric.form), index in best[column], notes))
        return [*cells, Cell("yes" if index in on_front else "")]

    for index, row in enumerate(rows):
        table.rows.append(Row(str(Setting(**row["setting"])), cells(row["metrics"], index)))
    no_time = gray | {"seconds_per_image": {"value": None, "reason": "nothing is done"}}
    table.rows.append(Row(PSEUDO_LABELS[GRAY], cells(no_time, None), pseudo=True))
    return table
