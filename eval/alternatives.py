"""docs/alternatives.md: the baselines, diffusion trained as long as they were, and the shipped model in one table.

    python -m eval.alternatives                                          # write the page again
    python -m eval.alternatives --add "resnet" runs/tiny-resnet runs/baseline-resnet
    python -m eval.alternatives --add "shipped model" runs/tiny-embedded -
    python -m eval.alternatives --grid runs/free-resnet runs/free-gan --photos cat,bus

`--add LABEL RUN TRAINING` keeps a scored run's score.json with what its training took, as
eval/results/alternatives/LABEL.json; TRAINING is the trainer's folder, or "-" where the model was trained elsewhere.
All runs must be of the same photographs. `--grid` draws docs/alternatives.jpg from runs of `eval generate`.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from colorization.command_line import Parser
from colorization.loading import EMBEDDED_DIRECTORY, EMBEDDED_MODEL, baseline_folder

from .datasets import safe_id
from .generate import MANIFEST_FILE, OUTPUTS, REFERENCES, read_lines
from .hints import RESULTS as HINTS
from .hints import hints_table
from .report import METRICS, Cell, Run, Table, describe_group, metric_table, read_score, render, write_text
from .summary import replace_file, write_result

RESULTS = Path(__file__).parent / "results" / "alternatives"
PAGE = Path(__file__).parent.parent / "docs" / "alternatives.md"
GRID_WIDTH = 150  # pixels of each picture
LINE = 18  # pixels of a line of text
SHOWN = ("fd_lite2", "kd_lite2", "feature_distance", "colorfulness_ratio", "psnr", "ciede2000", "seconds_per_image")
TRAINING_COLUMNS = ("parameters", "training samples", "training, CPU minutes")
ORDER = ("regression", "classification", "GAN", "PixelCNN", "ControlNet", "cold", "stochastic")  # of the rows


def keep(label: str, run: Path, training: Path | None, results: Path) -> Path:
    """Store a scored run with its training; the file.

    Raises:
        ValueError: the run was not scored, or the training is not finished.
    """
    score = read_score(run)
    summary = None
    if training is not None:
        file = training / "summary.json"
        if not file.is_file():
            raise ValueError(f"argument --add: {training} has no summary.json: its training is not finished")
        summary = json.loads(file.read_text(encoding="utf-8"))
    folder = _model_folder(score["run"]["model"])
    kept = {"label": label, "parameters": count_parameters(folder), "training": summary, "score": score}
    results.mkdir(parents=True, exist_ok=True)
    file = results / f"{safe_id(label)}.json"
    write_result(file, kept)
    return file


def _model_folder(model: str) -> Path:
    if model == EMBEDDED_MODEL:
        return EMBEDDED_DIRECTORY
    folder = baseline_folder(model) or Path(model)
    if not folder.is_dir():
        raise ValueError(f"argument --add: the model {model!r} is not on this machine")
    return folder


def count_parameters(folder: Path) -> int:
    """Numbers in all safetensors files below a folder, without those of the network for automatic color scales."""
    from safetensors import safe_open

    count = 0
    for file in sorted(set(folder.rglob("*.safetensors")) - set(folder.glob("vividness/*"))):
        with safe_open(file, "np") as tensors:
            for name in tensors.keys():
                size = 1
                for side in tensors.get_slice(name).get_shape():
                    size *= side
                count += size
    return count


def read_kept(results: Path) -> list[dict]:
    """What :func:`keep` stored in a folder, in the order of the rows; ValueError where it is of several data sets."""
    entries = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(results.glob("*.json"))]
    if len({json.dumps([entry["score"]["data"][key] for key in ("name", "n")]) for entry in entries}) > 1:
        raise ValueError(f"{results} holds runs of different photographs, which do not compare")
    return sorted(entries, key=lambda entry: (_place(entry["label"]), entry["label"]))


def render_page(results: Path) -> str:
    """docs/alternatives.md from the JSONs in a folder; ValueError where there are none, or of several data sets."""
    entries = read_kept(results)
    if not entries:
        raise ValueError(f"{results} holds no results: add runs with --add")
    runs = [Run(results, entry["label"], entry["score"]) for entry in entries]
    table = metric_table("", [METRICS[name] for name in SHOWN], runs)
    table.columns += TRAINING_COLUMNS
    by_label = {entry["label"]: entry for entry in entries}
    for row in table.rows:
        row.cells.extend(_training_cells(by_label[row.label], table) if row.label in by_label else [Cell("")] * 3)
    title, facts = describe_group(runs)
    hints = json.loads(HINTS.read_text(encoding="utf-8"))
    trained = [entry for entry in entries if entry["training"] is not None]
    return render(
        "alternatives.md.jinja",
        title=title,
        facts=facts,
        table=table,
        hints=hints,
        hints_table=hints_table(hints),
        devices=sorted({entry["training"]["device"] for entry in trained}),
        samples=sorted({entry["training"]["samples"] for entry in trained}),
        photographs=sorted({entry["training"]["photographs"] for entry in trained}),
    )


def _place(label: str) -> int:
    found = [i for i, word in enumerate(ORDER) if word in label]
    return found[0] if found else len(ORDER)


def _training_cells(entry: dict, table: Table) -> list[Cell]:
    parameters, training = f"{entry['parameters'] / 1e6:.1f} M", entry["training"]
    if training is None:
        note = (table.note("trained elsewhere and much longer, see embedded-model.md"),)
        return [Cell(parameters), Cell("n/a", notes=note), Cell("n/a", notes=note)]
    return [Cell(parameters), Cell(f"{training['samples']:,}"), Cell(f"{training['cpu_seconds'] / 60:.0f}")]


def draw_grid(runs: Sequence[Path], photos: Sequence[str]):
    """Photographs below each other: gray input, each run's picture, original.

    Args:
        runs: folders of `eval generate`, of the same photographs.
        photos: their ids.

    Raises:
        ValueError: a folder is no run, or a run has no such photograph.
    """
    from PIL import Image, ImageDraw, ImageFont

    for run in runs:
        if not (run / MANIFEST_FILE).is_file():
            raise ValueError(f"argument --grid: {run} has no {MANIFEST_FILE}: it is no folder of eval generate")
    labels = ["input"] + [run.name.split("-", 1)[-1] for run in runs] + ["original"]
    rows = []
    for photo in photos:
        files = [run / OUTPUTS / f"{photo}.png" for run in runs] + [runs[0] / REFERENCES / f"{photo}.png"]
        for file in files:
            if not file.is_file():
                ids = [line["id"] for line in read_lines(file.parent.parent / MANIFEST_FILE)]
                raise ValueError(f"argument --photos: {photo!r} is not in {file.parent.parent}, only {', '.join(ids)}")
        pictures = [Image.open(file).convert("RGB") for file in files]
        pictures.insert(0, pictures[-1].convert("L").convert("RGB"))
        height = round(GRID_WIDTH * pictures[0].height / pictures[0].width)
        rows.append([picture.resize((GRID_WIDTH, height), Image.Resampling.LANCZOS) for picture in pictures])
    sheet = Image.new("RGB", (GRID_WIDTH * len(labels), LINE + sum(row[0].height for row in rows)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for column, label in enumerate(labels):
        draw.text((column * GRID_WIDTH + 4, 2), label, "black", font)
    top = LINE
    for row in rows:
        for column, picture in enumerate(row):
            sheet.paste(picture, (column * GRID_WIDTH, top))
        top += row[0].height
    return sheet


def add_grid_arguments(parser: Parser, page: str) -> None:
    """`--grid` and `--photos`, for :func:`save_grid`."""
    parser.add_argument("--grid", nargs="+", type=Path, metavar="RUN", help=f"runs whose pictures are drawn as {page}")
    parser.add_argument("--photos", default="", metavar="ID,ID", help="ids of the photographs in the grid")


def save_grid(arguments: argparse.Namespace) -> None:
    """Draw what `--grid` asks for beside the page."""
    if arguments.grid:
        sheet = draw_grid(arguments.grid, [photo for photo in arguments.photos.split(",") if photo])
        file = arguments.page.with_suffix(".jpg")
        replace_file(file, lambda temporary: sheet.save(temporary, "JPEG", quality=88))
        print(file)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = Parser(
        prog="python -m eval.alternatives", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add: Callable = parser.add_argument
    words = ("LABEL", "RUN", "TRAINING")
    add("--add", nargs=3, action="append", default=[], metavar=words, help="a scored run to keep")
    add_grid_arguments(parser, "docs/alternatives.jpg")
    add("--results", type=Path, default=RESULTS, metavar="DIR", help="the JSONs (default: eval/results/alternatives)")
    add("--page", type=Path, default=PAGE, metavar="FILE", help="the page to write (default: docs/alternatives.md)")
    arguments = parser.parse_args(argv)
    try:
        for label, run, training in arguments.add:
            print(keep(label, Path(run), None if training == "-" else Path(training), arguments.results))
        save_grid(arguments)
        write_text(arguments.page, render_page(arguments.results))
    except (OSError, ValueError) as error:
        parser.error(str(error))
    print(arguments.page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
