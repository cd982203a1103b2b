"""The baselines, diffusion trained as long as they were, and the shipped model, on the same photographs.

    python -m eval study alternatives --add "resnet" runs/tiny-resnet runs/baseline-resnet
    python -m eval study alternatives --add "shipped model" runs/tiny-embedded -
    python -m eval study sheet --runs runs/free-resnet runs/free-gan --photos cat,bus --output docs/alternatives.jpg

`--add LABEL RUN TRAINING` keeps a scored run with what its training took; TRAINING is the trainer's folder, or "-"
where the model was trained elsewhere.
"""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

from ..columns import METRICS
from ..report import describe_group
from ..tables import Cell, Table, metric_table
from .ledger import Entry, read_entries, read_json, record
from .scored import entry_of_score, model_folder, read_scored, run_of
from .sections import Section, show_sections

STUDY = "alternatives"
SHOWN = ("fd_lite2", "kd_lite2", "feature_distance", "colorfulness_ratio", "psnr", "ciede2000", "seconds_per_image")
TRAINING_COLUMNS = ("parameters", "training samples", "training, CPU minutes")
TRAINING_KEPT = ("samples", "photographs", "cpu_seconds", "device")
ORDER = ("regression", "classification", "GAN", "PixelCNN", "ControlNet", "cold", "stochastic")  # of the rows


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this study."""
    words = ("LABEL", "RUN", "TRAINING")
    parser.add_argument("--add", nargs=3, action="append", default=[], metavar=words, help="a scored run to keep")


def run(arguments: argparse.Namespace) -> int:
    """Keep runs and print all that are kept; returns the exit status. ValueError where a run is of no use here."""
    for label, folder, training in arguments.add:
        entry = make_entry(label, Path(folder), None if training == "-" else Path(training))
        in_order([*read_entries(STUDY, arguments.ledger), entry])
        record([entry], arguments.ledger)
    print(show_sections(sections(read_entries(STUDY, arguments.ledger))), end="")
    return 0


def make_entry(label: str, folder: Path, training: Path | None) -> Entry:
    """A scored run with its training.

    Raises:
        ValueError: the run was not scored, or the training is not finished.
    """
    score, summary = read_scored(folder), None
    if training is not None:
        file = training / "summary.json"
        if not file.is_file():
            raise ValueError(f"argument --add: {training} has no summary.json: its training is not finished")
        stored = read_json(file)
        summary = {name: stored[name] for name in TRAINING_KEPT}
    parameters = count_parameters(model_folder(score["run"]["model"]))
    return entry_of_score(STUDY, label, score, SHOWN, parameters=parameters, training=summary)


def count_parameters(folder: Path) -> int:
    """Numbers in all safetensors files below a folder, without those of the network for automatic color scales."""
    from safetensors import safe_open

    count = 0
    for file in sorted(set(folder.rglob("*.safetensors")) - set(folder.glob("vividness/*"))):
        with safe_open(file, "np") as tensors:
            count += sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())
    return count


def in_order(entries: Sequence[Entry]) -> list[Entry]:
    """Entries of scored runs in the order of the rows; ValueError where they are of several data sets."""
    if len({(entry.data["name"], entry.data["n"]) for entry in entries}) > 1:
        raise ValueError("runs of different photographs do not compare")
    return sorted(entries, key=lambda entry: (_place(entry.run), entry.run))


def _place(label: str) -> int:
    found = [i for i, word in enumerate(ORDER) if word in label]
    return found[0] if found else len(ORDER)


def sections(entries: Sequence[Entry]) -> list[Section]:
    """The section that compares the models; none where nothing was measured."""
    if not entries:
        return []
    entries = in_order(entries)
    runs = [run_of(entry) for entry in entries]
    table = metric_table("", [METRICS[name] for name in SHOWN], runs)
    table.columns += TRAINING_COLUMNS
    by_label = {entry.run: entry for entry in entries}
    for row in table.rows:
        row.cells.extend(_training_cells(by_label[row.label], table) if row.label in by_label else [Cell("")] * 3)
    title, facts = describe_group(runs)
    devices, photographs = (trained_on(entries, name) for name in ("device", "photographs"))
    facts.append(("trained on", f"{'; '.join(devices)}; {', '.join(map(str, photographs))} photographs"))
    return [Section(title, table, facts=dict(facts))]


def trained_on(entries: Sequence[Entry], name: str) -> list:
    """The different values of a field of the trainings, sorted."""
    trainings = [entry.settings["training"] for entry in entries if "training" in entry.settings]
    return sorted({training[name] for training in trainings})


def _training_cells(entry: Entry, table: Table) -> list[Cell]:
    parameters, training = f"{entry.settings['parameters'] / 1e6:.1f} M", entry.settings.get("training")
    if training is None:
        note = (table.note("trained elsewhere and much longer, see embedded-model.md"),)
        return [Cell(parameters), Cell("n/a", notes=note), Cell("n/a", notes=note)]
    return [Cell(parameters), Cell(f"{training['samples']:,}"), Cell(f"{training['cpu_seconds'] / 60:.0f}")]
