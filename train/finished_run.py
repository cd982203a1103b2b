"""What a training left behind, as far as it is published."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from colorization.adapters import CONV_IN_FILE, DEFAULTS_FILE, LORA_FILE, SCHEDULER_FILE
from colorization.errors import one_line
from colorization.hub import INDEX_FILE
from colorization.loading import EMBEDDED_MODEL


@dataclass(frozen=True)
class Run:
    """What a run left behind.

    Args:
        kind: "adapter" (for a base model), "model" (complete, loaded by this package) or "full" (complete, with code
            that diffusers loads).
        folder: holds the adapter's or the model's files.
        base: Hub id or folder of the model that was adapted; None for a model that was trained from scratch.
        base_revision: branch, tag or commit of the base.
        config: settings of the training, {} when they are not known.
        settings: of the scheduler and the pipeline, as they are stored with the adapter or the model.
        widened: whether an adapter has an input layer that also sees the gray latent.
        picture: the last picture of the validation.
    """

    kind: str
    folder: Path
    base: str | None = None
    base_revision: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    widened: bool = False
    picture: Path | None = None


def find_run(directory: Path, base: str | None = None, full_model: bool = False) -> Run:
    """What there is to publish in a run's folder, or in a folder that is an adapter or a model itself.

    Args:
        directory: of the run.
        base: the base model, if not the one that the run's config names.
        full_model: whether a complete model with its code is asked for.

    Raises:
        ValueError: there is no adapter and no model, or it is incomplete.
    """
    if not directory.is_dir():
        raise ValueError(f"RUN_DIR must be a folder, got {str(directory)!r}")
    config = _read_config(directory / "config.yaml")
    model_config = config.get("model") or {}
    if base is None:
        base, base_revision = model_config.get("base"), model_config.get("revision")
    else:
        base_revision = None
    candidates = [(directory / "adapter", LORA_FILE), (directory, LORA_FILE)]
    candidates += [(directory / "model", INDEX_FILE), (directory, INDEX_FILE)]
    folder, file = next((found for found in candidates if (found[0] / found[1]).is_file()), (None, None))
    if folder is None:
        raise ValueError(
            f"{str(directory)!r} holds nothing to publish: neither {LORA_FILE} nor {INDEX_FILE}, "
            "in the folder itself or in its folders adapter and model"
        )
    settings, widened = _stored_settings(folder), (folder / CONV_IN_FILE).is_file()
    if not (folder / SCHEDULER_FILE).is_file():
        raise ValueError(f"{str(folder)!r} is incomplete: it has no {SCHEDULER_FILE}")
    if file == LORA_FILE and base is None:
        raise ValueError(f"the base model of {str(directory)!r} is not known: name it with --base-model")
    if file == LORA_FILE and settings.get("noise_scale", 0) > 0 and not widened:
        raise ValueError(f"{str(folder)!r} is incomplete: its noise_scale needs {CONV_IN_FILE}")
    pictures = sorted((directory / "validation").glob("step-*.jpg"), key=_step)
    return Run(
        kind="full" if full_model else "adapter" if file == LORA_FILE else "model",
        folder=folder,
        base=base,
        base_revision=base_revision,
        config=config,
        settings=settings,
        widened=widened,
        picture=pictures[-1] if pictures else None,
    )


def _step(picture: Path) -> int:
    number = picture.stem.removeprefix("step-")
    return int(number) if number.isdecimal() else -1


def _read_config(file: Path) -> dict:
    if not file.is_file():
        return {}
    try:
        config = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{file} cannot be read: {one_line(error)}") from error
    if not isinstance(config, dict) or not isinstance(config.get("model", {}), dict | None):
        raise ValueError(f"{file} must hold a mapping with a mapping `model`")
    return config


def read_json(file: Path) -> dict:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{file} cannot be read: {one_line(error)}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file} must hold a JSON object, got {type(content).__name__}")
    return content


def _stored_settings(folder: Path) -> dict[str, Any]:
    """The scheduler's settings and the pipeline's defaults, from an adapter's or a model's files."""
    stored = {}
    for name in (SCHEDULER_FILE, DEFAULTS_FILE, INDEX_FILE):
        if (folder / name).is_file():
            stored |= read_json(folder / name)
    # Those of the index that are lists name the components; a dict of words is nothing for a table.
    return {
        key: value for key, value in stored.items() if not key.startswith("_") and not isinstance(value, list | dict)
    }


def default_license(base: str | None) -> str:
    """License of weights derived from `base`, by the name of the base; None and "embedded" mean our own weights.

    Raises:
        ValueError: the base is none whose license is known here.
    """
    if base is None or base == EMBEDDED_MODEL:
        return "apache-2.0"
    if "stable-diffusion-2" in base:
        return "openrail++"
    raise ValueError(f"the license of the base model {base!r} is not known here: name it with --license")
