"""No network: color hints spread over the whole photograph (Levin, Lischinski, Weiss 2004, "Colorization using
Optimization"). Without hints the photograph stays gray."""

import math
from collections.abc import Sequence

import torch
from diffusers.configuration_utils import register_to_config

from ..hints import HintField
from .base import Baseline


class OptimizationBaseline(Baseline):
    """Chroma of each pixel is the mean of its neighbors', weighted by how alike their luma is; hints are fixed."""

    size_multiple = 1
    hint_reach = math.inf

    @register_to_config
    def __init__(self):
        super().__init__()
        # diffusers asks a model's tensors for its device and type, and stores no model that has none.
        self.register_buffer("no_weights", torch.zeros(()))

    def predict_chroma(self, gray: torch.Tensor, generators: Sequence[torch.Generator]) -> torch.Tensor:
        return torch.zeros(len(gray), 2, *gray.shape[-2:])

    def with_hints(self, chroma: torch.Tensor, hints: HintField) -> torch.Tensor:
        return hints.chroma
