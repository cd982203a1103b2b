"""Adversarial: the regression network as generator, judged patch by patch (pix2pix, Isola et al. 2017)."""

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import register_to_config
from torch import nn
from torch.func import functional_call

from .base import split_lab
from .resnet import ResNetBaseline


class GanBaseline(ResNetBaseline):
    """L1 and adversarial loss of a*, b* given L*.

    Generator and discriminator learn at once from one backward pass: the generator's loss sees the discriminator's
    weights as constants, the discriminator's loss sees the generated colors as constants.

    Args:
        pretrained: see :class:`~colorization.baselines.backbone.ResNetDecoder`.
        l1_weight: of the L1 distance, against an adversarial loss of weight 1; a* and b* are divided by 110.
        discriminator_width: channels of the discriminator's first layer; 0 in a saved model, which needs none.
    """

    @register_to_config
    def __init__(self, pretrained: bool = False, l1_weight: float = 100.0, discriminator_width: int = 64):
        super().__init__(pretrained)
        self.discriminator = new_discriminator(discriminator_width) if discriminator_width else None

    def forward(self, image: torch.Tensor, severity: torch.Tensor, noise: torch.Tensor) -> dict[str, torch.Tensor]:
        light, ab = split_lab(image)
        light_half, real = F.avg_pool2d(light, 2), F.avg_pool2d(ab, 2)
        fake = self.predict_ab(light)
        frozen = {name: parameter.detach() for name, parameter in self.discriminator.named_parameters()}
        verdict = functional_call(self.discriminator, frozen, torch.cat([light_half, fake], dim=1))
        verdict_real = self.discriminator(torch.cat([light_half, real], dim=1))
        verdict_fake = self.discriminator(torch.cat([light_half, fake.detach()], dim=1))
        return {
            "l1": self.config.l1_weight * (fake - real).abs().mean(dim=(1, 2, 3)),
            "adversarial": F.softplus(-verdict).mean(dim=(1, 2, 3)),
            "discriminator": (F.softplus(-verdict_real) + F.softplus(verdict_fake)).mean(dim=(1, 2, 3)) / 2,
        }

    def drop_training_parts(self) -> None:
        self.discriminator = None
        self.register_to_config(discriminator_width=0)


def new_discriminator(width: int) -> nn.Module:
    """Judges patches of L*, a*, b*: `(batch, 3, h, w)` to logits `(batch, 1, h / 4, w / 4)`, positive for real."""
    return nn.Sequential(
        nn.Conv2d(3, width, 4, stride=2, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(width, 2 * width, 4, stride=2, padding=1),
        nn.GroupNorm(8, 2 * width),
        nn.LeakyReLU(0.2),
        nn.Conv2d(2 * width, 4 * width, 3, padding=1),
        nn.GroupNorm(8, 4 * width),
        nn.LeakyReLU(0.2),
        nn.Conv2d(4 * width, 1, 3, padding=1),
    )
