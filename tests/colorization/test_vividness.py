"""Predicted colorfulness and the color scale that follows from it: network, pipeline, training, evaluation."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import EXAMPLES, random_photo, tiny_pipeline
from PIL import Image
from studying import kept, study

from colorization import ColorizationPipeline, load_pipeline
from colorization.cli import main as colorize
from colorization.color import colorfulness, luma, merge_luma_chroma, rgb_to_chroma
from colorization.image_io import read_image, read_settings
from colorization.vividness import COLOR_SCALE_RANGE, VividnessModel, choose_color_scale
from eval.studies.color_scale import (
    STUDY,
    best_fixed,
    describe,
    difference_metrics,
    prediction_metrics,
    render_table,
    rule_metrics,
    sets_of,
)
from eval.studies.ledger import Entry
from train.config import DataConfig, VividnessTraining
from train.data import load_photos, transform_config
from train.transforms import prepare_image, sample_rng
from train.vividness import GraySamples, VividnessTask
from train.vividness import main as train


def tiny_vividness(prediction: float = 3.0) -> VividnessModel:
    """Random weights that predict about a log(1 + M) of `prediction`."""
    torch.manual_seed(2)
    model = VividnessModel((8, 16), sample_size=16)
    torch.nn.init.constant_(model.head[-1].bias, prediction)
    return model.eval()


def vivid_pipeline(**settings) -> ColorizationPipeline:
    defaults = {"color_scale_space": "chroma", "default_negative_prompt": ""} | settings
    pipeline = tiny_pipeline(in_channels=8, noise_scale=0.6, **defaults)
    pipeline.register_modules(vividness=tiny_vividness())
    return pipeline


@pytest.fixture(scope="module")
def pipeline() -> ColorizationPipeline:
    return vivid_pipeline()


@pytest.fixture(scope="module")
def model_folder(pipeline, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "vivid"
    pipeline.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def photo_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photos") / "small"
    folder.mkdir()
    for path in sorted(EXAMPLES.glob("*.jpg"))[:4]:
        with Image.open(path) as image:
            image.convert("RGB").resize((48, 32)).save(folder / f"{path.stem}.png")
    return folder


def picture(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Chroma `(2, 24, 32)` and luma `(1, 24, 32)` of random colors."""
    rgb = torch.rand(1, 3, 24, 32, generator=torch.Generator().manual_seed(seed))
    return rgb_to_chroma(rgb)[0], luma(rgb)[0]


class TestModel:
    def test_takes_pictures_of_any_size_and_cares_little_for_it(self):
        model = tiny_vividness()
        small = torch.rand(2, 1, 6, 8).repeat_interleave(8, 2).repeat_interleave(8, 3)
        large = small.repeat_interleave(4, 2).repeat_interleave(4, 3)
        assert model(small).shape == (2,)
        torch.testing.assert_close(model(small), model(large), atol=0.02, rtol=0)
        assert model(torch.rand(1, 1, 16, 256)).isfinite().all() and model(torch.rand(1, 1, 1, 1)).isfinite().all()

    @pytest.mark.parametrize("shape", [(1, 3, 8, 8), (1, 8, 8)])
    def test_refuses_other_shapes(self, shape):
        with pytest.raises(ValueError, match="`gray` must have shape"):
            tiny_vividness()(torch.rand(shape))

    def test_predicts_the_exponential_and_nothing_negative(self):
        gray = torch.rand(2, 1, 16, 16)
        model = tiny_vividness()
        torch.testing.assert_close(model.predict_colorfulness(gray), model(gray).detach().exp() - 1)
        assert (tiny_vividness(-3.0).predict_colorfulness(gray) == 0).all()

    def test_half_precision_gives_float32_that_is_near(self):
        gray = torch.rand(2, 1, 16, 16)
        half = tiny_vividness().to(torch.bfloat16)(gray)
        assert half.dtype == torch.float32
        torch.testing.assert_close(half, tiny_vividness()(gray), atol=0.05, rtol=0)


class TestChoosing:
    @pytest.mark.parametrize("wanted", [0.63, 1.0, 1.48, 2.2])
    def test_finds_the_scale_whose_picture_has_the_colorfulness(self, wanted):
        chroma, y = picture()
        target = colorfulness(merge_luma_chroma(y, wanted * chroma)[None]).item()
        assert choose_color_scale(chroma.mul, y, target) == pytest.approx(wanted, abs=0.011)

    def test_counts_what_the_gamut_takes_away(self):
        chroma, y = picture()
        target = 1.5 * colorfulness(merge_luma_chroma(y, chroma)[None]).item()
        assert choose_color_scale(chroma.mul, y, target) > 1.55

    def test_stays_in_its_range(self):
        chroma, y = picture()
        assert (choose_color_scale(chroma.mul, y, 0.0), choose_color_scale(chroma.mul, y, 1e3)) == COLOR_SCALE_RANGE
        assert choose_color_scale((0 * chroma).mul, y, 30.0) == COLOR_SCALE_RANGE[1]  # gray has nothing to scale

    @pytest.mark.parametrize("target", [-1.0, float("nan")])
    def test_refuses_what_is_no_colorfulness(self, target):
        with pytest.raises(ValueError, match="`target` must be a number of at least 0"):
            chroma, y = picture()
            choose_color_scale(chroma.mul, y, target)


class TestPipeline:
    def test_the_number_is_recorded_and_makes_the_same_picture_again(self, pipeline):
        photos = [random_photo(seed=k) for k in range(2)]
        output = pipeline(photos, color_scale="auto")
        for photo, image, settings in zip(photos, output.images, output.settings, strict=True):
            scale = settings["color_scale"]
            assert settings["automatic_color_scale"] == scale and COLOR_SCALE_RANGE[0] <= scale <= COLOR_SCALE_RANGE[1]
            again = pipeline(photo, color_scale=scale)
            np.testing.assert_array_equal(np.array(again.images[0]), np.array(image))
            assert "automatic_color_scale" not in again.settings[0]

    def test_a_prediction_renders_at_the_chosen_scale_and_can_be_asked_later(self, pipeline):
        photo = random_photo()
        prediction = pipeline(photo, color_scale="auto", output_type="chroma").images[0]
        scale = prediction.settings["color_scale"]
        gray = np.array(photo)
        np.testing.assert_array_equal(prediction.render(gray), prediction.render(gray, scale))
        later = pipeline(photo, color_scale=1.0, output_type="chroma").images[0]
        assert pipeline.automatic_color_scale(later) == scale

    def test_the_picture_is_as_colorful_as_predicted(self, pipeline):
        prediction = pipeline(random_photo(), color_scale="auto", output_type="chroma").images[0]
        target, scale = pipeline.predict_colorfulness(prediction), prediction.settings["color_scale"]
        rendered = colorfulness(merge_luma_chroma(prediction.guide, scale * prediction.chroma)[None]).item()
        assert rendered == pytest.approx(target, rel=0.02) or scale in COLOR_SCALE_RANGE

    def test_counts_hints_at_the_strength_that_they_keep(self):
        model, hints = vivid_pipeline(resolution=64), [(20, 16, "#ff2010")]
        model.register_modules(vividness=tiny_vividness(3.4))
        prediction = model(random_photo(), hints=hints, color_scale="auto", output_type="chroma").images[0]
        scale, target = prediction.settings["color_scale"], model.predict_colorfulness(prediction)
        reached = colorfulness(merge_luma_chroma(prediction.guide, prediction.scaled_chroma(scale))[None]).item()
        assert reached == pytest.approx(target, rel=0.02) or scale in COLOR_SCALE_RANGE
        assert not torch.equal(prediction.scaled_chroma(scale), scale * prediction.chroma)

    def test_refusals_say_why(self, pipeline):
        with pytest.raises(ValueError, match='`color_scale` "auto" has no effect on latents'):
            pipeline(random_photo(), color_scale="auto", output_type="latent")
        with pytest.raises(ValueError, match="must be a finite number of at least 0 or \"auto\", got 'automatic'"):
            pipeline(random_photo(), color_scale="automatic")
        with pytest.raises(ValueError, match="needs a model with the component `vividness`"):
            tiny_pipeline()(random_photo(), color_scale="auto")
        with pytest.raises(ValueError, match="needs a model with `color_scale_space` \"chroma\", got 'latent'"):
            vivid_pipeline(color_scale_space="latent")(random_photo(), color_scale="auto")
        with pytest.raises(ValueError, match="`color_scale` must be a finite number of at least 0, got 'auto'"):
            vivid_pipeline(default_color_scale="auto")

    def test_is_saved_and_loaded_with_the_model(self, pipeline, model_folder):
        scale = pipeline(random_photo(), color_scale="auto").settings[0]["color_scale"]
        for loaded in (load_pipeline(model_folder, device="cpu"), ColorizationPipeline.from_pretrained(model_folder)):
            loaded.set_progress_bar_config(disable=True)
            assert loaded(random_photo(), color_scale="auto").settings[0]["color_scale"] == scale

    def test_models_without_it_are_saved_and_loaded_as_before(self, tmp_path):
        tiny_pipeline().save_pretrained(tmp_path)
        assert not (tmp_path / "vividness").exists()
        index = json.loads((tmp_path / "model_index.json").read_text())
        assert load_pipeline(tmp_path, device="cpu").vividness is None
        del index["vividness"]  # as in models of earlier versions
        (tmp_path / "model_index.json").write_text(json.dumps(index))
        assert load_pipeline(tmp_path, device="cpu").vividness is None

    def test_half_precision_chooses_about_the_same(self, model_folder, pipeline):
        prediction = pipeline(random_photo(), output_type="chroma").images[0]
        half = load_pipeline(model_folder, device="cpu", dtype=torch.bfloat16)
        assert half.automatic_color_scale(prediction) == pytest.approx(
            pipeline.automatic_color_scale(prediction), abs=0.1
        )


class TestCommandLine:
    def test_writes_the_number_into_the_picture(self, model_folder, photo_folder, tmp_path):
        source = sorted(photo_folder.glob("*.png"))[0]
        arguments = [str(source), "--output", str(tmp_path), "--model", str(model_folder), "--device", "cpu"]
        assert colorize([*arguments, "--color-scale", "auto"]) == 0
        settings = read_settings(tmp_path / source.name)
        assert settings["color_scale"] == settings["automatic_color_scale"]

    def test_refuses_a_model_without_it_before_any_work(self, photo_folder, tmp_path, capsys):
        tiny_pipeline().save_pretrained(tmp_path / "model")
        source = sorted(photo_folder.glob("*.png"))[0]
        arguments = [str(source), "--output", str(tmp_path / "out"), "--model", str(tmp_path / "model")]
        with pytest.raises(SystemExit) as ended:
            colorize([*arguments, "--device", "cpu", "--color-scale", "auto"])
        error = capsys.readouterr().err
        assert ended.value.code == 2 and error.startswith('error: `color_scale` "auto" needs a model')
        assert error.count("\n") == 1

    def test_names_what_is_allowed(self, capsys):
        with pytest.raises(SystemExit):
            colorize(["x.jpg", "--output", "out", "--color-scale", "vivid"])
        assert "must be a finite number of at least 0, got 'vivid'; or auto" in capsys.readouterr().err


class TestTraining:
    def test_samples_are_gray_pictures_with_their_originals_colorfulness(self):
        config = DataConfig([str(EXAMPLES)], resolution=32, augment_probability=0, saturation_probability=0)
        photos, _ = load_photos(config)
        samples = GraySamples(photos, transform_config(config))
        sample = samples.draw(0, np.random.default_rng(0))
        rng = sample_rng(0, "picture", int.from_bytes(photos.digests[0], "big"))
        image = prepare_image(photos.image(0), samples.transform, rng)[None] / 2 + 0.5
        torch.testing.assert_close(sample["target"].expm1(), colorfulness(image)[0])
        gray = luma(image)[0]
        drawn = [samples.draw(0, np.random.default_rng(seed))["gray"] for seed in range(8)]
        mirrored = [(other - gray).abs().max() > 0.01 for other in drawn]
        assert 0 < sum(mirrored) < 8
        for other, is_mirrored in zip(drawn, mirrored, strict=True):
            torch.testing.assert_close(other.flip(-1) if is_mirrored else other, gray, atol=0.003, rtol=0)

    def test_the_loss_is_least_at_the_median(self):
        task = VividnessTask(tiny_vividness())
        batch = {"gray": torch.rand(3, 1, 16, 16), "target": torch.tensor([1.0, 2.0, 9.0])}
        loss = task.loss(lambda gray: torch.full((3,), 2.0), batch)
        assert loss.total.item() == pytest.approx(8 / 3) and loss.per_sample.tolist() == [1, 0, 7]

    def test_smoke_run_learns_saves_and_goes_on(self, tmp_path):
        flags = ["--config", "vividness-smoke", "--run.trackers", "none", "--data.sources", f"[{EXAMPLES}]"]
        train([*flags, "--output-dir", str(tmp_path / "whole")])
        train([*flags, "--output-dir", str(tmp_path / "parts"), "--run.max_steps", "3"])
        train([*flags, "--output-dir", str(tmp_path / "parts"), "--resume"])
        summary = json.loads((tmp_path / "whole" / "summary.json").read_text())
        assert summary["steps"] == 6 and summary["photographs"] == 12
        whole, parts = (VividnessModel.from_pretrained(tmp_path / name / "model") for name in ("whole", "parts"))
        gray = torch.rand(2, 1, 32, 32)
        torch.testing.assert_close(whole(gray), parts(gray), atol=0.05, rtol=0)
        assert whole.config.sample_size == 32

    def test_validates_on_what_was_held_out(self, tmp_path):
        flags = ["--config", "vividness-smoke", "--run.trackers", "none", "--data.sources", f"[{EXAMPLES}]"]
        flags += ["--output-dir", str(tmp_path), "--data.holdout", "3", "--run.validation_every", "3"]
        train(flags)
        summary = json.loads((tmp_path / "summary.json").read_text())
        assert summary["held_out"] + summary["photographs"] == 12 and summary["held_out"] > 0
        assert 0 < summary["held_out_colorfulness_error"] < 150

    @pytest.mark.parametrize(
        "flags, message",
        [
            (["--model.channels", "[8, 12]"], "`model.channels` must be multiples of 8"),
            (["--run.validation_every", "3"], "`run.validation_every` above 0 needs `data.holdout` above 0"),
            (["--run.validation_dataset", "x", "--run.validation_every", "3"], "`run.validation_dataset` must be"),
        ],
    )
    def test_bad_settings_are_refused_in_one_line(self, flags, message, tmp_path, capsys):
        with pytest.raises(SystemExit) as ended:
            train(["--config", "vividness-smoke", "--output-dir", str(tmp_path), *flags])
        assert ended.value.code == 2 and message in capsys.readouterr().err

    def test_default_settings_stand(self):
        config = VividnessTraining(data=DataConfig(["photos"]))
        assert config.run.mixed_precision == "no"


class TestEvaluation:
    @pytest.fixture(scope="class")
    def result(self, model_folder, photo_folder, tmp_path_factory) -> dict[str, Entry]:
        folder = tmp_path_factory.mktemp("result")
        words = ["--photos", photo_folder, "--model", model_folder, "--scales", "0.5", "1"]
        assert study(folder, STUDY, "--run", *words) == 0
        (of_set,) = sets_of(kept(folder, STUDY))
        return of_set

    def test_measures_every_rule_on_the_same_predictions(self, result):
        data = result["auto"].data
        assert (data["name"], data["n"], data["gray_left_out"]) == ("small", 4, 0)
        assert list(result) == ["0.5", "1", "auto", "equal", "oracle"]
        differences = {rule: entry.metrics["colorfulness_difference"]["value"] for rule, entry in result.items()}
        assert best_fixed(result) == min(("0.5", "1"), key=differences.get)
        gain = result["1"].metrics["auto_minus_colorfulness_difference"]["value"]
        assert gain == pytest.approx(differences["auto"] - differences["1"])
        low, middle, high = result["auto"].settings["rendered_scale"]["quartiles"]
        assert COLOR_SCALE_RANGE[0] <= low <= middle <= high <= COLOR_SCALE_RANGE[1]

    def test_is_shown_as_a_table_and_in_words(self, result):
        table = render_table([result])
        assert table.count("\n") == 6 and "| auto | " in table and "small (4): PSNR" in table
        assert describe([result]).startswith("On small (n = 4) the result is")

    def test_errors_of_predictions(self):
        actual = np.array([10.0, 20.0, 40.0, 80.0])
        perfect = prediction_metrics(actual, actual, 0)
        assert perfect["r2"]["value"] == 1 and perfect["rank_correlation"]["value"] == pytest.approx(1)
        assert perfect["mean_absolute_error"]["value"] == 0
        assert perfect["mean_absolute_error_of_median"]["value"] == 22.5
        backwards = prediction_metrics(actual[::-1] + 1, actual, 0)
        assert backwards["rank_correlation"]["value"] == pytest.approx(-1) and backwards["bias"]["value"] == 1

    def test_a_picture_that_equals_its_original_has_no_psnr_but_spoils_no_mean(self):
        actual, scales = np.array([10.0, 20.0, 40.0]), np.ones(3)
        scores = np.stack([[np.inf, 20.0, 30.0], actual], axis=1)
        rule = rule_metrics(scores, scales, actual, 0)
        assert (rule["psnr"]["value"], rule["psnr"]["n"]) == (25, 2)
        assert rule["colorfulness"]["n"] == 3
        gain = difference_metrics(scores, scores - [[0, 0], [1, 0], [np.inf, 0]], actual, 0)["psnr"]
        assert (gain["value"], gain["n"], gain["interval"]) == (1, 1, None)
        equal = rule_metrics(np.stack([[np.inf] * 3, actual], axis=1), scales, actual, 0)["psnr"]
        assert equal["value"] is None and "equal everywhere" in equal["reason"]

    def test_originals_of_equal_colorfulness_cannot_be_ranked(self, result):
        prediction = prediction_metrics(np.array([10.0, 20.0]), np.array([15.0, 15.0]), 0)
        assert prediction["r2"]["value"] is None and prediction["rank_correlation"]["value"] is None
        assert prediction["mean_absolute_error"]["value"] == 5
        auto = result["auto"]
        rows = {"output": auto.metrics | prediction}
        unranked = Entry(auto.study, auto.run, auto.data, auto.settings, rows, auto.versions)
        assert describe([result | {"auto": unranked}]).endswith("its rank correlation n/a.")

    def test_bad_arguments_end_in_one_line(self, photo_folder, tmp_path, capsys):
        tiny_pipeline().save_pretrained(tmp_path / "model")
        single = tmp_path / "single"
        single.mkdir()
        random_photo().save(single / "gray.png")
        Image.new("RGB", (48, 32), "red").save(single / "red.png")
        for arguments, message in (
            ([], "no color scales were measured"),
            (["--run"], "--photos is required"),
            (["--run", "--photos", "nowhere"], "nowhere"),
            (["--run", "--photos", photo_folder, "--model", "x/y"], "model 'x/y' is not on this machine"),
            (["--run", "--photos", single], "at least 2 color photographs, got 1"),
            (["--run", "--photos", photo_folder, "--model", tmp_path / "model"], "vividness"),
        ):
            with pytest.raises(SystemExit) as ended:
                study(tmp_path, STUDY, *arguments)
            error = capsys.readouterr().err.strip().splitlines()[-1]
            assert ended.value.code == 2 and error.startswith("error: ") and message in error


def test_the_shipped_model_chooses_for_each_photograph(embedded):
    photos = [read_image(EXAMPLES / name) for name in ("farm_animals_cat.jpg", "farm_animals_horse.jpg")]
    settings = embedded(photos, color_scale="auto", num_inference_steps=1).settings
    assert settings[0]["color_scale"] != settings[1]["color_scale"]
