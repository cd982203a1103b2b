"""The training pictures: what is done to how many of them, exactly repeatable, for every kind of photograph."""

import io
import math

import numpy as np
import pytest
import torch
from conftest import EXAMPLES
from PIL import Image

from colorization.color import colorfulness, luma
from colorization.degradation import to_gray
from train.transforms import (
    AUGMENTATIONS,
    BOOST,
    MAX_CHROMA_FACTOR,
    Operation,
    TransformConfig,
    apply_operations,
    boost_chroma,
    crop_box,
    draw_operations,
    flip,
    prepare_image,
    sample_rng,
)

ALWAYS = TransformConfig(resolution=32, augment_probability=1, saturation_probability=1)
NEVER = TransformConfig(resolution=32, crop="center", augment_probability=0, saturation_probability=0)
KEYS = 4000


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    return Image.open(EXAMPLES / "world_animals_scarlet_macaw.jpg").convert("RGB").resize((96, 64))


def random_rgb(width: int = 48, height: int = 40) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def drawn(config: TransformConfig) -> list[list[str]]:
    """Names of the operations of many samples."""
    return [[op.name for op in draw_operations(config, sample_rng(0, "augment", key))] for key in range(KEYS)]


def assert_share(count: int, total: int, probability: float) -> None:
    """Within four standard deviations of the binomial distribution."""
    assert abs(count - total * probability) < 4 * math.sqrt(total * probability * (1 - probability))


# Shares


def test_shares_of_the_recipe():
    names = drawn(TransformConfig())
    assert_share(sum(any(name in AUGMENTATIONS for name in sample) for sample in names), KEYS, 0.1)
    assert_share(sum(BOOST in sample for sample in names), KEYS, 0.4)
    both = sum(BOOST in sample and len(sample) > 1 for sample in names)
    assert_share(both, KEYS, 0.1 * 0.4)  # the two are independent


def test_an_augmented_picture_gets_one_or_more_each_with_even_odds():
    names = drawn(TransformConfig(augment_probability=1, saturation_probability=0))
    assert {len(sample) for sample in names} == {1, 2, 3, 4}
    for name in AUGMENTATIONS:
        assert_share(sum(name in sample for sample in names), KEYS, 8 / 15)  # in 8 of the 15 subsets


def test_probability_zero_and_one():
    assert not any(drawn(NEVER))
    assert all(BOOST in sample and len(sample) > 1 for sample in drawn(ALWAYS))


def test_amounts_stay_in_their_ranges():
    for key in range(500):
        amounts = {op.name: op.amount for op in draw_operations(ALWAYS, sample_rng(0, "augment", key))}
        for name, (low, high) in AUGMENTATIONS.items():
            assert low <= amounts.get(name, low) <= high
        assert 1.1 <= amounts[BOOST] <= 1.5
        assert amounts[BOOST] * amounts.get("chroma", 1) <= MAX_CHROMA_FACTOR + 1e-9


# Randomness


def test_same_key_same_picture_in_any_order(photo):
    def prepare(key: int) -> torch.Tensor:
        return prepare_image(photo, ALWAYS, sample_rng(3, "augment", key, 1))

    forwards = {key: prepare(key) for key in range(6)}
    torch.manual_seed(1)  # the global generators have no say
    np.random.seed(1)
    for key in reversed(range(6)):
        torch.testing.assert_close(prepare(key), forwards[key], rtol=0, atol=0)
    assert not torch.equal(forwards[0], forwards[1])


def test_global_generators_are_left_alone(photo):
    before = torch.get_rng_state()
    prepare_image(photo, ALWAYS, sample_rng(0, "augment", 0))
    assert torch.equal(torch.get_rng_state(), before)


def test_streams_differ_by_seed_purpose_and_key():
    arguments = [(0, "a"), (1, "a"), (-1, "a"), (0, "b"), (0, "a", 0), (0, "a", 0, 0), (0, "a", 1), (0, "a", 2**40)]
    arguments += [(0, "a", 0, 1), (0, "a", 1, 0), (0, "a", 10), (0, "a1", 0)]
    first = [sample_rng(*argument).random() for argument in arguments]
    assert len(set(first)) == len(arguments)
    assert first == [sample_rng(*argument).random() for argument in arguments]
    assert sample_rng(0, "a", np.int64(7)).random() == sample_rng(0, "a", 7).random()
    with pytest.raises(TypeError):
        sample_rng(0, "a", 0.5)


def test_streams_of_two_purposes_are_uncorrelated():
    pairs = np.array([[sample_rng(0, name, key).random() for key in range(2000)] for name in ("crop", "caption")])
    assert abs(np.corrcoef(pairs)[0, 1]) < 4 / math.sqrt(2000)


def test_every_picture_takes_the_same_number_of_draws(photo):
    after = []
    for config in (ALWAYS, NEVER, TransformConfig(resolution=16)):
        for image in (photo, random_rgb(9, 50)):
            rng = sample_rng(0, "augment", 5)
            prepare_image(image, config, rng)
            after.append(rng.random())
    assert len(set(after)) == 1


# Pixels


def test_shape_dtype_and_range(photo):
    for key in range(20):
        image = prepare_image(photo, ALWAYS, sample_rng(0, "augment", key))
        assert image.shape == (3, 32, 32) and image.dtype == torch.float32
        assert -1 <= image.min() and image.max() <= 1


def test_untouched_picture_is_the_normalized_photograph():
    image = random_rgb(32, 32)
    expected = torch.from_numpy(np.array(image)).permute(2, 0, 1) / 127.5 - 1
    torch.testing.assert_close(prepare_image(image, NEVER, sample_rng(0, "a")), expected, rtol=0, atol=1e-6)


def test_resizing_agrees_with_pillow(photo):
    expected = photo.crop((16, 0, 80, 64)).resize((32, 32), Image.Resampling.BICUBIC)
    image = (prepare_image(photo, NEVER, sample_rng(0, "a")) + 1) * 127.5
    difference = (image - torch.from_numpy(np.array(expected)).permute(2, 0, 1)).abs()
    assert difference.max() < 3 and difference.mean() < 0.5  # Pillow rounds and clips between its two passes


def test_gray_pair_has_the_luma_of_the_prepared_picture(photo):
    for key in range(10):
        image = prepare_image(photo, ALWAYS, sample_rng(0, "augment", key))[None]
        gray = to_gray(image)
        torch.testing.assert_close(luma(gray), luma(image), rtol=0, atol=1e-6)
        assert torch.equal(gray[:, 0], gray[:, 1]) and torch.equal(gray[:, 0], gray[:, 2])
        assert -1 - 1e-6 <= gray.min() and gray.max() <= 1 + 1e-6


def test_gray_partner_of_a_prepared_picture_mirrors_with_it(photo):
    image = prepare_image(photo, ALWAYS, sample_rng(0, "augment", 0))
    assert torch.equal(flip(to_gray(image[None])), to_gray(flip(image)[None]))


def test_gray_pictures_stay_gray():
    gray = random_rgb().convert("L")
    for image in (gray, gray.convert("RGB")):
        for key in range(40):
            prepared = prepare_image(image, ALWAYS, sample_rng(0, "augment", key))
            assert (prepared.amax(dim=0) - prepared.amin(dim=0)).max() < 1e-3


@pytest.mark.parametrize("factor", [1.0, 1.1, 1.5, 3.0])
def test_chroma_boost_keeps_luma_and_gamut(factor):
    image = torch.from_numpy(np.array(random_rgb())).permute(2, 0, 1) / 255  # noise reaches every corner of the gamut
    boosted = boost_chroma(image, factor)
    assert (luma(boosted[None]) - luma(image[None])).abs().max() < 1 / 255
    assert 0 <= boosted.min() and boosted.max() <= 1


def test_chroma_boost_multiplies_color_inside_the_gamut():
    image = 0.5 + 0.1 * (torch.from_numpy(np.array(random_rgb())).permute(2, 0, 1) / 255 - 0.5)
    ratio = colorfulness(boost_chroma(image, 1.4)[None]) / colorfulness(image[None])
    assert ratio.item() == pytest.approx(1.4, rel=1e-4)


@pytest.mark.parametrize(
    "name, amount, measure, grows",
    [
        ("blur", 0.02, lambda x: x.diff(dim=-1).abs().mean(), False),
        ("contrast", 0.8, torch.std, False),
        ("contrast", 1.2, torch.std, True),
        ("brightness", 0.8, torch.mean, False),
        ("brightness", 1.2, torch.mean, True),
        ("chroma", 1.2, lambda x: colorfulness(x[None]), True),
        (BOOST, 1.4, lambda x: colorfulness(x[None]), True),
    ],
)
def test_operations_do_what_their_names_say(photo, name, amount, measure, grows):
    image = (prepare_image(photo, NEVER, sample_rng(0, "a")) + 1) / 2
    change = measure(apply_operations(image, [Operation(name, amount)])) / measure(image)
    assert change > 1.02 if grows else change < 0.98


@pytest.mark.parametrize("resolution", [8, 9, 64])
def test_blur_fits_small_pictures(photo, resolution):
    image = torch.rand(3, resolution, resolution, generator=torch.Generator().manual_seed(0))
    for amount in (0.001, 0.5):
        blurred = apply_operations(image, [Operation("blur", amount)])
        assert blurred.shape == image.shape and 0 < (blurred - image).abs().max()


def test_flip_mirrors_left_and_right():
    image = torch.arange(24.0).reshape(3, 2, 4)
    assert torch.equal(flip(image), image[..., [3, 2, 1, 0]])
    assert torch.equal(flip(flip(image)), image)


# Crops


def test_random_crops_cover_the_picture_without_needless_enlarging():
    config = TransformConfig(resolution=64)
    boxes = [crop_box(300, 200, config, sample_rng(0, "crop", key)) for key in range(500)]
    for top, left, side in boxes:
        assert 200 / 1.15 - 1 <= side <= 200
        assert 0 <= top <= 200 - side and 0 <= left <= 300 - side
    lefts, sides = [left for _, left, _ in boxes], {side for _, _, side in boxes}
    assert min(lefts) < 5 and max(lefts) > 95 and len(sides) > 15
    # At or below the resolution all of the short side is taken: a smaller square would only be enlarged more.
    assert {crop_box(300, 64, config, sample_rng(0, "crop", key))[2] for key in range(50)} == {64}
    assert {crop_box(70, 300, config, sample_rng(0, "crop", key))[2] for key in range(50)} <= set(range(64, 71))


def test_center_crop():
    assert crop_box(100, 40, NEVER, sample_rng(0, "crop")) == (0, 30, 40)
    assert crop_box(40, 100, NEVER, sample_rng(0, "crop")) == (30, 0, 40)


@pytest.mark.parametrize("size", [(1, 50), (50, 1), (1, 1), (3000, 8), (8, 3000), (31, 33)])
def test_extreme_shapes(size):
    for config in (NEVER, ALWAYS, TransformConfig(resolution=512)):
        image = prepare_image(random_rgb(*size), config, sample_rng(0, "augment", 0))
        assert image.shape == (3, config.resolution, config.resolution)
        assert torch.isfinite(image).all() and -1 <= image.min() and image.max() <= 1


# Kinds of pictures


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB", "I;16"])
def test_all_modes(mode):
    if mode == "I;16":
        image = Image.fromarray(np.full((40, 40), 128 * 257, np.uint16))
    elif mode == "LAB":
        image = Image.new("LAB", (40, 40), (137, 128, 128))
    else:
        image = Image.new("RGB", (40, 40), (128, 128, 128)).convert("RGBA" if mode == "LA" else "RGB").convert(mode)
    prepared = prepare_image(image, NEVER, sample_rng(0, "a"))
    assert prepared.shape == (3, 32, 32)
    if mode not in ("1", "P", "CMYK"):  # dithered; a press profile's gray
        torch.testing.assert_close(prepared, torch.full_like(prepared, 128 / 127.5 - 1), rtol=0, atol=0.03)


def test_sixteen_bits_are_kept():
    image = Image.fromarray(np.full((32, 32), 1000, np.uint16))
    prepared = prepare_image(image, NEVER, sample_rng(0, "a"))
    torch.testing.assert_close(prepared, torch.full_like(prepared, 2 * 1000 / 65535 - 1), rtol=0, atol=1e-6)


@pytest.mark.parametrize("mode", ["RGBA", "P"])
def test_transparency_is_laid_over_white(mode):
    image = Image.new("RGBA", (32, 32), (255, 0, 0, 255))
    image.paste((0, 0, 0, 0), (0, 0, 32, 16))
    if mode == "P":
        image = image.convert("P", palette=Image.Palette.ADAPTIVE)
    prepared = prepare_image(image, NEVER, sample_rng(0, "a"))
    torch.testing.assert_close(prepared[:, :16], torch.ones(3, 16, 32), rtol=0, atol=0.02)
    torch.testing.assert_close(prepared[:, 20, 5], torch.tensor([1.0, -1.0, -1.0]), rtol=0, atol=0.02)


def test_exif_orientation_is_applied():
    image = random_rgb(32, 32)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    file = io.BytesIO()
    image.save(file, "PNG", exif=exif)
    upright = prepare_image(image.transpose(Image.Transpose.ROTATE_270), NEVER, sample_rng(0, "a"))
    torch.testing.assert_close(prepare_image(Image.open(file), NEVER, sample_rng(0, "a")), upright, rtol=0, atol=0)


# Configuration


@pytest.mark.parametrize(
    "field, value",
    [
        ("resolution", 7),
        ("resolution", -512),
        ("resolution", 64.0),
        ("resolution", True),
        ("crop", "middle"),
        ("augment_probability", -0.1),
        ("augment_probability", 1.1),
        ("augment_probability", math.nan),
        ("augment_probability", "0.1"),
        ("saturation_probability", 40),
        ("saturation_probability", None),
        ("flip", "yes"),
    ],
)
def test_bad_settings_are_named(field, value):
    with pytest.raises(ValueError, match=f"`{field}` must .*got {value!r}"):
        TransformConfig(**{field: value})


def test_defaults_are_the_recipe():
    assert TransformConfig() == TransformConfig(512, "random", 0.1, 0.4, True)
