"""Color hints on the page: a list of lines, to which a click on the photograph adds one."""

import re

import gradio as gr
from PIL import Image, ImageColor

from colorization.hints import Hint, parse_lines

from .events import PRIVATE
from .inputs import PhotoInput
from .rendering import read_photo
from .visits import Visits

# The list is the one place where hints are kept; so they can be typed, copied and sent to the endpoint as well.
_REMOVE_LAST = r"(text) => text.trimEnd().split('\n').slice(0, -1).join('\n')"
_CLEAR = "() => ''"
_SWATCHES = r"""(text) => [...text.matchAll(/^\s*(\d+)\s*,\s*(\d+)\s*,\s*(#[0-9a-f]{6})\s*$/gim)]
    .map(([, x, y, color]) => `<span class="hint" style="--color: ${color}">${x}, ${y}</span>`).join(' ')"""


def hint_panel(image: PhotoInput, visits: Visits) -> gr.Textbox:
    """The list, folded away below the photograph until there is a hint."""
    with gr.Accordion("Color hints: click on the photograph", open=False) as panel:
        color = gr.ColorPicker("#c03030", label="Color", elem_id="hint-color")
        hints = gr.Textbox(
            "",
            label="Places",
            info="column, row and color, one a line",
            placeholder="120,80,#c03030",
            lines=2,
            max_lines=8,
            elem_id="hints",
        )
        swatches = gr.HTML(elem_id="swatches")
        with gr.Row():
            remove_last = gr.Button("Remove last", size="sm", min_width=80)
            clear = gr.Button("Clear", size="sm", min_width=80)

    def place(shown: str, color: str, hints: str, event: gr.SelectData, request: gr.Request) -> tuple:
        """For a click on the photograph: the list with one hint more, and the place on the page where it is."""
        return place_hint(visits, shown, color, hints, event, request), gr.Accordion(open=True)

    image.select(place, [image, color, hints], [hints, panel], **PRIVATE)
    hints.change(None, hints, swatches, js=_SWATCHES, **PRIVATE)
    remove_last.click(None, hints, hints, js=_REMOVE_LAST, **PRIVATE)
    gr.on([clear.click, image.change], None, outputs=hints, js=_CLEAR, **PRIVATE)
    return hints


def place_hint(visits: Visits, shown: str, color: str, hints: str, event: gr.SelectData, request: gr.Request) -> str:
    """The list with a hint more, at the place that was clicked on."""
    original = visits.of(request).originals.get(shown, shown)
    return add_line(hints, tuple(event.index), color, shown, original)


def read_lines(text: str) -> tuple[Hint, ...]:
    """The hints of a list.

    Raises:
        ValueError: a line has another form than x,y,#rrggbb.
    """
    named = parse_lines(text.splitlines(), "color hints")
    if others := [name for name in named if name]:
        raise ValueError(f"color hints: must be x,y,#rrggbb without a file's name, got {others[0]!r}")
    return named.get("", ())


def add_line(text: str, place: tuple[int, int], color: str, shown: str, original: str) -> str:
    """The list with one hint more.

    Args:
        text: the list.
        place: column and row of the click, in pixels of the picture that the page shows.
        color: as gradio's color picker gives it: "#rrggbb", "rgba(r, g, b, a)" with fractions, or what Pillow reads.
        shown, original: files of that picture and of the photograph; a scan's picture may be smaller than the scan.
    """
    if shown != original:
        with Image.open(shown) as picture:
            sizes = zip(place, read_photo(original).size, picture.size, strict=True)
            place = tuple((2 * position + 1) * full // (2 * small) for position, full, small in sizes)
    red, green, blue = _rgb(color)
    line = f"{place[0]},{place[1]},#{red:02x}{green:02x}{blue:02x}"
    return f"{text.rstrip()}\n{line}".lstrip()


def _rgb(color: str) -> tuple[int, int, int]:
    """Channels from 0 to 255; the picker's dialog does not round them, and Pillow reads whole numbers only."""
    channels = re.fullmatch(r"rgba?\(([^)]+)\)", color.strip())
    if channels is None:
        return ImageColor.getrgb(color)[:3]
    red, green, blue = (min(max(round(float(part)), 0), 255) for part in channels[1].split(",")[:3])
    return red, green, blue
