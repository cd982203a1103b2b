"""TIFF files whose pages or channels are not all photograph; and files of several pages in general."""

import struct
from pathlib import Path

import numpy as np
import pytest
import pyvips
from conftest import colorize, random_photo, results
from PIL import Image

from colorization.errors import ColorizationWarning
from colorization.image_io import list_pages, read_image, read_settings
from colorization.in_memory import open_picture
from colorization.photo import ImageError

WIDTH, HEIGHT = 24, 16
RAMP = np.tile(np.arange(WIDTH, dtype=np.uint8) * 10, (HEIGHT, 1))


def picture(bands: int, interpretation: str = "srgb") -> pyvips.Image:
    """Bands of ramps, of which every second one falls."""
    pixels = np.stack([RAMP if k % 2 == 0 else 255 - RAMP for k in range(bands)], axis=-1)
    return pyvips.Image.new_from_array(pixels).copy(interpretation=interpretation)


def set_tag(file: Path, tag: int, *values: int) -> None:
    """Overwrite the values of a short or long tag of a little-endian file's first directory, where it has them."""
    data = bytearray(file.read_bytes())
    start = struct.unpack_from("<I", data, 4)[0]
    for k in range(struct.unpack_from("<H", data, start)[0]):
        entry = start + 2 + 12 * k
        found, kind, count = struct.unpack_from("<HHI", data, entry)
        if found == tag:
            code = f"<{count}{ {3: 'H', 4: 'I'}[kind] }"
            place = entry + 8 if struct.calcsize(code) <= 4 else struct.unpack_from("<I", data, entry + 8)[0]
            struct.pack_into(code, data, place, *values)
            file.write_bytes(data)
            return
    raise AssertionError(f"the file has no tag {tag}")


@pytest.mark.parametrize(
    ("bands", "space", "extra", "alpha"),
    [
        (4, "srgb", [0], None),  # infrared
        (4, "srgb", [1], 3),
        (4, "srgb", [2], 3),
        (6, "srgb", [0, 2, 0], 4),  # selections on both sides
        (6, "srgb", [0, 0, 0], None),
        (2, "b-w", [0], None),
        (2, "b-w", [2], 1),
    ],
)
def test_only_what_says_so_is_transparency(tmp_path, bands, space, extra, alpha):
    file = tmp_path / "a.tif"
    picture(bands, space).tiffsave(str(file))
    set_tag(file, 338, *extra)
    photo = read_image(file, keep_color=True)
    colors = 3 if space == "srgb" else 1
    if extra != [1]:  # where libvips takes back what alpha has multiplied
        np.testing.assert_array_equal(photo.rgb[..., 0], RAMP)
        np.testing.assert_array_equal(photo.rgb[..., 1], 255 - RAMP if colors == 3 else RAMP)
    if alpha is None:
        assert photo.alpha is None
    else:
        np.testing.assert_array_equal(photo.alpha, RAMP if alpha % 2 == 0 else 255 - RAMP)


def test_the_black_of_floating_cmyk_is_no_transparency(tmp_path):
    nothing = pyvips.Image.black(WIDTH, HEIGHT).cast("float")
    inks = nothing.bandjoin([nothing, nothing, nothing + 0.25]).copy(interpretation="cmyk")
    inks.tiffsave(str(tmp_path / "float.tif"))
    (inks * 255 + 0.5).cast("uchar").copy(interpretation="cmyk").tiffsave(str(tmp_path / "8.tif"))
    photo = read_image(tmp_path / "float.tif")
    assert photo.alpha is None
    assert abs(photo.luma / 257 - read_image(tmp_path / "8.tif").luma).max() <= 1.5


@pytest.mark.parametrize("space", ["lab", "labs"])
def test_cielab(tmp_path, space):
    picture(3).colourspace(space).tiffsave(str(tmp_path / "lab.tif"))
    picture(3).pngsave(str(tmp_path / "rgb.png"))
    lab, rgb = (read_image(tmp_path / name).luma for name in ("lab.tif", "rgb.png"))
    assert abs(lab / 257 - rgb).max() <= 1


def test_pages(tmp_path):
    photos = [random_photo(40 + 8 * k, 32, seed=k) for k in range(3)]
    photos[0].save(tmp_path / "a.tif", save_all=True, append_images=photos[1:])
    assert list_pages(tmp_path / "a.tif") == [0, 1, 2]
    for page, photo in enumerate(photos):
        np.testing.assert_array_equal(read_image(tmp_path / "a.tif", page=page).luma, photo)
    with pytest.warns(ColorizationWarning, match="a.tif has 3 pages or frames: only the first is read"):
        read_image(tmp_path / "a.tif")
    with pytest.raises(ImageError, match=r"`page` must be one of \[0, 1, 2\], got 3"):
        read_image(tmp_path / "a.tif", page=3)


@pytest.mark.parametrize("suffix", ["gif", "webp"])
def test_frames(tmp_path, suffix):
    first, *others = [random_photo(seed=k) for k in range(3)]
    first.save(tmp_path / f"a.{suffix}", save_all=True, append_images=others)
    assert list_pages(tmp_path / f"a.{suffix}") == [0, 1, 2]
    for page, photo in enumerate([first, *others]):
        read = read_image(tmp_path / f"a.{suffix}", page=page).luma
        assert abs(read.astype(int) - np.asarray(photo)).mean() < 8


def test_films_in_avif_are_refused(tmp_path):
    random_photo().save(tmp_path / "a.avif", save_all=True, append_images=[random_photo(seed=2)])
    with pytest.raises(ImageError, match="is an AVIF animation"):
        read_image(tmp_path / "a.avif")


@pytest.mark.parametrize("subfile", [1, 4])
def test_previews_and_masks_are_no_pages(tmp_path, subfile):
    small, large = random_photo(16, 12), random_photo(48, 36)
    small.save(tmp_path / "a.tif", save_all=True, append_images=[large], tiffinfo={254: 0})
    set_tag(tmp_path / "a.tif", 254, subfile)
    assert list_pages(tmp_path / "a.tif") == [1]
    assert read_image(tmp_path / "a.tif").size == (48, 36)
    with open(tmp_path / "a.tif", "rb") as file:
        assert open_picture(file).size == (48, 36)  # as training and evaluation do


def as_canon_raw(file: Path) -> None:
    data = file.read_bytes()
    file.write_bytes(data[:8] + b"CR" + data[10:])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda file: set_tag(file, 254, 1), "holds only a reduced preview"),
        (lambda file: set_tag(file, 262, 32803), "is a camera raw file"),
        (
            lambda file: file.write_bytes(file.read_bytes()[:8] + b"CR" + file.read_bytes()[10:]),
            "is a camera raw file",
        ),
    ],
)
def test_camera_raw_is_refused(tmp_path, change, message):
    random_photo().save(tmp_path / "a.tif", tiffinfo={254: 0})
    change(tmp_path / "a.tif")
    with pytest.raises(ImageError, match=message):
        read_image(tmp_path / "a.tif")
    with open(tmp_path / "a.tif", "rb") as file, pytest.raises(ImageError, match=message):
        open_picture(file)


def test_tiles_of_old_jpeg_are_refused(tmp_path):
    picture(3).tiffsave(str(tmp_path / "a.tif"), tile=True)
    set_tag(tmp_path / "a.tif", 259, 6)
    with pytest.raises(ImageError, match="compression of the old kind"):
        read_image(tmp_path / "a.tif")


@pytest.mark.usefixtures("loaded_once")
def test_every_page_has_a_result(tmp_path, capsys):
    first, *others = [random_photo(seed=k) for k in range(3)]
    first.save(tmp_path / "album.tif", save_all=True, append_images=others)
    for done in ("3 colored", "3 skipped"):
        assert colorize(tmp_path / "album.tif", "--output", tmp_path / "out") == 0
        said = capsys.readouterr()
        assert done in said.out and "album.tif: 3 pages or frames, each has a result of its own" in said.err
    assert results(tmp_path / "out") == {"album-1.png", "album-2.png", "album-3.png"}
    assert read_settings(tmp_path / "out" / "album-2.png")["input"]["page"] == 1
    pattern = ["--name-pattern", "{page}_{stem}"]
    assert colorize(tmp_path / "album.tif", "--output", tmp_path / "named", *pattern) == 0
    assert results(tmp_path / "named") == {"1_album.png", "2_album.png", "3_album.png"}


def test_lost_rows_of_an_image_are_of_that_image(tmp_path):
    """libvips keeps what it noted of one file until somebody asks, which may be at another file."""
    pyvips.vips_lib.vips_foreign_find_load(b"another.png")
    Image.fromarray(RAMP).save(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:50])
    with pytest.raises(ImageError) as caught:
        read_image(tmp_path / "a.png")
    assert "another" not in str(caught.value)
