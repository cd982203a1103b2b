"""The shipped model's study: what is kept of runs and sweeps, and the page that shows it."""

import json

import pytest
from conftest import EXAMPLES
from studying import ledger_in, study
from test_report import DATA, make_score, metric, write_run
from test_sweep import GRAY, row

from eval.choosing import choose_setting
from eval.studies.documents import results_page
from eval.studies.ledger import record
from eval.studies.scale import entry_of


@pytest.fixture
def run(tmp_path):
    """A scored run on "free-photos" with pictures."""
    score = make_score(data=DATA | {"name": "free-photos"}, run={"dataset_name": "free-photos"})
    score["run"]["weights_sha256"] = "ab" * 32
    return write_run(tmp_path / "run", score, [str(k) for k in range(6)])


def sweep_result(model="embedded") -> dict:
    data = {"name": "photos", "n": 12, "geometry": "each at its own size"}
    rows = [row(4, 1.0, 0.01, 20.0) | {"data": data}, row(8, 1.0, 0.01, 20.0) | {"data": data}]
    choice = choose_setting(rows, GRAY, "kd_lite2", 1.0)
    request = {"prompt_mode": "none", "seed": 0}
    return {"model": model, "dataset": "imagefolder:photos", "rows": rows, "gray": GRAY, "choice": choice} | {
        "request": request
    }


def test_the_page_shows_what_was_kept(run, tmp_path, capsys):
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "sweep.json").write_text(json.dumps(sweep_result()))
    assert study(tmp_path, "shipped", "--add", run, "--add-sweep", tmp_path / "sweep") == 0
    score = tmp_path / "results" / "embedded" / "free-photos" / "score.json"
    assert json.loads(score.read_text()) == json.loads((run / "score.json").read_text())
    text, page = capsys.readouterr().out, (tmp_path / "docs" / "results.md").read_text(encoding="utf-8")
    assert "## free-photos, n = 12" in text
    for shown in (text, page):
        assert "22.00 (21.00 to 23.00)" in shown and "0.0123 ± 0.0021" in shown
        assert "gray input (nothing done)*" in shown and "VAE round trip (a perfect prediction)*" in shown
        assert 'generate --dataset "imagefolder:photos" --model embedded --prompt-mode none --steps 8' in shown
        assert "Chosen: 4 steps, guidance 2, euler" in shown and "The shipped model keeps other defaults: " in shown
    assert "not those that are shipped now" in text
    assert "](results/free-photos.html)" in page and "has not been run" in page and "quoted: DDColor-L" in page
    assert results_page(ledger_in(tmp_path)) == page
    html = (tmp_path / "docs" / "results" / "free-photos.html").read_text(encoding="utf-8")
    assert "22.00 (21.00 to 23.00)" in html and "data:image/jpeg" in html


def test_the_page_shows_what_metrics_cost(run, tmp_path):
    assert study(tmp_path, "shipped", "--add", run) == 0
    cost = {"n": 24, "peak_gb": 1.234, "seconds": 9.0, "cpu_seconds": 8.0, "cpu_seconds_per_picture": 1 / 3}
    machine = {"processor": "abacus", "cores": 2, "threads": 1, "versions": {"torch": "2"}}
    cost |= {"case": "evaluate", "picture_size": 256, "machine": machine}
    record([entry_of(cost)], ledger_in(tmp_path))
    assert study(tmp_path, "scale") == 0
    page = (tmp_path / "docs" / "results.md").read_text(encoding="utf-8")
    assert "| 24 of 256 x 256 | 1.23 GB | 9 s | 8 s | 0.33 s | 1 [1] |" in page


def test_what_cannot_be_kept_is_refused(run, tmp_path, capsys):
    def refused(*words) -> str:
        with pytest.raises(SystemExit, match="2"):
            study(tmp_path, "shipped", *words)
        return capsys.readouterr().err

    assert "has no scores to show: add a run with --add" in refused()
    assert "has no sweep.json" in refused("--add-sweep", tmp_path)
    assert "has no score.json" in refused("--add", tmp_path)
    absolute = make_score(run={"dataset_name": "x", "dataset": f"imagefolder:{EXAMPLES.resolve()}"})
    assert "a place on this machine" in refused("--add", write_run(tmp_path / "absolute", absolute))
    foreign = make_score(psnr=metric(20.0))
    foreign["run"] = {"name": "theirs"}
    assert "was not made by python -m eval generate: it has no 'model'" in refused(
        "--add", write_run(tmp_path / "foreign", foreign)
    )
    other = make_score(run={"dataset_name": "x", "model": "baseline:gan"})
    assert "not of the shipped model" in refused("--add", write_run(tmp_path / "other", other))


def test_checkpoints_are_compared_in_two_tables(tmp_path, capsys):
    rate = {"value": 0.5, "n": 8, "interval": [0.2, 0.8], "unprompted": 0.25}
    words = rate | {"by_word": {"red": rate, "blue": rate}}
    measured = {"plain": {"fd_lite2": metric(None, reason="few")}, "words": {"color_word_hit_rate": words}}
    for name, values in measured.items():
        capsys.readouterr()
        score = make_score(run={"dataset_name": "photos"}, chroma_error=metric(15.0), **values)
        assert study(tmp_path, "checkpoints", "--add", "gpu", write_run(tmp_path / name, score)) == 0
    compared, prompted = capsys.readouterr().out.strip().split("\n\n")
    assert "| photos | 12 | gpu | n/a | n/a | 0.0123 ± 0.0021 | 22.00 (21.00 to 23.00) | 9.00" in compared
    assert compared.count("\n") == 2  # the run with color words has a table of its own
    figures = "8 | 50.0% (20.0% to 80.0%) | 25.0% | 50% (20% to 80%) | 50% (20% to 80%)"
    assert f"| photos | 12 | gpu | {figures} |" in prompted and "| red | blue |" in prompted
