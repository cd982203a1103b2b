import numpy as np
import pytest
import torch

from colorization.color import lab_to_rgb
from eval.metrics.intervals import bootstrap_interval, wilson_interval
from eval.metrics.pixels import chroma_error, ciede2000, mean_ciede2000, psnr

# Sharma, Wu and Dalal (2005), table 1: two Lab colors and their difference.
SHARMA = [
    (50, 2.6772, -79.7751, 50, 0, -82.7485, 2.0425),
    (50, 3.1571, -77.2803, 50, 0, -82.7485, 2.8615),
    (50, 2.8361, -74.0200, 50, 0, -82.7485, 3.4412),
    (50, -1.3802, -84.2814, 50, 0, -82.7485, 1.0000),
    (50, -1.1848, -84.8006, 50, 0, -82.7485, 1.0000),
    (50, -0.9009, -85.5211, 50, 0, -82.7485, 1.0000),
    (50, 0, 0, 50, -1, 2, 2.3669),
    (50, -1, 2, 50, 0, 0, 2.3669),
    (50, 2.49, -0.001, 50, -2.49, 0.0009, 7.1792),
    (50, 2.49, -0.001, 50, -2.49, 0.0010, 7.1792),
    (50, 2.49, -0.001, 50, -2.49, 0.0011, 7.2195),
    (50, 2.49, -0.001, 50, -2.49, 0.0012, 7.2195),
    (50, -0.001, 2.49, 50, 0.0009, -2.49, 4.8045),
    (50, -0.001, 2.49, 50, 0.0010, -2.49, 4.8045),
    (50, -0.001, 2.49, 50, 0.0011, -2.49, 4.7461),
    (50, 2.5, 0, 50, 0, -2.5, 4.3065),
    (50, 2.5, 0, 73, 25, -18, 27.1492),
    (50, 2.5, 0, 61, -5, 29, 22.8977),
    (50, 2.5, 0, 56, -27, -3, 31.9030),
    (50, 2.5, 0, 58, 24, 15, 19.4535),
    (50, 2.5, 0, 50, 3.1736, 0.5854, 1.0000),
    (50, 2.5, 0, 50, 3.2972, 0, 1.0000),
    (50, 2.5, 0, 50, 1.8634, 0.5757, 1.0000),
    (50, 2.5, 0, 50, 3.2592, 0.3350, 1.0000),
    (60.2574, -34.0099, 36.2677, 60.4626, -34.1751, 39.4387, 1.2644),
    (63.0109, -31.0961, -5.8663, 62.8187, -29.7946, -4.0864, 1.2630),
    (61.2901, 3.7196, -5.3901, 61.4292, 2.2480, -4.9620, 1.8731),
    (35.0831, -44.1164, 3.7933, 35.0232, -40.0716, 1.5901, 1.8645),
    (22.7233, 20.0904, -46.6940, 23.0331, 14.9730, -42.5619, 2.0373),
    (36.4612, 47.8580, 18.3852, 36.2715, 50.5065, 21.2231, 1.4146),
    (90.8027, -2.0831, 1.4410, 91.1528, -1.6435, 0.0447, 1.4441),
    (90.9257, -0.5406, -0.9208, 88.6381, -0.8985, -0.7239, 1.5381),
    (6.7747, -0.2908, -2.4247, 5.8714, -0.0985, -2.2286, 0.6377),
    (2.0776, 0.0795, -1.1350, 0.9033, -0.0636, -0.5514, 0.9082),
]


def random_images(seed: int, count: int = 2) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).random((count, 3, 5, 7)))


def test_ciede2000_agrees_with_the_published_pairs():
    table = torch.tensor(SHARMA, dtype=torch.float64)
    for first, second in ((table[:, :3], table[:, 3:6]), (table[:, 3:6], table[:, :3])):
        torch.testing.assert_close(ciede2000(first, second), table[:, 6], atol=5.1e-5, rtol=0)


def test_ciede2000_of_equal_colors_is_zero_in_float32_too():
    images = random_images(0).float()
    assert mean_ciede2000(images, images).tolist() == [0, 0]
    assert mean_ciede2000(0 * images, 0 * images).tolist() == [0, 0]


def test_ciede2000_of_pictures_is_the_mean_over_their_pixels():
    lab = torch.tensor([[50, 2.5, 0], [50, 0, -2.5]], dtype=torch.float64).view(2, 3, 1, 1)
    half = lab_to_rgb(torch.cat([lab[:1], lab[:1]], dim=3))
    other = lab_to_rgb(torch.cat([lab[:1], lab[1:]], dim=3))
    assert mean_ciede2000(half, other).item() == pytest.approx(4.3065 / 2, abs=1e-3)


def test_chroma_error_ignores_lightness():
    lab = torch.tensor([60.0, 10, 20], dtype=torch.float64).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    shifted = lab + torch.tensor([-10.0, 3, -4], dtype=torch.float64).view(1, 3, 1, 1)
    assert chroma_error(lab_to_rgb(shifted), lab_to_rgb(lab)).item() == pytest.approx(5, abs=1e-6)


def test_psnr_per_picture():
    images = random_images(1)
    offsets = torch.tensor([0.1, 0.01], dtype=torch.float64).view(2, 1, 1, 1)
    torch.testing.assert_close(psnr(images + offsets, images), torch.tensor([20.0, 40.0], dtype=torch.float64))
    assert psnr(images, images).isinf().all()


@pytest.mark.parametrize("metric", [psnr, mean_ciede2000, chroma_error])
def test_metrics_refuse_pictures_of_two_sizes(metric):
    with pytest.raises(ValueError, match=r"one shape .* got \(2, 3, 5, 7\) and \(2, 3, 5, 6\)"):
        metric(random_images(0), random_images(0)[..., :-1])


def test_bootstrap_interval_of_a_mean_is_the_normal_one():
    values = np.random.default_rng(0).normal(10, 2, size=400)
    low, high = bootstrap_interval(values, np.random.default_rng(1))
    half = 1.96 * values.std(ddof=1) / 20
    assert low == pytest.approx(values.mean() - half, abs=0.15 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.15 * half)
    assert bootstrap_interval(values, np.random.default_rng(1)) == (low, high)


def test_bootstrap_interval_keeps_the_values_of_a_picture_together():
    original = np.random.default_rng(0).uniform(10, 80, size=200)
    pairs = np.stack([original / 2, original], axis=1)
    low, high = bootstrap_interval(pairs, np.random.default_rng(1), lambda means: means[..., 0] / means[..., 1])
    assert low == pytest.approx(0.5) and high == pytest.approx(0.5)


def test_bootstrap_interval_is_that_of_one_resample_after_the_other():
    pairs = np.random.default_rng(0).uniform(1, 80, size=(1500, 2))
    for values, of_means in ((pairs[:, 0], lambda m: m), (pairs, lambda m: m[..., 0] / m[..., 1])):
        rng = np.random.default_rng(3)
        estimates = [of_means(values[rng.integers(1500, size=1500)].mean(axis=0)) for _ in range(1000)]
        expected = np.quantile(estimates, [0.025, 0.975])
        np.testing.assert_allclose(
            bootstrap_interval(values, np.random.default_rng(3), of_means), expected, rtol=1e-12
        )


def test_intervals_refuse_what_has_none():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="at least one"):
        bootstrap_interval(np.array([]), rng)
    with pytest.raises(ValueError, match="finite"):
        bootstrap_interval(np.array([1, np.inf]), rng)
    with pytest.raises(ValueError, match="`level`"):
        bootstrap_interval(np.ones(3), rng, level=95)
    with pytest.raises(ValueError, match="5 of 4"):
        wilson_interval(5, 4)


def test_wilson_interval():
    low, high = wilson_interval(5, 10)  # figures of the closed form: center 0.5, half width 0.2634
    assert (low, high) == (pytest.approx(0.2366, abs=1e-4), pytest.approx(0.7634, abs=1e-4))
    assert wilson_interval(0, 10)[0] == 0 and wilson_interval(10, 10)[1] == 1
