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
from accelerate.utils import broadcast_object_list
from torch import nn

from colorization.baselines import baseline_class
from colorization.baselines.base import Baseline
from colorization.baselines.pipeline import BaselinePipeline

from .command import begin_run, run_command, start_trackers
from .config import BaselineTraining, ObjectiveConfig, to_yaml
from .data import PhotoSet, PixelSamples, SampleStream, load_photos, transform_config
from .denoiser import Loss
from .loop import create_accelerator, samples_per_step, total_steps, train, write_summary
from .saving import save_complete
from .text import no_text
from .validation import PictureValidation, check_validation, load_validation

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
    stream = _stream(config, photos, min(len(photos), STATISTICS_PHOTOS), (1, 1, 1))

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


def _stream(config: BaselineTraining, photos: PhotoSet, total: int, noise_shape: tuple[int, int, int]) -> SampleStream:
    samples = PixelSamples(photos, transform_config(config.data), no_text)
    return SampleStream(samples, photos.sizes, total, noise_shape, config.data, ObjectiveConfig(), config.run.seed)


def run(config: BaselineTraining, resume: str | None = None) -> Path:
    """Train and save; returns the model's folder.

    Raises:
        ValueError: settings, data or model cannot be used.
        TrainingStopped: the loss was not finite.
    """
    directory = Path(config.run.output_dir)
    accelerator, checkpoint, photos, held_out = begin_run(config, resume)
    check_validation(config.run, held_out)
    with accelerator.main_process_first():
        model = build_baseline(config, photos).to(accelerator.device)
    start_trackers(accelerator, config)
    pipeline = BaselinePipeline(model, resolution=config.data.resolution)
    images = load_validation(config.run, config.data, held_out) if accelerator.is_main_process else None
    # Whether there is a validation is known to the process that loaded it; all must stop for it.
    validate = None
    if broadcast_object_list([images is not None])[0]:
        validate = PictureValidation(pipeline, images, config.run, accelerator)
    steps = total_steps(config.run, config.data.epoch_length(photos.sizes), accelerator.num_processes)
    total = steps * samples_per_step(config.run, accelerator.num_processes)
    stream = _stream(config, photos, total, model.noise_shape(config.data.resolution))
    summary = train(
        BaselineTask(model),
        stream,
        config.optim,
        config.run,
        accelerator,
        checkpoint,
        directory,
        validate=validate,
        workers=config.data.workers,
    )
    if accelerator.is_main_process:
        half = copy.deepcopy(model)
        half.drop_training_parts()
        save_complete(BaselinePipeline(half.half(), resolution=config.data.resolution), directory / "model")
        parameters = sum(parameter.numel() for parameter in half.parameters())
        write_summary(directory, summary | {"photographs": len(photos), "parameters": parameters})
    accelerator.end_training()
    return directory / "model"


def dry_run(config: BaselineTraining) -> None:
    """Print settings, parameter counts and steps."""
    print(to_yaml(config))
    photos, _ = load_photos(config.data)
    model = build_baseline(config, photos)
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    print(f"parameters: {sum(parameter.numel() for parameter in model.parameters()):,}, of which trained {trained:,}")
    processes = create_accelerator(config.run).num_processes
    steps = total_steps(config.run, config.data.epoch_length(photos.sizes), processes)
    print(f"photographs: {len(photos):,}")
    print(f"steps: {steps:,} of {samples_per_step(config.run, processes)} samples")


def main(argv: list[str] | None = None) -> None:
    run_command(BaselineTraining, __doc__, run, dry_run, argv)


if __name__ == "__main__":
    main()
