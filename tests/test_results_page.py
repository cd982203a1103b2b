import json

import pytest
from conftest import EXAMPLES
from test_report import DATA, make_score, metric, write_run
from test_sweep import GRAY, row

from eval.choosing import choose_setting
from eval.files import package_versions
from eval.studies.results_page import main, render_page


@pytest.fixture
def run(tmp_path):
    """A scored run on "free-photos" with pictures."""
    score = make_score(data=DATA | {"name": "free-photos"}, run={"dataset_name": "free-photos"})
    score["run"]["weights_sha256"] = "ab" * 32
    return write_run(tmp_path / "run", score, [str(k) for k in range(6)])


def add(tmp_path, *words) -> int:
    return main(
        [*map(str, words), "--results", str(tmp_path / "results"), "--page", str(tmp_path / "docs" / "page.md")]
    )


def sweep_result(model="embedded") -> dict:
    data = {"name": "photos", "n": 12, "geometry": "each at its own size"}
    rows = [row(4, 1.0, 0.01, 20.0) | {"data": data}, row(8, 1.0, 0.01, 20.0) | {"data": data}]
    choice = choose_setting(rows, GRAY, "kd_lite2", 1.0)
    request = {"prompt_mode": "none", "seed": 0}
    return {"model": model, "dataset": "imagefolder:photos", "rows": rows, "gray": GRAY, "choice": choice} | {
        "request": request
    }


def test_the_page_shows_what_was_kept(run, tmp_path, capsys):
    (tmp_path / "docs").mkdir()
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "sweep.json").write_text(json.dumps(sweep_result()))
    assert add(tmp_path, "--add", run, "--add-sweep", tmp_path / "sweep") == 0
    printed = capsys.readouterr().out.split()
    kept = [tmp_path / "results" / "scores" / "embedded" / "free-photos.json"]
    kept += [tmp_path / "results" / "sweeps" / "embedded.json", tmp_path / "docs" / "results" / "free-photos.html"]
    assert printed == [str(file) for file in [*kept, tmp_path / "docs" / "page.md"]]
    assert json.loads(kept[0].read_text()) == json.loads((run / "score.json").read_text())
    page = (tmp_path / "docs" / "page.md").read_text(encoding="utf-8")
    assert "## free-photos, n = 12" in page and "22.00 (21.00 to 23.00)" in page and "0.0123 ± 0.0021" in page
    assert "*gray input (nothing done)*" in page and "*VAE round trip (a perfect prediction)*" in page
    assert (
        'python -m eval generate --dataset "imagefolder:photos" --model embedded --prompt-mode none --steps 8' in page
    )
    assert "not those that are shipped now" in page and "](results/free-photos.html)" in page
    assert "Chosen: 4 steps, guidance 2, euler" in page and "The shipped model keeps other defaults: " in page
    assert "has not been run" in page.split("##")[0] and "quoted: DDColor-L" in page
    assert render_page(tmp_path / "results", tmp_path / "docs" / "page.md") == page
    html = kept[2].read_text(encoding="utf-8")
    assert "22.00 (21.00 to 23.00)" in html and "data:image/jpeg" in html

    scale = {"n": 24, "peak_gb": 1.234, "seconds": 9.0, "cpu_seconds": 8.0, "cpu_seconds_per_picture": 1 / 3}
    machine = {"processor": "abacus", "cores": 2, "threads": 1, "versions": package_versions(["torch"])}
    scale |= {"case": "evaluate", "picture_size": 256, "machine": machine}
    (tmp_path / "results" / "scale.json").write_text(json.dumps({"runs": [scale]}))
    assert add(tmp_path) == 0
    assert "| 24 of 256 x 256 | 1.23 GB | 9 s | 8 s | 0.33 s | 1 [1] |" in (tmp_path / "docs" / "page.md").read_text()


def test_what_cannot_be_kept_is_refused(run, tmp_path, capsys):
    def refused(*words) -> str:
        with pytest.raises(SystemExit, match="2"):
            add(tmp_path, *words)
        return capsys.readouterr().err

    assert "holds no scores: add a run with --add" in refused()
    assert "has no sweep.json" in refused("--add-sweep", tmp_path)
    assert "has no score.json" in refused("--add", tmp_path)
    absolute = make_score(run={"dataset_name": "x", "dataset": f"imagefolder:{EXAMPLES.resolve()}"})
    assert "a place on this machine" in refused("--add", write_run(tmp_path / "absolute", absolute))
    foreign = make_score(psnr=metric(20.0))
    foreign["run"] = {"name": "theirs"}
    assert "was not made by python -m eval generate: it has no 'model'" in refused(
        "--add", write_run(tmp_path / "foreign", foreign)
    )
