"""A network that has seen all of ImageNet, for the small model to learn from what is in a photograph.

The middle of the UNet is asked to predict, beside the color, what the teacher sees in the color photograph at the
same place (representation alignment: Yu et al. 2024, arXiv 2410.06940). Which colors are plausible depends on what is
in the picture, and that is learned sooner from a teacher than from color alone.
"""

import torch
import torch.nn.functional as F

from eval.metrics.lite2 import Lite2Features

_INPUT_SIZE = 256  # a multiple of the stride, so that the features' grid is the photograph's
_MEAN, _DEVIATION = 127.0, 128.0  # of the network's input, see `eval.metrics.lite2.preprocess`


class Teacher:
    """EfficientNet-Lite2 (Apache-2.0) up to its last residual block, frozen.

    Args:
        side: of the features, in positions.
        device: where it runs.

    Attributes:
        channels: of the features.
        weights_sha256: of the weights file.
    """

    channels = 352

    def __init__(self, side: int, device: torch.device):
        """Load the network; ImportError names the packages where they are not installed."""
        lite2 = Lite2Features()
        self.side, self.weights_sha256 = side, lite2.weights_sha256
        self.network = lite2.network.requires_grad_(False).to(device)

    @torch.no_grad()
    def __call__(self, pictures: torch.Tensor) -> torch.Tensor:
        """Features `(batch, 352, side, side)`, float32, of pictures `(batch, 3, height, width)` in [-1, 1]."""
        size = (_INPUT_SIZE, _INPUT_SIZE)
        resized = F.interpolate(pictures, size, mode="bicubic", align_corners=False, antialias=True)
        x = ((resized.clamp(-1, 1) + 1) * 127.5 - _MEAN) / _DEVIATION
        network = self.network
        x = network._swish(network._bn0(network._conv_stem(x.contiguous(memory_format=torch.channels_last))))
        for block in network._blocks:
            x = block(x)
        return F.adaptive_avg_pool2d(x.float(), self.side)
