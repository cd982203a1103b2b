"""Distances between two sets of feature vectors: Frechet distance and kernel distance, in float64.

Nothing here knows what the features are; `eval.metrics.lite2` makes them. n is the number of vectors, d their length.
"""

import numpy as np

SUBSETS = 100
MAX_SUBSET_SIZE = 1000


class FeatureStatistics:
    """Mean and covariance of feature vectors that arrive in batches.

    Kept as mean and scatter about it, and merged by the pairwise update of Chan, Golub and LeVeque (1983), which does
    not lose digits as a sum of squares does. The result does not depend on how the vectors were split up.
    """

    def __init__(self, dimension: int):
        """Statistics of no vectors yet; `dimension` is d."""
        self.n = 0
        self._mean = np.zeros(dimension)
        self._scatter = np.zeros((dimension, dimension))

    def update(self, features: np.ndarray) -> None:
        """Add a batch `(b, d)` of any float dtype.

        Raises:
            ValueError: wrong shape, or values that are not finite.
        """
        features = np.asarray(features, np.float64)
        if features.ndim != 2 or features.shape[1] != len(self._mean):
            raise ValueError(f"`features` must have shape (n, {len(self._mean)}), got {features.shape}")
        if not np.isfinite(features).all():
            raise ValueError("`features` must be finite, got NaN or infinity")
        if len(features):
            mean = features.mean(axis=0)
            centered = features - mean
            self._add(len(features), mean, centered.T @ centered)

    def merge(self, other: "FeatureStatistics") -> None:
        """Add what another object has counted; ValueError when its dimension differs."""
        if len(other._mean) != len(self._mean):
            raise ValueError(f"`other` must have dimension {len(self._mean)}, got {len(other._mean)}")
        if other.n:
            self._add(other.n, other._mean, other._scatter)

    def _add(self, n: int, mean: np.ndarray, scatter: np.ndarray) -> None:
        total = self.n + n
        shift = mean - self._mean
        self._scatter = self._scatter + scatter + np.outer(shift, shift) * (self.n * n / total)
        self._mean = self._mean + shift * (n / total)
        self.n = total

    @property
    def mean(self) -> np.ndarray:
        """`(d,)`; ValueError while there are no vectors."""
        if self.n < 1:
            raise ValueError("a mean needs at least 1 feature vector, got 0")
        return self._mean

    @property
    def covariance(self) -> np.ndarray:
        """Unbiased (divisor n - 1) covariance `(d, d)`; ValueError below 2 vectors."""
        if self.n < 2:
            raise ValueError(f"a covariance needs at least 2 feature vectors, got {self.n}")
        return self._scatter / (self.n - 1)


def frechet_distance(mu1: np.ndarray, sigma1: np.ndarray, mu2: np.ndarray, sigma2: np.ndarray) -> float:
    """Squared Frechet distance of two Gaussians (Dowson and Landau 1982; Heusel et al. 2017, equation 6).

    |mu1 - mu2|^2 + tr(sigma1 + sigma2 - 2 (sigma1 sigma2)^(1/2)). The last trace is the sum of the roots of the
    eigenvalues of R sigma2 R, R being the symmetric root of sigma1: that matrix has the eigenvalues of sigma1 sigma2
    and is symmetric, so they come out real, also where the covariances are singular (fewer vectors than dimensions).

    Args:
        mu1, mu2: means `(d,)`.
        sigma1, sigma2: covariances `(d, d)`, symmetric and positive semidefinite.

    Raises:
        ValueError: shapes do not fit, or values are not finite.
    """
    mu1, sigma1, mu2, sigma2 = (np.asarray(value, np.float64) for value in (mu1, sigma1, mu2, sigma2))
    if mu1.ndim != 1 or mu1.shape != mu2.shape or {sigma1.shape, sigma2.shape} != {(len(mu1), len(mu1))}:
        shapes = f"{mu1.shape}, {sigma1.shape}, {mu2.shape}, {sigma2.shape}"
        raise ValueError(f"means must have shape (d,) and covariances (d, d), got {shapes}")
    values, vectors = np.linalg.eigh(sigma1)
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    eigenvalues = np.linalg.eigvalsh(root @ sigma2 @ root)
    trace_of_root = np.sqrt(eigenvalues.clip(min=0)).sum()
    distance = np.sum((mu1 - mu2) ** 2) + np.trace(sigma1) + np.trace(sigma2) - 2 * trace_of_root
    if not np.isfinite(distance):
        raise ValueError("means and covariances must be finite, got NaN or infinity")
    return max(float(distance), 0.0)  # rounding can take a distance of zero below it


def relative_frechet_distance(
    mu: np.ndarray, sigma: np.ndarray, reference_mu: np.ndarray, reference_sigma: np.ndarray
) -> float:
    """Frechet distance in units of the reference's total variance tr(reference_sigma), free of the features' scale."""
    variance = float(np.trace(reference_sigma))
    if not variance > 0:
        raise ValueError(f"`reference_sigma` must have a positive trace, got {variance}")
    return frechet_distance(mu, sigma, reference_mu, reference_sigma) / variance


def kernel_distance(
    x: np.ndarray,
    y: np.ndarray,
    rng: np.random.Generator,
    subsets: int = SUBSETS,
    subset_size: int | None = None,
) -> tuple[float, float]:
    """Kernel distance (KID; Binkowski et al. 2018) of two versions of the same pictures, and its standard error.

    The unbiased squared MMD with the kernel (x . y / d + 1)^3, averaged over random subsets. Rows of x and y belong
    together, so a picture's kernel value with its own other version is left out as well (the U-statistic of Gretton
    et al. 2012, equation 4); KID for unpaired sets keeps these terms, which here would pull the distance down. It can
    be slightly negative where the true one is 0.

    The standard error is that of the whole set's estimate, by the delete-d jackknife over the same subsets (Shao and
    Wu 1989): their spread times sqrt(m / (n - m)). Their spread over sqrt(subsets) would shrink without bound as
    subsets are added, although they all come from the same n pictures.

    Args:
        x, y: features `(n, d)`, row i of both made from picture i. Memory: 8 n^2 bytes, several times.
        rng: draws the subsets.
        subsets: how many, at least 2.
        subset_size: m, from 2 to n - 1; None is half of n, 1,000 at most.

    Raises:
        ValueError: shapes, numbers or values that do not fit.
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if x.ndim != 2 or x.shape != y.shape:
        raise ValueError(f"`x` and `y` must have the same shape (n, d), got {x.shape} and {y.shape}")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("`x` and `y` must be finite, got NaN or infinity")
    n, m = len(x), min(len(x) // 2, MAX_SUBSET_SIZE) if subset_size is None else subset_size
    if subsets < 2:
        raise ValueError(f"`subsets` must be at least 2, got {subsets}")
    if not 2 <= m < n:
        raise ValueError(f"`subset_size` must be from 2 to n - 1 = {n - 1}, got {m}")
    cross = _kernel(x, y)
    terms = _kernel(x, x) + _kernel(y, y) - cross - cross.T  # (n, n)
    np.fill_diagonal(terms, 0)
    members = np.zeros((n, subsets))  # 1 where a picture is in a subset
    for column in members.T:
        column[rng.choice(n, size=m, replace=False)] = 1
    distances = np.einsum("ns,ns->s", members, terms @ members) / (m * (m - 1))
    spread = distances.std(ddof=1)
    return float(distances.mean()), float(spread * np.sqrt(m / (n - m)))


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The polynomial kernel of KID between all rows, `(len(x), len(y))`."""
    return (x @ y.T / x.shape[1] + 1) ** 3
