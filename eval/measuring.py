"""Color photographs and measure them against their originals: one pass over a set, in batches of one shape."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tqdm import tqdm

from colorization import ColorizationPipeline
from colorization.image_io import as_photo

from .metrics.gray import gray_version
from .metrics.lite2 import Lite2Features
from .metrics.pixels import chroma_error, mean_ciede2000, psnr
from .photos import NamedPhoto, photo_seed
from .setting import Setting
from .summary import both_colorfulnesses, feature_metrics, pixel_metrics, to_tensor


@dataclass
class PhotoSet:
    """Decodable photographs with what is known of the originals.

    Attributes:
        name: for results.
        photos: `n` photographs.
        sizes: (width, height) of each.
        features: of the originals, `(n, 1280)`.
        colorfulness: of the originals, `(n, 2)`: as published, and of absolute differences.
    """

    name: str
    photos: list[NamedPhoto]
    sizes: list[tuple[int, int]]
    features: np.ndarray
    colorfulness: np.ndarray


def prepare_photos(
    name: str, photos: Sequence[NamedPhoto], lite2: Lite2Features, fail: Callable[[str], None]
) -> PhotoSet:
    """Decode every photograph once and measure the original; those that cannot be decoded are reported and left out.

    Args:
        name: for results.
        photos: as they are stored.
        lite2: gives features.
        fail: called with a line on each photograph that cannot be used.
    """
    good, sizes, features, colors = [], [], [], []
    for photo in tqdm(photos, desc=f"originals of {name}", unit="photo"):
        try:
            pixels = photo.pixels()
        except ValueError as error:
            fail(str(error))
            continue
        good.append(photo)
        sizes.append((pixels.shape[1], pixels.shape[0]))
        colors.append(both_colorfulnesses(to_tensor(pixels)))
        features.append(lite2([pixels])[0])
    if not good:
        raise ValueError(f"{name}: none of its photographs can be decoded")
    return PhotoSet(name, good, sizes, np.stack(features), np.array(colors))


class Measurements:
    """Features and pixel scores of one output of each photograph of a set."""

    def __init__(self, photos: PhotoSet, lite2: Lite2Features):
        self._photos, self._lite2 = photos, lite2
        self._features = np.empty_like(photos.features)
        # PSNR, CIEDE2000, chroma error, colorfulness as published and of absolute differences
        self._scores = np.empty((len(photos.photos), 5))

    def add(self, row: int, output: np.ndarray, reference: torch.Tensor) -> None:
        """Measure the output of the photograph in a row against its original `(1, 3, height, width)`."""
        self._features[row] = self._lite2([output])[0]
        image = to_tensor(output)
        errors = [metric(image, reference).item() for metric in (psnr, mean_ciede2000, chroma_error)]
        self._scores[row] = [*errors, *both_colorfulnesses(image)]

    def metrics(self, seed: int) -> dict:
        """The metrics by name, as in score.json; `seed` is of the resampling."""
        features = feature_metrics(self._features, self._photos.features, seed)
        return features | pixel_metrics(self._scores, self._photos.colorfulness, seed)


def batches(
    photos: PhotoSet, size_of: Callable[[int, int], tuple[int, int]], batch_size: int
) -> Iterator[list[tuple[int, NamedPhoto, np.ndarray]]]:
    """Rows, photographs and their pixels, in batches of neighbors by size.

    Args:
        size_of: (width, height) at the model's resolution.
    """
    order = sorted(range(len(photos.photos)), key=lambda row: size_of(*photos.sizes[row]))
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        yield [(row, photos.photos[row], photos.photos[row].pixels()) for row in rows]


def measure_run(
    pipeline: ColorizationPipeline,
    settings: Sequence[Setting],
    photos: PhotoSet,
    prompts: Sequence[str],
    lite2: Lite2Features,
    seed: int,
    update: Callable[[int], object] = lambda count: None,
) -> dict[Setting, dict]:
    """Color every photograph once and measure it at every color scale.

    Args:
        pipeline: with the settings' noise scale.
        settings: that differ in the color scale only; several only where it acts on decoded chroma.
        photos: the originals, with their features.
        prompts: one per photograph.
        lite2: gives features.
        seed: of the noise (each photograph has its own, made from it) and of the resampling.
        update: called with the number of photographs after each batch.

    Returns:
        Metrics of each setting, as in the contract of score.json.
    """
    n = len(photos.photos)
    measured = {setting: Measurements(photos, lite2) for setting in settings}
    seconds = 0.0
    for batch in batches(photos, pipeline.model_size, pipeline.config.default_batch_size):
        grays = [as_photo(original) for _, _, original in batch]
        begin = time.perf_counter()
        predictions = pipeline(
            grays,
            prompt=[prompts[row] for row, _, _ in batch],
            seed=[photo_seed(seed, photo) for _, photo, _ in batch],
            color_scale=settings[0].color_scale,
            output_type="chroma",
            **settings[0].call,
        ).images
        seconds += time.perf_counter() - begin
        for (row, _, original), gray, prediction in zip(batch, grays, predictions, strict=True):
            reference = to_tensor(original)
            for setting in settings:
                # Where the scale has acted on the latent, rendering must leave the prediction as it is.
                output = prediction.render(gray.luma, setting.color_scale if len(settings) > 1 else None)
                measured[setting].add(row, output, reference)
        update(len(batch))
    speed = {"seconds_per_image": {"value": seconds / n, "n": n, "interval": None}}
    return {setting: measured[setting].metrics(seed) | speed for setting in settings}


def measure_gray(photos: PhotoSet, lite2: Lite2Features, seed: int) -> dict:
    """The metrics of the gray inputs, as of a setting."""
    measured = Measurements(photos, lite2)
    for row, photo in enumerate(photos.photos):
        original = photo.pixels()
        measured.add(row, gray_version(original), to_tensor(original))
    return measured.metrics(seed)
