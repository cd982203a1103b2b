"""Training with all photographs on the device, at a tiny size on the processor."""

import io
import json
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from conftest import tiny_encoder
from PIL import Image

from colorization import load_pipeline
from colorization.color import luma, rgb_to_chroma
from train.resident import __main__ as command
from train.resident.course import Clock, MovingAverage, Rates, train_by_clock
from train.resident.encoder import EncoderSettings, Mixture, explained, train_encoder
from train.resident.film import boosted, film_lumas, filmed
from train.resident.photos import Shelf, load_shelf
from train.resident.walks import Latents
from train.semantic import measure_statistics


def write_photos(file, pictures, captions=None) -> None:
    rows = []
    for picture in pictures:
        data = io.BytesIO()
        Image.fromarray(picture).save(data, "PNG")
        rows.append({"bytes": data.getvalue()})
    columns = {"image": rows}
    if captions is not None:
        columns["captions"] = captions
    pq.write_table(pa.table(columns), file)


def gradient(height: int, width: int) -> np.ndarray:
    """Red grows to the right, green downward."""
    red, green = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return np.stack([red, green, np.full_like(red, 128)], axis=-1).round().astype(np.uint8)


def shelf_of(*pictures: np.ndarray, side: int = 48, captions=None, tmp_path) -> Shelf:
    write_photos(tmp_path / "train-0.parquet", pictures, captions)
    return load_shelf([tmp_path / "train-0.parquet"], side, torch.device("cpu"))


class TestShelf:
    def test_squares_are_cut_inside_the_photograph_and_mirrored_half_of_the_time(self, tmp_path):
        shelf = shelf_of(gradient(24, 40), tmp_path=tmp_path)
        cuts = shelf.cut(torch.zeros(64, dtype=torch.long), 16, torch.Generator().manual_seed(0))
        assert cuts.shape == (64, 3, 16, 16)
        slopes = (cuts[:, 0, :, -1] - cuts[:, 0, :, 0]).mean(dim=1)
        # A square of the short side spans 24 to 40 pixels of 40, whichever way it looks.
        assert slopes.abs().min() > 24 / 1.15 / 40 * 0.8 and slopes.abs().max() < 24 / 40 * 1.1
        assert 16 < (slopes < 0).sum() < 48
        assert (cuts[:, 1, -1] > cuts[:, 1, 0]).all()  # never upside down

    def test_padding_is_never_seen(self, tmp_path):
        white = np.full((20, 30, 3), 255, np.uint8)
        cuts = shelf_of(white, side=64, tmp_path=tmp_path).cut(
            torch.zeros(16, dtype=torch.long), 32, torch.Generator().manual_seed(1)
        )
        assert cuts.min() > 0.999

    def test_large_photographs_are_reduced_and_captions_kept(self, tmp_path):
        shelf = shelf_of(gradient(100, 200), side=48, captions=[["red bus", "a red bus"]], tmp_path=tmp_path)
        assert shelf.sizes.tolist() == [[24, 48]] and shelf.captions == [["red bus", "a red bus"]]
        assert shelf.pixels.shape == (1, 3, 48, 48) and shelf.pixels.dtype == torch.uint8


class TestFilm:
    def test_every_scene_gets_a_film_of_its_own(self):
        scene = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)).expand(12, -1, -1, -1)
        grays = film_lumas(scene, torch.Generator().manual_seed(1))
        assert grays.shape == (12, 1, 16, 16) and 0 <= grays.min() and grays.max() <= 1
        assert (grays[1:] - grays[:-1]).abs().flatten(1).amax(dim=1).min() > 0.01

    def test_no_share_leaves_the_scene_and_a_film_changes_luma_alone(self):
        scene = 0.3 + 0.4 * torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(2))
        generator = torch.Generator().manual_seed(3)
        torch.testing.assert_close(filmed(scene, 0.0, generator), scene)
        changed = filmed(scene, 1.0, generator)
        assert (luma(changed) - luma(scene)).abs().mean() > 0.01
        ratio = rgb_to_chroma(changed) / rgb_to_chroma(scene)
        assert ratio.min() > -0.01 and ratio.max() < 1.01  # less where the gamut ends, but never of another hue

    def test_a_boost_keeps_luma(self):
        scene = 0.4 + 0.2 * torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(4))
        more = boosted(scene, 1.0, (1.2, 1.2), torch.Generator().manual_seed(5))
        torch.testing.assert_close(luma(more), luma(scene))
        torch.testing.assert_close(rgb_to_chroma(more), 1.2 * rgb_to_chroma(scene))


class TestCourse:
    def test_rates_warm_up_and_fall_to_zero(self):
        optimizer = torch.optim.SGD([{"params": [torch.zeros(1)]}, {"params": [torch.zeros(1)]}], lr=1.0)
        rates = Rates((2.0, 1.0), (10, 100))
        rates.apply(optimizer, 9, 0.0)
        assert [group["lr"] for group in optimizer.param_groups] == [2.0, 0.1]
        rates.apply(optimizer, 1000, 1.0)
        assert [group["lr"] for group in optimizer.param_groups] == [0.0, 0.0]

    def test_the_weights_to_keep_are_the_average(self):
        weight = torch.nn.Parameter(torch.zeros(1))
        average = MovingAverage([weight], 0.5)
        with torch.no_grad():
            weight.fill_(1.0)
        average.step()
        assert weight.item() == 1
        average.keep()
        assert 0 < weight.item() < 1

    def test_a_training_ends_with_its_time_and_learns_meanwhile(self):
        weight = torch.nn.Parameter(torch.tensor([4.0]))
        optimizer, average = torch.optim.AdamW([weight], weight_decay=0), MovingAverage([weight], 0.9)
        clock = Clock(0.5)
        summary = train_by_clock(
            lambda: weight.square().sum(), optimizer, Rates((0.05,), (1,)), average, clock, 3, "toy"
        )
        assert summary["samples"] == 3 * summary["steps"] > 0 and 0.5 <= summary["seconds"] < 5
        assert abs(weight.item()) < 4 and math.isfinite(summary["loss"])

    def test_a_loss_that_is_not_finite_stops_it(self):
        weight = torch.nn.Parameter(torch.ones(1))
        optimizer, average = torch.optim.AdamW([weight]), MovingAverage([weight], 0.9)
        with pytest.raises(FloatingPointError, match="the loss of the toy is nan"):
            train_by_clock(
                lambda: weight.sum() * math.nan, optimizer, Rates((0.1,), (1,)), average, Clock(0.05), 1, "toy"
            )


class QuietNamer(torch.nn.Module):
    """In place of ImageNet's classifier, which is for another backbone than the tiny one."""

    def __init__(self, channels: int):
        super().__init__()
        self.head = torch.nn.Linear(channels, 3)

    def error(self, image: torch.Tensor, coarse: torch.Tensor) -> torch.Tensor:
        return self.head(coarse.mean(dim=(2, 3))).square().mean()


class TestEncoder:
    def test_it_learns_the_color_of_what_it_sees(self, tmp_path):
        green = np.zeros((32, 32, 3), np.uint8) + np.array([40, 160, 60], np.uint8)
        shelf = shelf_of(green, np.roll(green, 3, axis=0), tmp_path=tmp_path)
        photos, encoder = Mixture([shelf], [1.0]), tiny_encoder(depth=2)
        measure_statistics(encoder, [luma(photos.cut(4, 32, torch.Generator().manual_seed(0)))])
        before = explained(encoder, shelf, 32)
        namer = QuietNamer(encoder.backbone.feature_info.channels()[-1])
        settings = EncoderSettings(side=32, batch_size=4, film=0.0, warmup=1, backbone_warmup=1, decay=0.5)
        summary = train_encoder(encoder, namer, photos, settings, Clock(4.0), shelf)
        assert explained(encoder, shelf, 32) > max(before, 0.5)
        assert summary["held_out"] == 2 and not encoder.training

    def test_a_batch_takes_its_share_of_each_shelf(self, tmp_path):
        shelf = shelf_of(gradient(16, 16), tmp_path=tmp_path)
        assert Mixture([shelf, shelf, shelf], [0.5, 0.3, 0.2]).counts(16) == [8, 5, 3]


class TestLatents:
    def test_captions_come_in_all_their_forms_or_are_dropped(self):
        z = torch.arange(4.0)[:, None, None, None].half()
        latents = Latents(z, z, z, z, torch.tensor([[1, 2], [3, 0]]), torch.arange(3)[:, None])
        batch = latents.draw(256, 0.0, torch.Generator().manual_seed(0))
        first = batch["z_color"][:, 0, 0, 0] % 2 == 0  # versions of the first of two photographs
        assert set(batch["text"][first, 0].tolist()) == {1, 2}
        assert set(batch["text"][~first, 0].tolist()) == {0}
        dropped = latents.draw(256, 1.0, torch.Generator().manual_seed(0))
        assert set(dropped["text"][:, 0].tolist()) == {0}


class TestCommand:
    def test_a_run_leaves_a_model_that_walks_from_the_guess(self, tmp_path, capsys):
        photos = tmp_path / "photos"
        photos.mkdir()
        write_photos(photos / "train-0.parquet", [gradient(40, 60), gradient(60, 40)], [["red bus"], []])
        arguments = ["--photos", str(photos), "--output", str(tmp_path / "run"), "--variants", "1"]
        arguments += ["--encoder-seconds", "0", "--seconds", "1", "--batch-size", "2"]
        assert command.main(arguments) == 0
        assert "walks" in capsys.readouterr().out
        summary = json.loads((tmp_path / "run" / "summary.json").read_text())
        assert summary["walks"]["photographs"] == [2] and summary["walks"]["samples"] >= 2
        model = load_pipeline(tmp_path / "run" / "model")
        assert model.sees_guess and model.config.walk_from == "guess"

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ([], "holds no train-*.parquet"),
            (["--weights", "1", "2"], "argument --weights: must have one value for each of 1 folders, got 2"),
            (["--weights", "0"], "argument --weights: one must be above 0"),
        ],
    )
    def test_bad_arguments_are_one_line(self, tmp_path, capsys, arguments, message):
        with pytest.raises(SystemExit) as stopped:
            command.main(["--photos", str(tmp_path), "--output", str(tmp_path / "run"), *arguments])
        assert stopped.value.code == 2 and message in capsys.readouterr().err
