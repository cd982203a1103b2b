"""Autoregressive: small chroma maps drawn pixel by pixel, each given the gray picture and the pixels before it.

After PixelColor (Guadarrama et al. 2017) and the conditional PixelCNN (van den Oord et al. 2016): chroma is quantized
to a palette at a quarter of the picture's sides, drawn, and upsampled with the luminance as guide.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import register_to_config
from torch import nn

from .backbone import ResNetDecoder
from .base import AB_RANGE, Baseline, ab_to_chroma, lightness, split_lab

STRIDE = 4
PALETTE_SIZE = 32
KMEANS_SEED = 0
KMEANS_PIXELS = 50_000


class _MaskedConv2d(nn.Conv2d):
    """A convolution that sees only pixels above, or left in the same row; the pixel itself if `with_center`."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, with_center: bool):
        super().__init__(in_channels, out_channels, kernel_size, padding=kernel_size // 2)
        mask = torch.ones(kernel_size, kernel_size)
        center = kernel_size // 2
        mask[center, center + with_center :] = 0
        mask[center + 1 :] = 0
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._conv_forward(x, self.weight * self.mask, self.bias)


class _Layer(nn.Module):
    """A gated residual layer, told at each place what the gray picture shows there."""

    def __init__(self, width: int, condition_channels: int):
        super().__init__()
        self.convolution = _MaskedConv2d(width, 2 * width, 3, with_center=True)
        self.condition = nn.Conv2d(condition_channels, 2 * width, 1)
        self.output = nn.Conv2d(width, width, 1)

    def forward(self, x: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        value, gate = (self.convolution(x) + self.condition(condition)).chunk(2, dim=1)
        return x + self.output(value.tanh() * gate.sigmoid())


class PixelCnnBaseline(Baseline):
    """ResNet features of the gray picture condition a stack of masked convolutions over palette indices.

    Args:
        palette: colors (a*, b*); :meth:`complete_settings` finds `palette_size` of them.
        palette_size: K of the k-means that makes the palette.
        width: channels of the masked layers.
        num_layers: their number.
        temperature: of the draws; below 1 they keep closer to what is likely.
        pretrained: see :class:`~colorization.baselines.backbone.ResNetDecoder`.
    """

    size_multiple = 16

    @register_to_config
    def __init__(
        self,
        palette: Sequence[Sequence[float]] = ((0.0, 0.0),),
        palette_size: int = PALETTE_SIZE,
        width: int = 64,
        num_layers: int = 6,
        temperature: float = 1.0,
        pretrained: bool = False,
    ):
        super().__init__()
        if not temperature > 0:
            raise ValueError(f"`temperature` must be above 0, got {temperature!r}")
        self.backbone = ResNetDecoder(stride=STRIDE, pretrained=pretrained)
        self.first = _MaskedConv2d(len(palette), width, 7, with_center=False)
        self.layers = nn.ModuleList(_Layer(width, self.backbone.channels) for _ in range(num_layers))
        self.last = nn.Sequential(
            nn.SiLU(), nn.Conv2d(width, 2 * width, 1), nn.SiLU(), nn.Conv2d(2 * width, len(palette), 1)
        )

    @classmethod
    def complete_settings(cls, settings: dict[str, Any], images: Iterable[torch.Tensor]) -> dict[str, Any]:
        from scipy.cluster.vq import kmeans2

        pixels = torch.cat([F.avg_pool2d(split_lab(image[None])[1], STRIDE)[0].flatten(1).T for image in images])
        pixels = pixels[:: max(len(pixels) // KMEANS_PIXELS, 1)]
        size = settings.get("palette_size", PALETTE_SIZE)
        palette, _ = kmeans2(AB_RANGE * pixels.double().numpy(), size, minit="++", seed=KMEANS_SEED)
        return settings | {"palette": palette.tolist()}

    def logits(self, index: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        """`(batch, K, h, w)`: at each place those of its color, given the colors `index` `(batch, h, w)` before it."""
        x = F.one_hot(index, len(self.config.palette)).permute(0, 3, 1, 2).to(condition.dtype)
        x = self.first(x)
        for layer in self.layers:
            x = layer(x, condition)
        return self.last(x).float()

    def initialize(self) -> None:
        if self.config.pretrained:
            self.backbone.load_imagenet_weights()

    def forward(self, image: torch.Tensor, severity: torch.Tensor, noise: torch.Tensor) -> dict[str, torch.Tensor]:
        light, ab = split_lab(image)
        pixels = AB_RANGE * F.avg_pool2d(ab, STRIDE).permute(0, 2, 3, 1)
        index = torch.cdist(pixels, self._palette()).argmin(dim=-1)
        loss = F.cross_entropy(self.logits(index, self.backbone(light)), index, reduction="none")
        return {"cross_entropy": loss.mean(dim=(1, 2))}

    def predict_chroma(self, gray: torch.Tensor, generators: Sequence[torch.Generator]) -> torch.Tensor:
        condition = self.backbone(lightness(gray).to(self.dtype))
        batch, _, height, width = condition.shape
        colors = len(self.config.palette)
        # The color with the largest "logit / temperature + Gumbel noise" is a draw from the softmax.
        uniform = torch.stack([torch.rand(colors, height, width, generator=source) for source in generators])
        gumbel = -(-uniform.clamp(1e-9, 1 - 1e-7).log()).log().to(gray.device)
        index = torch.zeros(batch, height, width, dtype=torch.long, device=gray.device)
        for row in range(height):
            above = slice(0, row + 1)  # the rows below have no say
            for column in range(width):
                logits = self.logits(index[:, above], condition[:, :, above])[:, :, row, column]
                index[:, row, column] = (logits / self.config.temperature + gumbel[:, :, row, column]).argmax(dim=1)
        ab = self._palette()[index].permute(0, 3, 1, 2) / AB_RANGE
        return ab_to_chroma(gray, ab)

    def _palette(self) -> torch.Tensor:
        return torch.tensor(self.config.palette, dtype=torch.float32, device=self.device)
