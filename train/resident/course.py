"""The course of a training limited by the clock: learning rates, moving average, steps until the time is over."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

_MAX_GRADIENT_NORM = 1.0
_REPORT_SECONDS = 20.0
_IN_FLIGHT = 8  # steps that the device may lag behind, so that the clock is its clock too


@dataclass
class Clock:
    """How far a training is, by its time.

    Args:
        seconds: that the training may take.
    """

    seconds: float
    started: float = field(default_factory=time.monotonic)

    def restart(self) -> None:
        """Begin now."""
        self.started = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    @property
    def progress(self) -> float:
        """Share of the time that is over, in [0, 1]."""
        return min(self.elapsed / self.seconds, 1.0)


class MovingAverage:
    """Exponential moving average of weights.

    Args:
        parameters: the weights.
        decay: share of the average that a step keeps; less at the beginning, as there is nothing to remember.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], decay: float):
        self.parameters, self.decay, self.steps = list(parameters), decay, 0
        self.average = [parameter.detach().clone() for parameter in self.parameters]

    @torch.no_grad()
    def step(self) -> None:
        """Take in the weights as they are."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(self.average, self.parameters, 1 - decay)

    @torch.no_grad()
    def keep(self) -> None:
        """Make the weights the average."""
        for parameter, average in zip(self.parameters, self.average, strict=True):
            parameter.copy_(average)


@dataclass(frozen=True)
class Rates:
    """Learning rates: a linear warm-up, then down to 0 at the end of the time.

    Args:
        peaks: of each of the optimizer's groups.
        warmups: steps of each group's warm-up.
    """

    peaks: tuple[float, ...]
    warmups: tuple[int, ...]

    def apply(self, optimizer: torch.optim.Optimizer, step: int, progress: float) -> None:
        """Set the rates of a step, counted from 0."""
        for group, peak, warmup in zip(optimizer.param_groups, self.peaks, self.warmups, strict=True):
            group["lr"] = peak * min((step + 1) / warmup, 1.0) * (1 - progress)


def train_by_clock(
    loss: Callable[[], torch.Tensor],
    optimizer: torch.optim.Optimizer,
    rates: Rates,
    average: MovingAverage,
    clock: Clock,
    batch_size: int,
    name: str,
) -> dict:
    """Steps until the time is over.

    Args:
        loss: draws a batch; gives the mean loss, 0-d.
        optimizer, rates, average: of what is trained.
        clock: of the training.
        batch_size: samples of a step, for the report.
        name: of the training, for the report.

    Returns:
        steps, samples, seconds, last mean loss.

    Raises:
        FloatingPointError: the loss is not finite.
    """
    step, losses, reported, counted, mean = 0, [], clock.elapsed, 0, math.nan
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    while clock.progress < 1:
        rates.apply(optimizer, step, clock.progress)
        value = loss()
        value.backward()
        nn.utils.clip_grad_norm_(parameters, _MAX_GRADIENT_NORM, foreach=True)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        average.step()
        losses.append(value.detach())
        step += 1
        if step % _IN_FLIGHT == 0:
            value.item()
        if clock.elapsed - reported >= _REPORT_SECONDS or clock.progress == 1:
            mean = torch.stack(losses).mean().item()
            if not math.isfinite(mean):
                raise FloatingPointError(f"the loss of the {name} is {mean} at step {step}")
            rate = (step - counted) * batch_size / (clock.elapsed - reported)
            print(f"{name} {clock.elapsed:.0f} s: step {step}, {rate:.0f} samples/s, loss {mean:.4f}", flush=True)
            losses, reported, counted = [], clock.elapsed, step
    return {"steps": step, "samples": step * batch_size, "seconds": round(clock.elapsed, 1), "loss": mean}
