"""The color-word hit rate: which colors a picture can show, and a run with color words from prompts to the rate."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import tiny_pipeline
from PIL import Image

from colorization.color_words import COLOR_WORDS, name_colors
from eval import coloring
from eval.__main__ import main
from eval.metrics.color_words import HUE_WORDS, is_usable_label, judge, showable_lumas
from eval.runs import read_lines


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


def test_labels_that_name_a_color_are_not_used():
    assert is_usable_label("kingfisher")
    assert not is_usable_label("Black swan") and not is_usable_label("")


# A run


LABELS = {"first": "bus", "second": "tall bus", "third": "grey wolf", "fourth": ""}


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Gray photographs, two of them with labels that name no color."""
    folder = tmp_path_factory.mktemp("photos") / "labeled"
    folder.mkdir()
    for luma, name in zip((120, 150, 100, 90), LABELS, strict=True):
        Image.new("RGB", (12, 8), (luma,) * 3).save(folder / f"{name}.png")
    with open(folder / "index.csv", "w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("file", "caption"), *((f"{name}.png", text) for name, text in LABELS.items())])
    return folder


def obedient(grays, prompts, seeds) -> list[np.ndarray]:
    """A model that paints what the prompt names, where the luminance allows it."""
    results = []
    for gray, prompt in zip(grays, prompts, strict=True):
        word, luma = prompt.split()[0], int(gray[0, 0])
        shows = word in HUE_WORDS and showable_lumas()[COLOR_WORDS.index(word), luma]
        results.append(np.broadcast_to(np.uint8(paint(luma, word) if shows else (luma,) * 3), (*gray.shape, 3)).copy())
    return results


def lazy(grays, prompts, seeds) -> list[np.ndarray]:
    return [np.stack([gray] * 3, axis=-1) for gray in grays]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny_pipeline().save_pretrained(folder)
    return str(folder)


def color_words(photos: Path, model: str, output: Path, *more: str) -> int:
    words = ["--prompt-mode", "color-words", "--keep-gray", "--batch-size", "4", "--output", str(output)]
    return main(["generate", "--dataset", f"imagefolder:{photos}", "--model", model, *words, *more])


@pytest.fixture(scope="module")
def runs(photos, model, tmp_path_factory) -> dict[str, Path]:
    """Scored runs of a model that obeys and of one that does nothing."""
    folder = tmp_path_factory.mktemp("runs")
    load = coloring.load_colorizer
    for name, color in (("obedient", obedient), ("lazy", lazy)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(coloring, "load_colorizer", lambda *args, color=color: replace(load(*args), color=color))
            assert color_words(photos, model, folder / name) == 0
        assert main(["score", str(folder / name)]) == 0
    return {name: folder / name for name in ("obedient", "lazy")}


def rate(run: Path) -> dict:
    return json.loads((run / "score.json").read_text(encoding="utf-8"))["rows"]["output"]["color_word_hit_rate"]


def test_every_photograph_is_colored_with_every_word_and_without(runs, photos):
    lines = read_lines(runs["obedient"] / "manifest.jsonl")
    assert len(lines) == 2 * (len(HUE_WORDS) + 1) and len({line["id"] for line in lines}) == len(lines)
    assert {line["photo"] for line in lines} == {"first", "second"}
    first = {line["word"]: line for line in lines if line["photo"] == "first"}
    assert first.keys() == {"", *HUE_WORDS} and len({line["seed"] for line in first.values()}) == 1
    assert first[""]["caption"] == "bus" and first["red"]["caption"] == "red bus"
    assert {line["reference"] for line in first.values()} == {"reference/first.png"} and first["red"]["vae"] is None
    left_out = json.loads((runs["obedient"] / "left_out.json").read_text(encoding="utf-8"))
    assert [entry["id"] for entry in left_out] == ["fourth", "third"]  # without a label, and with a color in it
    assert len({entry["reason"] for entry in left_out}) == 1


def test_hit_rate_of_a_model_that_obeys_and_of_one_that_does_nothing(runs):
    result = rate(runs["obedient"])
    assert result["value"] == 1 and result["unprompted"] == 0 and result["photographs"] == 2
    assert result["n"] + result["not_showable"] == 16 and result["not_showable"] >= 2
    assert result["interval"] == [1, 1]
    assert result["by_word"]["green"]["n"] == 2 and result["by_word"]["green"]["interval"][1] == 1
    assert sum(rates["n"] for rates in result["by_word"].values()) == result["n"]
    nothing = rate(runs["lazy"])
    assert nothing["value"] == 0 and nothing["n"] == result["n"]


def test_the_report_has_a_column_for_every_word(runs, tmp_path, capsys):
    assert main(["report", *map(str, runs.values()), "--output", str(tmp_path)]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| obedient")]
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert all(f"| {word} " in text for word in (*HUE_WORDS, "without the word"))
    assert any("| 100.0% (100.0% to 100.0%) |" in line for line in lines)


def test_a_model_has_its_own_run_and_goes_on(photos, model, tmp_path, capsys):
    output = tmp_path / "run"
    assert color_words(photos, model, output, "--steps", "1") == 0
    assert "18 photographs colored, 0 gray left out, 2 with no label without a color left out, 0 failed" in (
        capsys.readouterr().out
    )
    (output / "images" / "first@red.png").unlink()
    before = {file.name: file.read_bytes() for file in (output / "images").iterdir()}
    assert color_words(photos, model, output, "--steps", "1") == 0
    assert before.items() < {file.name: file.read_bytes() for file in (output / "images").iterdir()}.items()


def refusal(capsys, *arguments: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    error = capsys.readouterr().err.splitlines()[-1]
    assert stopped.value.code == 2 and error.startswith("error: ")
    return error


def test_what_makes_no_sense_with_color_words(runs, photos, model, tmp_path, capsys):
    both = [str(runs["obedient"]), "--extra-seeds", str(runs["lazy"])]
    assert "--extra-seeds: makes no sense for a run with color words" in refusal(capsys, "score", *both)
    command = ["generate", "--dataset", f"imagefolder:{photos}", "--output", str(tmp_path / "a"), "--keep-gray"]
    assert "--prompt-mode" in refusal(capsys, *command, "--model", "gray", "--prompt-mode", "color-words")
    (photos / "index.csv").rename(tmp_path / "index.csv")
    try:
        words = [*command, "--model", model, "--prompt-mode", "color-words"]
        assert "4 have no label without a color" in refusal(capsys, *words)
    finally:
        (tmp_path / "index.csv").rename(photos / "index.csv")
