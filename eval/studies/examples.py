"""Photographs of any size for measurements of speed and memory, made from examples/."""

from pathlib import Path

from PIL import Image, ImageOps

EXAMPLES = Path(__file__).parent.parent.parent / "examples"


def make_photo(folder: Path, width: int, height: int, index: int = 0) -> Path:
    """A gray JPEG of exactly this size, from the example with this number (counted round)."""
    sources = sorted(EXAMPLES.glob("*.jpg"))
    path = folder / f"{index:03d}_{width}x{height}.jpg"
    with Image.open(sources[index % len(sources)]) as source:
        ImageOps.fit(source.convert("L"), (width, height)).save(path, quality=92)
    return path
