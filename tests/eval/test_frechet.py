import numpy as np
import pytest
from scipy import linalg

from eval.metrics.frechet import FeatureStatistics, frechet_distance, kernel_distance, relative_frechet_distance


def random_features(n: int, dimension: int, seed: int) -> np.ndarray:
    """Correlated vectors, the mean not zero."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, dimension)) @ rng.standard_normal((dimension, dimension)) + rng.random(dimension)


def statistics(features: np.ndarray) -> FeatureStatistics:
    result = FeatureStatistics(features.shape[1])
    result.update(features)
    return result


def distance(x: np.ndarray, y: np.ndarray) -> float:
    a, b = statistics(x), statistics(y)
    return frechet_distance(a.mean, a.covariance, b.mean, b.covariance)


def test_statistics_are_those_of_numpy():
    features = random_features(50, 7, seed=0)
    result = statistics(features)
    assert result.n == 50
    np.testing.assert_allclose(result.mean, features.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(result.covariance, np.cov(features, rowvar=False), rtol=1e-10)


@pytest.mark.parametrize("size", [1, 7, 50])
def test_statistics_do_not_depend_on_the_batches(size):
    features = random_features(50, 7, seed=0) + 1e4  # a large mean is where sums of squares lose digits
    result = FeatureStatistics(7)
    for start in range(0, 50, size):
        result.update(features[start : start + size])
    np.testing.assert_allclose(result.mean, features.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(result.covariance, np.cov(features, rowvar=False), rtol=1e-9)


def test_merged_statistics_are_those_of_all_vectors():
    features = random_features(50, 7, seed=0)
    merged = FeatureStatistics(7)
    for part in (features[:0], features[:20], features[20:]):
        merged.merge(statistics(part))
    assert merged.n == 50
    np.testing.assert_allclose(merged.covariance, np.cov(features, rowvar=False), rtol=1e-10)


def test_statistics_refuse_what_they_cannot_count():
    result = FeatureStatistics(3)
    with pytest.raises(ValueError, match=r"shape \(n, 3\), got \(2, 4\)"):
        result.update(np.zeros((2, 4)))
    with pytest.raises(ValueError, match="finite"):
        result.update(np.full((2, 3), np.nan))
    with pytest.raises(ValueError, match="dimension 3, got 2"):
        result.merge(FeatureStatistics(2))
    result.update(np.ones((1, 3)))
    with pytest.raises(ValueError, match="at least 2 feature vectors, got 1"):
        _ = result.covariance


@pytest.mark.parametrize("dimension", [1, 5, 32])
def test_frechet_distance_agrees_with_the_matrix_root(dimension):
    x, y = random_features(200, dimension, seed=1), random_features(300, dimension, seed=2)
    a, b = np.atleast_2d(np.cov(x, rowvar=False)), np.atleast_2d(np.cov(y, rowvar=False))
    root = np.real(linalg.sqrtm(a @ b))
    expected = np.sum((x.mean(axis=0) - y.mean(axis=0)) ** 2) + np.trace(a + b - 2 * root)
    assert distance(x, y) == pytest.approx(expected, rel=1e-6)


def test_frechet_distance_of_gaussians_with_equal_covariance_is_the_squared_mean_distance():
    x = random_features(100, 8, seed=3)
    shift = np.arange(8.0)
    assert distance(x, x + shift) == pytest.approx(np.sum(shift**2), rel=1e-9)


def test_frechet_distance_of_commuting_covariances_has_a_closed_form():
    first, second = np.array([1.0, 4.0, 9.0]), np.array([4.0, 0.0, 1.0])
    value = frechet_distance(np.zeros(3), np.diag(first), np.zeros(3), np.diag(second))
    assert value == pytest.approx(np.sum((np.sqrt(first) - np.sqrt(second)) ** 2))


def test_frechet_distance_to_itself_is_zero_also_with_fewer_vectors_than_dimensions():
    assert distance(*[random_features(100, 8, seed=4)] * 2) == pytest.approx(0, abs=1e-9)
    few = random_features(10, 40, seed=4)
    assert distance(few, few) == pytest.approx(0, abs=1e-6 * np.trace(np.cov(few, rowvar=False)))


def test_frechet_distance_is_symmetric_and_its_relative_variant_ignores_scale():
    x, y = random_features(100, 6, seed=5), random_features(100, 6, seed=6)
    assert distance(x, y) == pytest.approx(distance(y, x))
    values = []
    for scale in (1, 1000):
        a, b = statistics(scale * x), statistics(scale * y)
        values.append(relative_frechet_distance(a.mean, a.covariance, b.mean, b.covariance))
    assert values[0] == pytest.approx(distance(x, y) / np.trace(np.cov(y, rowvar=False)))
    assert values[0] == pytest.approx(values[1])


def test_frechet_distance_refuses_shapes_and_values_that_do_not_fit():
    eye = np.eye(2)
    with pytest.raises(ValueError, match=r"got \(2,\), \(2, 2\), \(3,\), \(2, 2\)"):
        frechet_distance(np.zeros(2), eye, np.zeros(3), eye)
    with pytest.raises(ValueError, match="finite"):
        frechet_distance(np.array([np.inf, 0]), eye, np.zeros(2), eye)
    with pytest.raises(ValueError, match="positive trace, got 0"):
        relative_frechet_distance(np.zeros(2), eye, np.zeros(2), 0 * eye)


def naive_kernel_distance(x: np.ndarray, y: np.ndarray) -> float:
    """Gretton et al. 2012, equation 4, written out."""

    def kernel(a, b):
        return (a @ b / len(a) + 1) ** 3

    n, total = len(x), 0.0
    for i in range(n):
        for j in range(n):
            if i != j:
                total += kernel(x[i], x[j]) + kernel(y[i], y[j]) - kernel(x[i], y[j]) - kernel(x[j], y[i])
    return total / (n * (n - 1))


def test_kernel_distance_agrees_with_the_definition():
    x, y = random_features(13, 4, seed=7), random_features(13, 4, seed=8)
    subsets, size = 6, 5
    draws = np.random.default_rng(0)
    chosen = [draws.choice(13, size=size, replace=False) for _ in range(subsets)]
    expected = [naive_kernel_distance(x[rows], y[rows]) for rows in chosen]
    value, error = kernel_distance(x, y, np.random.default_rng(0), subsets=subsets, subset_size=size)
    assert value == pytest.approx(np.mean(expected))
    assert error == pytest.approx(np.std(expected, ddof=1) * np.sqrt(size / (13 - size)))


def test_kernel_distance_is_unbiased_for_correlated_pairs():
    """Two versions of a picture with equal distributions: 0 within the standard error, however alike the pair is."""
    rng = np.random.default_rng(9)
    values = []
    for _ in range(40):
        common, own = rng.standard_normal((60, 5)), rng.standard_normal((2, 60, 5))
        values.append(kernel_distance(common + 0.1 * own[0], common + 0.1 * own[1], rng)[0])
    assert abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(len(values))


def test_standard_error_of_the_kernel_distance_is_the_spread_over_samples():
    rng = np.random.default_rng(10)
    values, errors = [], []
    for _ in range(60):
        x = rng.standard_normal((80, 4))
        value, error = kernel_distance(x, 1.5 * rng.standard_normal((80, 4)) + 0.5, rng)
        values.append(value)
        errors.append(error)
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.35)


def test_kernel_distance_refuses_bad_arguments():
    x, rng = np.zeros((10, 3)), np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"same shape \(n, d\)"):
        kernel_distance(x, x[:5], rng)
    with pytest.raises(ValueError, match="`subset_size` must be from 2 to n - 1 = 9, got 10"):
        kernel_distance(x, x, rng, subset_size=10)
    with pytest.raises(ValueError, match="`subsets` must be at least 2, got 1"):
        kernel_distance(x, x, rng, subsets=1)
    with pytest.raises(ValueError, match="finite"):
        kernel_distance(x, np.full_like(x, np.inf), rng)
