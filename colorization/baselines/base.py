"""What all baselines share: the model's interface, and the pipeline that colors photographs with it."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin

from ..color import lab_to_rgb, rgb_to_chroma, rgb_to_lab
from ..degradation import to_gray
from ..hint_spread import REACH
from ..hints import HintField

AB_RANGE = 110.0  # a* and b* of sRGB colors lie within it; networks see them divided by it


class Baseline(ModelMixin, ConfigMixin):
    """A network that predicts the chroma of a gray picture, with its training loss.

    A new baseline is a subclass in a file of its own, a line in `colorization.baselines.BASELINES` and a config for
    `train.baselines`. Arguments of `__init__` are its settings (diffusers' `register_to_config`); they are saved with
    the weights. `forward` is the training loss, so that distributed training sees it.
    """

    size_multiple = 8  # both sides of the pictures are multiples of it
    hint_reach = REACH  # see colorization.hint_spread.propagate_hints

    @classmethod
    def complete_settings(cls, settings: dict[str, Any], images: Iterable[torch.Tensor]) -> dict[str, Any]:
        """The settings of a new model: those given and those found in training pictures, such as color bins.

        Args:
            settings: given ones.
            images: `(3, height, width)` in [-1, 1], a few hundred.
        """
        return settings

    def initialize(self) -> None:
        """Put in place what a new model begins with besides random weights; a saved model has it."""

    def noise_shape(self, resolution: int) -> tuple[int, int, int]:
        """Shape of the standard normal noise that a training sample of this resolution needs."""
        return (1, 1, 1)

    def forward(self, image: torch.Tensor, severity: torch.Tensor, noise: torch.Tensor) -> dict[str, torch.Tensor]:
        """Weighted losses of each sample, `(batch,)` float32 by name.

        Args:
            image: color pictures `(batch, 3, height, width)` in [-1, 1].
            severity: uniform numbers in [0, 1], `(batch,)`, for what has a noise level.
            noise: standard normal, `(batch, *noise_shape(resolution))`.
        """
        raise NotImplementedError

    def predict_chroma(self, gray: torch.Tensor, generators: Sequence[torch.Generator]) -> torch.Tensor:
        """Cb and Cr `(batch, 2, h, w)`, float32.

        Args:
            gray: luma `(batch, 1, height, width)` in [0, 1].
            generators: one per picture, on the CPU; results depend on nothing else of the batch.
        """
        raise NotImplementedError

    def with_hints(self, chroma: torch.Tensor, hints: HintField) -> torch.Tensor:
        """A picture's predicted chroma `(2, h, w)` in the light of its hints; around them it is corrected anyway."""
        return chroma

    def drop_training_parts(self) -> None:
        """Remove what only the training needs, before the model is saved."""


def split_lab(image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What regression sees and what it is to say: L* of the gray picture and a*, b* of the color one.

    Args:
        image: `(batch, 3, height, width)` in [-1, 1].

    Returns:
        `(batch, 1, height, width)` in [-1, 1], and `(batch, 2, height, width)` divided by `AB_RANGE`.
    """
    image = image.float() / 2 + 0.5
    return lightness(to_gray(image)[:, :1]), rgb_to_lab(image)[:, 1:] / AB_RANGE


def lightness(gray: torch.Tensor) -> torch.Tensor:
    """L* scaled to [-1, 1] of luma `(batch, 1, height, width)` in [0, 1]."""
    return rgb_to_lab(gray.expand(-1, 3, -1, -1))[:, :1] / 50 - 1


def ab_to_chroma(gray: torch.Tensor, ab: torch.Tensor) -> torch.Tensor:
    """Cb and Cr `(batch, 2, h, w)` of a*, b* (divided by `AB_RANGE`), with the lightness of the gray picture.

    Args:
        gray: luma `(batch, 1, height, width)` in [0, 1].
        ab: `(batch, 2, height / k, width / k)`; it is resized bilinearly.
    """
    ab = F.interpolate(ab.float(), gray.shape[-2:], mode="bilinear", align_corners=False)
    lab = torch.cat([50 * (lightness(gray) + 1), AB_RANGE * ab], dim=1)
    return rgb_to_chroma(lab_to_rgb(lab).clamp(0, 1))
