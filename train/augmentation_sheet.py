"""`python -m train.augmentation_sheet`: a contact sheet of what the augmentation does to photographs."""

import argparse
import itertools
import os
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import torch
import torchvision.transforms.v2.functional as F
from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

from colorization.command_line import Parser, at_least
from colorization.degradation import to_gray
from colorization.errors import one_line

from .sources import load_source, read_photo
from .transforms import MIN_RESOLUTION, TransformConfig, prepare_image, prepare_with_operations, sample_rng

_EXAMPLES = """example:
  python -m train.augmentation_sheet --source examples --output sheet.jpg --count 4 --variants 6

exit status: 0 drawn, 1 drawn without the pictures that failed (each is named), 2 bad arguments"""
_SHEET_FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP"}
_MAX_SHEET_SIDE = 16383  # pixels, the limit of WebP; JPEG's is 65535
_GAP = 8
_CAPTION_HEIGHT = 20


def _to_pil(image: torch.Tensor) -> Image.Image:
    """PIL image of `(3, height, width)` in [-1, 1]."""
    return F.to_pil_image(((image + 1) * 127.5).round().to(torch.uint8))


def _row_pictures(image: Image.Image, config: TransformConfig, seed: int, index: int, variants: int) -> Iterator:
    """(picture, caption) of the untouched center crop, then of each variant, color and gray side by side."""
    untouched = TransformConfig(config.resolution, "center", 0, 0)
    yield _to_pil(prepare_image(image, untouched, sample_rng(seed, "sheet", index))), "untouched"
    for variant in range(variants):
        pixels, operations = prepare_with_operations(image, config, sample_rng(seed, "sheet", index, variant))
        pair = torch.cat([pixels, to_gray(pixels[None])[0]], dim=-1)
        yield _to_pil(pair), ", ".join(map(str, operations)) or "crop only"


def _draw_row(pictures: Iterator[tuple[Image.Image, str]], width: int, height: int) -> Image.Image:
    """One row of the sheet: pictures with their captions below, from left to right."""
    row = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(row)
    font = ImageFont.load_default(11)
    left = _GAP
    for picture, caption in pictures:
        row.paste(picture, (left, _GAP))
        draw.text((left, _GAP + picture.height + 2), caption, fill="black", font=font)
        left += picture.width + _GAP
    return row


def _images(source: str) -> Iterator[Callable[[], Image.Image]]:
    """For each picture of a source's first split a function that opens it."""
    split = next(iter(load_source(source, streaming=True).values()))
    return (partial(_open, row["image"], f"row {number} of {source}") for number, row in enumerate(split))


def _open(cell: dict, place: str) -> Image.Image:
    return read_photo(cell, place)[1]


def draw_sheet(
    openers: Iterator[Callable[[], Image.Image]],
    config: TransformConfig,
    count: int,
    variants: int,
    seed: int,
    fail: Callable[[int, Exception], None],
) -> Image.Image:
    """The contact sheet: a row per photograph with its untouched center crop and its variants beside their gray.

    Args:
        openers: functions that return a photograph each.
        config: of the variants.
        count: photographs to take at most.
        variants: per photograph.
        seed: of all variants.
        fail: called with the number and the error of a photograph that cannot be used; its row is left out.

    Raises:
        ValueError: if the sheet would be too large for an image file, or no photograph could be used.
    """
    width = config.resolution * (1 + 2 * variants) + _GAP * (2 + variants)
    height = config.resolution + _GAP + _CAPTION_HEIGHT
    if width > _MAX_SHEET_SIDE or count * height > _MAX_SHEET_SIDE:
        raise ValueError(
            f"a sheet of {width} x {count * height} pixels exceeds {_MAX_SHEET_SIDE} a side; "
            "lower --count, --variants or --resolution"
        )
    rows = []
    for index, opener in enumerate(tqdm(itertools.islice(openers, count), total=count, unit="photo")):
        try:
            rows.append(_draw_row(_row_pictures(opener(), config, seed, index, variants), width, height))
        except (OSError, ValueError) as error:
            fail(index, error)
    if not rows:
        raise ValueError("no photograph of the source could be used")
    sheet = Image.new("RGB", (width, len(rows) * height))
    for number, row in enumerate(rows):
        sheet.paste(row, (0, number * height))
    return sheet


def _save(sheet: Image.Image, path: Path) -> None:
    """Write the sheet under a temporary name, then rename it."""
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        sheet.save(temporary, _SHEET_FORMATS[path.suffix.lower()], quality=92)
        os.replace(temporary, path)
    except BaseException:
        with suppress(FileNotFoundError):
            temporary.unlink()
        raise


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m train.augmentation_sheet",
        description="Draw a contact sheet of the training augmentation.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--source", required=True, help="folder of images or data set, see train.sources")
    parser.add_argument("--output", required=True, type=Path, metavar="FILE", help="sheet: .jpg, .png or .webp")
    parser.add_argument("--count", default=8, type=at_least(1), metavar="N", help="photographs (default: 8)")
    parser.add_argument("--variants", default=4, type=at_least(1), metavar="N", help="per photograph (default: 4)")
    parser.add_argument(
        "--resolution", default=256, type=at_least(MIN_RESOLUTION), metavar="N", help="in pixels (default: 256)"
    )
    parser.add_argument(
        "--film-probability", default=0.0, type=float, metavar="P", help="share as old films saw it (default: 0)"
    )
    parser.add_argument("--seed", default=0, type=at_least(0), metavar="N", help="of the variants (default: 0)")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = build_parser()
    arguments = parser.parse_args(argv)
    if arguments.output.suffix.lower() not in _SHEET_FORMATS:
        parser.error(f"argument --output: must end in {', '.join(_SHEET_FORMATS)}, got {str(arguments.output)!r}")
    if not arguments.output.parent.is_dir():
        parser.error(f"argument --output: there is no folder {str(arguments.output.parent)!r}")
    failed = []

    def fail(index: int, error: Exception) -> None:
        failed.append(index)
        print(f"failed: photograph {index} of {arguments.source}: {error}", file=sys.stderr)

    try:
        sheet = draw_sheet(
            _images(arguments.source),
            TransformConfig(resolution=arguments.resolution, film_probability=arguments.film_probability),
            arguments.count,
            arguments.variants,
            arguments.seed,
            fail,
        )
        _save(sheet, arguments.output)
    except (OSError, ValueError) as error:
        parser.error(one_line(error))
    print(f"{arguments.output}: {sheet.width} x {sheet.height} pixels")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
