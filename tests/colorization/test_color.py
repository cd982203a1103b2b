import numpy as np
import pytest
import torch
from PIL import Image

from colorization.color import (
    colorfulness,
    colorize_luma,
    guided_coefficients,
    lab_to_rgb,
    luma,
    merge_luma_chroma,
    rgb_to_chroma,
    rgb_to_lab,
    transfer_luminance,
    upsample_chroma,
)


def random_rgb(height: int = 16, width: int = 24, seed: int = 0) -> torch.Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed))


def test_luma_is_what_pillow_calls_l():
    pixels = (random_rgb()[0].permute(1, 2, 0) * 255).round().byte().numpy()
    ours = luma(torch.from_numpy(pixels).permute(2, 0, 1)[None].float())[0, 0].round().numpy()
    theirs = np.array(Image.fromarray(pixels).convert("L"), dtype=np.float32)
    assert np.abs(ours - theirs).max() <= 1  # Pillow rounds in 16-bit fixed point


def test_luma_refuses_other_shapes():
    with pytest.raises(ValueError, match=r"`image` must have shape \(batch, 3, height, width\), got \(3, 4, 4\)"):
        luma(torch.zeros(3, 4, 4))


def test_luma_and_chroma_make_the_picture_again():
    image = random_rgb()
    torch.testing.assert_close(merge_luma_chroma(luma(image), rgb_to_chroma(image)), image, atol=1e-6, rtol=0)


def test_merging_never_moves_the_luma_and_never_leaves_the_gamut():
    generator = torch.Generator().manual_seed(0)
    y = torch.rand(1, 1, 64, 64, generator=generator)
    chroma = 4 * (torch.rand(1, 2, 64, 64, generator=generator) - 0.5)  # far out of gamut
    merged = merge_luma_chroma(y, chroma)
    assert merged.min() >= 0 and merged.max() <= 1
    torch.testing.assert_close(luma(merged), y, atol=1e-5, rtol=0)


def test_gamut_clipping_keeps_the_hue():
    y, chroma = torch.full((1, 1, 1, 1), 0.8), torch.tensor([0.3, 0.4]).view(1, 2, 1, 1)
    clipped = rgb_to_chroma(merge_luma_chroma(y, chroma)).flatten()
    assert clipped.norm() < 0.5
    torch.testing.assert_close(clipped / clipped.norm(), torch.tensor([0.6, 0.8]))


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_black_and_white_stay_black_and_white(level):
    merged = merge_luma_chroma(torch.full((1, 1, 2, 2), level), torch.full((1, 2, 2, 2), 0.3))
    torch.testing.assert_close(merged, torch.full((1, 3, 2, 2), level))


def test_transfer_luminance_takes_luma_from_one_and_color_from_the_other():
    image, source = random_rgb(seed=1), random_rgb(seed=2)
    result = transfer_luminance(image, source)
    torch.testing.assert_close(luma(result), luma(source), atol=1e-5, rtol=0)
    torch.testing.assert_close(transfer_luminance(image, luma(source)), result)
    torch.testing.assert_close(transfer_luminance(image, image), image, atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match="`luminance_source` must have the size of `image`"):
        transfer_luminance(image, source[..., :-1])


def test_gray_input_to_eight_bits_keeps_its_luma_within_one_level():
    """Every gray level against strong chroma: after rounding to 8 bits, Pillow's "L" is at most one level off."""
    luminance = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 64, axis=1)
    chroma = 0.5 * torch.randn(2, 8, 8, generator=torch.Generator().manual_seed(0))
    result = colorize_luma(luminance, chroma, guide=torch.rand(1, 8, 8))
    back = np.array(Image.fromarray(result).convert("L")).astype(int)
    assert np.abs(back - luminance).max() <= 1


def test_sixteen_bits_of_luminance_survive():
    luminance = np.linspace(0, 65535, 4096).astype(np.uint16).reshape(16, 256)
    result = colorize_luma(luminance, torch.full((2, 4, 4), 0.05), guide=torch.full((1, 4, 4), 0.5))
    assert result.dtype == np.uint16
    back = result.astype(np.float64) @ [0.299, 0.587, 0.114]
    assert np.abs(back - luminance).max() <= 1.5


@pytest.mark.parametrize("tile", [90, 7])
def test_tiles_do_not_show(monkeypatch, tile):
    luminance = (np.random.default_rng(0).random((40, 30)) * 255).astype(np.uint8)
    chroma, guide = torch.randn(2, 6, 5) * 0.1, torch.rand(1, 6, 5)
    whole = colorize_luma(luminance, chroma, guide)
    monkeypatch.setattr("colorization.color._TILE_PIXELS", tile)
    np.testing.assert_array_equal(colorize_luma(luminance, chroma, guide), whole)


def test_color_scale_zero_is_gray():
    luminance = np.arange(64, dtype=np.uint8).reshape(8, 8)
    result = colorize_luma(luminance, torch.randn(2, 4, 4), torch.rand(1, 4, 4), color_scale=0)
    np.testing.assert_array_equal(result, np.repeat(luminance[..., None], 3, axis=2))


def test_upsampled_chroma_follows_the_edges_of_the_photograph():
    """A dark red object on a bright blue ground, whose edge lies inside one cell of the coarse grid."""
    fine = torch.ones(1, 64, 64) * 0.9
    fine[..., :29] = 0.1
    coarse = torch.nn.functional.avg_pool2d(fine[None], 8)[0]
    share = (coarse - 0.1) / 0.8
    chroma = torch.cat([0.2 * share, 0.2 * (1 - share)])
    guided = upsample_chroma(chroma, coarse, fine)
    plain = torch.nn.functional.interpolate(chroma[None], size=(64, 64), mode="bilinear")[0]
    truth = torch.stack([0.2 * (fine[0] > 0.5), 0.2 * (fine[0] < 0.5)])
    inside = slice(16, 48)
    guided_error, plain_error = ((c - truth)[..., inside].abs().mean() for c in (guided, plain))
    assert guided_error < plain_error / 3


def test_constant_chroma_stays_constant_whatever_the_guide():
    slope, offset = guided_coefficients(torch.rand(1, 1, 9, 7), torch.full((1, 2, 9, 7), 0.3))
    torch.testing.assert_close(slope, torch.zeros_like(slope), atol=1e-4, rtol=0)
    torch.testing.assert_close(offset, torch.full_like(offset, 0.3), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("rgb", "lab"),
    [
        # CIE values of sRGB's corners, D65 (e.g. Lindbloom's calculator)
        ((1.0, 1.0, 1.0), (100.0, 0.0, 0.0)),
        ((1.0, 0.0, 0.0), (53.24, 80.09, 67.20)),
        ((0.0, 1.0, 0.0), (87.73, -86.18, 83.18)),
        ((0.0, 0.0, 1.0), (32.30, 79.19, -107.86)),
        ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0)),
    ],
)
def test_lab_of_known_colors(rgb, lab):
    result = rgb_to_lab(torch.tensor(rgb).view(1, 3, 1, 1)).flatten()
    torch.testing.assert_close(result, torch.tensor(lab), atol=0.02, rtol=0)


def test_lab_round_trip():
    image = random_rgb()
    torch.testing.assert_close(lab_to_rgb(rgb_to_lab(image)), image, atol=1e-4, rtol=0)


def test_colorfulness_by_hand_and_both_variants():
    """Half red, half blue: rg is 255 and 0, yb is 127.5 and -255."""
    image = torch.zeros(1, 3, 1, 2)
    image[0, 0, 0, 0] = image[0, 2, 0, 1] = 1
    spread = np.hypot(127.5, 191.25)
    assert colorfulness(image).item() == pytest.approx(spread + 0.3 * np.hypot(127.5, -63.75), rel=1e-5)
    absolute = np.hypot(127.5, 63.75) + 0.3 * np.hypot(127.5, 191.25)
    assert colorfulness(image, absolute=True).item() == pytest.approx(absolute, rel=1e-5)
    assert colorfulness(torch.full((2, 3, 4, 4), 0.5)).tolist() == [0, 0]


def test_full_resolution_merge_is_the_sum_of_its_parts():
    luminance = np.random.default_rng(0).integers(0, 256, (40, 30), dtype=np.uint8)
    chroma, guide = torch.randn(2, 6, 5) * 0.1, torch.rand(1, 6, 5)
    y = torch.from_numpy(luminance.astype(np.float32) / 255)[None]
    expected = merge_luma_chroma(y, upsample_chroma(chroma, guide, y)).permute(1, 2, 0).numpy()
    np.testing.assert_allclose(colorize_luma(luminance, chroma, guide) / 255, expected, atol=0.51 / 255)
