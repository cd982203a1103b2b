"""Studies on a ledger and documents in a folder of the test."""

from pathlib import Path

from eval.__main__ import main
from eval.studies.ledger import Entry, read_entries


def ledger_in(folder: Path) -> Path:
    return folder / "results" / "ledger.jsonl"


def study(folder: Path, name: str, *words: object) -> int:
    """The exit status of `python -m eval study NAME WORDS`."""
    places = ["--ledger", str(ledger_in(folder)), "--root", str(folder)]
    return main(["study", name, *map(str, words), *places])


def kept(folder: Path, name: str) -> list[Entry]:
    """What the study has in that ledger."""
    return read_entries(name, ledger_in(folder))
