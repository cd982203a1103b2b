"""Color words against named colors of CSS, and captions of pictures whose colors are known."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageColor, ImageDraw

from colorization.color import rgb_to_lab
from colorization.color_words import (
    COLOR_WORDS,
    SHADES,
    PhotoColors,
    in_shade,
    main_color,
    name_colors,
    object_and_background_colors,
    palette_caption,
    photo_colors,
    srgb_to_oklch,
)

NAMED = {
    "red": "red firebrick crimson darkred indianred",
    "orange": "orange darkorange coral",
    "yellow": "yellow gold khaki goldenrod",
    "green": "green lime forestgreen darkgreen olivedrab yellowgreen seagreen palegreen limegreen darkseagreen",
    "blue": "blue navy skyblue dodgerblue royalblue steelblue midnightblue lightblue cornflowerblue deepskyblue",
    "purple": "purple indigo rebeccapurple darkviolet mediumpurple darkorchid plum violet",
    "pink": "pink hotpink deeppink lightpink palevioletred salmon",
    "brown": "saddlebrown sienna peru tan burlywood chocolate",
    "black": "black",
    "white": "white whitesmoke snow ivory aliceblue",
    "gray": "gray dimgray silver lightgray darkgray slategray",
}


# Colors of CSS, and of the XKCD survey where CSS has none of the name or one that nobody else calls so.
SHADE_COLORS = {
    "navy": "navy #01153e midnightblue",
    "teal": "teal darkcyan #029386",
    "turquoise": "turquoise mediumturquoise #06c2ac",
    "lavender": "lavender #c79fef",
    "maroon": "maroon #650021",
    "crimson": "crimson #8c000f",
    "ginger": "#b06500 #c07840",
    "gold": "gold goldenrod #dbb40c",
    "blond": "#e0c080 #c8a468",
    "khaki": "khaki darkkhaki #aaa662",
    "beige": "beige #e6daa6 antiquewhite",
    "olive": "olive darkolivegreen #6e750e",
    "silver": "silver #c5c9c7",
}


def pixel(name: str) -> np.ndarray:
    return np.array(ImageColor.getrgb(name), np.uint8)


def disk(inner: str, outer: str, size: tuple[int, int] = (120, 90)) -> Image.Image:
    """A disk of one color in the middle of another."""
    image = Image.new("RGB", size, outer)
    ImageDraw.Draw(image).ellipse((size[0] // 4, size[1] // 4, size[0] * 3 // 4, size[1] * 3 // 4), fill=inner)
    return image


@pytest.mark.parametrize(("name", "word"), [(name, word) for word, names in NAMED.items() for name in names.split()])
def test_named_colors(name, word):
    assert COLOR_WORDS[name_colors(pixel(name))] == word


def test_every_color_has_one_word():
    levels = np.arange(0, 256, 15, dtype=np.uint8)
    cube = np.stack(np.meshgrid(levels, levels, levels), axis=-1)
    names = name_colors(cube)
    assert names.shape == cube.shape[:-1] and set(names.ravel()) == set(range(len(COLOR_WORDS)))
    grays = name_colors(np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1))
    words = [COLOR_WORDS[index] for index in grays]
    assert list(dict.fromkeys(words)) == ["black", "gray", "white"]  # in this order and nothing else


@pytest.mark.parametrize("shade", SHADES)
def test_shades_fit_their_colors_and_no_others(shade):
    for name in SHADE_COLORS[shade].split():
        assert [word for word in SHADES if in_shade(pixel(name), word)] == [shade], name
    for name in "red orange yellow green blue purple hotpink saddlebrown black white gray".split():
        assert not in_shade(pixel(name), shade)


def test_no_color_has_two_shades():
    levels = np.arange(0, 256, 15, dtype=np.uint8)
    cube = np.stack(np.meshgrid(levels, levels, levels), axis=-1)
    assert sum(in_shade(cube, shade).astype(int) for shade in SHADES).max() == 1


def test_photo_colors_name_shades():
    assert photo_colors(disk("navy", "khaki")) == PhotoColors(("blue", "navy"), ("yellow", "khaki"))
    assert photo_colors(disk("red", "gray")) == PhotoColors(("red",), ("gray",))
    # A shade that only a small part of the color's pixels has does not name it.
    image = disk("blue", "gray")
    ImageDraw.Draw(image).rectangle((50, 40, 60, 50), fill="navy")
    assert photo_colors(image).object == ("blue",)


def test_oklch():
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (500, 3), dtype=np.uint8)
    lightness, chroma, hue = srgb_to_oklch(rgb).T
    # OKLab's lightness orders colors much as that of CIE Lab does, its chroma is 0 for gray and its hue circular.
    cie = rgb_to_lab(torch.from_numpy(rgb / 255).float()[..., None, None])[:, 0, 0, 0].numpy()
    assert np.corrcoef(lightness, cie)[0, 1] > 0.98
    assert (0 <= hue).all() and (hue < 360).all()
    np.testing.assert_allclose(srgb_to_oklch(pixel("red")), [0.628, 0.258, 29.23], atol=0.01)  # published values
    np.testing.assert_allclose(srgb_to_oklch(pixel("white"))[:2], [1, 0], atol=1e-4)


def test_main_color():
    pixels = np.stack([pixel("red"), pixel("blue"), pixel("blue")])
    assert main_color(pixels) == "blue"
    assert main_color(pixels, weights=np.array([3.0, 1, 1])) == "red"
    with pytest.raises(ValueError, match="at least one pixel"):
        main_color(pixels[:0])
    with pytest.raises(ValueError, match="`weights` must have shape"):
        main_color(pixels, weights=np.ones(2))
    with pytest.raises(ValueError, match="uint8"):
        name_colors(pixels / 255)


@pytest.mark.parametrize(
    ("inner", "outer"), [("blue", "black"), ("red", "white"), ("gold", "green"), ("gray", "green"), ("black", "blue")]
)
def test_object_and_background(inner, outer):
    words = [COLOR_WORDS[name_colors(pixel(name))] for name in (inner, outer)]
    assert list(object_and_background_colors(disk(inner, outer))) == words


def test_vivid_parts_name_a_gray_object():
    image = disk("gray", "silver")
    ImageDraw.Draw(image).rectangle((50, 30, 70, 55), fill="crimson")
    assert object_and_background_colors(image) == ("red", "gray")


def test_any_size_and_mode():
    for size in ((1, 1), (2, 1), (3, 3), (1, 500), (4000, 3)):
        assert object_and_background_colors(Image.new("RGB", size, "green")) == ("green", "green")
    assert object_and_background_colors(Image.new("L", (20, 20), 255)) == ("white", "white")
    assert object_and_background_colors(Image.new("RGBA", (20, 20), (255, 0, 0, 0))) == ("white", "white")
    assert object_and_background_colors(disk("blue", "black").convert("P")) == ("blue", "black")


@pytest.mark.parametrize(
    ("label", "caption"),
    [
        ("jellyfish", "blue jellyfish, black background"),
        ("Garbage_Truck", "blue garbage truck, black background"),
        (" Blue  Jay ", "blue jay, black background"),
        ("grey_whale", "grey whale, black background"),
        ("navy dress", "navy dress, black background"),
        ("redshank", "blue redshank, black background"),  # a word only where it stands alone
        ("", "mostly blue, black background"),
    ],
)
def test_palette_caption(label, caption):
    assert palette_caption(disk("blue", "black"), label) == caption


def test_palette_caption_of_one_color():
    assert palette_caption(Image.new("RGB", (30, 30), "green")) == "mostly green"
    assert palette_caption(Image.new("RGB", (30, 30), "green"), "frog") == "green frog, green background"
