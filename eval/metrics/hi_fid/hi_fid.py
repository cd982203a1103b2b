"""FID of colored pictures whose colorfulness was brought to that of their originals."""

import datasets
import evaluate

from colorization.color import colorfulness
from eval.metrics.colors import match_colorfulness
from eval.metrics.feature_streams import StatisticsStream
from eval.metrics.frechet import frechet_distance
from eval.metrics.inception import InceptionFeatures
from eval.metrics.streaming import Streaming, to_tensors

_DESCRIPTION = """
HI-FID: before FID is taken, the chroma of each colored picture is rescaled so that its colorfulness equals its
original's; luma and hue stay. What remains is not due to pictures that are too dull or too colorful as a whole.
The features are those of Inception-v3 with the original weights, which must be on this machine:
`load(..., weights=PATH)`; without it torch.hub's downloads are looked through. Nothing is downloaded.
"""

_INPUTS = """
Args:
    predictions: list of colored pictures: PIL images, paths, or uint8 RGB arrays (height, width, 3).
    references: list of the color originals of the same pictures, in the same order.

Returns:
    hi_fid: the distance.
    unmatched: pictures whose colorfulness could not be reached: gray ones, or because the gamut ends.
    n: number of pictures.
"""

_CITATION = """
@inproceedings{heusel2017gans,
  title = {GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium},
  author = {Heusel, Martin and Ramsauer, Hubert and Unterthiner, Thomas and Nessler, Bernhard and Hochreiter, Sepp},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2017}
}

@inproceedings{hasler2003measuring,
  title = {Measuring colorfulness in natural images},
  author = {Hasler, David and Suesstrunk, Sabine E.},
  booktitle = {Human Vision and Electronic Imaging VIII},
  pages = {87--95},
  year = {2003}
}
"""


class HiFid(Streaming, evaluate.Metric):
    """FID of colored pictures whose colorfulness was brought to that of their originals."""

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
        self._unmatched = 0

    def _update(self, prediction, reference) -> None:
        own, original = to_tensors(prediction, reference)
        matched, reached = match_colorfulness(own, colorfulness(original).item())
        rescaled = (255 * matched[0]).round().byte().permute(1, 2, 0).numpy()
        features, reference_features = self._network([rescaled, reference])
        self._own.add(features)
        self._reference.add(reference_features)
        self._unmatched += not reached

    def _result(self) -> dict:
        distance = frechet_distance(*self._own.moments, *self._reference.moments)
        return {"hi_fid": distance, "unmatched": self._unmatched}
