"""Errors and warnings that users of the library may want to catch; importing them loads nothing else."""

import os
import traceback

# Errors whose text says what is wrong. All others are faults of this program.
_FORESEEN = (OSError, ValueError, RuntimeError, MemoryError)
_PACKAGES = ("colorization", "train", "eval", "demo")  # of this project

REPORT_HINT = "an unexpected error is a fault of this program: please report that line, with the file if you may"


class ModelLoadError(ValueError):
    """A model or an adapter that cannot be loaded; the message is one line and names it."""


class StorageFull(OSError):
    """A result finds no room, and neither would those that follow; the message is the system's."""


class ColorizationWarning(UserWarning):
    """A setting that has no effect, or not the whole effect, that the caller may expect."""


def one_line(error: BaseException) -> str:
    """An error's text without line breaks; its name where it has none."""
    return " ".join(str(error).split()) or type(error).__name__


def is_unexpected(error: BaseException) -> bool:
    """Whether an error is one that this program does not raise on purpose and knows no words for."""
    return not isinstance(error, _FORESEEN)


def explain(error: BaseException) -> str:
    """Why something failed, in one line; an unexpected error is called so, with the place in the code."""
    if is_unexpected(error):
        text, kind = " ".join(str(error).split()), type(error).__name__
        return f"unexpected {kind}" + (f": {text}" if text else "") + _place(error)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror + (f": {error.filename}" if error.filename else "")
    return one_line(error)


def _place(error: BaseException) -> str:
    """Where in this project an error came up."""
    own = [
        f"{os.path.basename(frame.f_code.co_filename)}, line {line}"
        for frame, line in traceback.walk_tb(error.__traceback__)
        if frame.f_globals.get("__name__", "").partition(".")[0] in _PACKAGES
    ]
    return f" ({own[-1]})" if own else ""
