"""What a result depends on besides its settings, to the last bit: recorded with it, so that it can be made again."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import torch
from diffusers import DiffusionPipeline

_VALUES = 16  # of each tensor that count for the digest: any training changes them


def computations(
    pipeline: DiffusionPipeline, network: torch.nn.Module, batches: Sequence[Sequence[int]]
) -> list[dict[str, Any]]:
    """How each output of a call is computed, in the order of its position.

    Args:
        pipeline: whose weights and configuration count.
        network: whose device and dtype count.
        batches: positions of the outputs that go through the networks together.
    """
    common = {
        "weights": weights_digest(pipeline),
        "device": network.device.type,
        "dtype": str(network.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    found = {
        position: common | {"batch_size": len(positions), "batch_position": place}
        for positions in batches
        for place, position in enumerate(positions)
    }
    return [found[position] for position in sorted(found)]


def weights_digest(pipeline: DiffusionPipeline) -> str:
    """Hexadecimal digest that tells models apart: of some values of each tensor, and of the configurations."""
    digest = hashlib.sha256()
    for name, component in sorted(pipeline.components.items()):
        if isinstance(component, torch.nn.Module):
            tensors = list(component.state_dict().values())
            values = torch.cat([tensor.detach().flatten()[:_VALUES].float() for tensor in tensors])
            digest.update(values.cpu().numpy().tobytes())
        config = getattr(component, "config", None)
        if isinstance(config, dict):
            digest.update(f"{name} {_public(config)}".encode())
    digest.update(_public(pipeline.config).encode())
    return digest.hexdigest()[:32]


def _public(config: dict[str, Any]) -> str:
    """A configuration without what only says where it was loaded from, and by which versions."""
    return json.dumps({key: value for key, value in sorted(config.items()) if key[0] != "_"}, default=str)
