"""Metrics with intervals, from values of single photographs."""

import json

import numpy as np
import pytest

from eval.metrics.frechet import FeatureStatistics, frechet_distance
from eval.summary import feature_metrics, pixel_metrics


def test_feature_metrics_take_the_frechet_distance_only_of_many_photos():
    rng = np.random.default_rng(0)
    reference = rng.standard_normal((2000, 6))
    colored = reference + 0.1 * rng.standard_normal((2000, 6)) + 0.2
    many = feature_metrics(colored, reference, seed=0)
    a, b = FeatureStatistics(6), FeatureStatistics(6)
    a.update(colored)
    b.update(reference)
    expected = frechet_distance(a.mean, a.covariance, b.mean, b.covariance)
    assert many["fd_lite2"]["value"] == pytest.approx(expected)
    assert many["fd_lite2"]["relative"] == pytest.approx(expected / np.trace(b.covariance))
    few = feature_metrics(colored[:100], reference[:100], seed=0)
    assert few["fd_lite2"]["value"] is None and "2000" in few["fd_lite2"]["reason"]
    assert few["kd_lite2"]["standard_error"] > 0
    assert feature_metrics(reference[:100], reference[:100], seed=0)["kd_lite2"]["value"] == 0


def test_pixel_metrics_survive_equal_pictures_and_gray_originals():
    scores = np.array([[np.inf, 0, 0, 0, 0], [20, 5, 4, 10, 9]])
    metrics = pixel_metrics(scores, np.array([[0, 0], [20.0, 18]]), seed=0)
    assert metrics["psnr"] == {"value": 20, "n": 1, "interval": None}
    assert metrics["colorfulness_ratio"]["value"] is None and metrics["colorfulness_ratio"]["reason"]
    assert metrics["colorfulness_difference"]["value"] == 5
    ratio = pixel_metrics(scores, np.array([[10, 9], [30.0, 18]]), seed=0)["colorfulness_ratio"]
    assert ratio["value"] == 0.25 and ratio["interval"][0] <= 0.25 <= ratio["interval"][1]
    json.dumps(metrics, allow_nan=False)
