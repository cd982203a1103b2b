"""Inception-v3 features for FID and KID, as published: the network, the weights and the resizing all matter.

Two protocols, whose numbers must not be mixed:

- "fid": the network of the original FID with its TensorFlow weights, through torch-fidelity, on pictures resized as
  clean-fid does (Parmar, Zhang and Zhu 2022): bicubic with antialiasing, channel by channel in floating point.
- "torchvision": torchvision's Inception-v3 with its ImageNet weights, as in the published code of DDColor and of the
  colorization papers that share it.

Nothing is ever downloaded: the weights are a file that is there, or there are no features.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

FEATURES = 2048
INPUT_SIZE = 299
VARIANTS = ("fid", "torchvision")
RESIZE = {
    "fid": "whole picture to 299x299, bicubic antialiased per channel in float as in clean-fid; (rgb - 128) / 128",
    "torchvision": "whole picture to 299x299, bilinear without antialiasing; DDColor's normalization",
}
_CACHED = {  # where torch.hub, which torch-fidelity and torchvision download through, would have put the weights
    "fid": "weights-inception-2015-12-05-6726825d.pth",
    "torchvision": "inception_v3_google-0cc3c7bd.pth",
}
_CHUNK = 4  # pictures at once: bounds the memory of activations
_TRUNK = (
    "Conv2d_1a_3x3 Conv2d_2a_3x3 Conv2d_2b_3x3 {0}1 Conv2d_3b_1x1 Conv2d_4a_3x3 {0}2 Mixed_5b Mixed_5c Mixed_5d "
    "Mixed_6a Mixed_6b Mixed_6c Mixed_6d Mixed_6e Mixed_7a Mixed_7b Mixed_7c {1}"
)
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class WeightsMissing(Exception):
    """The weights of a metric's network are not on this machine; the message says what to do."""


def find_weights(variant: str = "fid", path: str | Path | None = None) -> Path:
    """The weights file of a variant.

    Args:
        variant: one of `VARIANTS`.
        path: a file; None looks where torch.hub keeps its downloads.

    Raises:
        ValueError: no such variant, or `path` is no file.
        WeightsMissing: `path` is None and the file is not among torch.hub's downloads.
    """
    if variant not in VARIANTS:
        raise ValueError(f"`variant` must be one of {VARIANTS}, got {variant!r}")
    if path is not None:
        if not Path(path).is_file():
            raise ValueError(f"Inception weights {path} are not a file")
        return Path(path)
    file = Path(torch.hub.get_dir()) / "checkpoints" / _CACHED[variant]
    if not file.is_file():
        raise WeightsMissing(
            f"needs the Inception weights {_CACHED[variant]}, which are not among torch.hub's downloads"
        )
    return file


def resize_clean(image: np.ndarray) -> np.ndarray:
    """A picture at 299 x 299 as clean-fid resizes it: values stay in floating point, overshoot is clipped.

    Args:
        image: `(height, width, 3)` uint8 RGB.

    Returns:
        float32 `(299, 299, 3)` in [0, 255].
    """
    _check_image(image)
    size = (INPUT_SIZE, INPUT_SIZE)
    channels = [
        np.asarray(Image.fromarray(image[..., channel].astype(np.float32)).resize(size, Image.Resampling.BICUBIC))
        for channel in range(3)
    ]
    return np.stack(channels, axis=-1).clip(0, 255)


def resize_bilinear(image: np.ndarray) -> torch.Tensor:
    """A picture as DDColor's network sees it, `(3, 299, 299)`.

    Its code takes [0, 1] for [-1, 1] and shifts it once more, so that contrast is halved; kept, since its published
    numbers come from it.
    """
    _check_image(image)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float()[None] / 255
    resized = F.interpolate(pixels, (INPUT_SIZE, INPUT_SIZE), mode="bilinear", align_corners=False)[0]
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (_IMAGENET_MEAN, _IMAGENET_STD))
    return (resized * 0.5 + 0.5) * (std / 0.5) + (mean - 0.5) / 0.5


def _check_image(image: np.ndarray) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"images must be uint8 of shape (height, width, 3), got {image.dtype} {image.shape}")


class InceptionFeatures:
    """Inception-v3 up to its average pooling.

    Attributes:
        variant: one of `VARIANTS`.
        resize: what is done to a picture before the network, in words.
        dimension: d, the length of a feature vector.
        weights_sha256: of the weights file.
    """

    dimension = FEATURES

    def __init__(self, weights: str | Path | None = None, variant: str = "fid", device: str = "cpu"):
        """Load network and weights.

        Args:
            weights: file with a state dict; None looks where torch.hub keeps its downloads.
            variant: one of `VARIANTS`.
            device: of the network.

        Raises:
            ValueError: no such variant or file, or the file holds no weights of this network.
            WeightsMissing: `weights` is None and none were downloaded before, or a package is missing.
        """
        path = find_weights(variant, weights)
        self.variant, self.resize, self._device = variant, RESIZE[variant], torch.device(device)
        self.weights_sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        try:
            network = _fid_network(path) if variant == "fid" else _torchvision_network(path)
        except ImportError as error:
            raise WeightsMissing(f"needs a package: pip install {error.name}") from error
        except Exception as error:  # torch.load raises whatever a damaged file provokes
            text = " ".join(str(error).split())[:200]
            raise ValueError(f"{path} does not hold the {variant!r} Inception weights: {text}") from error
        # The layout of memory changes rounding alone; on a CPU it takes a third off the time.
        self._trunk = network.eval().requires_grad_(False).to(self._device, memory_format=torch.channels_last)

    @torch.no_grad()
    def __call__(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Features `(n, 2048)`, float32, of uint8 RGB pictures `(height, width, 3)` of any sizes."""
        features = np.empty((len(images), FEATURES), np.float32)
        for start in range(0, len(images), _CHUNK):
            batch = torch.stack([self._preprocess(image) for image in images[start : start + _CHUNK]])
            with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):  # 10 bits of mantissa move FID
                activations = self._trunk(batch.to(self._device, memory_format=torch.channels_last))
            features[start : start + _CHUNK] = activations.flatten(1).cpu().numpy()
        return features

    def _preprocess(self, image: np.ndarray) -> torch.Tensor:
        if self.variant == "torchvision":
            return resize_bilinear(image)
        return (torch.from_numpy(resize_clean(image)).permute(2, 0, 1) - 128) / 128


def _fid_network(path: Path) -> torch.nn.Module:
    """torch-fidelity's network without its own resizing, which TensorFlow 1 did without antialiasing."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    torch.load(path, map_location="cpu", weights_only=True)  # torch-fidelity unpickles anything; refuse code first
    network = FeatureExtractorInceptionV3("inception-v3-compat", [str(FEATURES)], str(path))
    return torch.nn.Sequential(*(getattr(network, name) for name in _TRUNK.format("MaxPool_", "AvgPool").split()))


def _torchvision_network(path: Path) -> torch.nn.Module:
    from torchvision.models import inception_v3

    network = inception_v3(weights=None, init_weights=False, aux_logits=True)
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return torch.nn.Sequential(*(getattr(network, name) for name in _TRUNK.format("maxpool", "avgpool").split()))


def kernel_inception_distance(
    x: np.ndarray, y: np.ndarray, rng: np.random.Generator, subsets: int = 100, subset_size: int = 1000
) -> tuple[float, float]:
    """KID (Binkowski et al. 2018) and its standard error: the unbiased squared MMD with the kernel (x . y / d + 1)^3.

    The mean over subsets that are drawn from both sets independently. The standard error is that of the whole sets'
    estimate, by the delete-d jackknife: the subsets' spread times sqrt(m / (n - m)); their spread over sqrt(subsets)
    would shrink without bound as subsets are added.

    Args:
        x, y: features `(n, d)` of any float dtype; they may lie in files, only a subset is read at a time.
        rng: draws the subsets.
        subsets: how many, at least 2.
        subset_size: m; at most half of n is taken. The estimate is unbiased whatever m is.

    Raises:
        ValueError: shapes that do not fit, fewer than 4 vectors or 2 subsets.
    """
    from torchmetrics.image.kid import poly_mmd

    if x.ndim != 2 or x.shape != y.shape or len(x) < 4:
        raise ValueError(f"`x` and `y` must have the same shape (n, d), n at least 4, got {x.shape} and {y.shape}")
    if subsets < 2 or subset_size < 2:
        raise ValueError(f"`subsets` and `subset_size` must be at least 2, got {subsets} and {subset_size}")
    n, m = len(x), min(subset_size, len(x) // 2)

    def draw(features: np.ndarray) -> torch.Tensor:
        rows = np.sort(rng.choice(n, size=m, replace=False))
        return torch.from_numpy(np.asarray(features[rows], np.float64))

    distances = np.array([poly_mmd(draw(x), draw(y)).item() for _ in range(subsets)])
    return float(distances.mean()), float(distances.std(ddof=1) * np.sqrt(m / (n - m)))
