"""What the documents say is what was measured, and their pictures exist."""

import json
import re

import pytest

from colorization.loading import EMBEDDED_DIRECTORY
from eval.files import weights_sha256
from eval.studies import color_scale
from eval.studies.ledger import LEDGER, RESULTS, read_entries
from train.benchmark import describe
from train.publish import main as publish

ROOT = RESULTS.parent.parent
EMBEDDED_RESULTS = sorted((RESULTS / "embedded").glob("*.json"))


@pytest.mark.parametrize(
    "document",
    [
        "README.md",
        "model_card.md",
        "docs/use.md",
        "docs/demo.md",
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
    links = re.findall(r"\]\((?!https?://)([^)#]+)\)", file.read_text(encoding="utf-8"))
    missing = [link for link in links if not (file.parent / link).exists()]
    assert not missing


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
    results = [file for file in EMBEDDED_RESULTS if json.loads(file.read_text())["weights_sha256"] == digest]
    results = [file for file in results if not file.name.startswith("vae")]
    assert results
    card = tmp_path / "model_card.md"
    arguments = ["colorization/models/embedded", "--repo", "user/cold-colorizer-embedded", "--card", str(card)]
    arguments += ["--notes", "train/templates/embedded_notes.md"]
    assert publish([*arguments, "--results", *(str(file.relative_to(ROOT)) for file in results)]) == 0
    assert card.read_text(encoding="utf-8") == (ROOT / "model_card.md").read_text(encoding="utf-8")
