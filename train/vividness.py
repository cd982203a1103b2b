"""Train the network that predicts how colorful a photograph was from its gray version.

  python -m train.vividness --config vividness
  python -m train.vividness --config vividness-smoke --output-dir runs/smoke
  python -m train.vividness --config vividness --dry-run

The same command continues a run that was stopped. The result is in OUTPUT_DIR/model: the component `vividness` of a
pipeline, which `color_scale="auto"` needs.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import nn

from colorization.color import colorfulness, luma
from colorization.vividness import VividnessModel

from .config import VividnessTraining
from .data import PhotoSet, Sample, transform_config
from .objective import Loss
from .saving import save_component
from .trainer import Trainer, run_command
from .transforms import TransformConfig, flip, prepare_image, sample_rng

_TYPICAL = 3.6  # log(1 + M) of an average photograph, where the training starts


class GraySamples:
    """Gray pictures with the colorfulness of their originals; each photograph is decoded once and then kept.

    Args:
        photos: where they come from.
        transform: size, crop and mirroring; every photograph always gets the same crop.
    """

    def __init__(self, photos: PhotoSet, transform: TransformConfig):
        self.photos, self.transform = photos, transform
        self._kept: dict[bytes, tuple[torch.Tensor, torch.Tensor]] = {}

    def draw(self, index: int, rng, with_caption: bool = False) -> Sample:
        """`gray` `(1, height, width)` in [0, 1] and `target`, log(1 + M), 0-d; mirrored at random."""
        gray, target = self.picture(index)
        mirrored = self.transform.flip and rng.uniform() < 0.5
        return {"gray": flip(gray) if mirrored else gray, "target": target}

    def picture(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The same of one photograph, never mirrored."""
        digest = self.photos.digests[index]
        if digest not in self._kept:
            rng = sample_rng(0, "picture", int.from_bytes(digest, "big"))
            image = prepare_image(self.photos.image(index), self.transform, rng)[None] / 2 + 0.5
            gray = (255 * luma(image)[0]).round().to(torch.uint8)  # a quarter of the memory
            self._kept[digest] = gray, colorfulness(image)[0].log1p()
        gray, target = self._kept[digest]
        return gray.float() / 255, target


class VividnessTask:
    """Predict log(1 + M) with the least absolute error: the median, which is that of M itself too."""

    def __init__(self, network: VividnessModel):
        self.network = network

    def loss(self, network: nn.Module, batch: dict[str, torch.Tensor]) -> Loss:
        """Loss of a batch of :class:`GraySamples`."""
        errors = (network(batch["gray"]) - batch["target"]).abs()
        total = errors.mean()
        return Loss(total, errors.detach(), None, {"vividness": total.detach()})


def new_model(config: VividnessTraining) -> VividnessModel:
    """The network with random weights, which predicts about a typical colorfulness."""
    model = VividnessModel(tuple(config.model.channels), config.data.resolution)
    nn.init.constant_(model.head[-1].bias, _TYPICAL)
    return model


@torch.no_grad()
def held_out_error(model: VividnessModel, samples: GraySamples, count: int) -> float:
    """Mean absolute error of M over the first `count` photographs."""
    errors = []
    for index in range(min(count, len(samples.photos))):
        gray, target = samples.picture(index)
        errors.append(model.predict_colorfulness(gray[None].to(model.device)).cpu() - target.expm1())
    return torch.cat(errors).abs().mean().item()


class VividnessTrainer(Trainer[VividnessTraining]):
    """Training of the network, validated by its error on the photographs that are held out."""

    settings = VividnessTraining

    def build(self) -> None:
        self.model = new_model(self.config).to(self.accelerator.device)
        self.held_out_samples = GraySamples(self.held_out, transform_config(self.config.data))

    def task(self) -> VividnessTask:
        return VividnessTask(self.model)

    def validation(self) -> Callable[[int], None] | None:
        return self._validate if self.config.run.validation_every > 0 else None

    def _validate(self, step: int) -> None:
        error = held_out_error(self.model, self.held_out_samples, self.config.run.validation_count)
        self.accelerator.log({"validation/colorfulness_error": error}, step=step)

    def samples(self) -> GraySamples:
        return GraySamples(self.photos, transform_config(self.config.data))

    def save(self, directory: Path) -> None:
        save_component(self.model, directory)

    def facts(self, summary: dict) -> dict:
        count = len(self.held_out)
        if count == 0:
            return {"held_out": 0}
        error = held_out_error(self.model.eval(), self.held_out_samples, count)
        return {"held_out": count, "held_out_colorfulness_error": error}

    @classmethod
    def describe(cls, config: VividnessTraining, photos: PhotoSet | None) -> Iterator[str]:
        yield f"parameters: {new_model(config).num_parameters():,}"


def main(argv: list[str] | None = None) -> None:
    run_command(VividnessTrainer, __doc__, argv)


if __name__ == "__main__":
    main()
