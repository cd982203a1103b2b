"""The rows of a data set and the parquet files that hold them."""

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from colorization.captioning import CAPTION_MODELS
from colorization.color_words import compose_caption

from ..sources import Source, UnreadablePhoto, file_name, image_bytes, open_photo, own_caption
from .findings import MEASURES, Findings, find_measures, key_of
from .forms import draw_caption
from .measures import Counts, Filters, upright

PALETTE, FORMS, NO_CAPTIONER = "palette", "forms", "none"

_SHARD_BYTES = 500_000_000
_ROW_GROUP_BYTES = 32_000_000  # of images; readers hold a row group in memory
_PICTURES, _PICTURE_SIDE = 3, 256


@dataclass(frozen=True)
class Captions:
    """How captions are made.

    Args:
        model: name of the BLIP model, or None.
        palette: whether measured color words are used: appended to BLIP's caption, or with the label instead of it.
        forms: whether each caption has a form of its own, with measured color words; drawn by the photograph's bytes.
    """

    model: str | None = None
    palette: bool = False
    forms: bool = False

    @classmethod
    def parse(cls, names: list[str]) -> "Captions":
        """From the names given to `--captioner`; ValueError if they do not go together."""
        models = [name for name in dict.fromkeys(names) if name not in (PALETTE, FORMS, NO_CAPTIONER)]
        if len(models) > 1:
            raise ValueError(f"only one model can write captions, got {' and '.join(models)}")
        if NO_CAPTIONER in names and set(names) != {NO_CAPTIONER}:
            raise ValueError(f"{NO_CAPTIONER!r} cannot be combined with others")
        if PALETTE in names and FORMS in names:
            raise ValueError(f"only one of {PALETTE!r} and {FORMS!r} can be named: both use the measured color words")
        model = CAPTION_MODELS.get(models[0], models[0]) if models else None
        return cls(model, PALETTE in names, FORMS in names)

    @property
    def model_name(self) -> str | None:
        """The model as others should know it: a Hub id, or the last part of a local path."""
        return Path(self.model).resolve().name if self.model and Path(self.model).is_dir() else self.model

    @property
    def description(self) -> str:
        """For the data set's card."""
        measured = "color words measured from the pixels (of the middle and of the border)"
        base = f"Written by `{self.model_name}` from the color photograph (beam search, no sampling)"
        if self.forms:
            base = base if self.model else "The source's own, or else the label"
            return f"{base}, with {measured}, each in one of several forms."
        if self.model:
            return f"{base}, with {measured} appended." if self.palette else f"{base}."
        return f"The label with {measured}." if self.palette else "The source's own, empty where it has none."

    def of(self, row: dict, key: str, label: str, findings: Findings) -> tuple[str, str]:
        """Caption of a row and what made it."""
        own = own_caption(row)
        if not self.model and not self.palette and not self.forms:
            return (own, "source") if own else ("", NO_CAPTIONER)
        caption = findings.get(key, self.model) if self.model else None
        if self.forms:
            caption = own if caption is None else caption
            rng = np.random.default_rng(int(key, 16))  # the same photograph always gets the same form
            caption = draw_caption(rng, label, *findings.get(key, MEASURES)["palette"], caption)
        elif self.palette:
            (color, *_), (background, *_) = findings.get(key, MEASURES)["palette"]
            colors = compose_caption(color, background, "" if self.model else label)
            caption = f"{caption}, {colors}" if caption else colors
        made_by = [self.model_name, PALETTE if self.palette else None, FORMS if self.forms else None]
        return caption, "+".join(filter(None, made_by))


def output_features(split: datasets.Dataset) -> datasets.Features:
    label = split.features.get("label")
    return datasets.Features(
        {
            "image": datasets.Image(),
            "label": label if isinstance(label, datasets.ClassLabel | datasets.Value) else datasets.Value("string"),
            "caption": datasets.Value("string"),
            "caption_source": datasets.Value("string"),
            "saturation": datasets.Value("float32"),
            "colorfulness": datasets.Value("float32"),
        }
    )


def _label_text(label, feature) -> str:
    """A label as words for a caption; numbers without names say nothing."""
    if isinstance(feature, datasets.ClassLabel):
        return feature.int2str(label) if label is not None and label >= 0 else ""
    return label if isinstance(label, str) else ""


def make_rows(
    split: datasets.Dataset,
    name: str,
    length: int,
    findings: Findings,
    filters: Filters,
    captions: Captions,
    counts: Counts,
) -> Iterator[dict]:
    """The rows to write; counts all, and names what cannot be read."""
    feature = output_features(split)["label"]
    for index in tqdm(range(length), desc=f"writing {name}", unit="photo"):
        row = split[index]
        data = measures = None
        try:
            data = image_bytes(row["image"])
            measures, _ = find_measures(data, key_of(data), findings)
        except UnreadablePhoto as error:
            measures = {"error": error.cause}
        verdict = filters.verdict(measures)
        counts.add(verdict)
        if verdict == "unreadable":
            file = file_name(row["image"], "")
            tqdm.write(f"failed: {name} {index}: {file and f'{file}: '}{measures['error']}", file=sys.stderr)
        if verdict != "kept":
            continue
        label = row.get("label")
        caption, source = captions.of(row, key_of(data), _label_text(label, feature), findings)
        path = row["image"].get("path")
        if feature == datasets.Value("string"):
            label = label if isinstance(label, str) else ""
        yield {
            "image": {"bytes": data, "path": path and os.path.basename(path)},
            "label": label,
            "caption": caption,
            "caption_source": source,
            "saturation": measures["saturation"],
            "colorfulness": measures["colorfulness"],
        }


@dataclass
class ShardWriter:
    """Parquet files of limited size for one split."""

    folder: Path
    name: str
    schema: pa.Schema
    files: list[Path] = field(default_factory=list)
    _writer: pq.ParquetWriter | None = None
    _rows: list[dict] = field(default_factory=list)
    _pending: int = 0
    _written: int = 0

    def add(self, row: dict) -> None:
        self._rows.append(row)
        self._pending += len(row["image"]["bytes"])
        if self._pending >= _ROW_GROUP_BYTES:
            self._flush()

    def _flush(self) -> None:
        if not self._rows:
            return
        if self._writer is None:
            self.files.append(self.folder / f"{self.name}-{len(self.files):05d}.parquet")
            self._writer = pq.ParquetWriter(self.files[-1], self.schema)
        self._writer.write_table(pa.Table.from_pylist(self._rows, schema=self.schema))
        self._written += self._pending
        self._rows, self._pending = [], 0
        if self._written >= _SHARD_BYTES:
            self._close()

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writer, self._written = None, 0

    def finish(self) -> None:
        """Close the last file and give all their final names, which tell how many there are."""
        self._flush()
        self._close()
        for index, file in enumerate(self.files):
            file.rename(self.folder / f"{self.name}-{index:05d}-of-{len(self.files):05d}.parquet")


def write_splits(
    splits: Source, lengths: dict[str, int], work: Path, findings: Findings, filters: Filters, captions: Captions
) -> tuple[dict[str, Counts], list[dict]]:
    """Write `work/data` and `work/pictures`; give the counts and what the card says of the pictures."""
    for part in ("data", "pictures"):
        shutil.rmtree(work / part, ignore_errors=True)
        (work / part).mkdir()
    counts, pictures = {}, []
    for name, split in splits.items():
        counts[name] = Counts()
        writer = ShardWriter(work / "data", name, output_features(split).arrow_schema)
        for row in make_rows(split, name, lengths[name], findings, filters, captions, counts[name]):
            writer.add(row)
            if len(pictures) < _PICTURES:
                file = f"pictures/{len(pictures) + 1}.jpg"
                photo = upright(open_photo(row["image"]["bytes"]))
                photo.thumbnail((_PICTURE_SIDE, _PICTURE_SIDE))
                photo.save(work / file, quality=90)
                pictures.append({"file": file, "caption": row["caption"].replace("|", "/")})
        writer.finish()
    return counts, pictures
