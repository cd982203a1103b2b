import numpy as np
import pytest
from studying import kept, ledger_in, study

from eval.studies.ledger import record
from eval.studies.scale import STUDY, TARGET_PEAK_GB, entry_of, fade, make_picture

MACHINE = {"processor": "abacus", "cores": 2, "threads": 1}


def test_pictures_are_always_the_same_and_differ():
    first, again, other = make_picture(3, 48), make_picture(3, 48), make_picture(15, 48)  # 3 and 15: one example
    assert first.shape == (48, 48, 3) and first.dtype == np.uint8
    np.testing.assert_array_equal(first, again)
    assert np.abs(first.astype(int) - other).mean() > 5
    spread = [np.ptp(picture, axis=2).mean() for picture in (fade(first, 3), first)]
    assert 0.2 < spread[0] / spread[1] < 1


@pytest.mark.slow
def test_what_evaluate_costs_is_measured_and_other_runs_are_kept(tmp_path):
    pytest.importorskip("torch_fidelity")
    pytest.importorskip("evaluate")
    old = {"n": 7, "case": "score", "picture_size": 64, "machine": {"versions": {"torch": "1"}} | MACHINE}
    costs = dict.fromkeys(("peak_gb", "seconds", "cpu_seconds", "cpu_seconds_per_picture"), 1.0)
    record([entry_of(old | costs), entry_of(old | costs | {"n": 24, "case": "evaluate"})], ledger_in(tmp_path))
    ballast = np.ones(3_200_000_000 // 8)  # more than the target; what this process holds is none of the other's
    words = ["--run", "--count", "24", "--size", "64", "--cases", "evaluate"]
    assert study(tmp_path, STUDY, *words) == 0
    entry, other = kept(tmp_path, STUDY)
    assert (entry.run, other.run) == ("evaluate, 24 pictures", "score, 7 pictures")
    measured = {name: metric["value"] for name, metric in entry.metrics.items()}
    assert 0.2 < measured["peak_gb"] < TARGET_PEAK_GB
    assert ballast.nbytes > 1e9 * TARGET_PEAK_GB
    assert measured["cpu_seconds_per_picture"] == pytest.approx(measured["cpu_seconds"] / 24)
    assert measured["seconds"] > 1
    assert entry.settings["picture_size"] == 64 and entry.versions["torch"]
