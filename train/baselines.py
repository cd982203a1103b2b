"""Train a baseline: the same data, loop, checkpoints and settings as the diffusion models, another network and loss.

  accelerate launch -m train.baselines --config baseline-gan --data.sources '[data/photos]'
  accelerate launch -m train.baselines --config baseline-smoke --model.name pixelcnn --output-dir runs/smoke-pixelcnn
  python -m train.baselines --config baseline-resnet --dry-run

The same command continues a run that was stopped. The result is in OUTPUT_DIR/model: load_pipeline takes that folder.
"""

import copy
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from colorization.baselines import baseline_class
from colorization.baselines.base import Baseline
from colorization.baselines.pipeline import BaselinePipeline

from .config import BaselineTraining, ObjectiveConfig
from .data import PhotoSet, PixelSamples, picture_stream, transform_config
from .objective import Loss
from .saving import save_pipeline
from .text import no_text
from .trainer import Trainer, run_command
from .validation import PictureValidation, make_validation

STATISTICS_PHOTOS = 2000  # that color bins and palettes are computed from


class BaselineTask:
    """A baseline, for the training loop."""

    def __init__(self, network: Baseline):
        self.network = network

    def loss(self, network: nn.Module, batch: dict[str, torch.Tensor]) -> Loss:
        """Sum of the baseline's losses on a batch of `train.data` samples with pictures."""
        terms = network(batch["image"], batch["severity"], batch["noise"])
        per_sample = sum(terms.values())
        parts = {name: values.detach().mean() for name, values in terms.items()}
        return Loss(per_sample.mean(), per_sample.detach(), None, parts)


def build_baseline(config: BaselineTraining, photos: PhotoSet) -> Baseline:
    """A new model, float32; color bins and the like are computed from the first photographs of a random order."""
    kind = baseline_class(config.model.name)
    count = min(len(photos), STATISTICS_PHOTOS)
    stream = picture_stream(photos, count, config.data, ObjectiveConfig(), config.run.seed)

    def images() -> Iterator[torch.Tensor]:
        return (stream[i]["image"] for i in range(len(stream)))

    try:
        model = kind(**kind.complete_settings(config.model.options, images()))
    except TypeError as error:
        raise ValueError(f"`model.options` {config.model.options} do not suit {config.model.name}: {error}") from error
    model.initialize()
    resolution, multiple = config.data.resolution, model.size_multiple
    if resolution % multiple:
        raise ValueError(f"`data.resolution` must be a multiple of {multiple} for this model, got {resolution}")
    return model


class BaselineTrainer(Trainer[BaselineTraining]):
    """Training of a baseline, validated by the pictures that it colors."""

    settings = BaselineTraining
    built_from_photos = True

    def build(self) -> None:
        self.model = build_baseline(self.config, self.photos).to(self.accelerator.device)

    def task(self) -> BaselineTask:
        return BaselineTask(self.model)

    def validation(self) -> PictureValidation | None:
        config, accelerator = self.config, self.accelerator
        pipeline = BaselinePipeline(self.model, resolution=config.data.resolution)

        def make(images: torch.Tensor | None) -> PictureValidation:
            return PictureValidation(pipeline, images, config.run, accelerator)

        return make_validation(make, config.run, config.data, self.held_out, accelerator)

    def samples(self) -> PixelSamples:
        return PixelSamples(self.photos, transform_config(self.config.data), no_text)

    @property
    def noise_shape(self) -> tuple[int, int, int]:
        return self.model.noise_shape(self.config.data.resolution)

    def save(self, directory: Path) -> None:
        pipeline = BaselinePipeline(self._without_training_parts().half(), resolution=self.config.data.resolution)
        save_pipeline(pipeline, directory)

    def _without_training_parts(self) -> Baseline:
        model = copy.deepcopy(self.model)
        model.drop_training_parts()
        return model

    def facts(self, summary: dict) -> dict:
        return {"parameters": sum(parameter.numel() for parameter in self._without_training_parts().parameters())}

    @classmethod
    def describe(cls, config: BaselineTraining, photos: PhotoSet) -> Iterator[str]:
        parameters = list(build_baseline(config, photos).parameters())
        trained = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
        yield f"parameters: {sum(parameter.numel() for parameter in parameters):,}, of which trained {trained:,}"


def main(argv: list[str] | None = None) -> None:
    run_command(BaselineTrainer, __doc__, argv)


if __name__ == "__main__":
    main()
