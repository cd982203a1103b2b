"""Measure the rows of a run picture by picture; features go through files, so that memory does not grow."""

import itertools
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torchmetrics.functional.image import structural_similarity_index_measure
from tqdm import tqdm

from colorization.color import rgb_to_lab

from .checked_run import CheckedRun, Item
from .files import replace_file
from .metrics.color_words import HUE_WORDS, judge
from .metrics.colors import HUE_SECTORS, hue_sectors, match_colorfulness, sector_sums
from .metrics.gray import gray_version
from .metrics.pixels import ciede2000, psnr
from .networks import Networks
from .photos import decode
from .runs import GRAY, ORIGINAL, OUTPUT, VAE
from .summary import both_colorfulnesses, to_tensor

SMALLEST_FOR_SSIM, SMALLEST_FOR_LPIPS = 11, 32  # pixels: SSIM's window, and what AlexNet's layers reduce to one
_BAND_PIXELS = 2**17  # measured at once: bounds the memory, and the planes of a band stay in the processor's cache
_SSIM_PIXELS = 2**21  # of the largest pictures whose channels are measured together
_BATCH = 4  # pictures whose features are taken at once


@dataclass
class RowValues:
    """What was measured of one row, picture by picture.

    Attributes:
        scores: `(n,)` for each name, NaN where a picture has none.
        sectors: `(n, 1 + len(HUE_SECTORS), 4)`: `colors.sector_sums` divided by the number of pixels.
        features: `(n, d)` for each network; "inception_hi" are those of pictures with the originals' colorfulness.
        unmatched: pictures whose colorfulness could not be brought to the original's.
    """

    scores: dict[str, np.ndarray]
    sectors: np.ndarray
    features: dict[str, np.ndarray] = field(default_factory=dict)
    unmatched: int = 0


def pixel_scores(
    reference: np.ndarray, versions: Mapping[str, np.ndarray], group: Sequence[str] = ()
) -> tuple[dict[str, float], dict[str, np.ndarray], float]:
    """Color differences of versions of a picture from its original, in bands of rows.

    Args:
        reference: uint8 RGB `(height, width, 3)`.
        versions: of the same shape.
        group: names of versions that are also compared with each other.

    Returns:
        Mean CIEDE2000 of each version; its `sector_sums` over the number of pixels; mean CIEDE2000 over all pairs of
        `group`, NaN where there are none.
    """
    height, width = reference.shape[:2]
    step = max(1, _BAND_PIXELS // width)
    pairs = list(itertools.combinations(group, 2))
    differences = dict.fromkeys(versions, 0.0)
    sums = {name: np.zeros((len(HUE_SECTORS) + 1, 4)) for name in versions}
    spread = 0.0
    for top in range(0, height, step):
        rows = slice(top, top + step)
        sectors, lab = hue_sectors(reference[rows]), rgb_to_lab(to_tensor(reference[rows]))
        labs = {name: rgb_to_lab(to_tensor(version[rows])) for name, version in versions.items()}
        for name, own in labs.items():
            differences[name] += ciede2000(own, lab).double().sum().item()
            sums[name] += sector_sums(own, lab, sectors)
        spread += sum(ciede2000(labs[a], labs[b]).double().sum().item() for a, b in pairs)
    count = height * width
    return (
        {name: total / count for name, total in differences.items()},
        {name: total / count for name, total in sums.items()},
        spread / (count * len(pairs)) if pairs else np.nan,
    )


def ssim(image: torch.Tensor, reference: torch.Tensor) -> float:
    """SSIM (Wang et al. 2004) of two pictures `(1, 3, height, width)` in [0, 1], mean over channels; NaN if tiny."""
    if min(image.shape[-2:]) < SMALLEST_FOR_SSIM:
        return np.nan
    channels = 3 if image[0, 0].numel() <= _SSIM_PIXELS else 1  # torchmetrics keeps ten planes of each
    parts = zip(image.split(channels, dim=1), reference.split(channels, dim=1), strict=True)
    return float(np.mean([structural_similarity_index_measure(*part, data_range=1.0).item() for part in parts]))


class Scorer:
    """Measures all rows of a run, picture by picture, into files and small arrays.

    Attributes:
        rows: the result, by row name.
        diversity, best: `(n,)`, mean CIEDE2000 between the seeds' outputs and least one to the original; NaN where
            there is one seed only.
    """

    def __init__(
        self, run: CheckedRun, extra: Sequence[CheckedRun], networks: Networks, workspace: Path, cache: Path | None
    ):
        """Prepare to measure.

        Args:
            extra: runs over the same pictures with other seeds.
            workspace: an empty folder for features.
            cache: folder in which the features of originals and gray inputs are kept; None keeps nothing.
        """
        self._items, self._extra, self._networks, self._cache = run.items, extra, networks, cache
        n = len(run.items)
        names = [OUTPUT, GRAY, VAE, ORIGINAL]
        if not all(item.vae for item in run.items):
            names.remove(VAE)
        scores = "psnr ssim lpips ciede2000 chroma_error colorfulness colorfulness_absolute clip_score hit".split()
        self.rows = {
            name: RowValues({key: np.full(n, np.nan) for key in scores}, np.zeros((n, 9, 4))) for name in names
        }
        self.diversity, self.best = np.full(n, np.nan), np.full(n, np.nan)
        self._fresh: list[tuple[np.ndarray, Path]] = []  # features that are to be kept, and where
        self._done: set[tuple[str, str]] = set()  # row and network whose features were kept before
        for (row, values), (key, network) in itertools.product(self.rows.items(), networks.features.items()):
            kept = self._kept_file(row, key)
            if kept is not None and kept.is_file():
                values.features[key] = np.load(kept, mmap_mode="r")
                self._done.add((row, key))
                continue
            values.features[key] = _feature_file(workspace / f"{row}-{key}.npy", n, network.dimension)
            if kept is not None:
                self._fresh.append((values.features[key], kept))
        if "inception" in networks.features:
            dimension = networks.features["inception"].dimension
            for row in self.rows.keys() - {GRAY, ORIGINAL}:  # one cannot be rescaled, the other need not be
                file = workspace / f"{row}-inception_hi.npy"
                self.rows[row].features["inception_hi"] = _feature_file(file, n, dimension)

    def _kept_file(self, row: str, key: str) -> Path | None:
        if self._cache is None or row not in (GRAY, ORIGINAL):
            return None
        return self._cache / f"{key}-{self._networks.features[key].key(row, self._items)[:24]}.npy"

    def measure(self) -> None:
        """Read and measure every picture."""
        with tqdm(total=len(self._items), desc="scoring", unit="picture") as progress:
            for start in range(0, len(self._items), _BATCH):
                rows = range(start, min(start + _BATCH, len(self._items)))
                pictures = [self._read(self._items[row]) for row in rows]
                for row, versions in zip(rows, pictures, strict=True):
                    self._measure_one(row, versions)
                    progress.update()
                self._extract(rows, pictures)
        for features, file in self._fresh:
            file.parent.mkdir(parents=True, exist_ok=True)
            replace_file(file, lambda temporary, source=features: shutil.copyfile(source.filename, temporary))

    def _read(self, item: Item) -> dict[str, np.ndarray]:
        """The versions of a picture by row name."""
        original = decode(item.reference)
        versions = {OUTPUT: decode(item.image), GRAY: gray_version(original), ORIGINAL: original}
        return versions | ({VAE: decode(item.vae)} if VAE in self.rows else {})

    def _measure_one(self, row: int, versions: Mapping[str, np.ndarray]) -> None:
        item, original = self._items[row], to_tensor(versions[ORIGINAL])
        others = {f"seed {k}": decode(run.items[row].image) for k, run in enumerate(self._extra)}
        seeds = [OUTPUT, *others] if others else []
        differences, sectors, diversity = pixel_scores(versions[ORIGINAL], versions | others, seeds)
        if seeds:
            self.diversity[row], self.best[row] = diversity, min(differences[name] for name in seeds)
        word = prompted_word(item.caption)
        for name, values in self.rows.items():
            image = to_tensor(versions[name])
            own = {
                "ciede2000": differences[name],
                "chroma_error": sectors[name][:, 1].sum(),
                "psnr": psnr(image, original).item(),
                "ssim": 1.0 if name == ORIGINAL else ssim(image, original),
            }
            own["colorfulness"], own["colorfulness_absolute"] = both_colorfulnesses(image)
            if self._networks.lpips is not None and min(image.shape[-2:]) >= SMALLEST_FOR_LPIPS:
                own["lpips"] = self._networks.lpips(image, original)
            if self._networks.clip is not None and item.caption:
                own["clip_score"] = self._networks.clip(versions[name], item.caption)
            verdict = None if word is None else judge(versions[name], word)
            if verdict is not None:
                own["hit"] = float(verdict)
            for key, value in own.items():
                values.scores[key][row] = value
            values.sectors[row] = sectors[name]

    def _extract(self, rows: range, pictures: Sequence[Mapping[str, np.ndarray]]) -> None:
        for (name, values), (key, network) in itertools.product(self.rows.items(), self._networks.features.items()):
            if (name, key) not in self._done:
                values.features[key][rows.start : rows.stop] = network.extract([picture[name] for picture in pictures])
        for values, name in (
            (values, name) for name, values in self.rows.items() if "inception_hi" in values.features
        ):
            rescaled = []
            for row, picture in zip(rows, pictures, strict=True):
                target = self.rows[ORIGINAL].scores["colorfulness"][row]
                image, reached = match_colorfulness(to_tensor(picture[name]), target)
                rescaled.append((255 * image[0]).round().byte().permute(1, 2, 0).numpy())
                values.unmatched += not reached
            network = self._networks.features["inception"]
            values.features["inception_hi"][rows.start : rows.stop] = network.extract(rescaled)


def prompted_word(caption: str) -> str | None:
    """The first color word of a prompt that names a hue: in "red bus, gray background", red."""
    words = caption.lower().replace(",", " ").replace(".", " ").split()
    return next((word for word in words if word in HUE_WORDS), None)


def _feature_file(path: Path, n: int, dimension: int) -> np.memmap:
    return np.lib.format.open_memmap(path, "w+", np.float32, (n, dimension))
