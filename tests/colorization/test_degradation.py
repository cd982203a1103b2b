import pytest
import torch

from colorization.degradation import (
    PREDICTION_TYPES,
    degrade,
    linear_severities,
    predict_z_color,
    prediction_target,
    start_latent,
    to_gray,
)


def test_gray_is_rec601_luma_in_three_equal_channels():
    image = torch.rand(2, 3, 5, 7) * 2 - 1
    gray = to_gray(image)
    expected = 0.299 * image[:, 0] + 0.587 * image[:, 1] + 0.114 * image[:, 2]
    assert gray.shape == image.shape
    for channel in gray.unbind(1):
        torch.testing.assert_close(channel, expected)
    torch.testing.assert_close(to_gray(gray), gray)  # a projection: gray stays gray


def test_degrade_walks_from_color_to_start():
    z_color, z_start = torch.randn(2, 2, 4, 6, 6).unbind(0)
    assert torch.equal(degrade(z_color, z_start, 0), z_color)
    assert torch.equal(degrade(z_color, z_start, 1), z_start)
    per_sample = degrade(z_color, z_start, torch.tensor([0.25, 0.5]))
    torch.testing.assert_close(per_sample[0], 0.75 * z_color[0] + 0.25 * z_start[0])
    torch.testing.assert_close(per_sample[1], 0.5 * z_color[1] + 0.5 * z_start[1])


def test_degradations_compose():
    """M(a) M(b) = M(1 - (1 - a)(1 - b)), the reason why the closed form needs no loop."""
    z_color, z_gray = torch.randn(2, 1, 4, 6, 6).unbind(0)
    twice = degrade(degrade(z_color, z_gray, 0.3), z_gray, 0.4)
    torch.testing.assert_close(twice, degrade(z_color, z_gray, 1 - 0.7 * 0.6))


def test_start_latent_needs_noise_when_stochastic():
    z_gray, noise = torch.randn(2, 1, 4, 6, 6).unbind(0)
    assert torch.equal(start_latent(z_gray, None, 0.0), z_gray)
    torch.testing.assert_close(start_latent(z_gray, noise, 0.6), z_gray + 0.6 * noise)
    with pytest.raises(ValueError, match="`noise` must be given when `noise_scale` is 0.6"):
        start_latent(z_gray, None, 0.6)


@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
@pytest.mark.parametrize("severity", [0.01, 0.5, 1.0])
def test_target_and_prediction_are_inverse(prediction_type, severity):
    z_color, z_start = torch.randn(2, 2, 4, 6, 6).unbind(0)
    z = degrade(z_color, z_start, severity)
    target = prediction_target(z_color, z, z_start, prediction_type)
    torch.testing.assert_close(predict_z_color(target, z, severity, prediction_type), z_color, atol=1e-5, rtol=0)


def test_velocity_target_keeps_its_size_while_the_residual_shrinks():
    z_color, z_start = torch.randn(2, 1, 4, 6, 6).unbind(0)
    sizes = {
        kind: [prediction_target(z_color, degrade(z_color, z_start, a), z_start, kind).norm() for a in (1.0, 0.1)]
        for kind in ("velocity", "residual")
    }
    assert sizes["velocity"][0] == sizes["velocity"][1]
    torch.testing.assert_close(sizes["residual"][1], 0.1 * sizes["residual"][0])


def test_unknown_prediction_type_is_named():
    z = torch.zeros(1, 4, 2, 2)
    with pytest.raises(ValueError, match="`prediction_type` must be one of .* got 'epsilon'"):
        predict_z_color(z, z, 1.0, "epsilon")
    with pytest.raises(ValueError, match="`prediction_type` must be one of .* got 'epsilon'"):
        prediction_target(z, z, z, "epsilon")


def test_linear_severities():
    torch.testing.assert_close(linear_severities(4), torch.tensor([1, 0.75, 0.5, 0.25, 0], dtype=torch.float64))
    torch.testing.assert_close(linear_severities(2, start=0.5), torch.tensor([0.5, 0.25, 0], dtype=torch.float64))
    with pytest.raises(ValueError, match="`num_inference_steps` must be at least 1, got 0"):
        linear_severities(0)
    with pytest.raises(ValueError, match="`severity` must be above 0 and at most 1"):
        linear_severities(4, start=0.0)
