"""Validation during training: loss by severity, colorfulness against the originals, a grid of pictures."""

import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from diffusers import DiffusionPipeline
from huggingface_hub.errors import HTTPError
from PIL import Image

from colorization.color import colorfulness
from colorization.degradation import to_gray
from colorization.errors import one_line
from colorization.pipeline import ColorizationPipeline

from .config import DataConfig, RunConfig
from .data import PhotoSet
from .denoiser import ColorTask
from .sources import UnreadablePhoto, load_source, read_photo
from .text import Tokenize
from .transforms import TransformConfig, prepare_image, sample_rng

logger = logging.getLogger(__name__)

HOLDOUT = "holdout"  # the photographs that the training data kept out
SEVERITIES = (0.1, 0.3, 0.5, 0.7, 0.9)
GRID_WIDTH = 192  # pixels of each picture


def load_validation(run: RunConfig, data: DataConfig, held_out: PhotoSet) -> torch.Tensor | None:
    """The validation's photographs as training pictures, without augmentation; None when there are none.

    Training matters more than validation: a data set that cannot be reached gives a warning.

    Returns:
        `(count, 3, resolution, resolution)` in [-1, 1].
    """
    if run.validation_every == 0 or run.validation_dataset is None:
        return None
    if run.validation_dataset == HOLDOUT:
        return _prepare((held_out.image(i) for i in range(len(held_out))), run.validation_count, data)
    try:
        splits = load_source(run.validation_dataset, streaming=True)
        if run.validation_split not in splits:
            raise ValueError(f"its splits are {sorted(splits)}, not {run.validation_split!r}")
        images = _readable(splits[run.validation_split], run.validation_dataset)
        return _prepare(images, run.validation_count, data)
    except (OSError, ValueError, HTTPError) as error:
        reason = one_line(error)
        logger.warning("no validation: %s cannot be read (%s)", run.validation_dataset, reason)
        return None


def _readable(split: Iterable[dict], source: str) -> Iterator[Image.Image]:
    """The photographs of a split that can be read; a warning names the others."""
    for number, row in enumerate(split):
        try:
            yield read_photo(row["image"], f"row {number} of {source}")[1]
        except UnreadablePhoto as error:
            logger.warning("left out of the validation: %s", error)


def _prepare(images: Iterable[Image.Image], count: int, data: DataConfig) -> torch.Tensor:
    """The first `count` pictures, cut from the center and not augmented, `(count, 3, resolution, resolution)`."""
    plain = TransformConfig(data.resolution, "center", 0.0, 0.0, False)
    rng = np.random.default_rng(0)  # nothing is drawn that would show
    pictures = [prepare_image(image, plain, rng) for image in itertools.islice(images, count)]
    if not pictures:
        raise ValueError("it holds no photographs")
    return torch.stack(pictures)


def check_validation(run: RunConfig, held_out: PhotoSet) -> None:
    """ValueError when the photographs to validate on are to be those held out and there are none."""
    if run.validation_every > 0 and run.validation_dataset == HOLDOUT and len(held_out) == 0:
        raise ValueError(
            f"`run.validation_every` above 0 needs `data.holdout` above 0: `run.validation_dataset` is {HOLDOUT}, but "
            "`data.holdout` keeps no photograph out"
        )


def make_validation(
    make: Callable[[torch.Tensor | None], "PictureValidation"],
    run: RunConfig,
    data: DataConfig,
    held_out: PhotoSet,
    accelerator: Accelerator,
) -> "PictureValidation | None":
    """What `make` makes of the photographs to validate on, which only the main process has; None without them."""
    images = load_validation(run, data, held_out) if accelerator.is_main_process else None
    # Whether there is a validation is known to the process that loaded it; all must stop for it.
    return make(images) if broadcast_object_list([images is not None])[0] else None


class PictureValidation:
    """Colors pictures with the model as it is being trained: colorfulness against the originals, a grid to look at.

    Args:
        pipeline: called with gray pictures; holds the weights that are trained.
        images: from :func:`load_validation`; only the main process has and needs them.
        run: settings; pictures go to `validation/step-000100.jpg` in its folder.
        accelerator: whose trackers get the results.
    """

    def __init__(
        self, pipeline: DiffusionPipeline, images: torch.Tensor | None, run: RunConfig, accelerator: Accelerator
    ):
        self.pipeline, self.images, self.run, self.accelerator = pipeline, images, run, accelerator

    def networks(self) -> Sequence[torch.nn.Module]:
        """What is trained."""
        return [part for part in self.pipeline.components.values() if isinstance(part, torch.nn.Module)]

    def measure(self) -> tuple[dict[str, float], torch.Tensor]:
        """Further values for the log, and the colored pictures."""
        return {}, self.color()

    def __call__(self, step: int) -> None:
        """Measure, draw, log."""
        for network in self.networks():
            network.eval()
        with torch.no_grad(), self.accelerator.autocast():
            values, colored = self.measure()
        original = (self.images / 2 + 0.5).clamp(0, 1)
        output, truth = colorfulness(colored), colorfulness(original)
        values["validation/colorfulness"] = float(output.mean())
        values["validation/colorfulness_ratio"] = float(output.mean() / truth.mean())
        grid = draw_grid([to_gray(original), colored, original])
        file = Path(self.run.output_dir) / "validation" / f"step-{step:06d}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_suffix(".tmp")
        grid.save(temporary, format="JPEG", quality=90)
        temporary.replace(file)
        self.accelerator.log(values, step=step)
        for tracker in self.accelerator.trackers:
            if tracker.name == "tensorboard":
                tracker.log_images({"validation": np.asarray(grid)[None]}, step=step, dataformats="NHWC")
            elif hasattr(tracker, "log_images"):  # not all can show pictures
                tracker.log_images({"validation": [grid]}, step=step)

    def color(self) -> torch.Tensor:
        """The gray pictures colored without a prompt, `(count, 3, resolution, resolution)` in [0, 1]."""
        gray = to_gray(self.images / 2 + 0.5)
        self.pipeline.set_progress_bar_config(disable=True)
        colored = self.pipeline(list(gray), seed=list(range(len(gray))), output_type="pt").images
        return torch.stack(colored)


class Validation(PictureValidation):
    """Validates a diffusion model: its loss by severity too.

    Args:
        task: the network and its loss.
        pipeline, images, run, accelerator: see :class:`PictureValidation`.
        idle: components that training keeps off the device; they come back for the validation.
    """

    def __init__(
        self,
        task: ColorTask,
        pipeline: ColorizationPipeline,
        images: torch.Tensor | None,
        run: RunConfig,
        accelerator: Accelerator,
        idle: Sequence[torch.nn.Module] = (),
    ):
        super().__init__(pipeline, images, run, accelerator)
        self.task, self.idle = task, idle

    def networks(self) -> Sequence[torch.nn.Module]:
        return [self.task.network]

    def measure(self) -> tuple[dict[str, float], torch.Tensor]:
        for component in self.idle:
            component.to(self.accelerator.device)
        values, colored = self._losses(), self.color()
        for component in self.idle:
            component.to("cpu")
        return values, colored

    def _losses(self) -> dict[str, float]:
        """Loss without captions at fixed severities, with the same noise every time."""
        device, pipeline = self.accelerator.device, self.pipeline
        text = Tokenize(pipeline)("").to(device)
        values = {}
        for severity in SEVERITIES:
            losses = []
            for i, image in enumerate(self.images):
                z_shape = (
                    pipeline.vae.config.latent_channels,
                    *(s // pipeline.vae_scale_factor for s in image.shape[1:]),
                )
                noise = sample_rng(self.run.seed, "validation", i).standard_normal(z_shape, dtype=np.float32)
                batch = {
                    "image": image[None].to(device),
                    "text": text[None],
                    "noise": torch.from_numpy(noise)[None].to(device),
                    "severity": torch.tensor([severity], device=device),
                }
                losses.append(self.task.loss(self.task.network, batch).per_sample)
            values[f"validation/loss_at_severity_{severity}"] = float(torch.cat(losses).mean())
        return values


def draw_grid(columns: Sequence[torch.Tensor]) -> Image.Image:
    """Pictures `(rows, 3, height, width)` in [0, 1], one tensor a column, side by side."""
    count = len(columns[0])
    height, width = (round(GRID_WIDTH * side / columns[0].shape[3]) for side in columns[0].shape[2:])
    grid = Image.new("RGB", (len(columns) * width, count * height))
    for x, column in enumerate(columns):
        for y, picture in enumerate(column):
            pixels = (picture.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
            grid.paste(Image.fromarray(pixels).resize((width, height)), (x * width, y * height))
    return grid
