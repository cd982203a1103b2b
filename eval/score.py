"""`python -m eval score`: metrics of a folder of colored pictures against their originals.

Next to the outputs the same metrics are taken of three rows that show what the numbers mean: "gray" is the input
itself, "vae" what a perfect prediction would give, "original" the original itself.

Pictures are read one after the other; features go through files, so that memory does not grow with their number.
"""

import argparse
import csv
import hashlib
import itertools
import json
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from colorization.command_line import at_least, share_cores

from .photos import IMAGE_SUFFIXES
from .summary import (
    MINIMUM_FOR_FRECHET,
    TOO_FEW,
    absent,
    both_colorfulnesses,
    feature_metrics,
    feature_shifts,
    frechet_metric,
    mean_metric,
    package_versions,
    ratio_metric,
    replace_file,
    to_tensor,
    write_result,
)

if TYPE_CHECKING:  # torch is imported once the arguments are known to be good
    import torch

OUTPUT, GRAY, VAE, ORIGINAL = "output", "gray", "vae", "original"
DEFAULT_CLIP = "openai/clip-vit-base-patch32"
SMALLEST_FOR_SSIM, SMALLEST_FOR_LPIPS = 11, 32  # pixels: SSIM's window, and what AlexNet's layers reduce to one
PACKAGES = (
    *("cold-colorizer", "torch", "torchvision", "torchmetrics", "torch-fidelity", "lpips", "transformers", "numpy"),
    *("pillow", "efficientnet_lite_pytorch"),
)
_BAND_PIXELS = 2**17  # measured at once: bounds the memory, and the planes of a band stay in the processor's cache
_SSIM_PIXELS = 2**21  # of the largest pictures whose channels are measured together
_BATCH = 4  # pictures whose features are taken at once
_SHOWN = 10  # ids in an error
_PER_IMAGE = ("psnr", "ssim", "lpips", "ciede2000", "colorfulness", "reference_colorfulness", "feature_distance")
_PER_IMAGE += ("chroma_error",)
_NO_PROMPTS = "the pictures were colored without prompts"


# Pictures


@dataclass(frozen=True)
class Item:
    """One colored picture, its original and what is known of it.

    Attributes:
        id: the same in all runs over the same pictures.
        image, reference: files of the output and of the color original.
        vae: file of the original after a round trip through the VAE, or None.
        reference_sha256: of the original's file.
        caption: the prompt; "" where there was none.
        seconds: that coloring took, or None.
    """

    id: str
    image: Path
    reference: Path
    vae: Path | None
    reference_sha256: str
    caption: str
    seconds: float | None


@dataclass(frozen=True)
class Run:
    """A checked set of outputs.

    Attributes:
        request: what run.json says, or {"name": folder name} for outputs that did not come from `eval generate`.
        data: name, number, geometry of the pictures, and how many were left out.
        items: sorted by id.
    """

    request: dict
    data: dict
    items: list[Item]


def load_run(folder: Path, reference: Path | None = None) -> Run:
    """Find outputs and originals and check that they belong together.

    Args:
        folder: what `eval generate` wrote, or any folder of images named by id.
        reference: a run or a folder of color originals; None takes those of `folder`, which then must be a run.

    Raises:
        ValueError: the ids differ, files are missing, too many, changed or unreadable, or sizes differ. Names them.
    """
    for path in (folder, reference):
        if path is not None and not path.is_dir():
            raise ValueError(f"{path} is not a folder")
    entries = _read_manifest(folder)
    if entries is None and reference is None:
        raise ValueError(f"{folder} has no manifest.jsonl: name the originals' run or folder with --reference")
    source = folder if reference is None else reference
    originals = entries if source == folder else _read_manifest(source)
    problems: dict[str, list[str]] = {}

    outputs = _listed(folder, entries, "file", "images", problems) if entries else _pictures_in(folder)
    references = _listed(source, originals, "reference", "originals", problems) if originals else _pictures_in(source)
    vaes = _listed(source, originals, "vae", "VAE round trips", problems) if originals else {}
    if not references:
        raise ValueError(f"{source} holds no originals")
    _note(problems, "images missing", references.keys() - outputs.keys())
    _note(problems, "images without original", outputs.keys() - references.keys())
    _refuse(folder, problems)

    digests, sides = {}, set()
    for key in _progress(sorted(outputs), "checking"):
        digests[key] = _sha256(references[key])
        for stored, path, name in (
            (entries, outputs[key], "sha256"),
            (originals, references[key], "reference_sha256"),
        ):
            if stored and stored[key].get(name) != (digests[key] if path == references[key] else _sha256(path)):
                _note(problems, "not the file that was written (SHA-256 differs)", [key])
        try:
            sizes = {_size(path) for path in (outputs[key], references[key], vaes.get(key)) if path is not None}
        except (OSError, ValueError, SyntaxError):  # Pillow's errors on damaged files
            _note(problems, "unreadable", [key])
            continue
        if len(sizes) > 1 or (originals and sizes != {(originals[key]["width"], originals[key]["height"])}):
            _note(problems, "of another size than the original", [key])
        sides |= {side for size in sizes for side in size}
    _refuse(folder, problems)

    request = _read_json(folder / "run.json", {"name": folder.resolve().name})
    description = _read_json(source / "run.json", {})
    data = {
        "name": description.get("dataset_name", source.resolve().name),
        "n": len(outputs),
        "geometry": description.get("geometry", f"measured as stored, sides of {min(sides)} to {max(sides)} pixels"),
        "left_out": len(_read_json(source / "left_out.json", [])),
    }
    items = [
        Item(
            key,
            outputs[key],
            references[key],
            vaes.get(key),
            digests[key],
            entries[key]["caption"] if entries else "",
            entries[key]["seconds"] if entries else None,
        )
        for key in sorted(outputs)
    ]
    return Run(request, data, items)


def _read_manifest(folder: Path) -> dict[str, dict] | None:
    """The entries of a run by id; None where the folder is no run."""
    file = folder / "manifest.jsonl"
    if not file.is_file():
        return None
    entries: dict[str, dict] = {}
    required = {
        "id",
        "file",
        "reference",
        "vae",
        "width",
        "height",
        "caption",
        "sha256",
        "reference_sha256",
        "seconds",
    }
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        try:
            entry = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{file}, line {number}: {error}") from error
        missing = required - set(entry)
        if missing or entry["id"] in entries:
            fault = f"has no {sorted(missing)[0]!r}" if missing else f"repeats the id {entry['id']!r}"
            raise ValueError(f"{file}, line {number}: {fault}")
        entries[entry["id"]] = entry
    if not entries:
        raise ValueError(f"{file} lists no pictures")
    return entries


def _listed(
    folder: Path, entries: Mapping[str, dict], column: str, what: str, problems: dict[str, list[str]]
) -> dict[str, Path]:
    """Files that a manifest names in one column, after a check that they are there and that no others are."""
    files = {key: folder / entry[column] for key, entry in entries.items() if entry[column] is not None}
    _note(problems, f"{what} missing", [key for key, file in files.items() if not file.is_file()])
    expected = {file.resolve() for file in files.values()}
    for directory in {file.parent for file in files.values()}:
        found = [f for f in directory.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES] if directory.is_dir() else []
        _note(problems, f"{what} not in the manifest", [f.stem for f in found if f.resolve() not in expected])
    return files


def _pictures_in(folder: Path) -> dict[str, Path]:
    """The images of a folder by file stem."""
    pictures: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        if file.suffix.lower() in IMAGE_SUFFIXES:
            if file.stem in pictures:
                raise ValueError(f"{folder}: {pictures[file.stem].name} and {file.name} have the same id")
            pictures[file.stem] = file
    if not pictures:
        raise ValueError(f"{folder} holds no images")
    return pictures


def _note(problems: dict[str, list[str]], what: str, ids: Iterable[str]) -> None:
    found = problems.setdefault(what, [])
    found += [key for key in sorted(ids) if key not in found]


def _refuse(folder: Path, problems: Mapping[str, list[str]]) -> None:
    """ValueError with all problems in one line, if there are any."""
    parts = [
        f"{what}: {', '.join(ids[:_SHOWN])}" + (f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else "")
        for what, ids in problems.items()
        if ids
    ]
    if parts:
        raise ValueError(f"{folder} cannot be scored: {'; '.join(parts)}")


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _size(path: Path) -> tuple[int, int]:
    """Width and height of an image file as it is to be shown."""
    from PIL import Image
    from PIL.ExifTags import Base

    with Image.open(path) as image:
        turned = image.getexif().get(Base.Orientation, 1) >= 5
        return image.size[::-1] if turned else image.size


def _pixels(path: Path) -> np.ndarray:
    """Upright RGB `(height, width, 3)` uint8."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            return np.array(ImageOps.exif_transpose(image).convert("RGB"))
    except (OSError, ValueError, SyntaxError) as error:
        raise ValueError(f"{path}: cannot be decoded: {error}") from error


def _read_json(file: Path, default):
    if not file.is_file():
        return default
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is no JSON: {error}") from error


def _progress(items: Iterable, text: str, total: int | None = None):
    from tqdm import tqdm

    return tqdm(items, desc=text, unit="picture", total=total)


# Networks


@dataclass(frozen=True)
class FeatureNetwork:
    """A network whose features are compared.

    Attributes:
        extract: uint8 RGB pictures -> `(n, dimension)` float32.
        resize: what is done to pictures before the network, in words.
        weights_sha256: of the weights file.
    """

    extract: Callable[[Sequence[np.ndarray]], np.ndarray]
    dimension: int
    resize: str
    weights_sha256: str

    def key(self, row: str, items: Sequence[Item]) -> str:
        """A name for the features of a row that follows from the originals' bytes alone."""
        parts = [self.weights_sha256, self.resize, row, *(item.reference_sha256 for item in items)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


class Lpips:
    """LPIPS (Zhang et al. 2018), version 0.1 with AlexNet, through the lpips package.

    Attributes:
        weights_sha256: of AlexNet's weights file; those of the linear layers come in the package.
    """

    _FILE = "alexnet-owt-7be5be79.pth"

    def __init__(self, weights: Path | None = None):
        """Load AlexNet from a file of torchvision's weights; None looks where torch.hub keeps its downloads.

        Raises:
            WeightsMissing: None was given and the file is not there, or the lpips package is not.
            ValueError: the file holds no AlexNet.
        """
        import torch

        from .inception import WeightsMissing

        path = Path(torch.hub.get_dir()) / "checkpoints" / self._FILE if weights is None else weights
        if not path.is_file():
            if weights is not None:
                raise ValueError(f"LPIPS weights {weights} are not a file")
            raise WeightsMissing(f"needs AlexNet's weights: give {self._FILE} with --lpips-weights")
        try:
            import lpips
        except ImportError as error:
            raise WeightsMissing("needs a package: pip install lpips") from error
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # lpips still uses torchvision's old arguments
            self._network = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
        trunk = self._network.net
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            # slice2.3.weight of lpips is features.3.weight of torchvision
            trunk.load_state_dict({key: state[f"features.{key.split('.', 1)[1]}"] for key in trunk.state_dict()})
        except Exception as error:  # torch.load raises whatever a damaged file provokes
            text = " ".join(str(error).split())[:200]
            raise ValueError(f"{path} does not hold torchvision's AlexNet: {text}") from error
        self.weights_sha256 = _sha256(path)

    def __call__(self, image: "torch.Tensor", reference: "torch.Tensor") -> float:
        """The distance of two pictures `(1, 3, height, width)` in [0, 1]."""
        import torch

        with torch.no_grad():
            return self._network(image, reference, normalize=True).item()


class ClipScore:
    """CLIP score (Hessel et al. 2021, without its factor 2.5): 100 max(cos(image, prompt), 0).

    Attributes:
        name: of the model.
    """

    def __init__(self, name: str):
        """Load a model that is on this machine; WeightsMissing where it is not."""
        from transformers import CLIPModel, CLIPProcessor

        from .inception import WeightsMissing

        self.name = name
        try:
            self._model = CLIPModel.from_pretrained(name, local_files_only=True).eval()
            self._processor = CLIPProcessor.from_pretrained(name, local_files_only=True)
        except OSError as error:
            raise WeightsMissing(f"needs the CLIP model {name}: give a folder with --clip-model") from error

    def __call__(self, image: np.ndarray, caption: str) -> float:
        """The score of a uint8 RGB picture."""
        import torch

        inputs = self._processor(text=[caption], images=[image], return_tensors="pt", truncation=True)
        with torch.no_grad():
            output = self._model(**inputs)
        return 100 * max(torch.cosine_similarity(output.image_embeds, output.text_embeds).item(), 0.0)


@dataclass
class Networks:
    """The networks that are there, and why the others are not."""

    features: dict[str, FeatureNetwork] = field(default_factory=dict)
    lpips: Lpips | None = None
    clip: ClipScore | None = None
    missing: dict[str, str] = field(default_factory=dict)


def load_networks(
    inception_weights: Path | None = None,
    inception: str = "fid",
    lpips_weights: Path | None = None,
    clip_model: str | None = None,
    device: str = "cpu",
) -> Networks:
    """Load what is on this machine; nothing is downloaded.

    Args:
        inception_weights, lpips_weights: files; None looks where torch.hub keeps its downloads.
        inception: variant, see `eval.inception`.
        clip_model: Hub id or folder of a CLIP model; None, where no picture has a prompt, loads none.
        device: of the Inception network.

    Raises:
        ValueError: a file that was given is not there or holds something else.
    """
    from .features import FEATURES, PREPROCESSING, Lite2Features
    from .inception import InceptionFeatures, WeightsMissing

    networks = Networks()
    try:
        lite2 = Lite2Features()
        networks.features["lite2"] = FeatureNetwork(lite2, FEATURES, PREPROCESSING, lite2.weights_sha256)
    except ImportError as error:
        networks.missing["lite2"] = str(error)
    try:
        network = InceptionFeatures(inception_weights, inception, device)
        networks.features["inception"] = FeatureNetwork(
            network, network.dimension, network.resize, network.weights_sha256
        )
    except WeightsMissing as error:
        networks.missing["inception"] = f"{error}; give them with --inception-weights"
    try:
        networks.lpips = Lpips(lpips_weights)
    except WeightsMissing as error:
        networks.missing["lpips"] = str(error)
    if clip_model is None:
        networks.missing["clip"] = _NO_PROMPTS
    else:
        try:
            networks.clip = ClipScore(clip_model)
        except WeightsMissing as error:
            networks.missing["clip"] = str(error)
    return networks


# Measuring


@dataclass
class RowValues:
    """What was measured of one row, picture by picture.

    Attributes:
        scores: `(n,)` for each name, NaN where a picture has none.
        sectors: `(n, 1 + len(HUE_SECTORS), 4)`: `color_metrics.sector_sums` divided by the number of pixels.
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
    from colorization.color import rgb_to_lab

    from .color_metrics import HUE_SECTORS, hue_sectors, sector_sums
    from .pixel_metrics import ciede2000

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


def ssim(image: "torch.Tensor", reference: "torch.Tensor") -> float:
    """SSIM (Wang et al. 2004) of two pictures `(1, 3, height, width)` in [0, 1], mean over channels; NaN if tiny."""
    from torchmetrics.functional.image import structural_similarity_index_measure

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

    def __init__(self, run: Run, extra: Sequence[Run], networks: Networks, workspace: Path, cache: Path | None):
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
            for row in self.rows.keys() - {
                GRAY,
                ORIGINAL,
            }:  # nothing to rescale in one, nothing to change in the other
                file = workspace / f"{row}-inception_hi.npy"
                self.rows[row].features["inception_hi"] = _feature_file(
                    file, n, networks.features["inception"].dimension
                )

    def _kept_file(self, row: str, key: str) -> Path | None:
        if self._cache is None or row not in (GRAY, ORIGINAL):
            return None
        return self._cache / f"{key}-{self._networks.features[key].key(row, self._items)[:24]}.npy"

    def measure(self) -> None:
        """Read and measure every picture."""
        with _progress(None, "scoring", total=len(self._items)) as progress:
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
        from PIL import Image

        original = _pixels(item.reference)
        gray = np.array(Image.fromarray(original).convert("L").convert("RGB"))
        versions = {OUTPUT: _pixels(item.image), GRAY: gray, ORIGINAL: original}
        return versions | ({VAE: _pixels(item.vae)} if VAE in self.rows else {})

    def _measure_one(self, row: int, versions: Mapping[str, np.ndarray]) -> None:
        from .color_word_rate import judge
        from .pixel_metrics import psnr

        item, original = self._items[row], to_tensor(versions[ORIGINAL])
        others = {f"seed {k}": _pixels(run.items[row].image) for k, run in enumerate(self._extra)}
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
        from .color_metrics import match_colorfulness

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
    from .color_word_rate import HUE_WORDS

    words = caption.lower().replace(",", " ").replace(".", " ").split()
    return next((word for word in words if word in HUE_WORDS), None)


def _feature_file(path: Path, n: int, dimension: int) -> np.memmap:
    return np.lib.format.open_memmap(path, "w+", np.float32, (n, dimension))


# Metrics


def row_metrics(name: str, scorer: Scorer, networks: Networks, run: Run, seed: int) -> dict:
    """The metrics of one row by name, each with value, n and interval, and a reason where there is no value."""
    values, original = scorer.rows[name], scorer.rows[ORIGINAL]
    n = len(run.items)

    def rng() -> np.random.Generator:  # a fresh one each time: no metric depends on which others are there
        return np.random.default_rng(seed)

    def mean(key: str, reason: str) -> dict:
        scores = values.scores[key]
        return mean_metric(scores[np.isfinite(scores)], rng(), reason)

    own, reference = values.scores["colorfulness"], original.scores["colorfulness"]
    pairs = np.stack([own, reference], axis=1)
    metrics = inception_metrics(name, scorer, networks, seed)
    if "lite2" in networks.features:
        metrics |= feature_metrics(values.features["lite2"], original.features["lite2"], seed)
    else:
        reason = networks.missing["lite2"]
        metrics |= {key: absent(reason, n) for key in ("fd_lite2", "kd_lite2", "feature_distance")}
    metrics |= {
        "colorfulness": mean_metric(own, rng()),
        "colorfulness_absolute": mean("colorfulness_absolute", "no values"),
        "delta_colorfulness_mean": mean_metric(
            pairs, rng(), of_means=lambda means: np.abs(means[..., 0] - means[..., 1])
        ),
        "delta_colorfulness_each": mean_metric(np.abs(own - reference), rng()),
        "colorfulness_ratio": ratio_metric(own, reference, rng(), "an original is gray"),
        "psnr": mean("psnr", "the pictures equal their originals"),
        "ssim": mean("ssim", f"all pictures have a side below {SMALLEST_FOR_SSIM} pixels"),
        "lpips": mean(
            "lpips", networks.missing.get("lpips", f"all pictures have a side below {SMALLEST_FOR_LPIPS} pixels")
        ),
        "ciede2000": mean("ciede2000", "no values"),
        "chroma_error": mean("chroma_error", "no values"),
        "clip_score": mean("clip_score", networks.missing.get("clip", _NO_PROMPTS)),
        "color_word_hit_rate": hit_rate(values.scores["hit"], run.items),
    }
    metrics |= sector_metrics(values.sectors, rng)
    one_seed = "needs --extra-seeds" if name == OUTPUT else "only outputs depend on a seed"
    best, diversity = (scores if name == OUTPUT else scores[:0] for scores in (scorer.best, scorer.diversity))
    metrics["diversity"] = mean_metric(diversity[np.isfinite(diversity)], rng(), one_seed)
    metrics["best_of_k_ciede2000"] = mean_metric(best[np.isfinite(best)], rng(), one_seed)
    seconds = [item.seconds for item in run.items if item.seconds is not None] if name == OUTPUT else []
    metrics["seconds_per_image"] = mean_metric(np.array(seconds), rng(), "no time was taken")
    return metrics


def inception_metrics(name: str, scorer: Scorer, networks: Networks, seed: int) -> dict:
    """FID, KID and HI-FID of a row."""
    from .inception import kernel_inception_distance

    values, n = scorer.rows[name], len(scorer.diversity)
    if "inception" not in networks.features:
        return {key: absent(networks.missing["inception"], n) for key in ("fid", "kid", "hi_fid")}
    features, reference = values.features["inception"], scorer.rows[ORIGINAL].features["inception"]
    fid = frechet_inception_metric(features, reference)
    kid = absent("needs at least 4 photographs", n) | {"standard_error": None}
    if n >= 4:
        value, error = kernel_inception_distance(features, reference, np.random.default_rng(seed))
        kid = {"value": value, "standard_error": error, "n": n, "interval": None}
    if "inception_hi" in values.features:
        hi_fid = frechet_inception_metric(values.features["inception_hi"], reference)
        hi_fid["unmatched"] = values.unmatched
    elif name == GRAY:
        hi_fid = absent("gray pictures have no chroma to rescale", n)
    else:
        hi_fid = dict(fid)
    return {"fid": fid, "kid": kid, "hi_fid": hi_fid}


def frechet_inception_metric(features: np.ndarray, reference: np.ndarray) -> dict:
    """FID of features `(n, d)`: a value on few photographs too, as tables of others have, with a `note` that warns."""
    metric = frechet_metric(features, reference)
    few = metric["value"] is not None and metric["n"] < MINIMUM_FOR_FRECHET
    return metric | {"note": TOO_FEW} if few else metric


def hit_rate(verdicts: np.ndarray, items: Sequence[Item]) -> dict:
    """Color-word hit rate: share of prompts with a color word whose picture has that color in its middle.

    Args:
        verdicts: `(n,)`, 1 or 0, NaN where the prompt names no color or the luminance cannot show it.
    """
    from .pixel_metrics import wilson_interval

    counted = verdicts[np.isfinite(verdicts)]
    if not any(item.caption for item in items):
        return absent(_NO_PROMPTS)
    if not len(counted):
        return absent("no prompt names a color that its picture can show")
    hits = int(counted.sum())
    return {
        "value": hits / len(counted),
        "n": len(counted),
        "interval": list(wilson_interval(hits, len(counted))),
    }


def sector_metrics(sectors: np.ndarray, rng: Callable[[], np.random.Generator]) -> dict:
    """Chroma error and retention by the hue of the original; a picture weighs by its share of pixels of that hue.

    Args:
        sectors: `(n, 1 + len(HUE_SECTORS), 4)`, see `RowValues`.
    """
    from .color_metrics import HUE_SECTORS

    metrics = {}
    for index, sector in enumerate(HUE_SECTORS, 1):
        share, error, chroma, reference_chroma = sectors[sectors[:, index, 0] > 0, index].T
        reason = f"no original has {sector} pixels"
        metrics[f"chroma_error_{sector}"] = ratio_metric(error, share, rng(), reason)
        metrics[f"chroma_retention_{sector}"] = ratio_metric(chroma, reference_chroma, rng(), reason)
    return metrics


def _write_per_image(file: Path, scorer: Scorer, run: Run) -> None:
    values, original = scorer.rows[OUTPUT], scorer.rows[ORIGINAL]
    columns = values.scores | {"reference_colorfulness": original.scores["colorfulness"]}
    columns["feature_distance"] = np.full(len(run.items), np.nan)
    if "lite2" in values.features:
        columns["feature_distance"] = feature_shifts(values.features["lite2"], original.features["lite2"])

    def write(temporary: Path) -> None:
        with open(temporary, "w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow(["id", *_PER_IMAGE])
            for row, item in enumerate(run.items):
                scores = [columns[name][row] for name in _PER_IMAGE]
                writer.writerow([item.id, *("" if np.isnan(score) else f"{score:.6g}" for score in scores)])

    replace_file(file, write)


# Command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `python -m eval score`."""
    parser.add_argument("folder", type=Path, metavar="RUN", help="a run, or a folder of colored images named by id")
    parser.add_argument("--reference", type=Path, metavar="DIR", help="run or folder of the color originals")
    parser.add_argument("--inception-weights", type=Path, metavar="FILE", help="weights for FID, KID and HI-FID")
    parser.add_argument(
        "--inception", choices=("fid", "torchvision"), default="fid", help="network and protocol (default: fid)"
    )
    parser.add_argument("--lpips-weights", type=Path, metavar="FILE", help="torchvision's AlexNet weights, for LPIPS")
    parser.add_argument(
        "--clip-model", default=DEFAULT_CLIP, metavar="ID_OR_DIR", help=f"for the CLIP score (default: {DEFAULT_CLIP})"
    )
    parser.add_argument("--seed", type=at_least(0), default=0, metavar="N", help="of the resampling (default: 0)")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="keep the originals' features here")
    parser.add_argument(
        "--extra-seeds",
        type=Path,
        nargs="+",
        default=[],
        metavar="RUN",
        help="runs with other seeds, for diversity and best of K",
    )


def run(arguments: argparse.Namespace) -> int:
    """Score a folder; returns the exit status.

    Raises:
        ValueError: the pictures do not fit together, or an argument is wrong; nothing was written.
    """
    scored = load_run(arguments.folder, arguments.reference)
    extra = [load_run(folder) for folder in arguments.extra_seeds]
    _check_seeds(scored, extra, arguments.extra_seeds)
    share_cores()
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    prompted = any(item.caption for item in scored.items)
    networks = load_networks(
        arguments.inception_weights,
        arguments.inception,
        arguments.lpips_weights,
        arguments.clip_model if prompted else None,
        device,
    )
    with tempfile.TemporaryDirectory(prefix="eval-score-") as workspace:
        scorer = Scorer(scored, extra, networks, Path(workspace), arguments.cache)
        scorer.measure()
        rows = {name: row_metrics(name, scorer, networks, scored, arguments.seed) for name in scorer.rows}
        _write_per_image(arguments.folder / "score_per_image.csv", scorer, scored)
    write_result(arguments.folder / "score.json", _result(arguments, scored, networks, rows, device))
    print(arguments.folder / "score.json")
    return 0


def _check_seeds(scored: Run, extra: Sequence[Run], folders: Sequence[Path]) -> None:
    """ValueError unless the extra runs differ from the scored one in the seed alone."""
    seeds = {scored.request.get("seed")}
    for other, folder in zip(extra, folders, strict=True):
        if [(item.id, item.reference_sha256) for item in other.items] != [
            (item.id, item.reference_sha256) for item in scored.items
        ]:
            raise ValueError(f"argument --extra-seeds: {folder} has other pictures")
        for key in ("model", "model_revision", "adapter", "adapter_revision", "prompt_mode", "settings"):
            if other.request.get(key) != scored.request.get(key):
                raise ValueError(f"argument --extra-seeds: {folder} was made with another {key}")
        if other.request.get("seed") in seeds:
            raise ValueError(f"argument --extra-seeds: {folder} has the seed {other.request.get('seed')} again")
        seeds.add(other.request.get("seed"))


def _result(arguments: argparse.Namespace, scored: Run, networks: Networks, rows: dict, device: str) -> dict:
    from .color_metrics import HUE_SECTORS, MINIMUM_CHROMA

    inception = networks.features.get("inception")
    lite2 = networks.features.get("lite2")
    return {
        "format": 1,
        "run": scored.request,
        "data": scored.data,
        "rows": rows,
        "settings": {
            "resize": {name: network.resize for name, network in networks.features.items()},
            "seed": arguments.seed,
            "inception": arguments.inception if inception else None,
            "clip_model": networks.clip.name if networks.clip else None,
            "hue_sectors": {"space": "OKLCh", "minimum_chroma": MINIMUM_CHROMA, "start_degrees": HUE_SECTORS},
            "extra_seeds": [folder.resolve().name for folder in arguments.extra_seeds],
            "device": device,
        },
        "seed": arguments.seed,
        "versions": package_versions(PACKAGES),
        "weights": {
            "lite2": lite2.weights_sha256 if lite2 else None,
            "inception": inception.weights_sha256 if inception else None,
            "lpips": networks.lpips.weights_sha256 if networks.lpips else None,
        },
    }
