"""GPUs that Hugging Face lends to a Space, for the length of a call."""

import importlib
import importlib.util
from collections.abc import Callable

_GPU_SECONDS = 10.0  # to move a model to a borrowed GPU, and to decode
_GPU_SECONDS_PER_STEP = 0.4  # of one photograph: Stable Diffusion at 768 pixels with guidance
_GPU_SECONDS_AT_MOST = 120.0


def on_gpu(function: Callable, duration: Callable) -> Callable:
    """Borrow a GPU for each call where Hugging Face's `spaces` is installed; elsewhere the function itself.

    Args:
        function: its arguments and its result have to be picklable, for there it runs in another process.
        duration: gets the same arguments and answers with the seconds that the call may take.
    """
    if importlib.util.find_spec("spaces") is None:
        return function
    return importlib.import_module("spaces").GPU(duration=duration)(function)


def gpu_seconds(photos: int, steps: int) -> float:
    """How long to borrow a GPU for so many photographs with so many steps each."""
    return min(_GPU_SECONDS + _GPU_SECONDS_PER_STEP * photos * steps, _GPU_SECONDS_AT_MOST)
