"""The diffusers face of the degradation and the samplers."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from diffusers.utils import BaseOutput

from . import sampling
from .degradation import (
    PREDICTION_TYPES,
    SEVERITY_SCHEDULES,
    degrade,
    linear_severities,
    predict_z_color,
    start_latent,
)


@dataclass
class ColdDiffusionSchedulerOutput(BaseOutput):
    """Result of :meth:`ColdDiffusionScheduler.step`.

    Args:
        prev_sample (`torch.Tensor` of shape `(batch_size, num_channels, height, width)`):
            Latent at the next, smaller severity, float32.
        pred_original_sample (`torch.Tensor` of shape `(batch_size, num_channels, height, width)`):
            z_hat, the predicted color latent, float32.
    """

    prev_sample: torch.Tensor
    pred_original_sample: torch.Tensor


class ColdDiffusionScheduler(SchedulerMixin, ConfigMixin):
    """Scheduler of cold diffusion by desaturation. It holds no per-image tensors.

    Args:
        num_train_timesteps (`int`, defaults to 1000):
            N: the UNet's timestep is severity * (N - 1), so gray is the noisiest step of the pretrained UNet.
        prediction_type (`str`, defaults to `"velocity"`):
            What the UNet predicts: `"velocity"` (z_color - z_start), `"residual"` (z_color - z), `"sample"` (z_color).
        noise_scale (`float`, defaults to 0.0):
            Sigma of the stochastic start z_gray + sigma * noise; 0 is deterministic cold diffusion.
        severity_schedule (`str`, defaults to `"linear"`):
            How severities are spaced over the inference steps; `"linear"` is the only one.
    """

    @register_to_config
    def __init__(
        self,
        num_train_timesteps: int = 1000,
        prediction_type: str = "velocity",
        noise_scale: float = 0.0,
        severity_schedule: str = "linear",
    ):
        if num_train_timesteps < 2:
            raise ValueError(f"`num_train_timesteps` must be at least 2, got {num_train_timesteps}")
        if prediction_type not in PREDICTION_TYPES:
            raise ValueError(f"`prediction_type` must be one of {PREDICTION_TYPES}, got {prediction_type!r}")
        if not noise_scale >= 0:
            raise ValueError(f"`noise_scale` must be 0 or more, got {noise_scale}")
        if severity_schedule not in SEVERITY_SCHEDULES:
            raise ValueError(f"`severity_schedule` must be one of {SEVERITY_SCHEDULES}, got {severity_schedule!r}")
        self.severities: torch.Tensor | None = None
        self.timesteps: torch.Tensor | None = None
        self.num_inference_steps: int | None = None

    def set_timesteps(
        self, num_inference_steps: int, device: str | torch.device | None = None, severity: float = 1.0
    ) -> None:
        """Set the severities and float timesteps of one sampling run.

        Args:
            num_inference_steps: T >= 1.
            device: where `timesteps` shall live.
            severity: where to start, in (0, 1]; below 1 for faded color photographs.
        """
        self.num_inference_steps = num_inference_steps
        self.severities = linear_severities(num_inference_steps, severity)
        # MPS has no float64; float32 timesteps still name their step unambiguously, see _step_index.
        self.timesteps = self.severity_to_timestep(self.severities[:-1]).float().to(device)

    def severity_to_timestep(self, severity: torch.Tensor) -> torch.Tensor:
        """The UNet's (float) timestep of a severity: a * (N - 1)."""
        return severity * (self.config.num_train_timesteps - 1)

    def degrade(
        self,
        z_color: torch.Tensor,
        z_gray: torch.Tensor,
        severity: torch.Tensor | float,
        noise: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """z_a = (1 - a) z_color + a (z_gray + noise_scale * noise), float32.

        Args:
            z_color, z_gray: latents `(batch, channels, height, width)`.
            severity: number or `(batch,)` tensor in [0, 1].
            noise: standard normal, same shape; required when `noise_scale` > 0.
        """
        return degrade(z_color, start_latent(z_gray, noise, self.config.noise_scale), severity)

    def _step_index(self, timestep: torch.Tensor | float) -> int:
        if self.timesteps is None:
            raise ValueError("call `set_timesteps` before `step`")
        distance = (
            self.timesteps - torch.as_tensor(timestep, dtype=torch.float32, device=self.timesteps.device)
        ).abs()
        index = int(distance.argmin())
        if distance[index] > 1e-3:
            raise ValueError(f"`timestep` must be one of scheduler.timesteps, got {float(timestep)}")
        return index

    def step(
        self,
        model_output: torch.Tensor,
        timestep: torch.Tensor | float,
        sample: torch.Tensor,
        z_gray: torch.Tensor,
        z_start: torch.Tensor | None = None,
        sampler: str | None = None,
        constrain: Callable[[torch.Tensor], torch.Tensor] | None = None,
        return_dict: bool = True,
    ) -> ColdDiffusionSchedulerOutput | tuple[torch.Tensor, torch.Tensor]:
        """Predict the color latent and move to the next severity.

        Args:
            model_output: the UNet's output (after guidance), `(batch, channels, height, width)`.
            timestep: one of `self.timesteps`.
            sample: the current latent z.
            z_gray: the gray latent.
            z_start: the latent at severity 1; required when `noise_scale` > 0, default `z_gray`.
            sampler: "cold", "naive" or "euler"; None is "euler" when `noise_scale` > 0, else "cold".
            constrain: applied to the predicted color latent before the step, e.g. to put in what is known of it.
            return_dict: False returns a tuple.
        """
        noise_scale = self.config.noise_scale
        if z_start is None:
            if noise_scale > 0:
                raise ValueError(f"`z_start` must be given when `noise_scale` is {noise_scale} (only 0 needs none)")
            z_start = z_gray
        index = self._step_index(timestep)
        severity, next_severity = self.severities[index], self.severities[index + 1]
        z_hat = predict_z_color(model_output, sample, severity, self.config.prediction_type)
        z_hat = z_hat if constrain is None else constrain(z_hat)
        sampler = sampling.default_sampler(noise_scale) if sampler is None else sampler
        prev_sample = sampling.step(sampler, sample, z_hat, z_start, severity, next_severity)
        if not return_dict:
            return prev_sample, z_hat
        return ColdDiffusionSchedulerOutput(prev_sample=prev_sample, pred_original_sample=z_hat)
