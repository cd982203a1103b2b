"""What can be done with results: `colorize info`, `redo` and `verify`."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import random_photo, tiny_pipeline
from PIL import ExifTags, Image

import colorization
from colorization.cli import is_result_command, main
from colorization.computation import weights_digest
from colorization.image_io import read_image, read_settings, write_image
from colorization.photo import ImageError
from colorization.redo import redo
from colorization.verification import lightness_of_gray, verify

FORMATS = ("jpg", "png", "webp", "tiff")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny_pipeline(in_channels=8, noise_scale=0.6, color_scale_space="chroma").save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory, model) -> Path:
    """A folder of photographs with their results in "out", colored in one batch."""
    folder = tmp_path_factory.mktemp("album")
    for index, name in enumerate(("one.png", "two.png", "three.jpg")):
        random_photo(48, 40, seed=index).save(folder / name)
    call = [
        folder,
        "--output",
        folder / "out",
        "--model",
        model,
        "--prompt",
        "red bus",
        "--seed",
        "5",
        "--device",
        "cpu",
    ]
    assert main([str(argument) for argument in call]) == 0
    return folder


@pytest.fixture
def album(finished, tmp_path) -> Path:
    return shutil.copytree(finished, tmp_path / "album")


def run(*arguments: object) -> int:
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as stop:
        return stop.code


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ("info photo.jpg", True),
        ("verify a.jpg b.jpg", True),
        ("redo a.jpg --to b.jpg", True),
        ("./info", False),
        ("photo.jpg info", False),
        ("info --output out", False),
        ("redo --overwrite --out=results", False),
        ("", False),
    ],
)
def test_calls_with_output_color_whatever_their_first_word(call, expected):
    assert is_result_command(call.split()) is expected


def test_a_folder_named_as_a_command_is_colored(tmp_path, model, monkeypatch):
    (tmp_path / "info").mkdir()
    random_photo(20, 20).save(tmp_path / "info" / "a.png")
    monkeypatch.chdir(tmp_path)
    assert run("info", "--output", "out", "--model", model, "--device", "cpu") == 0
    assert (tmp_path / "out" / "a.png").is_file()


def test_info_prints_what_results_say(album, capsys):
    assert run("info", album / "out" / "one.png") == 0
    shown = capsys.readouterr().out
    for part in ("compositeWithTrainedAlgorithmicMedia", "Cold Colorizer", "red bus", '"file": "one.png"'):
        assert part in shown
    assert run("info", album / "out" / "one.png", album / "two.png", album / "gone.png") == 1
    shown = capsys.readouterr()
    assert f"{album / 'two.png'}: not labelled" in shown.out and f"failed: {album / 'gone.png'}: " in shown.err
    assert run("info") == 2


@pytest.mark.parametrize("name", ["one.png", "two.png", "three.jpg"])
def test_results_of_a_batch_are_made_again_byte_for_byte(album, model, capsys, name):
    result = album / "out" / name
    assert run("redo", result, "--model", model) == 0
    assert "byte for byte" in capsys.readouterr().out
    again = result.with_name(f"{result.stem}-again{result.suffix}")
    assert again.read_bytes() == result.read_bytes()
    assert run("redo", result, "--model", model) == 1
    assert f"failed: {again} exists already" in capsys.readouterr().err


def test_redo_says_why_it_cannot(album, model, tmp_path):
    result, target = album / "out" / "one.png", tmp_path / "new.png"
    with pytest.raises(ValueError, match="tiny"):  # the folder's name is all that is recorded
        redo(result, target=target)
    (album / "one.png").rename(tmp_path / "moved.png")
    with pytest.raises(ImageError, match=r"needs one\.png \(SHA-256 .*\), but it is not in .*--original"):
        redo(result, target=target, model=model)
    with pytest.raises(ImageError, match="two.png is another photograph"):
        redo(result, original=album / "two.png", target=target, model=model)
    assert redo(result, original=tmp_path / "moved.png", target=target, model=model).difference == ""
    with pytest.raises(ImageError, match="does not say how it was made"):
        redo(album / "two.png")

    other = tiny_pipeline(in_channels=8, noise_scale=0.6, color_scale_space="chroma", prompted_guess_severity=0.5)
    other.save_pretrained(tmp_path / "other")
    with pytest.raises(ValueError, match="other weights or defaults"):
        redo(result, original=tmp_path / "moved.png", target=tmp_path / "b.png", model=tmp_path / "other")

    photo = read_image(album / "two.png")
    settings = {name: value for name, value in read_settings(result).items() if name != "input"}
    pixels = np.repeat(photo.luma[..., None], 3, axis=2)
    for changed, message in (
        ({"omitted": {"hints": "0"}}, "no more than digests of some of its settings \\(hints\\)"),
        ({"seed": None}, "generator"),
        ({"computation": {"device": "mars"}}, "was made on mars"),
    ):
        write_image(tmp_path / "changed.png", pixels, photo, settings | changed)
        with pytest.raises(ValueError, match=message):
            redo(tmp_path / "changed.png", original=album, target=tmp_path / "b.png", model=model)
    assert not (tmp_path / "b.png").exists()


def test_redo_tells_differences(album, model, tmp_path):
    photo, settings = read_image(album / "one.png"), read_settings(album / "out" / "one.png")
    write_image(tmp_path / "edited.png", np.repeat(photo.luma[..., None], 3, axis=2), photo, settings)
    assert "of the pixels, by up to" in redo(tmp_path / "edited.png", original=album, model=model).difference
    old = settings | {"software": "Cold Colorizer 0.0.1"}
    pixels = np.asarray(Image.open(album / "out" / "one.png"))
    write_image(tmp_path / "old.png", pixels, photo, old)
    difference = redo(tmp_path / "old.png", original=album, model=model).difference
    assert difference.startswith("the same pixels, other metadata") and "by Cold Colorizer 0.0.1" in difference


def test_other_weights_have_another_digest():
    pipeline = tiny_pipeline()
    digest = weights_digest(pipeline)
    assert digest == weights_digest(tiny_pipeline())
    assert digest != weights_digest(tiny_pipeline(default_guidance_scale=2.0))
    pipeline.unet.conv_in.weight.data[0, 0, 0, 0] += 1
    assert digest != weights_digest(pipeline)


@pytest.mark.parametrize("suffix", FORMATS)
def test_verify_finds_nothing_but_color_changed(tmp_path, suffix, capsys):
    exif = Image.Exif()
    exif[ExifTags.Base.Artist] = "A. Photographer"
    original, result = tmp_path / "in.jpg", tmp_path / f"out.{suffix}"
    rows, columns = np.mgrid[0:90, 0:120]
    Image.fromarray(np.uint8(120 + 60 * np.sin(rows / 9) * np.cos(columns / 7))).save(
        original, exif=exif, dpi=(300, 300)
    )
    photo = read_image(original)
    pixels = np.clip(photo.luma[..., None].astype(int) + (12, -6, 3), 0, 255).astype(np.uint8)
    write_image(result, pixels, photo)
    found = verify(original, result)
    assert found.original_size == found.result_size == (120, 90) and found.shift == (0, 0)
    assert found.lightness_mean <= 0.3 and found.luminance_max <= 4 and not found.lost and not found.problems
    assert {"EXIF Artist", "resolution"} <= set(found.kept)
    if suffix != "jpg":
        assert found.luminance_max <= 1 and found.luminance_share == 0
    assert run("verify", original, result) == 0
    assert "nothing but color was changed" in capsys.readouterr().out


def test_verify_finds_what_else_was_changed(tmp_path, capsys):
    exif = Image.Exif()
    exif[ExifTags.Base.Artist] = "A. Photographer"
    gray = random_photo(64, 48).convert("L")
    gray.save(tmp_path / "in.png", exif=exif)
    pixels = np.asarray(gray.convert("RGB"))
    changed = {
        "brighter": np.clip(pixels.astype(int) + 3, 0, 255).astype(np.uint8),
        "moved": np.roll(pixels, (2, -3), axis=(0, 1)),
        "smaller": pixels[:40],
    }
    found = {}
    for name, other in changed.items():
        Image.fromarray(other).save(tmp_path / f"{name}.png")
        found[name] = verify(tmp_path / "in.png", tmp_path / f"{name}.png")
        assert found[name].lost == ["EXIF Artist"] and "metadata lost: EXIF Artist" in found[name].problems
    assert found["brighter"].luminance_mean == pytest.approx(3, abs=0.1) and found["brighter"].luminance_share > 0.9
    assert any("lightness" in problem for problem in found["brighter"].problems)
    assert found["moved"].shift == (-3, 2) and "displaced by -3 x 2 pixels" in found["moved"].problems
    assert found["smaller"].luminance_mean is None and "size 64 x 40 in place of 64 x 48" in found["smaller"].problems
    assert run("verify", tmp_path / "in.png", tmp_path / "smaller.png") == 1
    assert "changed besides color: size" in capsys.readouterr().out
    assert run("verify", tmp_path / "in.png", tmp_path / "gone.png") == 1
    assert "failed: " in capsys.readouterr().err


def test_chroma_edges_are_compared_with_those_of_luminance(tmp_path):
    left = np.zeros((60, 80), np.uint8)
    left[:, :40] = 200
    gray = np.repeat(left[..., None], 3, axis=2)
    for name, place in (("aligned", 40), ("beside", 60)):
        pixels = gray.astype(int)
        pixels[:, place:] += (0, 0, 40)
        Image.fromarray(np.uint8(np.clip(pixels, 0, 255))).save(tmp_path / f"{name}.png")
    Image.fromarray(gray).save(tmp_path / "in.png")
    assert verify(tmp_path / "in.png", tmp_path / "aligned.png").chroma_edges[0] == 1
    assert verify(tmp_path / "in.png", tmp_path / "beside.png").chroma_edges[0] < 0.1
    assert verify(tmp_path / "in.png", tmp_path / "in.png").chroma_edges is None


def test_transparency_is_laid_over_white_where_the_result_has_none(tmp_path):
    alpha = np.tile(np.linspace(0, 255, 64, dtype=np.uint8), (48, 1))
    picture = random_photo(64, 48).convert("RGB")
    picture.putalpha(Image.fromarray(alpha))
    picture.save(tmp_path / "in.png")
    photo = read_image(tmp_path / "in.png")
    write_image(tmp_path / "out.jpg", np.repeat(photo.luma[..., None], 3, axis=2), photo, quality=100)
    assert verify(tmp_path / "in.png", tmp_path / "out.jpg").lightness_mean < 0.3


def test_lightness_of_gray():
    assert lightness_of_gray(np.array([0, 255, 119.0])) == pytest.approx([0, 100, 50.03], abs=0.05)


def test_verify_is_public():
    assert colorization.verify is verify
