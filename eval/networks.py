"""The networks behind some metrics: those that are on this machine, and why the others are not."""

import hashlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from colorization.atomic import sha256_of
from colorization.errors import one_line

from .checked_run import Item
from .metrics.inception import InceptionFeatures, WeightsMissing
from .metrics.lite2 import FEATURES, PREPROCESSING, Lite2Features

NO_PROMPTS = "the pictures were colored without prompts"


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
            text = one_line(error)[:200]
            raise ValueError(f"{path} does not hold torchvision's AlexNet: {text}") from error
        self.weights_sha256 = sha256_of(path)

    def __call__(self, image: torch.Tensor, reference: torch.Tensor) -> float:
        """The distance of two pictures `(1, 3, height, width)` in [0, 1]."""
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

        self.name = name
        try:
            self._model = CLIPModel.from_pretrained(name, local_files_only=True).eval()
            self._processor = CLIPProcessor.from_pretrained(name, local_files_only=True)
        except OSError as error:
            raise WeightsMissing(f"needs the CLIP model {name}: give a folder with --clip-model") from error

    def __call__(self, image: np.ndarray, caption: str) -> float:
        """The score of a uint8 RGB picture."""
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
        inception: variant, see `eval.metrics.inception`.
        clip_model: Hub id or folder of a CLIP model; None, where no picture has a prompt, loads none.
        device: of the Inception network.

    Raises:
        ValueError: a file that was given is not there or holds something else.
    """

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
        networks.missing["clip"] = NO_PROMPTS
    else:
        try:
            networks.clip = ClipScore(clip_model)
        except WeightsMissing as error:
            networks.missing["clip"] = str(error)
    return networks
