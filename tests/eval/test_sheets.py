"""Sheets of pictures: files that the command line has colored, and runs of `eval generate`."""

import numpy as np
import pytest
from conftest import random_photo
from PIL import Image
from studying import study
from test_report import make_score, write_run

from colorization.image_io import read_image, write_image
from eval.studies.sheets import LINE, MARGIN, Strip, draw_sheet


def flat(color: str, size: tuple[int, int] = (60, 40)) -> Image.Image:
    return Image.new("RGB", size, color)


def test_strips_stand_below_each_other_or_side_by_side():
    strips = [Strip([flat("red"), flat("blue")]), Strip([flat("lime", (60, 80)), flat("blue", (60, 80))])]
    sheet = draw_sheet(strips, ["a", "b"], width=30, margin=0)
    assert sheet.size == (60, LINE + 20 + 40)
    assert sheet.getpixel((15, LINE + 10)) == (255, 0, 0) and sheet.getpixel((45, LINE + 40)) == (0, 0, 255)
    beside = draw_sheet(strips, ["a", "b"], width=30, groups=2, margin=0)
    assert beside.size == (120, LINE + 40) and beside.getpixel((75, LINE + 10)) == (0, 255, 0)


def test_captions_and_margins_take_their_place_and_dots_are_where_they_point():
    sheet = draw_sheet(
        [Strip([flat("white"), flat("white")], "caption", [(15, 20, "#c02020")])], ["a", "b"], width=120
    )
    assert sheet.size == (MARGIN + 2 * (120 + MARGIN), LINE + MARGIN + 80 + LINE + MARGIN)
    assert sheet.getpixel((MARGIN + 31, LINE + MARGIN + 41)) == (0xC0, 0x20, 0x20)


def test_files_with_their_settings(tmp_path):
    for folder in ("originals", "colored"):
        (tmp_path / folder).mkdir()
    original = tmp_path / "originals" / "one.jpg"
    random_photo(60, 40).convert("RGB").save(original)
    settings = {"prompt": "red bus", "seed": 3, "hints": [[15, 20, "#c02020"]]}
    photo = read_image(original)
    write_image(tmp_path / "colored" / "one.jpg", np.array(flat("red")), photo, settings)
    words = ["--originals", tmp_path / "originals", "--colored", tmp_path / "colored"]
    assert study(tmp_path, "sheet", *words, "--output", tmp_path / "out" / "sheet.jpg", "--width", "120") == 0
    with Image.open(tmp_path / "out" / "sheet.jpg") as sheet:
        assert sheet.size == (MARGIN + 3 * (120 + MARGIN), LINE + MARGIN + 80 + LINE + MARGIN)
        red, green, blue = sheet.getpixel((MARGIN + 31, LINE + MARGIN + 41))
        assert red > green + 80 and red > blue + 80


def test_runs(tmp_path, capsys):
    run = write_run(tmp_path / "run-gan", make_score(), ["cat", "dog"])
    for part in ("images", "reference"):
        for k, name in enumerate(("cat", "dog")):
            (run / part / f"{k}.png").rename(run / part / f"{name}.png")
    words = ["--runs", run, "--output", tmp_path / "sheet.jpg"]
    assert study(tmp_path, "sheet", *words, "--photos", "cat,dog") == 0
    with Image.open(tmp_path / "sheet.jpg") as sheet:
        assert sheet.size == (450, LINE + 2 * 100)
    for photos, message in (("cow", "'cow' is not in"), ("", "names no photograph")):
        with pytest.raises(SystemExit):
            study(tmp_path, "sheet", *words, "--photos", photos)
        assert message in capsys.readouterr().err


def test_what_cannot_be_drawn_is_refused(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    empty, output = tmp_path / "empty", ["--output", str(tmp_path / "sheet.jpg")]
    for words, message in (
        ([], "--originals and --colored are required"),
        (["--originals", empty, "--colored", empty], "holds no .jpg files"),
        (["--runs", empty, "--photos", "cat"], "argument --runs"),
    ):
        with pytest.raises(SystemExit) as stop:
            study(tmp_path, "sheet", *words, *output)
        assert stop.value.code == 2 and message in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["empty"]
