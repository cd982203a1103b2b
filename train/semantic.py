"""Train the semantic encoder: from what a gray photograph shows to the first guess of its colors.

  python -m train.semantic --config semantic
  python -m train.semantic --config semantic-smoke --output-dir runs/smoke
  python -m train.semantic --config semantic --dry-run

The same command continues a run that was stopped. The result is in OUTPUT_DIR/model: the component `semantic_encoder`
of a pipeline.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.configuration_utils import FrozenDict
from torch import nn
from tqdm import trange

from colorization.color import luma, rgb_to_lab
from colorization.semantic import CELL, CHROMA_UNIT, SemanticEncoder, SemanticOutput, chroma_bin
from colorization.weights import load_network

from .backbone import imagenet_weights
from .config import SemanticTraining
from .data import PhotoSet, Sample, transform_config
from .objective import Loss
from .saving import save_component
from .trainer import Trainer, run_command
from .transforms import TransformConfig, flip, prepare_image, sample_rng

_BATCH = 16  # photographs at once outside the training
_MEASURED = 512  # photographs that the features' statistics are taken from


class GuessSamples:
    """Gray photographs with the chroma that is to be guessed.

    Args:
        photos: where they come from.
        transform: crop and augmentation; its resolution is the encoder's.
    """

    def __init__(self, photos: PhotoSet, transform: TransformConfig):
        self.photos, self.transform = photos, transform

    def draw(self, index: int, rng: np.random.Generator, with_caption: bool = False) -> Sample:
        """`luma` `(1, height, width)` in [0, 1] and `chroma`, a* and b* `(2, height / 8, width / 8)`; mirrored."""
        mirrored = self.transform.flip and rng.uniform() < 0.5
        image = prepare_image(self.photos.image(index), self.transform, rng)[None] / 2 + 0.5
        image = flip(image) if mirrored else image
        return {"luma": luma(image)[0], "chroma": cell_chroma(image)[0]}

    def picture(self, index: int) -> Sample:
        """The same of the photograph as it is, never mirrored; every photograph always gets the same crop."""
        still = GuessSamples(self.photos, TransformConfig(self.transform.resolution, "center", 0, 0, False))
        return still.draw(index, sample_rng(0, "picture", index))


def cell_chroma(image: torch.Tensor) -> torch.Tensor:
    """a* and b* of RGB `(batch, 3, height, width)` in [0, 1], one value per cell: `(batch, 2, height/8, width/8)`."""
    # Lab is costly: at half of a cell's side it is near enough that of all pixels.
    return F.avg_pool2d(rgb_to_lab(F.avg_pool2d(image, CELL // 2))[:, 1:], 2)


def guess_errors(
    output: SemanticOutput, chroma: torch.Tensor, config: FrozenDict
) -> tuple[torch.Tensor, torch.Tensor]:
    """How far a guess is off, per sample: squared error of its mean, in `CHROMA_UNIT`, and cross-entropy of its bins.

    Args:
        output: the encoder's.
        chroma: a* and b* that are to be guessed, `(batch, 2, h, w)`.
        config: the encoder's.
    """
    squared = ((output.chroma - chroma) / CHROMA_UNIT).square().mean(dim=(1, 2, 3))
    bins = chroma_bin(chroma, config.bins, config.bin_width)
    return squared, F.cross_entropy(output.bins, bins, reduction="none").mean(dim=(1, 2))


class GuessTask:
    """Mean chroma by squared error, its distribution by cross-entropy.

    Args:
        network: what is trained.
        bins_weight: weight of the cross-entropy beside the squared error.
    """

    def __init__(self, network: SemanticEncoder, bins_weight: float):
        self.network, self.bins_weight = network, bins_weight

    def loss(self, network: nn.Module, batch: dict[str, torch.Tensor]) -> Loss:
        """Loss of a batch of :class:`GuessSamples`."""
        squared, entropy = guess_errors(network(batch["luma"]), batch["chroma"], self.network.config)
        per_sample = squared + self.bins_weight * entropy
        parts = {"chroma": squared.mean().detach(), "bins": entropy.mean().detach()}
        return Loss(per_sample.mean(), per_sample.detach(), None, parts)


def new_model(config: SemanticTraining, photos: PhotoSet) -> SemanticEncoder:
    """The encoder to go on from, or the ImageNet backbone with a new decoder; the backbone's early part is frozen."""
    if config.model.start is not None:
        model = load_network(SemanticEncoder, config.model.start, torch_dtype=torch.float32)
    else:
        model = SemanticEncoder(widths=tuple(config.model.widths))
        model.backbone.load_state_dict(imagenet_weights(), strict=False)  # without the classifier
        measure_statistics(model, _spread_lumas(GuessSamples(photos, transform_config(config.data))))
    for name, parameter in model.backbone.named_parameters():
        parameter.requires_grad_(not name.startswith(tuple(config.model.frozen)))
    return model


@torch.no_grad()
def measure_statistics(model: SemanticEncoder, lumas: Iterable[torch.Tensor]) -> None:
    """Store mean and deviation of every feature of a new encoder's backbone.

    Args:
        model: whose statistics are replaced.
        lumas: batches `(batch, 1, height, width)` in [0, 1], of one size.
    """
    found = []
    for luma_batch in lumas:
        stages = model.stages(luma_batch.to(model.device))
        found.append([(stage.mean(dim=(2, 3)), stage.square().mean(dim=(2, 3))) for stage in stages])
    for index in range(len(found[0])):
        mean, square = (torch.cat([batch[index][k] for batch in found]).mean(dim=0) for k in (0, 1))
        getattr(model, f"mean_{index}").copy_(mean)
        getattr(model, f"deviation_{index}").copy_((square - mean**2).clamp_min(1e-6).sqrt())


def _spread_lumas(samples: GuessSamples) -> Iterator[torch.Tensor]:
    """Batches of augmented photographs, evenly spread over all."""
    step = max(len(samples.photos) // _MEASURED, 1)
    rows = range(0, len(samples.photos), step)[:_MEASURED]
    for start in trange(0, len(rows), _BATCH, desc="features", unit="batch"):
        batch = [samples.draw(row, sample_rng(0, "features", row))["luma"] for row in rows[start : start + _BATCH]]
        yield torch.stack(batch)


@torch.no_grad()
def explained_chroma(model: SemanticEncoder, batches: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> float:
    """1 - squared error / squared chroma: 0 for gray, 1 for perfect.

    Args:
        model: that guesses.
        batches: luma and chroma as :class:`GuessSamples` gives them, stacked.
    """
    error = total = 0.0
    for lumas, targets in batches:
        guess = model(lumas.to(model.device)).chroma
        error += (guess - targets.to(guess.device)).square().sum().item()
        total += targets.square().sum().item()
    return 1 - error / total if total > 0 else 0.0


def first_pictures(samples: GuessSamples, count: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Luma and chroma of the first `count` photographs, in batches."""
    for start in range(0, min(count, len(samples.photos)), _BATCH):
        rows = range(start, min(start + _BATCH, count, len(samples.photos)))
        batch = [samples.picture(row) for row in rows]
        yield torch.stack([sample["luma"] for sample in batch]), torch.stack([sample["chroma"] for sample in batch])


class SemanticTrainer(Trainer[SemanticTraining]):
    """Training of the encoder, validated by what it explains of the photographs that are held out."""

    settings = SemanticTraining

    def build(self) -> None:
        self.model = new_model(self.config, self.photos).to(self.accelerator.device)
        self.held_out_samples = GuessSamples(self.held_out, transform_config(self.config.data))

    def check(self) -> None:
        resolution = self.config.data.resolution
        if resolution % CELL:
            raise ValueError(f"`data.resolution` must be a multiple of {CELL}, got {resolution}")

    def task(self) -> GuessTask:
        return GuessTask(self.model, self.config.model.bins_weight)

    def validation(self) -> Callable[[int], None] | None:
        return self._validate if self.config.run.validation_every > 0 else None

    def _validate(self, step: int) -> None:
        was_training = self.model.training
        explained = self._explained()
        self.model.train(was_training)
        print(f"step {step}: explains {explained:.4f} of the chroma of held-out photographs", flush=True)
        self.accelerator.log({"validation/explained_chroma": explained}, step=step)

    def _explained(self) -> float:
        return explained_chroma(
            self.model.eval(), first_pictures(self.held_out_samples, self.config.run.validation_count)
        )

    def samples(self) -> GuessSamples:
        return GuessSamples(self.photos, transform_config(self.config.data))

    def save(self, directory: Path) -> None:
        save_component(self.model, directory)

    def facts(self, summary: dict) -> dict:
        explained = {"held_out_explained_chroma": self._explained()} if len(self.held_out) else {}
        return {"held_out": len(self.held_out)} | explained

    @classmethod
    def describe(cls, config: SemanticTraining, photos: PhotoSet | None) -> Iterator[str]:
        model = SemanticEncoder(widths=tuple(config.model.widths))
        channels = model.backbone.feature_info.channels()
        yield f"parameters: {model.num_parameters():,}, {channels} channels of the backbone"


def main(argv: list[str] | None = None) -> None:
    run_command(SemanticTrainer, __doc__, argv)


if __name__ == "__main__":
    main()
