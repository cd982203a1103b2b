"""The training loop, the same for every trainer: accelerate, checkpoints, resume, moving average, logs."""

import json
import logging
import math
import os
import platform
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Protocol

import diffusers
import torch
import transformers
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration, InitProcessGroupKwargs, ProjectConfiguration, set_seed
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, Dataset
from tqdm import tqdm

from colorization.loading import default_device
from colorization.weights import loading

from .checkpoint import (
    find_checkpoint,
    list_checkpoints,
    read_state,
    save_checkpoint,
    save_only_trained,
    set_aside,
)
from .config import AnyTraining, OptimConfig, RunConfig
from .config_file import changed_settings, to_yaml
from .objective import Loss, loss_by_severity

logger = logging.getLogger(__name__)

CONFIG_FILE = "config.yaml"
SUMMARY_FILE = "summary.json"
VAE_STAGE = "vae"  # folder of the small model's first stage
# Settings that may differ when a run goes on: they change no weight, or are there to be extended.
MAY_CHANGE = (
    "run.output_dir",
    "run.max_steps",
    "run.epochs",
    "run.checkpoint_every",
    "run.checkpoints_total_limit",
    "run.validation_every",
    "run.validation_dataset",
    "run.validation_split",
    "run.validation_count",
    "run.trackers",
    "run.log_every",
    "data.cache_directory",
    "data.workers",
)


class TrainingStopped(RuntimeError):
    """The loss is not a finite number; the message names the step and the last good checkpoint."""


class Task(Protocol):
    """What is trained: a network and the loss of a batch."""

    network: nn.Module

    def loss(self, network: nn.Module, batch: dict[str, torch.Tensor]) -> Loss: ...


def cpu_time() -> float:
    """CPU seconds of this process and of those it has started, as far as they have ended."""
    return sum(os.times()[:4])  # user and system, its own and its children's


def create_accelerator(run: RunConfig) -> Accelerator:
    """An accelerator for the run's precision, accumulation and trackers."""
    directory = Path(run.output_dir)
    accelerator = Accelerator(
        mixed_precision=run.mixed_precision,
        gradient_accumulation_steps=run.gradient_accumulation_steps,
        log_with=None if run.trackers == "none" else run.trackers,
        project_config=ProjectConfiguration(project_dir=str(directory), logging_dir=str(directory / "logs")),
        # Without `cpu` several processes on a machine without accelerator would not know of each other.
        cpu=default_device().type == "cpu",
        # A batch is the whole world's; every process takes its slice, so samples do not depend on their number.
        dataloader_config=DataLoaderConfiguration(split_batches=True),
        # One process encodes captions or validates while the others wait.
        kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(hours=6))],
    )
    if run.trackers != "none" and not accelerator.log_with:
        raise ValueError(f"`run.trackers` {run.trackers} needs its package: pip install {run.trackers}")
    return accelerator


def total_steps(run: RunConfig, photos: int, processes: int) -> int:
    """Optimizer steps of the whole run."""
    if run.max_steps is not None:
        return run.max_steps
    return -(-run.epochs * photos // samples_per_step(run, processes))


def samples_per_step(run: RunConfig, processes: int) -> int:
    """Samples that one optimizer step sees, over all processes."""
    return run.batch_size * run.gradient_accumulation_steps * processes


def write_config(config: AnyTraining, resume: str | None, main_process: bool) -> Path | None:
    """Store the settings in the run's folder and find the checkpoint to go on from.

    Raises:
        ValueError: the folder holds a run with other settings, or a demanded checkpoint is missing.
    """
    directory = Path(config.run.output_dir)
    if resume == "latest" and list_checkpoints(directory / VAE_STAGE):
        resume = None  # stopped before the UNet's first checkpoint
    checkpoint = find_checkpoint(directory, resume)
    text = to_yaml(config)
    stored = directory / CONFIG_FILE
    begun = checkpoint is not None or (directory / VAE_STAGE).is_dir()
    if begun and stored.is_file():
        changed = changed_settings(stored.read_text(encoding="utf-8"), config)
        matter = {key: values for key, values in changed.items() if key not in MAY_CHANGE}
        if matter:
            what = ", ".join(f"{key} was {old!r} and is {new!r}" for key, (old, new) in matter.items())
            raise ValueError(f"{directory} holds a run with other settings ({what}): choose another --output-dir")
    if main_process:
        directory.mkdir(parents=True, exist_ok=True)
        set_aside(directory, checkpoint)
        temporary = stored.with_suffix(".tmp")
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(stored)
    return checkpoint


def build_optimizer(network: nn.Module, optim: OptimConfig) -> torch.optim.Optimizer:
    """AdamW of what requires a gradient, with 8-bit state and factors on the learning rate where asked for."""
    if optim.eight_bit:
        try:
            from bitsandbytes.optim import AdamW8bit as AdamW
        except ImportError as error:
            raise ValueError("`optim.eight_bit` needs the package bitsandbytes: pip install bitsandbytes") from error
    else:
        AdamW = torch.optim.AdamW
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            factors = [factor for prefix, factor in optim.rate_factors.items() if name.startswith(prefix)]
            groups.setdefault(math.prod(factors), []).append(parameter)
    parameters = [{"params": group, "lr": factor * optim.learning_rate} for factor, group in groups.items()]
    return AdamW(parameters, lr=optim.learning_rate, betas=optim.betas, weight_decay=optim.weight_decay)


def train(
    task: Task,
    dataset: Dataset,
    optim: OptimConfig,
    run: RunConfig,
    accelerator: Accelerator,
    checkpoint: Path | None,
    directory: Path,
    validate: Callable[[int], None] | None = None,
    workers: int = 0,
) -> dict:
    """Train until `dataset` ends; afterwards `task.network` holds the weights to keep (the average, with EMA).

    Args:
        task: network and loss.
        dataset: the run's samples by position, a whole number of steps.
        optim, run: settings.
        accelerator: from :func:`create_accelerator`.
        checkpoint: what to go on from; None begins anew.
        directory: where checkpoints go.
        validate: called with the step every `run.validation_every` steps and at the end, on the main process only,
            while the network holds the weights to keep.
        workers: processes that load samples.

    Returns:
        steps, samples, seconds on the clock, CPU seconds of this process and its workers (of a run that was stopped,
        without what the workers had done until then), last loss, machine and versions.

    Raises:
        TrainingStopped: the loss or the gradient was not finite.
        ValueError: the checkpoint was made with other processes.
    """
    # The very list that is optimised is clipped: an iterator would be used up by the optimizer, and nothing clipped.
    trainable = [parameter for parameter in task.network.parameters() if parameter.requires_grad]
    batch_size = run.batch_size * accelerator.num_processes
    per_step = batch_size * run.gradient_accumulation_steps
    steps = len(dataset) // per_step
    torch.backends.cudnn.benchmark = True  # all batches have one shape, so the search for fast kernels pays
    if run.channels_last:
        task.network.to(memory_format=torch.channels_last)
    if run.compile:
        task.network.compile()
    optimizer = build_optimizer(task.network, optim)
    name = "constant_with_warmup" if optim.schedule == "constant" else optim.schedule  # "constant" has no warm-up
    schedule = get_scheduler(name, optimizer, num_warmup_steps=optim.warmup_steps, num_training_steps=steps)
    network, optimizer, schedule = accelerator.prepare(task.network, optimizer, schedule)
    ema = None
    if optim.ema_decay > 0:
        ema = EMAModel(trainable, decay=optim.ema_decay, foreach=True)
        accelerator.register_for_checkpointing(ema)
    save_only_trained(accelerator)
    step, seconds, cpu_seconds = 0, 0.0, 0.0
    if checkpoint is not None:
        loading(str(checkpoint), lambda: accelerator.load_state(str(checkpoint)))
        state = read_state(checkpoint)
        step, seconds, cpu_seconds = state["step"], state["seconds"], state.get("cpu_seconds", 0.0)
        if state["samples_per_step"] != per_step:
            raise ValueError(
                f"{checkpoint} was made with {state['samples_per_step']} samples per step, this run takes {per_step}: "
                "use as many processes as before"
            )
    if ema is not None:
        ema.to(accelerator.device)

    first = step * per_step
    loader = DataLoader(
        dataset,
        batch_sampler=BatchSampler(range(first, len(dataset)), batch_size, drop_last=True),
        num_workers=workers,
        pin_memory=accelerator.device.type == "cuda",
    )
    loader = accelerator.prepare(loader)

    log, started, started_cpu, last = _Log(), time.perf_counter(), cpu_time(), checkpoint
    bar = tqdm(total=steps, initial=step, desc="training", unit="step", disable=not accelerator.is_local_main_process)
    network.train()
    for batch in loader:
        # Nothing here should draw from global state; if a library does, it still is the same after a resume.
        set_seed((run.seed + step) % 2**31, device_specific=True)
        with accelerator.accumulate(network):
            loss = task.loss(network, batch)
            mean = accelerator.reduce(loss.total.detach(), reduction="mean")
            if not torch.isfinite(mean):
                raise TrainingStopped(f"the loss is {mean.item()} at step {step + 1}; {_kept(last)}")
            accelerator.backward(loss.total)
            if accelerator.sync_gradients:
                log.norm = accelerator.clip_grad_norm_(trainable, optim.max_grad_norm)
                # With fp16 the gradient scaler skips such steps itself.
                if run.mixed_precision != "fp16" and not torch.isfinite(log.norm):
                    raise TrainingStopped(f"the gradient is {log.norm.item()} at step {step + 1}; {_kept(last)}")
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        log.add(mean, loss)
        if not accelerator.sync_gradients:
            continue
        step += 1
        if ema is not None and not accelerator.optimizer_step_was_skipped:
            ema.step(trainable)
        rate = (step * per_step - first) / (time.perf_counter() - started)
        bar.update()
        bar.set_postfix_str(f"{rate:.1f} images/s, loss {mean.item():.4f}")
        if step % run.log_every == 0 or step == steps:
            accelerator.log(log.collect(accelerator, schedule) | {"images_per_second": rate}, step=step)
        if step % run.checkpoint_every == 0 or step == steps:
            state = {"seconds": seconds + time.perf_counter() - started, "loss": mean.item()}
            state["cpu_seconds"] = cpu_seconds + cpu_time() - started_cpu
            state["samples_per_step"] = per_step
            last = save_checkpoint(accelerator, directory, step, state, run.checkpoints_total_limit)
        if validate is not None and run.validation_every and (step % run.validation_every == 0 or step == steps):
            _with_average(ema, trainable, accelerator, lambda at=step: validate(at))
            network.train()
    bar.close()
    if ema is not None:
        ema.copy_to(trainable)
    accelerator.wait_for_everyone()
    state = read_state(last) if last is not None else {"loss": None}
    return {
        "steps": step,
        "samples": step * per_step,
        "seconds": round(seconds + time.perf_counter() - started, 1),
        "cpu_seconds": round(cpu_seconds + cpu_time() - started_cpu, 1),
        "processes": accelerator.num_processes,
        "loss": state["loss"],
        "device": device_name(accelerator.device),
        "versions": versions(),
    }


def _kept(checkpoint: Path | None) -> str:
    return f"the last good checkpoint is {checkpoint}" if checkpoint else "no checkpoint had been saved"


def versions() -> dict[str, str]:
    """Of Python and of the packages that make the weights."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "transformers": transformers.__version__,
    }


def device_name(device: torch.device) -> str:
    """The accelerator's name, or the processor's with its threads."""
    if device.type == "cuda":
        return torch.cuda.getdevice_name(device)
    return f"{platform.machine()} {device.type}, {torch.get_num_threads()} threads"


def _with_average(ema: EMAModel | None, trainable: list, accelerator: Accelerator, call: Callable[[], None]) -> None:
    """Call on the main process while the weights are the moving average."""
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        if ema is not None:
            ema.store(trainable)
            ema.copy_to(trainable)
        call()
        if ema is not None:
            ema.restore(trainable)
    accelerator.wait_for_everyone()


class _Log:
    """What happened since the last logged step."""

    def __init__(self):
        self.norm: torch.Tensor | None = None
        self._clear()

    def _clear(self) -> None:
        self.losses, self.parts, self.per_sample, self.severities = [], [], [], []

    def add(self, mean: torch.Tensor, loss: Loss) -> None:
        self.losses.append(mean)
        self.parts.append(loss.parts)
        if loss.severity is not None:
            self.per_sample.append(loss.per_sample)
            self.severities.append(loss.severity)

    def collect(self, accelerator: Accelerator, schedule) -> dict[str, float]:
        """Values for the trackers, over all processes, and begin anew."""
        values = {"loss": float(torch.stack(self.losses).mean()), "learning_rate": schedule.get_last_lr()[0]}
        if self.norm is not None:
            values["gradient_norm"] = float(self.norm)
        for name in self.parts[0]:
            mean = torch.stack([part[name] for part in self.parts]).mean()
            values[f"loss/{name}"] = float(accelerator.reduce(mean, reduction="mean"))
        if self.per_sample:
            per_sample = accelerator.gather(torch.cat(self.per_sample))
            severities = accelerator.gather(torch.cat(self.severities))
            binned = loss_by_severity(per_sample, severities)
            values |= {f"loss_at_severity/{name}": value for name, value in binned.items()}
            values["severity/mean"] = float(severities.mean())
            values["severity/deviation"] = float(severities.std())
        self._clear()
        return values


def write_summary(directory: Path, summary: dict) -> None:
    """Store what :func:`train` returned."""
    temporary = directory / f"{SUMMARY_FILE}.tmp"
    temporary.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    temporary.replace(directory / SUMMARY_FILE)
