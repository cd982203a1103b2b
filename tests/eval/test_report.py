import csv
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eval.__main__ import main
from eval.columns import METRICS, best_rows, show_metric
from eval.pages import markdown_text
from eval.pictures import make_grids, pick_examples, rank_photographs
from eval.plots import distance_points, factor_lines
from eval.runs import Run, group_runs, label_runs
from eval.tables import QUOTED_TITLE, metric_tables, rivals_table

NASTY = "a|b <script>alert(1)</script> *x* [y](javascript:z) $\\frac{ `q`\n&amp; \"'"
DATA = {"name": "photos", "n": 12, "geometry": "each at its own size", "left_out": 1}


def metric(value, interval=None, **extra) -> dict:
    return {"value": value, "n": 12, "interval": interval} | extra


def make_score(name="run", data=DATA, settings=None, run=None, **values) -> dict:
    """A score.json by its contract; `values` are entries of rows.output."""
    settings = {
        "num_inference_steps": 8,
        "guidance_scale": 2.0,
        "color_scale": 1.0,
        "color_scale_space": "chroma",
        "negative_prompt": "",
        "sampler": "euler",
        "severity": 1.0,
    } | (settings or {})
    output = {
        "fid": metric(None, reason="the Inception weights are not there") | {"n": 0},
        "kd_lite2": metric(0.0123, standard_error=0.0021),
        "feature_distance": metric(5.5, [5.1, 5.9]),
        "colorfulness": metric(30.0, [28.0, 32.0]),
        "colorfulness_ratio": metric(0.75, [0.7, 0.8]),
        "psnr": metric(22.0, [21.0, 23.0]),
        "ciede2000": metric(9.0, [8.0, 10.0]),
    } | values
    original = {key: metric(None, reason="of the original itself") for key in output} | {"colorfulness": metric(40.0)}
    gray = output | {"colorfulness": metric(0.0), "kd_lite2": metric(0.05, standard_error=0.003)}
    vae = output | {"colorfulness": metric(38.0), "kd_lite2": metric(0.001, standard_error=0.001)}
    request = {
        "format": 1,
        "dataset": "imagefolder:photos",
        "dataset_name": data["name"],
        "model": "embedded",
        "model_revision": None,
        "adapter": None,
        "adapter_revision": None,
        "prompt_mode": "none",
        "seed": 0,
        "settings": settings,
        "max_side": None,
    } | (run or {})
    return {
        "format": 1,
        "run": request,
        "data": data,
        "rows": {"output": output, "gray": gray, "vae": vae, "original": original},
        "settings": {"resize": {"lite2": "to 260 x 260"}, "inception": None, "seed": 0, "extra_seeds": []},
        "seed": 0,
        "versions": {"torch": "2"},
        "weights": {"lite2": "ab12", "inception": None},
    }


def make_line(name: str, file: str, reference: str) -> dict:
    """A line of a manifest, with what a report does not look at left empty."""
    line = dict.fromkeys(("vae", "width", "height", "sha256", "reference_sha256", "seconds"))
    return line | {"id": name, "file": file, "reference": reference, "caption": NASTY}


def write_run(folder: Path, score: dict, ids=(), lpips=False) -> Path:
    folder.mkdir(parents=True)
    (folder / "score.json").write_text(json.dumps(score), encoding="utf-8")
    rng = np.random.default_rng(0)
    entries = []
    with open(folder / "score_per_image.csv", "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["id", "psnr", "ssim", "lpips", "feature_distance"])
        for k, name in enumerate(ids):
            writer.writerow([name, 20, 0.9, f"{1 - k / 10}" if lpips else "", f"{k}.5"])
            for part in ("images", "reference"):
                (folder / part).mkdir(exist_ok=True)
                pixels = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / part / f"{k}.png")
            entries.append(make_line(name, f"images/{k}.png", f"reference/{k}.png"))
    (folder / "manifest.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="utf-8")
    return folder


def as_run(score: dict, label="run") -> Run:
    return Run(Path(label), label, score)


class Collector(HTMLParser):
    """Names of tags, attributes and text of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.attributes, self.text = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]

    def handle_data(self, data):
        self.text.append(data)


# Values


@pytest.mark.parametrize(
    ("name", "values", "best"),
    [
        ("fid", [3.0, 2.0, None], {1}),
        ("psnr", [21.0, 23.0, 22.0], {1}),
        ("colorfulness_ratio", [0.7, 1.5, 1.2], {2}),
        ("colorfulness", [30.0, 47.0, 52.0], {1}),
        ("diversity", [1.0, 2.0, 3.0], set()),
        ("fid", [2.0, None, None], set()),
        ("fid", [2.001, 2.002, 3.0], {0, 1}),
    ],
    ids=["lower", "higher", "closest to 1", "closest to the original", "neutral", "alone", "equal in print"],
)
def test_best_value(name, values, best):
    assert best_rows(values, METRICS[name], target=40.0) == best


def test_a_metric_best_at_the_original_needs_the_original():
    assert best_rows([30.0, 47.0], METRICS["colorfulness"], None) == set()


def test_values_are_shown_with_interval_or_standard_error():
    assert show_metric(metric(1.234, [1.0, 1.5]), ".2f") == "1.23 (1.00 to 1.50)"
    assert show_metric(metric(0.5, standard_error=0.125), ".3f") == "0.500 ± 0.125"
    assert show_metric(metric(0.5), ".1f") == "0.5"
    assert show_metric(metric(None, reason="x"), ".1f") == show_metric(None, ".1f") == "n/a"
    assert show_metric(metric(float("inf")), ".1f") == "n/a"


# Tables


def find(tables, title):
    return next(table for table in tables if table.title == title)


def test_bold_goes_to_outputs_only():
    runs = [as_run(make_score(psnr=metric(21.0)), "one"), as_run(make_score(psnr=metric(23.0)), "two")]
    table = find(metric_tables(runs), "Pixels")
    column = table.columns.index("PSNR (dB)")
    assert [row.cells[column].best for row in table.rows] == [False, True] + [False] * (len(table.rows) - 2)
    assert [row.pseudo for row in table.rows][:2] == [False, False]
    distances = find(metric_tables(runs), "Distance to the originals")  # vae has the least kd_lite2 of all
    assert not any(cell.best for row in distances.rows if row.pseudo for cell in row.cells)


def test_an_absent_value_has_its_reason_as_footnote():
    table = find(metric_tables([as_run(make_score())]), "Distance to the originals")
    cell = table.rows[0].cells[table.columns.index("FID")]
    assert cell.text == "n/a"
    assert table.notes[cell.notes[0] - 1] == "the Inception weights are not there"


def test_values_measured_in_different_ways_are_not_ranked():
    fids = metric(3.0, backend="one"), metric(2.0, backend="two")
    table = find(metric_tables([as_run(make_score(fid=fid), fid["backend"]) for fid in fids]), table_title("fid"))
    assert not any(row.cells[table.columns.index("FID")].best for row in table.rows)
    assert any("different implementations" in note for note in table.notes)
    runs = [as_run(make_score(), "one"), as_run(make_score(), "two")]
    runs[1].score["weights"]["lite2"] = "cd34"
    table = find(metric_tables(runs), table_title("kd_lite2"))
    assert [note.split(":")[0] for note in table.notes if "different" in note] == ["KD-Lite2", "feature distance"]
    psnrs = metric(22.0) | {"n": 11}, metric(23.0)
    table = find(metric_tables([as_run(make_score(psnr=psnr), str(psnr["n"])) for psnr in psnrs]), "Pixels")
    assert not any(row.cells[0].best for row in table.rows)
    assert {"n = 11"} < set(table.notes)


def test_a_value_with_a_warning_is_shown_with_it_and_never_the_best():
    runs = [as_run(make_score(fid=metric(value, note="n too small")), str(value)) for value in (20.0, 30.0)]
    table = find(metric_tables(runs), table_title("fid"))
    for row in table.rows[:2]:
        assert not row.cells[0].best and [table.notes[note - 1] for note in row.cells[0].notes] == ["n too small"]


def table_title(name: str) -> str:
    from eval.columns import SECTIONS

    return next(title for title, metrics in SECTIONS.items() if METRICS[name] in metrics)


def test_rows_that_no_model_made_are_shown_once_where_they_agree():
    runs = [as_run(make_score(psnr=metric(value)), str(value)) for value in (21.0, 23.0)]
    for run in runs:
        run.rows["gray"]["psnr"] = metric(18.0)
        run.rows["vae"]["psnr"] = metric(30.0 + run.rows["output"]["psnr"]["value"])
    labels = [row.label for row in find(metric_tables(runs), "Pixels").rows if row.pseudo]
    assert sum(label.startswith("gray") for label in labels) == 1
    assert sum(label.startswith("VAE") for label in labels) == 2


def test_metrics_of_unknown_names_are_shown_too():
    table = find(metric_tables([as_run(make_score(new_metric=metric(1.5)))]), "Others")
    assert table.columns == ["new_metric"] and table.rows[0].cells[0].text == "1.5"


def test_runs_measured_differently_are_in_separate_groups():
    scores = [make_score(), make_score(data=DATA | {"n": 11}), make_score(data=DATA | {"geometry": "256 x 256"})]
    scores += [make_score(run={"prompt_mode": "color-caption"}), make_score(data=DATA | {"name": "others"})]
    scores.append(make_score(run={"prompt_mode": "negative-only"}))
    groups = group_runs([as_run(score, str(k)) for k, score in enumerate(scores)])
    assert [[run.label for run in group] for group in groups] == [["0", "5"], ["1"], ["2"], ["3"], ["4"]]


def test_photographs_of_one_name_are_told_apart(tmp_path):
    folders = [write_run(tmp_path / name, make_score(), ids) for name, ids in (("a", "xy"), ("b", "yx"), ("c", "xz"))]
    runs = [Run(folder, folder.name, make_score()) for folder in folders]
    assert [[run.label for run in group] for group in group_runs(runs)] == [["a", "b"], ["c"]]
    runs[1].rows["original"]["colorfulness"] = metric(41.0)
    assert len(group_runs(runs)) == 3


def test_a_run_of_gray_inputs_is_never_the_best():
    runs = [as_run(make_score(psnr=metric(value)), str(value)) for value in (20.0, 21.0, 25.0)]
    runs[2].request["model"] = "gray"
    rows = find(metric_tables(runs), "Pixels").rows[:3]
    assert [row.pseudo for row in rows] == [False, False, True]
    assert [row.cells[0].best for row in rows] == [False, True, False]


def test_labels_are_as_short_as_they_can_be_told_apart(tmp_path):
    folders = [tmp_path / "a" / "run", tmp_path / "b" / "run"]
    assert label_runs(folders[:1]) == ["run"]
    assert label_runs(folders) == ["a/run", "b/run"]


# Plots


def test_plots_use_the_distance_that_is_there():
    runs = [as_run(make_score(), "one"), as_run(make_score(colorfulness=metric(35.0)), "two")]
    points = distance_points(runs, "kd_lite2")
    assert [point.label for point in points][:2] == ["one", "two"]
    assert sum(point.pseudo for point in points) == 2  # gray and vae once each; the original has no distance


def test_lines_join_runs_that_differ_in_one_setting_alone():
    several = [
        as_run(make_score(settings={"num_inference_steps": steps, "guidance_scale": scale}), f"{steps}-{scale}")
        for steps, scale in ((16, 1.0), (4, 1.0), (4, 3.0), (8, 5.0))
    ]
    assert [[run.label for run in line] for line in factor_lines(several, "num_inference_steps")] == [
        ["4-1.0", "16-1.0"]
    ]
    assert [[run.label for run in line] for line in factor_lines(several, "guidance_scale")] == [["4-1.0", "4-3.0"]]
    assert factor_lines(several, "color_scale") == []


# Pictures


def test_examples_do_not_overlap_where_there_are_enough():
    assert pick_examples(range(12), 4) == {
        "Best": range(4),
        "Median": range(4, 8),
        "Worst": range(8, 12),
    }
    assert pick_examples(range(5), 4) == {"Best": range(1), "Median": range(2, 3), "Worst": range(4, 5)}
    assert pick_examples([7], 4) == {"Best": [7], "Median": [7], "Worst": [7]}


@pytest.mark.parametrize(("lpips", "name", "best"), [(True, "lpips", "c"), (False, "feature_distance", "a")])
def test_photographs_are_ranked_by_lpips_where_it_is_there(tmp_path, lpips, name, best):
    folder = write_run(tmp_path / "run", make_score(), ids="abc", lpips=lpips)
    ranked = rank_photographs(folder)
    assert ranked[0] == name and ranked[1][0][0] == best


def test_pictures_outside_the_run_are_refused(tmp_path):
    folder = write_run(tmp_path / "run", make_score(), ids="a")
    Image.new("RGB", (4, 4)).save(tmp_path / "secret.png")
    entry = make_line("a", "../secret.png", "reference/0.png")
    (folder / "manifest.jsonl").write_text(json.dumps(entry), encoding="utf-8")
    problems = []
    assert make_grids(Run(folder, "run", make_score()), [], 1, problems.append) == []
    assert "../secret.png is not in the run's folder" in problems[0]


def test_a_folder_without_originals_borrows_those_of_another_run(tmp_path):
    run = Run(write_run(tmp_path / "run", make_score(), ids="012"), "run", make_score())
    folder = tmp_path / "others"
    folder.mkdir()
    (folder / "score_per_image.csv").write_bytes((run.folder / "score_per_image.csv").read_bytes())
    for k in range(3):
        Image.new("RGB", (30, 20), (200, 10 * k, 0)).save(folder / f"{k}.png")
    other, problems = Run(folder, "others", make_score(run={"name": "others"})), []
    assert make_grids(other, [other], 1, problems.append) == []
    own, borrowed = (make_grids(r, [other, run], 1, problems.append) for r in (run, other))
    assert [grid.title for grid in borrowed] == [
        f"{which} by feature distance" for which in ("Best", "Median", "Worst")
    ]
    assert borrowed[0].examples[0].original == own[0].examples[0].original
    assert borrowed[0].examples[0].output != own[0].examples[0].output and not problems


# Command


def test_report_of_several_runs(tmp_path, capsys):
    ids = [f"p{k}" for k in range(8)] + [NASTY]
    runs = [
        write_run(tmp_path / "four", make_score(settings={"num_inference_steps": 4}), ids),
        write_run(tmp_path / "eight", make_score(psnr=metric(23.5, [23.0, 24.0]), run={"model": NASTY}), ids),
        write_run(tmp_path / "sixteen", make_score(settings={"num_inference_steps": 16}), ids, lpips=True),
        write_run(tmp_path / NASTY.replace("/", "").strip(), make_score(data=DATA | {"name": NASTY, "n": 9}), ids[:2]),
    ]
    output = tmp_path / "out"
    command = ["report", *map(str, runs), "--output", str(output), "--per-image-count", "2"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    markdown = (output / "report.md").read_text(encoding="utf-8")
    assert "| **23.50 (23.00 to 24.00)** |" in printed and "n/a [1]" in printed
    assert printed.count("\n## ") == 2 and "photos, n = 12" in printed and "quoted" not in printed
    assert markdown.count("\n## ") == 3 and QUOTED_TITLE in markdown
    for line in markdown.splitlines():
        assert "<script" not in line.replace("\\<", "")
    for table in re.findall(r"(?:^\|.*\n)+", markdown, re.MULTILINE):  # every row has as many cells as the heading
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}) == 1

    page = (output / "report.html").read_text(encoding="utf-8")
    found = Collector(page)
    assert not {"script", "link", "iframe", "object", "a"} & set(found.tags)
    sources = [value for _, name, value in found.attributes if name in ("src", "href", "srcset", "data")]
    assert all(source.startswith("data:image/") for source in sources)
    # Three plots (two distances, one against steps), and for each run its grids' photographs three times.
    assert len(sources) == 3 + 3 * (3 * 3 * 2) + 3 * 3
    assert "http:" not in page and "https:" not in page
    assert any("<script>alert(1)</script>" in text for text in found.text)  # as text
    assert any("Best by LPIPS" in text for text in found.text)
    assert any("Worst by feature distance" in text for text in found.text)

    digests = [hashlib.sha256(file.read_bytes()).digest() for file in sorted(output.iterdir())]
    assert len(digests) == 2
    assert main(command) == 0
    assert digests == [hashlib.sha256(file.read_bytes()).digest() for file in sorted(output.iterdir())]


def test_the_report_goes_to_the_first_run(tmp_path):
    folder = write_run(tmp_path / "run", make_score())
    assert main(["report", str(folder)]) == 0
    assert (folder / "report.html").is_file() and (folder / "report.md").is_file()


def test_a_run_that_cannot_be_used_is_named(tmp_path, capsys):
    good, bad = write_run(tmp_path / "good", make_score()), tmp_path / "bad"
    bad.mkdir()
    assert main(["report", str(good), str(bad)]) == 1
    assert "failed:" in (error := capsys.readouterr().err) and "bad: has no score.json" in error
    with pytest.raises(SystemExit) as status:
        main(["report", str(bad)])
    assert status.value.code == 2
    assert capsys.readouterr().err.startswith("error: ")
    (bad / "score.json").write_text('{"format": 2}')
    with pytest.raises(SystemExit):
        main(["report", str(bad)])
    assert "format must be 1, got 2" in capsys.readouterr().err


def test_markdown_shows_text_as_it_is():
    assert markdown_text("run_8 a|b\n<b> *x* _y_ `z`") == r"run_8 a\|b \<b\> \*x\* \_y\_ \`z\`"


# Published figures


def test_quoted_figures_have_protocol_and_source():
    table, warning = rivals_table()
    assert "must not be compared" in warning
    protocol, source = table.columns.index("protocol"), table.columns.index("source")
    assert len(table.rows) > 20
    for row in table.rows:
        assert row.label.startswith("quoted: ")
        assert row.cells[protocol].text and row.cells[source].text
        assert not any(cell.best for cell in row.cells)
