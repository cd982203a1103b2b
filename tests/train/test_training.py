"""The trainers: what is learned, in which order, and that a run can be stopped and go on."""

import io
import json
import math
import os
import pickle
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np
import processes
import pytest
import torch
import yaml
from accelerate import Accelerator
from conftest import EXAMPLES, tiny_components, tiny_pipeline
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from torch.optim.optimizer import register_optimizer_step_pre_hook

from colorization import load_pipeline
from colorization.degradation import degrade, predict_z_color, start_latent, to_gray
from train.cache import LatentCache, _versions, build_cache
from train.checkpoint import find_checkpoint, list_checkpoints, prune_checkpoints, read_state
from train.config import (
    LORA_TARGETS,
    BaselineTraining,
    DataConfig,
    EmbeddedModelConfig,
    EmbeddedTraining,
    LoraTraining,
    ObjectiveConfig,
    OptimConfig,
    RunConfig,
    SemanticTraining,
    VividnessTraining,
)
from train.config_file import changed_settings, parse_command_line, to_yaml
from train.data import CachedSamples, PhotoSet, PixelSamples, SampleStream, _captions, load_photos, transform_config
from train.denoiser import ColorTask
from train.diffusion import check_training, load_lpips
from train.embedded import main as embedded_main
from train.loop import TrainingStopped, build_optimizer, create_accelerator, train
from train.lora import LoraTrainer, add_adapter, build_pipeline
from train.lora import main as lora_main
from train.objective import (
    alignment_loss,
    autoencoder_loss,
    draw_severity,
    estimate_z_color,
    hsv_saturation,
    latent_loss,
    loss_by_severity,
    saturation_loss,
    training_pair,
)
from train.teacher import Teacher
from train.text import Tokenize
from train.trainer import run
from train.transforms import TransformConfig, flip
from train.validation import check_validation, load_validation

ROOT = Path(__file__).parents[2]


def lora_config(folder: Path, base: Path | str = "embedded", **changes) -> LoraTraining:
    """The smoke config, smaller and with another base and folder; `changes` as {"run": {...}, "data": {...}}."""
    config, _ = parse_command_line(LoraTraining, "", ["--config", "smoke", "--output-dir", str(folder)])
    config = replace(
        config,
        model=replace(config.model, base=str(base), gray_conditioning=base == "embedded"),
        objective=replace(config.objective, noise_scale=0.6 if base == "embedded" else 0.0),
        data=replace(config.data, sources=[str(EXAMPLES)], limit=4),
        run=replace(config.run, validation_every=0, trackers="none", batch_size=2),
    )
    for part, values in changes.items():
        config = replace(config, **{part: replace(getattr(config, part), **values)})
    return config


# Objective


@pytest.mark.parametrize("prediction_type", ["velocity", "residual", "sample"])
@pytest.mark.parametrize("noise_scale", [0.0, 0.6])
def test_the_target_turned_back_is_the_color_latent(prediction_type, noise_scale):
    generator = torch.Generator().manual_seed(0)
    z_color, z_gray, noise = (torch.randn(5, 4, 6, 6, generator=generator) for _ in range(3))
    severity = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0])
    z, target = training_pair(z_color, z_gray, noise, severity, noise_scale, prediction_type)
    assert torch.equal(z, degrade(z_color, start_latent(z_gray, noise, noise_scale), severity))
    assert torch.allclose(predict_z_color(target, z, severity, prediction_type), z_color, atol=1e-5)
    assert torch.allclose(estimate_z_color(target, z, severity, prediction_type), z_color, atol=1e-5)
    assert torch.equal(latent_loss(target, target), torch.zeros(5))


def test_the_velocity_loss_weighs_every_severity_alike():
    """A mean squared error on z_hat would scale the gradient by a^2: nothing would be learned near color."""
    generator = torch.Generator().manual_seed(0)
    z_color, z_gray, error = (torch.randn(1, 4, 6, 6, generator=generator) for _ in range(3))
    sizes = []
    for a in (0.1, 1.0):
        _, target = training_pair(z_color, z_gray, None, torch.tensor([a]), 0.0, "velocity")
        output = (target + error).requires_grad_()
        latent_loss(output, target).sum().backward()
        sizes.append(output.grad.norm())
    assert torch.allclose(sizes[0], sizes[1])


def test_saturation_loss_sees_washed_out_colors():
    vivid = torch.tensor([0.9, 0.2, 0.1]).view(1, 3, 1, 1).expand(2, 3, 4, 4)
    washed = to_gray(vivid) * 0.5 + vivid * 0.5
    assert torch.allclose(hsv_saturation(vivid), torch.full((2, 4, 4), 8 / 9))
    assert torch.equal(saturation_loss(vivid, vivid), torch.zeros(2))
    assert (saturation_loss(washed, vivid) > 0.25).all()


def test_saturation_loss_reaches_the_network(tmp_path):
    pipeline = tiny_pipeline()
    task = ColorTask(pipeline, ObjectiveConfig(latent_weight=0.0, saturation_weight=1.0), False)
    generator = torch.Generator().manual_seed(0)
    batch = {
        "z_color": torch.randn(2, 4, 16, 16, generator=generator),
        "z_gray": torch.randn(2, 4, 16, 16, generator=generator),
        "noise": torch.zeros(2, 4, 16, 16),
        "severity": torch.tensor([0.4, 0.9]),
        "text": torch.randn(2, 77, 32, generator=generator),
    }
    loss = task.loss(task.network, batch)
    loss.total.backward()
    assert set(loss.parts) == {"latent", "saturation"} and loss.per_sample.shape == (2,)
    assert pipeline.unet.conv_out.weight.grad.abs().sum() > 0


def test_lpips_without_its_weights_is_an_error_that_says_so(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(ValueError, match="objective.lpips_weight"):
        load_lpips(ObjectiveConfig(lpips_weight=0.1), torch.device("cpu"))
    assert load_lpips(ObjectiveConfig(), torch.device("cpu")) is None


def test_autoencoder_loss_is_zero_for_the_picture_itself_but_for_the_energy():
    picture = torch.rand(2, 3, 8, 8) * 2 - 1
    z = torch.full((2, 4, 2, 2), 3.0)
    loss = autoencoder_loss(picture, picture, z, 2.0, 0.5, 1e-2)
    assert torch.allclose(loss, torch.full((2,), 0.09))
    assert (autoencoder_loss(-picture, picture, z, 2.0, 0.5, 1e-2) > loss).all()


def test_losses_are_told_apart_by_severity():
    values = loss_by_severity(torch.tensor([1.0, 3.0, 5.0]), torch.tensor([0.1, 0.15, 1.0]))
    assert values == {"0.0-0.2": 2.0, "0.8-1.0": 5.0}


def test_severity_distributions():
    def mean(*arguments, progress=0.0):
        rng = np.random.default_rng(0)
        drawn = [draw_severity(rng, *arguments, progress=progress) for _ in range(4000)]
        assert 0 <= min(drawn) and max(drawn) <= 1
        return np.mean(drawn)

    assert mean("uniform") == pytest.approx(0.5, abs=0.02)
    assert mean("shifted") == pytest.approx(0.5, abs=0.02)
    assert mean("shifted", progress=0.6) == pytest.approx(2 / 3, abs=0.02)
    assert mean("beta", (3.0, 1.0)) == pytest.approx(0.75, abs=0.02)
    assert mean("logit_normal", (0.0, 1.0)) == pytest.approx(0.5, abs=0.02)
    assert mean("logit_normal", (1.0, 1.0)) > 0.65
    with pytest.raises(ValueError, match="distribution"):
        draw_severity(np.random.default_rng(0), "linear")


# Settings


def test_configs_are_complete_and_survive_yaml(tmp_path):
    for name, kind in (
        ("imagenette-sd21", LoraTraining),
        ("imagenette-sd21-plus", LoraTraining),
        ("smoke", LoraTraining),
        ("embedded", EmbeddedTraining),
        ("embedded-cpu", EmbeddedTraining),
        ("embedded-gpu", EmbeddedTraining),
        ("embedded-smoke", EmbeddedTraining),
        ("vividness", VividnessTraining),
        ("vividness-smoke", VividnessTraining),
        ("embedded-guess", EmbeddedTraining),
        ("embedded-guess-smoke", EmbeddedTraining),
        ("semantic", SemanticTraining),
        ("semantic-tuned", SemanticTraining),
        ("semantic-smoke", SemanticTraining),
    ):
        config, options = parse_command_line(kind, "", ["--config", name])
        assert options.resume is None and not options.dry_run
        file = tmp_path / f"{name}.yaml"
        file.write_text(to_yaml(config), encoding="utf-8")
        assert parse_command_line(kind, "", ["--config", str(file)])[0] == config


def test_the_reports_settings():
    config, _ = parse_command_line(LoraTraining, "", ["--config", "imagenette-sd21"])
    assert (config.lora.rank, config.lora.alpha, config.lora.targets) == (16, 16, list(LORA_TARGETS))
    assert (config.optim.learning_rate, config.run.batch_size, config.run.epochs) == (1e-5, 16, 3)
    assert (config.objective.prediction_type, config.objective.severity) == ("residual", "shifted")
    assert (config.data.augment_probability, config.data.saturation_probability) == (0.1, 0.4)
    assert config.data.caption_dropout == 0.1


def test_flags_win_over_the_file():
    config, options = parse_command_line(
        LoraTraining, "", ["--config", "smoke", "--optim.learning_rate", "0.5", "--output-dir", "x", "--resume"]
    )
    assert (config.optim.learning_rate, config.run.output_dir, options.resume) == (0.5, "x", "latest")
    assert config.lora.rank == 4


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--config", "nope"], "`--config` must be a YAML file or one of"),
        (["--config", "smoke", "--optim.learning_rate", "0"], "`optim.learning_rate` must be above 0, got 0.0"),
        (["--config", "smoke", "--objective.prediction_type", "epsilon"], "prediction_type"),
        (["--config", "smoke", "--model.gray_conditioning", "false"], "needs `model.gray_conditioning` true"),
        (["--config", "smoke", "--run.batch_size", "two"], "run.batch_size"),
        (["--config", "smoke", "--data.caption_dropout", "1.5"], "`data.caption_dropout` must be between 0 and 1"),
        (["--config", "smoke", "--nonsense", "1"], "nonsense"),
        ([], "`data.sources` must be at least one data set"),
    ],
)
def test_wrong_settings_end_with_one_line(arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        parse_command_line(LoraTraining, "", arguments)
    error = capsys.readouterr().err
    assert stopped.value.code == 2
    assert error.startswith("error: ") and error.count("\n") == 1 and message in error


def test_dry_runs_of_small_configs(capsys):
    lora_main(["--config", "smoke", "--dry-run"])
    output = capsys.readouterr().out
    assert "photographs: 12" in output and "steps: 6 of 4 samples" in output and "cache of latents" in output
    embedded_main(["--config", "embedded-smoke", "--dry-run"])
    assert "unet parameters" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stopped:
        embedded_main(["--config", "embedded-smoke", "--data.sources", "[nobody/nothing]", "--dry-run"])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_the_dry_run_of_the_report_counts_its_parameters():
    result = processes.run("-m", "train.lora", "--config", "imagenette-sd21", "--dry-run", cwd=ROOT)
    assert result.returncode == 0, result.stderr
    assert "trainable parameters: 6,115,328" in result.stdout
    assert "UNet parameters:      865,910,724" in result.stdout


# Data


def test_samples_follow_from_seed_and_position_alone(tmp_path):
    data = DataConfig(sources=[str(EXAMPLES)], limit=3, resolution=16)
    photos, _ = load_photos(data)
    pipeline = tiny_pipeline()

    def stream(seed=0, total=12):
        samples = PixelSamples(photos, transform_config(data), Tokenize(pipeline))
        return SampleStream(samples, photos.sizes, total, (4, 8, 8), data, ObjectiveConfig(), seed)

    first, again = stream(), stream()
    assert len(first) == 12
    for position in (7, 2, 7):
        a, b = first[position], again[position]
        assert all(torch.equal(a[key], b[key]) for key in a)
    assert not torch.equal(first[0]["noise"], stream(seed=1)[0]["noise"])
    epochs = [[first[epoch * 3 + i]["noise"].sum().item() for i in range(3)] for epoch in range(4)]
    assert len({value for epoch in epochs for value in epoch}) == 12  # the same photograph gets fresh noise


def test_every_photograph_is_seen_once_an_epoch():
    data = DataConfig(sources=[str(EXAMPLES)], resolution=16, caption_dropout=0.0)
    photos, _ = load_photos(data)
    photos = replace(photos, captions=[str(i) for i in range(len(photos))])
    samples = PixelSamples(photos, transform_config(data), lambda caption: torch.tensor(int(caption)))
    stream = SampleStream(samples, photos.sizes, 24, (4, 8, 8), data, ObjectiveConfig(), 0)
    orders = [[int(stream[epoch * 12 + i]["text"]) for i in range(12)] for epoch in range(2)]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(12))
    assert orders[0] != orders[1]


def test_captions_are_dropped_for_a_tenth():
    data = DataConfig(sources=[str(EXAMPLES)], limit=1, resolution=8)
    photos, _ = load_photos(data)
    photos = replace(photos, captions=["words"])
    samples = PixelSamples(photos, TransformConfig(8), lambda caption: torch.tensor(float(caption == "")))
    stream = SampleStream(samples, [1], 300, (1, 1, 1), data, ObjectiveConfig(), 0)
    assert 10 <= sum(float(stream[i]["text"]) for i in range(300)) <= 55


def test_held_out_photographs_are_no_training_data():
    everything, nothing = load_photos(DataConfig(sources=[str(EXAMPLES)]))
    training, held_out = load_photos(DataConfig(sources=[str(EXAMPLES)], holdout=3))
    assert len(nothing) == 0 and len(held_out) > 0
    assert not set(training.digests) & set(held_out.digests)
    assert set(training.digests) | set(held_out.digests) == set(everything.digests)
    assert all(int.from_bytes(digest, "big") % 3 == 0 for digest in held_out.digests)


def test_a_missing_split_names_those_that_there_are():
    with pytest.raises(ValueError, match=r"`data.split` must be one of \['train'\]"):
        load_photos(DataConfig(sources=[str(EXAMPLES)], split="test"))


# Cache


@pytest.fixture(scope="module")
def small_photos():
    return load_photos(DataConfig(sources=[str(EXAMPLES)], limit=3))[0]


def build(photos, folder, variants=2, transform=None, pipeline=None, workers=0, teacher=None) -> LatentCache:
    transform = transform or TransformConfig(32, augment_probability=1.0)
    pipeline = pipeline or tiny_pipeline()
    accelerator = Accelerator(cpu=True)
    return build_cache(photos, pipeline, transform, variants, 0, True, 4, folder, accelerator, workers, teacher)


def test_the_cache_holds_what_encoding_on_the_fly_would_give(small_photos, tmp_path):
    cache = build(small_photos, tmp_path)
    assert cache.color.shape == (3, 2, 2, 4, 16, 16)
    assert not np.array_equal(cache.color[0, 0], cache.color[0, 1])  # variants differ
    pipeline = tiny_pipeline()
    pictures = torch.stack(
        _versions(small_photos.image(1), TransformConfig(32, augment_probability=1.0), cache.color.shape, 0, 1)
    )
    with torch.no_grad():
        z_color, z_gray = pipeline.encode_image(pictures), pipeline.encode_image(to_gray(pictures))
    assert np.allclose(cache.color[1].reshape(4, 4, 16, 16), z_color.numpy(), atol=2e-3)
    assert np.allclose(cache.gray[1].reshape(4, 4, 16, 16), z_gray.numpy(), atol=2e-3)
    with torch.no_grad():
        assert torch.allclose(cache.embedding(None), pipeline.encode_prompt([""])[0], atol=2e-3)


def test_a_cache_is_found_again_and_a_half_filled_one_is_finished(small_photos, tmp_path):
    cache = build(small_photos, tmp_path)
    modified = (cache.directory / "color.npy").stat().st_mtime_ns
    assert build(small_photos, tmp_path).directory == cache.directory
    assert (cache.directory / "color.npy").stat().st_mtime_ns == modified

    # As a kill leaves it: one photograph not encoded.
    expected = np.array(cache.color)
    partial = cache.directory.with_suffix(".partial")
    cache.directory.rename(partial)
    for name, value in (("done", False), ("color", 0)):
        array = np.load(partial / f"{name}.npy", mmap_mode="r+")
        array[1] = value
        array.flush()
    again = build(small_photos, tmp_path)
    assert np.array_equal(again.color, expected) and not partial.exists()


def test_other_settings_make_another_cache(small_photos, tmp_path):
    first = build(small_photos, tmp_path)
    assert build(small_photos, tmp_path, variants=1).directory != first.directory
    assert build(small_photos, tmp_path, transform=TransformConfig(16)).directory != first.directory
    other = tiny_pipeline()
    with torch.no_grad():
        other.vae.quant_conv.bias += 1
    assert build(small_photos, tmp_path, pipeline=other).directory != first.directory


def test_a_loading_process_gets_no_copy_of_the_cache(small_photos, tmp_path):
    cache = build(small_photos, tmp_path)
    pickled = pickle.dumps(CachedSamples(cache, Tokenize(tiny_pipeline()), small_photos.captions))
    assert len(pickled) < cache.color.nbytes / 4
    both = CachedSamples(cache), pickle.loads(pickled)
    first, second = (samples.draw(1, np.random.default_rng(0), True) for samples in both)
    assert torch.equal(first["z_color"], second["z_color"])


def test_pictures_read_by_other_processes_make_the_same_cache(small_photos, tmp_path):
    here, there = build(small_photos, tmp_path / "here"), build(small_photos, tmp_path / "there", workers=2)
    assert np.array_equal(here.color, there.color) and np.array_equal(here.gray, there.gray)


class _SlowPhotos(PhotoSet):
    """Reading a photograph takes a third of a second of CPU time."""

    def image(self, index: int) -> Image.Image:
        burn(1 / 3)
        return super().image(index)


def burn(seconds: float) -> None:
    started = time.process_time()
    while time.process_time() - started < seconds:
        pass


@pytest.mark.parametrize("workers", [0, 2])
def test_a_cache_knows_what_it_took(workers, small_photos, tmp_path):
    slow = _SlowPhotos(**vars(small_photos))
    cache = build(slow, tmp_path, workers=workers)
    assert cache.cpu_seconds > 0.9
    assert build(slow, tmp_path, workers=workers).cpu_seconds == cache.cpu_seconds


# Teacher


def test_the_cache_holds_what_the_teacher_sees_and_mirrors_it_with_the_picture(small_photos, tmp_path):
    teacher = Teacher(4, torch.device("cpu"))
    transform = TransformConfig(64, augment_probability=0.0, saturation_probability=0.0)
    cache = build(small_photos, tmp_path, variants=1, transform=transform, teacher=teacher)
    assert cache.features.shape == (3, 1, Teacher.channels, 4, 4)
    # Not the crab: it is its own mirror image.
    upright, mirrored = _versions(small_photos.image(1), transform, cache.color.shape, 0, 1)
    with torch.no_grad():
        seen = teacher(torch.stack([upright, mirrored]))
    assert np.allclose(cache.features[1, 0], seen[0].numpy(), atol=2e-2)
    # The stored side, turned round, stands for what the teacher sees in the mirrored picture.
    assert alignment_loss(flip(seen[:1]), seen[1:]) < alignment_loss(seen[:1], seen[1:])
    samples = [cache.latents(1, np.random.default_rng(seed)) for seed in range(8)]
    sides = [np.array_equal(sample["z_color"], cache.color[1, 0, 1].astype(np.float32)) for sample in samples]
    assert len(set(sides)) == 2
    for sample, turned in zip(samples, sides, strict=True):
        stored = torch.from_numpy(np.array(cache.features[1, 0]))
        assert torch.equal(sample["features"], flip(stored) if turned else stored)


def test_alignment_teaches_the_middle_of_the_unet_and_leaves_no_trace_in_the_model(tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({"model": {"start": "embedded"}, "objective": {"alignment_weight": 1.0}}))
    arguments = ["--config", str(config), "--data.sources", f"[{EXAMPLES}]", "--data.limit", "2"]
    arguments += ["--data.resolution", "64", "--data.cache_batch_size", "2", "--run.output_dir", str(tmp_path / "run")]
    arguments += ["--run.batch_size", "2", "--run.max_steps", "2", "--run.log_every", "1"]
    arguments += ["--run.validation_every", "0", "--run.mixed_precision", "no"]
    embedded_main(arguments)
    events = (tmp_path / "run" / "logs").rglob("events.*")
    assert any(b"loss/alignment" in file.read_bytes() for file in events)
    with safe_open(tmp_path / "run" / "model" / "unet" / "diffusion_pytorch_model.safetensors", "pt") as file:
        names = set(file.keys())
    assert names == set(load_pipeline("embedded").unet.state_dict())


def test_alignment_reaches_the_unet():
    pipeline = tiny_pipeline()
    teacher = Teacher(4, torch.device("cpu"))
    task = ColorTask(pipeline, ObjectiveConfig(latent_weight=1e-9, alignment_weight=1.0), False, teacher=teacher)
    batch = {"z_color": torch.randn(1, 4, 16, 16), "z_gray": torch.randn(1, 4, 16, 16), "severity": torch.ones(1)}
    width = pipeline.unet.config.cross_attention_dim
    batch |= {"noise": torch.randn(1, 4, 16, 16), "text": torch.randn(1, 3, width)}
    middle = 16 // 2 ** (len(pipeline.unet.config.block_out_channels) - 1)
    batch["features"] = torch.randn(1, Teacher.channels, middle, middle)
    loss = task.loss(task.network, batch)
    loss.total.backward()
    gradient = next(pipeline.unet.mid_block.parameters()).grad
    assert 0 < loss.parts["alignment"] < 2 and gradient.abs().max() > 1e-6


def test_alignment_without_a_cache_is_refused(tmp_path):
    config = EmbeddedTraining(
        data=DataConfig(sources=[str(EXAMPLES)], limit=1, cache=False, resolution=64),
        objective=ObjectiveConfig(alignment_weight=1.0),
        model=EmbeddedModelConfig(start="embedded"),
        run=RunConfig(validation_every=0),
    )
    with pytest.raises(ValueError, match="`objective.alignment_weight` above 0 needs `data.cache` true"):
        check_training(load_pipeline("embedded"), config)


# Validation


def test_validation_without_its_photographs_is_a_warning(tmp_path, caplog):
    run = RunConfig(str(tmp_path), validation_dataset=str(tmp_path / "nowhere"))
    assert load_validation(run, DataConfig(["x"]), PhotoSet([], [], [], [], [])) is None
    assert "no validation" in caplog.text and "nowhere" in caplog.text
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "photo.jpg").write_bytes(b"no picture")
    run = RunConfig(str(tmp_path), validation_dataset=str(tmp_path / "broken"))
    assert load_validation(run, DataConfig(["x"]), PhotoSet([], [], [], [], [])) is None
    shutil.copy(EXAMPLES / "erase_crab.jpg", tmp_path / "broken" / "whole.jpg")
    run = replace(run, validation_split="train")
    assert len(load_validation(run, DataConfig(["x"], resolution=8), PhotoSet([], [], [], [], []))) == 1
    assert f"left out of the validation: {tmp_path / 'broken' / 'photo.jpg'}: " in caplog.text


def test_validation_takes_what_was_held_out(small_photos):
    run = RunConfig("unused", validation_dataset="holdout", validation_count=2)
    images = load_validation(run, DataConfig(["x"], resolution=16), small_photos)
    assert images.shape == (2, 3, 16, 16) and images.min() >= -1 and images.max() <= 1


def test_settings_that_do_not_suit_are_refused_before_anything_long(tmp_path):
    config = lora_config(tmp_path, "x", run={"validation_every": 1, "validation_dataset": "holdout"})
    with pytest.raises(ValueError, match="`data.holdout` keeps no photograph out"):
        check_validation(config.run, PhotoSet([], [], [], [], []))
    with pytest.raises(ValueError, match="`data.holdout` keeps no photograph out"):
        run(LoraTrainer, config)
    with pytest.raises(ValueError, match="`data.resolution` must be a multiple of 4 for this model, got 30"):
        check_training(tiny_pipeline(), replace(config, data=replace(config.data, resolution=30)))


# Adapter


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_what_is_trained_is_float32_and_everything_else_frozen(precision, tmp_path, stock_sd_folder):
    config = lora_config(tmp_path, stock_sd_folder, run={"mixed_precision": precision})
    config = replace(config, model=replace(config.model, gray_conditioning=True))
    pipeline = build_pipeline(config, torch.device("cpu"))
    trained = {name: p for name, p in pipeline.unet.named_parameters() if p.requires_grad}
    assert {p.dtype for p in trained.values()} == {torch.float32}
    assert all("lora" in name or name.startswith("conv_in.") for name in trained)
    assert {"conv_in.weight", "conv_in.bias"} <= set(trained)
    assert not any(p.requires_grad for part in (pipeline.vae, pipeline.text_encoder) for p in part.parameters())
    frozen = torch.bfloat16 if precision == "bf16" else torch.float32
    assert pipeline.unet.conv_out.weight.dtype == frozen


def test_a_widened_model_begins_where_the_base_is(tmp_path, stock_sd_folder):
    config = lora_config(tmp_path, stock_sd_folder)
    config = replace(config, model=replace(config.model, gray_conditioning=True))
    wide = build_pipeline(config, torch.device("cpu")).unet
    narrow = tiny_components()["unet"]
    z, z_gray, text = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8), torch.randn(2, 5, 32)
    with torch.no_grad():
        expected = narrow(z, 500, text).sample
        assert torch.allclose(wide(torch.cat([z, z_gray], dim=1), 500, text).sample, expected, atol=1e-6)


def test_gradients_are_clipped(tmp_path):
    """A well-known script hands the clipping an iterator that the optimizer has used up."""
    pipeline = tiny_pipeline()
    add_adapter(pipeline.unet, lora_config(tmp_path, "x"), 4)
    task = ColorTask(pipeline, ObjectiveConfig(latent_weight=1e6), False)
    norms = []

    def note_norm(optimizer, arguments, keywords):
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"]]
        norms.append(float(torch.nn.utils.get_total_norm(gradients)))

    hook = register_optimizer_step_pre_hook(note_norm)
    run = RunConfig(str(tmp_path), batch_size=1, mixed_precision="no", trackers="none")
    train(task, _Samples(2), OptimConfig(max_grad_norm=0.5), run, create_accelerator(run), None, tmp_path)
    hook.remove()
    assert norms == pytest.approx([0.5, 0.5], rel=1e-3)


class _Samples(torch.utils.data.Dataset):
    def __init__(self, count: int, value: float = 1.0):
        self.count, self.value = count, value

    def __len__(self):
        return self.count

    def __getitem__(self, position):
        generator = torch.Generator().manual_seed(position)
        return {
            "z_color": self.value * torch.randn(4, 8, 8, generator=generator),
            "z_gray": torch.randn(4, 8, 8, generator=generator),
            "noise": torch.randn(4, 8, 8, generator=generator),
            "severity": torch.rand((), generator=generator),
            "text": torch.randn(5, 32, generator=generator),
        }


# Loop


def make_task() -> ColorTask:
    """The same small adapter every time."""
    pipeline = tiny_pipeline()
    torch.manual_seed(0)
    add_adapter(pipeline.unet, lora_config(Path("unused"), "x"), 4)
    return ColorTask(pipeline, ObjectiveConfig(), False)


def trained_weights(task: ColorTask) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in task.network.named_parameters() if p.requires_grad}


def run_loop(folder: Path, samples, checkpoint: Path | None = None, **changes) -> dict[str, torch.Tensor]:
    run = RunConfig(str(folder), batch_size=2, mixed_precision="no", trackers="none", checkpoint_every=1)
    run = replace(run, **changes)
    task = make_task()
    optim = OptimConfig(1e-2, "cosine", 1, ema_decay=0.9)
    train(task, samples, optim, run, create_accelerator(run), checkpoint, folder)
    return trained_weights(task)


def test_going_on_gives_the_same_bits_as_never_having_stopped(tmp_path):
    whole = run_loop(tmp_path / "whole", _Samples(10), checkpoints_total_limit=10)
    middle = tmp_path / "whole" / "checkpoint-000002"
    resumed = run_loop(tmp_path / "resumed", _Samples(10), checkpoint=middle)
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    start = trained_weights(make_task())
    assert any(not torch.equal(whole[name], start[name]) for name in whole)


def test_the_summary_counts_the_cpu_time_of_workers(tmp_path):
    class Slow(_Samples):
        def __getitem__(self, position):
            burn(0.5)
            return super().__getitem__(position)

    run = RunConfig(str(tmp_path), batch_size=1, mixed_precision="no", trackers="none", checkpoint_every=4)
    accelerator, started = create_accelerator(run), time.process_time()
    summary = train(make_task(), Slow(4), OptimConfig(), run, accelerator, None, tmp_path, workers=2)
    own = time.process_time() - started
    assert summary["cpu_seconds"] > own + 1.5
    assert read_state(tmp_path / "checkpoint-000004")["cpu_seconds"] > own + 1.5


def test_accumulated_gradients_equal_a_larger_batch(tmp_path):
    large = run_loop(tmp_path / "large", _Samples(8), batch_size=4)
    small = run_loop(tmp_path / "small", _Samples(8), batch_size=2, gradient_accumulation_steps=2)
    assert all(torch.allclose(large[name], small[name], atol=1e-5) for name in large)


def test_checkpoints_hold_what_is_trained_and_no_more_than_allowed(tmp_path):
    weights = run_loop(tmp_path, _Samples(10), checkpoints_total_limit=2)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["checkpoint-000004", "checkpoint-000005"]
    stored = load_file(tmp_path / "checkpoint-000005" / "trained.safetensors")
    assert stored.keys() == weights.keys()
    size = sum(file.stat().st_size for file in (tmp_path / "checkpoint-000005").iterdir())
    unet = sum(p.numel() * 4 for p in make_task().network.parameters())
    assert size < unet  # the frozen UNet is not in it


def test_a_loss_that_is_not_finite_stops_with_the_step_and_keeps_the_checkpoint(tmp_path):
    class Poisoned(_Samples):
        def __getitem__(self, position):
            sample = super().__getitem__(position)
            return sample | {"z_color": sample["z_color"] * math.nan} if position == 5 else sample

    with pytest.raises(TrainingStopped, match=r"the loss is nan at step 3; the last good checkpoint is .*000002"):
        run_loop(tmp_path, Poisoned(10))
    assert [path.name for path in list_checkpoints(tmp_path)] == ["checkpoint-000001", "checkpoint-000002"]
    stored = load_file(tmp_path / "checkpoint-000002" / "trained.safetensors")
    assert all(tensor.isfinite().all() for tensor in stored.values())


def test_a_gradient_that_is_not_finite_stops_before_it_reaches_the_weights(tmp_path):
    class Poisoned(torch.autograd.Function):
        @staticmethod
        def forward(context, value):
            return value.clone()

        @staticmethod
        def backward(context, gradient):
            return gradient * math.nan

    class PoisonedTask(ColorTask):
        calls = 0

        def loss(self, network, batch):
            loss = super().loss(network, batch)
            self.calls += 1
            return replace(loss, total=Poisoned.apply(loss.total)) if self.calls == 3 else loss

    clean = make_task()
    task = PoisonedTask(clean.pipeline, ObjectiveConfig(), False)
    run = RunConfig(str(tmp_path), batch_size=2, mixed_precision="no", trackers="none", checkpoint_every=1)
    with pytest.raises(TrainingStopped, match=r"the gradient is nan at step 3; the last good checkpoint is .*000002"):
        train(task, _Samples(10), OptimConfig(1e-2, ema_decay=0.9), run, create_accelerator(run), None, tmp_path)
    assert all(p.isfinite().all() for p in trained_weights(task).values())


def test_going_on_beside_later_checkpoints_is_refused(tmp_path):
    run_loop(tmp_path, _Samples(8), checkpoints_total_limit=10)
    with pytest.raises(ValueError, match="beside later checkpoints, such as .*000004"):
        find_checkpoint(tmp_path, str(tmp_path / "checkpoint-000002"))
    latest = tmp_path / "checkpoint-000004"
    assert find_checkpoint(tmp_path, str(latest)) == find_checkpoint(tmp_path, "latest") == latest


def test_going_on_with_other_samples_per_step_is_refused(tmp_path):
    run_loop(tmp_path, _Samples(8))
    with pytest.raises(ValueError, match="made with 2 samples per step, this run takes 4"):
        run_loop(tmp_path, _Samples(8), checkpoint=tmp_path / "checkpoint-000004", batch_size=4)


def test_photographs_that_cannot_be_read_are_named_counted_and_left_out(tmp_path, capsys):
    shutil.copy(EXAMPLES / "erase_crab.jpg", tmp_path / "b.jpg")
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    (tmp_path / "c.png").write_bytes(damaged_png())
    Image.fromarray(np.full((8, 8), np.nan, np.float32)).save(tmp_path / "d.tif")
    shutil.copy(EXAMPLES / "farm_animals_cat.jpg", tmp_path / "e.jpg")
    flags = ["--config", "smoke", "--data.sources", f"[{tmp_path}]", "--data.resolution", "16", "--data.limit", "2"]
    flags += ["--output-dir", str(tmp_path / "run"), "--run.max_steps", "1", "--run.validation_every", "0"]
    lora_main([*flags, "--run.trackers", "none"])
    error = capsys.readouterr().err
    for name, cause in (
        ("a.jpg", "no image, or of an unknown format"),
        ("c.png", "broken PNG"),
        ("d.tif", "floating-point values must be"),
    ):
        assert f"failed: {tmp_path / name}: " in error and cause in error
    assert "left out: 3\n" in error
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["photographs"], summary["unreadable"]) == (2, 3)


def damaged_png() -> bytes:
    """A PNG with a chunk of a wrong length, so that what follows is no chunk: Pillow raises SyntaxError."""
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(buffer, "PNG")
    data = bytearray(buffer.getvalue())
    at = data.index(b"IDAT") - 4
    data[at : at + 4] = (1000).to_bytes(4, "big")
    with pytest.raises(SyntaxError):
        Image.open(io.BytesIO(bytes(data))).load()
    return bytes(data)


def test_a_source_of_nothing_but_damaged_photographs_is_refused_with_a_cause(tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=rf"got none in .*; {tmp_path}/broken.jpg: no image"):
        load_photos(DataConfig(sources=[str(tmp_path)]))


def test_a_photograph_in_a_table_is_called_by_its_row(tmp_path):
    cells = [{"bytes": b"no picture", "path": "n01.JPEG"}, {"bytes": damaged_png(), "path": None}]
    cells.append({"bytes": (EXAMPLES / "erase_crab.jpg").read_bytes(), "path": "crab.jpg"})
    datasets.Dataset.from_dict({"image": cells}).to_parquet(tmp_path / "photos.parquet")
    source = str(tmp_path / "photos.parquet")
    photos, _ = load_photos(DataConfig(sources=[source]))
    first, second = photos.unreadable
    assert first.startswith(f"n01.JPEG in row 0 of {source}: ") and second.startswith(f"row 1 of {source}: ")
    assert photos.rows == [(0, 2)]
    assert photos.image(0).size == Image.open(EXAMPLES / "erase_crab.jpg").size


def test_labels_without_names_are_no_captions():
    rows = {"image": [None] * 3, "label": [2, 0, -1]}
    numbers = datasets.Dataset.from_dict(rows)
    assert _captions(numbers, "caption", "x") == ["", "", ""]
    named = numbers.cast_column("label", datasets.ClassLabel(names=["tench", "b", "chain_saw"]))
    assert _captions(named, "caption", "x") == _captions(named, "label", "x") == ["chain saw", "tench", ""]


def test_local_sources_are_not_taken_for_ids_and_not_published(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "photos").mkdir(parents=True)
    flags = ["--config", "smoke", "--data.sources", '["data/photos", "user/photos"]']
    config, _ = parse_command_line(LoraTraining, "", flags)
    assert config.data.sources == ["./data/photos", "user/photos"]
    public = yaml.safe_load(to_yaml(config, public=True))
    assert public["data"]["sources"] == ["photos", "user/photos"]


def test_a_tracker_that_is_not_installed_is_refused(tmp_path):
    with pytest.raises(ValueError, match="`run.trackers` wandb needs its package"):
        create_accelerator(RunConfig(str(tmp_path), mixed_precision="no", trackers="wandb"))


def test_half_written_checkpoints_are_no_checkpoints(tmp_path):
    for name in (".checkpoint-000003.partial", "checkpoint-000001", "checkpoint-1000000", "checkpoint-x"):
        (tmp_path / name).mkdir()
    assert [path.name for path in list_checkpoints(tmp_path)] == ["checkpoint-000001", "checkpoint-1000000"]
    prune_checkpoints(tmp_path, 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-1000000", "checkpoint-x"]


def test_a_checkpoint_that_was_asked_for_must_be_there(tmp_path):
    assert find_checkpoint(tmp_path, None) is None
    with pytest.raises(ValueError, match="needs a checkpoint in"):
        find_checkpoint(tmp_path, "latest")
    with pytest.raises(ValueError, match="must be a checkpoint folder"):
        find_checkpoint(tmp_path, str(tmp_path / "checkpoint-000009"))


def test_eight_bit_without_its_package_says_what_to_install():
    with pytest.raises(ValueError, match="bitsandbytes"):
        build_optimizer(torch.nn.Linear(1, 1), OptimConfig(eight_bit=True))


# The small model


def test_the_small_model_is_trained_whole_and_colors(tmp_path, capsys):
    flags = ["--config", "embedded-smoke", "--output-dir", str(tmp_path), "--run.trackers", "none"]
    flags += ["--data.limit", "4", "--vae.steps", "3", "--run.max_steps", "3", "--run.batch_size", "2"]
    embedded_main(flags)
    assert capsys.readouterr().out.endswith(f"saved {tmp_path / 'model'}\n")
    assert json.loads((tmp_path / "vae" / "summary.json").read_text())["steps"] == 3
    assert json.loads((tmp_path / "summary.json").read_text())["samples"] == 6
    for file in (tmp_path / "model").rglob("*.json"):
        text = file.read_text(encoding="utf-8")
        assert "_name_or_path" not in text and "TokenizersBackend" not in text and str(tmp_path) not in text

    pipeline = load_pipeline(tmp_path / "model", device="cpu")
    assert pipeline.vae.config.scaling_factor != 1 and pipeline.config.color_scale_space == "chroma"
    words = "red bus with a very long description of its many wheels and windows and so on and on"
    assert Tokenize(pipeline)("red bus").shape == Tokenize(pipeline)(words).shape == (20,)
    assert len(pipeline.tokenizer(words).input_ids) > 20  # neither cut nor padded unless asked for
    with Image.open(sorted(EXAMPLES.glob("*.jpg"))[0]) as photo:
        assert pipeline(photo, prompt="red bus", num_inference_steps=1).images[0].size == photo.size

    # The same command again finds everything done; other settings of the autoencoder are refused.
    modified = (tmp_path / "vae" / "model" / "config.json").stat().st_mtime_ns
    (cost,) = tmp_path.glob("cache/*/cost.json")
    cost.write_text('{"cpu_seconds": 1000.0}')
    embedded_main(flags)
    assert (tmp_path / "vae" / "model" / "config.json").stat().st_mtime_ns == modified
    assert json.loads((tmp_path / "summary.json").read_text())["cpu_seconds"] > 1000
    with pytest.raises(SystemExit) as stopped:
        embedded_main([*flags, "--vae.chroma_weight", "7"])
    assert stopped.value.code == 2 and "vae.chroma_weight was 2.0 and is 7.0" in capsys.readouterr().err


# Commands


def environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def start_from_sd(folder: Path, base: Path) -> list[str]:
    """Flags of a run on a tiny Stable Diffusion model."""
    return [
        *("--config", "smoke", "--output-dir", str(folder), "--model.base", str(base)),
        *("--data.sources", json.dumps([str(EXAMPLES)]), "--data.limit", "8", "--data.resolution", "16"),
        *("--run.validation_every", "0", "--run.trackers", "none"),
    ]


@pytest.mark.slow
def test_two_processes_train_the_same_adapter_as_one_with_twice_the_batch(tmp_path, stock_sd_folder):
    def adapter(name: str, count: int, batch: int) -> dict[str, torch.Tensor]:
        flags = [*start_from_sd(tmp_path / name, stock_sd_folder), "--run.batch_size", str(batch)]
        flags += ["--run.validation_every", "3"]  # the others must wait for the one that validates
        command = ["-m", "train.lora", *flags]
        if count == 1:
            assert processes.run(*command, cwd=ROOT, env=environment()).returncode == 0
        else:
            launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(count)]
            subprocess.run([*launch, *command], cwd=ROOT, env=environment(), check=True)
        summary = json.loads((tmp_path / name / "summary.json").read_text())
        assert summary["processes"] == count and summary["samples"] == 6 * 4
        assert len(list((tmp_path / name / "validation").iterdir())) == 2
        return load_file(tmp_path / name / "adapter" / "pytorch_lora_weights.safetensors")

    two, one = adapter("two", 2, 2), adapter("one", 1, 4)
    assert two.keys() == one.keys()
    # Adam divides by the gradient's size, so sums in another order show; the learning rate is 1e-3.
    assert all(torch.allclose(two[name], one[name], atol=2e-5) for name in one)


def test_another_config_in_the_same_folder_is_refused(tmp_path, stock_sd_folder):
    flags = [*start_from_sd(tmp_path, stock_sd_folder), "--run.max_steps", "1"]
    done = processes.run("-m", "train.lora", *flags, cwd=ROOT, env=environment())
    assert done.returncode == 0, done.stderr
    with safe_open(tmp_path / "adapter" / "pytorch_lora_weights.safetensors", "pt") as file:
        assert "learning_rate: 0.001" in file.metadata()["training_config"]
        assert json.loads(file.metadata()["lora_adapter_metadata"])["unet.lora_alpha"] == 8
    again = processes.run("-m", "train.lora", *flags, "--optim.learning_rate", "0.5", cwd=ROOT, env=environment())
    assert again.returncode == 2
    assert "optim.learning_rate was 0.001 and is 0.5" in again.stderr.splitlines()[-1]


def test_a_run_from_before_a_setting_existed_goes_on():
    config = BaselineTraining(data=DataConfig(sources=["photos"], cache=False))
    stored = yaml.safe_load(to_yaml(config))
    del stored["data"]["caption_column"], stored["optim"]["betas"]
    assert changed_settings(yaml.safe_dump(stored), config) == {}
    other = replace(config, data=replace(config.data, caption_column="label"))
    assert changed_settings(yaml.safe_dump(stored), other) == {"data.caption_column": ("caption", "label")}
