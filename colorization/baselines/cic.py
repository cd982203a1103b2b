"""Classification: which of K color bins, rare colors weighing more (Zhang, Isola, Efros 2016, "Colorful Image
Colorization")."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import register_to_config
from torch import nn

from .backbone import ResNetDecoder
from .base import AB_RANGE, Baseline, ab_to_chroma, lightness, split_lab

GRID = 10.0  # of the bins, in units of a* and b*
NEIGHBORS = 5  # bins that share a color, their section 2.2
SOFTNESS = 5.0  # standard deviation of the weights of those bins, and of the smoothing of the bins' frequencies


class ClassificationBaseline(Baseline):
    """The regression baseline's network with K outputs per pixel, read by the annealed mean.

    Args:
        bins: centers (a*, b*) of the bins; :meth:`complete_settings` finds those that occur.
        weights: of the bins in the loss.
        temperature: T of the annealed mean (their equation 5): 1 is the mean, towards 0 the mode.
        pretrained: see :class:`~colorization.baselines.backbone.ResNetDecoder`.
    """

    size_multiple = 16

    @register_to_config
    def __init__(
        self,
        bins: Sequence[Sequence[float]] = ((0.0, 0.0),),
        weights: Sequence[float] = (1.0,),
        temperature: float = 0.38,
        pretrained: bool = False,
    ):
        super().__init__()
        if len(bins) != len(weights):
            raise ValueError(f"`weights` must be one per bin ({len(bins)}), got {len(weights)}")
        if not temperature > 0:
            raise ValueError(f"`temperature` must be above 0, got {temperature!r}")
        self.backbone = ResNetDecoder(stride=2, pretrained=pretrained)
        self.head = nn.Conv2d(self.backbone.channels, len(bins), 1)

    @classmethod
    def complete_settings(cls, settings: dict[str, Any], images: Iterable[torch.Tensor]) -> dict[str, Any]:
        ab = torch.cat([F.avg_pool2d(split_lab(image[None])[1], 2)[0].flatten(1).T for image in images])
        cells, counts = (AB_RANGE * ab / GRID).round().unique(dim=0, return_counts=True)
        bins = GRID * cells
        return settings | {"bins": bins.tolist(), "weights": rebalancing_weights(bins, counts).tolist()}

    def initialize(self) -> None:
        if self.config.pretrained:
            self.backbone.load_imagenet_weights()

    def forward(self, image: torch.Tensor, severity: torch.Tensor, noise: torch.Tensor) -> dict[str, torch.Tensor]:
        light, ab = split_lab(image)
        pixels = AB_RANGE * F.avg_pool2d(ab, 2).permute(0, 2, 3, 1)  # [B, h, w, 2]
        index, share = soft_encode(pixels, self._tensor(self.config.bins))
        logits = self.head(self.backbone(light)).float().permute(0, 2, 3, 1)
        log_likelihood = (share * logits.log_softmax(dim=-1).gather(-1, index)).sum(dim=-1)
        weights = self._tensor(self.config.weights)[index[..., 0]]  # of the nearest bin
        return {"cross_entropy": -(weights * log_likelihood).mean(dim=(1, 2))}

    def predict_chroma(self, gray: torch.Tensor, generators: Sequence[torch.Generator]) -> torch.Tensor:
        logits = self.head(self.backbone(lightness(gray).to(self.dtype))).float()
        share = (logits / self.config.temperature).softmax(dim=1)
        ab = torch.einsum("bkhw,kc->bchw", share, self._tensor(self.config.bins)) / AB_RANGE
        return ab_to_chroma(gray, ab)

    def _tensor(self, values: Sequence) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float32, device=self.device)


def rebalancing_weights(bins: torch.Tensor, counts: torch.Tensor, uniform_share: float = 0.5) -> torch.Tensor:
    """Weights of the bins in the loss (their equation 4), `(K,)`, whose mean over the pixels is 1.

    Args:
        bins: centers `(K, 2)`.
        counts: pixels in each, `(K,)`.
        uniform_share: lambda, how much of a uniform distribution is mixed in.
    """
    kernel = torch.exp(-(torch.cdist(bins, bins) ** 2) / (2 * SOFTNESS**2))
    frequency = (kernel / kernel.sum(dim=0)) @ (counts / counts.sum())
    weights = 1 / ((1 - uniform_share) * frequency + uniform_share / len(bins))
    return weights / (frequency * weights).sum()


def soft_encode(pixels: torch.Tensor, bins: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The nearest bins of each color and their shares, which sum to 1; nearest first.

    Args:
        pixels: a*, b* `(..., 2)`.
        bins: centers `(K, 2)`.

    Returns:
        indices and shares, `(..., min(K, 5))`.
    """
    distance, index = torch.cdist(pixels, bins).topk(min(NEIGHBORS, len(bins)), largest=False)
    return index, (-(distance**2) / (2 * SOFTNESS**2)).softmax(dim=-1)
