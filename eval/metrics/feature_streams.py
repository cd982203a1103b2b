"""Features of pictures that arrive one by one, kept in constant memory."""

import tempfile

import numpy as np

from eval.metrics.frechet import FeatureStatistics

_BUFFERED = 64  # vectors: adding to the covariance costs as much for one as for many


class StatisticsStream:
    """Mean and covariance of feature vectors; see `FeatureStatistics`."""

    def __init__(self, dimension: int):
        """No vectors yet; `dimension` is d."""
        self._statistics = FeatureStatistics(dimension)
        self._buffer: list[np.ndarray] = []

    def add(self, features: np.ndarray) -> None:
        """Add one vector `(d,)`."""
        self._buffer.append(features)
        if len(self._buffer) == _BUFFERED:
            self._flush()

    def _flush(self) -> None:
        if self._buffer:
            self._statistics.update(np.stack(self._buffer))
            self._buffer.clear()

    @property
    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean `(d,)` and covariance `(d, d)`; ValueError below 2 vectors."""
        self._flush()
        return self._statistics.mean, self._statistics.covariance


class FileStream:
    """All feature vectors, in a temporary file: the kernel distance needs more than moments."""

    def __init__(self, dimension: int):
        """No vectors yet; `dimension` is d."""
        self._dimension = dimension
        self._file = tempfile.TemporaryFile(prefix="features-")

    def add(self, features: np.ndarray) -> None:
        """Add one vector `(d,)`."""
        self._file.write(np.asarray(features, np.float32).tobytes())

    def array(self) -> np.ndarray:
        """`(n, d)` float32, read from the file when it is used."""
        self._file.flush()
        return np.memmap(self._file, np.float32, "r").reshape(-1, self._dimension)
