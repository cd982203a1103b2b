"""What a photograph shows, and the first guess of its colors that follows from it.

A network that was trained to name things (EfficientNet-Lite1 on ImageNet) looks at the gray photograph; a small
decoder turns what it sees into the color to expect at every latent cell: the mean, and a distribution over bins, which
keeps apart what a mean would mix. Diffusion then walks from the first guess instead of from gray (posterior-mean
rectified flow, Ohayon et al. 2024, arXiv 2410.00418).
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils import BaseOutput
from torch import nn

from .color import lab_to_rgb, merge_luma_chroma, rgb_to_chroma, rgb_to_lab

CELL = 8  # pixels of the encoder's input per cell of its output, along each side: the backbone's finest stride
_GROUPS = 8  # of the decoder's normalisation
_CLIP = 5.0  # standard deviations that a standardised feature may be off: a few of the backbone's reach 30
CHROMA_UNIT = 20.0  # of the chroma head's output, in CIELAB: about the deviation of photographs' a* and b*


@dataclass
class SemanticOutput(BaseOutput):
    """What :class:`SemanticEncoder` says of a batch of photographs; float32, `h` and `w` are latent cells.

    Args:
        features (`torch.Tensor` of shape `(batch, width, h, w)`): what the decoder knows, for a UNet to see.
        chroma (`torch.Tensor` of shape `(batch, 2, h, w)`): mean a*, b* of CIELAB.
        bins (`torch.Tensor` of shape `(batch, bins**2, h, w)`): logits of the chroma's bins.
        coarse (`torch.Tensor` of shape `(batch, channels, h / 4, w / 4)`): the backbone's last stage, for a
            :class:`NamingHead`; sides rounded up, in the encoder's dtype.
    """

    features: torch.Tensor = None  # accelerate makes an empty one and fills it
    chroma: torch.Tensor = None
    bins: torch.Tensor = None
    coarse: torch.Tensor = None


def chroma_bin(chroma: torch.Tensor, bins: int, width: float) -> torch.Tensor:
    """Number of the bin `(batch, h, w)` that each a*, b* of `(batch, 2, h, w)` is in; the outermost bins are open."""
    a, b = (chroma / width + bins / 2).floor().long().clamp(0, bins - 1).unbind(dim=1)
    return bins * a + b


def bin_centers(bins: int, width: float) -> torch.Tensor:
    """a*, b* at the centers of the bins, `(bins**2, 2)`."""
    axis = (torch.arange(bins) + 0.5 - bins / 2) * width
    return torch.cartesian_prod(axis, axis)


def _block(in_channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, stride, padding=1), nn.GroupNorm(_GROUPS, out_channels), nn.SiLU()
    )


class _Residual(nn.Module):
    """A block whose output is added to its input."""

    def __init__(self, channels: int):
        super().__init__()
        self.block = _block(channels, channels)

    def forward(self, planes: torch.Tensor) -> torch.Tensor:
        return planes + self.block(planes)


def _level(*blocks: nn.Module, channels: int, depth: int) -> nn.Sequential:
    return nn.Sequential(*blocks, *(_Residual(channels) for _ in range(depth - 1)))


def _upsample(planes: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return F.interpolate(planes, size=like.shape[-2:], mode="bilinear", align_corners=False)


def guess_picture(luma: torch.Tensor, chroma: torch.Tensor) -> torch.Tensor:
    """The gray picture in the guessed colors: CIELAB's a*, b* on its lightness, at exactly its luma, inside the gamut.

    Args:
        luma: `(batch, 1, height, width)` in [0, 1].
        chroma: a*, b* `(batch, 2, h, w)`, enlarged linearly to the size of `luma`.

    Returns:
        RGB `(batch, 3, height, width)` in [0, 1].
    """
    lightness = rgb_to_lab(luma.expand(-1, 3, -1, -1))[:, :1]
    colored = lab_to_rgb(torch.cat([lightness, _upsample(chroma, luma)], dim=1))
    return merge_luma_chroma(luma, rgb_to_chroma(colored))


class SemanticEncoder(ModelMixin, ConfigMixin):
    r"""
    A backbone's strides 8, 16 and 32 go up a U-shaped decoder to one cell per 8 pixels.

    The backbone pads as TensorFlow does, so every stride rounds sides up, as a UNet's own downsampling does: any size
    works.

    Args:
        architecture (`str`): a network of timm, built without weights.
        widths (`tuple[int, int, int]`): of the decoder at strides 8, 16 and 32, multiples of 8.
        depth (`int`): of the decoder's levels; each has one less residual block at its end.
        bins (`int`): bins along a* and along b*.
        bin_width (`float`): of a bin, in CIELAB.
    """

    @register_to_config
    def __init__(
        self,
        architecture: str = "tf_efficientnet_lite1",
        widths: tuple[int, int, int] = (96, 160, 192),
        bins: int = 13,
        bin_width: float = 10.0,
        depth: int = 1,
    ):
        import timm  # takes a second with all that it imports, which models without this component need not spend

        super().__init__()
        self.backbone = timm.create_model(architecture, pretrained=False, features_only=True, out_indices=(2, 3, 4))
        self.backbone.eval()  # networks are born training; its batch normalisation would learn from the first batch
        stages = self.backbone.feature_info.channels()
        for index, channels in enumerate(stages):
            # Not learned: `train.semantic` measures them once on photographs.
            self.register_buffer(f"mean_{index}", torch.zeros(channels))
            self.register_buffer(f"deviation_{index}", torch.ones(channels))
        fine, middle, coarse = widths
        self.stem = _block(1, 32, stride=2)
        self.project = nn.ModuleList([nn.Conv2d(stages[0], 64, 1), nn.Conv2d(stages[1], 128, 1)])
        self.whole = nn.Sequential(nn.Linear(stages[2], coarse), nn.SiLU())  # the photograph as a whole
        self.coarse = _level(nn.Conv2d(stages[2], coarse, 1), _block(coarse, coarse), channels=coarse, depth=depth)
        self.middle = _level(*_block(coarse + 128, middle), channels=middle, depth=depth)
        self.fine = _level(_block(middle + 64 + 32, fine), _block(fine, fine), channels=fine, depth=depth)
        self.chroma_head = nn.Conv2d(fine, 2, 1)
        self.bins_head = nn.Conv2d(fine, bins**2, 1)

    def train(self, mode: bool = True) -> "SemanticEncoder":
        """As always, but the backbone keeps the statistics that ImageNet gave its batch normalisation."""
        super().train(mode)
        self.backbone.eval()
        return self

    def stages(self, luma: torch.Tensor) -> list[torch.Tensor]:
        """The backbone's features at strides 8, 16 and 32 of luma `(batch, 1, height, width)` in [0, 1]."""
        if luma.ndim != 4 or luma.shape[1] != 1:
            raise ValueError(f"`luma` must have shape (batch, 1, height, width), got {tuple(luma.shape)}")
        pixels = (255 * luma - 127) / 128
        return self.backbone(pixels.expand(-1, 3, -1, -1).to(self.dtype))

    def forward(self, luma: torch.Tensor) -> SemanticOutput:
        """
        Args:
            luma: `(batch, 1, height, width)` in [0, 1]; sides that are multiples of 8 give one cell per 8 pixels.
        """
        stages = self.stages(luma)
        fine, middle, coarse = (self._standardise(stage, index) for index, stage in enumerate(stages))
        # Half of a cell's side: enough to see where the edges are.
        small = F.interpolate(luma, scale_factor=2 / CELL, mode="area")
        edges = self.stem((2 * small - 1).to(self.dtype))
        whole = self.whole(coarse.mean(dim=(2, 3)))[:, :, None, None]
        planes = self.coarse(coarse) + whole
        planes = self.middle(torch.cat([_upsample(planes, middle), self.project[1](middle)], dim=1))
        planes = torch.cat([_upsample(planes, fine), self.project[0](fine), _upsample(edges, fine)], dim=1)
        planes = self.fine(planes)
        return SemanticOutput(
            features=planes.float(),
            chroma=CHROMA_UNIT * self.chroma_head(planes).float(),
            bins=self.bins_head(planes).float(),
            coarse=stages[-1],
        )

    def _standardise(self, stage: torch.Tensor, index: int) -> torch.Tensor:
        mean, deviation = (getattr(self, f"{name}_{index}").float()[:, None, None] for name in ("mean", "deviation"))
        return ((stage.float() - mean) / deviation).clamp(-_CLIP, _CLIP).to(self.dtype)
