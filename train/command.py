"""What the trainers' commands have in common: from the command line to an exit status, and how a run begins."""

from collections.abc import Callable
from pathlib import Path

from accelerate import Accelerator, PartialState
from accelerate.utils import set_seed

from .config import AnyTraining, Training, fail, flat_settings, parse_command_line
from .data import PhotoSet, load_photos
from .loop import TrainingStopped, create_accelerator, write_config


def run_command(
    kind: type[Training],
    description: str,
    run: Callable[[Training, str | None], Path],
    dry_run: Callable[[Training], None],
    argv: list[str] | None,
) -> None:
    """Read the settings and train, or say what would be done; ends the process with one line on errors.

    Args:
        kind: of the settings.
        description: for --help.
        run: trains with (settings, resume) and returns the folder of the result.
        dry_run: prints what would be done.
        argv: arguments; None takes the process's.
    """
    config, options = parse_command_line(kind, description, argv)
    try:
        if options.dry_run:
            dry_run(config)
            return
        folder = run(config, options.resume)
        if PartialState().is_main_process:
            print(f"saved {folder}")
    except TrainingStopped as error:
        fail(str(error), status=1)
    except (ValueError, OSError) as error:
        fail(str(error))


def begin_run(config: AnyTraining, resume: str | None) -> tuple[Accelerator, Path | None, PhotoSet, PhotoSet]:
    """Store the settings, load the photographs and set the seed, in this order: what is built next is always the same.

    Returns:
        The accelerator, the checkpoint to go on from or None, the photographs to train on, and those held out.

    Raises:
        ValueError: settings or data cannot be used.
    """
    accelerator = create_accelerator(config.run)
    checkpoint = write_config(config, resume, accelerator.is_main_process)
    with accelerator.main_process_first():
        photos, held_out = load_photos(config.data)
    set_seed(config.run.seed % 2**31)
    return accelerator, checkpoint, photos, held_out


def start_trackers(accelerator: Accelerator, config: AnyTraining) -> None:
    """Have the run's tracker, if it has one, log from here on; once the settings are known to be good."""
    if config.run.trackers != "none":
        accelerator.init_trackers("cold-colorizer", config=flat_settings(config))
