"""Training of the semantic encoder, and of UNets on walks from its first guess; old films; sources with weights."""

import json

import pytest
import torch
from conftest import ENCODER_WIDTH, EXAMPLES, guessing_pipeline, random_photo, tiny_encoder, tiny_pipeline

from colorization import load_pipeline
from colorization.adapters import widen_conv_in
from colorization.color import rgb_to_lab
from colorization.degradation import to_gray
from colorization.semantic import SemanticEncoder
from train.config import DataConfig, ObjectiveConfig, OptimConfig
from train.data import SampleStream, load_photos
from train.denoiser import ColorTask
from train.embedded import main as train_embedded
from train.film import FILMS, Film, draw_film, film_gray
from train.loop import build_optimizer
from train.semantic import GuessSamples, GuessTask, cell_chroma
from train.semantic import main as train_semantic
from train.text import Tokenize
from train.transforms import TransformConfig, sample_rng


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
        plain = GuessSamples(photos, TransformConfig(64, "center", 0, 0, False))
        film = GuessSamples(photos, TransformConfig(64, "center", 0, 0, False, film_probability=1.0))
        first, second = (samples.draw(0, sample_rng(0, "draw")) for samples in (plain, film))
        assert first["luma"].shape == (1, 64, 64) and first["chroma"].shape == (2, 8, 8)
        assert not torch.allclose(first["luma"], second["luma"], atol=0.01)

    def test_a_cell_has_the_chroma_of_its_colors(self):
        cells = torch.rand(1, 3, 8, 8)
        image = cells.repeat_interleave(8, 2).repeat_interleave(8, 3)
        torch.testing.assert_close(cell_chroma(image), rgb_to_lab(cells)[:, 1:], atol=1e-2, rtol=1e-4)

    def test_a_resolution_that_has_no_whole_cells_is_refused(self, tmp_path, capsys):
        with pytest.raises(SystemExit):
            flags = ["--data.sources", f"[{EXAMPLES}]", "--output-dir", str(tmp_path)]
            train_semantic(["--config", "semantic-smoke", "--data.resolution", "100", *flags])
        assert "`data.resolution` must be a multiple of 8, got 100" in capsys.readouterr().err

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


class TestWalkFromTheGuess:
    def batch(self, pipeline, **changes) -> dict[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(0)
        return {
            "image": 2 * torch.rand(2, 3, 32, 32, generator=generator) - 1,
            "text": torch.stack([Tokenize(pipeline)("red")] * 2),
            "noise": torch.randn(2, 4, 16, 16, generator=generator),
            "severity": torch.tensor([1.0, 1.0]),
        } | changes

    def task(self, **settings) -> ColorTask:
        pipeline = guessing_pipeline(**settings)
        widen_conv_in(pipeline.unet, 12 + ENCODER_WIDTH)
        return ColorTask(pipeline, ObjectiveConfig(noise_scale=0.6), train_text_encoder=False)

    def seen(self, task: ColorTask, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """The latent and the planes that the network is shown."""
        shown = []

        def network(z, seen, severity, text):
            shown.append((z, seen))
            return z, None

        task.loss(network, batch)
        return shown[0]

    def test_training_shows_the_unet_what_sampling_does(self):
        task = self.task(walk_from="guess")
        batch = self.batch(task.pipeline)
        z, (z_gray, z_guess, features) = self.seen(task, batch)
        assert features.shape == (2, ENCODER_WIDTH, 16, 16)
        torch.testing.assert_close(z, z_guess + 0.6 * batch["noise"])
        gray = to_gray(batch["image"])[:, 0] / 2 + 0.5
        sampled = task.pipeline(list(gray), num_inference_steps=0, output_type="latent").images
        torch.testing.assert_close(z_guess, torch.stack(sampled), atol=0.05, rtol=0)  # 8 bits in between
        torch.testing.assert_close(z_gray, task.pipeline.encode_image(to_gray(batch["image"])))

    def test_a_unet_that_only_starts_at_the_guess_is_not_shown_it(self):
        pipeline = guessing_pipeline(walk_from="guess")
        task = ColorTask(pipeline, ObjectiveConfig(noise_scale=0.6), train_text_encoder=False)
        batch = self.batch(pipeline)
        z, seen = self.seen(task, batch)
        assert len(seen) == 1 and task.loss(task.network, batch).total.isfinite()

    def test_dropped_semantics_are_gray_and_zero(self):
        task = self.task(walk_from="guess")
        kept = torch.tensor([True, False])
        _, (z_gray, z_guess, features) = self.seen(task, self.batch(task.pipeline, semantics=kept))
        assert torch.equal(z_guess[1], z_gray[1]) and not torch.equal(z_guess[0], z_gray[0])
        assert not features[1].any() and features[0].any()

    def test_smoke_config_trains_the_wider_unet_and_leaves_what_is_frozen(self, tmp_path, monkeypatch):
        monkeypatch.chdir(EXAMPLES.parent)
        pipeline = guessing_pipeline()
        pipeline.save_pretrained(tmp_path / "start")
        folders = ["--model.start", str(tmp_path / "start"), "--data.sources", f"[{EXAMPLES}]"]
        sizes = ["--data.resolution", "32", "--run.validation_every", "0", "--output-dir", str(tmp_path)]
        train_embedded(["--config", "embedded-guess-smoke", *folders, *sizes])
        trained = load_pipeline(tmp_path / "model", device="cpu")
        assert trained.sees_guess and trained.config.walk_from == "guess"
        before, after = pipeline.unet.state_dict(), trained.unet.state_dict()
        half = {name: before[name].half().float() for name in before}
        frozen = [name for name in before if name.startswith("down_blocks.")]
        assert all(torch.equal(half[name], after[name]) for name in frozen)
        assert after["conv_in.weight"][:, 8:].abs().sum() > 0
        assert not torch.equal(half["mid_block.resnets.0.conv1.weight"], after["mid_block.resnets.0.conv1.weight"])
        assert trained(random_photo()).settings[0]["start"] == "first guess"

    def test_an_encoder_is_needed(self, tmp_path, capsys):
        tiny_pipeline(in_channels=8, noise_scale=0.6).save_pretrained(tmp_path / "start")
        with pytest.raises(SystemExit):
            train_embedded(
                [
                    *["--config", "embedded-guess-smoke", "--model.start", str(tmp_path / "start")],
                    *["--data.sources", f"[{EXAMPLES}]", "--output-dir", str(tmp_path / "run")],
                ]
            )
        assert "`model.semantic_encoder` must be a folder" in capsys.readouterr().err


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
