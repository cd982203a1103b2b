"""The contact sheet of the augmentation."""

import shutil

import numpy as np
import pytest
from conftest import EXAMPLES
from PIL import Image

from train.augmentation_sheet import main


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("erase_crab.jpg", "farm_animals_cat.jpg"):
        shutil.copy(EXAMPLES / name, folder)
    return folder


def test_sheet(folder, tmp_path, capsys):
    output = tmp_path / "sheet.png"
    arguments = ["--source", str(folder), "--output", str(output), "--variants", "2", "--resolution", "48"]
    assert main(arguments) == 0
    sheet = Image.open(output)
    assert sheet.size == (48 * 5 + 8 * 4, 2 * (48 + 28))
    gray = np.array(sheet.crop((8 + 48 + 8 + 48, 8, 8 + 48 + 8 + 96, 56))).astype(int)
    assert np.ptp(gray, axis=-1).max() <= 1
    first = output.read_bytes()
    assert main(arguments) == 0 and output.read_bytes() == first
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["sheet.png"]


def test_damaged_photograph_is_named_and_the_others_drawn(folder, tmp_path, capsys):
    (folder / "a_broken.jpg").write_bytes((folder / "erase_crab.jpg").read_bytes()[:400])
    output = tmp_path / "sheet.jpg"
    assert main(["--source", str(folder), "--output", str(output), "--variants", "1", "--resolution", "32"]) == 1
    error = capsys.readouterr().err
    assert "failed: photograph 0 of" in error and str(folder / "a_broken.jpg") in error
    assert Image.open(output).height == 2 * (32 + 28)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"--output": "sheet.gif"}, "argument --output: must end in"),
        ({"--output": "missing/sheet.png"}, "argument --output: there is no folder"),
        ({"--source": "./nowhere"}, "nowhere"),
        ({"--count": "0"}, "argument --count: must be a whole number of at least 1"),
        ({"--resolution": "4"}, "argument --resolution"),
        ({"--resolution": "9000"}, "lower --count"),
    ],
)
def test_bad_arguments_are_one_line(folder, tmp_path, monkeypatch, capsys, changes, message):
    monkeypatch.chdir(tmp_path)
    arguments = {"--source": str(folder), "--output": "sheet.png"} | changes
    with pytest.raises(SystemExit) as exit:
        main([part for pair in arguments.items() for part in pair])
    error = capsys.readouterr().err
    assert exit.value.code == 2 and error.startswith("error: ") and error.count("\n") == 1 and message in error
    assert not list(tmp_path.glob("*.png")) and not list(tmp_path.glob(".*"))
