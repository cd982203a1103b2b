"""Samplers: the oracle recovers the color latent exactly, the literal algorithms agree, Euler transports."""

import pytest
import torch

from colorization import ColdDiffusionScheduler
from colorization.degradation import PREDICTION_TYPES, degrade, linear_severities, prediction_target, start_latent
from colorization.sampling import SAMPLERS, cold_step, default_sampler, euler_step, naive_step, sample, step

STEPS = [1, 2, 5, 50]


def latents(count: int, seed: int = 0) -> tuple[torch.Tensor, ...]:
    return torch.randn(count, 2, 4, 6, 8, generator=torch.Generator().manual_seed(seed)).unbind(0)


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
@pytest.mark.parametrize("noise_scale", [0.0, 0.6])
def test_oracle_recovers_the_color_latent(steps, sampler, prediction_type, noise_scale):
    """The oracle works out severity and state from the timestep alone, so a wrong timestep cannot go unnoticed."""
    z_color, z_gray, noise = latents(3)
    scheduler = ColdDiffusionScheduler(prediction_type=prediction_type, noise_scale=noise_scale)
    z_start = start_latent(z_gray, noise, noise_scale)
    scheduler.set_timesteps(steps)
    assert scheduler.timesteps.is_floating_point()
    z = z_start
    for timestep in scheduler.timesteps:
        severity = timestep / (scheduler.config.num_train_timesteps - 1)
        ideal_z = degrade(z_color, z_start, severity)
        output = prediction_target(z_color, ideal_z, z_start, prediction_type)
        z, z_hat = scheduler.step(output, timestep, z, z_gray, z_start, sampler, return_dict=False)
    torch.testing.assert_close(z, z_color, atol=1e-5, rtol=0)
    torch.testing.assert_close(z_hat, z_color, atol=1e-5, rtol=0)


@pytest.mark.parametrize("severity", [0.3, 0.7])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_oracle_from_a_faded_start(severity, sampler):
    z_color, z_gray = latents(2)
    z, z_hat = sample(
        lambda z, a: z_color, z_gray, linear_severities(5, severity), sampler, degrade(z_color, z_gray, severity)
    )
    torch.testing.assert_close(z, z_color, atol=1e-5, rtol=0)


def test_cold_step_is_cold_diffusions_algorithm_2_written_literally():
    z, z_hat, z_start = latents(3)
    for a, a_next in [(1.0, 0.98), (0.5, 0.25), (0.02, 0.0)]:
        literal = z - degrade(z_hat, z_start, a) + degrade(z_hat, z_start, a_next)
        torch.testing.assert_close(cold_step(z, z_hat, z_start, a, a_next), literal, atol=1e-6, rtol=0)
        paper = z + (a - a_next) * (z_hat - z_start)  # Diffusing Colors: z + (z_hat - z_gray) / T
        torch.testing.assert_close(cold_step(z, z_hat, z_start, a, a_next), paper)


def test_naive_step_is_algorithm_1_and_euler_follows_the_velocity():
    z, z_hat, z_start = latents(3)
    torch.testing.assert_close(naive_step(z_hat, z_start, 0.25), 0.75 * z_hat + 0.25 * z_start)
    torch.testing.assert_close(euler_step(z, z_hat, 0.5, 0.25), z + 0.5 * (z_hat - z))


def test_cold_telescopes_to_the_mean_of_the_predictions():
    z_start = latents(1)[0]
    predictions = iter(latents(5, seed=1))
    z, _ = sample(lambda z, a: next(predictions), z_start, linear_severities(5), "cold")
    torch.testing.assert_close(z, torch.stack(latents(5, seed=1)).mean(0))


@pytest.mark.parametrize(("sampler", "low", "high"), [("euler", 0.95, 1.05), ("cold", 0.45, 0.7), ("naive", 2.0, 5.0)])
def test_transport_of_a_gaussian(sampler, low, high):
    """1-D toy: gray 0, colors N(0, 1), sigma 0.6; the exact predictor is E[z_color | z_a]."""
    sigma, count = 0.6, 40_000
    z_start = sigma * torch.randn(count, 1, 1, 1, generator=torch.Generator().manual_seed(0))

    def predict(z, a):
        return (1 - a) / ((1 - a) ** 2 + (a * sigma) ** 2) * z

    z, _ = sample(predict, z_start, linear_severities(50), sampler)
    assert low < z.std() < high


def test_default_sampler_transports():
    assert default_sampler(0.6) == "euler"
    assert default_sampler(0.0) == "cold"


def test_unknown_sampler_is_named():
    z = torch.zeros(1, 4, 2, 2)
    with pytest.raises(ValueError, match="`sampler` must be one of .* got 'ddim'"):
        step("ddim", z, z, z, 1.0, 0.5)


class TestScheduler:
    def test_round_trip_through_a_folder(self, tmp_path):
        scheduler = ColdDiffusionScheduler(prediction_type="residual", noise_scale=0.3)
        scheduler.save_pretrained(tmp_path)
        again = ColdDiffusionScheduler.from_pretrained(tmp_path)
        for name in ("num_train_timesteps", "prediction_type", "noise_scale", "severity_schedule"):
            assert again.config[name] == scheduler.config[name]

    def test_gray_is_the_noisiest_step(self):
        scheduler = ColdDiffusionScheduler()
        scheduler.set_timesteps(4)
        torch.testing.assert_close(scheduler.timesteps, torch.tensor([999, 749.25, 499.5, 249.75]))

    def test_degrade_adds_scaled_noise(self):
        z_color, z_gray, noise = latents(3)
        scheduler = ColdDiffusionScheduler(noise_scale=0.6)
        expected = 0.5 * z_color + 0.5 * (z_gray + 0.6 * noise)
        torch.testing.assert_close(scheduler.degrade(z_color, z_gray, 0.5, noise), expected)
        with pytest.raises(ValueError, match="`noise` must be given"):
            scheduler.degrade(z_color, z_gray, 0.5)

    def test_tuple_equals_dict(self):
        z, z_gray, output = latents(3)
        scheduler = ColdDiffusionScheduler()
        scheduler.set_timesteps(3)
        as_dict = scheduler.step(output, scheduler.timesteps[1], z, z_gray)
        as_tuple = scheduler.step(output, scheduler.timesteps[1], z, z_gray, return_dict=False)
        assert torch.equal(as_dict.prev_sample, as_tuple[0])
        assert torch.equal(as_dict.pred_original_sample, as_tuple[1])

    def test_arithmetic_is_float32_whatever_the_network(self):
        z, z_gray, output = (t.bfloat16() for t in latents(3))
        scheduler = ColdDiffusionScheduler()
        scheduler.set_timesteps(3)
        result = scheduler.step(output, scheduler.timesteps[0], z, z_gray)
        assert result.prev_sample.dtype == result.pred_original_sample.dtype == torch.float32

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"prediction_type": "epsilon"}, "`prediction_type` must be one of"),
            ({"noise_scale": -0.1}, "`noise_scale` must be 0 or more, got -0.1"),
            ({"severity_schedule": "cosine"}, "`severity_schedule` must be one of"),
            ({"num_train_timesteps": 1}, "`num_train_timesteps` must be at least 2, got 1"),
        ],
    )
    def test_bad_arguments_are_named(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            ColdDiffusionScheduler(**arguments)

    def test_step_refuses_what_it_cannot_do(self):
        z = torch.zeros(1, 4, 2, 2)
        scheduler = ColdDiffusionScheduler(noise_scale=0.6)
        with pytest.raises(ValueError, match="call `set_timesteps` before `step`"):
            scheduler.step(z, 999.0, z, z, z)
        scheduler.set_timesteps(4)
        with pytest.raises(ValueError, match="`timestep` must be one of scheduler.timesteps, got 10.0"):
            scheduler.step(z, 10.0, z, z, z)
        with pytest.raises(ValueError, match="`z_start` must be given when `noise_scale` is 0.6"):
            scheduler.step(z, 999.0, z, z)
