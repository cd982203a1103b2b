"""`python -m eval study`: the list of studies, their arguments, and who may import them."""

from pathlib import Path

import pytest
from studying import study

from eval.__main__ import main
from eval.studies.command import STUDIES

ROOT = Path(__file__).parents[2]


def test_all_studies_are_listed_in_a_line_each(capsys):
    assert main(["study"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(STUDIES)
    assert all(len(line) < 80 for line in lines)


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_explains_itself(name, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["study", name, "--help"])
    text = capsys.readouterr().out
    assert ended.value.code == 0
    assert f"python -m eval study {name}" in text.partition("options:")[0].replace("usage: ", "", 1)
    assert "--ledger" in text


def test_bad_arguments_end_in_one_line(tmp_path, capsys):
    for words in (["nothing"], ["speed", "--nothing"], ["seeds", "--add", "GAN", str(tmp_path)], ["sheet"]):
        with pytest.raises(SystemExit) as ended:
            main(["study", *words])
        error = capsys.readouterr().err
        assert ended.value.code == 2 and error.startswith("error: ") and error.count("\n") == 1


def test_a_study_without_results_shows_nothing(tmp_path, capsys):
    for name in ("samplers", "hues", "seeds", "experiments", "soak"):
        assert study(tmp_path, name) == 0
    page = (tmp_path / "docs" / "experiments.md").read_text(encoding="utf-8")
    missing = page.partition("## Not measured yet")[2]
    assert missing.count("\n- ") == 4


def test_documents_of_studies_exist():
    assert all((ROOT / study.document).is_file() for study in STUDIES.values() if study.document)
