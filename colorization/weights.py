"""Weights on disk: opened, or refused in one line that names the file and the cause."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from diffusers import ModelMixin
from safetensors.torch import load_file

from .errors import ModelLoadError, explain

_LFS_POINTER = b"version https://git-lfs"
_LARGEST_HEADER = 100_000_000  # bytes, as in the library itself
_Network = TypeVar("_Network", bound=ModelMixin)
_T = TypeVar("_T")


def fault_of(file: Path) -> str | None:
    """What is wrong with a safetensors file, by its header and its length; None if nothing is."""
    try:
        size = file.stat().st_size
        with open(file, "rb") as stream:
            start = stream.read(8)
            if not start:
                return "the file is empty"
            start += stream.read(len(_LFS_POINTER) - len(start))
            if start == _LFS_POINTER:
                return "is a Git LFS pointer, not the weights: `git lfs pull` fetches them"
            length = int.from_bytes(start[:8], "little")
            if length > _LARGEST_HEADER:
                return "is no safetensors file"
            if 8 + length > size:
                return f"is cut short ({size:,} bytes, the header alone has {8 + length:,})"
            stream.seek(8)
            header = json.loads(stream.read(length))
            ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    except OSError as error:
        return error.strerror or str(error)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        return "is damaged: its header cannot be read"
    whole = 8 + length + max(ends, default=0)
    return None if size == whole else f"is cut short or damaged ({size:,} bytes of {whole:,})"


def check_weights(file: Path) -> None:
    """ModelLoadError on a safetensors file that is damaged, cut short or the pointer of one."""
    fault = fault_of(file)
    if fault is not None:
        raise ModelLoadError(f"{file}: {fault}")


def check_folder(folder: Path) -> None:
    """As :func:`check_weights` of the files that a network's folder is loaded from; variants such as fp16 are not."""
    for file in sorted(folder.glob("*.safetensors")):
        if "." not in file.stem:
            check_weights(file)


def read_weights(file: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file; ModelLoadError names it and the cause."""
    check_weights(file)
    return loading(str(file), lambda: load_file(file))


def load_network(kind: type[_Network], folder: str | os.PathLike, **options) -> _Network:
    """A network from its folder, by `from_pretrained` of its class; ModelLoadError names the file and the cause."""
    check_folder(Path(folder))
    return loading(str(folder), lambda: kind.from_pretrained(folder, use_safetensors=True, **options))


def loading(name: str, load: Callable[[], _T]) -> _T:
    """What `load` gives. Libraries raise whatever they stumble over in files: it becomes a ModelLoadError."""
    try:
        return load()
    except (MemoryError, ModelLoadError):
        raise
    except Exception as error:
        raise ModelLoadError(f"cannot load {name}: {explain(error)}") from error
