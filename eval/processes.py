"""Work that several processes share."""

from collections.abc import Callable, Iterable
from typing import TypeVar

from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from tqdm import tqdm

from colorization.errors import one_line

_T = TypeVar("_T")


def main_first(state: PartialState, action: Callable[[], _T]) -> _T:
    """Result of an action in every process, in the main one first: what it downloads, the others find in the cache.

    Raises:
        ValueError: in every process, with the main one's message, so that none waits for the others in vain.
    """
    result = only_main(state, action, share=False)
    return result if state.is_main_process else action()


def only_main(state: PartialState, action: Callable[[], _T], share: bool = True) -> _T | None:
    """Result of an action of the main process, for all (`share`) or for itself; its errors are all processes'."""
    result, problem = None, None
    if state.is_main_process:
        try:
            result = action()
        except (ValueError, OSError) as error:
            problem = one_line(error)
    shared = broadcast_object_list([problem, result if share else None])
    if shared[0] is not None:
        raise ValueError(shared[0])
    return shared[1] if share else result


def progress_bar(items: Iterable | None, text: str, total: int, state: PartialState) -> tqdm:
    """A progress bar of the main process's share."""
    text = text if state.num_processes == 1 else f"{text} (process 1 of {state.num_processes})"
    return tqdm(items, desc=text, total=total, unit="photo", disable=not state.is_main_process)
