"""Train many small variants of the model, measure them alike, and write docs/experiments.md.

    python -m eval.experiments --run --seeds 0 1 2 --sources data/photos-144 data/tiny-imagenet
    python -m eval.experiments --run --only severity noise
    python -m eval.experiments --add-sweep runs/sampling --add "GAN" runs/gan-seed-0
    python -m eval.experiments --grid runs/steps/* --photos erase_crab,erase_kingfisher
    python -m eval.experiments                                           # write the page again

An experiment is a YAML file in train/configs/experiments that changes something in base.yaml; its folder is the
question that it belongs to. Every experiment is trained once per seed, which decides weights, order, noise and
severities, and is measured on the same photographs with the same noise, without prompts. Each result is a JSON in
eval/results/experiments; what has one is skipped. Needs the extras "train" and "eval".

Others need no training. `--add-sweep` keeps a sweep over samplers and steps as eval/results/sampling/MODEL.json,
`--add` a run that was scored with --extra-seeds as eval/results/diversity/LABEL.json. Errors by hue are those of the
shipped model's run that `python -m eval.results_page --add` keeps. `--grid` draws docs/experiments.jpg from runs of
`eval generate`.

exit status: 0 all done, 1 some trainings diverged (each is named), 2 bad arguments
"""

import argparse
import json
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import yaml

from colorization.command_line import Parser, at_least

from . import without_training
from .alternatives import add_grid_arguments, keep, save_grid
from .paired import NO_DIFFERENCE, Comparison, compare, remaining, student_interval
from .report import METRICS, OUTPUT, Cell, Row, Table, read_score, render, value_of, write_text
from .results_page import keep_sweep
from .summary import package_versions, write_result
from .without_training import DIVERSITY, SAMPLING

CONFIGS = Path(__file__).parent.parent / "train" / "configs" / "experiments"
RESULTS = Path(__file__).parent / "results"
TRAINED = "experiments"  # in RESULTS
PAGE = Path(__file__).parent.parent / "docs" / "experiments.md"
BASE = "base"
ADAPTATION, GENERAL = "adaptation", "general"  # a folder of CONFIGS, and the model that is adapted there
GENERAL_EXPERIMENT = f"{ADAPTATION}/{GENERAL}"
FULL_EXPERIMENT = f"{ADAPTATION}/full"  # what the adapters are compared with
DATA = "data"  # a folder of CONFIGS that change several things at once, see EFFECTS
DATASET = "parquet:data/tiny-imagenet-64/validation-*.parquet"
ADAPTED_DATASET = "parquet:data/photos-144/*.parquet:validation"  # what the adaptation is to
EVALUATION_SEED = 0
SHOWN = ("kd_lite2", "feature_distance", "colorfulness_ratio", "psnr", "ciede2000")
QUESTIONS = {
    "severity": "Which severities should be trained?",
    "loss": "Which loss?",
    "dropout": "How many captions should be dropped?",
    "captions": "Which captions?",
    "target": "What should the network predict?",
    "noise": "How much noise at the start?",
    DATA: "More photographs, longer training, or a stochastic start?",
    ADAPTATION: "Adapting a general model: LoRA or full fine-tuning?",
}


_NOT_PROMPTS = "Measured without prompts, so it does not show how well prompts are followed."
NOTES = {  # what a reader of the table would miss
    "dropout": f"{_NOT_PROMPTS} A model trained without dropping captions has never seen the empty one that it "
    "is measured with.",
    "captions": _NOT_PROMPTS,
    DATA: "Fewer photographs are the first of each source, the same ones at every seed; with them the share of the "
    "sources changes a little. Rows differ from the first in up to three things, so none is called better or worse.",
    ADAPTATION: "Compared with full fine-tuning. Adapters learned at a learning rate of 1e-3, all weights at 1e-4.",
}


def _data_name(share: str, length: str, start: str) -> str:
    same = {("all", "once", "stochastic"): BASE, ("all", "once", "cold"): "noise/0"}
    return same.get((share, length, start), f"{DATA}/{share}-{length}-{start}")


# Pairs (before, after) of experiments that differ in one thing; `all` and `tenth` are numbers of photographs.
EFFECTS = {
    f"{{all}} photographs instead of {{tenth}}, {start} start": [
        (_data_name("tenth", length, start), _data_name("all", length, start)) for length in ("once", "twice")
    ]
    for start in ("cold", "stochastic")
} | {
    f"twice the samples, {start} start": [
        (_data_name(share, "once", start), _data_name(share, "twice", start)) for share in ("tenth", "third", "all")
    ]
    for start in ("cold", "stochastic")
}
NOISE_EFFECT = "a stochastic start instead of a cold one"
EFFECTS[NOISE_EFFECT] = [
    (_data_name(share, length, "cold"), _data_name(share, length, "stochastic"))
    for share in ("tenth", "third", "all")
    for length in ("once", "twice")
]


@dataclass(frozen=True)
class Experiment:
    """One configuration.

    Attributes:
        name: "base" or "group/name".
        settings: of the trainer, complete, as its YAML holds them.
        changes: what the experiment's own file says.
        purpose: the file's first line, a comment.
    """

    name: str
    settings: dict
    changes: dict
    purpose: str

    @property
    def group(self) -> str:
        return self.name.partition("/")[0]

    @property
    def is_lora(self) -> bool:
        return "lora" in self.settings

    @property
    def starts_from_general(self) -> bool:
        """Whether it needs the model that the general experiment of the same seed has trained."""
        return GENERAL in (self.settings["model"].get("base"), self.settings["model"].get("start"))

    @property
    def reference(self) -> str:
        """Name of the experiment that it is compared with."""
        return FULL_EXPERIMENT if self.group == ADAPTATION else BASE


def read_experiments(folder: Path = CONFIGS) -> list[Experiment]:
    """All experiments, the base first; a general model comes before what is adapted from it."""
    base = yaml.safe_load((folder / f"{BASE}.yaml").read_text(encoding="utf-8"))
    experiments = [Experiment(BASE, base, {}, _comment(folder / f"{BASE}.yaml"))]
    for file in sorted(folder.glob("*/*.yaml"), key=lambda file: (file.parent.name, file.stem != GENERAL, file.stem)):
        changes = yaml.safe_load(file.read_text(encoding="utf-8"))
        settings = merge_settings(base, changes)
        if "lora" in changes:
            settings["model"] = changes["model"]  # of another trainer
        experiments.append(Experiment(f"{file.parent.name}/{file.stem}", settings, changes, _comment(file)))
    return experiments


def _comment(file: Path) -> str:
    return file.read_text(encoding="utf-8").partition("\n")[0].removeprefix("#").strip()


def merge_settings(base: dict, changes: dict) -> dict:
    """`base` with the entries of `changes` in place of its own, section by section."""
    merged = dict(base)
    for key, value in changes.items():
        merged[key] = merge_settings(base.get(key, {}), value) if isinstance(value, dict) else value
    return merged


# Training and measuring


def run_name(experiment: str, seed: int) -> str:
    """What the training's folder and the result's file are called."""
    return f"{experiment.replace('/', '--')}--seed-{seed}"


def general_model(runs: Path, seed: int) -> Path:
    """The folder of the model that adaptations of this seed start from."""
    return runs / run_name(GENERAL_EXPERIMENT, seed) / "model"


def plan_experiments(
    experiments: Sequence[Experiment], seeds: Sequence[int], only: Sequence[str] | None, results: Path, runs: Path
) -> list[tuple[Experiment, int]]:
    """What is to be trained, one seed after the other: what has no result, and the general models that it starts from.

    Args:
        experiments: from :func:`read_experiments`.
        seeds: of each.
        only: groups; None takes all.
        results, runs: where results and trainings lie. A result may have come with the code, its training not: then a
            general model is trained, and measured, again.
    """
    plan = []
    for seed in seeds:
        asked = [experiment for experiment in experiments if not only or experiment.group in only]
        todo = [one for one in asked if not (results / f"{run_name(one.name, seed)}.json").is_file()]
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
    from train.config_file import parse_command_line
    from train.embedded import EmbeddedTrainer
    from train.lora import LoraTrainer
    from train.trainer import run

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
    folder = run(trainer, config)
    return folder, json.loads((directory / "summary.json").read_text(encoding="utf-8"))


def _find_source(name: str, sources: Sequence[str]) -> str:
    """The given data set for one that a config names by its usual place; the config's own where none is given."""
    aliases = {"tiny-imagenet": ("tiny-imagenet", "tiny")}
    known = aliases.get(Path(name).name, (Path(name).name,))
    return next((source for source in sources if Path(source).name in known), name)


def measure(experiment: Experiment, seed: int, folder: Path, photos, lite2) -> tuple[dict, dict]:
    """Metrics of a trained experiment on photographs, as eval.sweep measures them, and the sampling's settings."""
    from colorization import load_pipeline

    from .sweep import make_grid, measure_run

    if experiment.is_lora:
        pipeline = load_pipeline(general_model(folder.parent.parent, seed), adapter=folder)
    else:
        pipeline = load_pipeline(folder)
    pipeline.set_progress_bar_config(disable=True)
    settings = make_grid(pipeline, None, None, None, None, None)
    results = measure_run(pipeline, settings, photos, [""] * len(photos.photos), lite2, EVALUATION_SEED)
    return results[settings[0]], asdict(settings[0]) | {"seed": EVALUATION_SEED}


def run_experiments(arguments: argparse.Namespace) -> list[str]:
    """Train and measure what has no result yet; every result is written at once.

    A training that diverged has a result too, which says so: the page must not show those alone that went well.

    Returns:
        A line on each training that diverged, or whose general model did. The others are not held up by them.
    """
    import diffusers
    import transformers

    from colorization.loading import default_device
    from train.loop import TrainingStopped

    from .compare import PACKAGES, prepare_photos
    from .features import Lite2Features
    from .photos import load_photos, set_name

    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
    experiments, runs, results = read_experiments(arguments.configs), arguments.runs, arguments.results / TRAINED
    lite2, sets, failures = Lite2Features(), {}, []
    lite2.network.to(default_device())
    for experiment, seed in plan_experiments(experiments, arguments.seeds, arguments.only, results, runs):
        spec = arguments.adapted_dataset if experiment.group == ADAPTATION else arguments.dataset
        if spec not in sets:
            found = load_photos(_without_kind(spec), arguments.limit)
            sets[spec] = prepare_photos(spec, found, lite2, None, print)
        result = {"experiment": experiment.name, "seed": seed, "changes": experiment.changes}
        file = results / f"{run_name(experiment.name, seed)}.json"
        results.mkdir(parents=True, exist_ok=True)
        failure = None
        if experiment.starts_from_general and not general_model(runs, seed).is_dir():
            failure = f"there is no model of {GENERAL_EXPERIMENT} to start from"
        else:
            try:
                folder, summary = train_experiment(experiment, seed, arguments.sources, runs)
            except TrainingStopped as error:
                failure = str(error)
                write_result(file, result | {"diverged": failure})
        if failure is not None:
            failures.append(f"{experiment.name}, seed {seed}: {failure}")
            print(f"failed: {failures[-1]}", file=sys.stderr, flush=True)
            continue
        metrics, setting = measure(experiment, seed, folder, sets[spec], lite2)
        result |= {
            "training": summary,
            "data": {"name": set_name(_without_kind(spec)), "n": len(sets[spec].photos)},
            "setting": setting,
            "metrics": metrics,
            "feature_weights_sha256": lite2.weights_sha256,
            "versions": package_versions(PACKAGES),
        }
        write_result(file, result)
        print(file, flush=True)
        if experiment.name != GENERAL_EXPERIMENT:
            shutil.rmtree(folder.parent)
    return failures


def _without_kind(spec: str) -> str:
    return re.sub(r"^(parquet|imagefolder):", "", spec)


# The page


def compare_all(
    experiments: Sequence[Experiment], results: dict[str, dict[int, dict]]
) -> dict[tuple[str, str], Comparison]:
    """Every comparison on the page, by experiment or effect, and metric.

    What is in the group `DATA` differs from its reference in several things at once and takes part in `EFFECTS` alone.
    """
    pairs = {
        experiment.name: [(experiment.reference, experiment.name)]
        for experiment in experiments
        if experiment.group != DATA and experiment.name != experiment.reference
    }
    found = {}
    for what, names in (pairs | EFFECTS).items():
        if not {name for pair in names for name in pair} <= results.keys():
            continue
        for metric in SHOWN:
            values = [tuple(_values(results[name], metric) for name in pair) for pair in names]
            comparison = compare(values, METRICS[metric].better)
            if comparison is not None:
                found[what, metric] = comparison
    return found


Judged = dict[tuple[str, str], tuple[Comparison, bool]]  # and whether it remains among so many


def judge(comparisons: dict[tuple[str, str], Comparison]) -> Judged:
    """Each comparison with whether its difference is still shown when all of them count."""
    kept = remaining(list(comparisons.values()))
    return {key: (comparison, keep) for (key, comparison), keep in zip(comparisons.items(), kept, strict=True)}


def make_effects(results: dict[str, dict[int, dict]], judged: Judged) -> Table | None:
    """What photographs, samples and noise do by themselves; None until all of that group has been run.

    Each row is a difference at the same seed, averaged over the pairs of experiments that differ in this alone.
    """
    if not all((label, metric) in judged for label in EFFECTS for metric in SHOWN):
        return None
    counts = {share: _photographs(results[_data_name(share, "twice", "cold")]) for share in ("all", "tenth")}
    table = Table("", [METRICS[name].title for name in SHOWN], [])
    for label in EFFECTS:
        cells = []
        for name in SHOWN:
            comparison, remains = judged[label, name]
            cells.append(Cell(f"{_change(label, name, judged)}, {comparison.verdict}", best=remains))
        table.rows.append(Row(label.format(**counts), cells))
    return table


def _change(label: str, metric: str, judged: Judged) -> str:
    comparison, form = judged[label, metric][0], METRICS[metric].form
    return f"{format(comparison.change, '+' + form)} ± {format(comparison.half, form)}"


def _photographs(seeds: dict[int, dict]) -> str:
    """How many photographs were trained on, the mean over the seeds: what is held out may depend on them."""
    return f"{np.mean([result['training']['photographs'] for result in seeds.values()]):,.0f}"


def make_table(
    group: str, experiments: Sequence[Experiment], results: dict[str, dict[int, dict]], judged: Judged
) -> Table | None:
    """The table of one question: its reference first; None where nothing of it has been run."""
    members = [experiment for experiment in experiments if experiment.group == group and experiment.name in results]
    if not members:
        return None
    reference = members[0].reference
    shown = [experiment for experiment in experiments if experiment.name == reference and reference in results]
    shown += [experiment for experiment in members if experiment.name != reference]
    metrics = [METRICS[name] for name in SHOWN]
    costs = ["seeds", "photographs", "trained samples", "CPU minutes"]
    table = Table("", ["what", *(metric.title for metric in metrics), *costs], [])
    for experiment in shown:
        seeds = results[experiment.name]
        cells = [Cell(experiment.purpose)]
        for metric in metrics:
            values = _values(seeds, metric.name)
            if not values:
                cells.append(Cell("n/a"))
                continue
            mean, half = student_interval(list(values.values()))
            text = format(mean, metric.form) + ("" if half is None else f" ± {format(half, metric.form)}")
            comparison, remains = judged.get((experiment.name, metric.name), (None, False))
            cells.append(Cell(text if comparison is None else f"{text}, {comparison.verdict}", best=remains))
        trainings = [result["training"] for result in seeds.values()]
        cells += [Cell(str(len(seeds))), Cell(_photographs(seeds)), Cell(f"{trainings[0]['samples']:,}")]
        cells.append(Cell(f"{np.mean([training['cpu_seconds'] for training in trainings]) / 60:.1f}"))
        table.rows.append(Row(experiment.name.rpartition("/")[2], cells))
    return table


def _values(seeds: dict[int, dict], name: str) -> dict[int, float]:
    values = {seed: result["metrics"][name]["value"] for seed, result in seeds.items()}
    return {seed: value for seed, value in values.items() if value is not None}


def read_results(folder: Path) -> tuple[dict[str, dict[int, dict]], list[dict]]:
    """Results by experiment and seed, and those of trainings that diverged.

    Raises:
        ValueError: an experiment's seeds were trained or measured differently.
    """
    results: dict[str, dict[int, dict]] = {}
    diverged = []
    for file in sorted(folder.glob("*--seed-*.json")):
        result = json.loads(file.read_text(encoding="utf-8"))
        if "diverged" in result:
            diverged.append(result)
        else:
            results.setdefault(result["experiment"], {})[result["seed"]] = result
    for name, seeds in results.items():
        ways = {
            json.dumps([r["changes"], r["data"], r["training"]["samples"]], sort_keys=True) for r in seeds.values()
        }
        if len(ways) > 1:
            raise ValueError(f"{folder}: the seeds of {name} do not compare, they are of {' and '.join(sorted(ways))}")
    return results, diverged


def render_page(results: Path, configs: Path = CONFIGS) -> str:
    """docs/experiments.md from the JSONs in a folder."""
    (found, diverged), experiments = read_results(results / TRAINED), read_experiments(configs)
    comparisons = compare_all(experiments, found)
    judged = judge(comparisons)
    tables = {group: make_table(group, experiments, found, judged) for group in QUESTIONS}
    data = {group: _data_of(group, found) for group in QUESTIONS}
    untrained = without_training.sections(results)
    missing = [without_training.QUESTIONS[name] for name, sections in untrained.items() if not sections]
    seeds = max((len(seeds) for seeds in found.values()), default=0)
    effects = make_effects(found, judged)
    return render(
        "experiments.md.jinja",
        sections=[section for sections in untrained.values() for section in sections],
        questions=[(QUESTIONS[group], data[group], table) for group, table in tables.items() if table is not None],
        notes={QUESTIONS[group]: note for group, note in NOTES.items()},
        effects={QUESTIONS[DATA]: effects},
        noise=None if effects is None else {name: _change(NOISE_EFFECT, name, judged) for name in SHOWN},
        devices=sorted({r["training"]["device"] for seeds in found.values() for r in seeds.values()}),
        sampling=experiments[0].settings["sampling"] | {"seed": EVALUATION_SEED},
        comparisons=len(comparisons),
        differences=sum(comparison.verdict != NO_DIFFERENCE for comparison in comparisons.values()),
        remaining=sum(remains for _, remains in judged.values()),
        fewer={name: len(of_it) for name, of_it in found.items() if len(of_it) < seeds},
        diverged=diverged,
        missing=missing + [QUESTIONS[group] for group, table in tables.items() if table is None],
    )


def keep_seeds(label: str, run: Path, results: Path) -> Path:
    """Store a run that was scored with several seeds; the file. ValueError where it was not."""
    if value_of(read_score(run)["rows"][OUTPUT].get("diversity")) is None:
        raise ValueError(f"argument --add: {run} was scored without --extra-seeds")
    return keep(label, run, None, results / DIVERSITY)


def _data_of(group: str, results: dict[str, dict[int, dict]]) -> dict | None:
    found = [result for name, seeds in results.items() if name.startswith(f"{group}/") for result in seeds.values()]
    return found[0]["data"] if found else None


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = Parser(
        prog="python -m eval.experiments", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add: Callable = parser.add_argument
    add("--run", action="store_true", help="train and measure what has no result yet")
    add("--seeds", nargs="+", type=at_least(0), default=[0, 1, 2], metavar="N", help="default: 0 1 2")
    add("--only", nargs="+", choices=(BASE, *QUESTIONS), help="only these questions")
    add("--sources", nargs="+", default=[], metavar="DIR", help="data sets, found by the names in the configs")
    add("--dataset", default=DATASET, metavar="SPEC", help=f"photographs to measure on (default: {DATASET})")
    add("--adapted-dataset", default=ADAPTED_DATASET, metavar="SPEC", help="the same after an adaptation")
    add("--limit", type=at_least(2), default=300, metavar="N", help="photographs (default: 300)")
    add("--configs", type=Path, default=CONFIGS, metavar="DIR", help="default: train/configs/experiments")
    add("--runs", type=Path, default=Path("runs/experiments"), metavar="DIR", help="folder of the trainings")
    add("--results", type=Path, default=RESULTS, metavar="DIR", help="folder of the JSONs (default: eval/results)")
    words = ("LABEL", "RUN")
    add("--add", nargs=2, action="append", default=[], metavar=words, help="a run scored with --extra-seeds to keep")
    add("--add-sweep", nargs="+", type=Path, default=[], metavar="DIR", help="sweeps over samplers and steps to keep")
    add("--page", type=Path, default=PAGE, metavar="FILE", help="the page to write (default: docs/experiments.md)")
    add_grid_arguments(parser, "docs/experiments.jpg")
    arguments = parser.parse_args(argv)
    try:
        for folder in arguments.add_sweep:
            without_training.check_sampling(folder)
            print(keep_sweep(folder, arguments.results / SAMPLING))
        for label, run in arguments.add:
            print(keep_seeds(label, Path(run), arguments.results))
        failures = run_experiments(arguments) if arguments.run else []
        save_grid(arguments)
        write_text(arguments.page, render_page(arguments.results, arguments.configs))
    except ValueError as error:
        parser.error(str(error))
    print(arguments.page)
    if failures:
        print("\n".join([f"{len(failures)} failed:", *failures]), file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
