"""What old films made of the world: gray pictures that are not Rec. 601 luma.

Plates before about 1873 saw blue light only, orthochromatic film until the 1920s no red: lips and flags are dark,
skies white. A model that only ever saw luma takes such grays for something else. All values are gamma-encoded, [0, 1].
"""

from dataclasses import dataclass

import numpy as np
import torch
import torchvision.transforms.v2.functional as F

from colorization.color import LUMA_WEIGHTS, merge_luma_chroma, rgb_to_chroma

# Sensitivities to red, green and blue of the kinds of film that pictures are evaluated on.
FILMS = {"pan": LUMA_WEIGHTS, "ortho": (0.0, 0.5, 0.5), "blue": (0.0, 0.0, 1.0)}

GAMMA = (0.7, 1.4)
BLACK, WHITE = (0.0, 0.12), (0.88, 1.0)  # where a faded print's darkest and lightest tones end
GRAIN = (0.0, 0.05)  # standard deviation
BLUR = (0.0, 0.006)  # standard deviation, as share of the picture's side
_QUALITY = (40, 95)  # of JPEG
_MIN_BLUR = 0.4  # pixels; a narrower Gaussian falls between the pixels and changes nothing


@dataclass(frozen=True)
class Film:
    """How one gray picture came about.

    Args:
        weights: sensitivities to red, green and blue, which add up to 1.
        gamma: exponent of the tone curve.
        black, white: the darkest and lightest tone of the print.
        grain: standard deviation of the grain.
        blur: standard deviation of the lens's blur, as share of the picture's side.
        quality: of a JPEG file that the scan was stored in.
    """

    weights: tuple[float, float, float]
    gamma: float
    black: float
    white: float
    grain: float
    blur: float
    quality: int

    def __str__(self) -> str:
        return f"film {', '.join(f'{weight:.1f}' for weight in self.weights)}"


def draw_film(rng: np.random.Generator) -> Film:
    """A film at random: blue-sensitive, orthochromatic or of random sensitivities, a third each; six more draws."""
    kind, mixed = rng.integers(3), rng.dirichlet((1.0, 1.0, 1.0))
    weights = (FILMS["blue"], FILMS["ortho"], tuple(map(float, mixed)))[kind]
    low, high = np.log(GAMMA)
    return Film(
        weights=weights,
        gamma=float(np.exp(rng.uniform(low, high))),
        black=rng.uniform(*BLACK),
        white=rng.uniform(*WHITE),
        grain=rng.uniform(*GRAIN),
        blur=rng.uniform(*BLUR),
        quality=int(rng.integers(*_QUALITY)),
    )


def film_gray(image: torch.Tensor, film: Film, rng: np.random.Generator) -> torch.Tensor:
    """The gray picture that a film makes of a scene.

    Args:
        image: `(3, height, width)` RGB in [0, 1].
        film: how.
        rng: of the grain.

    Returns:
        `(1, height, width)` in [0, 1].
    """
    gray = (image * image.new_tensor(film.weights)[:, None, None]).sum(dim=0, keepdim=True)
    sigma = film.blur * max(gray.shape[-2:])
    if sigma >= _MIN_BLUR:
        gray = F.gaussian_blur(gray, [2 * round(3 * sigma) + 1] * 2, [sigma, sigma])
    gray = film.black + (film.white - film.black) * gray.clamp(0, 1) ** film.gamma
    gray = gray + film.grain * torch.from_numpy(rng.standard_normal(gray.shape, dtype=np.float32))
    stored = (255 * gray.clamp(0, 1)).round().to(torch.uint8)
    return F.jpeg(stored, film.quality).float() / 255


def film_picture(image: torch.Tensor, film: Film, rng: np.random.Generator) -> torch.Tensor:
    """The scene in its own colors on the gray picture of a film, whose luma it then has: what a model shall learn.

    Args:
        image, film, rng: as for :func:`film_gray`.

    Returns:
        `(3, height, width)` RGB in [0, 1].
    """
    return merge_luma_chroma(film_gray(image, film, rng), rgb_to_chroma(image[None])[0])
