"""Studies that train nothing: from sweeps and scores to their sections, and what their sentences may say."""

import json
from pathlib import Path

import pytest
from studying import kept, study
from test_report import DATA, make_score, metric, write_run
from test_sweep import GRAY, pair_folder, photo_folder, row, save  # noqa: F401

from eval.__main__ import main as evaluate
from eval.columns import HUE_SECTORS, METRICS, show_metric
from eval.runs import Run
from eval.studies.hues import hue_findings
from eval.studies.samplers import QUESTION, algorithms_compared, enough_steps
from eval.studies.sections import badness_range, verdict


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


def test_from_a_sweep_to_the_section(pair_folder, tmp_path, monkeypatch, capsys):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").symlink_to(pair_folder)
    save(tmp_path / "model", color_scale_space="chroma")
    command = "eval sweep --dataset imagefolder:photos --model model --limit 2 --steps 1 3 --sampler naive cold"
    assert evaluate([*command.split()[1:], "--output", "sweep"]) == 0
    capsys.readouterr()
    assert study(tmp_path, "samplers", "--add", "sweep") == 0
    text = capsys.readouterr().out
    assert f"## {QUESTION} (model)" in text and "no difference shown at steps 1, 3." in text
    assert (
        'python -m eval sweep --dataset "imagefolder:photos" --model model --limit 2 --steps 1 3 --sampler cold naive '
        "--guidance-scale 1 --noise-scale 0.6 --color-scale 1 --prompt-mode none --seed 0 --output SWEEP" in text
    )
    assert "seconds per photograph" not in text  # the machine may have been busy
    entries = [entry for entry in kept(tmp_path, "samplers") if "setting" in entry.settings]
    assert len(entries) == 4
    assert all(show_metric(entry.metrics["psnr"], METRICS["psnr"].form) in text for entry in entries)
    sweep = json.loads(Path("sweep/sweep.json").read_text())
    sweep["rows"][0]["setting"]["color_scale"] = 1.5
    Path("sweep/sweep.json").write_text(json.dumps(sweep))
    for folder, message in (
        ("sweep", "sweep must vary samplers and steps only, got color_scale [1.0, 1.5]"),
        ("nothing", "nothing has no sweep.json"),
    ):
        with pytest.raises(SystemExit):
            study(tmp_path, "samplers", "--add", folder)
        assert f"argument --add: {message}" in capsys.readouterr().err


def test_a_sweep_takes_the_place_of_an_earlier_one_of_the_model(tmp_path):
    for steps in (4, 8):
        made = {"model": "m", "dataset": "imagefolder:x", "limit": None, "gray": GRAY}
        made |= {"request": {"prompt_mode": "none", "seed": 0, "weights_sha256": "ab"}}
        made |= {"choice": {"metric": "kd_lite2", "psnr_loss": 1.0}}
        made["rows"] = [sampler_row("cold", steps, 0.01, 20.0) | {"data": DATA, "device": "cpu", "dtype": "float32"}]
        (tmp_path / "sweep").mkdir(exist_ok=True)
        (tmp_path / "sweep" / "sweep.json").write_text(json.dumps(made))
        assert study(tmp_path, "samplers", "--add", tmp_path / "sweep") == 0
    names = [entry.run for entry in kept(tmp_path, "samplers")]
    assert names == ["m: 8 steps, guidance 2, cold, noise 0.6, color 1", "m: gray"]


# Hues


def test_the_worst_hues_are_named_with_what_may_be_as_bad():
    def score(row: dict, error: float) -> dict:
        for k, sector in enumerate(HUE_SECTORS):
            row[f"chroma_error_{sector}"] = metric(error + k, [error + k - 0.6, error + k + 0.6])
            row[f"chroma_retention_{sector}"] = metric(1.22 - 0.1 * k, [1.21 - 0.1 * k, 1.23 - 0.1 * k])
        return row

    rows = {"output": score({}, 20.0), "gray": score({}, 25.0)}
    rows["output"]["chroma_error_red"] = metric(25.1, [24.0, 26.0])
    del rows["gray"]["chroma_error_blue"]
    sentences = hue_findings(Run(Path(), "model", {"rows": rows}))
    assert sentences == [
        "Worst sector by chroma error: pink, 27.00 (26.40 to 27.60); intervals that overlap with its own: purple.",
        "Places by chroma error of 8, the worst first: red 3, green 6.",
        "Worst sector by chroma retention: pink, 0.52 (0.51 to 0.53).",
        "Places by chroma retention of 8, the worst first: red 4, green 7.",
        "Chroma error against the gray input's: better in orange, yellow, green, cyan, purple, pink; "
        "no difference shown in red.",
    ]


# Seeds


def test_from_scored_seeds_to_the_section(tmp_path, capsys):
    def add(label: str, data: dict = DATA, **values) -> int:
        request = {"model": "baseline:optimization", "dataset": "imagefolder:photos", "dataset_name": "photos"}
        score = make_score(data=data, run=request, **values)
        score["settings"]["extra_seeds"] = ["gan-1", "gan-2"]
        return study(tmp_path, "seeds", "--add", label, write_run(tmp_path / label, score))

    add("GAN", diversity=metric(0.0, [0.0, 0.0]), best_of_k_ciede2000=metric(12.0, [11.0, 13.0]))
    add("PixelCNN", diversity=metric(9.0, [8.5, 9.5]), best_of_k_ciede2000=metric(10.0, [9.0, 11.0]))
    capsys.readouterr()
    add("shipped model", diversity=metric(4.0, [3.5, 4.5]), best_of_k_ciede2000=metric(11.0, [10.0, 12.0]))
    text = capsys.readouterr().out
    assert "GAN: 0.00 (0.00 to 0.00) between seeds, so the seed changes nothing." in text
    assert "most between seeds: PixelCNN (9.00 (8.50 to 9.50)); least: shipped model (4.00 (3.50 to 4.50))." in text
    assert "| PixelCNN | 9.00 (8.50 to 9.50) | **10.00 (9.00 to 11.00)** |" in text
    assert text.count("python -m eval score RUN --extra-seeds gan-1 gan-2") == 3

    with pytest.raises(SystemExit):
        add("one seed", diversity=metric(None, reason="needs --extra-seeds"))
    assert "was scored without --extra-seeds" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        add("other", data=DATA | {"n": 13}, diversity=metric(4.0, [3.5, 4.5]))
    assert "different photographs" in capsys.readouterr().err
    assert [entry.run for entry in kept(tmp_path, "seeds")] == ["GAN", "PixelCNN", "shipped model"]
