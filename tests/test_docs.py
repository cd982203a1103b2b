"""What the documents say is what was measured, and their pictures exist."""

import json
import re
from pathlib import Path

import pytest

from colorization.loading import EMBEDDED_DIRECTORY
from eval import color_scale, results_page
from eval.benchmark import README, RESULTS, insert_table, render_table
from eval.compare import render_table as comparison_table
from eval.compare import weights_sha256
from eval.report import METRICS, show_metric
from eval.results_page import render_page
from train.benchmark import describe
from train.publish import main as publish

ROOT = README.parent
EMBEDDED_RESULTS = sorted((ROOT / "eval" / "results" / "embedded").glob("*.json"))


def test_speed_table_is_the_benchmarks():
    text = README.read_text(encoding="utf-8")
    assert insert_table(text, render_table(json.loads(RESULTS.read_text(encoding="utf-8")))) == text


def anchors(document: Path) -> set[str]:
    """What links can name in a document: its headings, as GitHub and the Hub write them."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(
    "document",
    [
        "README.md",
        "CONTRIBUTING.md",
        "model_card.md",
        "docs/use.md",
        "docs/deploy.md",
        "docs/train.md",
        "docs/evaluate.md",
        "docs/embedded-model.md",
        "docs/results.md",
        "docs/alternatives.md",
        "docs/experiments.md",
    ],
)
def test_links_lead_somewhere(document):
    file = ROOT / document
    links = re.findall(r"\]\((?!https?://)([^)#]*)(?:#([^)]*))?\)", file.read_text(encoding="utf-8"))
    assert [link for link, _ in links if not (file.parent / link).exists()] == []
    targets = [(file.parent / link if link else file, heading) for link, heading in links if heading]
    assert [(target, heading) for target, heading in targets if heading not in anchors(target)] == []


def test_comparison_table_is_the_results():
    results = [json.loads(file.read_text(encoding="utf-8")) for file in EMBEDDED_RESULTS]
    assert len(results) >= 4
    document = (ROOT / "docs" / "embedded-model.md").read_text(encoding="utf-8")
    assert comparison_table(results) in document


def test_results_page_is_rendered_from_the_results():
    assert render_page(results_page.RESULTS, results_page.PAGE) == results_page.PAGE.read_text(encoding="utf-8")


def test_report_with_pictures_shows_the_scores_of_the_page():
    (scores,) = (results_page.RESULTS / results_page.SCORES).glob("*/free-photos.json")
    report = results_page.PAGE.parent / results_page.REPORTS / "free-photos.html"
    text, rows = report.read_text(encoding="utf-8"), json.loads(scores.read_text(encoding="utf-8"))["rows"]
    assert len(text.encode()) <= results_page.LARGEST_REPORT
    assert all(show_metric(row["ciede2000"], METRICS["ciede2000"].form) in text for row in rows.values())


def test_training_speed_is_the_benchmarks():
    result = json.loads((ROOT / "train" / "results" / "benchmark.json").read_text(encoding="utf-8"))
    assert describe(result) in (ROOT / "docs" / "train.md").read_text(encoding="utf-8").replace("\n", " ")


def test_color_scales_are_those_that_were_measured_with_the_shipped_network():
    result = json.loads((ROOT / "eval" / "results" / "color-scale.json").read_text(encoding="utf-8"))
    assert result["vividness_sha256"] == weights_sha256(EMBEDDED_DIRECTORY / "vividness")
    document = (ROOT / "docs" / "use.md").read_text(encoding="utf-8")
    assert color_scale.render_table(result) in document
    assert color_scale.describe(result) in document.replace("\n", " ")


def test_model_card_is_rendered_from_notes_and_the_results_of_these_weights(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    digest = weights_sha256(EMBEDDED_DIRECTORY)
    results = [file for file in EMBEDDED_RESULTS if json.loads(file.read_text())["weights_sha256"] == digest]
    results = [file for file in results if not file.name.startswith("vae")]
    assert results
    card = tmp_path / "model_card.md"
    arguments = ["colorization/models/embedded", "--repo", "user/cold-colorizer-embedded", "--card", str(card)]
    arguments += ["--notes", "train/templates/embedded_notes.md"]
    assert publish([*arguments, "--results", *(str(file.relative_to(ROOT)) for file in results)]) == 0
    assert card.read_text(encoding="utf-8") == (ROOT / "model_card.md").read_text(encoding="utf-8")
