"""Saving whole models and single components."""

import copy
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from diffusers import DiffusionPipeline, ModelMixin


@contextmanager
def replaced(directory: Path) -> Iterator[Path]:
    """A path to write a folder to, which takes the place of `directory` once it is complete."""
    partial = directory.with_name(f".{directory.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    yield partial
    shutil.rmtree(directory, ignore_errors=True)
    partial.rename(directory)


def save_pipeline(pipeline: DiffusionPipeline, directory: Path) -> None:
    """Save in diffusers layout."""
    with replaced(directory) as partial:
        pipeline.save_pretrained(partial)
        _tidy(partial)


def save_component(model: ModelMixin, directory: Path) -> None:
    """Save a network in half precision, as a component of a pipeline."""
    with replaced(directory) as partial:
        copy.deepcopy(model).half().save_pretrained(partial)


def _tidy(folder: Path) -> None:
    """Make the JSON files of a saved model say what holds on any machine and version."""
    for file in (folder / "model_index.json", *folder.glob("*/*config.json")):
        settings = json.loads(file.read_text(encoding="utf-8"))
        for key in ("_name_or_path", "is_local", "local_files_only"):
            settings.pop(key, None)
        if file.parent.name == "text_encoder":
            settings["dtype"] = "float32"  # transformers computes in what it says, whatever the weights are stored in
        if settings.get("_class_name") == "AutoencoderTiny":
            settings.pop("block_out_channels", None)  # which this class stores and warns of when it reads it
        text = json.dumps(settings, indent=2, sort_keys=True) + "\n"
        # transformers 5 writes its own name for the class, which no other version knows.
        file.write_text(text.replace("TokenizersBackend", "PreTrainedTokenizerFast"), encoding="utf-8")
