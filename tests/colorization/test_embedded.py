"""The shipped model colors real photographs: enough color, of more than one hue, and the prompt steers it."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from colorization.color import colorfulness, rgb_to_lab

COLOR_WORDS = {"red": (1.0, 0.4), "green": (-0.6, 0.8), "blue": (0.1, -1.0)}  # direction in the a*b* plane


def as_tensor(image: Image.Image) -> torch.Tensor:
    """`(1, 3, height, width)` in [0, 1], at most 192 pixels a side: color is a matter of areas."""
    image = image.convert("RGB")
    image.thumbnail((192, 192))
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255


def hue_entropy(images: list[Image.Image]) -> float:
    """Entropy in bits of the chroma-weighted hue histogram (36 bins) in the a*b* plane; that of sepia is low."""
    histogram = torch.zeros(36)
    for image in images:
        _, a, b = rgb_to_lab(as_tensor(image))[0]
        hue, chroma = torch.atan2(b, a).flatten(), torch.hypot(a, b).flatten()
        histogram += torch.histogram(hue, bins=36, range=(-math.pi, math.pi), weight=chroma)[0]
    share = histogram / histogram.sum()
    return -(share * share.clamp_min(1e-12).log2()).sum().item()


def mean_colorfulness(images: list[Image.Image]) -> float:
    return float(np.mean([colorfulness(as_tensor(image)).item() for image in images]))


def mean_ab(images: list[Image.Image]) -> np.ndarray:
    return np.mean([rgb_to_lab(as_tensor(image))[0, 1:].mean(dim=(1, 2)).numpy() for image in images], axis=0)


@pytest.fixture(scope="module")
def originals(example_files) -> list[Image.Image]:
    return [Image.open(file).convert("RGB") for file in example_files]


@pytest.fixture(scope="module")
def colored(embedded, originals) -> list[Image.Image]:
    return embedded([original.convert("L") for original in originals]).images


def test_colorfulness_is_above_a_third_of_the_originals(colored, originals):
    assert mean_colorfulness(colored) > mean_colorfulness(originals) / 3


def test_hues_are_at_least_half_as_diverse_as_the_originals(colored, originals):
    assert hue_entropy(colored) >= hue_entropy(originals) / 2


def test_sepia_would_fail_the_hue_test(originals):
    sepia = [
        Image.merge("RGB", [original.convert("L").point(lambda v, s=s: v * s) for s in (1, 0.85, 0.65)])
        for original in originals
    ]
    assert hue_entropy(sepia) < hue_entropy(originals) / 2


def test_luminance_is_the_inputs(colored, originals):
    for image, original in zip(colored, originals, strict=True):
        difference = np.array(image.convert("L")).astype(int) - np.array(original.convert("L"))
        assert np.abs(difference).max() <= 1


def color_words_steer(pipeline, neutral, originals) -> bool:
    """Whether "red", "green" and "blue" each move the mean color their way, by at least 3 units of a*b*."""
    photos, neutral = [original.convert("L") for original in originals], mean_ab(neutral)
    for word, direction in COLOR_WORDS.items():
        moved = mean_ab(pipeline(photos, prompt=word).images) - neutral
        if moved @ (np.array(direction) / np.linalg.norm(direction)) < 3:
            return False
    return True


def test_color_words_steer_the_result(embedded, colored, originals):
    assert color_words_steer(embedded, colored[:4], originals[:4])


def test_color_words_do_nothing_without_the_text(embedded, originals):
    """The test above must fail when the prompt embeddings are zeroed."""
    handle = embedded.text_encoder.register_forward_hook(
        lambda module, inputs, output: type(output)(last_hidden_state=torch.zeros_like(output.last_hidden_state))
    )
    embedded._prompt_cache.clear()
    try:
        neutral = embedded(originals[0].convert("L")).images
        assert not color_words_steer(embedded, neutral, originals[:1])
    finally:
        handle.remove()
        embedded._prompt_cache.clear()


def test_seeds_differ_on_a_photograph(embedded, originals):
    first, second = embedded(originals[0].convert("L"), num_images_per_prompt=2, seed=1).images
    assert np.abs(np.array(first).astype(int) - np.array(second)).mean() > 1
