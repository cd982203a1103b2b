"""Samplers of cold diffusion as pure functions: one step each, and the loop.

Notation: z is the latent at severity a, z_hat the predicted color latent, z_start (z_1) the latent at severity 1.
For a perfect predictor the three samplers agree; for a real one they do not:

* ``cold`` (Cold Diffusion, Algorithm 2): its updates telescope, the final state is the mean of all predictions.
* ``naive`` (Cold Diffusion, Algorithm 1): degrades each prediction afresh.
* ``euler``: integrates dz/da along the re-estimated velocity; the only one that transports a distribution, hence the
  default for a stochastic start.
"""

from collections.abc import Callable

import torch

from .degradation import broadcast_severity, degrade

SAMPLERS = ("cold", "naive", "euler")


def cold_step(
    z: torch.Tensor,
    z_hat: torch.Tensor,
    z_start: torch.Tensor,
    severity: torch.Tensor | float,
    next_severity: torch.Tensor | float,
) -> torch.Tensor:
    """Cold Diffusion's Algorithm 2: z <- z - D(z_hat, a_k) + D(z_hat, a_{k-1}), simplified.

    With D linear in a the two degradations differ by (a_k - a_{k-1}) (z_hat - z_1); Diffusing Colors' Algorithm 2
    writes the same as z + (z_hat - z_1) / T. Shapes `(batch, channels, height, width)`; float32 result.
    """
    step = broadcast_severity(severity, z) - broadcast_severity(next_severity, z)
    return z.float() + step * (z_hat.float() - z_start.float())


def naive_step(z_hat: torch.Tensor, z_start: torch.Tensor, next_severity: torch.Tensor | float) -> torch.Tensor:
    """Cold Diffusion's Algorithm 1: z <- D(z_hat, a_{k-1}). float32 result."""
    return degrade(z_hat, z_start, next_severity)


def euler_step(
    z: torch.Tensor,
    z_hat: torch.Tensor,
    severity: torch.Tensor | float,
    next_severity: torch.Tensor | float,
) -> torch.Tensor:
    """One Euler step along the estimated velocity (z_hat - z) / a_k, of length a_k - a_{k-1}. float32 result."""
    a, a_next = broadcast_severity(severity, z), broadcast_severity(next_severity, z)
    return z.float() + (a - a_next) / a * (z_hat.float() - z.float())


def step(
    sampler: str,
    z: torch.Tensor,
    z_hat: torch.Tensor,
    z_start: torch.Tensor,
    severity: torch.Tensor | float,
    next_severity: torch.Tensor | float,
) -> torch.Tensor:
    """One step of the named sampler from `severity` down to `next_severity`; ValueError on an unknown name."""
    if sampler == "cold":
        return cold_step(z, z_hat, z_start, severity, next_severity)
    if sampler == "naive":
        return naive_step(z_hat, z_start, next_severity)
    if sampler == "euler":
        return euler_step(z, z_hat, severity, next_severity)
    raise ValueError(f"`sampler` must be one of {SAMPLERS}, got {sampler!r}")


def default_sampler(noise_scale: float) -> str:
    """ "euler" for a stochastic start, where "cold" would not transport the distribution; "cold" otherwise."""
    return "euler" if noise_scale > 0 else "cold"


def sample(
    predict: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    z_start: torch.Tensor,
    severities: torch.Tensor,
    sampler: str = "cold",
    z: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Diffusing Colors' Algorithm 2 without guidance: repeat "predict, step" down the severities.

    Args:
        predict: maps (z, severity) to z_hat; severity is a 0-d tensor.
        z_start: latent at severity 1, `(batch, channels, height, width)`.
        severities: `(steps + 1,)`, decreasing, ending at 0 (:func:`~colorization.degradation.linear_severities`).
        sampler: "cold", "naive" or "euler".
        z: the latent at `severities[0]` when that is below 1; default `z_start`.

    Returns:
        The last state z and the last prediction z_hat, both float32.
    """
    z = z_start.float() if z is None else z.float()
    for severity, next_severity in zip(severities[:-1], severities[1:], strict=True):
        z_hat = predict(z, severity)
        z = step(sampler, z, z_hat, z_start, severity, next_severity)
    return z, z_hat
