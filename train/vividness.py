"""Train the network that predicts how colorful a photograph was from its gray version.

  python -m train.vividness --config vividness
  python -m train.vividness --config vividness-smoke --output-dir runs/smoke
  python -m train.vividness --config vividness --dry-run

The same command continues a run that was stopped. The result is in OUTPUT_DIR/model: the component `vividness` of a
pipeline, which `color_scale="auto"` needs.
"""

from pathlib import Path

import torch
from torch import nn

from colorization.color import colorfulness, luma
from colorization.vividness import VividnessModel

from .command import begin_run, run_command, start_trackers
from .config import ObjectiveConfig, VividnessTraining, to_yaml
from .data import PhotoSet, Sample, SampleStream, load_photos, transform_config
from .denoiser import Loss
from .loop import create_accelerator, samples_per_step, total_steps, train, write_summary
from .saving import save_half
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


def run(config: VividnessTraining, resume: str | None = None) -> Path:
    """Train and save; returns the model's folder.

    Raises:
        ValueError: settings or data cannot be used.
        TrainingStopped: the loss was not finite.
    """
    directory, settings = Path(config.run.output_dir), config.run
    accelerator, checkpoint, photos, held_out = begin_run(config, resume)
    if settings.validation_every > 0 and len(held_out) == 0:
        raise ValueError(
            "`run.validation_every` above 0 needs `data.holdout` above 0, and photographs that it holds out"
        )
    start_trackers(accelerator, config)
    model, transform = new_model(config).to(accelerator.device), transform_config(config.data)
    validation = GraySamples(held_out, transform)

    def validate(step: int) -> None:
        error = held_out_error(model, validation, settings.validation_count)
        accelerator.log({"validation/colorfulness_error": error}, step=step)

    processes = accelerator.num_processes
    steps = total_steps(settings, config.data.epoch_length(photos.sizes), processes)
    stream = SampleStream(
        GraySamples(photos, transform),
        photos.sizes,
        steps * samples_per_step(settings, processes),
        (1, 1, 1),
        config.data,
        ObjectiveConfig(),
        settings.seed,
    )
    summary = train(
        VividnessTask(model),
        stream,
        config.optim,
        settings,
        accelerator,
        checkpoint,
        directory,
        validate=validate if settings.validation_every > 0 else None,
        workers=config.data.workers,
    )
    if accelerator.is_main_process:
        save_half(model, directory / "model")
        summary |= {"photographs": len(photos), "held_out": len(held_out)}
        if len(held_out):
            summary["held_out_colorfulness_error"] = held_out_error(model.eval(), validation, len(held_out))
        write_summary(directory, summary)
    accelerator.end_training()
    return directory / "model"


def dry_run(config: VividnessTraining) -> None:
    """Print settings, parameter count and steps."""
    print(to_yaml(config))
    print(f"parameters: {new_model(config).num_parameters():,}")
    photos, held_out = load_photos(config.data)
    print(f"photographs: {len(photos):,}, held out: {len(held_out):,}")
    processes = create_accelerator(config.run).num_processes
    steps = total_steps(config.run, config.data.epoch_length(photos.sizes), processes)
    per_step = samples_per_step(config.run, processes)
    print(f"steps: {steps:,} of {per_step} samples")


def main(argv: list[str] | None = None) -> None:
    run_command(VividnessTraining, __doc__, run, dry_run, argv)


if __name__ == "__main__":
    main()
