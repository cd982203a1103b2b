"""`train.film` for whole batches on the device; without JPEG, which needs the processor."""

import math

import torch
import torch.nn.functional as F

from colorization.color import luma, merge_luma_chroma, rgb_to_chroma

from ..film import BLACK, BLUR, FILMS, GAMMA, GRAIN, WHITE

_BLUR_REACH = 4  # pixels that the blur reaches to each side


def film_lumas(image: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """The gray pictures that random old films make of scenes, each scene by a film of its own.

    Args:
        image: RGB `(batch, 3, height, width)` in [0, 1].
        generator: of everything random.

    Returns:
        `(batch, 1, height, width)` in [0, 1].
    """
    count, device = len(image), image.device

    def uniform(low: float, high: float) -> torch.Tensor:
        return low + (high - low) * torch.rand(count, 1, 1, 1, device=device, generator=generator)

    # Exponential variables that are divided by their sum have Dirichlet's distribution, all weights alike.
    mixed = -torch.rand(count, 3, device=device, generator=generator).clamp_min(1e-6).log()
    known = image.new_tensor([FILMS["blue"], FILMS["ortho"]])
    kind = torch.randint(3, (count,), device=device, generator=generator)
    weights = torch.where((kind < 2)[:, None], known[kind.clamp_max(1)], mixed / mixed.sum(dim=1, keepdim=True))
    gray = (image * weights[:, :, None, None]).sum(dim=1, keepdim=True)
    gray = _blur(gray, uniform(*BLUR) * max(image.shape[-2:]))
    black, white = uniform(*BLACK), uniform(*WHITE)
    gamma = torch.exp(uniform(*map(math.log, GAMMA)))
    gray = black + (white - black) * gray.clamp(0, 1) ** gamma
    noise = torch.randn(gray.shape, device=device, generator=generator)
    return (gray + uniform(*GRAIN) * noise).clamp(0, 1)


def _blur(planes: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """Gaussian blur of `(batch, 1, height, width)`, a standard deviation `(batch, 1, 1, 1)` in pixels for each."""
    offsets = torch.arange(-_BLUR_REACH, _BLUR_REACH + 1, device=planes.device, dtype=planes.dtype)
    kernel = torch.exp(-(offsets**2) / (2 * sigma.view(-1, 1).clamp_min(0.1) ** 2))
    kernel = (kernel / kernel.sum(dim=1, keepdim=True))[:, None]
    stacked = F.pad(planes.transpose(0, 1), [_BLUR_REACH] * 4, mode="reflect")
    stacked = F.conv2d(stacked, kernel[:, :, :, None], groups=len(planes))
    return F.conv2d(stacked, kernel[:, :, None], groups=len(planes)).transpose(0, 1)


def filmed(image: torch.Tensor, share: float, generator: torch.Generator) -> torch.Tensor:
    """Scenes in their own colors; a random share gets the luma that an old film makes of them.

    Args:
        image: RGB `(batch, 3, height, width)` in [0, 1].
        share: in [0, 1].
        generator: of everything random.
    """
    chosen = torch.rand(len(image), 1, 1, 1, device=image.device, generator=generator) < share
    return merge_luma_chroma(torch.where(chosen, film_lumas(image, generator), luma(image)), rgb_to_chroma(image))


def boosted(
    image: torch.Tensor, share: float, factors: tuple[float, float], generator: torch.Generator
) -> torch.Tensor:
    """RGB `(batch, 3, height, width)` in [0, 1], a random share with its chroma times a factor, inside the gamut."""
    chosen, place = torch.rand(2, len(image), 1, 1, 1, device=image.device, generator=generator)
    low, high = factors
    factor = torch.where(chosen < share, low + place * (high - low), 1.0)
    return merge_luma_chroma(luma(image), factor * rgb_to_chroma(image))
