"""The library's errors and warnings as messages on the page."""

import os
import re
import tempfile
import textwrap
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape

import gradio as gr
from gradio.utils import get_upload_folder

from colorization.errors import ColorizationWarning, explain
from colorization.photo import RAISE_LIMIT, ImageError

from .engine import Canceled

_SEPARATOR = re.escape(os.sep)
_heard = threading.local()
_hooking = threading.Lock()


@contextmanager
def problems_on_page(path: str | None = None) -> Iterator[None]:
    """Show the user why the code inside failed, whatever the reason, or what the library warns of there.

    Args:
        path: the upload that is worked on; messages name the file, but not its folder.
    """
    _listen()
    messages = _heard.messages = []
    try:
        yield
    except Canceled as error:
        raise gr.Error("Canceled.", print_exception=False) from error
    except gr.Error:  # which is a ValueError, and has its words already
        raise
    except Exception as error:
        # A bad file is the user's business; anything else may be ours and belongs in the server's log too.
        raise gr.Error(on_page(explain(error), path), print_exception=not isinstance(error, ImageError)) from error
    finally:
        _heard.messages = None
    for text in dict.fromkeys(on_page(message, path) for message in messages):
        gr.Warning(text)


def _listen() -> None:
    """Have warnings that are for users kept for the thread that works for the user.

    The hook is the process's and stays: handlers run side by side, so none of them could take it back for the others.
    """
    with _hooking:
        if getattr(warnings.showwarning, "keeps_messages", False):
            return
        show_elsewhere = warnings.showwarning

        def show(message, category, *location) -> None:
            messages = getattr(_heard, "messages", None)
            if category is ColorizationWarning and messages is not None:
                messages.append(message)
            else:
                show_elsewhere(message, category, *location)

        show.keeps_messages = True
        warnings.showwarning = show
        warnings.simplefilter("always", ColorizationWarning)


def on_page(message: object, path: str | None = None) -> str:
    """A message for gradio's pop-ups, which show HTML: one line, without the names of the server's folders."""
    text = str(message).removesuffix(f"; {RAISE_LIMIT}")
    folders = {get_upload_folder(), tempfile.gettempdir(), *([] if path is None else [os.path.dirname(path)])}
    for folder in sorted(folders, key=len, reverse=True):  # with whatever folders are below
        text = re.sub(rf"{re.escape(os.path.join(folder, ''))}(?:[^\s{_SEPARATOR}]+{_SEPARATOR})*", "", text)
    return escape(textwrap.shorten(text, 300, placeholder=" …"), quote=False)
