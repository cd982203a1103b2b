"""What the documents say is what was measured, and their pictures exist."""

import json
import re

import pytest

from eval.benchmark import README, RESULTS, insert_table, render_table

ROOT = README.parent


def test_speed_table_is_the_benchmarks():
    text = README.read_text(encoding="utf-8")
    assert insert_table(text, render_table(json.loads(RESULTS.read_text(encoding="utf-8")))) == text


@pytest.mark.parametrize("document", ["README.md", "model_card.md", "docs/use.md"])
def test_links_lead_somewhere(document):
    file = ROOT / document
    links = re.findall(r"\]\((?!https?://)([^)#]+)\)", file.read_text(encoding="utf-8"))
    missing = [link for link in links if not (file.parent / link).exists()]
    assert not missing


def test_space_front_matter_names_what_exists():
    front_matter = README.read_text(encoding="utf-8").split("---")[1]
    fields = dict(line.split(": ", 1) for line in front_matter.strip().splitlines())
    assert fields["sdk"] == "gradio"
    assert (ROOT / fields["app_file"]).is_file()
