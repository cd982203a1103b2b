"""What the server keeps of each visitor: a folder of files and the last result. It goes when the visitor does."""

import os
import secrets
import shutil
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import gradio as gr
from gradio.utils import get_upload_folder

from colorization.prediction import ChromaPrediction

from .engine import Canceled

VISITS_AT_MOST = 200
SECONDS_AT_MOST = 3600  # without any request
RESULT_BYTES_AT_MOST = 2**28  # of all visits; a Stable Diffusion result of four variants has thirty million
_FILES_OF_A_KIND = 3  # an older preview may still be on its way to the browser


@dataclass(frozen=True)
class Result:
    """What was sampled for one photograph.

    Args:
        path: the photograph as it was uploaded.
        before: the gray picture on the page.
        predictions: one for each variant.
        chosen: index of the variant that the visitor has taken.
    """

    path: str
    before: str
    predictions: list[ChromaPrediction]
    chosen: int = 0

    @property
    def prediction(self) -> ChromaPrediction:
        """The chosen variant."""
        return self.predictions[self.chosen]

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        kept = [tensor for one in self.predictions for tensor in (one.chroma, one.guide)]
        kept += [tensor for one in self.predictions if one.hints for tensor in (one.hints.chroma, one.hints.region)]
        return sum(tensor.nbytes for tensor in kept)


@dataclass
class Visit:
    """One visitor's files, all below `folder` but the uploads, which are where gradio has put them.

    Args:
        visitor: session, or a made-up name where there is none.
        folder: is made when the first file is.
        seen: time of the last request, in seconds.
        uploads: paths of the files that go with the visit.
        result: what was colored last.
        originals: copy that a browser can show -> the upload that it stands for.
        closed: whether its files are deleted; a request that still runs must not write new ones.
    """

    visitor: str
    folder: Path
    seen: float = field(default_factory=time.monotonic)
    uploads: set[str] = field(default_factory=set)
    result: Result | None = None
    originals: dict[str, str] = field(default_factory=dict)
    closed: bool = False
    _written: dict[str, deque] = field(default_factory=dict)

    def new_file(self, kind: str, name: str) -> str:
        """Path of a new file; of each kind only the last few are kept. `Canceled` when the visit is over."""
        if self.closed:
            raise Canceled
        folder = self.folder / secrets.token_hex(8)
        folder.mkdir(parents=True)
        written = self._written.setdefault(kind, deque())
        written.append(folder)
        while len(written) > _FILES_OF_A_KIND:
            shutil.rmtree(written.popleft(), ignore_errors=True)
        return str(folder / name)


class Visits:
    """The visits by their session. There is a bound to their number and to their age; the oldest go first."""

    def __init__(self):
        self._visits: OrderedDict[str, Visit] = OrderedDict()
        self._lock = threading.Lock()
        self._page_files: set[str] = set()
        self._changed: dict[str, int] = {}  # upload of a visit -> when it was written, in nanoseconds

    def spare_page_files(self) -> None:
        """Never delete what is in gradio's folder now: a visitor may name the page's own pictures as uploads."""
        self._page_files = {str(path) for path in Path(get_upload_folder()).rglob("*") if path.is_file()}

    def of(self, request: gr.Request | None, uploads: Iterable[str] = ()) -> Visit:
        """The visit that a request belongs to; a new one where the request names no session.

        Args:
            request: gradio's; None outside a request.
            uploads: uploaded files of the request; they are deleted with the visit.
        """
        session = getattr(request, "session_hash", None) or secrets.token_hex(8)
        with self._lock:
            visit = self._visits.pop(session, None)
            if visit is None:
                # Not named by the session: that is the visitor's own choice of characters.
                visit = Visit(session, Path(get_upload_folder(), f"visit-{secrets.token_hex(8)}"))
            self._visits[session] = visit
            visit.seen = time.monotonic()
            for path in uploads:
                if path not in self._page_files and (changed := _changed(path)) is not None:
                    visit.uploads.add(path)
                    self._changed[path] = changed
            overdue = [old for old in self._visits.values() if visit.seen - old.seen > SECONDS_AT_MOST]
            overdue += list(self._visits.values())[: max(0, len(self._visits) - VISITS_AT_MOST)]
            for old in overdue:
                self._delete(old)
            self._forget_results()
        return visit

    def end(self, request: gr.Request) -> str:
        """Delete what was kept for the visitor who leaves; returns the session."""
        with self._lock:
            visit = self._visits.get(request.session_hash)
            if visit is not None:
                self._delete(visit)
        return request.session_hash

    def _forget_results(self) -> None:
        """Keep the latest results, as many as fit; whose result is gone has to color the photograph again."""
        held = 0
        for visit in reversed(self._visits.values()):
            if visit.result is not None:
                held += visit.result.nbytes
                if held > RESULT_BYTES_AT_MOST:
                    visit.result = None

    def _delete(self, visit: Visit) -> None:
        visit.closed = True
        self._visits.pop(visit.visitor, None)
        shutil.rmtree(visit.folder, ignore_errors=True)
        # gradio stores equal uploads of several visitors once, and a visitor is known here a little after the upload:
        # a file that was written again meanwhile is somebody's who has yet to ask for something.
        for path in visit.uploads - {path for other in self._visits.values() for path in other.uploads}:
            if self._changed.pop(path, None) == _changed(path):
                with suppress(OSError):
                    os.unlink(path)
                    os.rmdir(os.path.dirname(path))


def _changed(path: str) -> int | None:
    """When a file was written or moved to its place, in nanoseconds; None where there is none."""
    try:
        return os.stat(path).st_ctime_ns
    except OSError:
        return None
