"""`python -m eval`: from a model to a table of measurements, in one command per stage."""

import argparse
import importlib
import sys

from colorization.command_line import Parser, stoppable, stopped_status
from colorization.errors import one_line

# Each is a module, see MODULES, with `add_arguments(parser)` and `run(arguments) -> exit status`.
COMMANDS = {
    "generate": "color a data set with a model and store outputs and originals side by side",
    "score": "measure what `generate` or another colorizer wrote",
    "report": "print the table of several scores",
    "sweep": "generate and score over a grid of settings",
    "study": "the studies behind the documents",
}
MODULES = {"study": "studies.command"}  # of this package; the others are called like their command

_EXAMPLES = """examples:
  python -m eval generate --dataset imagefolder:photos --model embedded --output runs/photos
  python -m eval score runs/photos
  python -m eval report runs/photos

`python -m eval COMMAND --help` tells more.
exit status: 0 all done, 1 some inputs failed (each is named), 2 bad arguments"""


def build_parser(chosen: str | None = None) -> argparse.ArgumentParser:
    """The parser of all commands; only the chosen command's module is imported, for its arguments."""
    parser = Parser(
        prog="python -m eval",
        description=__doc__,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text, formatter_class=argparse.RawDescriptionHelpFormatter)
        if name == chosen:
            module = importlib.import_module(f".{MODULES.get(name, name)}", __package__)
            command.description = module.__doc__
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        parser = build_parser(chosen=next((word for word in argv if word in COMMANDS), None))
        arguments = parser.parse_args(argv)
        with stoppable():
            return arguments.run(arguments)
    except OSError as error:
        Parser().error(f"{error.filename}: {error.strerror}" if error.filename else one_line(error))
    except (ValueError, ImportError) as error:
        Parser().error(one_line(error))
    except KeyboardInterrupt as stop:
        return stopped_status(stop)


if __name__ == "__main__":
    sys.exit(main())
