"""Runs on disk: what their folders, files, rows and prompt modes are called, and how they are read.

`generate` writes a run: run.json (what was asked for), manifest.jsonl (a line for each output), left_out.json and the
pictures in three folders. `score` adds score.json (metrics by row) and score_per_image.csv.
"""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .columns import value_of
from .files import replace_file

RUN_FILE, MANIFEST_FILE, LEFT_OUT_FILE = "run.json", "manifest.jsonl", "left_out.json"
OUTPUTS, REFERENCES, ROUND_TRIPS = "images", "reference", "vae"  # folders
SCORE_FILE, PER_IMAGE_FILE = "score.json", "score_per_image.csv"
FORMAT = 1  # of run.json and score.json
OUTPUT, GRAY, VAE, ORIGINAL = "output", "gray", "vae", "original"  # rows of score.json
NO_PROMPT, NEGATIVE_ONLY, GRAY_CAPTION, COLOR_CAPTION = "none", "negative-only", "gray-caption", "color-caption"
COLOR_WORDS = "color-words"
CAPTIONS = {
    NO_PROMPT: "no captions",
    NEGATIVE_ONLY: "no captions",
    GRAY_CAPTION: "captions of the gray photographs",
    COLOR_CAPTION: "captions of the color originals, which leak color",
    COLOR_WORDS: "color words with labels",
}
PROMPT_MODES = tuple(CAPTIONS)
# Of a run's request, what says how it was made and not what.
CIRCUMSTANCES = ("batch_size", "processes", "device", "versions")
# Of a manifest's line, without what was asked for: run.json has that too.
_LINE = {"id", "file", "reference", "vae", "width", "height", "caption", "sha256", "reference_sha256", "seconds"}


# What `generate` writes


def read_json(file: Path, default):
    """Content of a file, or `default` where there is none; ValueError, naming it, on a damaged one."""
    if not file.is_file():
        return default
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is no JSON: {error}") from error


def encode_lines(lines: Sequence[dict]) -> bytes:
    """Lines of a manifest as they are stored."""
    return b"".join(json.dumps(line, ensure_ascii=False).encode() + b"\n" for line in lines)


def read_lines(file: Path) -> list[dict]:
    """The objects in a file of JSON lines; a line that was cut short when its process was killed is skipped."""
    lines = []
    for line in file.read_bytes().splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:
            continue
    return lines


def read_manifest(folder: Path) -> dict[str, dict] | None:
    """The lines of a finished run's manifest by id; None where the folder is no run.

    Raises:
        ValueError: a line is damaged, lacks something or repeats an id; the message names it.
    """
    file = folder / MANIFEST_FILE
    if not file.is_file():
        return None
    entries: dict[str, dict] = {}
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        try:
            entry = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{file}, line {number}: {error}") from error
        missing = _LINE - set(entry)
        if missing or entry["id"] in entries:
            fault = f"has no {sorted(missing)[0]!r}" if missing else f"repeats the id {entry['id']!r}"
            raise ValueError(f"{file}, line {number}: {fault}")
        entries[entry["id"]] = entry
    return entries


# What `score` adds


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


def write_per_image(folder: Path, ids: Sequence[str], columns: Mapping[str, np.ndarray]) -> None:
    """Write a row of values for each photograph; those that are not a number stay empty."""

    def write(temporary: Path) -> None:
        with open(temporary, "w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow(["id", *columns])
            for row, photo in enumerate(ids):
                values = [column[row] for column in columns.values()]
                writer.writerow([photo, *("" if np.isnan(value) else f"{value:.6g}" for value in values)])

    replace_file(folder / PER_IMAGE_FILE, write)


def read_per_image(folder: Path) -> list[dict[str, str]]:
    """The rows that :func:`write_per_image` wrote, as text; none where there is no such file."""
    file = folder / PER_IMAGE_FILE
    if not file.is_file():
        return []
    with open(file, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


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
    return CAPTIONS.get(mode, f"prompts: {mode}") if mode else CAPTIONS[NO_PROMPT]


def photographs_of(run: Run) -> tuple[list[str], str]:
    """What tells sets of photographs of one name and number apart: ids, and the originals' mean colorfulness."""
    ids = sorted(line.get("id") or "" for line in read_per_image(run.folder))
    colorfulness = value_of(run.metric("colorfulness", ORIGINAL))
    return ids, "" if colorfulness is None else format(colorfulness, ".3g")  # machines differ in further digits


def group_runs(runs: Sequence[Run]) -> list[list[Run]]:
    """Runs that may share a table: same photographs, number, geometry and kind of captions."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        key = json.dumps([run.score["data"], photographs_of(run), captions_of(run)], sort_keys=True)
        groups.setdefault(key, []).append(run)
    return list(groups.values())
