"""Regression: a ResNet predicts a* and b*, trained by their squared error.

The best answer to a squared error is the mean of all plausible colors, which is duller than any of them.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import register_to_config
from torch import nn

from .backbone import ResNetDecoder
from .base import Baseline, ab_to_chroma, lightness, split_lab


class ResNetBaseline(Baseline):
    """ResNet-18 encoder, upsampling decoder, L2 regression of a*, b* at half the picture's sides.

    Args:
        pretrained: see :class:`~colorization.baselines.backbone.ResNetDecoder`.
    """

    size_multiple = 16

    @register_to_config
    def __init__(self, pretrained: bool = False):
        super().__init__()
        self.backbone = ResNetDecoder(stride=2, pretrained=pretrained)
        self.head = nn.Conv2d(self.backbone.channels, 2, 1)

    def predict_ab(self, light: torch.Tensor) -> torch.Tensor:
        """a*, b* `(batch, 2, h / 2, w / 2)` divided by `AB_RANGE`, of `(batch, 1, h, w)` in [-1, 1]."""
        return self.head(self.backbone(light)).float()

    def initialize(self) -> None:
        if self.config.pretrained:
            self.backbone.load_imagenet_weights()

    def forward(self, image: torch.Tensor, severity: torch.Tensor, noise: torch.Tensor) -> dict[str, torch.Tensor]:
        light, ab = split_lab(image)
        error = (self.predict_ab(light) - F.avg_pool2d(ab, 2)) ** 2
        return {"l2": error.sum(dim=1).mean(dim=(1, 2))}

    def predict_chroma(self, gray: torch.Tensor, generators: Sequence[torch.Generator]) -> torch.Tensor:
        return ab_to_chroma(gray, self.predict_ab(lightness(gray).to(self.dtype)))
