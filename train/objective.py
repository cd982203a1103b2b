"""What the network is asked for and how far off it is: severities, targets and losses, pure functions, float32.

Losses come per sample, `(batch,)`, so that they can be told apart by severity.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from colorization.color import rgb_to_chroma
from colorization.degradation import degrade, predict_z_color, prediction_target, start_latent


@dataclass(frozen=True)
class Loss:
    """Losses of one batch.

    Args:
        total: what is minimised, 0-d.
        per_sample: `(batch,)`, detached.
        severity: `(batch,)`; None where there is none.
        parts: mean of each unweighted term, for the log.
    """

    total: torch.Tensor
    per_sample: torch.Tensor
    severity: torch.Tensor | None
    parts: dict[str, torch.Tensor]


def draw_severity(
    rng: np.random.Generator, distribution: str, parameters: tuple[float, float] = (1.0, 1.0), progress: float = 0.0
) -> float:
    """One severity in [0, 1].

    * ``uniform``: Diffusing Colors, Algorithm 1.
    * ``shifted``: uniform during the first half of the training, then with density 2a, which leans to gray.
    * ``beta``: Beta(p, q) with `parameters` (p, q); p > q leans to gray.
    * ``logit_normal``: sigmoid of a normal variable with `parameters` (mean, standard deviation).

    Args:
        rng: source of randomness.
        distribution: one of the names above; ValueError else.
        parameters: see above; unused by the first two.
        progress: share of the training that is done, in [0, 1]; only "shifted" looks at it.
    """
    if distribution == "uniform":
        return float(rng.uniform())
    if distribution == "shifted":
        u = float(rng.uniform())
        return u if progress < 0.5 else u**0.5
    if distribution == "beta":
        return float(rng.beta(*parameters))
    if distribution == "logit_normal":
        return float(1 / (1 + np.exp(-rng.normal(*parameters))))
    names = ("uniform", "shifted", "beta", "logit_normal")
    raise ValueError(f"`distribution` must be one of {names}, got {distribution!r}")


def training_pair(
    z_color: torch.Tensor,
    z_gray: torch.Tensor,
    noise: torch.Tensor | None,
    severity: torch.Tensor,
    noise_scale: float,
    prediction_type: str,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The latent z_a that the network sees and the target of its output (Diffusing Colors, Algorithm 1).

    Args:
        z_color, z_gray: latents `(batch, channels, height, width)`.
        noise: standard normal, same shape; None is allowed when `noise_scale` is 0.
        severity: `(batch,)` in [0, 1].
        noise_scale: sigma of the stochastic start.
        prediction_type: "velocity", "residual" or "sample".
    """
    z_start = start_latent(z_gray, noise, noise_scale)
    z = degrade(z_color, z_start, severity)
    return z, prediction_target(z_color, z, z_start, prediction_type)


def latent_loss(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean squared error on the network's own target, per sample.

    On its own target, because a mean squared error on z_hat would weigh a velocity by a^2: next to nothing is then
    learned where color is nearly there.
    """
    return (output.float() - target.float()).square().mean(dim=(1, 2, 3))


def estimate_z_color(
    output: torch.Tensor, z: torch.Tensor, severity: torch.Tensor, prediction_type: str
) -> torch.Tensor:
    """z_hat of the output, for the losses on decoded pictures."""
    return predict_z_color(output, z, severity, prediction_type)


def hsv_saturation(image: torch.Tensor) -> torch.Tensor:
    """S of HSV, `(batch, height, width)` in [0, 1], of RGB `(batch, 3, height, width)` in [0, 1]; 0 for black."""
    high, low = image.amax(dim=1), image.amin(dim=1)
    return (high - low) / high.clamp_min(1e-3)


def saturation_loss(image: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean absolute difference of the HSV saturation of two pictures in [0, 1], per sample."""
    return (hsv_saturation(image) - hsv_saturation(target)).abs().mean(dim=(1, 2))


def alignment_loss(features: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """1 - cosine similarity of two maps of features `(batch, channels, h, w)`, mean of the positions, per sample."""
    return 1 - F.cosine_similarity(features.float(), target.float(), dim=1).mean(dim=(1, 2))


def loss_by_severity(losses: torch.Tensor, severities: torch.Tensor, bins: int = 5) -> dict[str, float]:
    """Mean loss in equal bins of severity, by the bin's name ("0.0-0.2"); empty bins are left out."""
    index = (severities * bins).long().clamp(0, bins - 1)
    means = {}
    for i in range(bins):
        chosen = losses[index == i]
        if len(chosen):
            means[f"{i / bins:.1f}-{(i + 1) / bins:.1f}"] = float(chosen.mean())
    return means


def autoencoder_loss(
    decoded: torch.Tensor,
    target: torch.Tensor,
    z: torch.Tensor,
    chroma_weight: float,
    gradient_weight: float,
    energy_weight: float,
) -> torch.Tensor:
    """Loss of the small model's autoencoder, per sample.

    L1 of the pictures, of their chroma planes and of their gradients, and the squared size of the latents.

    Args:
        decoded, target: pictures `(batch, 3, height, width)` in [-1, 1].
        z: latents of the targets `(batch, channels, h, w)`.
    """

    def distance(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        return (first - second).abs().mean(dim=(1, 2, 3))

    error = decoded.float() - target
    gradients = error.diff(dim=2).abs().mean(dim=(1, 2, 3)) + error.diff(dim=3).abs().mean(dim=(1, 2, 3))
    chroma = distance(rgb_to_chroma(decoded.float() / 2 + 0.5), rgb_to_chroma(target / 2 + 0.5))
    energy = z.float().square().mean(dim=(1, 2, 3))
    loss = distance(decoded.float(), target) + chroma_weight * chroma
    return loss + gradient_weight * gradients + energy_weight * energy
