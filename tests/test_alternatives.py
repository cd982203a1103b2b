"""The page that compares the alternatives: what is kept of a run, its table, its grid of pictures."""

import json

import pytest
from PIL import Image
from test_report import DATA, make_score, metric, write_run

from colorization.loading import BASELINE_DIRECTORY, EMBEDDED_DIRECTORY, load_pipeline
from eval.studies import experiments
from eval.studies.alternatives import PAGE, RESULTS, count_parameters, main, render_page

TRAINING = {"samples": 16000, "cpu_seconds": 300.0, "device": "x86_64 cpu", "photographs": 22517}


@pytest.fixture
def add(tmp_path):
    """Adds a scored run of a model under a label."""

    def add(label: str, model: str, training: dict | None = TRAINING, data: dict = DATA, **values) -> int:
        run = tmp_path / f"run-{label}"
        request = {"model": model, "dataset": "imagefolder:photos", "dataset_name": "photos"}
        write_run(run, make_score(data=data, run=request, **values), ["cat", "dog"])
        folder = "-"
        if training is not None:
            (tmp_path / label).mkdir()
            (tmp_path / label / "summary.json").write_text(json.dumps(training))
            folder = str(tmp_path / label)
        for part in ("images", "reference"):
            for k, name in enumerate(("cat", "dog")):
                (run / part / f"{k}.png").rename(run / part / f"{name}.png")
        places = ["--results", str(tmp_path / "results"), "--page", str(tmp_path / "page.md")]
        return main(["--add", label, str(run), folder, *places])

    return add


def test_page_has_a_row_for_each_and_marks_what_was_trained_elsewhere(add, tmp_path):
    add("shipped model", "embedded", training=None, psnr=metric(21.0, [20.0, 22.0]))
    add("GAN", "baseline:optimization", psnr=metric(23.0, [22.0, 24.0]))
    text = (tmp_path / "page.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith(("| GAN", "| shipped"))]
    assert len(rows) == 2 and rows[0].startswith("| GAN")
    assert "16,000" in rows[0] and "| 5 |" in rows[0] and "**23.00" in rows[0]
    assert "n/a" in rows[1] and "trained elsewhere" in text


def test_parameters_are_counted_in_the_files():
    pipeline = load_pipeline(device="cpu")
    networks = (pipeline.unet, pipeline.vae, pipeline.text_encoder)
    counted = sum(parameter.numel() for network in networks for parameter in network.parameters())
    assert count_parameters(EMBEDDED_DIRECTORY) == counted
    assert count_parameters(BASELINE_DIRECTORY / "optimization") == 1


def test_runs_of_other_photographs_and_unfinished_trainings_are_refused(add, tmp_path, capsys):
    add("GAN", "baseline:optimization")
    with pytest.raises(SystemExit):
        add("resnet", "baseline:optimization", data=DATA | {"n": 13})
    assert "different photographs" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["--add", "x", str(tmp_path / "run-GAN"), str(tmp_path), "--results", str(tmp_path / "other")])
    assert "not finished" in capsys.readouterr().err


def test_grid(add, tmp_path, capsys):
    add("GAN", "baseline:optimization")
    command = ["--grid", str(tmp_path / "run-GAN"), "--results", str(tmp_path / "results")]
    command += ["--page", str(tmp_path / "page.md")]
    assert main([*command, "--photos", "cat,dog"]) == 0
    assert Image.open(tmp_path / "page.jpg").size == (450, 18 + 2 * 100)
    with pytest.raises(SystemExit):
        main([*command, "--photos", "cow"])
    assert "'cow' is not in" in capsys.readouterr().err


@pytest.mark.parametrize("command", [main, experiments.main])
def test_a_grid_of_a_folder_that_is_no_run_is_refused(command, tmp_path, capsys):
    places = ["--results", str(tmp_path / "results"), "--page", str(tmp_path / "page.md")]
    with pytest.raises(SystemExit) as stop:
        command(["--grid", str(tmp_path), "--photos", "cat", *places])
    assert stop.value.code == 2 and "argument --grid" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_page_is_rendered_from_the_results():
    assert render_page(RESULTS) == PAGE.read_text(encoding="utf-8")


def test_what_the_page_says_is_what_the_results_show():
    entries = {}
    for file in RESULTS.glob("*.json"):
        entry = json.loads(file.read_text(encoding="utf-8"))
        entries[entry["label"]] = entry
    rows = {label: entry["score"]["rows"]["output"] for label, entry in entries.items()}
    rows["gray"] = entries["GAN"]["score"]["rows"]["gray"]

    def of(name: str) -> dict[str, float]:
        return {label: row[name]["value"] for label, row in rows.items()}

    regression, gan, cold = "regression (resnet)", "GAN", "diffusion, cold"
    colorful, psnr, fd = of("colorfulness_ratio"), of("psnr"), of("fd_lite2")
    others = {label: value for label, value in fd.items() if label != "gray"}
    assert max(others, key=others.get) == regression and fd[gan] < fd[regression]
    assert all(0.4 < colorful[label] < 0.5 for label in (regression, gan, cold))
    for label in ("PixelCNN", "diffusion, stochastic start", "classification (cic)"):
        assert colorful[label] > 0.6 and psnr[label] < min(psnr[cold], psnr[regression])
    seconds = {label: row["seconds_per_image"]["value"] for label, row in rows.items() if label != "gray"}
    assert max(seconds, key=seconds.get) == "PixelCNN"
    assert psnr["ControlNet, Canny edges"] < psnr["gray"]
    trained = [label for label, entry in entries.items() if entry["training"] is not None]
    assert len({entries[label]["training"]["samples"] for label in trained}) == 1
    for name in ("fd_lite2", "kd_lite2"):
        values = of(name)
        assert min(trained, key=values.get) == "PixelCNN"
        assert values["shipped model"] < values["PixelCNN"]
