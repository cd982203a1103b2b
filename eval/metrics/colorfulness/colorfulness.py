"""Colorfulness of pictures (Hasler and Suesstrunk 2003), mean over pictures."""

import datasets
import evaluate

from colorization.color import colorfulness
from eval.metrics.streaming import Mean, Streaming, to_tensor

_DESCRIPTION = """
Colorfulness M of Hasler and Suesstrunk (2003): 0 is gray, photographs average about 40.
Besides the published formula its variant of absolute differences, which many colorization papers use: never mix them.
"""

_INPUTS = """
Args:
    predictions: list of pictures: PIL images, paths, or uint8 RGB arrays (height, width, 3).

Returns:
    colorfulness: mean over the pictures of M as published.
    colorfulness_absolute: the same with |R - G| and |(R + G) / 2 - B|.
    standard_error: of `colorfulness`, None for one picture.
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


class Colorfulness(Streaming, evaluate.Metric):
    """Colorfulness of pictures (Hasler and Suesstrunk 2003), mean over pictures."""

    paired = False

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": datasets.Image()}),
        )

    def _start(self) -> None:
        self._published, self._absolute = Mean(), Mean()

    def _update(self, prediction, reference) -> None:
        picture = to_tensor(prediction)
        self._published.add(colorfulness(picture).item())
        self._absolute.add(colorfulness(picture, absolute=True).item())

    def _result(self) -> dict:
        return {
            "colorfulness": self._published.mean,
            "colorfulness_absolute": self._absolute.mean,
            "standard_error": self._published.standard_error,
        }
