"""Train the semantic encoder: from what a gray photograph shows to the first guess of its colors.

  python -m train.semantic --config semantic
  python -m train.semantic --config semantic-smoke --output-dir runs/smoke
  python -m train.semantic --config semantic --dry-run

The same command continues a run that was stopped. The result is in OUTPUT_DIR/model: the component `semantic_encoder`
of a pipeline.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from tqdm import trange

from colorization.color import luma, merge_luma_chroma, rgb_to_chroma, rgb_to_lab
from colorization.semantic import CELL, CHROMA_UNIT, SemanticEncoder, chroma_bin

from .backbone import imagenet_weights
from .command import begin_run, run_command, start_trackers
from .config import ObjectiveConfig, SemanticTraining, to_yaml
from .data import PhotoSet, Sample, SampleStream, load_photos, transform_config
from .denoiser import Loss
from .film import draw_film, film_gray
from .loop import create_accelerator, samples_per_step, total_steps, train, write_summary
from .saving import save_half
from .transforms import TransformConfig, flip, prepare_image, sample_rng

_BATCH = 16  # photographs at once outside the training
_MEASURED = 512  # photographs that the features' statistics are taken from


class GuessSamples:
    """Gray photographs, as luma or as an old film saw them, with the chroma that is to be guessed.

    Args:
        photos: where they come from.
        transform: crop and augmentation; its resolution is the encoder's.
        film_probability: share of the samples whose gray is that of a random film.
    """

    def __init__(self, photos: PhotoSet, transform: TransformConfig, film_probability: float):
        self.photos, self.transform, self.film_probability = photos, transform, film_probability

    def draw(self, index: int, rng: np.random.Generator, with_caption: bool = False) -> Sample:
        """`luma` `(1, height, width)` in [0, 1] and `chroma`, a* and b* `(2, height / 8, width / 8)`; mirrored."""
        mirrored = self.transform.flip and rng.uniform() < 0.5
        image = prepare_image(self.photos.image(index), self.transform, rng)[None] / 2 + 0.5
        image = flip(image) if mirrored else image
        gray = luma(image)
        if rng.uniform() < self.film_probability:
            gray = film_gray(image[0], draw_film(rng), rng)[None]
        return {"luma": gray[0], "chroma": cell_chroma(gray, image)[0]}

    def picture(self, index: int) -> Sample:
        """The same of the photograph's luma, never mirrored; every photograph always gets the same crop."""
        still = GuessSamples(self.photos, TransformConfig(self.transform.resolution, "center", 0, 0, False), 0)
        return still.draw(index, sample_rng(0, "picture", index))


def cell_chroma(gray: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    """a* and b* of a photograph's colors on the lightness of a gray version of it, one value per cell.

    Args:
        gray: `(batch, 1, height, width)` in [0, 1].
        image: `(batch, 3, height, width)` RGB in [0, 1].

    Returns:
        `(batch, 2, height / 8, width / 8)`.
    """
    small_gray, small = (F.avg_pool2d(planes, CELL // 2) for planes in (gray, image))
    return F.avg_pool2d(rgb_to_lab(merge_luma_chroma(small_gray, rgb_to_chroma(small)))[:, 1:], 2)


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
        output, target = network(batch["luma"]), batch["chroma"]
        squared = ((output.chroma - target) / CHROMA_UNIT).square().mean(dim=(1, 2, 3))
        bins = chroma_bin(target, self.network.config.bins, self.network.config.bin_width)
        entropy = F.cross_entropy(output.bins, bins, reduction="none").mean(dim=(1, 2))
        per_sample = squared + self.bins_weight * entropy
        parts = {"chroma": squared.mean().detach(), "bins": entropy.mean().detach()}
        return Loss(per_sample.mean(), per_sample.detach(), None, parts)


def new_model(config: SemanticTraining, photos: PhotoSet) -> SemanticEncoder:
    """The encoder to go on from, or the ImageNet backbone with a new decoder; the backbone's early part is frozen."""
    if config.model.start is not None:
        model = SemanticEncoder.from_pretrained(config.model.start, torch_dtype=torch.float32)
    else:
        model = SemanticEncoder(widths=tuple(config.model.widths))
        model.backbone.load_state_dict(imagenet_weights(), strict=False)  # without the classifier
        _measure_statistics(model, GuessSamples(photos, transform_config(config.data), config.data.film_probability))
    for name, parameter in model.backbone.named_parameters():
        parameter.requires_grad_(not name.startswith(tuple(config.model.frozen)))
    return model


@torch.no_grad()
def _measure_statistics(model: SemanticEncoder, samples: GuessSamples) -> None:
    """Store mean and deviation of every feature of the backbone."""
    step = max(len(samples.photos) // _MEASURED, 1)
    rows, found = range(0, len(samples.photos), step)[:_MEASURED], []
    for start in trange(0, len(rows), _BATCH, desc="features", unit="batch"):
        batch = [samples.draw(row, sample_rng(0, "features", row))["luma"] for row in rows[start : start + _BATCH]]
        stages = model.stages(torch.stack(batch))
        found.append([(stage.mean(dim=(2, 3)), stage.square().mean(dim=(2, 3))) for stage in stages])
    for index in range(len(found[0])):
        mean, square = (torch.cat([batch[index][k] for batch in found]).mean(dim=0) for k in (0, 1))
        getattr(model, f"mean_{index}").copy_(mean)
        getattr(model, f"deviation_{index}").copy_((square - mean**2).clamp_min(1e-6).sqrt())


@torch.no_grad()
def explained_chroma(model: SemanticEncoder, samples: GuessSamples, count: int) -> float:
    """1 - squared error / squared chroma of the first `count` photographs: 0 for gray, 1 for perfect."""
    error = total = 0.0
    for start in range(0, min(count, len(samples.photos)), _BATCH):
        rows = range(start, min(start + _BATCH, count, len(samples.photos)))
        batch = [samples.picture(row) for row in rows]
        lumas, targets = (torch.stack([sample[key] for sample in batch]) for key in ("luma", "chroma"))
        guess = model(lumas.to(model.device)).chroma.cpu()
        error += (guess - targets).square().sum().item()
        total += targets.square().sum().item()
    return 1 - error / total


def run(config: SemanticTraining, resume: str | None = None) -> Path:
    """Train and save; returns the model's folder.

    Raises:
        ValueError: settings or data cannot be used.
        ImportError: the backbone's weights are not installed.
        TrainingStopped: the loss was not finite.
    """
    directory, settings = Path(config.run.output_dir), config.run
    accelerator, checkpoint, photos, held_out = begin_run(config, resume)
    if settings.validation_every > 0 and len(held_out) == 0:
        raise ValueError(
            "`run.validation_every` above 0 needs `data.holdout` above 0, and photographs that it holds out"
        )
    start_trackers(accelerator, config)
    transform = transform_config(config.data)
    model = new_model(config, photos).to(accelerator.device)
    validation = GuessSamples(held_out, transform, 0)

    def validate(step: int) -> None:
        was_training = model.training
        explained = explained_chroma(model.eval(), validation, settings.validation_count)
        model.train(was_training)
        print(f"step {step}: explains {explained:.4f} of the chroma of held-out photographs", flush=True)
        accelerator.log({"validation/explained_chroma": explained}, step=step)

    processes = accelerator.num_processes
    steps = total_steps(settings, config.data.epoch_length(photos.sizes), processes)
    stream = SampleStream(
        GuessSamples(photos, transform, config.data.film_probability),
        photos.sizes,
        steps * samples_per_step(settings, processes),
        (1, 1, 1),
        config.data,
        ObjectiveConfig(),
        settings.seed,
    )
    summary = train(
        GuessTask(model, config.model.bins_weight),
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
            summary["held_out_explained_chroma"] = explained_chroma(
                model.eval(), validation, settings.validation_count
            )
        write_summary(directory, summary)
    accelerator.end_training()
    return directory / "model"


def dry_run(config: SemanticTraining) -> None:
    """Print settings, parameter counts and steps."""
    print(to_yaml(config))
    photos, held_out = load_photos(config.data)
    model = SemanticEncoder(widths=tuple(config.model.widths))
    print(f"parameters: {model.num_parameters():,}, {model.backbone.feature_info.channels()} channels of the backbone")
    print(f"photographs: {len(photos):,}, held out: {len(held_out):,}")
    processes = create_accelerator(config.run).num_processes
    steps = total_steps(config.run, config.data.epoch_length(photos.sizes), processes)
    print(f"steps: {steps:,} of {samples_per_step(config.run, processes)}")


def main(argv: list[str] | None = None) -> None:
    run_command(SemanticTraining, __doc__, run, dry_run, argv)


if __name__ == "__main__":
    main()
