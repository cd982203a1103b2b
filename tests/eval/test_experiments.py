"""Experiments: every config is one that the trainers take, a run from config to table, what may be called better."""

import pytest
import yaml
from conftest import EXAMPLES
from studying import kept, ledger_in, study

from eval.studies.experiment_tables import compare_all, judge, make_effects, make_table, read_trained
from eval.studies.experiments import plan_experiments
from eval.studies.ledger import LEDGER, Entry, record
from eval.studies.paired import NO_DIFFERENCE, compare, remaining, student_interval
from eval.studies.variants import BASE, CONFIGS, EFFECTS, QUESTIONS, merge_settings, read_experiments
from train.config import EmbeddedTraining, LoraTraining
from train.config_file import parse_command_line


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
        ({0: 1.0, 1: 1.1, 2: 1.2}, {0: 2.0, 1: 2.1, 2: 2.3}, "lower", "better"),
        ({0: 1.0, 1: 1.1, 2: 1.2}, {0: 2.0, 1: 2.1, 2: 2.3}, "higher", "worse"),
        ({0: 1.0, 1: 1.1, 2: 1.2}, {0: 2.0, 1: 2.1, 2: 2.2}, "lower", "better"),  # without any spread
        ({0: 1.0, 1: 3.0, 2: 2.0}, {0: 2.0, 1: 2.1, 2: 2.2}, "lower", NO_DIFFERENCE),
        ({0: 1.4, 1: 1.4}, {0: 0.7, 1: 0.7}, "one", "worse"),
        ({0: 1.0, 1: 2.0}, {0: 1.0, 1: 2.0}, "lower", NO_DIFFERENCE),
    ],
)
def test_a_difference_smaller_than_noise_is_not_called_one(values, reference, better, verdict):
    assert compare([(reference, values)], better).verdict == verdict


def test_a_difference_is_a_paired_t_test():
    from scipy.stats import ttest_rel

    before, after = [1.0, 2.0, 4.0], [1.5, 2.1, 5.0]
    found = compare([(dict(enumerate(before)), dict(enumerate(after)))], "lower")
    expected = ttest_rel(after, before)
    assert found.p == pytest.approx(expected.pvalue)
    interval = expected.confidence_interval()
    assert (found.change - found.half, found.change + found.half) == pytest.approx((interval.low, interval.high))


def test_distances_from_one_are_taken_before_pairs_are_averaged():
    far = {0: 0.8, 1: 0.8}
    found = compare([(far, far), (far, far), (far, {0: 1.6, 1: 1.6})], "one")
    assert found.verdict == "worse" and found.change == pytest.approx(0.8 / 3)


def test_one_common_seed_is_no_comparison_and_nan_is_refused():
    assert compare([({0: 2.0, 1: 2.0}, {0: 1.0})], "lower") is None
    with pytest.raises(ValueError, match="finite"):
        compare([({0: float("nan"), 1: 1.0}, {0: 1.0, 1: 1.0})], "lower")


def test_of_many_comparisons_fewer_remain():
    certain = compare([({0: 1.0, 1: 1.1, 2: 1.2}, {0: 2.0, 1: 2.1, 2: 2.2})], "lower")
    doubtful = compare([({0: 1.0, 1: 1.1, 2: 1.2}, {0: 2.0, 1: 2.1, 2: 2.5})], "lower")
    assert doubtful.verdict == "worse" and 0.001 < doubtful.p < 0.05
    assert remaining([doubtful]) == [True]
    nothing = compare([({0: 1.0, 1: 3.0}, {0: 2.0, 1: 2.0})], "lower")
    assert remaining([certain, doubtful] + 60 * [nothing]) == [True] + 61 * [False]
    assert remaining([]) == []


@pytest.fixture
def made_up_results():
    """Noise costs 1 dB, a tenth of the photographs nothing, at every seed with a deviation of its own."""
    experiments = [experiment.name for experiment in read_experiments()]

    def psnr(name: str, seed: int) -> float:
        cold = name == "noise/0" or name.endswith("cold")
        return 20 + cold + 0.1 * seed + 0.01 * ((len(name) + seed) % 3)

    def result(name: str, seed: int) -> Entry:
        training = {"photographs": 10 if "tenth" in name else 100, "samples": 8, "cpu_seconds": 60.0}
        values = {"psnr": psnr(name, seed), "colorfulness_ratio": 0.5 + 0.01 * seed}
        metrics = dict.fromkeys(("kd_lite2", "feature_distance", "ciede2000"), {"value": 1.0 + seed})
        metrics |= {name: {"value": value} for name, value in values.items()}
        return Entry("experiments", f"{name}, seed {seed}", {}, {"training": training}, {"output": metrics})

    return {name: {seed: result(name, seed) for seed in (0, 1, 2)} for name in experiments}


def test_effects_are_differences_of_experiments_that_differ_in_one_thing(made_up_results):
    experiments = read_experiments()
    judged = judge(compare_all(experiments, made_up_results))
    table = make_effects(made_up_results, judged)
    rows = {row.label: row.cells[table.columns.index("PSNR (dB)")] for row in table.rows}
    noise = rows["a stochastic start instead of a cold one"]
    assert noise.text.startswith(("-1.0", "-0.9")) and noise.text.endswith("worse") and noise.best
    more = rows["100 photographs instead of 10, cold start"]
    assert more.text.endswith(NO_DIFFERENCE) and not more.best
    assert {name for pairs in EFFECTS.values() for pair in pairs for name in pair} <= {e.name for e in experiments}
    few = {name: made_up_results[name] for name in ("base", "noise/0")}
    assert make_effects(few, judge(compare_all(experiments, few))) is None


def test_what_is_compared(made_up_results):
    experiments = read_experiments()
    compared = {name for name, _ in compare_all(experiments, made_up_results)}
    references = {experiment.reference for experiment in experiments}
    assert references == {"base", "adaptation/full"} and not references & compared
    # The group "data" changes several things at once.
    assert compared - EFFECTS.keys() == {e.name for e in experiments if e.group != "data"} - references
    assert compared >= EFFECTS.keys()


def test_an_experiment_with_fewer_seeds_is_compared_over_those_that_it_has(made_up_results):
    del made_up_results["noise/0.3"][2]
    experiments = read_experiments()
    table = make_table("noise", experiments, made_up_results, judge(compare_all(experiments, made_up_results)))
    row = next(row for row in table.rows if row.label == "0.3")
    assert row.cells[table.columns.index("seeds")].text == "2"


def test_seeds_that_were_measured_differently_are_refused(tmp_path):
    settings = {"experiment": "base", "changes": {}, "training": {"samples": 8}}
    entries = [
        Entry("experiments", f"base, seed {seed}", {"name": "photos", "n": n}, settings | {"seed": seed})
        for seed, n in ((0, 300), (1, 50))
    ]
    record(entries, tmp_path / "ledger.jsonl")
    with pytest.raises(ValueError, match="seeds of base do not compare"):
        read_trained(tmp_path / "ledger.jsonl")


def test_results_are_of_the_configs_that_are_here():
    results = read_trained(LEDGER).results
    changes = {experiment.name: experiment.changes for experiment in read_experiments()}
    assert results.keys() == changes.keys()
    assert all(e.settings["changes"] == changes[name] for name, seeds in results.items() for e in seeds.values())


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
    command = ["experiments", "--run", "--seeds", "0", "--limit", "2", "--configs", str(small_configs)]
    command += ["--runs", str(tmp_path / "runs")]
    return [*command, "--dataset", f"imagefolder:{EXAMPLES}", "--adapted-dataset", f"imagefolder:{EXAMPLES}"]


def test_from_configs_to_tables(command, tmp_path, capsys):
    assert study(tmp_path, *command) == 0
    results = {entry.run: entry for entry in kept(tmp_path, "experiments")}
    assert len(results) == 4
    lora = results["adaptation/lora-4-both, seed 0"]
    assert lora.settings["training"]["samples"] == 2 and lora.metrics["psnr"]["n"] == 2
    text = capsys.readouterr().out
    assert "What base is." in text and "LoRA or full fine-tuning" in text
    before = ledger_in(tmp_path).stat().st_mtime_ns
    assert study(tmp_path, *command) == 0  # nothing is done twice
    assert before == ledger_in(tmp_path).stat().st_mtime_ns


def test_an_experiment_that_diverges_does_not_end_the_others(command, small_configs, tmp_path, capsys):
    for name in ("noise/0", "adaptation/general"):
        file = small_configs / f"{name}.yaml"
        changes = yaml.safe_load(file.read_text())
        diverging = {"optim": {"learning_rate": 1e30}, "run": {"max_steps": 4}}
        file.write_text(f"# What {name} is.\n" + yaml.safe_dump(merge_settings(changes, diverging)))
    small_configs.joinpath("target").mkdir()
    small_configs.joinpath("target", "sample.yaml").write_text("# Last.\nobjective: {prediction_type: sample}\n")
    assert study(tmp_path, *command) == 1
    assert {entry.run: "diverged" in entry.settings for entry in kept(tmp_path, "experiments")} == {
        "base, seed 0": False,
        "target/sample, seed 0": False,
        "noise/0, seed 0": True,
        "adaptation/general, seed 0": True,
    }
    text, errors = capsys.readouterr()
    summary = errors.rpartition("3 failed:")[2]
    assert all(f"{name}, seed 0: " in summary for name in ("noise/0", "adaptation/general", "adaptation/lora-4-both"))
    assert "no model of adaptation/general" in summary
    assert "Last." in text and "- Diverged: noise/0, seed 0: the " in text


def test_what_is_trained_and_in_which_order(small_configs, tmp_path):
    def plan(seeds, only=None, done=()) -> list[tuple[str, int]]:
        found = plan_experiments(read_experiments(small_configs), seeds, only, set(done), tmp_path / "runs")
        return [(experiment.name, seed) for experiment, seed in found]

    general, lora = "adaptation/general", "adaptation/lora-4-both"
    assert plan([0]) == [("base", 0), (general, 0), (lora, 0), ("noise/0", 0)]
    assert plan([1, 0], ["noise"]) == [("noise/0", 1), ("noise/0", 0)]
    # A clone has results but no trained models: an adaptation needs the general one again.
    assert plan([0], ["adaptation"], [(general, 0)]) == [(general, 0), (lora, 0)]
    (tmp_path / "runs" / "adaptation--general--seed-0" / "model").mkdir(parents=True)
    assert plan([0], ["adaptation"], [(general, 0)]) == [(lora, 0)]
    assert plan([0], ["adaptation"], [(general, 0), (lora, 0)]) == []
