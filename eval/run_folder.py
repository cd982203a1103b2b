"""The folder of a run while it is made: when it may be continued, and what is written into it."""

import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from colorization.atomic import sha256_of

from .files import write_bytes, write_result
from .runs import (
    LEFT_OUT_FILE,
    MANIFEST_FILE,
    OUTPUTS,
    PER_IMAGE_FILE,
    REFERENCES,
    ROUND_TRIPS,
    RUN_FILE,
    SCORE_FILE,
    encode_lines,
    read_lines,
)

_MAY_CHANGE = ("batch_size", "processes", "device")  # while a run goes on
_SCORES = (SCORE_FILE, PER_IMAGE_FILE)  # no longer true once the pictures are others
_TEMPORARY = ".writing-"  # what names begin with while files are written


def open_run(folder: Path, request: dict, overwrite: bool) -> None:
    """Make the run's folder, or check that the run in it is the one that is asked for.

    Raises:
        ValueError: the folder holds a run with other settings, or pictures that are of no run, and `overwrite` is
            false or would remove what this command did not write.
    """
    stored = folder / RUN_FILE
    if stored.is_file():
        if overwrite:
            _clear(folder)
        else:
            _compare_requests(folder, stored, request)
    else:
        foreign = [name for name in (OUTPUTS, REFERENCES, ROUND_TRIPS, MANIFEST_FILE) if (folder / name).exists()]
        if foreign:
            raise ValueError(f"argument --output: {folder} is no run's: it has a {foreign[0]} but no {RUN_FILE}")
    names = [OUTPUTS, REFERENCES] + ([ROUND_TRIPS] if request["vae_row"] else [])
    for part in (folder / name for name in names):
        part.mkdir(parents=True, exist_ok=True)
        for leftover in part.glob(f"{_TEMPORARY}*"):  # of processes that were killed
            leftover.unlink()
    write_result(stored, request)


def _compare_requests(folder: Path, stored: Path, request: dict) -> None:
    """ValueError, naming what differs, when a run's request is another one."""
    try:
        old = json.loads(stored.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{stored} cannot be read: {error}; --overwrite starts anew") from error
    old, new = _flat(old), _flat(request)
    changed = [key for key in new | old if old.get(key) != new.get(key) and key not in _MAY_CHANGE]
    if changed:
        what = ", ".join(f"{key} was {old.get(key)!r} and is {new.get(key)!r}" for key in changed)
        raise ValueError(
            f"argument --output: {folder} holds a run with other settings ({what}): choose another folder, or "
            "--overwrite replaces it"
        )


def _flat(tree: dict, prefix: str = "") -> dict:
    flat = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _clear(folder: Path) -> None:
    """Remove a run; what others put into its folder stays."""
    files = [folder / name for name in (MANIFEST_FILE, LEFT_OUT_FILE, *_SCORES)]
    files += [file for part in (OUTPUTS, REFERENCES, ROUND_TRIPS) for file in (folder / part).glob("*.png")]
    for file in [*files, *_partial_manifests(folder), folder / RUN_FILE]:  # without run.json it would be nobody's
        file.unlink(missing_ok=True)


def close_run(folder: Path, lines: Sequence[dict], left_out: Sequence[dict], changed: bool) -> None:
    """Write the manifest and what was left out; partial manifests and pictures without a line in the manifest go.

    Args:
        changed: whether there are new outputs, of which an earlier score is not true.
    """
    write_bytes(folder / LEFT_OUT_FILE, (json.dumps(left_out, indent=2, ensure_ascii=False) + "\n").encode())
    write_bytes(folder / MANIFEST_FILE, encode_lines(lines))
    for file in [*_partial_manifests(folder), *(folder / name for name in _SCORES if changed)]:
        file.unlink(missing_ok=True)
    listed = {line[column] for line in lines for column in ("file", "reference", "vae")}
    for part in (OUTPUTS, REFERENCES, ROUND_TRIPS):  # so that tools that compare folders see the same photographs
        for file in (folder / part).glob("*.png"):
            if f"{part}/{file.name}" not in listed:
                file.unlink()


# Manifests


def append_lines(folder: Path, process: int, lines: Sequence[dict]) -> None:
    """Add lines to a process's own part of the manifest."""
    file = folder / f"manifest.{process}.partial.jsonl"
    cut_short = file.is_file() and not file.read_bytes().endswith(b"\n")
    with open(file, "ab") as stream:
        stream.write((b"\n" if cut_short else b"") + encode_lines(lines))


def finished_lines(folder: Path) -> dict[str, dict]:
    """Lines by id of what earlier commands have made."""
    files = [file for file in (folder / MANIFEST_FILE, *_partial_manifests(folder)) if file.is_file()]
    return {line["id"]: line for file in files for line in read_lines(file)}


def _partial_manifests(folder: Path) -> list[Path]:
    return sorted(folder.glob("manifest.*.partial.jsonl"))


# Pictures


def write_picture(file: Path, pixels: np.ndarray, text: dict[str, str] | None = None) -> str:
    """Write RGB uint8 pixels as PNG, whole or not at all; the file's SHA-256."""
    stream, information = io.BytesIO(), PngInfo()
    for key, value in (text or {}).items():
        information.add_text(key, value)
    # Higher levels make files a tenth smaller and take several times as long.
    Image.fromarray(pixels).save(stream, "PNG", compress_level=1, pnginfo=information)
    return write_bytes(file, stream.getvalue())


def has_digest(file: Path, digest: str) -> bool:
    """Whether a file is there and has this SHA-256."""
    return file.is_file() and sha256_of(file) == digest
