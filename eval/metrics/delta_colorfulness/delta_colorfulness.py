"""How far the colorfulness of colored pictures is from that of their originals."""

import datasets
import evaluate

from colorization.color import colorfulness
from eval.metrics.streaming import Mean, Streaming, to_tensor

_DESCRIPTION = """
Difference of colorfulness (Hasler and Suesstrunk 2003) between colored pictures and their originals, in the two forms
that papers use: of the means, where too colorful and too dull pictures cancel, and the mean of each picture's.
"""

_INPUTS = """
Args:
    predictions: list of colored pictures: PIL images, paths, or uint8 RGB arrays (height, width, 3).
    references: list of the color originals of the same pictures, in the same order.

Returns:
    delta_colorfulness_mean: |mean of predictions - mean of references|.
    delta_colorfulness_each: mean over the pictures of |prediction - reference|.
    standard_error: of `delta_colorfulness_each`, None for one picture.
    colorfulness, reference_colorfulness: the two means.
    n: number of pictures.
"""

_CITATION = """
@inproceedings{hasler2003measuring,
  title = {Measuring colorfulness in natural images},
  author = {Hasler, David and Suesstrunk, Sabine E.},
  booktitle = {Human Vision and Electronic Imaging VIII},
  pages = {87--95},
  year = {2003}
}
"""


class DeltaColorfulness(Streaming, evaluate.Metric):
    """How far the colorfulness of colored pictures is from that of their originals."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": datasets.Image(), "references": datasets.Image()}),
        )

    def _start(self) -> None:
        self._own, self._reference, self._difference = Mean(), Mean(), Mean()

    def _update(self, prediction, reference) -> None:
        own, original = (colorfulness(to_tensor(picture)).item() for picture in (prediction, reference))
        self._own.add(own)
        self._reference.add(original)
        self._difference.add(abs(own - original))

    def _result(self) -> dict:
        return {
            "delta_colorfulness_mean": abs(self._own.mean - self._reference.mean),
            "delta_colorfulness_each": self._difference.mean,
            "standard_error": self._difference.standard_error,
            "colorfulness": self._own.mean,
            "reference_colorfulness": self._reference.mean,
        }
