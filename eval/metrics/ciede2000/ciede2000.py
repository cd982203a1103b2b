"""CIEDE2000 color difference of colored pictures from their originals."""

import datasets
import evaluate

from eval.metrics.pixels import mean_ciede2000
from eval.metrics.streaming import Mean, Streaming, to_tensors

_DESCRIPTION = """
CIEDE2000 color difference (all weights 1, sRGB, D65), mean over the pixels of a picture, then over pictures;
about 1 is the least that an eye can tell apart.
"""

_INPUTS = """
Args:
    predictions: list of colored pictures: PIL images, paths, or uint8 RGB arrays (height, width, 3).
    references: list of the color originals of the same pictures, in the same order.

Returns:
    ciede2000: mean over the pictures.
    standard_error: of it, None for one picture.
    n: number of pictures.
"""

_CITATION = """
@article{sharma2005ciede2000,
  title = {The {CIEDE2000} color-difference formula: implementation notes, supplementary test data, and mathematical
    observations},
  author = {Sharma, Gaurav and Wu, Wencheng and Dalal, Edul N.},
  journal = {Color Research and Application},
  volume = {30},
  number = {1},
  pages = {21--30},
  year = {2005}
}
"""


class Ciede2000(Streaming, evaluate.Metric):
    """CIEDE2000 color difference of colored pictures from their originals."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": datasets.Image(), "references": datasets.Image()}),
        )

    def _start(self) -> None:
        self._difference = Mean()

    def _update(self, prediction, reference) -> None:
        self._difference.add(mean_ciede2000(*to_tensors(prediction, reference)).item())

    def _result(self) -> dict:
        return {"ciede2000": self._difference.mean, "standard_error": self._difference.standard_error}
