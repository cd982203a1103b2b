"""What the model knows, and what a user gets: chroma explained by the mean of several seeds and by one, by film.

    python -m eval study knowledge --run --dataset "parquet:data/photos-mixed-144/validation-*.parquet" --every 8
    python -m eval study knowledge --run --dataset "..." --model runs/new/model --films pan ortho blue

The gray that the model gets is that of a kind of film: panchromatic (Rec. 601 luma), orthochromatic (no red) or
sensitive to blue alone. Results are compared with the originals in a*b* of CIELAB at an eighth of their size, skin at
full size; see `eval.metrics.knowledge`. Photographs of people are told apart by the data sets that they come from.
"""

import argparse
from collections.abc import Sequence

import numpy as np
import torch
from tqdm import tqdm

from colorization import ColorizationPipeline
from colorization.color import colorfulness
from colorization.command_line import at_least
from train.film import FILMS

from ..colorizers import load_quietly
from ..columns import show_metric
from ..files import package_versions
from ..metrics.gray import is_gray
from ..metrics.knowledge import cell_chroma, chroma_energies, skin_error
from ..metrics.pixels import psnr
from ..pages import render
from ..photos import list_photos, photo_seed
from ..runs import OUTPUT
from ..summary import mean_metric, psnr_metric, ratio_metric, to_tensor
from ..tables import Cell, Row, Table
from .ledger import Entry, read_entries, record, without_nothing
from .sections import Section, show_sections

STUDY = "knowledge"
QUESTION = "What does the model know, and what does a user get?"
GROUPS = ("all", "people", "other")
# Sets of photographs whose subject is people, by the column `source`.
PEOPLE = ("idenprof", "sports22", "humans7k", "flickr8k1k", "ccp", "crowd", "lspet", "utkface", "vikram")
PACKAGES = ("torch", "diffusers", "transformers", "timm", "numpy", "pillow")
COLUMNS = {
    "explained_mean": ("chroma explained, mean of seeds", ".2f"),
    "explained_single": ("chroma explained, one seed", ".2f"),
    "colorfulness_ratio": ("colorfulness ratio", ".2f"),
    "skin_error": ("skin error", ".1f"),
    "psnr": ("PSNR (dB)", ".2f"),
    "psnr_gain": ("PSNR above gray (dB)", ".2f"),
}


def film_luma(image: np.ndarray, film: str) -> np.ndarray:
    """What a kind of film makes of RGB uint8 `(height, width, 3)`: uint8 `(height, width)`."""
    return (image @ np.array(FILMS[film])).round().clip(0, 255).astype(np.uint8)


def measure_photo(
    pipeline: ColorizationPipeline, original: np.ndarray, film: str, seed: int, seeds: int
) -> dict[str, float]:
    """Energies of chroma and errors of one photograph.

    Args:
        pipeline: the model.
        original: RGB uint8 `(height, width, 3)`.
        film: of `train.film.FILMS`.
        seed: of the first result, which is the one that a user gets.
        seeds: how many results there are.
    """
    luma = film_luma(original, film)
    predictions = pipeline(luma, seed=seed, num_images_per_prompt=seeds, output_type="chroma").images
    pictures = torch.cat([to_tensor(prediction.render(luma)) for prediction in predictions])
    reference, first = to_tensor(original), pictures[:1]
    chroma, wanted = cell_chroma(pictures), cell_chroma(reference)
    error, total = chroma_energies(chroma[:1], wanted)
    mean_error, _ = chroma_energies(chroma.mean(dim=0, keepdim=True), wanted)
    gray = to_tensor(np.stack([luma] * 3, axis=-1))
    return {
        "chroma": total.item(),
        "error": error.item(),
        "mean_error": mean_error.item(),
        "skin": skin_error(first, reference).item(),
        "colorfulness": colorfulness(first).item(),
        "original_colorfulness": colorfulness(reference).item(),
        "psnr": psnr(first, reference).item(),
        "gray_psnr": psnr(gray, reference).item(),
    }


def summarize(photos: Sequence[dict[str, float]], seed: int) -> dict[str, dict]:
    """What :func:`measure_photo` gave for several photographs, as metrics with intervals."""
    values = {name: np.array([photo[name] for photo in photos]) for name in photos[0]}

    def explained(error: np.ndarray) -> dict:
        """1 - the ratio of the sums; the interval's ends change places."""
        metric = ratio_metric(error, values["chroma"], np.random.default_rng(seed), "a photograph has no chroma")
        if metric["value"] is None:
            return metric
        interval = metric["interval"] and [1 - end for end in reversed(metric["interval"])]
        return metric | {"value": 1 - metric["value"], "interval": interval}

    rng = np.random.default_rng(seed)
    skin = values["skin"][np.isfinite(values["skin"])]
    return {
        "explained_mean": explained(values["mean_error"]),
        "explained_single": explained(values["error"]),
        "colorfulness_ratio": ratio_metric(
            values["colorfulness"], values["original_colorfulness"], rng, "an original is gray"
        ),
        "skin_error": mean_metric(skin, rng, "no photograph shows enough skin"),
        "psnr": psnr_metric(values["psnr"], rng),
        "psnr_gain": psnr_metric(values["psnr"], rng, values["gray_psnr"]),
    }


def measure(arguments: argparse.Namespace) -> list[Entry]:
    """Measure a model on a data set's photographs that are in color, for each film and group.

    Raises:
        ValueError: no such data set, or no color photograph in it.
    """
    sources = list_photos(arguments.dataset)
    pipeline = load_quietly(arguments.model)
    if not isinstance(pipeline, ColorizationPipeline):
        raise ValueError(f"argument --model: must be a diffusion model, got {arguments.model!r}")
    config = pipeline.config
    settings = {
        "model": arguments.model,
        "seed": arguments.seed,
        "seeds": arguments.seeds,
        "every": arguments.every,
        "num_inference_steps": config.default_num_inference_steps,
        "color_scale": config.default_color_scale,
        "guess_severity": config.get("guess_severity"),
    }
    entries = []
    for film in arguments.films:
        measured = {group: [] for group in GROUPS}
        for source in tqdm(sources.sources[:: arguments.every], desc=film, unit="photo"):
            photo = source.load()
            original = photo.pixels()
            if is_gray(original):
                continue
            found = measure_photo(pipeline, original, film, photo_seed(arguments.seed, photo), arguments.seeds)
            for group in ("all", "people" if source.collection in PEOPLE else "other"):
                measured[group].append(found)
        for group, photos in measured.items():
            if photos:
                metrics = {name: without_nothing(m) for name, m in summarize(photos, arguments.seed).items()}
                data = {"name": sources.name, "n": len(photos), "group": group, "film": film}
                run = f"{arguments.label}, {film}, {group}"
                entries.append(Entry(STUDY, run, data, settings, {OUTPUT: metrics}, package_versions(PACKAGES)))
    if not entries:
        raise ValueError(f"argument --dataset: {arguments.dataset} holds no color photographs")
    return entries


def knowledge_table(entries: Sequence[Entry]) -> Table:
    """A row for each model, film and group, as they were measured."""
    table = Table("", [title for title, _ in COLUMNS.values()], [])
    for entry in entries:
        cells = [Cell(show_metric(entry.metrics[name], form)) for name, (_, form) in COLUMNS.items()]
        table.rows.append(Row(f"{entry.run} (n {entry.data['n']:,})", cells))
    return table


def render_table(entries: Sequence[Entry]) -> str:
    """The table as Markdown, and how it came about."""
    if not entries:
        return "Not measured yet."
    versions = ", ".join(f"{name} {version}" for name, version in entries[0].versions.items())
    every = sorted({(entry.settings["every"], entry.data["name"]) for entry in entries})
    photos = "; ".join(f"every {number}th of {name}" for number, name in every)
    table = render("one_table.md.jinja", table=knowledge_table(entries)).strip()
    return f"{table}\n\nPhotographs: {photos}. Seeds: {entries[0].settings['seeds']}. Versions: {versions}."


def sections(entries: Sequence[Entry]) -> list[Section]:
    """The section with what is explained by model, film and group; none where nothing was measured."""
    if not entries:
        return []
    facts = {
        "photographs": f"every {entries[0].settings['every']}th of {entries[0].data['name']}",
        "seeds": f"{entries[0].settings['seeds']}; the first is the result that a user gets, at the model's defaults",
    }
    return [Section(QUESTION, knowledge_table(entries), ["python -m eval study knowledge --run"], facts)]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this study."""
    add = parser.add_argument
    add("--run", action="store_true", help="measure, in place of what the ledger holds of the same label and film")
    add("--dataset", metavar="SPEC", help="photographs with color, see `python -m eval generate --help`")
    add("--every", type=at_least(1), default=1, metavar="N", help="only every Nth photograph (default: 1)")
    add("--films", nargs="+", choices=FILMS, default=["pan"], metavar="FILM", help="pan, ortho, blue (default: pan)")
    add("--seeds", type=at_least(1), default=8, metavar="K", help="results of each photograph (default: 8)")
    add("--seed", type=at_least(0), default=0, metavar="N", help="of the noise (default: 0)")
    add("--model", default="embedded", metavar="ID_OR_DIR", help='default: "embedded"')
    add("--label", default="shipped", metavar="TEXT", help='name of the model in the table (default: "shipped")')


def run(arguments: argparse.Namespace) -> int:
    """Measure where asked to, and print what is in the ledger; returns the exit status."""
    if arguments.run:
        if arguments.dataset is None:
            raise ValueError("argument --dataset: is needed with --run")
        record(measure(arguments), arguments.ledger)
    print(show_sections(sections(read_entries(STUDY, arguments.ledger))), end="")
    return 0
