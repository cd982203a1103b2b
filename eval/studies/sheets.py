"""Draw pictures side by side, for the documents: what went in, what came out, the original.

    python -m colorization examples --output out
    python -m eval study sheet --originals examples --colored out --output docs/contact-sheet.jpg
    python -m eval study sheet --runs runs/free-resnet runs/free-gan --photos cat,bus --output docs/alternatives.jpg

The first compares files that `python -m colorization` has written, with prompt, seed and hints; the second runs of
`python -m eval generate` on the same photographs.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from colorization.command_line import at_least
from colorization.image_io import read_settings

from ..files import replace_file
from ..runs import MANIFEST_FILE, OUTPUTS, REFERENCES, read_lines

HEADERS = ("input (luminance)", "colored", "original")
MARGIN = 8
LINE = 20  # pixels of a line of text
HINT_RADIUS = 6  # of the dot that shows a color hint on the input


@dataclass(frozen=True)
class Strip:
    """Pictures of one photograph, from left to right.

    Attributes:
        pictures: of one aspect.
        caption: below them; None takes no place.
        dots: (x, y, color) that are drawn on the first picture, in its own pixels.
    """

    pictures: Sequence[Image.Image]
    caption: str | None = None
    dots: Sequence[tuple[int, int, str]] = field(default_factory=tuple)


def draw_sheet(
    strips: Sequence[Strip], headers: Sequence[str], width: int, groups: int = 1, margin: int = MARGIN
) -> Image.Image:
    """Strips below each other, under the headers of their pictures.

    Args:
        strips: at least one, all of as many pictures as there are headers.
        headers: of the columns.
        width: of each picture, in pixels.
        groups: how many strips stand side by side.
        margin: around pictures, in pixels.
    """
    drawn = [_draw_strip(strip, width, margin) for strip in strips]
    lines = [drawn[i : i + groups] for i in range(0, len(drawn), groups)]
    top = LINE + margin
    strip_width = drawn[0].width
    height = top + sum(max(strip.height for strip in line) for line in lines)
    sheet = Image.new("RGB", (groups * strip_width, height), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for group in range(groups):
        for column, header in enumerate(headers):
            draw.text((group * strip_width + max(margin, 4) + column * (width + margin), 4), header, "black", font)
    for line in lines:
        for group, strip in enumerate(line):
            sheet.paste(strip, (group * strip_width, top))
        top += max(strip.height for strip in line)
    return sheet


def _draw_strip(strip: Strip, width: int, margin: int) -> Image.Image:
    first, count = strip.pictures[0], len(strip.pictures)
    height, scale = round(width * first.height / first.width), width / first.width
    below = margin if strip.caption is None else LINE + margin
    drawn = Image.new("RGB", (margin + count * (width + margin), height + below), "white")
    draw = ImageDraw.Draw(drawn)
    for column, picture in enumerate(strip.pictures):
        drawn.paste(picture.resize((width, height), Image.Resampling.LANCZOS), (margin + column * (width + margin), 0))
    for x, y, color in strip.dots:
        draw.circle((margin + (x + 0.5) * scale, (y + 0.5) * scale), HINT_RADIUS, color, "white", 2)
    if strip.caption is not None:
        draw.text((margin, height + 2), strip.caption, "black", ImageFont.load_default(13))
    return drawn


# What is drawn


def colored_strip(original: Path, colored: Path) -> Strip:
    """A photograph and what was made of it, with the settings that the result holds."""
    settings = read_settings(colored)
    with Image.open(original) as first, Image.open(colored) as second:
        pictures = [first.convert("L").convert("RGB"), second.convert("RGB"), first.convert("RGB")]
    hints = settings.get("hints", [])
    prompt = f'prompt "{settings["prompt"]}"' if settings["prompt"] else "no prompt"
    caption = f"{original.stem}: {prompt}, seed {settings['seed']}" + (f", {len(hints)} hints" if hints else "")
    return Strip(pictures, caption, hints)


def run_strips(runs: Sequence[Path], photos: Sequence[str]) -> tuple[list[Strip], list[str]]:
    """A strip for each photograph (gray input, each run's picture, original), and the headers.

    Args:
        runs: folders of `eval generate`, of the same photographs.
        photos: their ids.

    Raises:
        ValueError: a folder is no run, or a run has no such photograph.
    """
    for run in runs:
        if not (run / MANIFEST_FILE).is_file():
            raise ValueError(f"argument --runs: {run} has no {MANIFEST_FILE}: it is no folder of eval generate")
    headers = ["input", *(run.name.split("-", 1)[-1] for run in runs), "original"]
    strips = []
    for photo in photos:
        files = [run / OUTPUTS / f"{photo}.png" for run in runs] + [runs[0] / REFERENCES / f"{photo}.png"]
        for file in files:
            if not file.is_file():
                ids = [line["id"] for line in read_lines(file.parent.parent / MANIFEST_FILE)]
                raise ValueError(f"argument --photos: {photo!r} is not in {file.parent.parent}, only {', '.join(ids)}")
        pictures = [Image.open(file).convert("RGB") for file in files]
        strips.append(Strip([pictures[-1].convert("L").convert("RGB"), *pictures]))
    return strips, headers


# Command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m eval study sheet`."""
    add = parser.add_argument
    add("--originals", type=Path, metavar="DIR", help="folder of the color originals")
    add("--colored", type=Path, metavar="DIR", help="folder of the results, with the same names")
    add("--runs", nargs="+", type=Path, default=[], metavar="RUN", help="runs whose pictures are drawn instead")
    add("--photos", default="", metavar="ID,ID", help="ids of the photographs of these runs")
    add("--output", type=Path, required=True, metavar="FILE", help="the picture to write")
    add("--width", type=at_least(16), metavar="PX", help="of each picture (default: 256, of runs 150)")
    add("--groups", type=at_least(1), default=1, metavar="N", help="rows that stand side by side (default: 1)")


def run(arguments: argparse.Namespace) -> int:
    """Draw and write the sheet; returns the exit status. ValueError where there is nothing to draw."""
    if arguments.runs:
        strips, headers = run_strips(arguments.runs, [photo for photo in arguments.photos.split(",") if photo])
        width, margin = arguments.width or 150, 0
    else:
        strips, headers = _colored_strips(arguments), HEADERS
        width, margin = arguments.width or 256, MARGIN
    if not strips:
        raise ValueError("argument --photos: names no photograph")
    sheet = draw_sheet(strips, headers, width, arguments.groups, margin)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    replace_file(arguments.output, lambda temporary: sheet.save(temporary, quality=88))
    print(arguments.output)
    return 0


def _colored_strips(arguments: argparse.Namespace) -> list[Strip]:
    if arguments.originals is None or arguments.colored is None:
        raise ValueError("arguments --originals and --colored are required, or --runs")
    files = sorted(arguments.colored.glob("*.jpg"))
    if not files:
        raise ValueError(f"argument --colored: {arguments.colored} holds no .jpg files")
    return [colored_strip(arguments.originals / file.name, file) for file in files]
