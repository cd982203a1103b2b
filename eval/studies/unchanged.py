"""Is anything but color changed? Photographs and their results, measured as `colorize verify` does.

python -m eval study unchanged --run --photos data/free-photos
"""

import argparse
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps
from tqdm import tqdm

from colorization.image_io import read_image, write_image
from colorization.loading import load_pipeline
from colorization.verification import LIGHTNESS_LIMIT, Verification, verify

from ..files import PACKAGES, package_versions
from ..runs import OUTPUT
from .ledger import Entry, read_entries, record

STUDY = "unchanged"
RESULT_KINDS = ("jpg", "png", "webp", "tiff")
_SIDE = 384  # pixels of the copies in other kinds of files
_OF_EACH_KIND = 3  # photographs
_TITLES = {
    "lightness": "mean \\|ΔL*\\| (CIELAB, in gray)",
    "luminance": "mean difference of luminance, of 255",
    "luminance_max": "largest",
    "luminance_share": "pixels over 1 of 255",
    "displaced": "displaced",
    "metadata_lost": "metadata lost",
    "chroma_edges": "chroma edges at edges of luminance",
}


def _save_rotated(picture: Image.Image, file: Path) -> None:
    exif = Image.Exif()
    exif.update({ExifTags.Base.Orientation: 6, ExifTags.Base.Artist: "A. Photographer"})
    picture.transpose(Image.Transpose.ROTATE_90).save(file, exif=exif, quality=90, dpi=(300, 300))


def _with_alpha(picture: Image.Image) -> Image.Image:
    width, height = picture.size
    picture = picture.copy()
    picture.putalpha(Image.fromarray(np.tile(np.linspace(0, 255, width).astype(np.uint8), (height, 1))))
    return picture


def _sixteen_bits(picture: Image.Image) -> Image.Image:
    return Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257 + 100)


def _saved(suffix: str, convert: Callable[[Image.Image], Image.Image], **options) -> tuple[str, Callable]:
    return suffix, lambda picture, file: convert(picture).save(file, **options)


def _gray(picture: Image.Image) -> Image.Image:
    return ImageOps.grayscale(picture)


# The kinds of files that the tests read, by name: suffix, and how a photograph is written.
INPUT_KINDS: dict[str, tuple[str, Callable[[Image.Image, Path], None]]] = {
    "gray JPEG": _saved("jpg", _gray, quality=90),
    "rotated JPEG": ("jpg", _save_rotated),
    "CMYK JPEG": _saved("jpg", lambda picture: picture.convert("CMYK"), quality=90),
    "gray PNG": _saved("png", _gray),
    "16-bit PNG": _saved("png", _sixteen_bits),
    "PNG with transparency": _saved("png", _with_alpha),
    "palette PNG": _saved("png", lambda picture: picture.quantize(64)),
    "black and white PNG": _saved("png", lambda picture: picture.convert("1")),
    "gray TIFF": _saved("tif", _gray),
    "16-bit TIFF": _saved("tif", _sixteen_bits),
    "LZW TIFF": _saved("tif", lambda picture: picture, compression="tiff_lzw"),
    "WebP": _saved("webp", lambda picture: picture, quality=90),
    "WebP with transparency": _saved("webp", _with_alpha, lossless=True),
    "AVIF": _saved("avif", lambda picture: picture, quality=90),
    "GIF": _saved("gif", lambda picture: picture.quantize(64)),
    "BMP": _saved("bmp", lambda picture: picture),
    "PPM": _saved("ppm", lambda picture: picture),
}


def measure(photos: Sequence[Path], of_each_kind: int = _OF_EACH_KIND) -> list[Entry]:
    """Color photographs with the shipped model and compare, for each kind of result and of input.

    Args:
        photos: files.
        of_each_kind: how many of them are copied into each kind of input.
    """
    pipeline = load_pipeline("embedded", device="cpu")
    pipeline.set_progress_bar_config(disable=True)
    measured: dict[str, list[Verification]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file in tqdm(photos, unit="photo"):
            for kind, found in _results_of(pipeline, file, folder, RESULT_KINDS).items():
                measured.setdefault(f"to {kind}", []).append(found)
        for file in tqdm(photos[:of_each_kind], unit="photo"):
            with Image.open(file) as picture:
                small = ImageOps.contain(picture.convert("RGB"), (_SIDE, _SIDE))
            for kind, (suffix, write) in INPUT_KINDS.items():
                copy = folder / f"in.{suffix}"
                write(small, copy)
                # As the command line: the input's kind, or PNG.
                to = suffix if suffix in ("jpg", "webp") else "png"
                (found,) = _results_of(pipeline, copy, folder, [to]).values()
                measured.setdefault(f"from {kind}", []).append(found)
    return [_entry(run, found) for run, found in measured.items()]


def _results_of(pipeline, file: Path, folder: Path, kinds: Sequence[str]) -> dict[str, Verification]:
    photo = read_image(file)
    prediction = pipeline(photo, output_type="chroma").images[0]
    pixels, found = prediction.render(photo.luma), {}
    for kind in kinds:
        result = folder / f"out.{kind}"
        write_image(result, pixels, photo, prediction.record)
        found[kind] = verify(file, result)
    return found


def _entry(run: str, found: Sequence[Verification]) -> Entry:
    edges = [one.chroma_edges[0] for one in found if one.chroma_edges is not None]
    values = {
        "lightness": float(np.mean([one.lightness_mean for one in found])),
        "luminance": float(np.mean([one.luminance_mean for one in found])),
        "luminance_max": float(max(one.luminance_max for one in found)),
        "luminance_share": float(np.mean([one.luminance_share for one in found])),
        "displaced": sum(one.shift != (0, 0) for one in found),
        "metadata_lost": sum(bool(one.lost) for one in found),
        "chroma_edges": float(np.mean(edges)) if edges else None,
    }
    rows = {OUTPUT: {name: {"value": value, "n": len(found)} for name, value in values.items()}}
    data = {"name": "free-photos", "n": len(found)}
    return Entry(STUDY, run, data=data, rows=rows, versions=package_versions(PACKAGES))


# What is shown


def show(entries: Sequence[Entry]) -> str:
    """The table of all kinds, and whether all are within the limit, as Markdown."""
    order = [f"to {kind}" for kind in RESULT_KINDS] + [f"from {kind}" for kind in INPUT_KINDS]
    by_run = {entry.run: entry for entry in entries}
    shown = [by_run[run] for run in order if run in by_run]
    if not shown:
        return "not measured yet"
    lines = [f"| files | n | {' | '.join(_TITLES.values())} |", "|---" * (len(_TITLES) + 2) + "|"]
    for entry in shown:
        values = {name: metric["value"] for name, metric in entry.metrics.items()}
        edges = values["chroma_edges"]
        cells = [
            f"{values['lightness']:.3f}",
            f"{values['luminance']:.3f}",
            f"{values['luminance_max']:.1f}",
            f"{values['luminance_share']:.2%}",
            str(values["displaced"]),
            str(values["metadata_lost"]),
            "" if edges is None else f"{edges:.0%}",
        ]
        lines.append(f"| {entry.run} | {entry.data['n']} | {' | '.join(cells)} |")
    worst = max(shown, key=lambda entry: entry.metrics["lightness"]["value"])
    value = worst.metrics["lightness"]["value"]
    verdict = "At most" if value <= LIGHTNESS_LIMIT else "**More than**"
    sentence = f"{verdict} {LIGHTNESS_LIMIT} everywhere; most in files {worst.run}: {value:.3f}."
    return "\n".join([*lines, "", sentence])


# Command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this study."""
    parser.add_argument("--run", action="store_true", help="measure before printing")
    parser.add_argument(
        "--photos", type=Path, default=Path("data/free-photos"), metavar="DIR", help="default: data/free-photos"
    )
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N photographs")


def run(arguments: argparse.Namespace) -> int:
    """Measure where asked for, and print what the ledger holds; returns the exit status."""
    if arguments.run:
        photos = sorted(arguments.photos.glob("*.jpg"))[: arguments.limit]
        if not photos:
            raise ValueError(f"argument --photos: no *.jpg in {arguments.photos}")
        record(measure(photos), arguments.ledger, lambda entry: entry.study == STUDY)
    print(show(read_entries(STUDY, arguments.ledger)))
    return 0
