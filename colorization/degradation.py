"""The degradation of cold diffusion: color fades to gray along a straight line between two latents.

Severity ``a`` runs from 0 (color) to 1 (gray). The decolorization kernels of Cold Diffusion (Bansal et al. 2022,
section 3), M(a) = (1 - a) I + a J with J the projection on gray, compose, so the degraded sample has a closed form
and no loop over steps is needed. Everything here is a pure function of tensors; all arithmetic is float32.
"""

import torch

from .color import luma

PREDICTION_TYPES = ("velocity", "residual", "sample")
SEVERITY_SCHEDULES = ("linear",)


def to_gray(image: torch.Tensor) -> torch.Tensor:
    """Gray version of an image: three equal channels of Rec. 601 luma.

    Args:
        image: gamma-encoded sRGB of shape `(batch, 3, height, width)`, any affine range (the weights sum to 1, so
            [-1, 1] stays [-1, 1] and [0, 1] stays [0, 1]).

    Returns:
        Tensor of the same shape and range.
    """
    return luma(image).expand_as(image).contiguous()


def broadcast_severity(severity: torch.Tensor | float, z: torch.Tensor) -> torch.Tensor:
    """Severity as a float32 tensor that multiplies `z`: `(1, 1, 1, 1)` from a number, `(batch, 1, 1, 1)` else."""
    severity = torch.as_tensor(severity, dtype=torch.float32, device=z.device)
    return severity.reshape(-1, *[1] * (z.ndim - 1))


def start_latent(z_gray: torch.Tensor, noise: torch.Tensor | None, noise_scale: float) -> torch.Tensor:
    """The latent at severity 1: z_1 = z_gray + sigma * eps; z_gray itself when `noise_scale` (sigma) is 0.

    Args:
        z_gray: gray latent `(batch, channels, height, width)`.
        noise: standard normal noise of the same shape; may be None only when `noise_scale` is 0.
        noise_scale: sigma >= 0.
    """
    if noise_scale == 0:
        return z_gray.float()
    if noise is None:
        raise ValueError(f"`noise` must be given when `noise_scale` is {noise_scale} (only 0 needs none)")
    return z_gray.float() + noise_scale * noise.float()


def degrade(z_color: torch.Tensor, z_start: torch.Tensor, severity: torch.Tensor | float) -> torch.Tensor:
    """D(z_color, a) = (1 - a) z_color + a z_1, the degradation operator.

    Args:
        z_color: latent (or image) in color, `(batch, channels, height, width)`.
        z_start: what severity 1 looks like, same shape: the gray latent, plus noise for a stochastic start.
        severity: number or `(batch,)` tensor in [0, 1].
    """
    a = broadcast_severity(severity, z_color)
    return (1 - a) * z_color.float() + a * z_start.float()


def predict_z_color(
    model_output: torch.Tensor, z: torch.Tensor, severity: torch.Tensor | float, prediction_type: str
) -> torch.Tensor:
    """Turn the network's output into z_hat, the estimate of the color latent, in float32.

    * ``residual``: the output is z_color - z_a, so z_hat = z_a + output (Diffusing Colors, Algorithm 1).
    * ``velocity``: the output is z_color - z_1, so z_hat = z_a + a * output.
    * ``sample``: the output is z_color.

    Args:
        model_output: `(batch, channels, height, width)`, any float dtype.
        z: the latent z_a that the network saw, same shape.
        severity: number or `(batch,)` tensor, the severity of `z`.
        prediction_type: one of the three names above; anything else raises ValueError.
    """
    output = model_output.float()
    if prediction_type == "residual":
        return z.float() + output
    if prediction_type == "velocity":
        return z.float() + broadcast_severity(severity, z) * output
    if prediction_type == "sample":
        return output
    raise ValueError(f"`prediction_type` must be one of {PREDICTION_TYPES}, got {prediction_type!r}")


def prediction_target(
    z_color: torch.Tensor, z: torch.Tensor, z_start: torch.Tensor, prediction_type: str
) -> torch.Tensor:
    """What the network should output for z = D(z_color, a): the inverse of :func:`predict_z_color`, in float32."""
    if prediction_type == "residual":
        return z_color.float() - z.float()
    if prediction_type == "velocity":
        return z_color.float() - z_start.float()
    if prediction_type == "sample":
        return z_color.float()
    raise ValueError(f"`prediction_type` must be one of {PREDICTION_TYPES}, got {prediction_type!r}")


def linear_severities(num_inference_steps: int, start: float = 1.0) -> torch.Tensor:
    """Severities of the sampling steps, from `start` down to 0 in equal parts, both ends included.

    Returns:
        float64 tensor `(num_inference_steps + 1,)`: float64, so that a timestep derived from it still tells the
        severity to float32 precision.
    """
    if num_inference_steps < 1:
        raise ValueError(f"`num_inference_steps` must be at least 1, got {num_inference_steps}")
    if not 0 < start <= 1:
        raise ValueError(f"`severity` must be above 0 and at most 1 (1 = gray), got {start}")
    return start * torch.arange(num_inference_steps, -1, -1, dtype=torch.float64) / num_inference_steps
