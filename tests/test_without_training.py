"""Experiments that need no training: from JSONs to their sections, and what their sentences may say."""

import json
import re
from pathlib import Path

import pytest
from test_report import DATA, make_score, metric, write_run
from test_sweep import GRAY, pair_folder, photo_folder, row, save  # noqa: F401

from eval.__main__ import main as evaluate
from eval.columns import HUE_SECTORS, METRICS, show_metric
from eval.runs import Run
from eval.studies.experiments import PAGE, RESULTS, main
from eval.studies.sections import (
    HUES_OF,
    UNTRAINED_QUESTIONS,
    algorithms_compared,
    badness_range,
    enough_steps,
    hue_findings,
    untrained_sections,
    verdict,
)


def sampler_row(sampler: str, steps: int, distance: float, psnr: float, error: float = 0.002) -> dict:
    made = row(steps, 1.0, distance, psnr, 0.5, error)
    made["setting"]["sampler"] = sampler
    made["metrics"]["colorfulness_ratio"]["interval"] = [0.4, 0.6]
    made["metrics"] |= {"feature_distance": metric(5.0, [4.0, 6.0]), "ciede2000": metric(9.0, [8.0, 10.0])}
    return made


# Differences


@pytest.mark.parametrize(
    "entry, other, better, word",
    [
        (metric(1.0, [0.9, 1.1]), metric(2.0, [1.8, 2.2]), "lower", "better"),
        (metric(1.0, [0.9, 1.1]), metric(2.0, [1.8, 2.2]), "higher", "worse"),
        (metric(1.0, [0.9, 1.9]), metric(2.0, [1.8, 2.2]), "lower", "no difference shown"),
        (metric(1.0, standard_error=0.1), metric(2.0, standard_error=0.1), "lower", "better"),
        (metric(1.0, standard_error=0.3), metric(2.0, standard_error=0.3), "lower", "no difference shown"),
        (metric(0.9, [0.8, 0.95]), metric(1.1, [1.06, 1.2]), "one", "no difference shown"),  # as far from 1
        (metric(1.0, [0.9, 1.1]), metric(0.5, [0.4, 0.6]), "one", "better"),
        (metric(1.0), metric(2.0), "lower", "no difference shown"),  # no intervals
        (metric(None), metric(2.0, [1.8, 2.2]), "lower", "no difference shown"),
    ],
)
def test_values_differ_only_where_intervals_do_not_overlap(entry, other, better, word):
    assert verdict(entry, other, better) == word


def test_an_interval_that_holds_one_reaches_down_to_no_badness():
    assert badness_range(metric(1.0, [0.75, 1.5]), "one") == (0.0, 0.5)
    assert badness_range(metric(0.5, [0.25, 0.75]), "one") == (0.25, 0.75)


# Samplers


def test_algorithms_are_compared_at_equal_steps():
    rows = [sampler_row("naive", 2, 0.01, 20.0), sampler_row("cold", 2, 0.01, 20.0)]
    rows += [
        sampler_row("naive", 8, 0.01, 20.0),
        sampler_row("cold", 8, 0.05, 30.0),
        sampler_row("cold", 16, 0.05, 30),
    ]
    sentences = algorithms_compared(rows)
    assert len(sentences) == 5
    assert sentences[0].startswith("KD-Lite2") and "no difference shown at steps 2; better at steps 8." in sentences[0]
    assert sentences[3].startswith("PSNR") and "no difference shown at steps 2; worse at steps 8." in sentences[3]
    assert algorithms_compared(rows[:1]) == []


def test_the_fewest_steps_within_one_standard_error():
    rows = [sampler_row("cold", steps, kd, 20.0) for steps, kd in ((1, 0.05), (4, 0.0115), (16, 0.01), (50, 0.0101))]
    (sentence,) = enough_steps(rows)
    assert (
        sentence
        == "cold: the best KD-Lite2, 0.0100 ± 0.0020, at steps 16; the fewest within one standard error of it: 4."
    )


def test_from_a_sweep_to_the_page(pair_folder, tmp_path, monkeypatch, capsys):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").symlink_to(pair_folder)
    save(tmp_path / "model", color_scale_space="chroma")
    command = "eval sweep --dataset imagefolder:photos --model model --limit 2 --steps 1 3 --sampler naive cold"
    assert evaluate([*command.split()[1:], "--output", "sweep"]) == 0
    places = ["--results", "results", "--page", "page.md"]
    assert main(["--add-sweep", "sweep", *places]) == 0
    page = (tmp_path / "page.md").read_text(encoding="utf-8")
    heading = f"## {UNTRAINED_QUESTIONS['sampling']} (model)"
    assert heading in page and "no difference shown at steps 1, 3." in page
    assert (
        'python -m eval sweep --dataset "imagefolder:photos" --model model --limit 2 --steps 1 3 --sampler cold naive '
        "--guidance-scale 1 --noise-scale 0.6 --color-scale 1 --prompt-mode none --seed 0 --output SWEEP" in page
    )
    assert "seconds per photograph" not in page  # the machine may have been busy
    rows = json.loads((tmp_path / "results" / "sampling" / "model.json").read_text())["rows"]
    assert len(rows) == 4
    assert all(show_metric(row["metrics"]["psnr"], METRICS["psnr"].form) in page for row in rows)
    missing = page.partition("## Not run yet")[2]
    assert UNTRAINED_QUESTIONS["sampling"] not in missing
    assert UNTRAINED_QUESTIONS["seeds"] in missing and UNTRAINED_QUESTIONS["hues"] in missing
    sweep = json.loads(Path("sweep/sweep.json").read_text())
    sweep["rows"][0]["setting"]["color_scale"] = 1.5
    Path("sweep/sweep.json").write_text(json.dumps(sweep))
    with pytest.raises(SystemExit):
        main(["--add-sweep", "sweep", *places])
    assert "sweep must vary samplers and steps only, got color_scale [1.0, 1.5]" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["--add-sweep", "nothing", *places])
    assert "argument --add-sweep: nothing has no sweep.json" in capsys.readouterr().err


# Hues


def test_hues_of_the_page_are_those_of_the_score():
    rows = json.loads((RESULTS / HUES_OF).read_text(encoding="utf-8"))["rows"]
    page = PAGE.read_text(encoding="utf-8").partition(f"## {UNTRAINED_QUESTIONS['hues']}")[2].partition("\n## ")[0]
    for sector in HUE_SECTORS:
        (line,) = re.findall(rf"^\| {sector} \|.*", page, re.MULTILINE)
        names = (("output", "chroma_error"), ("output", "chroma_retention"), ("gray", "chroma_error"))
        assert all(show_metric(rows[made][f"{name}_{sector}"], ".2f") in line for made, name in names)
    largest = max(HUE_SECTORS, key=lambda sector: rows["output"][f"chroma_error_{sector}"]["value"])
    assert f"Worst sector by chroma error: {largest}, " in page


def test_the_worst_hues_are_named_with_what_may_be_as_bad():
    def score(row: dict, error: float) -> dict:
        for k, sector in enumerate(HUE_SECTORS):
            row[f"chroma_error_{sector}"] = metric(error + k, [error + k - 0.6, error + k + 0.6])
            row[f"chroma_retention_{sector}"] = metric(1.22 - 0.1 * k, [1.21 - 0.1 * k, 1.23 - 0.1 * k])
        return row

    rows = {"output": score({}, 20.0), "gray": score({}, 25.0)}
    rows["output"]["chroma_error_red"] = metric(25.1, [24.0, 26.0])
    del rows["gray"]["chroma_error_blue"]
    sentences = hue_findings(Run(RESULTS, "model", {"rows": rows}))
    assert sentences == [
        "Worst sector by chroma error: pink, 27.00 (26.40 to 27.60); intervals that overlap with its own: purple.",
        "Places by chroma error of 8, the worst first: red 3, green 6.",
        "Worst sector by chroma retention: pink, 0.52 (0.51 to 0.53).",
        "Places by chroma retention of 8, the worst first: red 4, green 7.",
        "Chroma error against the gray input's: better in orange, yellow, green, cyan, purple, pink; "
        "no difference shown in red.",
    ]


# Seeds


def test_from_scored_seeds_to_the_page(tmp_path, capsys):
    places = ["--results", str(tmp_path / "results"), "--page", str(tmp_path / "page.md")]

    def add(label: str, data: dict = DATA, **values) -> int:
        request = {"model": "baseline:optimization", "dataset": "imagefolder:photos", "dataset_name": "photos"}
        score = make_score(data=data, run=request, **values)
        score["settings"]["extra_seeds"] = ["gan-1", "gan-2"]
        return main(["--add", label, str(write_run(tmp_path / label, score)), *places])

    add("GAN", diversity=metric(0.0, [0.0, 0.0]), best_of_k_ciede2000=metric(12.0, [11.0, 13.0]))
    add("PixelCNN", diversity=metric(9.0, [8.5, 9.5]), best_of_k_ciede2000=metric(10.0, [9.0, 11.0]))
    add("shipped model", diversity=metric(4.0, [3.5, 4.5]), best_of_k_ciede2000=metric(11.0, [10.0, 12.0]))
    page = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert "GAN: 0.00 (0.00 to 0.00) between seeds, so the seed changes nothing." in page
    assert "most between seeds: PixelCNN (9.00 (8.50 to 9.50)); least: shipped model (4.00 (3.50 to 4.50))." in page
    assert "| PixelCNN | 9.00 (8.50 to 9.50) | **10.00 (9.00 to 11.00)** |" in page
    assert page.count("python -m eval score RUN --extra-seeds gan-1 gan-2") == 3
    assert UNTRAINED_QUESTIONS["seeds"] not in page.partition("## Not run yet")[2]

    with pytest.raises(SystemExit):
        add("one seed", diversity=metric(None, reason="needs --extra-seeds"))
    assert "was scored without --extra-seeds" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        add("other", data=DATA | {"n": 13}, diversity=metric(4.0, [3.5, 4.5]))
    assert "different photographs" in capsys.readouterr().err


def test_without_results_there_are_no_sections(tmp_path):
    assert untrained_sections(tmp_path) == {"sampling": [], "hues": [], "seeds": []}
