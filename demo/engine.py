"""The loaded models and the one place that runs them: one request at a time, each of which can be canceled."""

import ctypes
import secrets
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import gradio as gr
import torch

from colorization.batch_run import colorize_files
from colorization.color import rgb_to_chroma
from colorization.files import Task
from colorization.photo import Photo
from colorization.pipeline import ColorizationPipeline
from colorization.prediction import ChromaPrediction

from .archive import BatchReport
from .gpu import gpu_seconds, on_gpu

PLACES = 4  # requests that hold a photograph in memory; the queue lets in one at a time, but forgets canceled ones
BUSY = "The server is busy, please try again in a minute."


class Canceled(BaseException):
    """The visitor has canceled the request, or has left.

    No `Exception`, as in asyncio: it has to pass where errors of single photographs are caught.
    """


def give_back_memory() -> None:
    """Return what is free in the heap to the system, where the C library has a function for that (glibc).

    glibc keeps heaps for the threads, gradio calls the handlers from whichever thread is idle, and every heap would
    stay as large and as fragmented as its largest request made it.
    """
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(ctypes.c_size_t(0))


class Engine:
    """Models by name; the first is the default.

    Args:
        pipelines: loaded models. They are shared by all requests and never reloaded.
    """

    def __init__(self, pipelines: Mapping[str, ColorizationPipeline]):
        if not pipelines:
            raise ValueError("`pipelines` must hold at least one model, got none")
        self._pipelines = dict(pipelines)
        self._turn = threading.Lock()
        self._places = threading.BoundedSemaphore(PLACES)
        self._requests: dict[str, str] = {}  # request -> visitor; without those that are canceled
        self._sample = on_gpu(self._sample_here, _seconds)
        self._trace = on_gpu(self._trace_here, _seconds)
        self._color_files = on_gpu(self._color_files_here, _batch_seconds)

    @property
    def models(self) -> list[str]:
        """Names of the models."""
        return list(self._pipelines)

    def config(self, model: str) -> Mapping[str, Any]:
        """The defaults that a model brings along."""
        return self._pipelines[model].config

    def chooses_color_scale(self, model: str) -> bool:
        """Whether the model can choose a color scale for each photograph."""
        try:
            self._pipelines[model].check_automatic_color_scale()
        except ValueError:
            return False
        return True

    def names(self, model: str) -> bool:
        """Whether the model can say what it sees."""
        return self._pipelines[model].naming_head is not None

    def fewest_steps(self, model: str) -> int:
        """0 where the model has a first guess to show, else 1."""
        return 1 if self._pipelines[model].semantic_encoder is None else 0

    def varies(self, model: str) -> bool:
        """Whether other seeds give other colors."""
        return self._pipelines[model].scheduler.config.noise_scale > 0

    @contextmanager
    def request(self, visitor: str) -> Iterator[str]:
        """A request of a visitor, one call of the methods below or several; the value names it there.

        Until its end `cancel` stops it, also while it waits or is between two calls.
        """
        request = secrets.token_hex(8)
        self._requests[request] = visitor
        try:
            yield request
        finally:
            self._requests.pop(request, None)

    def sample(self, request: str, model: str, photo: Photo, **settings) -> list[ChromaPrediction]:
        """What a model says about a photograph, once for each variant. The color scale comes later, in rendering.

        The predictions' settings hold the one that the model has chosen where `color_scale` is "auto".

        Args:
            request: as `request` has named it.
            model: one of `models`.
            photo: the photograph.
            settings: further arguments of the pipeline's call; `num_inference_steps` is needed.

        Raises:
            Canceled: `cancel` was called meanwhile.
            ValueError: a setting is out of range.
        """
        with self._one_at_a_time(request):
            return self._sample(request, model, photo, settings)

    def trace(self, request: str, model: str, photo: Photo, **settings) -> list[ChromaPrediction]:
        """The gray start and the prediction after each step, or the first guess if there are none; as in `sample`."""
        with self._one_at_a_time(request):
            return self._trace(request, model, photo, settings)

    def color_files(
        self, request: str, model: str, tasks: Sequence[Task], report: BatchReport, **settings
    ) -> BatchReport:
        """Color files; the report of what became of them. Arguments and errors as in `sample`."""
        with self._one_at_a_time(request):
            return self._color_files(request, model, list(tasks), report, settings)

    def cancel(self, visitor: str) -> None:
        """Stop this visitor's requests before their next step; those that come later are not touched."""
        for request, whose in list(self._requests.items()):
            if whose == visitor:
                self._requests.pop(request, None)

    @contextmanager
    def _one_at_a_time(self, request: str) -> Iterator[None]:
        # The page's queue does the same, but forgets a canceled request while its thread still samples or waits.
        if not self._places.acquire(blocking=False):
            raise gr.Error(BUSY, print_exception=False)
        try:
            with self._turn:
                self._stop_if_canceled(request)
                try:
                    yield
                finally:
                    give_back_memory()
        finally:
            self._places.release()

    def _stop_if_canceled(self, request: str) -> None:
        if request not in self._requests:
            raise Canceled

    def _sample_here(self, request: str, model: str, photo: Photo, settings: dict) -> list[ChromaPrediction]:
        progress = gr.Progress()

        def after_step(pipeline, index, timestep, tensors) -> None:
            self._stop_if_canceled(request)
            progress((index + 1, len(pipeline.scheduler.timesteps)), desc="Coloring", unit="steps")

        return self._call(model, photo, settings, after_step)

    def _trace_here(self, request: str, model: str, photo: Photo, settings: dict) -> list[ChromaPrediction]:
        chromas = []

        def after_step(pipeline, index, timestep, tensors) -> None:
            self._stop_if_canceled(request)
            chromas.append(rgb_to_chroma(pipeline.decode_latents(tensors["pred_original_sample"])).cpu()[0])

        (last,) = self._call(model, photo, settings, after_step)
        start = ChromaPrediction(torch.zeros_like(last.chroma), last.guide, last.settings)  # gray, hints or not
        steps = [replace(last, chroma=chroma) for chroma in chromas]
        return [start, *(steps or [last])]  # without steps the first guess

    def _color_files_here(
        self, request: str, model: str, tasks: list[Task], report: BatchReport, settings: dict
    ) -> BatchReport:
        progress = gr.Progress()

        def after_step(*_) -> None:
            self._stop_if_canceled(request)
            progress((report.done + len(report.failed), report.total), desc="Coloring", unit="photographs")

        colorize_files(self._pipelines[model], tasks, report, callback_on_step_end=after_step, **settings)
        return report

    def _call(self, model: str, photo: Photo, settings: dict, after_step: Callable) -> list[ChromaPrediction]:
        # A color scale in latent space would act before decoding; 1 leaves the latents as they are.
        settings = {"color_scale": 1.0} | settings
        return self._pipelines[model](photo, output_type="chroma", callback_on_step_end=after_step, **settings).images


def _seconds(request: str, model: str, photo: Photo, settings: dict) -> float:
    return gpu_seconds(1, settings["num_inference_steps"])


def _batch_seconds(request: str, model: str, tasks: list[Task], report: BatchReport, settings: dict) -> float:
    return gpu_seconds(len(tasks), settings["num_inference_steps"])
