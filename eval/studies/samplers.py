"""Which sampler, how many steps? A sweep over both, with all else equal.

    python -m eval sweep --dataset imagefolder:photos --output sweeps/sampling --steps 1 2 4 8 16 50 \\
      --sampler naive cold euler --guidance-scale 1 --color-scale 1
    python -m eval study samplers --add sweeps/sampling
"""

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..choosing import CHOICES, RATIO, standard_error
from ..columns import METRICS, show_metric, value_of
from ..setting import Setting
from ..sweep_page import sweep_table
from .ledger import Entry, read_entries, record
from .scored import by_model, entries_of_sweep, of_model, read_sweep, rows_of_sweep, settings_of_sweep, sweep_command
from .sections import Section, show_sections, verdict

STUDY = "samplers"
QUESTION = "Which sampler, how many steps?"
KEPT = (*CHOICES, RATIO, "colorfulness")
COMPARED = ("kd_lite2", "feature_distance", RATIO, "psnr", "ciede2000")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this study."""
    parser.add_argument("--add", nargs="+", type=Path, default=[], metavar="DIR", help="sweeps to keep")


def run(arguments: argparse.Namespace) -> int:
    """Keep sweeps and print all that are kept; returns the exit status. ValueError where a sweep is of no use here."""
    for folder in arguments.add:
        sweep = read_sweep(folder, "--add")
        check_varied(folder, sweep)
        record(entries_of_sweep(STUDY, sweep, KEPT), arguments.ledger, of_model(STUDY, sweep["model"]))
    print(show_sections(sections(read_entries(STUDY, arguments.ledger))), end="")
    return 0


def check_varied(folder: Path, sweep: dict) -> None:
    """ValueError where a sweep varies anything but samplers and steps: the sentences below its table could not say of
    which setting they speak."""
    settings = [row["setting"] for row in sweep["rows"]]
    for name in ("guidance_scale", "noise_scale", "color_scale"):
        values = sorted({setting[name] for setting in settings})
        if len(values) > 1:
            raise ValueError(f"argument --add: {folder} must vary samplers and steps only, got {name} {values}")


def sections(entries: Iterable[Entry]) -> list[Section]:
    """A section for each model whose samplers were compared."""
    return [_section(model, swept) for model, swept in by_model(entries).items()]


def _section(model: str, entries: Sequence[Entry]) -> Section:
    settings, gray = settings_of_sweep(entries)
    rows, data, common = rows_of_sweep(settings), settings[0].data, settings[0].settings
    facts = {
        "photographs": f"{data['n']} of {data['name']}, {data['geometry']}; prompts: {common['prompt_mode']}",
        "model": f"{model}, SHA-256 of the loaded weights {common['weights_sha256']}",
        "computed on": ", ".join(sorted({f"{e.settings['device']} in {e.settings['dtype']}" for e in settings})),
    }
    findings = [*algorithms_compared(rows), *enough_steps(rows)]
    table = sweep_table(rows, gray, with_seconds=False)
    return Section(f"{QUESTION} ({model})", table, [sweep_command(settings)], facts, findings)


def algorithms_compared(rows: Sequence[dict]) -> list[str]:
    """For each metric, with how many steps Algorithm 1 is better or worse than Algorithm 2, all else equal."""
    metrics = {Setting(**row["setting"]): row["metrics"] for row in rows}
    pairs = [(a, b) for a in metrics for b in metrics if a.sampler == "naive" and b.sampler == "cold"]
    pairs = sorted((a, b) for a, b in pairs if a.file_name.replace("naive", "cold") == b.file_name)
    sentences = []
    for metric in (METRICS[name] for name in COMPARED):
        found: dict[str, list[int]] = {}
        for a, b in pairs:
            word = verdict(metrics[a][metric.name], metrics[b][metric.name], metric.better)
            found.setdefault(word, []).append(a.num_inference_steps)
        parts = [f"{word} at steps {', '.join(map(str, steps))}" for word, steps in found.items()]
        if parts:
            sentences.append(f"{metric.title}, Algorithm 1 (naive) against Algorithm 2 (cold): {'; '.join(parts)}.")
    return sentences


def enough_steps(rows: Sequence[dict]) -> list[str]:
    """For each sampler, its best KD-Lite2 and the fewest steps within one standard error of it."""
    metric, sentences = METRICS["kd_lite2"], []
    for sampler in sorted({row["setting"]["sampler"] for row in rows}):
        entries = {
            row["setting"]["num_inference_steps"]: row["metrics"][metric.name]
            for row in rows
            if row["setting"]["sampler"] == sampler and value_of(row["metrics"][metric.name]) is not None
        }
        if not entries:
            continue
        best = min(entries, key=lambda steps: entries[steps]["value"])
        bound = entries[best]["value"] + standard_error(entries[best])
        fewest = min(steps for steps, entry in entries.items() if entry["value"] <= bound)
        shown = show_metric(entries[best], metric.form)
        sentences.append(
            f"{sampler}: the best {metric.title}, {shown}, at steps {best}; the fewest within one standard error of "
            f"it: {fewest}."
        )
    return sentences
