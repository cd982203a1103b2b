"""From a call's arguments to jobs and from predictions to pictures: what is the same in every pipeline.

A job is one output, an image at model resolution with all that makes it. What a caller may pass as one value or one
per image is checked here, so that every pipeline takes it in the same forms and refuses it in the same words.
"""

import math
import numbers
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from .batching import as_list, is_real, is_whole, one_per_image, resize_to_tensor
from .hints import HintField, check_inside, hints_per_image
from .image_io import as_photo
from .photo import Photo
from .prediction import ColorizationPipelineOutput, render_photo

_SEEDS = 2**63


@dataclass(frozen=True, eq=False)
class View:
    """A photograph as a model sees it.

    Args:
        gray: `(3, h, w)` in [-1, 1], at model resolution.
        hints: None where there are none.
    """

    gray: torch.Tensor
    hints: HintField | None

    @property
    def guide(self) -> torch.Tensor:
        """Luma `(1, h, w)` in [0, 1]."""
        return self.gray[:1] / 2 + 0.5


# Arguments


def check_output_type(output_type: str, known: Sequence[str]) -> None:
    """Raise ValueError on an unknown one."""
    if output_type not in known:
        raise ValueError(f"`output_type` must be one of {known}, got {output_type!r}")


def check_whole(name: str, value: Any, least: int = 1) -> None:
    """Raise ValueError on what is no whole number of at least `least`."""
    if not is_whole(value) or value < least:
        raise ValueError(f"`{name}` must be a whole number of at least {least}, got {value!r}")


def check_amount(name: str, value: Any, alternative: str = "") -> None:
    """Raise ValueError on what is no finite number of at least 0; the message names what else would do."""
    if not is_real(value) or not 0 <= value < math.inf:
        raise ValueError(f"`{name}` must be a finite number of at least 0{alternative}, got {value!r}")


def read_photos(image: Any, keep_color: bool = False) -> list[Photo]:
    """The photographs of a call, one or several in any form."""
    return [as_photo(item, keep_color=keep_color) for item in as_list(image)]


def seeds_per_image(seed: int | Sequence[int], count: int) -> list[int]:
    """One seed per image; ValueError on other forms and numbers."""
    seeds = one_per_image("seed", seed, count, numbers.Integral)
    for value in seeds:
        if not 0 <= value < _SEEDS:
            raise ValueError(f"`seed` must be between 0 and 2**63 - 1, got {value}")
    return [int(value) for value in seeds]


def variant_seed(seed: int, variant: int) -> int:
    """Variant k of seed s is seed s + k: each can be made again alone."""
    return (seed + variant) % _SEEDS


def look_at(
    photos: Sequence[Photo],
    model_size: Callable[[int, int], tuple[int, int]],
    hints: Sequence | None,
    **spreading: float,
) -> list[View]:
    """The photographs at model resolution, and their hints spread over them.

    Args:
        photos: read ones.
        model_size: (width, height) -> those at model resolution.
        hints: the call's.
        spreading: further arguments of :meth:`~colorization.hints.HintField.spread`.

    Raises:
        ValueError: hints of another form, or outside their photograph.
    """
    all_hints = hints_per_image(hints, len(photos))
    for photo, own in zip(photos, all_hints, strict=True):
        check_inside(own, *photo.size)
    views = [View(resize_to_tensor(photo.luma, model_size(*photo.size)), None) for photo in photos]
    return [
        View(view.gray, HintField.spread(own, photo.size, view.guide, **spreading)) if own else view
        for view, own, photo in zip(views, all_hints, photos, strict=True)
    ]


# Results


def collect(
    batches: Iterable[Sequence[int]], count: int, predict: Callable[[Sequence[int]], torch.Tensor], dtype: torch.dtype
) -> list[torch.Tensor]:
    """What a model says of each of `count` jobs.

    Args:
        batches: positions of jobs.
        count: of the jobs.
        predict: positions -> one tensor on the CPU for each.
        dtype: of the networks, for the message.

    Raises:
        RuntimeError: values are not finite.
    """
    results: list[Any] = [None] * count
    for positions in batches:
        predicted = predict(positions)
        if not predicted.isfinite().all():
            raise RuntimeError(f"the model's output is not finite (networks in {dtype}): load it with dtype=float32")
        for position, one in zip(positions, predicted, strict=True):
            results[position] = one
    return results


def output(
    results: Sequence,
    settings: Sequence[dict],
    photos: Sequence[Photo],
    output_type: str,
    return_dict: bool,
) -> ColorizationPipelineOutput | tuple[list]:
    """What a call returns: predictions become pictures where `output_type` asks for them."""
    images = list(results)
    if output_type in ("pil", "np", "pt"):
        per_photo = len(images) // len(photos)
        images = [
            render_photo(prediction, photos[position // per_photo].luma, output_type)
            for position, prediction in enumerate(images)
        ]
    return ColorizationPipelineOutput(images=images, settings=list(settings)) if return_dict else (images,)


def describe_hints(hints: HintField | None) -> dict[str, list]:
    """Hints as settings and metadata hold them; nothing where there are none."""
    return {} if hints is None else {"hints": [hint.as_list() for hint in hints.hints]}
