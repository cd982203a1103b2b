"""Latents and text embeddings, encoded once and read from disk (memory-mapped) ever after.

A cache is a folder named by its content: the photographs, the encoders' weights and the settings that matter. It is
filled under a temporary name, by all processes, and continued where it stopped after a kill.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm, trange

from colorization.degradation import to_gray
from colorization.pipeline import ColorizationPipeline

from .loop import cpu_time
from .teacher import Teacher
from .text import Tokenize
from .transforms import TransformConfig, flip, prepare_image, sample_rng

_FORMAT = 1  # of the files; a change of it makes new caches
_COST_FILE = "cost.json"
_NO_FILM = ("film_probability", 0.0)


class LatentCache:
    """A complete cache.

    Args:
        directory: folder that :func:`build_cache` returned.
    """

    def __init__(self, directory: Path):
        self.directory = directory
        self.color = np.load(directory / "color.npy", mmap_mode="r")  # [N, variants, flips, C, h, w] float16
        self.gray = np.load(directory / "gray.npy", mmap_mode="r")
        # Of the pictures that are not mirrored: [N, variants, channels, side, side] and [N, variants, height, width]
        self.features, self.luma = (
            np.load(file, mmap_mode="r") if file.is_file() else None
            for file in (directory / "features.npy", directory / "luma.npy")
        )
        self.has_text = (directory / "text.npy").is_file()
        if self.has_text:
            self.text = np.load(directory / "text.npy", mmap_mode="r")  # [1 + distinct captions, tokens, width]
            self.text_index = np.load(directory / "text_index.npy")  # [N], where each photograph's caption is

    def __reduce__(self):
        # A copy for a loading process opens the files itself: pickled arrays would be read into memory.
        return (LatentCache, (self.directory,))

    @property
    def cpu_seconds(self) -> float:
        """What the encoding took, main process and workers, since the start that finished it; 0 for old caches."""
        file = self.directory / _COST_FILE
        return json.loads(file.read_text(encoding="utf-8"))["cpu_seconds"] if file.is_file() else 0.0

    def latents(self, index: int, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        """Of a random variant and flip, `z_color` and `z_gray` `(channels, h, w)` float32, and what else there is.

        A teacher's `features` `(channels, side, side)`, float16, and `luma` `(1, height, width)` in [0, 1] are there
        when the cache was made with them.
        """
        variant, mirrored = rng.integers(self.color.shape[1]), rng.integers(self.color.shape[2])
        sample = {
            name: torch.from_numpy(array[index, variant, mirrored].astype(np.float32))
            for name, array in (("z_color", self.color), ("z_gray", self.gray))
        }
        if self.features is not None:
            features = torch.from_numpy(np.array(self.features[index, variant]))
            sample["features"] = flip(features) if mirrored else features
        if self.luma is not None:
            luma = torch.from_numpy(self.luma[index, variant][None].astype(np.float32)) / 255
            sample["luma"] = flip(luma) if mirrored else luma
        return sample

    def embedding(self, index: int | None) -> torch.Tensor:
        """Text embedding `(tokens, width)`, float32, of a photograph's caption; None is the empty caption."""
        row = 0 if index is None else self.text_index[index]
        return torch.from_numpy(self.text[row].astype(np.float32))


def module_fingerprint(module: torch.nn.Module) -> str:
    """A name for the exact weights of a module."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def build_cache(
    photos,
    pipeline: ColorizationPipeline,
    transform: TransformConfig,
    variants: int,
    seed: int,
    with_text: bool,
    batch_size: int,
    directory: Path,
    accelerator: Accelerator,
    workers: int = 0,
    teacher: Teacher | None = None,
    with_luma: bool = False,
) -> LatentCache:
    """Encode every photograph in color and gray, unless it has been done, and open the result.

    Args:
        photos: a `train.data.PhotoSet`.
        pipeline: its autoencoder (the posterior's mode, so no noise enters the targets) and text encoder are used.
        transform: augmentation and crop; `flip` stores both sides.
        variants: augmented versions of each photograph.
        seed: of the augmentation.
        with_text: whether the captions are encoded too, once each.
        batch_size: pictures at once.
        directory: where caches lie.
        accelerator: its processes share the work.
        workers: processes that read and prepare photographs, beside each of the accelerator's.
        teacher: whose features of the color pictures are stored too.
        with_luma: whether the gray pictures themselves are stored, for a semantic encoder to look at.
    """
    key = {
        "format": _FORMAT,
        "photos": photos.content(),
        "vae": module_fingerprint(pipeline.vae),
        "scaling_factor": pipeline.vae.config.scaling_factor,
        # A setting that came later is left out where it is off: caches from before it stay good.
        "transform": {name: value for name, value in asdict(transform).items() if (name, value) != _NO_FILM},
        "variants": variants,
        "seed": seed,
        "precision": accelerator.mixed_precision,
        "batch_size": batch_size,  # the last bit of an encoding depends on what is encoded beside it
    }
    if teacher is not None:
        key["teacher"] = [teacher.weights_sha256, teacher.side]
    if with_luma:
        key["luma"] = True
    captions = photos.captions if with_text else []
    if with_text:
        key["text"] = module_fingerprint(pipeline.text_encoder)
        key["captions"] = hashlib.sha256("\n".join(captions).encode()).hexdigest()
    final = directory / hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    if not final.is_dir():
        started = cpu_time()
        partial = final.with_suffix(".partial")
        if accelerator.is_main_process:
            _create_files(
                partial, key, photos, pipeline, transform, variants, captions, batch_size, teacher, with_luma
            )
        accelerator.wait_for_everyone()
        _fill(partial, photos, pipeline, transform, seed, batch_size, accelerator, workers, teacher, with_luma)
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            _finish(partial, final, cpu_time() - started)
    accelerator.wait_for_everyone()
    return LatentCache(final)


def _finish(partial: Path, final: Path, cpu_seconds: float) -> None:
    try:
        (partial / _COST_FILE).write_text(json.dumps({"cpu_seconds": cpu_seconds}) + "\n", encoding="utf-8")
        partial.rename(final)
    except FileNotFoundError:
        if not final.is_dir():  # another run that needs the same cache may have finished it
            raise


def _create_files(
    partial: Path,
    key: dict,
    photos,
    pipeline: ColorizationPipeline,
    transform: TransformConfig,
    variants: int,
    captions: Sequence[str],
    batch_size: int,
    teacher: Teacher | None,
    with_luma: bool,
) -> None:
    """Empty arrays of the right size, unless a killed run left them; the small text part at once."""
    partial.mkdir(parents=True, exist_ok=True)
    (partial / "cache.json").write_text(json.dumps(key, indent=2) + "\n", encoding="utf-8")
    side = transform.resolution // pipeline.vae_scale_factor
    shape = (len(photos), variants, 2 if transform.flip else 1, pipeline.vae.config.latent_channels, side, side)
    for name in ("color", "gray"):
        if not (partial / f"{name}.npy").is_file():
            _create_array(partial / f"{name}.npy", shape, np.float16)
    if teacher is not None and not (partial / "features.npy").is_file():
        # Mirroring the picture mirrors its features, near enough: one side is stored.
        shape = (len(photos), variants, teacher.channels, teacher.side, teacher.side)
        _create_array(partial / "features.npy", shape, np.float16)
    if with_luma and not (partial / "luma.npy").is_file():
        _create_array(partial / "luma.npy", (len(photos), variants, *[transform.resolution] * 2), np.uint8)
    if captions and not (partial / "text_index.npy").is_file():
        _write_text(partial, pipeline, captions, batch_size)
    if not (partial / "done.npy").is_file():  # last: its presence says that the others are there
        _create_array(partial / "done.npy", (len(photos),), np.bool_)


def _create_array(file: Path, shape: tuple[int, ...], dtype) -> None:
    """An array of zeros on disk, which appears under its name when it is complete."""
    temporary = file.with_suffix(".tmp")
    np.lib.format.open_memmap(temporary, mode="w+", dtype=dtype, shape=shape).flush()
    temporary.replace(file)


@torch.no_grad()
def _write_text(partial: Path, pipeline: ColorizationPipeline, captions: Sequence[str], batch_size: int) -> None:
    """Embeddings of the empty caption (row 0) and of every distinct caption."""
    distinct = ["", *sorted(set(captions) - {""})]
    rows = {caption: row for row, caption in enumerate(distinct)}
    ids = torch.stack([*map(Tokenize(pipeline), distinct)])
    width = pipeline.text_encoder.config.hidden_size
    shape = (len(distinct), ids.shape[1], width)
    text = np.lib.format.open_memmap(partial / "text.npy", mode="w+", dtype=np.float16, shape=shape)
    for start in trange(0, len(distinct), batch_size, desc="captions", unit="batch"):
        batch = ids[start : start + batch_size].to(pipeline.device)
        embeddings = pipeline.text_encoder(batch).last_hidden_state
        text[start : start + batch_size] = embeddings.float().cpu().numpy()
    text.flush()
    temporary = partial / "text_index.tmp.npy"
    np.save(temporary, np.array([rows[caption] for caption in captions]))
    temporary.replace(partial / "text_index.npy")


def _fill(
    partial: Path,
    photos,
    pipeline: ColorizationPipeline,
    transform: TransformConfig,
    seed: int,
    batch_size: int,
    accelerator: Accelerator,
    workers: int,
    teacher: Teacher | None,
    with_luma: bool,
) -> None:
    """This process's share of what is not done yet."""
    names = ["color", "gray", "done"] + ["features"] * (teacher is not None) + ["luma"] * with_luma
    arrays = {name: np.load(partial / f"{name}.npy", mmap_mode="r+") for name in names}
    color, gray, done = (arrays[name] for name in names[:3])
    # Groups do not depend on what is done or by how many processes, so neither do the bits.
    size = max(batch_size // (color.shape[1] * color.shape[2]), 1)
    groups = [range(start, min(start + size, len(done))) for start in range(0, len(done), size)]
    missing = [group for group in groups if not done[list(group)].all()]
    accelerator.wait_for_everyone()  # all have read `done` before anyone writes to it
    missing = missing[accelerator.process_index :: accelerator.num_processes]
    bar = tqdm(
        total=sum(map(len, missing)), desc="encoding", unit="photo", disable=not accelerator.is_local_main_process
    )
    pictures_of = _Pictures(photos, transform, color.shape, seed, missing)
    # A group is a batch already.
    loader = DataLoader(pictures_of, batch_size=None, num_workers=workers)
    for rows, pictures in zip(map(list, missing), loader, strict=True):
        pictures = pictures.to(accelerator.device)
        upright = pictures[:: color.shape[2]]
        if teacher is not None:
            features = arrays["features"]
            with torch.no_grad(), accelerator.autocast():
                found = torch.cat([teacher(part) for part in upright.split(batch_size)])
            features[rows] = found.cpu().numpy().astype(np.float16).reshape(len(rows), *features.shape[1:])
        if with_luma:
            luma = ((to_gray(upright)[:, 0] + 1) * 127.5).round().clamp(0, 255)
            arrays["luma"][rows] = luma.cpu().numpy().astype(np.uint8).reshape(len(rows), *arrays["luma"].shape[1:])
        for target, batch in ((color, pictures), (gray, to_gray(pictures))):
            with torch.no_grad(), accelerator.autocast():
                z = torch.cat([pipeline.encode_image(part) for part in batch.split(batch_size)])
            target[rows] = z.cpu().numpy().astype(np.float16).reshape(len(rows), *color.shape[1:])
        done[rows] = True
        bar.update(len(rows))
    bar.close()
    for array in arrays.values():
        array.flush()


class _Pictures(Dataset):
    """What is encoded of each group of photographs, `(versions, 3, height, width)` in [-1, 1]."""

    def __init__(self, photos, transform: TransformConfig, shape: tuple[int, ...], seed: int, groups: list[range]):
        self.photos, self.transform, self.shape, self.seed, self.groups = photos, transform, shape, seed, groups

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, index: int) -> torch.Tensor:
        versions = (
            _versions(self.photos.image(row), self.transform, self.shape, self.seed, row) for row in self.groups[index]
        )
        return torch.stack([picture for pictures in versions for picture in pictures])


def _versions(
    image: Image.Image, transform: TransformConfig, shape: tuple[int, ...], seed: int, row: int
) -> list[torch.Tensor]:
    """All variants of a photograph, each followed by its mirror image where flips are stored."""
    versions = []
    for variant in range(shape[1]):
        picture = prepare_image(image, transform, sample_rng(seed, "cache", row, variant))
        versions += [picture, flip(picture)] if shape[2] == 2 else [picture]
    return versions
