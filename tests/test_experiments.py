"""Experiments: every config is one that the trainers take, a run from config to page, what may be called better."""

import json

import pytest
import yaml
from conftest import EXAMPLES

from eval.experiments import (
    BASE,
    CONFIGS,
    EFFECTS,
    PAGE,
    QUESTIONS,
    RESULTS,
    TRAINED,
    difference,
    main,
    make_effects,
    merge_settings,
    plan_experiments,
    read_experiments,
    render_page,
    student_interval,
    verdicts,
)
from train.config import EmbeddedTraining, LoraTraining, parse_command_line


@pytest.mark.parametrize("experiment", read_experiments(), ids=lambda experiment: experiment.name)
def test_every_config_is_complete(experiment, tmp_path):
    file = tmp_path / "experiment.yaml"
    file.write_text(yaml.safe_dump(experiment.settings))
    kind = LoraTraining if experiment.is_lora else EmbeddedTraining
    config, _ = parse_command_line(kind, "", ["--config", str(file)])
    assert config.run.batch_size == read_experiments()[0].settings["run"]["batch_size"]
    assert experiment.purpose
    assert experiment.name == BASE or experiment.group in QUESTIONS


def test_budgets_are_equal_where_they_are_not_the_question():
    steps = {e.settings["run"]["max_steps"] for e in read_experiments() if e.group not in ("data", "adaptation")}
    assert len(steps) == 1


def test_settings_are_merged_section_by_section():
    assert merge_settings({"a": {"x": 1, "y": 2}, "b": 3}, {"a": {"y": 5}}) == {"a": {"x": 1, "y": 5}, "b": 3}


def test_interval_is_students():
    mean, half = student_interval([1.0, 2.0, 3.0])
    assert mean == 2.0 and half == pytest.approx(4.302653 / 3**0.5)
    assert student_interval([1.0]) == (1.0, None)


@pytest.mark.parametrize(
    "values, reference, better, verdict",
    [
        ({0: 1.0, 1: 1.1, 2: 1.2}, {0: 2.0, 1: 2.1, 2: 2.2}, "lower", "better"),
        ({0: 1.0, 1: 1.1, 2: 1.2}, {0: 2.0, 1: 2.1, 2: 2.2}, "higher", "worse"),
        ({0: 1.0, 1: 3.0, 2: 2.0}, {0: 2.0, 1: 2.1, 2: 2.2}, "lower", "no difference shown"),
        ({0: 1.4, 1: 1.4}, {0: 0.7, 1: 0.7}, "one", "worse"),
        ({0: 1.0}, {0: 2.0, 1: 2.0}, "lower", ""),
    ],
)
def test_a_difference_smaller_than_noise_is_not_called_one(values, reference, better, verdict):
    assert difference(values, reference, better) == verdict


@pytest.fixture
def made_up_results():
    """Noise costs 1 dB, a tenth of the photographs nothing, at every seed with a deviation of its own."""
    experiments = [experiment.name for experiment in read_experiments()]
    metrics = ("kd_lite2", "feature_distance", "colorfulness_ratio", "psnr", "ciede2000")

    def psnr(name: str, seed: int) -> float:
        cold = name == "noise/0" or name.endswith("cold")
        return 20 + cold + 0.1 * seed + 0.01 * ((len(name) + seed) % 3)

    return {
        name: {seed: {"metrics": {m: {"value": psnr(name, seed)} for m in metrics}} for seed in (0, 1, 2)}
        for name in experiments
    }


def test_effects_are_differences_of_experiments_that_differ_in_one_thing(made_up_results):
    table = make_effects(made_up_results)
    rows = {row.label: row.cells[table.columns.index("PSNR (dB)")].text for row in table.rows}
    noise = rows["a stochastic start instead of a cold one"]
    assert noise.startswith(("-1.0", "-0.9")) and noise.endswith("worse")
    assert all(text.endswith("no difference shown") for label, text in rows.items() if "photographs" in label)
    names = {experiment.name for experiment in read_experiments()}
    assert {name for pairs in EFFECTS.values() for pair in pairs for name in pair} <= names
    assert make_effects({name: made_up_results[name] for name in ("base", "noise/0")}) is None


def test_a_reference_is_not_compared_with_itself(made_up_results):
    experiments = read_experiments()
    said = verdicts(experiments, made_up_results)
    references = {experiment.reference for experiment in experiments}
    assert len(said) == 5 * (len(experiments) - len(references))


def test_the_page_is_rendered_from_the_results():
    assert render_page(RESULTS) == PAGE.read_text(encoding="utf-8")


@pytest.fixture
def small_configs(tmp_path):
    """The shipped base and adaptation, tiny, on the pictures in examples/."""
    base = yaml.safe_load((CONFIGS / "base.yaml").read_text())
    base["model"] |= {"unet_channels": [32, 32], "vocabulary": 300}
    base["data"] |= {"sources": [str(EXAMPLES)], "holdout": 0, "resolution": 32, "cache_batch_size": 4}
    base["optim"] |= {"warmup_steps": 0}
    base["run"] |= {"batch_size": 2, "max_steps": 1, "checkpoint_every": 1, "mixed_precision": "no"}
    base["sampling"]["num_inference_steps"] = 1
    texts = {"base": base, "noise/0": yaml.safe_load((CONFIGS / "noise" / "0.yaml").read_text())}
    for name in ("adaptation/general", "adaptation/lora-4-both"):
        changes = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
        changes["data"]["sources"] = [str(EXAMPLES)]
        texts[name] = changes | {"run": {"max_steps": 1}}
    for name, settings in texts.items():
        file = tmp_path / "configs" / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"# What {name} is.\n" + yaml.safe_dump(settings))
    return tmp_path / "configs"


@pytest.fixture
def command(small_configs, tmp_path):
    """Arguments that train and measure the small experiments, with everything in the test's folder."""
    places = {name: str(tmp_path / name) for name in ("results", "runs")} | {"page": str(tmp_path / "page.md")}
    command = ["--run", "--seeds", "0", "--limit", "2", "--configs", str(small_configs)]
    command += [word for name, place in places.items() for word in (f"--{name}", place)]
    return [*command, "--dataset", f"imagefolder:{EXAMPLES}", "--adapted-dataset", f"imagefolder:{EXAMPLES}"]


def test_from_configs_to_page(command, tmp_path):
    assert main(command) == 0
    folder = tmp_path / "results" / TRAINED
    results = {file.name: json.loads(file.read_text()) for file in folder.iterdir()}
    assert len(results) == 4
    lora = results["adaptation--lora-4-both--seed-0.json"]
    assert lora["training"]["samples"] == 2 and lora["metrics"]["psnr"]["n"] == 2
    page = (tmp_path / "page.md").read_text()
    assert "What base is." in page and "LoRA or full fine-tuning" in page
    times = {file: file.stat().st_mtime_ns for file in folder.iterdir()}
    assert main(command) == 0  # nothing is done twice
    assert times == {file: file.stat().st_mtime_ns for file in folder.iterdir()}


def test_an_experiment_that_diverges_does_not_end_the_others(command, small_configs, tmp_path, capsys):
    for name in ("noise/0", "adaptation/general"):
        file = small_configs / f"{name}.yaml"
        changes = yaml.safe_load(file.read_text())
        diverging = {"optim": {"learning_rate": 1e30}, "run": {"max_steps": 4}}
        file.write_text(f"# What {name} is.\n" + yaml.safe_dump(merge_settings(changes, diverging)))
    small_configs.joinpath("target").mkdir()
    small_configs.joinpath("target", "sample.yaml").write_text("# Last.\nobjective: {prediction_type: sample}\n")
    assert main(command) == 1
    assert {file.name for file in (tmp_path / "results" / TRAINED).iterdir()} == {
        "base--seed-0.json",
        "target--sample--seed-0.json",
    }
    summary = capsys.readouterr().err.rpartition("3 failed:")[2]
    assert all(f"{name}, seed 0: " in summary for name in ("noise/0", "adaptation/general", "adaptation/lora-4-both"))
    assert "no model of adaptation/general" in summary
    assert "Last." in (tmp_path / "page.md").read_text()


def test_what_is_trained_and_in_which_order(small_configs, tmp_path):
    def plan(seeds, only=None) -> list[tuple[str, int]]:
        experiments = read_experiments(small_configs)
        found = plan_experiments(experiments, seeds, only, tmp_path / "results", tmp_path / "runs")
        return [(experiment.name, seed) for experiment, seed in found]

    general, lora = "adaptation/general", "adaptation/lora-4-both"
    assert plan([0]) == [("base", 0), (general, 0), (lora, 0), ("noise/0", 0)]
    assert plan([1, 0], ["noise"]) == [("noise/0", 1), ("noise/0", 0)]
    # A clone has results but no trained models: an adaptation needs the general one again.
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "adaptation--general--seed-0.json").touch()
    assert plan([0], ["adaptation"]) == [(general, 0), (lora, 0)]
    (tmp_path / "runs" / "adaptation--general--seed-0" / "model").mkdir(parents=True)
    assert plan([0], ["adaptation"]) == [(lora, 0)]
    (tmp_path / "results" / "adaptation--lora-4-both--seed-0.json").touch()
    assert plan([0], ["adaptation"]) == []
