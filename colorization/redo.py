"""Making a result again from what it says of itself, byte for byte where the same model computes it."""

import inspect
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from . import __version__
from .atomic import sha256_of
from .computation import weights_digest
from .image_io import read_image, read_settings, write_image
from .labels import OMITTED
from .loading import default_device, load_pipeline
from .photo import INPUT, ImageError, Photo
from .prediction import COMPUTATION

SOFTWARE = f"Cold Colorizer {__version__}"


@dataclass(frozen=True)
class Redone:
    """A result that was made again.

    Args:
        original: the photograph.
        target: the new file.
        difference: in words; "" where both files have the same bytes.
    """

    original: Path
    target: Path
    difference: str


def redo(
    result: str | os.PathLike,
    original: str | os.PathLike | None = None,
    target: str | os.PathLike | None = None,
    model: str | None = None,
    adapter: str | None = None,
) -> Redone:
    """Color the photograph of a result again, as the result says that it was colored.

    Args:
        result: file written by this package.
        original: the photograph, or the folder that it is in; None looks for it where the result is, one folder above
            and in the current folder. It is known by its SHA-256.
        target: the new file; None adds "-again" to the result's name.
        model, adapter: where they are now, if they were local folders.

    Raises:
        ImageError: (a ValueError) the result does not say enough, or its photograph is not there.
        ModelLoadError: (a ValueError) its model is not there.
        ValueError: its model is another one by now, or the target exists.
    """
    result = Path(result)
    settings = read_settings(result)
    _check_complete(result, settings)
    target = result.with_name(f"{result.stem}-again{result.suffix}") if target is None else Path(target)
    if target.exists():
        raise ValueError(f"{target} exists already: choose another name for the new file")
    source = find_original(result, settings.get(INPUT), original)
    computation = settings.get(COMPUTATION, {})
    pipeline = _load(result, settings, computation, model, adapter)
    page = (settings.get(INPUT) or {}).get("page")
    photo = read_image(source, keep_color=settings.get("severity", 1.0) < 1, page=page)
    pixels = _color(pipeline, photo, settings, computation)
    write_image(target, pixels, source=photo, settings=settings | {"software": SOFTWARE})
    return Redone(source, target, _difference(result, target, settings, computation))


def _check_complete(result: Path, settings: Mapping[str, Any] | None) -> None:
    if not settings:
        raise ImageError(f"{result}: does not say how it was made, so it cannot be made again")
    if settings.get(OMITTED):
        names = ", ".join(settings[OMITTED])
        raise ImageError(
            f"{result}: holds no more than digests of some of its settings ({names}), which were too long"
        )
    if "seed" in settings and settings["seed"] is None:
        raise ImageError(f"{result}: was made with a torch generator in place of a seed, so it cannot be made again")


def find_original(result: Path, made_of: Any, where: str | os.PathLike | None) -> Path:
    """The photograph that a result was made of.

    Args:
        result: for messages, and for where to look.
        made_of: {"file", "sha256"} as the result has it, None where it says nothing.
        where: file or folder; None looks around.

    Raises:
        ImageError: it is not there.
    """
    known = made_of if isinstance(made_of, dict) and {"file", "sha256"} <= made_of.keys() else None
    if known is None:
        if where is None or not Path(where).is_file():
            raise ImageError(f"{result}: does not say of which photograph it was made: name it with --original")
        return Path(where)
    name = Path(str(known["file"])).name  # never a path of another machine
    if where is None:
        folders: Iterable[Path] = (result.parent, result.parent.parent, Path())
    else:
        folders = (Path(where),)
    candidates = [folder if folder.is_file() else folder / name for folder in folders]
    candidates = [candidate for candidate in candidates if candidate.resolve() != result.resolve()]
    for candidate in candidates:
        if candidate.is_file() and sha256_of(candidate) == known["sha256"]:
            return candidate
    found = [str(candidate) for candidate in candidates if candidate.is_file()]
    problem = f"{found[0]} is another photograph" if found else f"it is not in {', '.join(map(str, folders))}"
    hint = "" if where else ": name it with --original"
    raise ImageError(f"{result}: needs {name} (SHA-256 {known['sha256'][:12]}…), but {problem}{hint}")


def _load(result: Path, settings: Mapping[str, Any], computation: Mapping, model: str | None, adapter: str | None):
    """The pipeline that made a result, on the same kind of device."""
    device = computation.get("device", default_device().type)
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available.get(device, False):
        raise ValueError(f"{result}: was made on {device}, which this machine does not have")
    dtype = computation.get("dtype")
    pipeline = load_pipeline(
        model or settings.get("model"),
        adapter=adapter or settings.get("adapter"),
        revision=None if model else settings.get("model_revision"),
        adapter_revision=None if adapter else settings.get("adapter_revision"),
        device=device,
        dtype=None if dtype is None else getattr(torch, dtype),
    )
    pipeline.set_progress_bar_config(disable=True)
    if "weights" in computation and weights_digest(pipeline) != computation["weights"]:
        raise ValueError(
            f"{result}: was made by other weights or defaults than those of {settings.get('model')!r} now"
        )
    return pipeline


def _color(pipeline, photo: Photo, settings: Mapping[str, Any], computation: Mapping[str, Any]) -> np.ndarray:
    """The pixels, computed in a batch of the same shape and by as many threads: both act on the last bit."""
    count, place = computation.get("batch_size", 1), computation.get("batch_position", 0)
    accepted = inspect.signature(type(pipeline).__call__).parameters
    call = {name: value for name, value in settings.items() if name in accepted and value is not None}
    in_chroma = settings.get("color_scale_space") == "chroma"
    scale = call.pop("color_scale", None)
    if not in_chroma and scale is not None:
        call["color_scale"] = scale
    if call.get("hints"):
        call["hints"] = [call["hints"]] * count
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(computation.get("threads", threads))
        predictions = pipeline([photo] * count, batch_size=count, output_type="chroma", **call).images
        return predictions[place].render(photo.luma, scale if in_chroma else None)
    finally:
        torch.set_num_threads(threads)


def _difference(result: Path, target: Path, settings: Mapping[str, Any], computation: Mapping[str, Any]) -> str:
    """What tells two files apart, and what may be the reason; "" for the same bytes."""
    if result.read_bytes() == target.read_bytes():
        return ""
    new = read_settings(target)
    reasons = [f"by {settings['software']}, now {new['software']}"] if settings["software"] != new["software"] else []
    if computation.get("torch", torch.__version__) != torch.__version__:
        reasons.append(f"by torch {computation['torch']}, now {torch.__version__}")
    because = f" (the first was made {' and '.join(reasons)})" if reasons else ""
    old, redone = (read_image(file, keep_color=True).rgb for file in (result, target))
    if old.shape != redone.shape or old.dtype != redone.dtype:
        return f"the pixels have another shape or depth{because}"
    wrong = np.abs(old.astype(np.int32) - redone.astype(np.int32))
    if not wrong.any():
        return f"the same pixels, other metadata or compression{because}"
    share = np.count_nonzero(wrong.any(axis=2)) / wrong[..., 0].size
    return f"{share:.2%} of the pixels, by up to {wrong.max()} of {np.iinfo(old.dtype).max}{because}"
