"""What the documents say is what was measured, and their pictures exist."""

import json
import re
from pathlib import Path

import pytest

from colorization.loading import EMBEDDED_DIRECTORY
from eval.files import weights_sha256
from eval.studies import color_scale
from eval.studies.ledger import LEDGER, RESULTS, read_entries
from train.benchmark import describe
from train.publish import main as publish

ROOT = RESULTS.parent.parent
EMBEDDED_RESULTS = sorted((RESULTS / "embedded").glob("*/score.json"))


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


def test_training_speed_is_the_benchmarks():
    result = json.loads((ROOT / "train" / "results" / "benchmark.json").read_text(encoding="utf-8"))
    assert describe(result) in (ROOT / "docs" / "train.md").read_text(encoding="utf-8").replace("\n", " ")


def test_color_scales_were_measured_with_the_shipped_network():
    entries = read_entries(color_scale.STUDY, LEDGER)
    digest = weights_sha256(EMBEDDED_DIRECTORY / "vividness")
    assert {entry.settings["vividness_sha256"] for entry in entries} == {digest}


def test_model_card_is_rendered_from_notes_and_the_results_of_these_weights(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    digest = weights_sha256(EMBEDDED_DIRECTORY)
    results = [file for file in EMBEDDED_RESULTS if json.loads(file.read_text())["run"]["weights_sha256"] == digest]
    assert results
    card = tmp_path / "model_card.md"
    arguments = ["colorization/models/embedded", "--repo", "user/cold-colorizer-embedded", "--card", str(card)]
    arguments += ["--notes", "train/templates/embedded_notes.md"]
    assert publish([*arguments, "--results", *(str(file.relative_to(ROOT)) for file in results)]) == 0
    assert card.read_text(encoding="utf-8") == (ROOT / "model_card.md").read_text(encoding="utf-8")
