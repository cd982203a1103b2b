"""What the evaluate modules of pictures share: pictures are measured as they come, and none is kept."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps


class Streaming:
    """Mixin that stands before `evaluate.Metric` and replaces its storage of all inputs.

    The library writes every decoded picture to an Arrow file and hands all of them to `_compute` at once. Here
    `add_batch` passes each one to `_update` and forgets it; `compute` returns `_result` and starts over.

    A subclass defines `_start()`, `_update(prediction, reference)`, `_result()` -> dict, and whether it is `paired`:
    otherwise it takes predictions alone, and `reference` is None.
    """

    paired = True

    def __init__(self, *arguments, **keywords):
        super().__init__(*arguments, **keywords)
        if self.num_process != 1:
            raise ValueError(
                f"`num_process` must be 1, got {self.num_process}: statistics of processes are not merged"
            )
        self._count = 0
        self._start()

    def add(self, *, prediction=None, reference=None):
        """Measure one picture."""
        self.add_batch(predictions=[prediction], references=[reference] if self.paired else None)

    def add_batch(self, *, predictions=None, references=None):
        """Measure pictures: PIL images, paths, or uint8 RGB arrays `(height, width, 3)`."""
        predictions = [] if predictions is None else predictions
        if not self.paired and references is not None:
            raise ValueError("`references` must be left out, this metric looks at predictions alone")
        references = [None] * len(predictions) if not self.paired else [] if references is None else references
        if len(predictions) != len(references):
            raise ValueError(
                f"`predictions` and `references` must be as many, got {len(predictions)} and {len(references)}"
            )
        for prediction, reference in zip(predictions, references, strict=True):
            self._update(read_picture(prediction), None if reference is None else read_picture(reference))
            self._count += 1

    def compute(self, *, predictions=None, references=None):
        """The metric of all pictures since the last call, these included."""
        if predictions is not None or references is not None:
            self.add_batch(predictions=predictions, references=references)
        if not self._count:
            raise ValueError("no pictures were added")
        result = self._result() | {"n": self._count}
        self._count = 0
        self._start()
        return result

    def __len__(self):
        return self._count


class Mean:
    """Mean and standard error of values that arrive one by one (Welford 1962)."""

    def __init__(self):
        self.n, self.mean, self._scatter = 0, 0.0, 0.0

    def add(self, value: float) -> None:
        """Count one value."""
        self.n += 1
        shift = value - self.mean
        self.mean += shift / self.n
        self._scatter += shift * (value - self.mean)

    @property
    def standard_error(self) -> float | None:
        """Of the mean; None below two values."""
        return (self._scatter / (self.n - 1) / self.n) ** 0.5 if self.n > 1 else None


def read_picture(picture: Image.Image | np.ndarray | str | Path) -> np.ndarray:
    """Upright RGB `(height, width, 3)` uint8 of what users have; ValueError or OSError where it is no picture."""
    if isinstance(picture, (str, Path)):
        with Image.open(picture) as image:
            return np.array(ImageOps.exif_transpose(image).convert("RGB"))
    if isinstance(picture, Image.Image):
        return np.array(ImageOps.exif_transpose(picture).convert("RGB"))
    array = np.asarray(picture)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
        raise ValueError(f"arrays must be uint8 of shape (height, width, 3), got {array.dtype} {array.shape}")
    return array


def to_tensors(prediction: np.ndarray, reference: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Both as `(1, 3, height, width)` in [0, 1]; ValueError where their sizes differ."""
    if prediction.shape != reference.shape:
        sizes = " and ".join(f"{part.shape[1]} x {part.shape[0]}" for part in (prediction, reference))
        raise ValueError(f"a prediction and its reference must have the same size, got {sizes}")
    return to_tensor(prediction), to_tensor(reference)


def to_tensor(picture: np.ndarray) -> torch.Tensor:
    """`(height, width, 3)` uint8 to `(1, 3, height, width)` in [0, 1]."""
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 255
