"""The course that all trainers share: what is called in which order, what the summary and the dry run say."""

import json
from dataclasses import replace

import pytest
import torch
from conftest import EXAMPLES

from train.config import DataConfig, RunConfig, VividnessTraining
from train.objective import Loss
from train.trainer import Trainer, dry_run, run, run_command


class Line(Trainer[VividnessTraining]):
    """Learns the share of bright pixels from nothing."""

    settings = VividnessTraining
    result = "line"
    calls: list[str] = []

    def build(self):
        self.calls.append("build")
        self.network = torch.nn.Linear(1, 1)
        self.weight = self.network.weight.item()

    def check(self):
        self.calls.append("check")

    def prepare(self):
        self.calls.append("prepare")

    def task(self):
        self.calls.append("task")
        return self

    def loss(self, network, batch):
        errors = (network(batch["x"]) - 1).abs().flatten()
        return Loss(errors.mean(), errors.detach(), None, {})

    def validation(self):
        self.calls.append("validation")
        return lambda step: self.calls.append(f"step {step}")

    def samples(self):
        self.calls.append("samples")
        return self

    def draw(self, index, rng, with_caption):
        return {"x": torch.tensor([float(index)])}

    def save(self, directory):
        self.calls.append("save")
        directory.write_text(str(self.weight))

    def facts(self, summary):
        return {"twice": 2 * summary["steps"]}

    @classmethod
    def describe(cls, config, photos):
        yield f"a line, photographs: {'unknown' if photos is None else len(photos)}"


class LineFromPhotos(Line):
    built_from_photos = True


def config(folder, **run_settings) -> VividnessTraining:
    settings = {"batch_size": 2, "max_steps": 3, "trackers": "none", "mixed_precision": "no"} | run_settings
    return VividnessTraining(
        data=DataConfig([str(EXAMPLES)], limit=4, holdout=5, resolution=8),
        run=RunConfig(str(folder), validation_every=2, validation_dataset="holdout", **settings),
    )


def test_the_parts_of_a_trainer_are_called_in_the_order_of_its_class(tmp_path):
    Line.calls.clear()
    assert run(Line, config(tmp_path)) == tmp_path / "line"
    before = ["build", "check", "prepare", "task", "validation", "samples"]
    assert Line.calls == [*before, "step 2", "step 3", "save"]
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["steps"], summary["photographs"], summary["twice"]) == (3, 4, 6)
    assert "unreadable" not in summary


def test_new_weights_follow_from_the_seed_alone(tmp_path):
    weights = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        torch.rand(seed + 1)  # whatever was drawn before
        weights.append(run(Line, config(tmp_path / name, seed=seed)).read_text())
    assert weights[0] == weights[1] != weights[2]


def test_dry_runs_without_photographs(tmp_path, capsys):
    settings = config(tmp_path)
    dry_run(Line, settings)
    assert "a line, photographs: 4\nphotographs: 4, held out: " in capsys.readouterr().out
    settings = replace(settings, data=DataConfig(["./nowhere"]), run=replace(settings.run, max_steps=None, epochs=3))
    dry_run(Line, settings)
    shown = capsys.readouterr().out
    assert "a line, photographs: unknown\n" in shown and "photographs: unknown (source './nowhere': " in shown
    assert shown.endswith("steps: 3 x photographs / 2\n")
    with pytest.raises(ValueError, match="nowhere"):
        dry_run(LineFromPhotos, settings)


def test_a_missing_package_ends_the_command_with_one_line(tmp_path, capsys, monkeypatch):
    def build(self):
        raise ImportError("the line needs a package:\npip install line")

    monkeypatch.setattr(Line, "build", build)
    flags = ["--data.sources", f"[{EXAMPLES}]", "--data.limit", "1", "--output-dir", str(tmp_path)]
    with pytest.raises(SystemExit) as ended:
        run_command(Line, "", [*flags, "--run.validation_every", "0", "--run.trackers", "none"])
    assert ended.value.code == 2
    assert capsys.readouterr().err.endswith("error: the line needs a package: pip install line\n")
