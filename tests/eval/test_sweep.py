import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from conftest import EXAMPLES, tiny_pipeline
from PIL import Image

from colorization import load_pipeline
from eval.__main__ import main
from eval.choosing import choose_setting, explain_choice, front, store_defaults
from eval.grid import make_grid, pipeline_sha256, sampling_runs, with_noise_scale
from eval.metrics.lite2 import Lite2Features
from eval.metrics.pixels import psnr
from eval.photos import load_photos, photo_seed
from eval.setting import Setting
from eval.summary import feature_metrics, to_tensor
from eval.sweep_page import sweep_table


@pytest.fixture(scope="module")
def photo_folder(tmp_path_factory) -> Path:
    """Four small photographs of two shapes with labels, and a gray one."""
    folder = tmp_path_factory.mktemp("photos") / "small"
    folder.mkdir()
    for k, path in enumerate(sorted(EXAMPLES.glob("*.jpg"))[:4]):
        Image.open(path).convert("RGB").resize((40, 24) if k % 2 else (24, 40)).save(folder / f"{k}.png")
    Image.new("RGB", (24, 40), (90, 90, 90)).save(folder / "gray.png")
    lines = ["file,caption", *(f"{k}.png,thing {k}" for k in range(4))]
    (folder / "index.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def pair_folder(photo_folder, tmp_path_factory) -> Path:
    """Two of them."""
    folder = tmp_path_factory.mktemp("photos") / "pair"
    folder.mkdir()
    for name in ("0.png", "1.png", "index.csv"):
        (folder / name).write_bytes((photo_folder / name).read_bytes())
    return folder


def save(folder: Path, **defaults) -> str:
    in_channels, noise_scale = defaults.pop("in_channels", 8), defaults.pop("noise_scale", 0.6)
    tiny_pipeline(in_channels, noise_scale=noise_scale, default_negative_prompt="", **defaults).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return save(tmp_path_factory.mktemp("models") / "chroma", color_scale_space="chroma", default_batch_size=3)


@pytest.fixture(scope="module")
def latent_model(tmp_path_factory) -> str:
    return save(tmp_path_factory.mktemp("models") / "latent", color_scale_space="latent")


def read(folder: Path) -> dict:
    return json.loads((folder / "sweep.json").read_text(encoding="utf-8"))


# Grid


def test_the_grid_is_full_and_filled_with_the_models_defaults(model):
    pipeline = load_pipeline(model, device="cpu")
    assert make_grid(pipeline) == [Setting(2, 1.0, "euler", 0.6, 1.0)]
    grid = make_grid(pipeline, steps=[4, 2, 4], sampler=["euler", "naive"], color_scale=[0.5, 1])
    assert len(grid) == 2 * 2 * 2 and grid == sorted(grid)
    assert {setting.noise_scale for setting in grid} == {0.6}
    samplers = {setting.noise_scale: setting.sampler for setting in make_grid(pipeline, noise_scale=[0, 0.3])}
    assert samplers == {0.0: "cold", 0.3: "euler"}  # the model names none


def test_a_color_scale_on_chroma_costs_no_sampling(model):
    grid = make_grid(load_pipeline(model, device="cpu"), steps=[2, 4], color_scale=[0.5, 1, 2])
    assert [len(run) for run in sampling_runs(grid, "chroma")] == [3, 3]
    assert [len(run) for run in sampling_runs(grid, "latent")] == [1] * 6
    assert len({setting.file_name for setting in grid}) == len(grid)


def test_another_noise_scale_leaves_the_model_as_it_is(model):
    pipeline = load_pipeline(model, device="cpu")
    before, photo = pipeline_sha256(pipeline), np.arange(24 * 40, dtype=np.uint8).reshape(24, 40)
    as_trained = pipeline(photo, output_type="np").images[0]
    variant = with_noise_scale(pipeline, 0.2)
    assert variant.scheduler.config.noise_scale == 0.2 and variant.unet is pipeline.unet
    own = {key: value for key, value in pipeline.config.items() if not key.startswith("_") and key != "scheduler"}
    assert own.items() <= variant.config.items()
    assert variant.scheduler.config.prediction_type == pipeline.scheduler.config.prediction_type
    assert np.abs(variant(photo, output_type="np").images[0] - as_trained).max() > 1e-3
    assert pipeline.scheduler.config.noise_scale == 0.6
    np.testing.assert_array_equal(pipeline(photo, output_type="np").images[0], as_trained)
    assert with_noise_scale(pipeline, 0.6) is pipeline
    assert pipeline_sha256(pipeline) == before
    pipeline.unet.conv_in.bias.data[0] += 1
    assert pipeline_sha256(pipeline) != before


# Sweep


@pytest.mark.parametrize("space", ["chroma", "latent"])
def test_the_sweep_measures_what_the_pipeline_gives(
    photo_folder, pair_folder, model, latent_model, tmp_path, space, capsys
):
    chosen, folder = (model, photo_folder) if space == "chroma" else (latent_model, pair_folder)
    command = ["sweep", "--dataset", f"imagefolder:{folder}", "--model", chosen, "--output", str(tmp_path)]
    command += ["--color-scale", "0.5", "1.5", "--noise-scale", "0.3"]
    assert main(command) == 0
    assert ("left out: 1 gray" in capsys.readouterr().err) == (space == "chroma")
    rows = read(tmp_path)["rows"]
    assert [row["setting"]["color_scale"] for row in rows] == [0.5, 1.5]

    photos = [photo for photo in load_photos(str(folder)) if photo.id != "gray"]
    lite2, pixels = Lite2Features(), [photo.pixels() for photo in photos]
    originals = lite2(pixels)
    pipeline = with_noise_scale(load_pipeline(chosen, device="cpu"), 0.3)
    for row in rows:
        settings = {"seed": [photo_seed(0, photo) for photo in photos], "color_scale": row["setting"]["color_scale"]}
        outputs = [np.array(image) for image in pipeline(pixels, **settings).images]
        direct = feature_metrics(lite2(outputs), originals, 0)
        for name in ("feature_distance", "kd_lite2") if len(photos) >= 4 else ("feature_distance",):
            assert row["metrics"][name]["value"] == pytest.approx(direct[name]["value"], rel=1e-3)
        direct = np.mean([psnr(to_tensor(a), to_tensor(b)).item() for a, b in zip(outputs, pixels, strict=True)])
        assert row["metrics"]["psnr"]["value"] == pytest.approx(direct, rel=1e-5)
        assert row["metrics"]["ciede2000"]["interval"] and row["data"]["n"] == len(photos)


def test_a_sweep_goes_on_where_it_stopped(pair_folder, model, tmp_path, capsys):
    command = ["sweep", "--dataset", f"imagefolder:{pair_folder}", "--model", model, "--output", str(tmp_path)]
    assert main([*command, "--color-scale", "0.5", "1"]) == 0
    files = sorted((tmp_path / "settings").iterdir())
    assert len(files) == 2
    first = read(tmp_path)
    times = [file.stat().st_mtime_ns for file in files]
    contents = [json.loads(file.read_text()) for file in files]

    files[0].unlink()
    assert main([*command, "--color-scale", "0.5", "1"]) == 0
    assert files[1].stat().st_mtime_ns == times[1]
    again = json.loads(files[0].read_text())
    for result in (again, contents[0]):
        del result["metrics"]["seconds_per_image"]
    assert again == contents[0]

    assert main([*command, "--color-scale", "2", "--steps", "1"]) == 0  # adds to what is there
    rows = read(tmp_path)["rows"]
    assert len(rows) == 3 and all(row["setting"] in [r["setting"] for r in rows] for row in first["rows"])
    printed = capsys.readouterr().out
    assert printed.count("1 steps, guidance 1, euler, noise 0.6, color 2") == 1
    assert "pair, n = 2" in (tmp_path / "sweep.md").read_text(encoding="utf-8")

    with pytest.raises(SystemExit) as status:
        main([*command, "--color-scale", "0.5", "--seed", "1"])
    assert status.value.code == 2
    assert "was made with seed 0, not 1" in capsys.readouterr().err
    assert main([*command, "--color-scale", "0.5", "--seed", "1", "--overwrite"]) == 0
    assert [row["request"]["seed"] for row in read(tmp_path)["rows"]] == [1]


def test_guidance_needs_prompts(pair_folder, model, tmp_path, capsys):
    command = ["sweep", "--dataset", f"imagefolder:{pair_folder}", "--model", model, "--output", str(tmp_path)]
    command += ["--guidance-scale", "1", "3"]
    with pytest.raises(SystemExit):
        main(command)
    assert "all values give the same pictures" in capsys.readouterr().err
    assert main([*command, "--prompt-mode", "label", "--choose", "psnr", "--psnr-loss", "90"]) == 0
    rows = read(tmp_path)["rows"]
    assert rows[0]["metrics"]["psnr"]["value"] != rows[1]["metrics"]["psnr"]["value"]
    assert read(tmp_path)["choice"]["reached"]
    assert "best PSNR (dB) of the 2 of 2 settings" in capsys.readouterr().out


def test_failures_are_named(photo_folder, tmp_path, capsys):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "0.png").write_bytes((photo_folder / "0.png").read_bytes())
    (tmp_path / "photos" / "bad.png").write_bytes(b"no picture")
    model = save(tmp_path / "model", in_channels=4, noise_scale=0.0, color_scale_space="chroma")
    command = ["sweep", "--dataset", f"imagefolder:{tmp_path / 'photos'}", "--model", model]
    command += ["--output", str(tmp_path / "out"), "--store", model]
    with pytest.raises(SystemExit):
        main(command)
    captured = capsys.readouterr()
    assert "failed: bad.png: cannot be decoded" in captured.err
    assert captured.err.splitlines()[-1] == "error: argument --store: no setting was chosen"
    assert "needs at least 4 photographs" in captured.out
    assert "No setting can be chosen: KD-Lite2 was not measured." in captured.out
    with pytest.raises(SystemExit):
        main([*command, "--noise-scale", "0.5"])
    assert capsys.readouterr().err.startswith("error: `noise_scale` 0.5 needs a UNet with 8 input channels")
    with pytest.raises(SystemExit):
        main([*command, "--psnr-loss", "-1"])
    assert "argument --psnr-loss: must be a finite number of at least 0" in capsys.readouterr().err


# Choice

GRAY = {"psnr": {"value": 20.0, "n": 4, "interval": None}, "colorfulness": {"value": 0.0, "n": 4, "interval": None}}


def row(steps: int, color_scale: float, distance: float, psnr: float, ratio: float | None = 0.5, error=0.002) -> dict:
    return {
        "setting": asdict(Setting(steps, 2.0, "euler", 0.6, color_scale)),
        "metrics": {
            "colorfulness_ratio": {"value": ratio, "n": 4, "interval": None, "reason": "an original is gray"},
            "kd_lite2": {"value": distance, "n": 4, "interval": None, "standard_error": error},
            "psnr": {"value": psnr, "n": 4, "interval": [psnr - 1.96, psnr + 1.96]},
        },
    }


def test_the_cheapest_of_the_equally_good_is_chosen():
    rows = [row(4, 1.0, 0.0118, 20), row(8, 1.0, 0.0115, 20), row(8, 1.3, 0.0101, 20), row(16, 1.3, 0.0100, 20)]
    choice = choose_setting(rows, GRAY, "kd_lite2", 1.0)
    assert choice["best"] == rows[3]["setting"] and choice["equal"] == [row["setting"] for row in rows]
    assert choice["setting"] == rows[0]["setting"]
    rows[0]["metrics"]["kd_lite2"]["value"] = 0.0121  # now 2.1 standard errors away: only those of 8 steps are left
    choice = choose_setting(rows, GRAY, "kd_lite2", 1.0)
    assert choice["setting"] == rows[2]["setting"]
    text = explain_choice(choice, rows)
    assert text.startswith("Chosen: 8 steps, guidance 2, euler, noise 0.6, color 1.3 (KD-Lite2 0.0101 ± 0.0020, PSNR")
    assert "of the 4 of 4 settings whose PSNR is at most 1 dB below the gray input's 20.00 dB, has 16 steps" in text
    assert "2 more lie within one standard error of it and count as equally good" in text
    rows[1]["metrics"]["colorfulness_ratio"]["value"] = 0.8  # one that costs the same has more of the color
    assert choose_setting(rows, GRAY, "kd_lite2", 1.0)["setting"] == rows[1]["setting"]
    assert choose_setting(rows, GRAY, "psnr", 1.0)["setting"] == rows[0]["setting"]  # its error comes from intervals


def test_a_color_scale_cannot_buy_color_with_errors():
    rows = [row(8, 1.0, 0.02, 20.0, 0.5), row(8, 2.0, 0.01, 18.9, 1.0)]
    choice = choose_setting(rows, GRAY, "kd_lite2", 1.0)
    assert choice["reached"] and choice["eligible"] == 1 and choice["setting"] == rows[0]["setting"]
    assert "Without regard to PSNR the best would be 8 steps, guidance 2, euler, noise 0.6, color 2 (" in (
        explain_choice(choice, rows)
    )
    assert choose_setting(rows, GRAY, "kd_lite2", 1.2)["setting"] == rows[1]["setting"]
    choice = choose_setting(rows[1:], GRAY, "kd_lite2", 1.0)
    assert not choice["reached"] and choice["setting"] == rows[1]["setting"]
    assert "of all 1 settings, as none has a PSNR at most 1 dB below" in explain_choice(choice, rows[1:])


def test_the_front_is_what_nothing_else_beats():
    rows = [row(4, 1.0, 0.02, 20.0, 0.5), row(8, 1.0, 0.02, 20.0, 0.6), row(8, 2.0, 0.03, 19.0, 1.0)]
    assert front(rows) == {1, 2}
    assert front([*rows, row(8, 3.0, 0.03, 19.0, 1.1), row(8, 4.0, 0.001, 30.0, None)]) == {1, 2}


def test_the_table_marks_the_best_and_shows_the_gray_input():
    table = sweep_table([row(8, 0.8, 0.01, 20, 0.7), row(8, 1.0, 0.05, 21, 0.95)], GRAY)
    marked = {column: [r.cells[k].best for r in table.rows] for k, column in enumerate(table.columns)}
    assert marked["KD-Lite2"] == [True, False, False]
    assert marked["PSNR (dB)"] == marked["colorfulness / original's"] == [False, True, False]
    assert marked["colorfulness"] == [False, False, False]
    assert [r.cells[-1].text for r in table.rows] == ["yes", "yes", ""] and table.rows[-1].pseudo


def test_defaults_are_stored_in_the_model(model, tmp_path):
    folder = tmp_path / "model"
    load_pipeline(model, device="cpu").save_pretrained(folder)
    setting = Setting(5, 1.5, "naive", 0.3, 1.2)
    assert [file.name for file in store_defaults(folder, setting)] == ["model_index.json", "scheduler_config.json"]
    assert make_grid(load_pipeline(str(folder), device="cpu")) == [setting]
    assert store_defaults(folder, setting) == []
    with pytest.raises(ValueError, match="argument --store: .* has no model_index.json"):
        store_defaults(tmp_path, setting)
