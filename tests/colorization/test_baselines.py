"""Baselines: each class at tiny size, the numerics they rest on, saving, loading and the trainer's command."""

import json

import cv2
import numpy as np
import pytest
import torch
from conftest import EXAMPLES
from PIL import Image
from safetensors import safe_open

from app import load_models
from colorization import load_pipeline
from colorization.baselines import TRAINED, baseline_class
from colorization.baselines.base import AB_RANGE, ab_to_chroma, split_lab
from colorization.baselines.cic import ClassificationBaseline, rebalancing_weights, soft_encode
from colorization.baselines.controlnet import canny_edges
from colorization.baselines.gan import GanBaseline
from colorization.baselines.pipeline import BaselinePipeline
from colorization.baselines.pixelcnn import STRIDE, PixelCnnBaseline
from colorization.cli import main as color
from colorization.color import merge_luma_chroma, rgb_to_chroma
from colorization.degradation import to_gray
from colorization.errors import ColorizationWarning, ModelLoadError
from colorization.image_io import read_settings
from colorization.loading import BASELINE_DIRECTORY
from train.baselines import main as train
from train.config import BaselineTraining
from train.config_file import CONFIG_DIRECTORY, parse_command_line

PICTURES = [torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(k)) * 2 - 1 for k in range(6)]
OPTIONS = {"pixelcnn": {"palette_size": 8, "width": 16, "num_layers": 2}, "controlnet": {"num_inference_steps": 2}}


@pytest.fixture(scope="module")
def models():
    """One model of each kind, new."""
    torch.manual_seed(0)
    made = {}
    for name in TRAINED:
        kind = baseline_class(name)
        made[name] = kind(**kind.complete_settings(OPTIONS.get(name, {}), iter(PICTURES)))
        made[name].initialize()
    return made


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def losses(model, pictures=PICTURES):
    image = torch.stack(pictures)
    noise = torch.randn(len(image), *model.noise_shape(32), generator=torch.Generator().manual_seed(1))
    return model(image, torch.linspace(0.1, 0.9, len(image)), noise)


# Numerics


def test_lab_of_a_picture_gives_its_chroma_back():
    image = torch.stack(PICTURES) * 0.3
    image = torch.nn.functional.avg_pool2d(image, 8).repeat_interleave(8, 2).repeat_interleave(8, 3)
    light, ab = split_lab(image)
    assert light.min() >= -1 and light.max() <= 1
    gray = to_gray(image)[:, :1] / 2 + 0.5
    rgb = merge_luma_chroma(gray, ab_to_chroma(gray, ab))
    # a*, b* on the gray picture's lightness differ a little from those on the color picture's
    assert (rgb_to_chroma(rgb) - rgb_to_chroma(image / 2 + 0.5)).abs().mean() < 0.01


def test_lab_is_exact_under_autocast():
    image = torch.stack(PICTURES)
    light, ab = split_lab(image)
    with torch.autocast("cpu", torch.bfloat16):
        again = split_lab(image)
    assert torch.equal(light, again[0]) and torch.equal(ab, again[1])


def test_gray_has_no_chroma():
    gray = torch.rand(2, 1, 16, 16)
    assert ab_to_chroma(gray, torch.zeros(2, 2, 8, 8)).abs().max() < 1e-4


def test_soft_encoding_prefers_the_nearest_bin_and_sums_to_one():
    bins = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [50.0, 50.0]])
    index, share = soft_encode(torch.tensor([[9.0, 1.0], [48.0, 52.0]]), bins)
    assert index[:, 0].tolist() == [1, 3]
    assert torch.allclose(share.sum(dim=-1), torch.ones(2))
    assert share[1, 0] > 0.999


def test_rare_colors_weigh_more_and_the_mean_weight_is_one():
    bins = torch.tensor([[0.0, 0.0], [60.0, 0.0]])
    weights = rebalancing_weights(bins, torch.tensor([900, 100]))
    # far apart, so nothing is smoothed: 1 / (0.5 * 0.9 + 0.25) and 1 / (0.5 * 0.1 + 0.25), normalized
    assert float(weights[1] / weights[0]) == pytest.approx(0.7 / 0.3, rel=1e-5)
    assert float(0.9 * weights[0] + 0.1 * weights[1]) == pytest.approx(1.0)


def test_annealed_mean_goes_from_the_mean_to_the_mode():
    def chroma(temperature):
        model = ClassificationBaseline([(0.0, 60.0), (60.0, 0.0)], [1.0, 1.0], temperature=temperature)
        with torch.no_grad():
            model.head.weight.zero_()
            model.head.bias.copy_(torch.tensor([1.0, 0.0]))
            return model.predict_chroma(torch.full((1, 1, 16, 16), 0.5), generators(0))

    mode = ab_to_chroma(torch.full((1, 1, 16, 16), 0.5), torch.tensor([0.0, 60.0]).view(1, 2, 1, 1) / AB_RANGE)
    distances = [float((chroma(temperature) - mode).abs().mean()) for temperature in (1.0, 0.38, 0.01)]
    assert distances[0] > distances[1] > distances[2]
    assert distances[2] < 1e-4


def test_canny_edges_are_opencvs():
    gray = torch.zeros(1, 1, 32, 32)
    gray[..., 16:] = 1
    edges = canny_edges(gray)
    assert torch.equal(edges[0, 0], torch.from_numpy(cv2.Canny((255 * gray[0, 0]).byte().numpy(), 100, 200) / 255.0))
    assert 0 < edges.mean() < 0.1


# Models


@pytest.mark.parametrize("name", TRAINED)
def test_losses_are_per_sample_and_reach_every_trained_parameter(models, name):
    model = models[name].train()
    model.zero_grad()
    terms = losses(model)
    assert all(term.shape == (len(PICTURES),) and term.isfinite().all() for term in terms.values())
    sum(terms.values()).mean().backward()
    without = [n for n, parameter in model.named_parameters() if parameter.requires_grad and parameter.grad is None]
    assert without == []


@pytest.mark.parametrize("name", TRAINED)
def test_a_prediction_depends_on_its_picture_and_seed_alone(models, name):
    model = models[name].eval()
    gray = torch.stack([to_gray(picture[None])[0, :1] / 2 + 0.5 for picture in PICTURES[:3]])
    with torch.no_grad():
        together = model.predict_chroma(gray, generators(4, 5, 6))
        alone = model.predict_chroma(gray[1:2], generators(5))
    assert together.shape == (3, 2, 32, 32) and together.dtype == torch.float32
    assert torch.allclose(together[1], alone[0], atol=1e-4)


def test_gan_losses_move_only_their_own_network(models):
    model = models["gan"]
    model.zero_grad()
    losses(model)["adversarial"].mean().backward()
    assert all(p.grad is None for p in model.discriminator.parameters())
    assert model.head.weight.grad is not None
    model.zero_grad()
    losses(model)["discriminator"].mean().backward()
    assert all(p.grad is not None for p in model.discriminator.parameters())
    assert model.head.weight.grad is None


def test_gan_is_saved_without_its_discriminator(tmp_path):
    model = GanBaseline()
    model.drop_training_parts()
    model.save_pretrained(tmp_path)
    loaded = GanBaseline.from_pretrained(tmp_path)
    assert loaded.discriminator is None and loaded.state_dict().keys() == model.state_dict().keys()


def test_pixelcnn_sees_no_pixel_that_comes_later(models):
    model = models["pixelcnn"].eval()
    index = torch.randint(0, 8, (1, 8, 8), generator=torch.Generator().manual_seed(0))
    condition = torch.randn(1, model.backbone.channels, 8, 8)
    changed = index.clone()
    changed[0, 4, 3:] = (changed[0, 4, 3:] + 1) % 8
    changed[0, 5:] = (changed[0, 5:] + 1) % 8
    with torch.no_grad():
        before, after = model.logits(index, condition), model.logits(changed, condition)
    assert torch.equal(before[..., :4, :], after[..., :4, :])
    assert torch.equal(before[..., 4, : 3 + 1], after[..., 4, : 3 + 1])  # column 3 sees columns 0 to 2
    assert not torch.equal(before[..., 4, 4], after[..., 4, 4])


def test_pixelcnn_draws_what_its_logits_say(models):
    """With no say of the neighbors, the drawn colors have the softmax's frequencies."""
    model = PixelCnnBaseline([(0.0, 0.0), (50.0, 50.0)], width=16, num_layers=1).eval()
    with torch.no_grad():
        model.last[-1].weight.zero_()
        model.last[-1].bias.copy_(torch.tensor([0.0, np.log(3.0)]))
        chroma = model.predict_chroma(torch.full((1, 1, 128, 128), 0.5), generators(0))
    cells = torch.nn.functional.avg_pool2d(chroma.norm(dim=1), STRIDE)
    assert abs(float((cells > cells.max() / 2).float().mean()) - 0.75) < 0.06


# Pipeline


@pytest.fixture
def saved(models, tmp_path):
    pipeline = BaselinePipeline(models["resnet"], resolution=32)
    pipeline.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_saved_baseline_loads_by_its_folder(models, saved):
    loaded = load_pipeline(saved, device="cpu")
    photo = EXAMPLES / "erase_crab.jpg"
    output = loaded(photo)
    assert output.images[0].size == Image.open(photo).size
    assert output.settings[0]["model"] == "model"
    expected = BaselinePipeline(models["resnet"].eval(), resolution=32)(photo).images[0]
    assert np.array_equal(output.images[0], expected)


def test_photographs_of_several_sizes_keep_luminance_and_size(saved):
    pipeline = load_pipeline(saved, device="cpu")
    photos = [Image.new("L", (40, 60), 90), Image.new("L", (100, 30), 200), Image.new("L", (40, 60), 128)]
    images = pipeline(photos, batch_size=2).images
    assert [image.size for image in images] == [photo.size for photo in photos]
    for image, photo in zip(images, photos, strict=True):
        assert np.abs(np.asarray(image.convert("L"), int) - np.asarray(photo, int)).max() <= 1
    assert np.array_equal(images[2], pipeline(photos[2]).images[0])


def test_color_scale_zero_is_gray_and_chroma_comes_out(saved):
    pipeline = load_pipeline(saved, device="cpu")
    photo = EXAMPLES / "erase_crab.jpg"
    gray = np.asarray(pipeline(photo, color_scale=0).images[0])
    assert np.ptp(gray.astype(int), axis=-1).max() <= 1
    prediction = pipeline(photo, output_type="chroma").images[0]
    assert prediction.chroma.shape[0] == 2
    with pytest.warns(ColorizationWarning, match="no text"):
        pipeline(photo, prompt="red crab")


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"color_scale": -1}, "`color_scale`"),
        ({"batch_size": 0}, "`batch_size`"),
        ({"num_images_per_prompt": 1.5}, "`num_images_per_prompt`"),
        ({"seed": -1}, "`seed`"),
        ({"output_type": "latent"}, "`output_type`"),
    ],
)
def test_bad_arguments_are_named(saved, arguments, message):
    with pytest.raises(ValueError, match=message):
        load_pipeline(saved, device="cpu")(Image.new("L", (32, 32)), **arguments)


def test_loading_says_what_is_wrong(saved):
    with pytest.raises(ModelLoadError, match="does not ship"):
        load_pipeline("baseline:nothing")
    with pytest.raises(ModelLoadError, match="`adapter` 'x' makes no sense"):
        load_pipeline(saved, adapter="x")
    index = json.loads((saved / "model_index.json").read_text())
    (saved / "model_index.json").write_text(json.dumps(index | {"model": ["os", "system"]}))
    with pytest.raises(ModelLoadError, match="no known baseline but 'system'"):
        load_pipeline(saved)


def test_shipped_weights_are_stored_in_half_precision_and_load_as_asked():
    stored = set()
    for file in BASELINE_DIRECTORY.glob("*/model/*.safetensors"):
        with safe_open(file, "pt") as tensors:
            stored |= {tensors.get_slice(name).get_dtype() for name in tensors.keys() if file.stat().st_size > 1000}
    assert stored == {"F16"}  # the one number of "optimization" apart
    for dtype in (torch.float32, torch.bfloat16):
        assert load_pipeline("baseline:gan", device="cpu", dtype=dtype).model.dtype == dtype


def test_optimization_spreads_hints_over_the_photograph():
    pipeline = load_pipeline("baseline:optimization", device="cpu")
    photo = Image.new("L", (60, 40), 128)
    assert np.ptp(np.asarray(pipeline(photo).images[0], int), axis=-1).max() <= 1
    output = pipeline(photo, hints=[(10, 10, "#a06060")])
    assert output.settings[0]["hints"] == [[10, 10, "#a06060"]]
    pixels = np.asarray(output.images[0], int)
    assert np.abs(pixels - pixels[10, 10]).max() <= 2 and pixels[10, 10, 0] > pixels[10, 10, 1] + 40


def test_hints_hold_with_any_baseline(saved):
    pipeline = load_pipeline(saved, device="cpu")
    picture = pipeline(EXAMPLES / "erase_crab.jpg", hints=[(370, 160, "#2040c0")]).images[0]
    red, green, blue = picture.getpixel((370, 160))
    assert blue > red + 30 and blue > green + 20


def test_command_line_takes_baselines(saved, tmp_path, capsys):
    photo, output = str(EXAMPLES / "erase_crab.jpg"), str(tmp_path / "out")
    assert color([photo, "--output", output, "--model", str(saved), "--color-scale", "1.2"]) == 0
    assert read_settings(tmp_path / "out" / "erase_crab.jpg")["color_scale"] == 1.2
    for words in (["--steps", "4"], ["--guidance-scale", "2"], ["--color-scale", "auto"]):
        with pytest.raises(SystemExit) as exit:
            color([photo, "--output", output, "--overwrite", "--model", str(saved), *words])
        assert exit.value.code == 2 and f"argument {words[0]}" in capsys.readouterr().err


def test_demo_refuses_baselines(saved, monkeypatch):
    monkeypatch.setenv("COLORIZER_MODEL", str(saved))
    with pytest.raises(ModelLoadError, match="needs a diffusion model"):
        load_models()


# Trainer


@pytest.mark.parametrize("name", TRAINED)
def test_smoke_config_trains_and_resumes(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(CONFIG_DIRECTORY.parent.parent)
    command = ["--config", "baseline-smoke", "--model.name", name, "--output-dir", str(tmp_path / "run")]
    command += ["--model.options", json.dumps(OPTIONS.get(name, {})), "--run.trackers", "none"]
    train([*command, "--run.max_steps", "2"])
    train(command)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["steps"] == 4 and summary["parameters"] > 0
    assert (tmp_path / "run" / "validation" / "step-000004.jpg").is_file()
    pipeline = load_pipeline(tmp_path / "run" / "model", device="cpu")
    assert pipeline(EXAMPLES / "erase_crab.jpg").images[0].size == Image.open(EXAMPLES / "erase_crab.jpg").size


def test_all_baselines_share_one_budget():
    def settings(path):
        config, _ = parse_command_line(BaselineTraining, "", ["--config", str(path)])
        return config.data, config.run.batch_size, config.run.max_steps

    configs = [CONFIG_DIRECTORY / f"baseline-{name}.yaml" for name in TRAINED]
    assert len({repr(settings(path)) for path in configs}) == 1


@pytest.mark.parametrize(
    "words, message",
    [
        (["--model.name", "vgg"], "`model.name` must be one of resnet"),
        (["--model.options", '{"depth": 3}'], "do not suit resnet"),
        (["--data.resolution", "40"], "multiple of 16"),
        (["--data.cache", "true"], "`data.cache` must be false"),
    ],
)
def test_bad_settings_end_with_one_line(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(CONFIG_DIRECTORY.parent.parent)
    with pytest.raises(SystemExit) as exit:
        train(["--config", "baseline-smoke", "--output-dir", str(tmp_path), *words])
    assert exit.value.code == 2
    assert message in capsys.readouterr().err
