"""Kernel Inception distance of colored pictures from their originals."""

import datasets
import evaluate
import numpy as np

from eval.metrics.feature_streams import FileStream
from eval.metrics.inception import InceptionFeatures, kernel_inception_distance
from eval.metrics.streaming import Streaming

_SUBSET_SEED = 0  # which subsets are drawn, so that a value can be repeated

_DESCRIPTION = """
KID: the unbiased squared maximum mean discrepancy with a cubic kernel, over 100 subsets of at most 1,000 pictures.
Unlike FID its expectation does not depend on the number of pictures. The features lie in a temporary file, 8 kB each.
The features are those of Inception-v3 with the original weights, which must be on this machine:
`load(..., weights=PATH)`; without it torch.hub's downloads are looked through. Nothing is downloaded.
"""

_INPUTS = """
Args:
    predictions: list of colored pictures: PIL images, paths, or uint8 RGB arrays (height, width, 3).
    references: list of the color originals of the same pictures, in the same order.

Returns:
    kid: the distance; about 0, also slightly below, for sets that do not differ.
    standard_error: of it, by the delete-d jackknife over the same subsets.
    n: number of pictures, at least 4.
"""

_CITATION = """
@inproceedings{binkowski2018demystifying,
  title = {Demystifying {MMD} {GANs}},
  author = {Binkowski, Mikolaj and Sutherland, Danica J. and Arbel, Michael and Gretton, Arthur},
  booktitle = {International Conference on Learning Representations},
  year = {2018}
}
"""


class Kid(Streaming, evaluate.Metric):
    """Kernel Inception distance of colored pictures from their originals."""

    def __init__(self, *arguments, weights: str | None = None, variant: str = "fid", device: str = "cpu", **keywords):
        """Load the network; see `eval.metrics.inception` for the arguments."""
        self._network = InceptionFeatures(weights, variant, device)
        super().__init__(*arguments, **keywords)

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": datasets.Image(), "references": datasets.Image()}),
        )

    def _start(self) -> None:
        self._own, self._reference = (FileStream(self._network.dimension) for _ in range(2))

    def _update(self, prediction, reference) -> None:
        own, original = self._network([prediction, reference])
        self._own.add(own)
        self._reference.add(original)

    def _result(self) -> dict:
        rng = np.random.default_rng(_SUBSET_SEED)
        value, standard_error = kernel_inception_distance(self._own.array(), self._reference.array(), rng)
        return {"kid": value, "standard_error": standard_error}
