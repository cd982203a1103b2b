"""What the trainers' commands have in common: from the command line to an exit status."""

from collections.abc import Callable
from pathlib import Path

from accelerate import PartialState

from .config import Training, fail, parse_command_line
from .loop import TrainingStopped


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
