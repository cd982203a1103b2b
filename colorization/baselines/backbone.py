"""The network that the baselines share: torchvision's ResNet-18 as encoder, a decoder that climbs back up."""

import torch
import torch.nn.functional as F
from torch import nn


def _group_norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(min(32, channels), channels)


class _Up(nn.Module):
    """Twice the size, joined with the encoder's features of that size."""

    def __init__(self, channels: int, skip_channels: int, out_channels: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels + skip_channels, out_channels, 3, padding=1),
            _group_norm(out_channels),
            nn.SiLU(),
            nn.Conv2d(out_channels, out_channels, 3, padding=1),
            _group_norm(out_channels),
            nn.SiLU(),
        )

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        return self.layers(torch.cat([F.interpolate(x, scale_factor=2.0, mode="nearest"), skip], dim=1))


class ResNetDecoder(nn.Module):
    """Features of a gray picture, from what ResNet-18 sees in it.

    The first three of ResNet-18's stages are used, down to a sixteenth of the picture's sides; normalization is by
    groups, or frozen where the encoder starts from ImageNet weights, because batch statistics would make a result
    depend on the rest of its batch.

    Args:
        stride: sides of the features are the picture's divided by this: 2, 4 or 8.
        pretrained: whether the encoder is made for torchvision's ImageNet weights, see :meth:`load_imagenet_weights`.
    """

    def __init__(self, stride: int = 2, pretrained: bool = False):
        super().__init__()
        from torchvision.models import resnet18
        from torchvision.ops import FrozenBatchNorm2d

        if stride not in (2, 4, 8):
            raise ValueError(f"`stride` must be 2, 4 or 8, got {stride!r}")
        encoder = resnet18(weights=None, norm_layer=FrozenBatchNorm2d if pretrained else _group_norm)
        self.stem = nn.Sequential(encoder.conv1, encoder.bn1, encoder.relu)  # 1/2, 64 channels
        self.stages = nn.ModuleList(
            [
                nn.Sequential(encoder.maxpool, encoder.layer1),  # 1/4, 64 channels
                encoder.layer2,  # 1/8, 128 channels
                encoder.layer3,  # 1/16, 256 channels
            ]
        )
        ups = [_Up(256, 128, 128), _Up(128, 64, 96), _Up(96, 64, 64)]
        self.ups = nn.ModuleList(ups[: {8: 1, 4: 2, 2: 3}[stride]])
        self.channels = {8: 128, 4: 96, 2: 64}[stride]

    def load_imagenet_weights(self) -> None:
        """Start the encoder from torchvision's weights, which are downloaded once."""
        from torchvision.models import ResNet18_Weights

        stored = ResNet18_Weights.IMAGENET1K_V1.get_state_dict(check_hash=True)
        names = {
            "stem.0": "conv1",
            "stem.1": "bn1",
            "stages.0.1": "layer1",
            "stages.1": "layer2",
            "stages.2": "layer3",
        }
        for part, name in names.items():
            prefix = f"{name}."
            weights = {key.removeprefix(prefix): value for key, value in stored.items() if key.startswith(prefix)}
            self.get_submodule(part).load_state_dict(weights)

    def forward(self, lightness: torch.Tensor) -> torch.Tensor:
        """`(batch, channels, height / stride, width / stride)` of `(batch, 1, height, width)` in [-1, 1]."""
        features = [self.stem(lightness.expand(-1, 3, -1, -1))]
        for stage in self.stages:
            features.append(stage(features[-1]))
        x = features.pop()
        for up in self.ups:
            x = up(x, features.pop())
        return x
