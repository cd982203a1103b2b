"""The course of every training, from the command line over data, model and loop to the folder of the result.

What is particular to one kind of training is a :class:`Trainer`: which model is built, which samples it sees, what it
is asked for, and how it is saved.
"""

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar, Generic

from accelerate import Accelerator, PartialState
from accelerate.utils import set_seed

from colorization.command_line import stoppable, stopped_status
from colorization.errors import one_line

from .config import ObjectiveConfig, Training
from .config_file import fail, flat_settings, parse_command_line, to_yaml
from .data import PhotoSet, Samples, SampleStream, load_photos, name_unreadable
from .loop import (
    Task,
    TrainingStopped,
    create_accelerator,
    samples_per_step,
    total_steps,
    train,
    write_config,
    write_summary,
)
from .validation import check_validation


class Trainer(ABC, Generic[Training]):
    """One kind of training. :func:`run` makes one for each run and calls its methods in the order of this class.

    Args:
        config: settings.
        accelerator: from `train.loop.create_accelerator`.
        photos, held_out: from `train.data.load_photos`.

    Attributes:
        settings: class of the settings.
        result: what :meth:`save` writes is in the run's folder under this name.
        built_from_photos: whether the model cannot be described without the photographs.
    """

    settings: ClassVar[type]
    result: ClassVar[str] = "model"
    built_from_photos: ClassVar[bool] = False

    def __init__(self, config: Training, accelerator: Accelerator, photos: PhotoSet, held_out: PhotoSet):
        self.config, self.accelerator, self.photos, self.held_out = config, accelerator, photos, held_out

    @abstractmethod
    def build(self) -> None:
        """Make or load the model, on the accelerator's device; ValueError when that cannot be."""

    def check(self) -> None:
        """ValueError on settings that do not suit the model, before anything long is begun."""

    def prepare(self) -> None:
        """Train what must be there first; the accelerator must be a new one if it is used for that."""

    @abstractmethod
    def task(self) -> Task:
        """The network and the loss of a batch."""

    def validation(self) -> Callable[[int], None] | None:
        """What measures the network at a step, see `train.loop.train`; None when nothing does."""
        return None

    @abstractmethod
    def samples(self) -> Samples:
        """What draws a sample of one photograph."""

    @property
    def objective(self) -> ObjectiveConfig:
        """Which severities the samples get."""
        return ObjectiveConfig()

    @property
    def noise_shape(self) -> tuple[int, int, int]:
        """`(channels, h, w)` of the noise of a sample."""
        return (1, 1, 1)

    @abstractmethod
    def save(self, directory: Path) -> None:
        """Write the trained model; the folder appears under its name when it is complete."""

    def facts(self, summary: dict) -> dict:
        """What the run's summary says beyond what the loop returned, which is `summary`."""
        return {}

    @classmethod
    @abstractmethod
    def describe(cls, config: Training, photos: PhotoSet | None) -> Iterator[str]:
        """Lines on the model, for the dry run; `photos` is None when they are not there and not needed."""


def run(kind: type[Trainer[Training]], config: Training, resume: str | None = None) -> Path:
    """Train and save; returns the folder of the result.

    Args:
        kind: of training.
        config: settings, of `kind.settings`.
        resume: see `train.checkpoint.find_checkpoint`.

    Raises:
        ValueError: settings, data or model cannot be used.
        TrainingStopped: the loss was not finite.
    """
    directory = Path(config.run.output_dir)
    accelerator = create_accelerator(config.run)
    checkpoint = write_config(config, resume, accelerator.is_main_process)
    with accelerator.main_process_first():
        photos, held_out = load_photos(config.data)
    if accelerator.is_main_process:
        name_unreadable(photos)
    check_validation(config.run, held_out)
    # After the photographs and before the model: new weights are always the same.
    set_seed(config.run.seed % 2**31)
    trainer = kind(config, accelerator, photos, held_out)
    with accelerator.main_process_first():
        trainer.build()
    trainer.check()
    trainer.prepare()
    accelerator = trainer.accelerator
    if config.run.trackers != "none":  # once the settings are known to be good
        accelerator.init_trackers("cold-colorizer", config=flat_settings(config))
    task, validate, samples = trainer.task(), trainer.validation(), trainer.samples()
    steps = total_steps(config.run, config.data.epoch_length(photos.sizes), accelerator.num_processes)
    total = steps * samples_per_step(config.run, accelerator.num_processes)
    stream = SampleStream(
        samples, photos.sizes, total, trainer.noise_shape, config.data, trainer.objective, config.run.seed
    )
    workers = config.data.workers
    summary = train(task, stream, config.optim, config.run, accelerator, checkpoint, directory, validate, workers)
    if accelerator.is_main_process:
        trainer.save(directory / trainer.result)
        write_summary(directory, summary | _count(photos) | trainer.facts(summary))
    accelerator.end_training()
    return directory / trainer.result


def _count(photos: PhotoSet) -> dict[str, int]:
    unreadable = {"unreadable": len(photos.unreadable)} if photos.unreadable else {}
    return {"photographs": len(photos)} | unreadable


def dry_run(kind: type[Trainer[Training]], config: Training) -> None:
    """Print settings, what there is to say of the model, number of photographs and steps."""
    print(to_yaml(config))
    try:
        photos, held_out = load_photos(config.data)
        name_unreadable(photos)
    except (OSError, ValueError) as error:
        if kind.built_from_photos:
            raise
        photos, reason = None, one_line(error)
    for line in kind.describe(config, photos):
        print(line)
    processes = create_accelerator(config.run).num_processes
    per_step = samples_per_step(config.run, processes)
    if photos is None:
        print(f"photographs: unknown ({reason})")
        print(f"steps: {config.run.max_steps or f'{config.run.epochs} x photographs / {per_step}'}")
    else:
        print(f"photographs: {len(photos):,}, held out: {len(held_out):,}")
        steps = total_steps(config.run, config.data.epoch_length(photos.sizes), processes)
        print(f"steps: {steps:,} of {per_step} samples")


def run_command(kind: type[Trainer[Training]], description: str, argv: list[str] | None) -> None:
    """Read the settings and train, or say what would be done; ends the process with one line on errors.

    Args:
        kind: of training.
        description: for --help.
        argv: arguments; None takes the process's.
    """
    config, options = parse_command_line(kind.settings, description, argv)
    try:
        if options.dry_run:
            dry_run(kind, config)
            return
        with stoppable():
            folder = run(kind, config, options.resume)
        if PartialState().is_main_process:
            print(f"saved {folder}")
    except KeyboardInterrupt as stop:
        sys.exit(stopped_status(stop))
    except TrainingStopped as error:
        fail(str(error), status=1)
    except (ValueError, OSError, ImportError) as error:
        fail(str(error))
