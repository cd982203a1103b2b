"""Many photographs through one pipeline: a thread reads from a source, this one samples, a third writes to a sink.

What the source and the sink are is not this module's business: files here, the frames of a film elsewhere.
"""

import math
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

from tqdm import tqdm

from .atomic import is_full
from .errors import StorageFull, explain
from .files import Report, Task, printable
from .hints import Hint, check_inside
from .image_io import read_image, write_image
from .photo import DEFAULT_MAX_PIXELS, Photo
from .prediction import ChromaPrediction

_PENDING_BATCHES = 4  # batches of photographs that wait at most for others of their shape
_MEMORY_BYTES = 1e9  # photographs in memory; decoding one and rendering one come on top


class Source(Protocol):
    """Where photographs come from, in the order of its items; an item is whatever stands for one photograph."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Any]: ...

    def read(self, item: Any) -> Photo:
        """The photograph; called in the reading thread, in order."""

    def hints(self, item: Any) -> tuple[Hint, ...]:
        """Color hints for it."""


class Sink(Protocol):
    """Where predictions go, in the order in which they were made: batches hold photographs of one shape."""

    def write(self, item: Any, photo: Photo, prediction: ChromaPrediction) -> None:
        """Keep a result; called in the writing thread."""

    def succeed(self, item: Any) -> None:
        """An item's result has been kept."""

    def fail(self, item: Any, error: Exception) -> None:
        """There will be no result for an item."""


@dataclass(frozen=True)
class FileSource:
    """The photographs of tasks; larger ones than `max_pixels` are refused."""

    tasks: list[Task]
    max_pixels: int = DEFAULT_MAX_PIXELS

    def __len__(self) -> int:
        return len(self.tasks)

    def __iter__(self) -> Iterator[Task]:
        return iter(self.tasks)

    def read(self, item: Task) -> Photo:
        photo = read_image(item.source, self.max_pixels, page=item.page)
        check_inside(item.hints, *photo.size)
        return photo

    def hints(self, item: Task) -> tuple[Hint, ...]:
        return item.hints


@dataclass(frozen=True)
class FileSink:
    """The results of tasks, and the report of what became of them.

    Args:
        report: of the run.
        verbose: whether the notes on each photograph are printed.
    """

    report: Report
    verbose: bool = False

    def write(self, item: Task, photo: Photo, prediction: ChromaPrediction) -> None:
        item.target.parent.mkdir(parents=True, exist_ok=True)
        write_image(item.target, prediction.render(photo.luma), source=photo, settings=prediction.record)
        for note in prediction.settings.get("notes", ()) if self.verbose else ():
            tqdm.write(f"{printable(item.source)}: {note}")

    def succeed(self, item: Task) -> None:
        self.report.done += 1

    def fail(self, item: Task, error: Exception) -> None:
        self.report.fail(item.source, error)


class _Budget:
    """Bytes of the photographs in memory, from reading to writing. The reader waits while there are too many."""

    def __init__(self, limit: float):
        self._limit, self._held, self._changed = limit, 0, threading.Condition()

    @property
    def spent(self) -> bool:
        return self._held >= self._limit

    def wait(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self.spent)

    def change(self, difference: int) -> None:
        with self._changed:
            self._held += difference
            self._changed.notify_all()

    def lift(self) -> None:
        """Let whoever waits go on, at the end."""
        with self._changed:
            self._limit = math.inf
            self._changed.notify_all()


def _size(photo: Photo) -> int:
    """Bytes that a photograph holds."""
    return photo.luma.nbytes + (0 if photo.alpha is None else photo.alpha.nbytes)


def _read(source: Source, item: Any, budget: _Budget) -> Photo:
    budget.wait()
    photo = source.read(item)
    budget.change(_size(photo))
    return photo


def _write(sink: Sink, item: Any, photo: Photo, prediction: ChromaPrediction, budget: _Budget) -> None:
    try:
        sink.write(item, photo, prediction)
    finally:
        budget.change(-_size(photo))


def _read_ahead(source: Source, depth: int, reader: ThreadPoolExecutor, budget: _Budget) -> Iterator[tuple]:
    """(item, future photo) in order, at most `depth` photographs ahead of the consumer."""
    waiting: deque[tuple[Any, Future]] = deque()
    for item in source:
        waiting.append((item, reader.submit(_read, source, item, budget)))
        if len(waiting) > depth:
            yield waiting.popleft()
    yield from waiting


def _batches(reads: Iterable[tuple], batch_size: int, shape_of: Callable, budget: _Budget, fail: Callable) -> Iterator:
    """Batches of (item, photo) that share a shape at model resolution, without waiting or hoarding too long."""
    buckets: dict[tuple, list[tuple]] = {}

    def largest() -> list[tuple]:
        return buckets.pop(max(buckets, key=lambda shape: len(buckets[shape])))

    for item, future in reads:
        # While the memory is spent the reader waits until photographs have been written: give some away. Once none
        # wait here, the writer alone frees what the reader needs, so the result below is sure to come.
        while buckets and budget.spent and not future.done():
            yield largest()
        try:
            photo = future.result()
        except Exception as error:  # whatever it is, the other photographs are not to blame
            fail(item, error)
            continue
        shape = shape_of(*photo.size)
        buckets.setdefault(shape, []).append((item, photo))
        if len(buckets[shape]) == batch_size:
            yield buckets.pop(shape)
        elif sum(map(len, buckets.values())) > _PENDING_BATCHES * batch_size:
            yield largest()
    yield from buckets.values()


def colorize_all(pipeline, source: Source, sink: Sink, batch_size: int | None = None, **settings) -> None:
    """Color every photograph of a source with one pipeline; the sink is told of failures, the rest is done.

    Args:
        pipeline: a :class:`~colorization.ColorizationPipeline` or one of baselines.
        source: what to read.
        sink: where results go.
        batch_size: photographs at once; None is the model's default.
        settings: further arguments of the pipeline's call.

    Raises:
        StorageFull: a result found no room on the disk; the sink knows of that one failure.
    """
    batch_size = batch_size or pipeline.config.default_batch_size
    progress = tqdm(total=len(source), unit="photo", desc="coloring")
    budget = _Budget(_MEMORY_BYTES)
    writing: deque[tuple[Any, Future]] = deque()

    def fail(item: Any, error: Exception) -> None:
        sink.fail(item, error)
        progress.update()

    def finish_writing(limit: int) -> None:
        while len(writing) > limit:
            item, future = writing.popleft()
            try:
                future.result()
            except Exception as error:
                fail(item, error)
                if is_full(error):  # no other result would find room
                    raise StorageFull(explain(error)) from error
            else:
                sink.succeed(item)
                progress.update()

    def predict(batch: list[tuple[Any, Photo]]) -> Iterator[tuple[Any, Photo, ChromaPrediction]]:
        photos = [photo for _, photo in batch]
        try:
            hints = [source.hints(item) for item, _ in batch]
            hinted = {"hints": hints} if any(hints) else {}
            predictions = pipeline(photos, batch_size=batch_size, output_type="chroma", **hinted, **settings).images
        except Exception as error:  # out of memory, values that are not finite
            if len(batch) > 1:  # one of them may be to blame, or their number
                for one in batch:
                    yield from predict([one])
                return
            ((item, photo),) = batch
            budget.change(-_size(photo))
            fail(item, error)
            return
        for (item, photo), prediction in zip(batch, predictions, strict=True):
            yield item, photo, prediction

    with progress, ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
        try:
            reads = _read_ahead(source, batch_size, reader, budget)
            for batch in _batches(reads, batch_size, pipeline.model_size, budget, fail):
                for item, photo, prediction in predict(batch):
                    writing.append((item, writer.submit(_write, sink, item, photo, prediction, budget)))
                finish_writing(limit=batch_size)
            finish_writing(limit=0)
        finally:  # after an interruption too: what is being written is finished, what waits is not begun
            budget.lift()
            reader.shutdown(wait=False, cancel_futures=True)
            writer.shutdown(wait=False, cancel_futures=True)


def colorize_files(
    pipeline,
    tasks: list[Task],
    report: Report,
    batch_size: int | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    verbose: bool = False,
    **settings,
) -> None:
    """Color every task's file with one pipeline; `report` counts what became of them. Otherwise as `colorize_all`.

    With `verbose` the notes on each photograph are printed.
    """
    colorize_all(pipeline, FileSource(tasks, max_pixels), FileSink(report, verbose), batch_size, **settings)
