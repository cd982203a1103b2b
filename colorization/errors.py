"""Errors and warnings that users of the library may want to catch; importing them loads nothing else."""


class ModelLoadError(ValueError):
    """A model or an adapter that cannot be loaded; the message is one line and names it."""


class ColorizationWarning(UserWarning):
    """A setting that has no effect, or not the whole effect, that the caller may expect."""


def one_line(error: BaseException) -> str:
    """An error's text without line breaks; its name where it has none."""
    return " ".join(str(error).split()) or type(error).__name__
