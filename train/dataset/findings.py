"""What was found out about photographs, kept on disk: a run that was killed goes on where it stopped."""

import hashlib
import json
from pathlib import Path
from typing import BinaryIO

import datasets
import torch
from PIL import Image
from tqdm import tqdm

from colorization.captioning import load_captioner
from colorization.errors import explain

from ..sources import UnreadablePhoto, image_bytes, open_photo
from .measures import Filters, measure, upright

MEASURES = "measures with shades"  # kind of finding; another name whenever `measure` gives something else


class Findings:
    """Measures and captions by image, in JSON lines; one file per process, appended to and flushed.

    Args:
        folder: of the files; all of them are read, whichever process wrote them.
        process: number of this process.
    """

    def __init__(self, folder: Path, process: int):
        self._found: dict[tuple[str, str], object] = {}
        for file in sorted(folder.glob("*.jsonl")):
            self._read(file)
        self._path = folder / f"{process:05d}.jsonl"
        self._file: BinaryIO | None = None

    def _read(self, file: Path) -> None:
        for line in file.read_bytes().splitlines():
            try:
                key, kind, value = json.loads(line)
            except ValueError:  # cut short when the process was killed
                continue
            self._found[key, kind] = value

    def get(self, key: str, kind: str):
        """What was found, or None."""
        return self._found.get((key, kind))

    def add(self, kind: str, values: dict[str, object]) -> None:
        """Remember values of one kind by key, on disk too."""
        if self._file is None:
            cut_short = self._path.is_file() and not self._path.read_bytes().endswith(b"\n")
            self._file = open(self._path, "ab")
            self._file.write(b"\n" if cut_short else b"")
        for key, value in values.items():
            self._file.write(json.dumps([key, kind, value]).encode() + b"\n")
            self._found[key, kind] = value
        self._file.flush()

    def close(self) -> None:
        """Close the file, if anything was added."""
        if self._file is not None:
            self._file.close()


def key_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def find_measures(data: bytes, key: str, findings: Findings) -> tuple[dict, Image.Image | None]:
    """Measures of an image, and the photograph if it had to be decoded for them."""
    measures, photo = findings.get(key, MEASURES), None
    if measures is None:
        try:
            photo = upright(open_photo(data))
            measures = measure(photo)
        except UnreadablePhoto as error:
            measures = {"error": error.cause}
        except MemoryError:  # no fault of the photograph
            raise
        except Exception as error:  # nor is one photograph worth the run
            measures, photo = {"error": explain(error)}, None
        findings.add(MEASURES, {key: measures})
    return measures, photo


def examine(
    split: datasets.Dataset,
    indices: list[int],
    findings: Findings,
    filters: Filters,
    caption_model: str | None,
    captioner: "LazyCaptioner",
    batch_size: int,
    progress: tqdm,
) -> None:
    """Measure the photographs with these indices and caption those that are kept, unless that is known already."""
    pending: dict[str, Image.Image] = {}

    def caption() -> None:
        if pending:
            texts = captioner(list(pending.values()), batch_size)
            findings.add(caption_model, dict(zip(pending, texts, strict=True)))
            pending.clear()

    images = split.select_columns("image")
    for index in indices:
        progress.update()
        try:
            data = image_bytes(images[index]["image"])
        except UnreadablePhoto:
            continue  # named when the data set is written
        key = key_of(data)
        measures, photo = find_measures(data, key, findings)
        if caption_model is None or filters.verdict(measures) != "kept":
            continue
        if findings.get(key, caption_model) is None and key not in pending:
            pending[key] = photo or upright(open_photo(data))
            if len(pending) == batch_size:
                caption()
    caption()


class LazyCaptioner:
    """A BLIP captioner that is loaded when it is first needed: not at all if all captions are there."""

    def __init__(self, model: str | None, device: torch.device):
        self._model, self._device, self._captioner = model, device, None
        self.captioned = 0

    def __call__(self, photos: list[Image.Image], batch_size: int) -> list[str]:
        if self._captioner is None:
            self._captioner = load_captioner(self._model, device=self._device)
        self.captioned += len(photos)
        return self._captioner(photos, batch_size=batch_size)
