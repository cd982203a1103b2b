"""`python -m train.build_dataset`: filter and caption photographs, write them as a data set, publish it.

Every process measures and captions its share and appends what it found to a file of its own, batch by batch; then the
main process writes parquet files. The findings are kept by the sha256 of the image bytes, so a run that was killed
goes on where it stopped when the same command is given again, with any number of processes.
"""

import argparse
import hashlib
import io
import json
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import BinaryIO

import datasets
import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from accelerate import PartialState
from huggingface_hub import DatasetCard, DatasetCardData, HfApi
from PIL import Image, ImageOps
from tqdm import tqdm

from colorization.captioning import CAPTION_MODELS, load_captioner
from colorization.color import colorfulness
from colorization.color_words import compose_caption, object_and_background_colors, to_rgb
from colorization.command_line import Parser, at_least
from colorization.loading import default_device as default_device

from .sources import Source, image_bytes, is_local, load_source

GRAY_LIMIT = 12  # of 255; JPEG compression gives gray photographs differences of a few units
MEASURED_SIDE = 512  # pixels
PALETTE, NO_CAPTIONER = "palette", "none"

_TEMPLATE = Path(__file__).parent / "templates" / "dataset_card.md"
_UPLOADED = ["README.md", "report.json", "data/*.parquet", "pictures/*.jpg"]
_SHARD_BYTES = 500_000_000
_ROW_GROUP_BYTES = 32_000_000  # of images; readers hold a row group in memory
_PICTURES, _PICTURE_SIDE = 3, 256
_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM")  # Pillow's plain raster formats
_IMAGE_ERRORS = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)

_WORK = ".work"  # folder of what is not finished, never uploaded
_EXAMPLES = """examples:
  python -m train.build_dataset --source frgfm/imagenette --output data/imagenette --captioner blip-large,palette
  python -m train.build_dataset --source photos/ --output data/photos --captioner palette --min-colorfulness 15
  accelerate launch -m train.build_dataset --source frgfm/imagenette --output data/imagenette --push-to-hub user/name

The same command again goes on where the last one was stopped.
exit status: 0 all done, 1 some photographs cannot be read (each is named, the others are done), 2 bad arguments"""


@dataclass(frozen=True)
class Filters:
    """Which photographs are kept, by their measures."""

    min_saturation: float = 0.18
    min_colorfulness: float | None = None

    def verdict(self, measures: dict) -> str:
        """ "kept", or the first reason against a photograph."""
        if "error" in measures:
            return "unreadable"
        if measures["channel_difference"] <= GRAY_LIMIT:
            return "gray"
        if measures["saturation"] < self.min_saturation:
            return "unsaturated"
        if self.min_colorfulness is not None and measures["colorfulness"] < self.min_colorfulness:
            return "not_colorful"
        return "kept"


@dataclass
class Counts:
    """What became of the photographs of a split."""

    read: int = 0
    unreadable: int = 0
    gray: int = 0
    unsaturated: int = 0
    not_colorful: int = 0
    kept: int = 0

    def add(self, verdict: str) -> None:
        self.read += 1
        setattr(self, verdict, getattr(self, verdict) + 1)


# Measures


def open_photo(data: bytes) -> Image.Image:
    """An upright RGB photograph from its file's bytes; OSError and the like if it cannot be decoded."""
    with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
        return to_rgb(ImageOps.exif_transpose(image))


def measure(photo: Image.Image) -> dict:
    """What the filters and captions need to know of a photograph, at `MEASURED_SIDE` at most.

    Returns:
        "saturation": mean HSV saturation in [0, 1]; "colorfulness" of Hasler and Suesstrunk; "channel_difference":
        99th percentile of the difference between a pixel's largest and smallest channel, 0 to 255; "palette": color
        words of object and background.
    """
    small = photo.copy()
    small.thumbnail((MEASURED_SIDE, MEASURED_SIDE), Image.Resampling.BOX)
    rgb = np.array(small)
    largest = rgb.max(axis=-1).astype(np.float32)
    difference = largest - rgb.min(axis=-1)
    tensor = torch.from_numpy(rgb).permute(2, 0, 1)[None] / 255
    return {
        "saturation": float((difference / np.maximum(largest, 1)).mean()),
        "colorfulness": float(colorfulness(tensor)),
        "channel_difference": float(np.percentile(difference, 99)),
        "palette": object_and_background_colors(photo),
    }


# Findings, kept on disk


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


def _key(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _measures(data: bytes, key: str, findings: Findings) -> tuple[dict, Image.Image | None]:
    """Measures of an image, and the photograph if it had to be decoded for them."""
    measures, photo = findings.get(key, "measures"), None
    if measures is None:
        try:
            photo = open_photo(data)
            measures = measure(photo)
        except _IMAGE_ERRORS as error:
            measures = {"error": " ".join(str(error).split()) or type(error).__name__}
        findings.add("measures", {key: measures})
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
        except OSError:
            continue  # named when the data set is written
        key = _key(data)
        measures, photo = _measures(data, key, findings)
        if caption_model is None or filters.verdict(measures) != "kept":
            continue
        if findings.get(key, caption_model) is None and key not in pending:
            pending[key] = photo or open_photo(data)
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


# Rows


@dataclass(frozen=True)
class Captions:
    """How captions are made.

    Args:
        model: name of the BLIP model, or None.
        palette: whether measured color words are used: appended to BLIP's caption, or with the label instead of it.
    """

    model: str | None = None
    palette: bool = False

    @classmethod
    def parse(cls, names: list[str]) -> "Captions":
        """From the names given to `--captioner`; ValueError if they do not go together."""
        models = [name for name in dict.fromkeys(names) if name not in (PALETTE, NO_CAPTIONER)]
        if len(models) > 1:
            raise ValueError(f"only one model can write captions, got {' and '.join(models)}")
        if NO_CAPTIONER in names and set(names) != {NO_CAPTIONER}:
            raise ValueError(f"{NO_CAPTIONER!r} cannot be combined with others")
        model = CAPTION_MODELS.get(models[0], models[0]) if models else None
        return cls(model, PALETTE in names)

    @property
    def model_name(self) -> str | None:
        """The model as others should know it: a Hub id, or the last part of a local path."""
        return Path(self.model).resolve().name if self.model and Path(self.model).is_dir() else self.model

    @property
    def description(self) -> str:
        """For the data set's card."""
        measured = "color words measured from the pixels (of the middle and of the border)"
        if self.model:
            text = f"Written by `{self.model_name}` from the color photograph (beam search, no sampling)"
            return f"{text}, with {measured} appended." if self.palette else f"{text}."
        return f"The label with {measured}." if self.palette else "The source's own, empty where it has none."

    def of(self, row: dict, key: str, label: str, findings: Findings) -> tuple[str, str]:
        """Caption of a row and what made it."""
        if not self.model and not self.palette:
            caption = row.get("caption")
            return (caption, "source") if isinstance(caption, str) and caption else ("", NO_CAPTIONER)
        caption = findings.get(key, self.model) if self.model else None
        if self.palette:
            palette = findings.get(key, "measures")["palette"]
            colors = compose_caption(*palette, "" if self.model else label)
            caption = f"{caption}, {colors}" if caption else colors
        return caption, "+".join(filter(None, [self.model_name, PALETTE if self.palette else None]))


def _output_features(split: datasets.Dataset) -> datasets.Features:
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


def _rows(
    split: datasets.Dataset,
    name: str,
    length: int,
    findings: Findings,
    filters: Filters,
    captions: Captions,
    counts: Counts,
) -> Iterator[dict]:
    """The rows to write; counts all, and names what cannot be read."""
    feature = _output_features(split)["label"]
    for index in tqdm(range(length), desc=f"writing {name}", unit="photo"):
        row = split[index]
        data = measures = None
        try:
            data = image_bytes(row["image"])
            measures, _ = _measures(data, _key(data), findings)
        except OSError as error:
            measures = {"error": " ".join(str(error).split())}
        verdict = filters.verdict(measures)
        counts.add(verdict)
        if verdict == "unreadable":
            tqdm.write(f"failed: {name} {index}: {measures['error']}", file=sys.stderr)
        if verdict != "kept":
            continue
        label = row.get("label")
        caption, source = captions.of(row, _key(data), _label_text(label, feature), findings)
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


# Files


@dataclass
class _ShardWriter:
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


def _write_splits(
    splits: Source, lengths: dict[str, int], work: Path, findings: Findings, filters: Filters, captions: Captions
) -> tuple[dict[str, Counts], list[dict]]:
    """Write `work/data` and `work/pictures`; give the counts and what the card says of the pictures."""
    for part in ("data", "pictures"):
        shutil.rmtree(work / part, ignore_errors=True)
        (work / part).mkdir()
    counts, pictures = {}, []
    for name, split in splits.items():
        counts[name] = Counts()
        writer = _ShardWriter(work / "data", name, _output_features(split).arrow_schema)
        for row in _rows(split, name, lengths[name], findings, filters, captions, counts[name]):
            writer.add(row)
            if len(pictures) < _PICTURES:
                file = f"pictures/{len(pictures) + 1}.jpg"
                photo = open_photo(row["image"]["bytes"])
                photo.thumbnail((_PICTURE_SIDE, _PICTURE_SIDE))
                photo.save(work / file, quality=90)
                pictures.append({"file": file, "caption": row["caption"].replace("|", "/")})
        writer.finish()
    return counts, pictures


def _write_card(
    path: Path, report: dict, pictures: list[dict], captions: Captions, repository: str, hub_source: bool
) -> None:
    """The data set's README.md, whose front matter also says which file belongs to which split."""
    kept = {name: counts["kept"] for name, counts in report["splits"].items() if counts["kept"]}
    # `load_dataset` keeps what it read by the front matter: the sizes tell it that a folder was built anew.
    sizes = {name: sum(file.stat().st_size for file in path.parent.glob(f"data/{name}-*.parquet")) for name in kept}
    data = DatasetCardData(
        license=report["license"],
        task_categories=["image-to-image", "text-to-image"],
        tags=["colorization"],
        dataset_info={
            "splits": [{"name": name, "num_bytes": sizes[name], "num_examples": kept[name]} for name in kept],
            "download_size": sum(sizes.values()),
            "dataset_size": sum(sizes.values()),
        },
        source_datasets=[report["source"]] if hub_source else None,
        configs=[
            {
                "config_name": "default",
                "data_files": [{"split": name, "path": f"data/{name}-*.parquet"} for name in kept],
            }
        ],
    )
    card = DatasetCard.from_template(
        data,
        template_path=str(_TEMPLATE),
        **{**report, "pictures": pictures, "caption_text": captions.description, "repository": repository},
    )
    path.write_text(str(card), encoding="utf-8")


def _publish_files(work: Path, output: Path) -> None:
    """Move what was built to its place; the report comes last, it marks a complete data set."""
    for part in ("data", "pictures"):
        shutil.rmtree(output / part, ignore_errors=True)
        (work / part).rename(output / part)
    for part in ("README.md", "report.json"):
        (work / part).replace(output / part)


def _license_of(source: str, splits: Source) -> str:
    """The license that a source on the Hub states; "unknown" if it states none or is local."""
    if is_local(source):
        return "unknown"
    stated = next(iter(splits.values())).info.license
    if not stated:
        try:
            stated = getattr(HfApi().dataset_info(source).card_data, "license", None)
        except (OSError, ValueError):
            stated = None
    return (stated[0] if isinstance(stated, list) else stated) or "unknown"


# Main


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m train.build_dataset",
        description="Filter photographs for color, caption them and write them as a data set.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--source", required=True, metavar="S", help="Hub id, folder of images or parquet, or glob")
    parser.add_argument("--config", metavar="C", help="configuration (subset) of the source")
    parser.add_argument("--revision", metavar="R", help="branch, tag or commit of the source on the Hub")
    parser.add_argument("--split", nargs="+", metavar="NAME", help="splits to take (default: all)")
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="folder for the data set")
    parser.add_argument(
        "--captioner",
        action="append",
        metavar="NAME",
        help="blip-large, blip-base, another BLIP's Hub id or folder; palette: color words measured from the pixels, "
        "with the label, or appended to BLIP's caption if both are named (blip-large,palette); none: the source's "
        "own captions (default: blip-large)",
    )
    parser.add_argument(
        "--min-saturation",
        type=at_least(0, float),
        default=0.18,
        metavar="X",
        help="leave out photographs of a lower mean HSV saturation (default: 0.18)",
    )
    parser.add_argument(
        "--min-colorfulness",
        type=at_least(0, float),
        metavar="X",
        help="leave out photographs of a lower colorfulness, for example 15 (default: off)",
    )
    parser.add_argument(
        "--batch-size", type=at_least(1), default=8, metavar="N", help="photographs captioned at once (default: 8)"
    )
    parser.add_argument("--limit", type=at_least(1), metavar="N", help="only the first N photographs of every split")
    parser.add_argument("--license", metavar="ID", help="license for the card (default: what the source states)")
    parser.add_argument("--push-to-hub", metavar="USER/NAME", help="also upload the data set")
    parser.add_argument("--private", action="store_true", help="make the uploaded data set private")
    return parser


def _check_output(output: Path, source: str) -> None:
    if output.exists() and not output.is_dir():
        raise ValueError(f"argument --output: {output} is a file, not a folder")
    if output.resolve() == Path(source).resolve():
        raise ValueError("argument --output: must not be the source")
    ours = (output / "report.json").is_file() or (output / _WORK).is_dir()  # finished, or stopped on the way
    if (output / "data").exists() and not ours:
        raise ValueError(f"argument --output: {output} has a folder data/ that this command did not write")


def _load(arguments: argparse.Namespace, state: PartialState) -> Source:
    with state.main_process_first():  # the others find the data in the cache
        splits = load_source(arguments.source, arguments.config, arguments.revision)
    unknown = [name for name in arguments.split or () if name not in splits]
    if unknown:
        raise ValueError(f"argument --split: must be among {', '.join(splits)}, got {unknown[0]}")
    return {name: split for name, split in splits.items() if name in (arguments.split or splits)}


def _examine_all(
    arguments: argparse.Namespace,
    state: PartialState,
    splits: Source,
    lengths: dict[str, int],
    folder: Path,
    filters: Filters,
    captions: Captions,
) -> int:
    """Measure and caption this process's share of every split; the number of captions that were written."""
    findings = Findings(folder, state.process_index)
    state.wait_for_everyone()  # all have read the files before any of them grows
    captioner = LazyCaptioner(captions.model, state.device)
    for name, split in splits.items():
        with state.split_between_processes(list(range(lengths[name]))) as indices:
            with tqdm(total=len(indices), desc=name, unit="photo", disable=not state.is_main_process) as progress:
                examine(split, indices, findings, filters, captions.model, captioner, arguments.batch_size, progress)
    findings.close()
    state.wait_for_everyone()
    return captioner.captioned


def _finish(
    arguments: argparse.Namespace,
    splits: Source,
    lengths: dict[str, int],
    folder: Path,
    filters: Filters,
    captions: Captions,
) -> dict:
    """Write the data set from what all processes found; the report."""
    output, work = arguments.output, arguments.output / _WORK
    findings = Findings(folder, 0)
    counts, pictures = _write_splits(splits, lengths, work, findings, filters, captions)
    findings.close()
    if not any(count.kept for count in counts.values()):
        raise ValueError(f"the filters left no photograph of {sum(lengths.values())}; nothing was written")
    report = {
        "source": arguments.source,
        "config": arguments.config,
        "revision": arguments.revision,
        "license": arguments.license or _license_of(arguments.source, splits),
        "captioner": captions.model_name,
        "palette": captions.palette,
        "min_saturation": filters.min_saturation,
        "min_colorfulness": filters.min_colorfulness,
        "gray_limit": GRAY_LIMIT,
        "measured_side": MEASURED_SIDE,
        "limit": arguments.limit,
        "splits": {name: asdict(count) for name, count in counts.items()},
    }
    if is_local(arguments.source):  # where it lies here is nobody else's business
        report["source"] = Path(arguments.source).resolve().name
    repository = arguments.push_to_hub or "path/to/this/folder"
    _write_card(work / "README.md", report, pictures, captions, repository, not is_local(arguments.source))
    (work / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    _publish_files(work, output)
    return report


def _upload(output: Path, repository: str) -> None:
    """Upload exactly the data set's files; parquet files of an earlier version go."""
    HfApi().upload_folder(
        repo_id=repository,
        repo_type="dataset",
        folder_path=output,
        allow_patterns=_UPLOADED,
        delete_patterns=["data/*.parquet"],
        commit_message="Upload captioned photographs",
    )


def _print_report(report: dict, output: Path) -> None:
    for name, counts in report["splits"].items():
        reasons = ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in counts.items())
        print(f"{name}: {reasons}")
    print(f"-> {output}")


def _run(arguments: argparse.Namespace, state: PartialState) -> int:
    """The command, with ValueError and OSError for what the user can mend; the exit status."""
    captions = Captions.parse([name for group in arguments.captioner or ["blip-large"] for name in group.split(",")])
    filters = Filters(arguments.min_saturation, arguments.min_colorfulness)
    output = arguments.output
    _check_output(output, arguments.source)
    if arguments.push_to_hub and state.is_main_process:  # before hours of captioning, not after
        HfApi().create_repo(arguments.push_to_hub, repo_type="dataset", private=arguments.private, exist_ok=True)
    splits = _load(arguments, state)
    lengths = {name: min(len(split), arguments.limit or len(split)) for name, split in splits.items()}

    folder = output / _WORK / "findings"
    folder.mkdir(parents=True, exist_ok=True)
    captioned = _examine_all(arguments, state, splits, lengths, folder, filters, captions)
    if not state.is_main_process:
        return 0
    report = _finish(arguments, splits, lengths, folder, filters, captions)
    if captions.model:
        print(f"{captioned} captions written by this process, the others were there or made by other processes")
    _print_report(report, output)
    if arguments.push_to_hub:
        _upload(output, arguments.push_to_hub)
        print(f"uploaded to {arguments.push_to_hub}")
    return 1 if any(counts["unreadable"] for counts in report["splits"].values()) else 0


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = build_parser()
    arguments = parser.parse_args(argv)
    # Without this, accelerate starts no process group on machines that have no accelerator.
    state = PartialState(cpu=default_device().type == "cpu")
    datasets.disable_progress_bars()
    try:
        return _run(arguments, state)
    except (ValueError, OSError, httpx.TransportError) as error:
        parser.error(" ".join(str(error).split()))
    except KeyboardInterrupt:
        print("interrupted: the same command goes on where this one stopped", file=sys.stderr)
        return 130
    finally:
        state.destroy_process_group()


if __name__ == "__main__":
    sys.exit(main())
