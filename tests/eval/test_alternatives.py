"""The study that compares the alternatives: what is kept of a run, and its table."""

import json

import pytest
from studying import kept, study
from test_report import DATA, make_score, metric, write_run

from colorization.loading import BASELINE_DIRECTORY, EMBEDDED_DIRECTORY, load_pipeline
from eval.studies.alternatives import count_parameters

TRAINING = {"samples": 16000, "cpu_seconds": 300.0, "device": "x86_64 cpu", "photographs": 22517, "steps": 1000}


@pytest.fixture
def add(tmp_path):
    """Adds a scored run of a model under a label."""

    def add(label: str, model: str, training: dict | None = TRAINING, data: dict = DATA, **values) -> int:
        request = {"model": model, "dataset": "imagefolder:photos", "dataset_name": "photos"}
        run = write_run(tmp_path / f"run-{label}", make_score(data=data, run=request, **values))
        folder = "-"
        if training is not None:
            folder = tmp_path / label
            folder.mkdir()
            (folder / "summary.json").write_text(json.dumps(training))
        return study(tmp_path, "alternatives", "--add", label, run, folder)

    return add


def test_there_is_a_row_for_each_and_a_mark_where_it_was_trained_elsewhere(add, tmp_path, capsys):
    add("shipped model", "embedded", training=None, psnr=metric(21.0, [20.0, 22.0]))
    capsys.readouterr()
    add("GAN", "baseline:optimization", psnr=metric(23.0, [22.0, 24.0]))
    page = (tmp_path / "docs" / "alternatives.md").read_text(encoding="utf-8")
    for text in (capsys.readouterr().out, page):
        rows = [line for line in text.splitlines() if line.startswith(("| GAN", "| shipped"))]
        assert len(rows) == 2 and rows[0].startswith("| GAN")
        assert "| 5 |" in rows[0] and "**23.00" in rows[0]
        assert "n/a" in rows[1] and "trained elsewhere" in text and "16,000" in text
    (gan, shipped) = kept(tmp_path, "alternatives")
    assert gan.settings["training"] == {name: TRAINING[name] for name in TRAINING if name != "steps"}
    assert "training" not in shipped.settings and "colorfulness" not in gan.metrics  # not shown


def test_parameters_are_counted_in_the_files():
    pipeline = load_pipeline(device="cpu")
    networks = (
        *(pipeline.unet, pipeline.vae, pipeline.text_encoder),
        *(pipeline.semantic_encoder, pipeline.naming_head),
    )
    counted = sum(tensor.numel() for network in networks for tensor in network.state_dict().values())
    assert count_parameters(EMBEDDED_DIRECTORY) == counted
    assert count_parameters(BASELINE_DIRECTORY / "optimization") == 1


def test_runs_of_other_photographs_and_unfinished_trainings_are_refused(add, tmp_path, capsys):
    add("GAN", "baseline:optimization")
    with pytest.raises(SystemExit):
        add("resnet", "baseline:optimization", data=DATA | {"n": 13})
    assert "different photographs" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        study(tmp_path, "alternatives", "--add", "x", tmp_path / "run-GAN", tmp_path)
    assert "not finished" in capsys.readouterr().err
    assert [entry.run for entry in kept(tmp_path, "alternatives")] == ["GAN"]
