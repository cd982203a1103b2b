"""Train many small variants of the model and measure them alike.

    python -m eval study experiments --run --seeds 0 1 2 --sources data/photos-144 data/tiny-imagenet
    python -m eval study experiments --run --only severity noise
    python -m eval study experiments                                           # show what was measured

An experiment is a YAML file in train/configs/experiments that changes something in base.yaml; its folder is the
question that it belongs to. Every experiment is trained once per seed, which decides weights, order, noise and
severities, and is measured on the same photographs with the same noise, without prompts. What is in the ledger is
skipped. Needs the extras "train" and "eval".

exit status: 0 all done, 1 some trainings diverged (each is named), 2 bad arguments
"""

import argparse
import json
import re
import shutil
import sys
from collections.abc import Collection, Sequence
from dataclasses import asdict
from pathlib import Path

import diffusers
import transformers
import yaml

from colorization import load_pipeline
from colorization.command_line import at_least
from colorization.loading import default_device
from train.config_file import parse_command_line
from train.embedded import EmbeddedTrainer
from train.loop import TrainingStopped
from train.lora import LoraTrainer
from train.trainer import run as run_training

from ..files import PACKAGES, package_versions
from ..grid import make_grid
from ..measuring import PhotoSet, measure_run, prepare_photos
from ..metrics.lite2 import Lite2Features
from ..photos import load_photos, set_name
from .experiment_tables import EVALUATION_SEED, SHOWN, STUDY, Trained, read_trained, sections
from .ledger import Entry, read_json, record, shown
from .sections import show_sections
from .variants import ADAPTATION, BASE, CONFIGS, GENERAL, GENERAL_EXPERIMENT, QUESTIONS, Experiment, read_experiments

DATASET = "parquet:data/tiny-imagenet-64/validation-*.parquet"
ADAPTED_DATASET = "parquet:data/photos-144/*.parquet:validation"  # what the adaptation is to
TRAINING_KEPT = ("samples", "photographs", "cpu_seconds", "device")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this study."""
    add = parser.add_argument
    add("--run", action="store_true", help="train and measure what is not in the ledger yet")
    add("--seeds", nargs="+", type=at_least(0), default=[0, 1, 2], metavar="N", help="default: 0 1 2")
    add("--only", nargs="+", choices=(BASE, *QUESTIONS), help="only these questions")
    add("--sources", nargs="+", default=[], metavar="DIR", help="data sets, found by the names in the configs")
    add("--dataset", default=DATASET, metavar="SPEC", help=f"photographs to measure on (default: {DATASET})")
    add("--adapted-dataset", default=ADAPTED_DATASET, metavar="SPEC", help="the same after an adaptation")
    add("--limit", type=at_least(2), default=300, metavar="N", help="photographs (default: 300)")
    add("--configs", type=Path, default=CONFIGS, metavar="DIR", help="default: train/configs/experiments")
    add("--runs", type=Path, default=Path("runs/experiments"), metavar="DIR", help="folder of the trainings")


def run(arguments: argparse.Namespace) -> int:
    """Train and measure where asked to, and print all that is in the ledger; returns the exit status."""
    failures = run_experiments(arguments) if arguments.run else []
    print(show_sections(sections(arguments.ledger, arguments.configs)), end="")
    if failures:
        print("\n".join([f"{len(failures)} failed:", *failures]), file=sys.stderr)
    return 1 if failures else 0


def run_name(experiment: str, seed: int) -> str:
    """What the training's folder is called."""
    return f"{experiment.replace('/', '--')}--seed-{seed}"


def general_model(runs: Path, seed: int) -> Path:
    """The folder of the model that adaptations of this seed start from."""
    return runs / run_name(GENERAL_EXPERIMENT, seed) / "model"


def plan_experiments(
    experiments: Sequence[Experiment],
    seeds: Sequence[int],
    only: Sequence[str] | None,
    done: Collection[tuple[str, int]],
    runs: Path,
) -> list[tuple[Experiment, int]]:
    """What is to be trained, one seed after the other: what has no result, and the general models that it starts from.

    Args:
        experiments: from :func:`read_experiments`.
        seeds: of each.
        only: groups; None takes all.
        done: names and seeds that have a result.
        runs: where trainings lie. A result may have come with the code, its training not: then a general model is
            trained, and measured, again.
    """
    plan = []
    for seed in seeds:
        asked = [experiment for experiment in experiments if not only or experiment.group in only]
        todo = [one for one in asked if (one.name, seed) not in done]
        names = {one.name for one in todo}
        if any(one.starts_from_general for one in todo) and not general_model(runs, seed).is_dir():
            names.add(GENERAL_EXPERIMENT)
        plan += [(experiment, seed) for experiment in experiments if experiment.name in names]
    return plan


def train_experiment(experiment: Experiment, seed: int, sources: Sequence[str], runs: Path) -> tuple[Path, dict]:
    """Train one experiment; the folder of its model or adapter, and the trainer's summary.

    Args:
        sources: data sets in place of those in the config, the same ones by the last part of their names.
        runs: where trainings lie.

    Raises:
        TrainingStopped: the loss was not finite.
    """
    directory = runs / run_name(experiment.name, seed)
    settings = json.loads(json.dumps(experiment.settings))
    settings["data"]["sources"] = [_find_source(name, sources) for name in settings["data"]["sources"]]
    settings["data"]["cache_directory"] = str(runs / "cache")
    settings["run"] |= {"seed": seed, "output_dir": str(directory)}
    for key in ("base", "start"):
        if settings["model"].get(key) == GENERAL:
            settings["model"][key] = str(general_model(runs, seed))
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / "experiment.yaml"
    file.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    trainer = LoraTrainer if experiment.is_lora else EmbeddedTrainer
    config, _ = parse_command_line(trainer.settings, "", ["--config", str(file)])
    folder = run_training(trainer, config)
    return folder, read_json(directory / "summary.json")


def _find_source(name: str, sources: Sequence[str]) -> str:
    """The given data set for one that a config names by its usual place; the config's own where none is given."""
    aliases = {"tiny-imagenet": ("tiny-imagenet", "tiny")}
    known = aliases.get(Path(name).name, (Path(name).name,))
    return next((source for source in sources if Path(source).name in known), name)


def measure(
    experiment: Experiment, seed: int, folder: Path, photos: PhotoSet, lite2: Lite2Features
) -> tuple[dict, dict]:
    """Metrics of a trained experiment on photographs, as eval.sweep measures them, and the sampling's settings."""
    if experiment.is_lora:
        pipeline = load_pipeline(general_model(folder.parent.parent, seed), adapter=folder)
    else:
        pipeline = load_pipeline(folder)
    pipeline.set_progress_bar_config(disable=True)
    settings = make_grid(pipeline, None, None, None, None, None)
    results = measure_run(pipeline, settings, photos, [""] * len(photos.photos), lite2, EVALUATION_SEED)
    return results[settings[0]], asdict(settings[0]) | {"seed": EVALUATION_SEED}


def run_experiments(arguments: argparse.Namespace) -> list[str]:
    """Train and measure what has no result yet; every result is recorded at once.

    A training that diverged is recorded too, with what it said: the tables must not show those alone that went well.

    Returns:
        A line on each training that diverged, or whose general model did. The others are not held up by them.
    """
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
    experiments, runs = read_experiments(arguments.configs), arguments.runs
    lite2, sets, failures = Lite2Features(), {}, []
    lite2.network.to(default_device())
    done = _done(read_trained(arguments.ledger))
    for experiment, seed in plan_experiments(experiments, arguments.seeds, arguments.only, done, runs):
        spec = arguments.adapted_dataset if experiment.group == ADAPTATION else arguments.dataset
        if spec not in sets:
            found = load_photos(_without_kind(spec), arguments.limit)
            sets[spec] = prepare_photos(spec, found, lite2, print)
        name = f"{experiment.name}, seed {seed}"
        settings = {"experiment": experiment.name, "seed": seed, "changes": experiment.changes}
        failure = None
        if experiment.starts_from_general and not general_model(runs, seed).is_dir():
            failure = f"there is no model of {GENERAL_EXPERIMENT} to start from"
        else:
            try:
                folder, summary = train_experiment(experiment, seed, arguments.sources, runs)
            except TrainingStopped as error:
                failure = str(error)
                record([Entry(STUDY, name, settings=settings | {"diverged": failure})], arguments.ledger)
        if failure is not None:
            failures.append(f"{name}: {failure}")
            print(f"failed: {failures[-1]}", file=sys.stderr, flush=True)
            continue
        metrics, sampling = measure(experiment, seed, folder, sets[spec], lite2)
        settings |= {"training": {key: summary[key] for key in TRAINING_KEPT}, "sampling": sampling}
        data = {"name": set_name(_without_kind(spec)), "n": len(sets[spec].photos)}
        rows = {"output": shown(metrics, SHOWN)}
        record([Entry(STUDY, name, data, settings, rows, package_versions(PACKAGES))], arguments.ledger)
        print(name, file=sys.stderr, flush=True)
        if experiment.name != GENERAL_EXPERIMENT:
            shutil.rmtree(folder.parent)
    return failures


def _done(trained: Trained) -> set[tuple[str, int]]:
    return {(name, seed) for name, seeds in trained.results.items() for seed in seeds} | {
        (entry.settings["experiment"], entry.settings["seed"]) for entry in trained.diverged
    }


def _without_kind(spec: str) -> str:
    return re.sub(r"^(parquet|imagefolder):", "", spec)
