"""Pages from templates: Markdown and HTML."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # imported once there is something to write
    from markupsafe import Markup


TEMPLATES = Path(__file__).parent / "templates"


def markdown_text(value: object) -> "Markup":
    """Text that Markdown shows as it is: one line, with nothing that could begin markup, HTML or a table's cell."""
    from markupsafe import Markup

    text = "".join(c if c.isprintable() else " " for c in str(value))
    text = re.sub(r"([\\`*\[\]<>|~])", r"\\\1", " ".join(text.split()))
    text = re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", text)  # inside of words it is no emphasis
    return Markup(text)


def render(template: str, **content: object) -> str:
    """A template of `eval/templates` with this content, all of it escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["markdown"] = markdown_text
    return environment.get_template(template).render(content)
