"""What the commands of this project have in common: how arguments are read, errors and warnings told, cores shared.

Heavy libraries are imported by none of it, so that `--help` is there at once.
"""

import argparse
import math
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .errors import ColorizationWarning


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line and end the process with status 2."""

    def error(self, message: str):
        self.exit(2, f"error: {message}\n")


def encodable_text(argument: str) -> str:
    """Text that can be encoded: bytes that the terminal's encoding does not know arrive as lone surrogates."""
    if not argument.isprintable() and any("\ud800" <= character <= "\udfff" for character in argument):
        raise argparse.ArgumentTypeError("is not valid text in this terminal's encoding")
    return argument


def at_least(minimum: int, kind: type = int) -> Callable[[str], float]:
    """Parser of a whole (int) or finite (float) number that is not below `minimum`."""

    def parse(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not minimum <= value < 2**63:
            name = "whole" if kind is int else "finite"
            raise argparse.ArgumentTypeError(f"must be a {name} number of at least {minimum}, got {text!r}")
        return value

    return parse


def color_scale(argument: str) -> float | str:
    """A number of at least 0, or "auto"."""
    try:
        return argument if argument == "auto" else at_least(0, float)(argument)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}; or auto") from error


class Terminated(KeyboardInterrupt):
    """SIGTERM, of container engines, service managers and batch systems."""


@contextmanager
def stoppable() -> Iterator[None]:
    """Have SIGTERM end what is inside like Ctrl-C, so that nothing half-written stays behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number, frame):
        raise Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def stopped_status(stop: KeyboardInterrupt) -> int:
    """Exit status of a command that was stopped, after saying so."""
    print("interrupted: the same command goes on where this one stopped", file=sys.stderr)
    return 128 + (signal.SIGTERM if isinstance(stop, Terminated) else signal.SIGINT)


def share_cores() -> None:
    """Let idle OpenMP threads spin only briefly before they sleep; to be called before torch is imported.

    GNU OpenMP's default of some milliseconds keeps the cores from whatever else runs: our own reading and writing
    threads, or other programs. Beside one busy program sampling then takes over ten times as long as alone; with this
    setting, three times. Not spinning at all would cost half as much again on an idle machine.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "5000")


def quiet_libraries() -> None:
    """No progress bars and remarks of the model libraries: what matters of it, `load_pipeline` says itself."""
    import diffusers
    import transformers

    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()


@contextmanager
def one_line_warnings() -> Iterator[None]:
    """Show what this library warns of as a line each, and nothing that other libraries warn of."""
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        warnings.simplefilter("ignore")  # the libraries', whose remedy is not in the user's hands
        warnings.simplefilter("default", ColorizationWarning)
        yield


def _show_warning(message, category, filename, lineno, file=None, line=None) -> None:
    print(f"warning: {message}", file=sys.stderr)
