"""From a call's arguments to jobs and from predictions to pictures.

A job is one output, an image at model resolution with all that makes it. What a caller may pass as one value or one
per image is checked here, so that every pipeline takes it in the same forms and refuses it in the same words.
"""

import math
import numbers
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from diffusers.utils.torch_utils import randn_tensor

from . import __version__
from .batching import as_list, is_real, is_whole, one_per_image, resize_to_tensor
from .errors import ColorizationWarning
from .hints import Hint, HintField, check_inside, hints_per_image
from .image_io import as_photo
from .photo import Photo
from .prediction import ColorizationPipelineOutput, render_photo
from .sampling import SAMPLERS, default_sampler
from .wording import Wording, expected_words, seen_size

if TYPE_CHECKING:
    from .pipeline import ColorizationPipeline

AUTO = "auto"  # of the color scale
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
    batches: Iterable[Sequence[int]], jobs: Sequence, predict: Callable[[Sequence], torch.Tensor], dtype: torch.dtype
) -> list[torch.Tensor]:
    """What a model says of each job.

    Args:
        batches: positions of jobs.
        jobs: all of them.
        predict: jobs of a batch -> one tensor for each.
        dtype: of the networks, for the message.

    Raises:
        RuntimeError: values are not finite.
    """
    results: list[Any] = [None] * len(jobs)
    for positions in batches:
        predicted = predict([jobs[position] for position in positions]).cpu()
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
    if not return_dict:
        return (images,)
    return ColorizationPipelineOutput(images, list(settings), [list(one.get("notes", ())) for one in settings])


def describe_hints(hints: HintField | None) -> dict[str, list]:
    """Hints as settings and metadata hold them; nothing where there are none."""
    return {} if hints is None else {"hints": [hint.as_list() for hint in hints.hints]}


# Diffusion


@dataclass(frozen=True)
class Settings:
    """A call's settings with the model's defaults filled in."""

    num_inference_steps: int
    guidance_scale: float
    color_scale: float  # 1 where it is chosen after sampling
    automatic_color_scale: bool
    sampler: str
    severity: float
    batch_size: int


@dataclass(frozen=True)
class Start:
    """Where a walk begins: at the gray latent, the first guess or the input's own faded color."""

    severity: float
    origin: Literal["gray", "guess", "input"]


@dataclass(frozen=True, eq=False)
class Job(View):
    """One output of diffusion.

    Args:
        seen: the picture as the semantic encoder sees it, `(3, height, width)`, where it has yet to look at it.
        color: the same as `gray` in color, when it starts there.
        start: of the walk.
        noise: `(channels, h, w)` standard normal, when the model's noise_scale is above 0.
        wording: its prompts.
        seed: None where the noise comes from a generator.
    """

    seen: torch.Tensor | None
    color: torch.Tensor | None
    start: Start
    noise: torch.Tensor | None
    wording: Wording
    seed: int | None

    @property
    def prompt(self) -> str:
        """As it is encoded."""
        return self.wording.prompt

    @property
    def negative_prompt(self) -> str:
        """As it is encoded."""
        return self.wording.negative_prompt


def resolve_settings(
    pipeline: "ColorizationPipeline",
    num_inference_steps: int | None = None,
    guidance_scale: float | None = None,
    color_scale: float | str | None = None,
    sampler: str | None = None,
    severity: float = 1.0,
    batch_size: int | None = None,
) -> Settings:
    """Fill in the model's defaults and check every number; ValueError names argument, value and range."""
    automatic = isinstance(color_scale, str) and color_scale == AUTO
    if automatic:
        pipeline.check_automatic_color_scale()

    def default(value, name):
        return pipeline.config[f"default_{name}"] if value is None else value

    settings = Settings(
        num_inference_steps=default(num_inference_steps, "num_inference_steps"),
        guidance_scale=default(guidance_scale, "guidance_scale"),
        color_scale=1.0 if automatic else default(color_scale, "color_scale"),
        automatic_color_scale=automatic,
        sampler=default(sampler, "sampler") or default_sampler(pipeline.scheduler.config.noise_scale),
        severity=severity,
        batch_size=default(batch_size, "batch_size"),
    )
    # Without steps there is the first guess, where something makes one.
    check_whole("num_inference_steps", settings.num_inference_steps, 1 if pipeline.semantic_encoder is None else 0)
    check_whole("batch_size", settings.batch_size)
    check_amount("guidance_scale", settings.guidance_scale)
    # A default is a number always: it is where the demo's slider and a sweep of settings begin.
    check_amount("color_scale", settings.color_scale, "" if color_scale is None else f' or "{AUTO}"')
    if settings.sampler not in SAMPLERS:
        raise ValueError(f"`sampler` must be one of {SAMPLERS}, got {settings.sampler!r}")
    if not is_real(severity) or not 0 < severity <= 1:
        raise ValueError(f"`severity` must be above 0 and at most 1 (1 = gray), got {severity!r}")
    if settings.num_inference_steps == 0 and severity < 1:
        raise ValueError(f"`severity` must be 1 where `num_inference_steps` is 0 (the first guess), got {severity!r}")
    return settings


def prepare_jobs(
    pipeline: "ColorizationPipeline",
    photos: Sequence[Photo],
    settings: Settings,
    wordings: Sequence[Wording],
    seed: int | Sequence[int] | None,
    generator: torch.Generator | Sequence[torch.Generator] | None,
    num_images_per_prompt: int,
    hints: Sequence | None,
) -> list[Job]:
    """One job per image and variant; checks everything that comes as one value or one per image."""
    count, config = len(photos), pipeline.config
    noise_scale, factor = pipeline.scheduler.config.noise_scale, pipeline.vae_scale_factor
    check_whole("num_images_per_prompt", num_images_per_prompt)
    if num_images_per_prompt > 1 and noise_scale == 0:
        message = "the model is deterministic (noise_scale 0): all variants of an image are equal"
        warnings.warn(message, ColorizationWarning, stacklevel=3)
    elif num_images_per_prompt > 1 and settings.num_inference_steps == 0:
        message = "the first guess (`num_inference_steps` 0) has no seed: all variants of an image are equal"
        warnings.warn(message, ColorizationWarning, stacklevel=3)
    if seed is not None and generator is not None:
        raise ValueError("`seed` and `generator` exclude each other: pass one of them")
    if generator is None:
        seeds = seeds_per_image(config.default_seed if seed is None else seed, count)
    else:
        generators = one_per_image("generator", generator, count, torch.Generator)
    jobs = []
    for i, view in enumerate(look_at(photos, pipeline.model_size, hints)):
        start, seen, color = _choose_start(pipeline, settings, wordings[i]), None, None
        height, width = (side // factor for side in view.gray.shape[1:])
        if needs_guess(pipeline, start) and wordings[i].understood is None:
            seen = resize_to_tensor(photos[i].luma, seen_size(pipeline, photos[i]))
        if settings.severity < 1:
            color = resize_to_tensor(photos[i].rgb, (width * factor, height * factor))
        for variant in range(num_images_per_prompt):
            own_seed = None if generator is not None else variant_seed(seeds[i], variant)
            noise = None
            if noise_scale > 0:
                source = torch.Generator().manual_seed(own_seed) if generator is None else generators[i]
                noise = _draw_noise((pipeline.vae.config.latent_channels, height, width), source)
            jobs.append(Job(view.gray, view.hints, seen, color, start, noise, wordings[i], own_seed))
    return jobs


def _choose_start(pipeline: "ColorizationPipeline", settings: Settings, wording: Wording) -> Start:
    """Where the walk of a photograph with these words begins."""
    if settings.num_inference_steps == 0:
        return Start(1.0, "guess")
    if settings.severity < 1:
        return Start(settings.severity, "input")
    if pipeline.config.walk_from == "guess":
        return Start(1.0, "guess")
    severity = 1.0
    if pipeline.semantic_encoder is not None:
        severity = pipeline.config.prompted_guess_severity if wording.steers else pipeline.config.guess_severity
    return Start(severity, "guess" if severity < 1 else "gray")


def needs_guess(pipeline: "ColorizationPipeline", start: Start) -> bool:
    """Whether a walk from there needs the first guess."""
    return start.origin == "guess" or pipeline.uses_guess


def _draw_noise(shape: tuple[int, int, int], generator: torch.Generator) -> torch.Tensor:
    return randn_tensor(shape, generator=generator, device=generator.device, dtype=torch.float32)


def describe(pipeline: "ColorizationPipeline", job: Job, settings: Settings) -> dict:
    """What makes a job's picture, enough to make it again; image metadata repeat it."""
    described = _describe(pipeline, settings, job.wording, job.seed, job.start)
    return described | describe_hints(job.hints)


def expected_settings(
    pipeline: "ColorizationPipeline",
    prompt: str = "",
    negative_prompt: str | None = None,
    seed: int | None = None,
    hints: Sequence[Hint] = (),
    color_scale: float | str | None = None,
    auto_prompt: bool = True,
    **sampling,
) -> dict:
    """What a result's `settings` will say of a call with these arguments, as far as no photograph is needed.

    Without the software's name, with "auto" for a color scale that is chosen after sampling, None for what must not be
    there, and with the hints as image metadata hold them, empty where there are none.
    """
    settings = resolve_settings(pipeline, color_scale=color_scale, **sampling)
    negative_prompt = pipeline.config.default_negative_prompt if negative_prompt is None else negative_prompt
    seed = pipeline.config.default_seed if seed is None else seed
    wording, looking = expected_words(pipeline, settings, prompt, negative_prompt, auto_prompt)
    start = _choose_start(pipeline, settings, wording)
    described = {"auto_prompt": None} | _describe(pipeline, settings, wording, seed, start)
    described.pop("notes", None)
    if looking:  # what is seen may steer the walk, and so move its start
        described = {name: value for name, value in described.items() if name not in ("start", "start_severity")}
    described |= {"color_scale": AUTO} if settings.automatic_color_scale else {}
    described["hints"] = [hint.as_list() for hint in hints]
    return {name: value for name, value in described.items() if name != "software"}


def _describe(
    pipeline: "ColorizationPipeline",
    settings: Settings,
    wording: Wording,
    seed: int | None,
    start: Start,
) -> dict:
    described = {
        "software": f"Cold Colorizer {__version__}",
        "model": Path(pipeline.config.get("_name_or_path") or "").name,
        **pipeline.provenance,
        **wording.describe(),
        "num_inference_steps": int(settings.num_inference_steps),
        "guidance_scale": float(settings.guidance_scale),
        "color_scale": float(settings.color_scale),
        "color_scale_space": pipeline.config.color_scale_space,
        "sampler": settings.sampler,
        "severity": float(settings.severity),
        "seed": seed,
    }
    if start.origin == "guess":
        described |= {"start": "first guess", "start_severity": float(start.severity)}
    return described
