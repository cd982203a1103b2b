"""Documents that are rendered from the ledger: they are what it says, and so is every sentence on them."""

from pathlib import Path

import pytest

from eval.columns import HUE_SECTORS, METRICS, show_metric
from eval.runs import GRAY
from eval.setting import Setting
from eval.studies import alternatives, experiment_tables, samplers, seeds, shipped
from eval.studies.command import STUDIES
from eval.studies.documents import PAGES, TABLES, fill
from eval.studies.hues import hue_findings, kept_run
from eval.studies.ledger import LEDGER, read_entries
from eval.studies.paired import NO_DIFFERENCE
from eval.studies.scored import rows_of_sweep, settings_of_sweep
from eval.studies.sections import verdict
from eval.studies.shipped import read_kept_scores
from eval.studies.variants import EFFECTS, NOISE_EFFECT, read_experiments

ROOT = Path(__file__).parents[2]
LONGEST_PAGE = 120  # lines


@pytest.mark.parametrize("name", PAGES)
def test_pages_are_rendered_from_the_ledger(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    assert PAGES[name](LEDGER) == text
    assert len(text.splitlines()) <= LONGEST_PAGE


@pytest.mark.parametrize("name", TABLES)
def test_tables_are_the_ledgers(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    assert fill(text, name, LEDGER) == text


def test_every_document_of_a_study_is_rendered():
    assert {study.document for study in STUDIES.values() if study.document} == PAGES.keys() | TABLES.keys()


def test_a_document_without_markers_is_refused():
    with pytest.raises(ValueError, match="docs/use.md has no markers <!-- color-scale:begin -->"):
        fill("text", "docs/use.md", LEDGER)


def test_what_the_page_says_of_samplers():
    settings, gray = settings_of_sweep(read_entries(samplers.STUDY, LEDGER))
    rows = rows_of_sweep(settings)
    values = {
        (Setting(**row["setting"]).sampler, Setting(**row["setting"]).num_inference_steps): row["metrics"]
        for row in rows
    }

    def of(name: str, sampler: str) -> list[float]:
        return [values[sampler, steps][name]["value"] for steps in (1, 2, 4, 8, 16, 50)]

    assert len({values[sampler, 1]["psnr"]["value"] for sampler in ("cold", "euler", "naive")}) == 1
    for sampler in ("cold", "euler", "naive"):
        assert of("psnr", sampler) == sorted(of("psnr", sampler), reverse=True)
        assert of("colorfulness", sampler)[1:] == sorted(of("colorfulness", sampler)[1:])
    above = [psnr > gray["psnr"]["value"] for psnr in of("psnr", "euler")]
    assert above == [True, True, True, False, False, False]
    for sentence in samplers.algorithms_compared(rows):
        assert "no difference shown at steps 1, 2, 4" in sentence and "worse at steps" in sentence
        assert sentence.endswith("16, 50.")


def test_what_the_page_says_of_hues():
    (run,) = kept_run(LEDGER)
    findings = " ".join(hue_findings(run))
    assert (
        "better in red, orange, yellow, green; worse in purple; no difference shown in cyan, blue, pink." in findings
    )
    assert "Worst sector by chroma retention: red, " in findings
    assert "Places by chroma error of 8, the worst first: red 3, green 6." in findings
    text = (ROOT / "docs" / "experiments.md").read_text(encoding="utf-8")
    for sector in HUE_SECTORS:
        (line,) = [line for line in text.splitlines() if line.startswith(f"| {sector} |")]
        entries = [run.metric(f"chroma_error_{sector}"), run.metric(f"chroma_error_{sector}", GRAY)]
        assert all(show_metric(entry, METRICS[f"chroma_error_{sector}"].form) in line for entry in entries)


def test_what_the_page_says_of_seeds():
    entries = {entry.run: entry for entry in read_entries(seeds.STUDY, LEDGER)}
    diversity = {label: entry.metrics["diversity"]["value"] for label, entry in entries.items()}
    assert {label for label, value in diversity.items() if not value} == {
        "classification (cic)",
        "GAN",
        "diffusion, cold",
    }
    varied = {label: value for label, value in diversity.items() if value}
    assert (max(varied, key=varied.get), min(varied, key=varied.get)) == ("PixelCNN", "shipped model")
    best = {label: entry.metrics["best_of_k_ciede2000"]["value"] for label, entry in entries.items()}
    assert min(best, key=best.get) == "shipped model"
    assert len(entries["shipped model"].settings["score"]["extra_seeds"]) == 3


def test_what_the_page_says_of_short_trainings():
    results = experiment_tables.read_trained(LEDGER).results
    judged = experiment_tables.judge(experiment_tables.compare_all(read_experiments(), results))

    def said(what: str, metric: str) -> str:
        return judged[what, metric][0].verdict

    metrics = {metric for _, metric in judged}
    counts = [results[name][0].settings["training"]["photographs"] for name in ("base", "data/tenth-once-cold")]
    assert round(counts[0] / counts[1]) == 9
    nothing = [label for label in EFFECTS if "photographs" in label] + ["twice the samples, cold start"]
    assert all(said(label, metric) == NO_DIFFERENCE for label in nothing for metric in metrics)
    assert said(NOISE_EFFECT, "colorfulness_ratio") == "better" and said(NOISE_EFFECT, "psnr") == "worse"
    longer = "twice the samples, stochastic start"
    assert judged[longer, "kd_lite2"][0].verdict == "better" and not judged[longer, "kd_lite2"][1]
    residual, cold = ({metric: said(name, metric) for metric in metrics} for name in ("target/residual", "noise/0"))
    assert (residual["colorfulness_ratio"], residual["kd_lite2"], residual["psnr"]) == ("worse", "worse", "better")
    assert (cold["colorfulness_ratio"], cold["kd_lite2"], cold["psnr"]) == ("worse", NO_DIFFERENCE, "better")
    groups = {what.partition("/")[0] for (what, _), (_, remains) in judged.items() if remains}
    assert not groups & {"severity", "loss", "captions", "dropout", "adaptation"}
    assert all(said(f"adaptation/lora-{rank}-attention", "kd_lite2") == "worse" for rank in (4, 16, 64))
    assert all(said(f"adaptation/lora-{rank}-both", "kd_lite2") == NO_DIFFERENCE for rank in (4, 16, 64))
    assert {entry.data["n"] for seeds in results.values() for entry in seeds.values()} == {300}
    assert {len(seeds) for seeds in results.values()} == {2, 3}


def test_what_the_page_says_of_the_alternatives():
    entries = {entry.run: entry for entry in read_entries(alternatives.STUDY, LEDGER)}
    rows = {label: entry.metrics for label, entry in entries.items()} | {"gray": entries["GAN"].rows[GRAY]}

    def of(name: str) -> dict[str, float]:
        return {label: row[name]["value"] for label, row in rows.items()}

    regression, gan, cold = "regression (resnet)", "GAN", "diffusion, cold"
    colorful, psnr, fd = of("colorfulness_ratio"), of("psnr"), of("fd_lite2")
    others = {label: value for label, value in fd.items() if label != "gray"}
    assert max(others, key=others.get) == regression and fd[gan] < fd[regression]
    assert all(0.4 < colorful[label] < 0.5 for label in (regression, gan, cold))
    for label in ("PixelCNN", "diffusion, stochastic start", "classification (cic)"):
        assert colorful[label] > 0.6 and psnr[label] < min(psnr[cold], psnr[regression])
    seconds = {label: row["seconds_per_image"]["value"] for label, row in rows.items() if label != "gray"}
    assert max(seconds, key=seconds.get) == "PixelCNN"
    assert psnr["ControlNet, Canny edges"] < psnr["gray"]
    trained = [label for label, entry in entries.items() if "training" in entry.settings]
    assert len({entries[label].settings["training"]["samples"] for label in trained}) == 1
    for name in ("fd_lite2", "kd_lite2"):
        values = of(name)
        assert min(trained, key=values.get) == "PixelCNN"
        assert values["shipped model"] < values["PixelCNN"]


def test_what_the_page_says_of_the_shipped_model():
    runs = {run.score["data"]["name"]: run for run in read_kept_scores(LEDGER)}
    assert len(runs) == 3
    for name, run in runs.items():
        kernel, psnr = ([run.metric(of, row)["value"] for row in ("output", GRAY)] for of in ("kd_lite2", "psnr"))
        if name == "free-photos":
            assert run.score["data"]["n"] == 36 and 0.45 < kernel[0] / kernel[1] < 0.55
            perfect = run.metric("kd_lite2", "vae")
            assert verdict(run.metric("kd_lite2"), perfect, "lower") == NO_DIFFERENCE
        else:
            assert 0.1 < kernel[0] / kernel[1] < 0.14
        assert 0.65 <= psnr[0] - psnr[1] < 3.25
    gains = {name: run.metric("psnr")["value"] - run.metric("psnr", GRAY)["value"] for name, run in runs.items()}
    assert min(gains, key=gains.get) == "tiny-imagenet-64-validation"
    ratios = sorted(run.metric("colorfulness_ratio")["value"] for run in runs.values())
    assert (f"{ratios[0]:.0%}", f"{ratios[-1]:.0%}") == ("82%", "93%")
    report = (ROOT / shipped.REPORTS / "free-photos.html").read_text(encoding="utf-8")
    assert len(report.encode()) <= shipped.LARGEST_REPORT
    rows = runs["free-photos"].rows
    assert all(show_metric(row["ciede2000"], METRICS["ciede2000"].form) in report for row in rows.values())
