"""The ledger of all studies, eval/results/ledger.jsonl: a line for each run, with what the pages show of it.

A line says which study and run it is of, which photographs were measured (`data`), the settings and versions that
matter, and the metrics by row: "output" is what was measured; "gray", "vae" and "original" are pictures of the same
photographs that no model made. A metric is a dictionary with `value`, `n` and what there is of `interval`,
`standard_error` and `reason`, as in score.json. Whole score files are kept of the shipped model alone, in
eval/results/embedded.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ..files import replace_file

RESULTS = Path(__file__).parent.parent / "results"
LEDGER = RESULTS / "ledger.jsonl"


@dataclass(frozen=True)
class Entry:
    """A line of the ledger.

    Attributes:
        study: its name on the command line.
        run: its name in the study; there is one entry of each.
        data: `name` and `n` of the photographs, and how they were used; empty where there are none.
        settings: of the model, its training and the measurement, as far as they matter.
        rows: metrics by row and name.
        versions: of packages.
    """

    study: str
    run: str
    data: dict = field(default_factory=dict)
    settings: dict = field(default_factory=dict)
    rows: dict[str, dict[str, dict]] = field(default_factory=dict)
    versions: dict = field(default_factory=dict)

    @property
    def metrics(self) -> dict[str, dict]:
        """Of what was measured."""
        return self.rows.get("output", {})


def read_entries(study: str, ledger: Path) -> list[Entry]:
    """The runs of a study by name, none where nothing was measured; ValueError names a line that is damaged."""
    return [entry for entry in _read(ledger) if entry.study == study]


def record(entries: Iterable[Entry], ledger: Path, replaced: Callable[[Entry], bool] = lambda entry: False) -> None:
    """Put entries into the ledger, whole or not at all, in place of those of the same study and run.

    Args:
        entries: new ones.
        ledger: the file.
        replaced: whether another entry that is there makes way for them too.
    """
    old = [entry for entry in _read(ledger) if not replaced(entry)]
    kept = {(entry.study, entry.run): entry for entry in [*old, *entries]}
    lines = [json.dumps(asdict(kept[key]), allow_nan=False) + "\n" for key in sorted(kept)]
    ledger.parent.mkdir(parents=True, exist_ok=True)
    replace_file(ledger, lambda temporary: temporary.write_text("".join(lines), encoding="utf-8"))


def read_json(file: Path) -> dict:
    """What a JSON file holds; ValueError, naming the file, where it is damaged."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file}: is damaged: {error}") from error


def shown(metrics: dict[str, dict], names: Sequence[str]) -> dict[str, dict]:
    """These metrics as far as they were measured, without empty fields."""
    return {name: without_nothing(metrics[name]) for name in names if name in metrics}


def without_nothing(values: dict) -> dict:
    """A dictionary without the keys that have no value; `value` stays, which a metric lacks for a reason."""
    return {key: value for key, value in values.items() if value is not None or key == "value"}


def _read(ledger: Path) -> list[Entry]:
    if not ledger.is_file():
        return []
    entries = []
    for number, line in enumerate(ledger.read_text(encoding="utf-8").splitlines(), 1):
        try:
            entries.append(Entry(**json.loads(line)))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{ledger}, line {number}: is damaged: {error}") from error
    return entries
