"""The semantic encoder: arithmetic of the first guess, the network, walks that start from it, and its training."""

import json

import numpy as np
import pytest
import torch
from conftest import EXAMPLES, random_photo, tiny_pipeline

from colorization import ColorizationPipeline, load_pipeline
from colorization.adapters import widen_conv_in
from colorization.color import luma, rgb_to_lab
from colorization.semantic import SemanticEncoder, bin_centers, chroma_bin, guess_picture
from train.backbone import imagenet_weights
from train.backbone import main as convert
from train.config import DataConfig, ObjectiveConfig, OptimConfig
from train.data import SampleStream, load_photos
from train.film import FILMS, Film, draw_film, film_gray
from train.loop import build_optimizer
from train.semantic import GuessSamples, GuessTask, cell_chroma
from train.semantic import main as train_semantic
from train.transforms import TransformConfig, sample_rng

WIDTH = 16


def tiny_encoder(**settings) -> SemanticEncoder:
    """Random weights; a smaller backbone of the same family of classes."""
    torch.manual_seed(3)
    encoder = SemanticEncoder("tf_mobilenetv3_small_minimal_100", (WIDTH, WIDTH, WIDTH), **settings)
    torch.nn.init.normal_(encoder.chroma_head.weight, std=0.3)
    return encoder.eval()


def guessing_pipeline(**settings) -> ColorizationPipeline:
    settings = {"color_scale_space": "chroma", "default_negative_prompt": "", "guess_severity": 0.4} | settings
    pipeline = tiny_pipeline(in_channels=8, noise_scale=0.6)
    components = pipeline.components
    pipeline = ColorizationPipeline(
        **components | {"semantic_encoder": tiny_encoder()}, resolution=32, default_num_inference_steps=2, **settings
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module")
def pipeline() -> ColorizationPipeline:
    return guessing_pipeline()


def pixels(pipeline, image, **settings) -> np.ndarray:
    return np.stack([np.asarray(picture) for picture in pipeline(image, **settings).images])


class TestArithmetic:
    def test_every_center_is_in_its_own_bin_and_the_outermost_bins_are_open(self):
        centers = bin_centers(5, 10.0)
        assert chroma_bin(centers.T[None, :, :, None], 5, 10.0).flatten().tolist() == list(range(25))
        far = torch.tensor([[-300.0, 300.0]])[:, :, None, None]
        assert chroma_bin(far, 5, 10.0).item() == 4

    def test_a_guess_keeps_the_luma_exactly_and_no_chroma_is_gray(self):
        gray = torch.rand(2, 1, 12, 16)
        colored = guess_picture(gray, 40 * torch.randn(2, 2, 3, 4))
        torch.testing.assert_close(luma(colored), gray, atol=1e-5, rtol=0)
        assert colored.min() >= 0 and colored.max() <= 1
        torch.testing.assert_close(guess_picture(gray, torch.zeros(2, 2, 3, 4)), gray.expand(-1, 3, -1, -1))

    def test_a_guess_has_the_chroma_that_was_asked_for(self):
        gray, chroma = torch.full((1, 1, 8, 8), 0.5), torch.tensor([12.0, -18.0]).view(1, 2, 1, 1)
        found = rgb_to_lab(guess_picture(gray, chroma))[:, 1:]
        torch.testing.assert_close(found, chroma.expand_as(found), atol=1.0, rtol=0)  # lightness follows the luma


class TestEncoder:
    @pytest.mark.parametrize("cells", [(4, 4), (5, 3), (13, 9)])
    def test_one_cell_per_eight_pixels_at_any_size(self, cells):
        height, width = (8 * side for side in cells)
        output = tiny_encoder(bins=7)(torch.rand(2, 1, height, width))
        assert output.features.shape == (2, WIDTH, *cells)
        assert output.chroma.shape == (2, 2, *cells) and output.bins.shape == (2, 49, *cells)
        assert all(planes.dtype == torch.float32 for planes in output.values())

    def test_a_batch_equals_its_members(self):
        encoder, photos = tiny_encoder(), torch.rand(3, 1, 64, 48)
        alone = torch.cat([encoder(photo[None]).chroma for photo in photos])
        torch.testing.assert_close(encoder(photos).chroma, alone, atol=1e-4, rtol=1e-4)

    def test_refuses_other_shapes(self):
        with pytest.raises(
            ValueError, match=r"`luma` must have shape \(batch, 1, height, width\), got \(1, 3, 64, 64\)"
        ):
            tiny_encoder()(torch.rand(1, 3, 64, 64))

    @pytest.mark.parametrize("training", [False, True], ids=["new", "training"])
    def test_the_backbones_statistics_are_left_alone(self, training):
        encoder = SemanticEncoder("tf_mobilenetv3_small_minimal_100", (WIDTH, WIDTH, WIDTH))
        before = {name: value.clone() for name, value in encoder.backbone.named_buffers()}
        (encoder.train() if training else encoder)(torch.rand(2, 1, 64, 64))
        assert all(torch.equal(before[name], value) for name, value in encoder.backbone.named_buffers())

    def test_the_weights_of_the_package_fit_the_network(self, tmp_path, capsys):
        weights = imagenet_weights()
        missing = SemanticEncoder().backbone.load_state_dict(weights, strict=False)
        assert missing.missing_keys == []
        assert {name.split(".")[0] for name in missing.unexpected_keys} == {"conv_head", "bn2", "classifier"}
        assert convert(["--output", str(tmp_path / "backbone.safetensors")]) == 0
        assert "backbone.safetensors: " in capsys.readouterr().out


class TestPipeline:
    def test_without_the_guess_everything_is_as_before(self, pipeline):
        without = tiny_pipeline(in_channels=8, noise_scale=0.6, color_scale_space="chroma", default_negative_prompt="")
        expected = pixels(without, random_photo())
        pipeline = guessing_pipeline(guess_severity=1.0)
        assert np.array_equal(pixels(pipeline, random_photo()), expected)

    def test_new_input_channels_that_are_zero_change_nothing(self):
        pipeline = guessing_pipeline(guess_severity=1.0)
        expected = pixels(pipeline, random_photo(), output_type="latent")
        widen_conv_in(pipeline.unet, 12 + WIDTH)
        assert pipeline.sees_guess
        # The sums of the convolution are the same; how the library blocks them may differ in the last bit.
        np.testing.assert_allclose(pixels(pipeline, random_photo(), output_type="latent"), expected, atol=2e-6)

    def test_trained_input_channels_look_at_the_semantics(self):
        pipeline = guessing_pipeline(guess_severity=1.0)
        widen_conv_in(pipeline.unet, 12 + WIDTH)
        torch.nn.init.normal_(pipeline.unet.conv_in.weight, std=0.2)
        before = pixels(pipeline, random_photo())
        torch.nn.init.normal_(pipeline.semantic_encoder.stem[0].weight)
        assert not np.array_equal(pixels(pipeline, random_photo()), before)

    def test_zero_steps_are_the_first_guess(self, pipeline):
        photo = random_photo()
        colored = pipeline(photo, num_inference_steps=0, output_type="chroma").images[0]
        size = [2 * side for side in pipeline.model_size(*photo.size)]
        assert colored.guide.shape[1:] == (size[1] // 2, size[0] // 2)
        assert colored.chroma.abs().max() > 0.01
        gray = guessing_pipeline()
        torch.nn.init.zeros_(gray.semantic_encoder.chroma_head.weight)
        torch.nn.init.zeros_(gray.semantic_encoder.chroma_head.bias)
        assert gray(photo, num_inference_steps=0, output_type="chroma").images[0].chroma.abs().max() < 1e-5

    def test_zero_steps_need_the_encoder(self):
        with pytest.raises(ValueError, match="`num_inference_steps` must be a whole number of at least 1, got 0"):
            tiny_pipeline()(random_photo(), num_inference_steps=0)

    def test_the_less_severe_the_start_the_nearer_the_guess(self):
        photo, distances = random_photo(), []
        for severity in (0.1, 0.5, 0.9):
            pipeline = guessing_pipeline(guess_severity=severity)
            guess = pipeline(photo, num_inference_steps=0, output_type="latent").images[0]
            result = pipeline(photo, output_type="latent").images[0]
            distances.append((result - guess).square().mean().item())
        assert distances == sorted(distances)

    def test_a_walk_that_was_learned_from_the_guess_starts_there(self):
        pipeline = guessing_pipeline(walk_from="guess")
        torch.nn.init.zeros_(pipeline.unet.conv_out.weight)
        torch.nn.init.zeros_(pipeline.unet.conv_out.bias)
        pipeline.scheduler.register_to_config(noise_scale=0.0)
        guess = pipeline(random_photo(), num_inference_steps=0, output_type="latent").images[0]
        torch.testing.assert_close(pipeline(random_photo(), output_type="latent").images[0], guess)

    def test_photographs_with_and_without_prompt_are_colored_as_alone(self):
        pipeline = guessing_pipeline(prompted_guess_severity=0.8, default_guidance_scale=2.0)
        photos, prompts = [random_photo(seed=1), random_photo(seed=2), random_photo(48, 48)], ["red", "", "blue"]
        together = pipeline(photos, prompt=prompts, seed=[1, 2, 3])
        for photo, prompt, seed, image, settings in zip(
            photos, prompts, (1, 2, 3), together.images, together.settings, strict=True
        ):
            alone = pipeline(photo, prompt=prompt, seed=seed)
            assert alone.settings[0] == settings
            assert settings["start"] == "first guess" and settings["start_severity"] == (0.8 if prompt else 0.4)
            assert np.abs(np.asarray(alone.images[0], int) - np.asarray(image, int)).max() <= 1

    def test_variants_share_the_guess(self, pipeline):
        found, seen = pipeline.semantic_encoder.forward, []
        pipeline.semantic_encoder.forward = lambda luma: seen.append(len(luma)) or found(luma)
        try:
            variants = pixels(pipeline, [random_photo(), random_photo(seed=5)], num_images_per_prompt=3)
        finally:
            del pipeline.semantic_encoder.forward
        assert seen == [2] and not np.array_equal(variants[0], variants[1])

    def test_a_faded_photograph_keeps_its_own_colors(self, pipeline):
        settings = pipeline(random_photo().convert("RGB"), severity=0.5).settings[0]
        assert "start" not in settings and settings["severity"] == 0.5

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"guess_severity": 0.0}, "`guess_severity` must be above 0 and at most 1, got 0.0"),
            ({"prompted_guess_severity": 2}, "`prompted_guess_severity` must be above 0 and at most 1, got 2"),
            ({"walk_from": "red"}, r"`walk_from` must be one of \('gray', 'guess'\), got 'red'"),
        ],
    )
    def test_settings_out_of_range_are_refused(self, settings, message):
        with pytest.raises(ValueError, match=message):
            guessing_pipeline(**settings)

    def test_a_walk_from_the_guess_needs_an_encoder(self):
        with pytest.raises(ValueError, match='`walk_from` "guess" needs the component `semantic_encoder`'):
            tiny_pipeline(walk_from="guess")

    def test_survives_saving_by_both_ways_of_loading(self, pipeline, tmp_path):
        pipeline.save_pretrained(tmp_path)
        expected = pixels(pipeline, random_photo(), seed=4)
        loaded = load_pipeline(tmp_path, device="cpu")
        generic = ColorizationPipeline.from_pretrained(tmp_path)
        for other in (loaded, generic):
            other.set_progress_bar_config(disable=True)
            assert isinstance(other.semantic_encoder, SemanticEncoder)
            assert np.array_equal(pixels(other, random_photo(), seed=4), expected)


class TestFilm:
    def test_films_see_their_own_colors(self):
        plain = Film((0, 0, 0), 1.0, 0.0, 1.0, 0.0, 0.0, 95)
        red, blue = torch.zeros(2, 3, 16, 16)
        red[0], blue[2] = 1.0, 1.0
        grays = {
            (name, color): film_gray(
                picture, Film(weights, *list(vars(plain).values())[1:]), sample_rng(0, "x")
            ).mean()
            for name, weights in FILMS.items()
            for color, picture in (("red", red), ("blue", blue))
        }
        assert grays["ortho", "red"] < 0.01 and grays["blue", "red"] < 0.01 < grays["pan", "red"]
        assert grays["blue", "blue"] > 0.99 and abs(grays["ortho", "blue"] - 0.5) < 0.01

    def test_random_films_stay_gray_and_in_range_and_are_repeatable(self):
        image = torch.rand(3, 32, 48)
        for seed in range(8):
            film = draw_film(sample_rng(0, "film", seed))
            assert abs(sum(film.weights) - 1) < 1e-6
            first, second = (film_gray(image, film, sample_rng(0, "grain", seed)) for _ in range(2))
            assert first.shape == (1, 32, 48) and 0 <= first.min() and first.max() <= 1
            assert torch.equal(first, second)


class TestTraining:
    def test_samples_have_the_chroma_of_the_original_on_the_lightness_of_the_film(self):
        photos, _ = load_photos(DataConfig(sources=[str(EXAMPLES)]))
        plain = GuessSamples(photos, TransformConfig(64, "center", 0, 0, False), 0.0)
        film = GuessSamples(photos, TransformConfig(64, "center", 0, 0, False), 1.0)
        first, second = (samples.draw(0, sample_rng(0, "draw")) for samples in (plain, film))
        assert first["luma"].shape == (1, 64, 64) and first["chroma"].shape == (2, 8, 8)
        assert not torch.allclose(first["luma"], second["luma"], atol=0.01)

    def test_a_cell_has_the_chroma_of_its_colors(self):
        cells = torch.rand(1, 3, 8, 8)
        image = cells.repeat_interleave(8, 2).repeat_interleave(8, 3)
        torch.testing.assert_close(cell_chroma(luma(image), image), rgb_to_lab(cells)[:, 1:], atol=1e-2, rtol=1e-4)

    def test_the_loss_is_least_at_the_truth(self):
        encoder = tiny_encoder(bins=5, bin_width=20.0)
        batch = {"luma": torch.rand(2, 1, 64, 64), "chroma": 20 * torch.randn(2, 2, 8, 8)}
        task = GuessTask(encoder, bins_weight=0.0)
        output = encoder(batch["luma"])
        perfect = task.loss(lambda _: output, {"luma": batch["luma"], "chroma": output.chroma})
        assert perfect.total < 1e-6 < task.loss(encoder, batch).total

    def test_smoke_config_trains_goes_on_and_says_what_it_explains(self, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(EXAMPLES.parent)
        flags = ["--config", "semantic-smoke", "--output-dir", str(tmp_path), "--data.sources", f"[{EXAMPLES}]"]
        train_semantic([*flags, "--run.max_steps", "2"])
        train_semantic([*flags, "--run.max_steps", "3", "--resume"])
        summary = json.loads((tmp_path / "summary.json").read_text())
        assert summary["steps"] == 3 and -9 < summary["held_out_explained_chroma"] < 1
        assert "explains" in capsys.readouterr().out
        encoder = SemanticEncoder.from_pretrained(tmp_path / "model", torch_dtype=torch.float32)
        assert encoder.mean_0.abs().sum() > 0  # statistics were measured
        train_semantic([*flags, "--model.start", str(tmp_path / "model"), "--dry-run"])
        assert "parameters: " in capsys.readouterr().out


class TestSettings:
    def test_sources_are_seen_as_often_as_their_weights_say(self):
        data = DataConfig(sources=["a", "b"], weights=[1.0, 0.5])
        stream = SampleStream(_Numbers(), [4, 6], 7 * 4, (1, 1, 1), data, ObjectiveConfig(), 0)
        seen = [int(stream[position]["index"]) for position in range(len(stream))]
        assert data.epoch_length([4, 6]) == 7
        for epoch in range(4):
            assert sorted(index for index in seen[7 * epoch : 7 * epoch + 7] if index < 4) == [0, 1, 2, 3]
        # Two epochs together are one pass over the source of weight 0.5.
        assert sorted(index for index in seen[:14] if index >= 4) == [4, 5, 6, 7, 8, 9]

    def test_weights_must_fit_the_sources(self):
        with pytest.raises(ValueError, match="`data.weights` must be empty or a number above 0 for each source"):
            DataConfig(sources=["a"], weights=[1.0, 2.0])

    def test_parameters_learn_at_the_rate_of_their_name(self):
        encoder = tiny_encoder()
        optimizer = build_optimizer(encoder, OptimConfig(1e-3, rate_factors={"backbone.": 0.1}))
        rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
        for name, parameter in encoder.named_parameters():
            assert rates[id(parameter)] == pytest.approx(1e-4 if name.startswith("backbone.") else 1e-3)


class _Numbers:
    def draw(self, index, rng, with_caption):
        return {"index": torch.tensor(index)}
