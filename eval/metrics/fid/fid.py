"""Frechet Inception distance of colored pictures from their originals."""

import datasets
import evaluate

from eval.metrics.feature_streams import StatisticsStream
from eval.metrics.frechet import frechet_distance
from eval.metrics.inception import InceptionFeatures
from eval.metrics.streaming import Streaming

_DESCRIPTION = """
FID with clean-fid's resizing (bicubic, antialiased, not rounded), float64 statistics and eigenvalues instead of a
matrix root. Depends strongly on the number of pictures: compare only values of the same n.
The features are those of Inception-v3 with the original weights, which must be on this machine:
`load(..., weights=PATH)`; without it torch.hub's downloads are looked through. Nothing is downloaded.
"""

_INPUTS = """
Args:
    predictions: list of colored pictures: PIL images, paths, or uint8 RGB arrays (height, width, 3).
    references: list of the color originals of the same pictures, in the same order.

Returns:
    fid: the distance.
    n: number of pictures.
"""

_CITATION = """
@inproceedings{heusel2017gans,
  title = {GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium},
  author = {Heusel, Martin and Ramsauer, Hubert and Unterthiner, Thomas and Nessler, Bernhard and Hochreiter, Sepp},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2017}
}
"""


class Fid(Streaming, evaluate.Metric):
    """Frechet Inception distance of colored pictures from their originals."""

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
        self._own, self._reference = (StatisticsStream(self._network.dimension) for _ in range(2))

    def _update(self, prediction, reference) -> None:
        own, original = self._network([prediction, reference])
        self._own.add(own)
        self._reference.add(original)

    def _result(self) -> dict:
        return {"fid": frechet_distance(*self._own.moments, *self._reference.moments)}
