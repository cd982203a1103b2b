"""Adapters: what a training adds to a base model, written as small files and put on the base again."""

import json
import os
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from diffusers.utils import convert_state_dict_to_diffusers
from peft.utils import get_peft_model_state_dict
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from .errors import ColorizationWarning, ModelLoadError, explain, one_line
from .hub import download, looks_like_path, read_json
from .pipeline import ColorizationPipeline
from .scheduler import ColdDiffusionScheduler
from .weights import check_folder, read_weights

ADAPTER_NAME = "colorization"
LORA_FILE = "pytorch_lora_weights.safetensors"
CONV_IN_FILE = "conv_in.safetensors"
DEFAULTS_FILE = "pipeline_config.json"
SCHEDULER_FILE = "scheduler/scheduler_config.json"


def save_adapter(
    pipeline: ColorizationPipeline, directory: str | os.PathLike, metadata: Mapping[str, str] | None = None
) -> None:
    """Write what :func:`~colorization.loading.load_pipeline` needs besides the base model, as safetensors and JSON.

    The LoRA file carries its rank and alpha; a UNet with a widened input layer adds that layer in its own file. The
    scheduler's config and the pipeline's defaults go along. Files appear under their names only when all are complete.

    Args:
        pipeline: with an adapter called "colorization" on its UNet.
        directory: is made if need be.
        metadata: texts to store in the LoRA file's header, such as the training's settings.

    Raises:
        ValueError: the UNet has no adapter called "colorization".
    """
    unet, directory = pipeline.unet, Path(directory)
    if ADAPTER_NAME not in getattr(unet, "peft_config", {}):
        raise ValueError(f"`pipeline` must have an adapter called {ADAPTER_NAME!r} on its UNet, got none")
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory, prefix=".saving-") as name:
        folder = Path(name)
        layers = convert_state_dict_to_diffusers(get_peft_model_state_dict(unet, adapter_name=ADAPTER_NAME))
        shape = unet.peft_config[ADAPTER_NAME].to_dict()
        pipeline.save_lora_weights(folder, unet_lora_layers=layers, unet_lora_adapter_metadata=shape)
        if metadata:
            _add_metadata(folder / LORA_FILE, metadata)
        if unet.config.in_channels != pipeline.vae.config.latent_channels:
            tensors = {key: tensor.contiguous().cpu() for key, tensor in unet.conv_in.state_dict().items()}
            save_file(tensors, folder / CONV_IN_FILE)
        pipeline.scheduler.save_pretrained((folder / SCHEDULER_FILE).parent)
        defaults = {key: pipeline.config[key] for key in _default_names()}
        (folder / DEFAULTS_FILE).write_text(json.dumps(defaults, indent=2) + "\n", encoding="utf-8")
        # The LoRA file comes last: an adapter that has it has everything.
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        for file in sorted(files, key=lambda path: path.name == LORA_FILE):
            target = directory / file.relative_to(folder)
            target.parent.mkdir(exist_ok=True)
            file.replace(target)


def _add_metadata(file: Path, metadata: Mapping[str, str]) -> None:
    with safe_open(file, "pt") as opened:
        stored = opened.metadata() or {}
    save_file(load_file(file), file, metadata=stored | dict(metadata))


def widen_conv_in(unet: UNet2DConditionModel, in_channels: int) -> None:
    """Give the UNet's input layer more channels, in place; the new ones start at zero, so outputs stay the same."""
    old = unet.conv_in
    new = torch.nn.Conv2d(in_channels, old.out_channels, old.kernel_size, old.stride, old.padding)
    new = new.to(old.weight.device, old.weight.dtype)
    with torch.no_grad():
        new.weight.zero_()
        new.weight[:, : old.in_channels] = old.weight
        new.bias.copy_(old.bias)
    unet.conv_in = new
    unet.register_to_config(in_channels=in_channels)


def adapter_folder(adapter: str | os.PathLike, revision: str | None) -> Path:
    """The local folder of an adapter, downloaded if need be; its LoRA file is there."""
    folder = Path(adapter)
    if not folder.is_dir():
        if looks_like_path(adapter):
            raise ModelLoadError(f"adapter {str(adapter)!r} is not a folder")
        try:
            folder = download(str(adapter), [LORA_FILE, CONV_IN_FILE, DEFAULTS_FILE, SCHEDULER_FILE], revision)
        except OSError as error:
            raise ModelLoadError(f"cannot load adapter {adapter}: {error}") from error
    elif revision is not None:
        raise ModelLoadError(f"`adapter_revision` {revision!r} makes no sense for the local folder {str(adapter)!r}")
    if not (folder / LORA_FILE).is_file():
        raise ModelLoadError(f"adapter {str(adapter)!r} has no file {LORA_FILE}")
    check_folder(folder)
    return folder


def adapter_scheduler(folder: Path, name: str) -> ColdDiffusionScheduler:
    if (folder / SCHEDULER_FILE).is_file():
        config = read_json(folder / SCHEDULER_FILE)
        try:
            return ColdDiffusionScheduler.from_config(config)
        except (TypeError, ValueError) as error:
            raise ModelLoadError(f"{SCHEDULER_FILE} of adapter {name!r} is wrong: {one_line(error)}") from error
    scheduler = ColdDiffusionScheduler()
    warnings.warn(
        f"the adapter has no {SCHEDULER_FILE}: assuming prediction_type={scheduler.config.prediction_type!r} and "
        f"noise_scale={scheduler.config.noise_scale}",
        ColorizationWarning,
        stacklevel=3,
    )
    return scheduler


def apply_adapter(pipeline: ColorizationPipeline, folder: Path, name: str) -> None:
    if (folder / CONV_IN_FILE).is_file():
        _load_conv_in(pipeline.unet, folder / CONV_IN_FILE, name)
    try:
        pipeline.load_lora_weights(folder, weight_name=LORA_FILE, adapter_name=ADAPTER_NAME)
    except Exception as error:  # whatever the libraries stumble over
        raise ModelLoadError(f"adapter {name!r} does not fit the model: {explain(error)[:300]}") from error
    if ADAPTER_NAME not in pipeline.get_list_adapters().get("unet", []):
        raise ModelLoadError(f"adapter {name!r} holds no layer of the UNet: {LORA_FILE} would change nothing")
    with safe_open(folder / LORA_FILE, "pt") as file:
        stored = sum(key.startswith("unet.") for key in file.keys())
    loaded = len(get_peft_model_state_dict(pipeline.unet, adapter_name=ADAPTER_NAME))
    if loaded < stored:
        raise ModelLoadError(f"adapter {name!r} does not fit the model: only {loaded} of its {stored} tensors do")
    refuse_incomplete(pipeline, f"adapter {name!r}")
    if (folder / DEFAULTS_FILE).is_file():
        defaults = read_json(folder / DEFAULTS_FILE)
        unknown = sorted(set(defaults) - set(_default_names()))
        if unknown:
            raise ModelLoadError(f"{DEFAULTS_FILE} of adapter {name!r} has unknown settings: {', '.join(unknown)}")
        pipeline.register_to_config(**defaults)
        try:
            pipeline.check_model()
        except ValueError as error:
            raise ModelLoadError(f"{DEFAULTS_FILE} of adapter {name!r} is wrong: {one_line(error)}") from error


def _load_conv_in(unet: UNet2DConditionModel, file: Path, name: str) -> None:
    tensors = {key: tensor.to(unet.dtype) for key, tensor in read_weights(file).items()}
    try:
        unet.conv_in.load_state_dict(tensors)
    except RuntimeError as error:
        raise ModelLoadError(
            f"{CONV_IN_FILE} of adapter {name!r} does not fit the model: {one_line(error)}"
        ) from error


def _default_names() -> list[str]:
    """Names of the pipeline's own settings: those of its arguments that are not components."""
    _, optional = ColorizationPipeline._get_signature_keys(ColorizationPipeline)
    return sorted(optional)


def refuse_incomplete(pipeline: ColorizationPipeline, what: str) -> None:
    """ModelLoadError when a weight was in no file; it has no values then."""
    for component, module in pipeline.components.items():
        if not isinstance(module, torch.nn.Module):
            continue
        missing = [name for name, weight in module.named_parameters() if weight.is_meta]
        if missing:
            raise ModelLoadError(f"{what} is incomplete: no values for {missing[0]} of the {component}")
