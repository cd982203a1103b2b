import json

import numpy as np
import pytest

from eval.scale import fade, main, make_picture


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
    file = tmp_path / "scale.json"
    file.write_text(json.dumps({"runs": [{"case": "score", "n": 7}, {"case": "evaluate", "n": 24}]}))
    ballast = np.ones(3_200_000_000 // 8)  # more than the target; what this process holds is none of the other's
    assert main(["--count", "24", "--size", "64", "--cases", "evaluate", "--output", str(file)]) == 0
    result = json.loads(file.read_text())
    assert [(run["case"], run["n"]) for run in result["runs"]] == [("evaluate", 24), ("score", 7)]
    measured = result["runs"][0]
    assert 0.2 < measured["peak_gb"] < result["target_peak_gb"]
    assert ballast.nbytes > 1e9 * result["target_peak_gb"]
    assert (
        measured["cpu_seconds_per_picture"] == pytest.approx(measured["cpu_seconds"] / 24) and measured["seconds"] > 1
    )
    assert measured["picture_size"] == 64 and measured["machine"]["versions"]["torch"]
