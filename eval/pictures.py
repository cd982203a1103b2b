"""Pictures of runs: the best, median and worst photographs as small grids."""

import base64
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from colorization.files import IMAGE_SUFFIXES

from .columns import METRICS
from .runs import MANIFEST_FILE, PER_IMAGE_FILE, Run, read_manifest, read_per_image

THUMBNAIL_SIDE = 256  # pixels


@dataclass(frozen=True)
class Picture:
    """Where an output and its original are; `file` and `reference` are names in their folders."""

    folder: Path
    file: str
    reference_folder: Path
    reference: str
    caption: str


@dataclass(frozen=True)
class Example:
    """One photograph of a grid: data URIs of what went in, what came out and the original."""

    id: str
    caption: str
    value: str
    gray: str
    output: str
    original: str


@dataclass(frozen=True)
class Grid:
    """Photographs with the best, median or worst values of a metric."""

    title: str
    examples: list[Example]


def data_uri(data: bytes, media_type: str) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def thumbnail(file: Path, gray: bool = False) -> str:
    """A picture as the data URI of a small JPEG, or its luma where `gray`; OSError where it cannot be read."""
    from PIL import Image

    with Image.open(file) as image:
        image = image.convert("L" if gray else "RGB")
    image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=88)
    return data_uri(stream.getvalue(), "image/jpeg")


def rank_photographs(folder: Path) -> tuple[str, list[tuple[str, float]]]:
    """Ids and values of a run's photographs, best first, by LPIPS where it was measured, else by feature distance.

    Returns:
        The metric's name and the list; "" and nothing where neither was measured.
    """
    lines = read_per_image(folder)
    for name in ("lpips", "feature_distance"):
        values = [(line["id"], float(line[name])) for line in lines if line.get("id") and line.get(name)]
        values = [(photo, value) for photo, value in values if math.isfinite(value)]
        if values:
            return name, sorted(values, key=lambda item: (item[1], item[0]))
    return "", []


def pick_examples(ranked: Sequence, count: int) -> dict[str, list]:
    """The first, the middle and the last `count` entries; fewer where they would overlap, but at least one."""
    count = max(min(count, len(ranked) // 3), 1)
    start = (len(ranked) - count) // 2
    return {"Best": ranked[:count], "Median": ranked[start : start + count], "Worst": ranked[-count:]}


def find_pictures(run: Run, others: Sequence[Run]) -> dict[str, Picture]:
    """Outputs and originals of a run by id.

    A run without a manifest is a folder of images named by id; the originals are then those of another run on the same
    photographs.

    Raises:
        ValueError, TypeError: a manifest is damaged.
    """
    entries = read_manifest(run.folder)
    if entries is not None:
        return {
            photo: Picture(run.folder, entry["file"], run.folder, entry["reference"], entry["caption"] or "")
            for photo, entry in entries.items()
        }
    donor = next((other for other in others if (other.folder / MANIFEST_FILE).is_file()), None)
    if donor is None:
        return {}
    files = {file.stem: file.name for file in sorted(run.folder.iterdir()) if file.suffix.lower() in IMAGE_SUFFIXES}
    return {
        photo: Picture(run.folder, files[photo], donor.folder, entry["reference"], "")
        for photo, entry in read_manifest(donor.folder).items()
        if photo in files
    }


def make_grids(run: Run, others: Sequence[Run], count: int, fail: Callable[[str], None]) -> list[Grid]:
    """Grids of one run; none where there are no pictures or nothing to rank them by.

    Args:
        run: whose pictures are shown.
        others: on the same photographs; they lend originals where `run` has none.
        count: photographs in each grid.
        fail: called with a line on each picture that cannot be read.
    """
    if not (run.folder / PER_IMAGE_FILE).is_file():
        return []
    try:
        pictures = find_pictures(run, others)
        name, ranked = rank_photographs(run.folder)
    except (ValueError, TypeError) as error:
        fail(f"{run.folder}: manifest or scores of its photographs are damaged: {error}")
        return []
    known = [(photo, value) for photo, value in ranked if photo in pictures]
    if not known:
        return []
    grids = []
    for title, chosen in pick_examples(known, count).items():
        examples = []
        for photo, value in chosen:
            try:
                examples.append(_example(photo, pictures[photo], format(value, ".4f")))
            except (OSError, ValueError) as error:
                fail(f"{run.folder}: picture {photo!r}: {error}")
        if examples:
            grids.append(Grid(f"{title} by {METRICS[name].title}", examples))
    return grids


def _example(photo: str, picture: Picture, value: str) -> Example:
    reference = _inside(picture.reference_folder, picture.reference)
    thumbnails = (
        thumbnail(reference, gray=True),
        thumbnail(_inside(picture.folder, picture.file)),
        thumbnail(reference),
    )
    return Example(photo, picture.caption, value, *thumbnails)


def _inside(folder: Path, name: str) -> Path:
    """A file of a run; ValueError where its name leads out of the run's folder."""
    file = (folder / name).resolve()
    if not file.is_relative_to(folder.resolve()):
        raise ValueError(f"{name} is not in the run's folder")
    return file
