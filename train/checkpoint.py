"""Checkpoints of a run: whole or not there, only what is trained, the oldest removed."""

import json
import re
import shutil
import sys
import zipfile
from pathlib import Path

import torch
from accelerate import Accelerator
from safetensors.torch import save_file

from colorization.errors import ModelLoadError, explain
from colorization.weights import fault_of, read_weights

STATE_FILE = "trainer_state.json"
WEIGHTS_FILE = "trained.safetensors"
_ARCHIVES = (".bin", ".pkl", ".pt", ".pth")  # what torch.save writes
_NAME = re.compile(r"checkpoint-(\d{6,})")


def save_only_trained(accelerator: Accelerator) -> None:
    """Make the accelerator's checkpoints hold the weights that are trained and no others."""

    def save(models, weights, directory):
        for model in models:
            weights.pop()
            module = accelerator.unwrap_model(model)
            trained = {name: p.detach().cpu().contiguous() for name, p in module.named_parameters() if p.requires_grad}
            if accelerator.is_main_process:
                save_file(trained, Path(directory) / WEIGHTS_FILE)

    def load(models, directory):
        while models:
            module = accelerator.unwrap_model(models.pop())
            trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
            stored = read_weights(Path(directory) / WEIGHTS_FILE)
            if stored.keys() != trained.keys():
                raise ModelLoadError(f"checkpoint {directory} holds other weights than those that are trained")
            with torch.no_grad():
                for name, parameter in trained.items():
                    parameter.copy_(stored[name])

    accelerator.register_save_state_pre_hook(save)
    accelerator.register_load_state_pre_hook(load)


def save_checkpoint(accelerator: Accelerator, directory: Path, step: int, state: dict, total_limit: int) -> Path:
    """Write `checkpoint-000123` under a temporary name, rename it, remove the oldest beyond `total_limit`.

    Args:
        accelerator: everything prepared by or registered with it is saved.
        directory: of the run.
        step: optimizer steps done.
        state: what else must be known to go on, as JSON.
        total_limit: checkpoints that may stay, this one included.
    """
    final = directory / f"checkpoint-{step:06d}"
    partial = final.with_name(f".{final.name}.partial")
    if accelerator.is_main_process:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(partial))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        (partial / STATE_FILE).write_text(json.dumps({"step": step} | state, indent=2) + "\n", encoding="utf-8")
        partial.rename(final)
        prune_checkpoints(directory, total_limit)
    accelerator.wait_for_everyone()
    return final


def list_checkpoints(directory: Path) -> list[Path]:
    """Complete checkpoints of a run, oldest first."""
    found = [path for path in directory.glob("checkpoint-*") if _NAME.fullmatch(path.name)]
    return sorted(found, key=lambda path: int(_NAME.fullmatch(path.name)[1]))


def prune_checkpoints(directory: Path, total_limit: int) -> None:
    """Remove the oldest checkpoints beyond `total_limit`, and what a kill left half-written."""
    for path in [*list_checkpoints(directory)[:-total_limit], *directory.glob(".checkpoint-*.partial")]:
        shutil.rmtree(path)


def find_checkpoint(directory: Path, resume: str | None) -> Path | None:
    """The checkpoint to go on from; None begins anew.

    Args:
        directory: of the run.
        resume: None takes the latest whole one there is, "latest" demands one, anything else is its path.

    Raises:
        ValueError: a checkpoint was asked for and is not there, or all that are there are damaged.
    """
    if resume is None or resume == "latest":
        checkpoints = list_checkpoints(directory)
        if not checkpoints and resume is not None:
            raise ValueError(f"`--resume` needs a checkpoint in {directory}, got none")
        faults = []
        for checkpoint in reversed(checkpoints):
            fault = damage(checkpoint)
            if fault is None:
                return checkpoint
            faults.append(fault)
        if faults:
            raise ValueError(f"no checkpoint is whole ({faults[0]}): remove them to begin anew")
        return None
    if not (Path(resume) / STATE_FILE).is_file():
        raise ValueError(f"`--resume` must be a checkpoint folder, got {resume!r}")
    if fault := damage(Path(resume)):
        raise ValueError(f"`--resume` {resume!r} is damaged: {fault}")
    later = [path for path in list_checkpoints(directory) if _step(path) > _step(Path(resume))]
    if later:
        raise ValueError(
            f"`--resume` {resume!r} would go on beside later checkpoints, such as {later[-1]}: remove them, or choose "
            "another --output-dir"
        )
    return Path(resume)


def damage(checkpoint: Path) -> str | None:
    """The first file of a checkpoint that is damaged, and why; None if it is whole."""
    needed = {checkpoint / STATE_FILE, checkpoint / WEIGHTS_FILE}
    for file in sorted(needed.union(checkpoint.glob("*.*"))):
        try:
            fault = _fault_of(file)
        except Exception as error:  # whatever damage provokes
            fault = f"is damaged: {explain(error)}"
        if fault:
            return f"{file}: {fault}"
    return None


def _fault_of(file: Path) -> str | None:
    if file.suffix == ".safetensors":
        return fault_of(file)
    if file.stat().st_size == 0:
        return "the file is empty"
    if file.suffix == ".json":
        if file.name == STATE_FILE and "step" not in json.loads(file.read_text(encoding="utf-8")):
            return "is damaged: it does not say its step"
    elif file.suffix in _ARCHIVES:
        with zipfile.ZipFile(file) as archive:
            if (member := archive.testzip()) is not None:
                return f"is damaged at {member}"
    return None


def set_aside(directory: Path, checkpoint: Path | None) -> None:
    """Rename the damaged checkpoints after the one to go on from, and name them; new ones will take their names."""
    for path in list_checkpoints(directory):
        if checkpoint is not None and _step(path) > _step(checkpoint) and (fault := damage(path)):
            aside = path.with_name(f"{path.name}.damaged")
            shutil.rmtree(aside, ignore_errors=True)
            path.rename(aside)
            print(f"warning: {fault}: going on from {checkpoint}, {path.name} is now {aside.name}", file=sys.stderr)


def _step(checkpoint: Path) -> int:
    """Optimizer steps done, which the name says: the file that does may be damaged."""
    name = _NAME.fullmatch(checkpoint.name)
    return int(name[1]) if name else read_state(checkpoint)["step"]


def read_state(checkpoint: Path) -> dict:
    """What :func:`save_checkpoint` was given as `state`, and the step."""
    return json.loads((checkpoint / STATE_FILE).read_text(encoding="utf-8"))
