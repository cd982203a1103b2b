"""The ledger of the studies: what a line holds, what replaces it, and that the committed one is sound."""

import json

import pytest

from eval.studies.command import STUDIES
from eval.studies.ledger import LEDGER, Entry, read_entries, record, shown

METRICS = {"psnr": {"value": 22.123456789, "n": 12, "interval": [21.0, 23.0]}}


def entry(run: str, study: str = "seeds", **settings) -> Entry:
    return Entry(study, run, {"name": "photos", "n": 12}, settings, {"output": METRICS}, {"torch": "2"})


def test_what_is_recorded_is_read_and_an_entry_of_the_same_run_is_replaced(tmp_path):
    ledger = tmp_path / "results" / "ledger.jsonl"
    record([entry("b"), entry("a"), entry("a", study="alternatives")], ledger)
    record([entry("a", seed=1)], ledger)
    assert read_entries("seeds", ledger) == [entry("a", seed=1), entry("b")]
    assert read_entries("alternatives", ledger) == [entry("a", study="alternatives")]
    assert len(ledger.read_text().splitlines()) == 3
    assert [file.name for file in ledger.parent.iterdir()] == ["ledger.jsonl"]


def test_entries_can_make_way_for_others(tmp_path):
    ledger = tmp_path / "ledger.jsonl"
    record([entry("a", model="x"), entry("b", model="y")], ledger)
    record([entry("c", model="x")], ledger, lambda old: old.settings["model"] == "x")
    assert [of.run for of in read_entries("seeds", ledger)] == ["b", "c"]


def test_a_ledger_that_is_not_there_is_empty_and_a_damaged_line_is_named(tmp_path):
    ledger = tmp_path / "ledger.jsonl"
    assert read_entries("seeds", ledger) == []
    record([entry("a")], ledger)
    ledger.write_text(ledger.read_text() + "{\n")
    with pytest.raises(ValueError, match="line 2: is damaged"):
        read_entries("seeds", ledger)


def test_a_result_that_cannot_be_written_leaves_the_ledger_as_it_was(tmp_path):
    ledger = tmp_path / "ledger.jsonl"
    record([entry("a")], ledger)
    before = ledger.read_bytes()
    with pytest.raises(ValueError):
        record([entry("b", value=float("nan"))], ledger)
    assert ledger.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_only_what_is_shown_is_kept_without_empty_fields():
    metrics = METRICS | {
        "fid": {"value": None, "n": 12, "interval": None, "reason": "no weights"},
        "ssim": {"value": 1},
    }
    assert shown(metrics, ["fid", "psnr", "lpips"]) == {
        "fid": {"value": None, "n": 12, "reason": "no weights"},
        "psnr": METRICS["psnr"],
    }


def test_the_committed_ledger_is_sorted_and_of_studies_that_there_are():
    lines = [json.loads(line) for line in LEDGER.read_text(encoding="utf-8").splitlines()]
    keys = [(line["study"], line["run"]) for line in lines]
    assert keys == sorted(set(keys))
    assert {study for study, _ in keys} <= STUDIES.keys()
    for line in lines:
        for metrics in line["rows"].values():
            assert metrics and all("value" in metric for metric in metrics.values()), line["run"]
