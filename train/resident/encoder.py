"""Training of the semantic encoder with all photographs on the device."""

from collections.abc import Sequence
from dataclasses import dataclass

import timm
import torch
import torch.nn.functional as F
from torch import nn

from colorization.color import luma
from colorization.semantic import SemanticEncoder

from ..backbone import NAME
from ..naming import imagenet_head
from ..semantic import cell_chroma, explained_chroma, guess_errors
from .course import Clock, MovingAverage, Rates, train_by_clock
from .film import filmed
from .photos import Shelf

_MEASURED = 128  # photographs that are measured at once


@dataclass(frozen=True)
class EncoderSettings:
    """How the encoder is trained.

    Args:
        side: of the pictures that it sees, in pixels.
        batch_size: pictures of a step.
        learning_rate: of the decoder.
        backbone_rate: of the backbone.
        warmup: steps of the decoder's warm-up.
        backbone_warmup: the backbone's, longer: a new decoder's first gradients would undo what it knows.
        frozen: beginnings of the names of the backbone's parameters that do not learn.
        film: share of the pictures on the gray of an old film.
        bins_weight: weight of the cross-entropy beside the squared error.
        naming_weight: weight of naming what the original network names in color.
        named: share of the batch's pictures that are named.
        decay: of the moving average.
    """

    side: int = 256
    batch_size: int = 256
    learning_rate: float = 2e-3
    backbone_rate: float = 3e-4
    warmup: int = 100
    backbone_warmup: int = 600
    frozen: tuple[str, ...] = ("conv_stem", "bn1", "blocks.0", "blocks.1")
    film: float = 0.3
    bins_weight: float = 0.3
    naming_weight: float = 0.1
    named: float = 0.5
    decay: float = 0.998


@dataclass(frozen=True, eq=False)
class Mixture:
    """Shelves and how many pictures of each a batch holds.

    Args:
        shelves: of photographs.
        weights: their shares of a batch, which add up to 1.
    """

    shelves: Sequence[Shelf]
    weights: Sequence[float]

    def counts(self, batch_size: int) -> list[int]:
        """Pictures of each shelf in a batch."""
        counts = [round(weight * batch_size) for weight in self.weights]
        counts[0] += batch_size - sum(counts)
        return counts

    def cut(self, batch_size: int, side: int, generator: torch.Generator) -> torch.Tensor:
        """Random squares `(batch_size, 3, side, side)` of random photographs, RGB in [0, 1]."""
        parts = []
        for shelf, count in zip(self.shelves, self.counts(batch_size), strict=True):
            rows = torch.randint(len(shelf), (count,), device=shelf.pixels.device, generator=generator)
            parts.append(shelf.cut(rows, side, generator))
        return torch.cat(parts)


def explained(model: SemanticEncoder, shelf: Shelf, side: int) -> float:
    """Share of the chroma of a shelf's photographs that a model's guess explains."""
    device = shelf.pixels.device
    generator = torch.Generator(device).manual_seed(0)
    images = (shelf.cut(rows, side, generator) for rows in torch.arange(len(shelf), device=device).split(_MEASURED))
    return explained_chroma(model, ((luma(image), cell_chroma(image)) for image in images))


class Namer(nn.Module):
    """The original network with its classifier, and a copy of the classifier that learns on the encoder's features.

    So the encoder keeps telling things apart while it learns their colors, and its head names them in gray.

    Args:
        weights: of :func:`train.backbone.imagenet_weights`.
    """

    def __init__(self, weights: dict[str, torch.Tensor]):
        super().__init__()
        self.original = timm.create_model(NAME, pretrained=False)
        self.original.load_state_dict(weights, strict=False)
        self.original.eval().requires_grad_(False)
        self.head = imagenet_head(weights)

    def error(self, image: torch.Tensor, coarse: torch.Tensor) -> torch.Tensor:
        """Cross-entropy of the head's names of gray pictures with the original's of the same in color, 0-d.

        Args:
            image: RGB `(batch, 3, height, width)` in [0, 1].
            coarse: :class:`colorization.semantic.SemanticOutput`'s, of their gray versions.
        """
        with torch.no_grad():
            named = self.original((255 * image - 127) / 128).float().softmax(dim=1)
        return F.cross_entropy(self.head.classifier(self.head.pool(coarse)).float(), named)


def train_encoder(
    model: SemanticEncoder,
    namer: Namer,
    photos: Mixture,
    settings: EncoderSettings,
    clock: Clock,
    held_out: Shelf | None = None,
    seed: int = 0,
) -> dict:
    """Train for the clock's time; model and head then hold the moving average.

    Args:
        model: on the device.
        namer: likewise; its head learns along.
        photos: what is trained on.
        settings: see there.
        clock: how long.
        held_out: photographs to measure on at the end.
        seed: of everything random.

    Returns:
        what the summary says of it.
    """
    device = model.device
    generator = torch.Generator(device).manual_seed(seed)
    for name, parameter in model.backbone.named_parameters():
        parameter.requires_grad_(not name.startswith(settings.frozen))
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    backbone = [parameter for name, parameter in named if name.startswith("backbone.")]
    decoder = [parameter for name, parameter in named if not name.startswith("backbone.")]
    backbone += namer.head.parameters()
    optimizer = torch.optim.AdamW([{"params": decoder}, {"params": backbone}], weight_decay=0.05, fused=True)
    rates = Rates((settings.learning_rate, settings.backbone_rate), (settings.warmup, settings.backbone_warmup))
    average = MovingAverage([*decoder, *backbone], settings.decay)
    model.train().to(memory_format=torch.channels_last)
    named_count = int(settings.named * settings.batch_size)

    def loss() -> torch.Tensor:
        with torch.no_grad():
            scene = photos.cut(settings.batch_size, settings.side, generator)
            image = filmed(scene, settings.film, generator)
            gray, chroma = luma(image), cell_chroma(image)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            output = model(gray)
            squared, entropy = guess_errors(output, chroma, model.config)
            naming = namer.error(scene[:named_count], output.coarse[:named_count])
        return squared.mean() + settings.bins_weight * entropy.mean() + settings.naming_weight * naming

    summary = train_by_clock(loss, optimizer, rates, average, clock, settings.batch_size, "encoder")
    average.keep()
    model.eval().requires_grad_(False)
    namer.head.eval()
    if held_out is not None:
        summary["held_out"] = len(held_out)
        summary["held_out_explained_chroma"] = round(explained(model, held_out, settings.side), 4)
    return summary
