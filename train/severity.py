"""Distributions of the severities that the network is trained at; 1 is gray, 0 is color."""

import numpy as np


def draw_severity(
    rng: np.random.Generator, distribution: str, parameters: tuple[float, float] = (1.0, 1.0), progress: float = 0.0
) -> float:
    """One severity in [0, 1].

    * ``uniform``: Diffusing Colors, Algorithm 1.
    * ``shifted``: uniform during the first half of the training, then with density 2a, which leans to gray.
    * ``beta``: Beta(p, q) with `parameters` (p, q); p > q leans to gray.
    * ``logit_normal``: sigmoid of a normal variable with `parameters` (mean, standard deviation).

    Args:
        rng: source of randomness.
        distribution: one of the names above; ValueError else.
        parameters: see above; unused by the first two.
        progress: share of the training that is done, in [0, 1]; only "shifted" looks at it.
    """
    if distribution == "uniform":
        return float(rng.uniform())
    if distribution == "shifted":
        u = float(rng.uniform())
        return u if progress < 0.5 else u**0.5
    if distribution == "beta":
        return float(rng.beta(*parameters))
    if distribution == "logit_normal":
        return float(1 / (1 + np.exp(-rng.normal(*parameters))))
    names = ("uniform", "shifted", "beta", "logit_normal")
    raise ValueError(f"`distribution` must be one of {names}, got {distribution!r}")
