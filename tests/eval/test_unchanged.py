"""The study of what is kept: all kinds of files, on one small photograph."""

import pytest
from conftest import EXAMPLES
from PIL import Image
from studying import kept, ledger_in, study

from eval.studies.unchanged import INPUT_KINDS, RESULT_KINDS, show


def test_nothing_but_color_is_changed_in_any_kind_of_file(tmp_path, capsys):
    (tmp_path / "photos").mkdir()
    with Image.open(EXAMPLES / "farm_animals_horse.jpg") as picture:
        picture.resize((96, 64)).save(tmp_path / "photos" / "horse.jpg", quality=95)
    assert study(tmp_path, "unchanged", "--run", "--photos", tmp_path / "photos", "--limit", "1") == 0
    entries = kept(tmp_path, "unchanged")
    assert len(entries) == len(RESULT_KINDS) + len(INPUT_KINDS)
    for entry in entries:
        values = {name: metric["value"] for name, metric in entry.metrics.items()}
        assert values["lightness"] <= 0.3, entry.run
        assert values["displaced"] == values["metadata_lost"] == 0, entry.run
    assert "At most 0.3 everywhere" in capsys.readouterr().out
    assert ledger_in(tmp_path).is_file()


def test_what_was_not_measured_is_not_shown():
    assert show([]) == "not measured yet"


def test_without_photographs_nothing_is_measured(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        study(tmp_path, "unchanged", "--run", "--photos", tmp_path)
    assert stopped.value.code == 2
    assert "no *.jpg" in capsys.readouterr().err
