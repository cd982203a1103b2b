"""Runs on disk: the names of their files and rows, and what is read from them."""

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .columns import value_of

SCORE_FILE, PER_IMAGE_FILE, MANIFEST_FILE = "score.json", "score_per_image.csv", "manifest.jsonl"
FORMAT = 1
OUTPUT, GRAY, VAE, ORIGINAL = "output", "gray", "vae", "original"
CAPTIONS = {
    "none": "no captions",
    "negative-only": "no captions",
    "gray-caption": "captions of the gray photographs",
    "color-caption": "captions of the color originals, which leak color",
}
# Of a run's request, what says how it was made and not what.
CIRCUMSTANCES = ("batch_size", "processes", "device", "versions")


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


def read_manifest(folder: Path) -> dict[str, dict]:
    """Entries of manifest.jsonl by id."""
    lines = (folder / MANIFEST_FILE).read_text(encoding="utf-8").splitlines()
    entries = [json.loads(line) for line in lines if line.strip()]
    return {entry["id"]: entry for entry in entries}


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
