import csv
import hashlib
import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import EXAMPLES, tiny_components
from PIL import Image
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor

from colorization.color import colorfulness
from eval import scorer
from eval.__main__ import main
from eval.checked_run import load_run
from eval.metrics.colors import HUE_SECTORS, hue_sectors, match_colorfulness
from eval.metrics.pixels import mean_ciede2000, psnr
from eval.networks import ClipScore, Lpips
from eval.row_metrics import frechet_inception_metric
from eval.scorer import pixel_scores, prompted_word, ssim
from eval.summary import to_tensor

FILES = sorted(EXAMPLES.glob("*.jpg"))[:5]
SIZE = (96, 72)
CAPTION = "red thing, gray background"
TINY = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1}


def faded(pixels: np.ndarray, share: float) -> np.ndarray:
    """A picture with part of its color."""
    gray = np.array(Image.fromarray(pixels).convert("L").convert("RGB"))
    return np.rint(gray + share * (pixels.astype(float) - gray)).clip(0, 255).astype(np.uint8)


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def write_run(folder: Path, share: float = 0.5, seed: int = 0, captions: bool = False, model: str = "faded") -> Path:
    """A run as `eval generate` writes it, whose outputs are the originals with part of their color."""
    for part in ("images", "reference", "vae"):
        (folder / part).mkdir(parents=True)
    lines = []
    for k, file in enumerate(FILES):
        pixels = np.array(Image.open(file).convert("RGB").resize(SIZE))
        name = f"{file.stem}.png"
        versions = {"reference": pixels, "images": faded(pixels, share), "vae": faded(pixels, 0.9)}
        for part, version in versions.items():
            Image.fromarray(version).save(folder / part / name)
        entry = {
            "id": file.stem,
            "file": f"images/{name}",
            "reference": f"reference/{name}",
            "vae": f"vae/{name}",
            "width": SIZE[0],
            "height": SIZE[1],
            "caption": CAPTION if captions else "",
            "prompt_mode": "caption" if captions else "none",
            "seed": 7 * k + seed,
            "settings": {},
            "model": model,
            "sha256": sha256(folder / "images" / name),
            "reference_sha256": sha256(folder / "reference" / name),
            "seconds": 0.5 + k,
        }
        lines.append(json.dumps(entry))
    (folder / "manifest.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    request = {
        "format": 1,
        "dataset_name": "five",
        "model": model,
        "seed": seed,
        "geometry": "96 x 72",
        "settings": {},
    }
    (folder / "run.json").write_text(json.dumps(request), encoding="utf-8")
    (folder / "left_out.json").write_text(json.dumps([{"id": "x", "reason": "gray"}]), encoding="utf-8")
    return folder


def run_score(*arguments: object) -> int:
    return main(["score", *map(str, arguments)])


def read(folder: Path) -> dict:
    return json.loads((folder / "score.json").read_text(encoding="utf-8"))


@pytest.fixture(autouse=True)
def no_downloads(tmp_path_factory, monkeypatch):
    """torch.hub's folder is empty, whatever this machine has."""
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path_factory.mktemp("hub")))


@pytest.fixture(scope="module")
def scored(tmp_path_factory) -> Path:
    pytest.importorskip("efficientnet_lite_pytorch")
    folder = write_run(tmp_path_factory.mktemp("scored") / "run")
    cache = folder.parent / "cache"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.hub, "_hub_dir", str(tmp_path_factory.mktemp("hub")))
        assert run_score(folder, "--cache", cache) == 0
    return folder


# Results


def test_rows_and_metrics(scored):
    result = read(scored)
    assert list(result["rows"]) == ["output", "gray", "vae", "original"]
    assert result["data"] == {"name": "five", "n": 5, "geometry": "96 x 72", "left_out": 1}
    assert result["run"]["model"] == "faded" and result["format"] == 1
    assert len(result["weights"]["lite2"]) == 64 and result["weights"]["inception"] is None
    expected = "fid kid hi_fid fd_lite2 kd_lite2 feature_distance colorfulness colorfulness_absolute "
    expected += "delta_colorfulness_mean delta_colorfulness_each colorfulness_ratio psnr ssim lpips ciede2000 "
    expected += "clip_score color_word_hit_rate diversity best_of_k_ciede2000 seconds_per_image"
    names = [*expected.split(), *(f"chroma_{what}_{hue}" for what in ("error", "retention") for hue in HUE_SECTORS)]
    for metrics in result["rows"].values():
        assert set(names) <= set(metrics)
        for metric in metrics.values():
            assert {"value", "n", "interval"} <= set(metric) and (metric["value"] is not None or metric["reason"])
    output = result["rows"]["output"]
    for name in ("psnr", "ssim", "ciede2000", "colorfulness", "feature_distance", "seconds_per_image"):
        low, high = output[name]["interval"]
        assert low <= output[name]["value"] <= high and output[name]["n"] == 5


def test_what_the_metrics_say(scored):
    rows = read(scored)["rows"]
    values = {name: {key: metric["value"] for key, metric in row.items()} for name, row in rows.items()}
    assert values["output"]["colorfulness_ratio"] == pytest.approx(0.5, abs=0.02)
    assert values["vae"]["colorfulness_ratio"] == pytest.approx(0.9, abs=0.02)
    assert values["gray"]["colorfulness"] == 0
    assert values["gray"]["ciede2000"] > values["output"]["ciede2000"] > values["vae"]["ciede2000"] > 0
    assert values["original"]["ciede2000"] == values["original"]["feature_distance"] == 0
    assert values["original"]["ssim"] == 1 and values["original"]["psnr"] is None
    difference = values["original"]["colorfulness"] - values["output"]["colorfulness"]
    assert values["output"]["delta_colorfulness_mean"] == pytest.approx(difference)
    assert values["output"]["delta_colorfulness_each"] >= difference - 1e-9
    assert values["output"]["seconds_per_image"] == 2.5 and values["gray"]["seconds_per_image"] is None
    for hue in HUE_SECTORS:
        if values["output"][f"chroma_retention_{hue}"] is not None:
            assert values["output"][f"chroma_retention_{hue}"] == pytest.approx(0.5, abs=0.12)
            assert values["gray"][f"chroma_retention_{hue}"] < 0.01  # Lab's white is not quite sRGB's
    assert rows["output"]["fd_lite2"]["value"] is None and "2000" in rows["output"]["fd_lite2"]["reason"]
    assert rows["output"]["kd_lite2"]["standard_error"] > 0


def test_absent_weights_give_no_value_and_say_why(scored):
    output = read(scored)["rows"]["output"]
    for name, option in {
        "fid": "--inception-weights",
        "kid": "--inception-weights",
        "lpips": "--lpips-weights",
    }.items():
        assert output[name]["value"] is None and option in output[name]["reason"]
    assert "prompt" in output["clip_score"]["reason"] and "prompt" in output["color_word_hit_rate"]["reason"]
    assert "--extra-seeds" in output["diversity"]["reason"]


def test_fid_of_few_pictures_carries_a_warning():
    rng = np.random.default_rng(0)
    few, many = (frechet_inception_metric(*rng.standard_normal((2, n, 8))) for n in (12, 2000))
    assert few["value"] > 0 and few["note"].startswith("n too small to compare") and "note" not in many
    assert "note" not in frechet_inception_metric(*rng.standard_normal((2, 1, 8)))  # no value, but a reason


def test_values_of_single_pictures(scored):
    with open(scored / "score_per_image.csv", newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["id"] for row in rows] == [file.stem for file in FILES]
    first = [
        to_tensor(np.array(Image.open(scored / part / f"{FILES[0].stem}.png"))) for part in ("images", "reference")
    ]
    assert float(rows[0]["psnr"]) == pytest.approx(psnr(*first).item(), rel=1e-4)
    assert float(rows[0]["ciede2000"]) == pytest.approx(mean_ciede2000(*first).item(), rel=1e-3)
    assert float(rows[0]["reference_colorfulness"]) == pytest.approx(colorfulness(first[1]).item(), rel=1e-4)
    assert rows[0]["lpips"] == "" and float(rows[0]["feature_distance"]) > 0 and float(rows[0]["chroma_error"]) > 0


def test_scores_can_be_repeated_and_the_cache_changes_nothing(scored, tmp_path):
    before = read(scored)
    kept = sorted((scored.parent / "cache").iterdir())
    assert [file.name.split("-")[0] for file in kept] == ["lite2", "lite2"]  # of the originals and the gray inputs
    stamps = [file.stat().st_mtime_ns for file in kept]
    assert run_score(scored, "--cache", scored.parent / "cache") == 0
    assert read(scored) == before
    assert [file.stat().st_mtime_ns for file in kept] == stamps
    assert run_score(scored, "--cache", tmp_path / "other", "--seed", "1") == 0
    other = read(scored)["rows"]["output"]
    assert other["psnr"]["value"] == before["rows"]["output"]["psnr"]["value"]
    assert other["psnr"]["interval"] != before["rows"]["output"]["psnr"]["interval"]


def test_another_colorizer_is_scored_against_a_run_or_a_folder(scored, tmp_path):
    folder = tmp_path / "theirs"
    shutil.copytree(scored / "images", folder)
    assert run_score(folder, "--reference", scored) == 0
    result = read(folder)
    assert result["run"] == {"name": "theirs"} and result["data"]["name"] == "five"
    assert result["rows"]["output"]["seconds_per_image"]["value"] is None
    own = read(scored)["rows"]["output"]
    assert result["rows"]["output"]["ciede2000"]["value"] == own["ciede2000"]["value"]
    assert run_score(folder, "--reference", scored / "reference") == 0
    result = read(folder)
    assert "vae" not in result["rows"] and result["rows"]["output"]["psnr"]["value"] == own["psnr"]["value"]


# Refusals


def refused(capsys, *arguments: object) -> str:
    with pytest.raises(SystemExit, match="2"):
        run_score(*arguments)
    text = capsys.readouterr().err.strip().splitlines()[-1]
    assert text.startswith("error: ")
    return text


def test_runs_that_were_tampered_with_are_refused(tmp_path, capsys):
    good = write_run(tmp_path / "good")
    ids = [file.stem for file in FILES]
    (missing, extra, swapped, renamed, resized, original) = (
        Path(shutil.copytree(good, tmp_path / name))
        for name in "missing extra swapped renamed resized original".split()
    )
    (missing / "images" / f"{ids[1]}.png").unlink()
    assert f"images missing: {ids[1]}" in refused(capsys, missing)
    Image.new("RGB", SIZE).save(extra / "images" / "stranger.png")
    assert "images not in the manifest: stranger" in refused(capsys, extra)
    a, b = (swapped / "images" / f"{key}.png" for key in ids[:2])
    content = a.read_bytes()
    a.write_bytes(b.read_bytes())
    b.write_bytes(content)
    assert f"SHA-256 differs): {ids[0]}, {ids[1]}" in refused(capsys, swapped)
    (renamed / "images" / f"{ids[2]}.png").rename(renamed / "images" / "new-name.png")
    text = refused(capsys, renamed)
    assert f"images missing: {ids[2]}" in text and "not in the manifest: new-name" in text
    Image.new("RGB", (12, 12)).save(resized / "images" / f"{ids[3]}.png")
    assert f"of another size than the original: {ids[3]}" in refused(capsys, resized)
    Image.new("RGB", SIZE).save(original / "reference" / f"{ids[4]}.png")
    assert f"SHA-256 differs): {ids[4]}" in refused(capsys, original)
    assert not any((folder / "score.json").exists() for folder in (missing, extra, swapped, renamed, resized))


def test_folders_that_do_not_fit_are_refused(scored, tmp_path, capsys):
    folder = tmp_path / "theirs"
    shutil.copytree(scored / "images", folder)
    assert "--reference" in refused(capsys, folder)
    (folder / f"{FILES[0].stem}.png").unlink()
    Image.new("RGB", SIZE).save(folder / "stranger.png")
    text = refused(capsys, folder, "--reference", scored)
    assert f"images missing: {FILES[0].stem}" in text and "without original: stranger" in text
    assert "not a folder" in refused(capsys, tmp_path / "nothing")
    assert "not a file" in refused(capsys, scored, "--inception-weights", tmp_path / "nothing.pth")
    (folder / "stranger.png").rename(folder / f"{FILES[0].stem}.png")
    (folder / f"{FILES[1].stem}.png").write_bytes(b"no picture")
    assert f"unreadable: {FILES[1].stem}" in refused(capsys, folder, "--reference", scored)


def test_no_more_than_ten_ids_are_named(tmp_path):
    for part in ("theirs", "originals"):
        (tmp_path / part).mkdir()
    for k in range(14):
        Image.new("RGB", (4, 4)).save(tmp_path / "originals" / f"{k:02}.png")
    Image.new("RGB", (4, 4)).save(tmp_path / "theirs" / "00.png")
    with pytest.raises(ValueError, match=r"missing: 01, 02, .*, 10 and 3 more"):
        load_run(tmp_path / "theirs", tmp_path / "originals")


# Seeds, prompts


def test_diversity_and_best_of_seeds(tmp_path, capsys):
    runs = [write_run(tmp_path / f"seed{seed}", share, seed) for seed, share in enumerate((0.3, 0.5, 0.8))]
    assert run_score(runs[0], "--extra-seeds", *runs[1:]) == 0
    rows = read(runs[0])["rows"]
    assert run_score(runs[2]) == 0
    best = read(runs[2])["rows"]["output"]["ciede2000"]["value"]
    assert rows["output"]["best_of_k_ciede2000"]["value"] == pytest.approx(best)
    assert rows["output"]["diversity"]["value"] > 0 and rows["output"]["diversity"]["n"] == 5
    assert rows["gray"]["diversity"]["value"] is None
    assert "has the seed 0 again" in refused(capsys, runs[0], "--extra-seeds", runs[0])
    other = write_run(tmp_path / "other", 0.4, 9, model="another")
    assert "another model" in refused(capsys, runs[0], "--extra-seeds", other)


def test_prompts_are_judged(tmp_path):
    folder = write_run(tmp_path / "run", captions=True)
    assert run_score(folder, "--clip-model", tmp_path / "absent") == 0
    output = read(folder)["rows"]["output"]
    assert output["clip_score"]["value"] is None and "--clip-model" in output["clip_score"]["reason"]
    assert 0 <= output["color_word_hit_rate"]["value"] <= 1 and output["color_word_hit_rate"]["n"] > 0
    assert prompted_word("red bus, green background") == "red" and prompted_word("a bus") is None
    assert prompted_word("black dog, blue background") == "blue"


# Networks


def test_lpips_with_random_weights_of_its_own_network(tmp_path):
    """Weights from a file take torchvision's names; equal pictures have a distance of 0."""
    from torchvision.models import alexnet

    torch.manual_seed(0)
    state = {key: value for key, value in alexnet(weights=None).state_dict().items() if key.startswith("features")}
    torch.save(state, tmp_path / "alexnet.pth")
    network = Lpips(tmp_path / "alexnet.pth")
    image, other = (torch.rand(1, 3, 64, 64) for _ in range(2))
    assert network(image, image) == 0 and network(image, other) > 0
    import lpips

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
    kept = dict(zip(theirs.net.state_dict(), state.values(), strict=True))
    theirs.net.load_state_dict(kept)
    assert network(image, other) == pytest.approx(theirs(2 * image - 1, 2 * other - 1).item(), rel=1e-5)
    torch.save({"x": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="AlexNet"):
        Lpips(tmp_path / "other.pth")


def test_clip_score_of_a_tiny_model(tmp_path):
    """A CLIP model of the real classes with random weights, read from a folder."""
    config = CLIPConfig(
        text_config={**TINY, "vocab_size": 54, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1},
        vision_config={**TINY, "image_size": 16, "patch_size": 8},
        projection_dim=8,
    )
    torch.manual_seed(0)
    CLIPModel(config).save_pretrained(tmp_path / "clip")
    size = {"size": {"shortest_edge": 16}, "crop_size": {"height": 16, "width": 16}}
    processor = CLIPProcessor(CLIPImageProcessor(**size), tiny_components()["tokenizer"])
    processor.save_pretrained(tmp_path / "clip")
    network = ClipScore(str(tmp_path / "clip"))
    photo = np.array(Image.open(FILES[0]).convert("RGB"))
    assert 0 <= network(photo, "a bus") <= 100
    run = write_run(tmp_path / "run", captions=True)
    assert run_score(run, "--clip-model", tmp_path / "clip") == 0
    result = read(run)
    expected = [network(np.array(Image.open(run / "images" / f"{file.stem}.png")), CAPTION) for file in FILES]
    assert result["rows"]["output"]["clip_score"]["value"] == pytest.approx(np.mean(expected), abs=1e-3)
    assert result["settings"]["clip_model"] == str(tmp_path / "clip")


# Numerics


def test_bands_change_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    reference, a, b = (rng.integers(0, 256, (40, 50, 3), dtype=np.uint8) for _ in range(3))
    whole = pixel_scores(reference, {"a": a, "b": b}, ["a", "b"])
    monkeypatch.setattr(scorer, "_BAND_PIXELS", 500)
    banded = pixel_scores(reference, {"a": a, "b": b}, ["a", "b"])
    assert whole[0] == pytest.approx(banded[0]) and whole[2] == pytest.approx(banded[2])
    assert whole[2] == pytest.approx(mean_ciede2000(to_tensor(a), to_tensor(b)).item(), rel=1e-5)
    np.testing.assert_allclose(whole[1]["a"], banded[1]["a"], rtol=1e-6)
    assert whole[1]["a"][:, 0].sum() == pytest.approx(1)


def test_ssim_is_torchmetrics_and_its_channels_can_be_taken_apart(monkeypatch):
    from torchmetrics.functional.image import structural_similarity_index_measure

    image, other = (torch.rand(1, 3, 24, 30, generator=torch.Generator().manual_seed(k)) for k in range(2))
    expected = structural_similarity_index_measure(image, other, data_range=1.0).item()
    assert ssim(image, other) == pytest.approx(expected, abs=1e-6)
    monkeypatch.setattr(scorer, "_SSIM_PIXELS", 1)
    assert ssim(image, other) == pytest.approx(expected, abs=1e-6)
    assert np.isnan(ssim(image[..., :10], other[..., :10]))


def test_hue_sectors_have_their_names():
    css = {
        "red": [(255, 0, 0), (139, 0, 0)],
        "orange": [(255, 165, 0), (139, 69, 19)],
        "yellow": [(255, 255, 0), (255, 215, 0)],
        "green": [(0, 128, 0), (154, 205, 50)],
        "cyan": [(0, 255, 255), (64, 224, 208)],
        "blue": [(0, 0, 255), (135, 206, 235)],
        "purple": [(128, 0, 128), (138, 43, 226)],
        "pink": [(255, 105, 180), (255, 192, 203)],
    }
    names = list(HUE_SECTORS)
    for name, colors in css.items():
        assert [names[k] for k in hue_sectors(np.array(colors, np.uint8))] == [name] * len(colors)
    assert hue_sectors(np.array([[128, 128, 128], [250, 250, 250]], np.uint8)).tolist() == [-1, -1]


@pytest.mark.parametrize("factor", [0.2, 1.0, 1.7])
def test_colorfulness_is_matched(factor):
    pixels = np.array(Image.open(FILES[0]).convert("RGB").resize(SIZE))
    image = to_tensor(faded(pixels, 0.5))
    target = factor * colorfulness(image).item()
    matched, reached = match_colorfulness(image, target)
    assert reached and colorfulness(matched).item() == pytest.approx(target, abs=0.1)
    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    torch.testing.assert_close((matched * weights).sum(1), (image * weights).sum(1), atol=1e-5, rtol=0)


def test_colorfulness_that_cannot_be_matched():
    gray = torch.full((1, 3, 8, 8), 0.5)
    matched, reached = match_colorfulness(gray, 30.0)
    assert not reached and torch.equal(matched, gray)
    colored, reached = match_colorfulness(to_tensor(np.array(Image.open(FILES[0]).resize(SIZE))), 0.0)
    assert reached and colorfulness(colored).item() < 0.1
    with pytest.raises(ValueError, match="target"):
        match_colorfulness(gray, -1)
