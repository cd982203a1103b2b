"""Photographs with captions, and the endless stream of training samples that is drawn from them.

Everything random about a sample (its place in the order, crop, mirroring, noise, severity, whether the caption is
dropped) follows from the seed and the sample's position in the run. So a run can stop and go on at any position, and
samples do not depend on how many processes share a batch.
"""

import functools
import hashlib
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

import datasets
import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from colorization.errors import ColorizationWarning, explain
from colorization.image_io import as_photo

from .cache import LatentCache
from .config import DataConfig, ObjectiveConfig
from .image_folder import text_of
from .objective import draw_severity
from .sources import CAPTION_COLUMNS, UnreadablePhoto, file_name, load_source, read_photo
from .text import no_text
from .transforms import TransformConfig, flip, prepare_image, sample_rng

_CHECKED_AT_ONCE = 256  # photographs whose bytes are in memory while they are loaded


@dataclass(frozen=True, eq=False)
class PhotoSet:
    """Photographs of one or several data sets, by number.

    Args:
        parts: data sets with an undecoded `image` column.
        rows: (part, row) of each photograph.
        digests: SHA-256 of each photograph's bytes.
        captions: of each photograph; without one the words of its label, or nothing.
        names: of the data sets, for messages.
        unreadable: what was left out: names and causes.
    """

    parts: list[datasets.Dataset]
    rows: list[tuple[int, int]]
    digests: list[bytes]
    captions: list[str]
    names: list[str]
    unreadable: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def sizes(self) -> list[int]:
        """Number of photographs of each data set."""
        return np.bincount([part for part, _ in self.rows], minlength=len(self.parts)).tolist()

    def image(self, index: int) -> Image.Image:
        """The decoded photograph; UnreadablePhoto when it has gone since they were loaded."""
        part, row = self.rows[index]
        return read_photo(self.parts[part][row]["image"], _place(row, self.names[part]))[1]

    def content(self) -> str:
        """A name for exactly these photographs in this order."""
        return hashlib.sha256(b"".join(self.digests)).hexdigest()


def load_photos(config: DataConfig) -> tuple[PhotoSet, PhotoSet]:
    """The photographs to train on, and those that `config.holdout` keeps out.

    All are decoded once: those that cannot be are left out, and named in the first one's `unreadable`.

    Raises:
        ValueError: a source lacks the split, or no photograph is left to train on.
    """
    training, held_out = PhotoSet([], [], [], [], config.sources), PhotoSet([], [], [], [], config.sources)
    for source in config.sources:
        splits = load_source(source, config.name)
        if config.split not in splits:
            raise ValueError(f"`data.split` must be one of {sorted(splits)} for {source}, got {config.split!r}")
        dataset = splits[config.split]
        training.parts.append(dataset)
        held_out.parts.append(dataset)
        captions = _captions(dataset, config.caption_column, source)
        taken = 0
        for row, digest in enumerate(_digests(dataset, source, config.limit)):
            if config.limit is not None and taken >= config.limit:
                break
            if isinstance(digest, UnreadablePhoto):
                training.unreadable.append(str(digest))
                continue
            kept = config.holdout == 0 or int.from_bytes(digest, "big") % config.holdout != 0
            photos = training if kept else held_out
            photos.rows.append((len(photos.parts) - 1, row))
            photos.digests.append(digest)
            photos.captions.append(captions[row])
            taken += kept
    if not training.rows:
        problems = f"; {training.unreadable[0]}" if training.unreadable else ""
        raise ValueError(
            f"`data.sources` must hold at least one photograph to train on, got none in {config.sources}{problems}"
        )
    return training, held_out


def _digests(dataset: datasets.Dataset, source: str, limit: int | None) -> Iterator[bytes | UnreadablePhoto]:
    """SHA-256 of every photograph's bytes, or why it cannot be trained on."""
    images = dataset.select_columns(["image"])
    at_once = _CHECKED_AT_ONCE if limit is None else min(limit, _CHECKED_AT_ONCE)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(images), at_once):
            cells = images[start : start + at_once]["image"]
            yield from pool.map(_digest, cells, [_place(start + i, source) for i in range(len(cells))])


def _digest(cell: dict, place: str) -> bytes | UnreadablePhoto:
    try:
        data, image = read_photo(cell, place)
        as_photo(image, keep_color=True)  # as the training will: finds values out of range and the like
    except UnreadablePhoto as error:
        return error
    except MemoryError:  # no fault of the photograph
        raise
    except Exception as error:  # nor is one photograph worth the run
        return UnreadablePhoto(explain(error).removeprefix("image: "), file_name(cell, place))
    return hashlib.sha256(data).digest()


def _place(row: int, source: str) -> str:
    return f"row {row} of {source}"


def name_unreadable(photos: PhotoSet) -> None:
    """Say on stderr which photographs were left out, and how many."""
    for problem in photos.unreadable:
        print(f"failed: {problem}", file=sys.stderr)
    if photos.unreadable:
        print(f"photographs that cannot be read and are left out: {len(photos.unreadable)}", file=sys.stderr)


def _captions(dataset: datasets.Dataset, column: str, source: str) -> list[str]:
    """A caption for every row: what `column` holds as text, or else the words of its label, or nothing.

    Raises:
        ValueError: there is no such column.
    """
    usual = column in (CAPTION_COLUMNS[0], "label")
    if not usual and column not in dataset.column_names:
        there = ", ".join(name for name in dataset.column_names if name != "image") or "none"
        raise ValueError(f"`data.caption_column` must be a column of {source} ({there}), got {column!r}")
    wanted = CAPTION_COLUMNS if column == CAPTION_COLUMNS[0] else (column,)
    found = next((name for name in wanted if name in dataset.column_names), "label")
    if found not in dataset.column_names:
        _name_unused(dataset, source)
        return [""] * len(dataset)
    values, feature = dataset[found], dataset.features[found]
    if isinstance(feature, datasets.ClassLabel):
        values = [feature.int2str(value) if value is not None and value >= 0 else "" for value in values]
    if found == "label":  # numbers without names say nothing
        words = [value if isinstance(value, str) and not value.isdigit() else "" for value in values]
        return [word.replace("_", " ") for word in words]
    return [text_of(value) or "" for value in values]


def _name_unused(dataset: datasets.Dataset, source: str) -> None:
    """Warn that there are no captions where another column may have been meant for them."""
    texts = [name for name, kind in dataset.features.items() if getattr(kind, "dtype", None) == "string"]
    if texts:
        warnings.warn(
            f"{source} has no column of captions ({' or '.join(CAPTION_COLUMNS)}): trained without; "
            f"`data.caption_column` may name another ({', '.join(texts)})",
            ColorizationWarning,
            stacklevel=3,
        )


def transform_config(config: DataConfig) -> TransformConfig:
    """The settings of `train.transforms` in the data's settings."""
    return TransformConfig(
        resolution=config.resolution,
        crop=config.crop,
        augment_probability=config.augment_probability,
        saturation_probability=config.saturation_probability,
        flip=config.flip,
        film_probability=config.film_probability,
    )


Sample = dict[str, torch.Tensor]


class Samples(Protocol):
    """What draws a sample of one photograph, by its number."""

    def draw(self, index: int, rng: np.random.Generator, with_caption: bool) -> Sample: ...


class PixelSamples:
    """Samples with pictures, for encoding on the fly.

    Args:
        photos: where they come from.
        transform: augmentation and crop.
        text: turns a caption into the sample's `text`.
    """

    def __init__(self, photos: PhotoSet, transform: TransformConfig, text: Callable[[str], torch.Tensor]):
        self.photos, self.transform, self.text = photos, transform, text

    def draw(self, index: int, rng: np.random.Generator, with_caption: bool) -> Sample:
        """`image` `(3, height, width)` in [-1, 1] and `text`."""
        mirrored = self.transform.flip and rng.uniform() < 0.5
        image = prepare_image(self.photos.image(index), self.transform, rng)
        caption = self.photos.captions[index] if with_caption else ""
        return {"image": flip(image) if mirrored else image, "text": self.text(caption)}


class CachedSamples:
    """Samples with latents, and where the text encoder is frozen with embeddings, from a cache.

    Args:
        cache: a complete cache.
        text: turns a caption into the sample's `text`; None takes the embeddings in the cache.
        captions: of the photographs, where `text` is given.
    """

    def __init__(
        self,
        cache: LatentCache,
        text: Callable[[str], torch.Tensor] | None = None,
        captions: Sequence[str] = (),
    ):
        self.cache, self.text, self.captions = cache, text, captions

    def draw(self, index: int, rng: np.random.Generator, with_caption: bool) -> Sample:
        """`z_color`, `z_gray` `(channels, h, w)` float32, `text`, and what else the cache has, see there."""
        latents = self.cache.latents(index, rng)
        if self.text is None:
            text = self.cache.embedding(index if with_caption else None)
        else:
            text = self.text(self.captions[index] if with_caption else "")
        return latents | {"text": text}


@functools.lru_cache(maxsize=2)
def _order(seed: int, epoch: int, sizes: tuple[int, ...], taken: tuple[int, ...]) -> np.ndarray:
    """Numbers of the photographs of an epoch, which takes `taken` of each source's `sizes`, in their order."""
    total = sum(taken)
    if taken == sizes:
        return sample_rng(seed, "order", epoch).permutation(total)
    chosen, first = [], 0
    for part, (size, count) in enumerate(zip(sizes, taken, strict=True)):
        # A source's own passes go on where the last epoch ended, so that all its photographs are seen equally often.
        places = np.arange(epoch * count, (epoch + 1) * count)
        passes = {number: sample_rng(seed, "source", part, number).permutation(size) for number in set(places // size)}
        chosen += [first + passes[place // size][place % size] for place in places.tolist()]
        first += size
    return sample_rng(seed, "order", epoch).permutation(np.array(chosen))


class SampleStream(Dataset):
    """The run's samples by position: epoch after epoch, each in an order of its own.

    Args:
        samples: what draws a sample of one photograph.
        sizes: number of photographs of each source.
        total: positions in the whole run, by which the progress of the training is told.
        latent_shape: `(channels, h, w)` of the noise.
        data, objective: settings.
        seed: of everything random.
    """

    def __init__(
        self,
        samples: Samples,
        sizes: Sequence[int],
        total: int,
        latent_shape: tuple[int, int, int],
        data: DataConfig,
        objective: ObjectiveConfig,
        seed: int,
    ):
        self.samples, self.sizes, self.total = samples, tuple(sizes), total
        self.taken = tuple(data.epoch_sizes(sizes))
        self.latent_shape, self.data, self.objective, self.seed = latent_shape, data, objective, seed

    def __len__(self) -> int:
        return self.total

    def __getitem__(self, position: int) -> Sample:
        """The sample, with its `severity` (0-d) and `noise` `(channels, h, w)`."""
        epoch, place = divmod(position, sum(self.taken))
        index = int(_order(self.seed, epoch, self.sizes, self.taken)[place])
        rng = sample_rng(self.seed, "sample", index, epoch)
        severity = draw_severity(
            rng, self.objective.severity, self.objective.severity_parameters, progress=position / self.total
        )
        with_caption = rng.uniform() >= self.data.caption_dropout
        noise = rng.standard_normal(self.latent_shape, dtype=np.float32)
        sample = self.samples.draw(index, rng, with_caption)
        if self.data.semantic_dropout > 0:
            sample["semantics"] = torch.tensor(rng.uniform() >= self.data.semantic_dropout)
        return sample | {
            "severity": torch.tensor(severity, dtype=torch.float32),
            "noise": torch.from_numpy(noise),
        }


def picture_stream(
    photos: PhotoSet, total: int, data: DataConfig, objective: ObjectiveConfig, seed: int
) -> SampleStream:
    """Augmented pictures, their severities and no captions, for what learns from nothing else."""
    samples = PixelSamples(photos, transform_config(data), no_text)
    return SampleStream(samples, photos.sizes, total, (1, 1, 1), data, objective, seed)
