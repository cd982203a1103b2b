"""Draw gray input, colored result and original side by side, for the documentation.

python -m colorization examples --output out
python -m eval.studies.contact_sheet --originals examples --colored out --output docs/contact-sheet.jpg
"""

import argparse
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from colorization.image_io import read_settings

HEADERS = ("input (luminance)", "colored", "original")
MARGIN = 8
LINE = 20  # pixels of a line of text
HINT_RADIUS = 6  # of the dot that shows a color hint on the input


def draw_sheet(pairs: list[tuple[Path, Path]], width: int, groups: int = 1) -> Image.Image:
    """The sheet: one (original, colored) pair a row, `groups` rows side by side, its prompt and seed underneath.

    Color hints are dots on the input.

    Args:
        pairs: files of the originals and of the colored pictures, which must hold their settings.
        width: of each picture, in pixels.
        groups: how many triples stand side by side.
    """
    rows = [_draw_row(original, colored, width) for original, colored in pairs]
    lines = [rows[i : i + groups] for i in range(0, len(rows), groups)]
    heights = [max(row.height for row in line) for line in lines]
    row_width = rows[0].width
    sheet = Image.new("RGB", (groups * row_width, LINE + MARGIN + sum(heights)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for group in range(groups):
        for column, header in enumerate(HEADERS):
            draw.text((group * row_width + MARGIN + column * (width + MARGIN), 4), header, "black", font)
    top = LINE + MARGIN
    for line, height in zip(lines, heights, strict=True):
        for group, row in enumerate(line):
            sheet.paste(row, (group * row_width, top))
        top += height
    return sheet


def _draw_row(original: Path, colored: Path, width: int) -> Image.Image:
    settings = read_settings(colored)
    with Image.open(original) as first, Image.open(colored) as second:
        pictures = [first.convert("L").convert("RGB"), second.convert("RGB"), first.convert("RGB")]
    height = round(width * pictures[0].height / pictures[0].width)
    scale, hints = width / pictures[0].width, settings.get("hints", [])
    row = Image.new("RGB", (MARGIN + 3 * (width + MARGIN), height + LINE + MARGIN), "white")
    for column, picture in enumerate(pictures):
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)
        row.paste(picture, (MARGIN + column * (width + MARGIN), 0))
    for x, y, color in hints:
        center = (MARGIN + (x + 0.5) * scale, (y + 0.5) * scale)
        ImageDraw.Draw(row).circle(center, HINT_RADIUS, color, "white", 2)
    prompt = f'prompt "{settings["prompt"]}"' if settings["prompt"] else "no prompt"
    caption = f"{original.stem}: {prompt}, seed {settings['seed']}" + (f", {len(hints)} hints" if hints else "")
    ImageDraw.Draw(row).text((MARGIN, height + 2), caption, "black", ImageFont.load_default(13))
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--originals", type=Path, required=True, help="folder of the color originals")
    parser.add_argument("--colored", type=Path, required=True, help="folder of the results, with the same names")
    parser.add_argument("--output", type=Path, required=True, help="the picture to write")
    parser.add_argument("--width", type=int, default=256, help="of each picture, in pixels (default: 256)")
    parser.add_argument("--groups", type=int, default=1, help="rows that stand side by side (default: 1)")
    arguments = parser.parse_args()
    pairs = [(arguments.originals / file.name, file) for file in sorted(arguments.colored.glob("*.jpg"))]
    if not pairs:
        parser.error(f"argument --colored: {arguments.colored} holds no .jpg files")
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    draw_sheet(pairs, arguments.width, arguments.groups).save(arguments.output, quality=88)


if __name__ == "__main__":
    main()
