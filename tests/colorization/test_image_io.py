"""Every kind of file and of in-memory image, checked by pixel values. Pillow's own decoders are the oracle."""

import io
import json
import os
import stat
import struct
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from xml.etree import ElementTree

import numpy as np
import pytest
import pyvips
import torch
from PIL import ExifTags, Image, ImageCms, ImageOps

from colorization.color import LUMA_WEIGHTS
from colorization.image_io import as_photo, read_image, read_settings, write_image
from colorization.photo import _LUMA_WEIGHTS, ImageError, Photo

HEIGHT, WIDTH = 36, 52
ROWS, COLUMNS = np.mgrid[0:HEIGHT, 0:WIDTH]
COLORS = np.stack([COLUMNS * 4 + 20, ROWS * 5 + 30, 235 - 2 * (ROWS + COLUMNS)], axis=-1).astype(np.uint8)
ALPHA = (255 - COLUMNS * 4).astype(np.uint8)
COLORS_16 = (COLORS.astype(np.uint16) << 8) + ((ROWS * 7 + COLUMNS * 3) % 256).astype(np.uint16)[..., None]
PICTURE = Image.fromarray(COLORS)
LUMA = np.asarray(PICTURE.convert("L"))
SRGB_PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
SETTINGS = {"prompt": 'a café <b>&amp;</b> ]]> "quoted" \x01', "steps": 8, "model": {"revision": None, "scale": 1.5}}
FORMATS = ["jpg", "png", "webp", "tiff"]
SIXTEEN_BITS = ("png", "tiff")


def luma_of(rgb: np.ndarray) -> np.ndarray:
    red, green, blue = np.moveaxis(rgb.astype(np.int64), -1, 0)
    return (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16


def difference(actual: np.ndarray, expected: np.ndarray) -> int:
    assert actual.shape == expected.shape
    return int(np.abs(actual.astype(np.int64) - expected.astype(np.int64)).max())


def vips(pixels: np.ndarray, interpretation: str) -> pyvips.Image:
    pixels = pixels if pixels.ndim == 3 else pixels[..., None]
    return pyvips.Image.new_from_array(np.ascontiguousarray(pixels)).copy(interpretation=interpretation)


def with_profile(image: pyvips.Image, profile: bytes) -> pyvips.Image:
    image = image.copy()
    image.set_type(pyvips.GValue.blob_type, "icc-profile-data", profile)
    return image


def swap_red_and_blue(profile: bytes) -> bytes:
    """A profile by which red means blue, so that an ignored profile cannot go unnoticed."""
    return profile.replace(b"rXYZ", b"tXYZ").replace(b"bXYZ", b"rXYZ").replace(b"tXYZ", b"bXYZ")


def gray_profile(gamma: float) -> bytes:
    """A minimal version 2 profile for gray with a power curve."""
    curve = struct.pack(">4sIIHH", b"curv", 0, 1, round(gamma * 256), 0)
    white = struct.pack(">4sI3i", b"XYZ ", 0, 63190, 65536, 54061)
    name = b"desc" + struct.pack(">II", 0, 5) + b"gray\0" + bytes(79)
    tags = {b"wtpt": white, b"kTRC": curve, b"desc": name, b"cprt": b"text\0\0\0\0none\0\0\0\0"}
    table, data, start = b"", b"", 128 + 4 + 12 * len(tags)
    for signature, content in tags.items():
        table += signature + struct.pack(">II", start + len(data), len(content))
        data += content
    size = start + len(data)
    header = struct.pack(">I4sI4s4s4s", size, b"lcms", 0x02100000, b"mntr", b"GRAY", b"XYZ ") + bytes(12) + b"acsp"
    header += bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + data


def power_to_srgb(values: np.ndarray, gamma: float) -> np.ndarray:
    """Values in [0, 1] of a power curve as sRGB values in [0, 1]."""
    light = values**gamma
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def photo(alpha: np.ndarray | None = None, exif: bytes | None = None, dpi: tuple[float, float] | None = None) -> Photo:
    return Photo(luma=LUMA, alpha=alpha, rgb=None, format="png", exif=exif, dpi=dpi, name="source.png")


# --- reading -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "suffix", "options", "tolerance"),
    [
        ("RGB", "jpg", {"quality": 90}, 1),
        ("RGB", "jpg", {"quality": 90, "progressive": True}, 1),
        ("L", "jpg", {"quality": 90}, 0),
        ("RGB", "webp", {"quality": 90}, 1),
        ("RGBA", "webp", {"lossless": True, "exact": True}, 0),
        ("RGB", "avif", {"quality": 90, "subsampling": "4:4:4"}, 2),
        ("RGB", "bmp", {}, 0),
        ("P", "bmp", {}, 0),
        ("1", "bmp", {}, 0),
        ("RGB", "ppm", {}, 0),
        ("L", "ppm", {}, 0),
        ("P", "gif", {}, 0),
        ("L", "gif", {}, 0),
        ("1", "png", {}, 0),
        ("L", "png", {}, 0),
        ("LA", "png", {}, 0),
        ("P", "png", {}, 0),
        ("RGB", "png", {}, 0),
        ("RGBA", "png", {}, 0),
        ("1", "tiff", {}, 0),
        ("L", "tiff", {}, 0),
        ("LA", "tiff", {}, 0),
        ("P", "tiff", {}, 0),
        ("RGB", "tiff", {}, 0),
        ("RGB", "tiff", {"compression": "tiff_lzw"}, 0),
        ("RGB", "tiff", {"compression": "tiff_deflate"}, 0),
        ("RGBA", "tiff", {"compression": "packbits"}, 0),
    ],
)
def test_reads_what_pillow_reads(tmp_path, mode, suffix, options, tolerance):
    path = tmp_path / f"picture.{suffix}"
    source = PICTURE.copy()
    if mode.endswith("A"):
        source.putalpha(Image.fromarray(ALPHA))
    source.convert(mode).save(path, **options)
    expected = Image.open(path)

    result = read_image(path, keep_color=True)

    assert (result.format, result.name, result.size) == (suffix, path.name, (WIDTH, HEIGHT))
    assert result.luma.dtype == result.rgb.dtype == np.uint8
    assert difference(result.luma, np.asarray(expected.convert("L"))) <= tolerance
    assert difference(result.rgb, np.asarray(expected.convert("RGB"))) <= 2 * tolerance
    if mode.endswith("A"):
        assert difference(result.alpha, ALPHA) == 0
    else:
        assert result.alpha is None


@pytest.mark.parametrize("suffix", ["png", "gif"])
def test_transparent_palette(tmp_path, suffix):
    path = tmp_path / f"palette.{suffix}"
    indexed = Image.fromarray((COLUMNS % 3).astype(np.uint8), "P")
    indexed.putpalette([10, 20, 30, 200, 100, 50, 255, 255, 255])
    indexed.save(path, transparency=1)

    result = read_image(path)

    opaque = COLUMNS % 3 != 1
    assert (result.alpha == np.where(opaque, 255, 0)).all()
    assert (result.luma[COLUMNS % 3 == 0] == 18).all() and (result.luma[COLUMNS % 3 == 2] == 255).all()


def test_the_suffix_does_not_matter(tmp_path):
    path = tmp_path / "really [a, b=c] png.jpg"  # brackets mean options to libvips
    PICTURE.save(path, "PNG")
    result = read_image(str(path))
    assert result.format == "png" and difference(result.luma, LUMA) == 0


@pytest.mark.skipif(os.name == "nt" or sys.platform == "darwin", reason="names there are always Unicode")
def test_names_that_are_not_unicode(tmp_path):
    path = os.path.join(str(tmp_path), os.fsdecode(b"caf\xe9.png"))
    write_image(path, COLORS)
    assert difference(read_image(path).luma, LUMA) == 0
    with open(path, "r+b") as file:
        file.truncate(200)
    with pytest.raises(ImageError, match="damaged"):
        read_image(path)


def test_a_file_that_changed_is_read_anew(tmp_path):
    path = tmp_path / "picture.png"
    for shade in (10, 200):
        Image.new("L", (8, 8), shade).save(path)
        assert (read_image(path).luma == shade).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 12000), (12000, 1)])
@pytest.mark.parametrize("suffix", ["png", "jpg", "tiff", "webp", "bmp", "gif"])
def test_extreme_shapes(tmp_path, suffix, shape):
    Image.fromarray(np.full(shape, 128, np.uint8)).save(tmp_path / f"thin.{suffix}")
    luma = read_image(tmp_path / f"thin.{suffix}").luma
    assert luma.shape == shape and difference(luma, np.full(shape, 128)) <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff"])
def test_exif_orientation_is_applied(tmp_path, suffix, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"turned.{suffix}"
    PICTURE.save(path, exif=exif, **({"lossless": True} if suffix == "webp" else {}))
    upright = np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB"))

    result = read_image(path, keep_color=True)
    in_memory = as_photo(Image.open(path))

    assert result.luma.flags.c_contiguous
    assert difference(result.rgb, upright) <= (2 if suffix == "jpg" else 0)
    assert difference(in_memory.luma, luma_of(upright)) == 0
    for exif in (result.exif, in_memory.exif):
        if exif:
            reread = Image.Exif()
            reread.load(exif)
            assert reread[0x0112] == 1


def test_alpha_and_resolution_are_turned_too(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    source = PICTURE.copy()
    source.putalpha(Image.fromarray(ALPHA))
    source.save(tmp_path / "turned.png", exif=exif, dpi=(300, 150))
    result = read_image(tmp_path / "turned.png")
    assert result.size == (HEIGHT, WIDTH) and result.dpi == (150, 300)
    assert difference(result.alpha, np.rot90(ALPHA, -1)) == 0


@pytest.mark.parametrize(
    ("save", "expected"),
    [
        (lambda path: vips(COLORS_16, "rgb16").pngsave(path), luma_of(COLORS_16)),
        (lambda path: vips(COLORS_16, "rgb16").tiffsave(path, compression="lzw"), luma_of(COLORS_16)),
        (lambda path: vips(COLORS_16, "rgb16").tiffsave(path, compression="deflate", tile=True), luma_of(COLORS_16)),
        (lambda path: vips(COLORS_16[..., 0], "grey16").pngsave(path), COLORS_16[..., 0]),
        (lambda path: vips(COLORS_16[..., 0], "grey16").tiffsave(path), COLORS_16[..., 0]),
        (lambda path: vips(COLORS_16[..., 0] / np.float32(65535), "b-w").tiffsave(path), COLORS_16[..., 0]),
        (lambda path: vips(COLORS_16 / np.float32(65535), "scrgb").tiffsave(path), luma_of(COLORS_16)),
    ],
    ids=["png-rgb", "tiff-rgb-lzw", "tiff-rgb-tiles", "png-gray", "tiff-gray", "tiff-gray-float", "tiff-rgb-float"],
)
def test_sixteen_bits_are_kept(tmp_path, save, expected):
    path = str(tmp_path / "deep")
    save(path)
    result = read_image(path)
    assert result.luma.dtype == np.uint16
    assert difference(result.luma, expected) == 0


def test_every_16_bit_value_survives_reading_and_writing(tmp_path):
    ramp = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    colors = np.stack([ramp, ramp[::-1], ramp.T], axis=-1)
    write_image(tmp_path / "ramp.png", colors)
    result = read_image(tmp_path / "ramp.png", keep_color=True)
    assert difference(result.rgb, colors) == 0
    assert difference(result.luma, luma_of(colors)) == 0


@pytest.mark.parametrize("value", [np.nan, np.inf, -0.25, 1.5])
def test_float_tiff_outside_the_range_is_refused(tmp_path, value):
    pixels = np.full((4, 4), 0.5, np.float32)
    pixels[2, 1] = value
    path = str(tmp_path / "float.tiff")
    vips(pixels, "b-w").tiffsave(path)
    with pytest.raises(ImageError, match=rf"float\.tiff: .* in \[0, 1\], got {value}"):
        read_image(path)


def test_integer_tiff_of_32_bits_is_refused(tmp_path):
    path = str(tmp_path / "deep.tiff")
    vips(COLORS.astype(np.uint32), "rgb").tiffsave(path)
    with pytest.raises(ImageError, match=r"deep\.tiff: has uint samples"):
        read_image(path)


# --- color --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff"])
def test_embedded_profile_is_applied(tmp_path, suffix):
    path = tmp_path / f"profiled.{suffix}"
    options = {"webp": {"lossless": True}, "jpg": {"quality": 100, "subsampling": 0}}.get(suffix, {})
    PICTURE.save(path, icc_profile=swap_red_and_blue(SRGB_PROFILE), **options)
    stored = np.asarray(Image.open(path).convert("RGB"))
    assert difference(read_image(path, keep_color=True).rgb, stored[..., ::-1]) <= 2
    assert difference(as_photo(Image.open(path), keep_color=True).rgb, stored[..., ::-1]) <= 2


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_profile_is_applied_in_16_bits(tmp_path, suffix):
    image = with_profile(vips(COLORS_16, "rgb16").bandjoin(vips(COLORS_16[..., 0], "grey16")), SRGB_PROFILE)
    swapped = with_profile(image, swap_red_and_blue(SRGB_PROFILE))
    for source, expected, tolerance in ((image, COLORS_16, 0), (swapped, COLORS_16[..., ::-1], 150)):
        path = tmp_path / f"deep.{suffix}"
        source.write_to_file(str(path))
        result = read_image(path, keep_color=True)
        assert result.rgb.dtype == np.uint16
        assert difference(result.rgb, expected) <= tolerance
        assert difference(result.alpha, COLORS_16[..., 0]) == 0


@pytest.mark.parametrize(("bits", "tolerance"), [(8, 1), (16, 200)])
def test_grey_profile_is_applied(tmp_path, bits, tolerance):
    top = 2**bits - 1
    ramp = np.arange(top + 1, dtype=f"uint{bits}").reshape(-1, 16)
    path = str(tmp_path / "gray.png")
    with_profile(vips(ramp, "b-w" if bits == 8 else "grey16"), gray_profile(2.2)).pngsave(path)
    result = read_image(path)
    expected = np.rint(power_to_srgb(ramp / top, 563 / 256) * top)
    assert difference(result.luma, expected) <= tolerance
    assert (np.diff(result.luma.ravel().astype(int)) >= 0).all()
    assert difference(result.luma, ramp) > 3 * tolerance


def test_srgb_profile_changes_nothing(tmp_path):
    PICTURE.save(tmp_path / "tagged.png", icc_profile=SRGB_PROFILE)
    assert difference(read_image(tmp_path / "tagged.png").luma, LUMA) == 0


@pytest.mark.parametrize(
    ("mode", "profile"),
    [
        ("RGB", b"no profile at all" * 20),
        ("RGB", swap_red_and_blue(SRGB_PROFILE)[:300]),
        ("RGB", gray_profile(1.0)),
        ("L", swap_red_and_blue(SRGB_PROFILE)),
        ("L", gray_profile(1.0)[:160]),
    ],
    ids=["junk", "cut-short", "gray-for-rgb", "rgb-for-gray", "gray-cut-short"],
)
def test_unusable_profile_is_ignored(tmp_path, capfd, mode, profile):
    path = tmp_path / "broken.tiff"
    PICTURE.convert(mode).save(path, icc_profile=profile)
    assert difference(read_image(path).luma, LUMA) == 0
    assert difference(as_photo(Image.open(path)).luma, LUMA) == 0
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("suffix", ["jpg", "tiff"])
@pytest.mark.parametrize("embedded", [True, False])
def test_cmyk(tmp_path, suffix, embedded):
    press = pyvips.Image.profile_load("cmyk")
    ink = np.dstack([255 - COLORS, np.full((HEIGHT, WIDTH), 20, np.uint8)])
    path = tmp_path / f"ink.{suffix}"
    options = {"quality": 100, "subsampling": 0} if suffix == "jpg" else {}
    Image.fromarray(ink, "CMYK").save(path, **({"icc_profile": press} if embedded else {}), **options)
    stored = Image.open(path)  # Pillow writes JPEG as Adobe does, inverted, and undoes it on reading
    assert difference(np.asarray(stored), ink) <= 8
    expected = ImageCms.profileToProfile(
        stored,
        io.BytesIO(press),
        ImageCms.createProfile("sRGB"),
        1,
        "RGB",
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    for result in (read_image(path, keep_color=True), as_photo(stored, keep_color=True)):
        assert result.alpha is None
        assert difference(result.rgb, np.asarray(expected)) <= 4
        assert np.abs(result.luma - luma_of(np.asarray(expected))).mean() < 1


def test_luma_is_exact_for_every_kind_of_color(tmp_path):
    colors = np.random.default_rng(0).integers(0, 256, (300, 500, 3), dtype=np.uint8)
    assert difference(as_photo(colors).luma, np.asarray(Image.fromarray(colors).convert("L"))) == 0
    extreme = np.full((2, 2, 3), 65535, np.uint16)
    assert (as_photo(extreme).luma == 65535).all()


# --- refusals ------------------------------------------------------------------------------------------------------


def png_header(width: int, height: int) -> bytes:
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)), (b"IDAT", b""), (b"IEND", b"")]
    body = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"This is a letter.", "not an image"),
        (b"%PDF-1.7\n", "not an image"),
        (b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>', "not an image"),
        (b"1,2\n3,4\n", "not an image"),
        (b"\x89PNG\r\n\x1a\n", "damaged"),
        (b"BM" + bytes(60), "damaged"),
        (b"P5 0 4 255\n", "damaged"),
        (b"GIF89a" + bytes(20), "damaged"),
        (b"II*\0" + b"\xff" * 40, "damaged"),
        (png_header(0, 5), "damaged"),
        (png_header(20_000, 10_001), "20000 x 10001 = 200,020,000 pixels exceed the limit of 200,000,000"),
    ],
)
def test_unusable_files_are_refused_in_one_line(tmp_path, capfd, content, message):
    path = tmp_path / "holiday.jpg"
    path.write_bytes(content)
    with pytest.raises(ImageError) as caught:
        read_image(path)
    text = str(caught.value)
    assert str(path) in text and message in text and "\n" not in text
    assert capfd.readouterr().err == ""


def test_missing_file_and_directory_are_refused(tmp_path):
    with pytest.raises(ImageError, match=r"gone\.jpg: No such file"):
        read_image(tmp_path / "gone.jpg")
    with pytest.raises(ImageError, match="is a directory"):
        read_image(tmp_path)
    with pytest.raises(ImageError, match="not a regular file"):
        read_image(os.devnull)


@pytest.mark.parametrize("fraction", [0.3, 0.6, 0.95])
@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        ("jpg", {}),
        ("jpg", {"progressive": True}),
        ("png", {}),
        ("webp", {}),
        ("webp", {"lossless": True}),
        ("gif", {}),
        ("bmp", {}),
        ("ppm", {}),
        ("avif", {}),
        ("tiff", {}),
        ("tiff", {"compression": "tiff_lzw"}),
        ("tiff", {"compression": "tiff_deflate"}),
    ],
)
def test_files_cut_short_are_refused(tmp_path, capfd, suffix, options, fraction):
    noise = np.random.default_rng(1).integers(0, 256, (120, 90, 3), dtype=np.uint8)
    path = tmp_path / f"copy.{suffix}"
    Image.fromarray(noise).save(path, **options)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * fraction)])
    with pytest.raises(ImageError) as caught:
        read_image(path)
    assert str(caught.value).startswith(f"{path}: damaged, cut short") and "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff"])
def test_the_pixel_limit_can_be_set(tmp_path, suffix):
    path = tmp_path / f"large.{suffix}"
    PICTURE.save(path)
    assert read_image(path, max_pixels=WIDTH * HEIGHT).size == PICTURE.size
    for image in (path, PICTURE, COLORS):
        with pytest.raises(ImageError, match=r"1,872 pixels exceed the limit of 1,871; raise it with max_pixels"):
            as_photo(image, max_pixels=WIDTH * HEIGHT - 1)


# --- in-memory images ----------------------------------------------------------------------------------------------


def test_paths_and_photos(tmp_path):
    PICTURE.save(tmp_path / "a.png")
    for path in (tmp_path / "a.png", str(tmp_path / "a.png")):
        assert difference(as_photo(path).luma, LUMA) == 0
    gray = as_photo(LUMA)
    assert as_photo(gray) is gray
    with pytest.raises(ImageError, match="keep_color"):
        as_photo(gray, keep_color=True)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "YCbCr", "HSV"])
def test_pillow_modes(mode):
    source = PICTURE.copy()
    if mode in ("LA", "PA", "RGBA", "RGBa"):
        source.putalpha(Image.fromarray(np.maximum(ALPHA, 60)))
    if mode == "PA":
        source = source.convert("P").convert("PA")
        source.putalpha(Image.fromarray(np.maximum(ALPHA, 60)))
    image = source.convert(mode)
    result = as_photo(image, keep_color=True)
    straight = image.convert("RGBA") if mode == "RGBa" else image
    assert difference(result.rgb, np.asarray(straight.convert("RGB"))) == 0
    assert difference(result.luma, luma_of(result.rgb)) == 0
    assert (result.alpha is not None) == mode.upper().endswith("A")
    if result.alpha is not None:
        assert difference(result.alpha, np.maximum(ALPHA, 60)) == 0
    assert (result.format, result.name, result.luma.flags.writeable) == ("", "image", True)


def test_pillow_transparent_color():
    image = Image.fromarray((COLUMNS % 3).astype(np.uint8))
    image.info["transparency"] = 1
    result = as_photo(image)
    assert (result.alpha == np.where(COLUMNS % 3 == 1, 0, 255)).all() and difference(result.luma, COLUMNS % 3) == 0


def test_pillow_lab_and_cmyk():
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    image = ImageCms.profileToProfile(PICTURE, srgb, lab, outputMode="LAB")
    assert difference(as_photo(image).luma, LUMA) <= 6  # 8-bit Lab is coarse
    white = as_photo(Image.new("CMYK", (3, 2), (0, 0, 0, 0)))
    black = as_photo(Image.new("CMYK", (3, 2), (255, 255, 255, 255)))
    assert white.luma.min() == 255 and black.luma.max() < 10


@pytest.mark.parametrize(
    ("mode", "pixels"),
    [
        ("I;16", COLORS_16[..., 0]),
        ("I;16B", COLORS_16[..., 0]),
        ("I", COLORS_16[..., 0].astype(np.int32)),
        ("F", COLORS_16[..., 0] / np.float32(65535)),
    ],
)
def test_pillow_modes_of_16_bits(mode, pixels):
    if mode == "I;16B":
        image = Image.frombytes(mode, (WIDTH, HEIGHT), pixels.astype(">u2").tobytes())
    else:
        image = Image.fromarray(pixels)
    assert image.mode == mode
    result = as_photo(image)
    assert result.luma.dtype == np.dtype(np.uint16) and result.luma.dtype.isnative
    assert difference(result.luma, COLORS_16[..., 0]) == 0


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (Image.new("I", (2, 2), 70_000), r"in \[0, 65535\], got 70000"),
        (Image.new("I", (2, 2), -1), r"in \[0, 65535\], got -1"),
        (Image.new("F", (2, 2), 128.0), r"in \[0, 1\], got 128.0"),
        (Image.new("RGB", (0, 5)), "no pixels"),
    ],
)
def test_unusable_pillow_images_are_refused(image, message):
    with pytest.raises(ImageError, match=message):
        as_photo(image)


def test_a_broken_exif_spoils_no_picture(tmp_path):
    image = PICTURE.copy()
    image.info["exif"] = b"Exif\0\0 is not what this is"
    assert as_photo(image).exif is None
    image.save(tmp_path / "a.png", exif=image.info["exif"])
    assert difference(read_image(tmp_path / "a.png").luma, LUMA) == 0


@pytest.mark.parametrize(
    ("array", "luma", "alpha"),
    [
        (LUMA, LUMA, None),
        (LUMA[..., None], LUMA, None),
        (np.dstack([LUMA, ALPHA]), LUMA, ALPHA),
        (COLORS, LUMA, None),
        (np.dstack([COLORS, ALPHA]), LUMA, ALPHA),
        (COLORS_16, luma_of(COLORS_16), None),
        (COLORS_16.astype(">u2"), luma_of(COLORS_16), None),
        (COLORS_16[::-1, ::-1], luma_of(COLORS_16)[::-1, ::-1], None),
        (COLORS_16 / np.float32(65535), luma_of(COLORS_16), None),
        (COLORS_16 / 65535, luma_of(COLORS_16), None),
        (np.full((2, 3), 1 + 1e-7), np.full((2, 3), 65535), None),
        (np.full((2, 3), 0.5, np.float16), np.full((2, 3), 32768), None),
    ],
)
def test_numpy_arrays(array, luma, alpha):
    result = as_photo(array)
    assert result.luma.dtype == (np.uint8 if array.dtype == np.uint8 else np.uint16) and result.luma.dtype.isnative
    assert difference(result.luma, luma) == 0
    if alpha is None:
        assert result.alpha is None
    else:
        assert result.alpha.dtype == result.luma.dtype and difference(result.alpha, alpha) == 0
    assert not np.shares_memory(result.luma, array)


@pytest.mark.parametrize(
    ("tensor", "luma"),
    [
        (torch.from_numpy(LUMA.copy()), LUMA),
        (torch.from_numpy(LUMA.copy())[None], LUMA),
        (torch.from_numpy(COLORS.copy()).permute(2, 0, 1), LUMA),
        (torch.from_numpy(COLORS_16 / np.float32(65535)).permute(2, 0, 1), luma_of(COLORS_16)),
        (torch.full((4, 5, 6), 0.5, dtype=torch.bfloat16, requires_grad=True), np.full((5, 6), 32768)),
    ],
)
def test_torch_tensors(tensor, luma):
    assert difference(as_photo(tensor).luma, luma) == 0


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.full((2, 2), np.nan), r"in \[0, 1\], got nan"),
        (np.full((2, 2, 3), -np.inf), r"in \[0, 1\], got -inf"),
        (np.full((2, 2), 1e300), r"in \[0, 1\], got 1e\+300"),
        (torch.full((3, 2, 2), 2.0), r"in \[0, 1\], got 2.0"),
        (np.zeros((2, 2), np.int64), "expected uint8, uint16 or floats .* got int64"),
        (np.zeros((2, 2), bool), "got bool"),
        (np.zeros((3, 20, 30), np.uint8), r"got shape \(3, 20, 30\)"),
        (np.zeros((0, 4), np.uint8), "no pixels"),
        (torch.zeros(1, 3, 4, 4), r"got shape \(1, 3, 4, 4\)"),
        (torch.zeros(2, 4, 4), r"got shape \(2, 4, 4\)"),
        ([[0, 1]], "got list"),
        (b"bytes", "got bytes"),
    ],
)
def test_unusable_in_memory_images_are_refused(image, message):
    with pytest.raises(ImageError, match=message) as caught:
        as_photo(image)
    assert "\n" not in str(caught.value)


def test_torch_is_not_imported():
    code = "import sys, colorization.image_io; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


# --- writing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("suffix", "tolerance"), [("png", 0), ("jpg", 8), ("jpeg", 8), ("webp", 0), ("tiff", 0), ("PNG", 0)]
)
def test_written_pixels(tmp_path, suffix, tolerance):
    path = tmp_path / f"out.{suffix}"
    write_image(path, COLORS)
    image = Image.open(path)
    assert image.mode == "RGB"
    assert difference(np.asarray(image), COLORS) <= tolerance


@pytest.mark.parametrize("suffix", FORMATS)
def test_16_bits_are_rounded_to_8(tmp_path, suffix):
    levels = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    pixels = np.repeat(levels[..., None], 3, axis=2)
    write_image(tmp_path / f"deep.{suffix}", pixels, quality=100)
    write_image(
        tmp_path / f"flat.{suffix}", ((pixels.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8), quality=100
    )
    deep, flat = (pyvips.Image.new_from_file(str(tmp_path / f"{name}.{suffix}")) for name in ("deep", "flat"))
    assert deep.format == ("ushort" if suffix in SIXTEEN_BITS else "uchar")
    expected = pixels if suffix in SIXTEEN_BITS else flat.numpy()
    assert difference(deep.numpy(), expected) == 0


@pytest.mark.parametrize("array", [np.asfortranarray(COLORS), COLORS[::-1], np.dstack([COLORS, ALPHA])[..., :3]])
def test_arrays_of_any_layout_are_written(tmp_path, array):
    write_image(tmp_path / "out.png", array)
    assert difference(np.asarray(Image.open(tmp_path / "out.png")), array) == 0


@pytest.mark.parametrize(
    ("pixels", "alpha"),
    [
        (COLORS, ALPHA),
        (COLORS_16, ALPHA.astype(np.uint16) * 257),
        (COLORS, ALPHA.astype(np.uint16) * 257),
        (COLORS_16, ALPHA),
    ],
    ids=["8", "16", "8-over-16", "16-over-8"],
)
def test_alpha_is_kept_or_laid_over_white(tmp_path, pixels, alpha):
    for suffix in FORMATS:
        write_image(tmp_path / f"out.{suffix}", pixels, photo(alpha), quality=100)
    for suffix in ("png", "webp", "tiff"):
        result = read_image(tmp_path / f"out.{suffix}").alpha
        assert difference(result, ALPHA.astype(int) * (257 if result.dtype == np.uint16 else 1)) == 0
    opacity = ALPHA[..., None] / 255
    over_white = pixels / np.iinfo(pixels.dtype).max * 255 * opacity + 255 * (1 - opacity)
    assert difference(np.asarray(Image.open(tmp_path / "out.jpg")), np.rint(over_white)) <= 5


def camera_exif() -> bytes:
    """EXIF of a rotated photograph with a thumbnail, a maker note and a place, in the space of Adobe RGB."""
    exif = Image.Exif()
    exif.update({0x010F: "Maker", 0x010E: "Grandmother, 1931", 0x0112: 8})
    exif.get_ifd(0x8769).update({0x9003: "1931:05:04 10:00:00", 0xA001: 65535, 0xA002: 9999, 0x927C: b"NOTE" * 9})
    exif.get_ifd(0x8825)[1] = "N"
    blob = bytearray(exif.tobytes())
    thumbnail = io.BytesIO()
    PICTURE.save(thumbnail, "JPEG")
    order, base, end = ">" if blob[6:8] == b"MM" else "<", 6, len(blob)
    start = base + struct.unpack_from(f"{order}I", blob, base + 4)[0]
    following = start + 2 + 12 * struct.unpack_from(f"{order}H", blob, start)[0]
    struct.pack_into(f"{order}I", blob, following, end - base)
    place, size = end - base + 2 + 2 * 12 + 4, len(thumbnail.getvalue())
    directory = struct.pack(f"{order}HHHIIHHIII", 2, 0x0201, 4, 1, place, 0x0202, 4, 1, size, 0)
    return bytes(blob) + directory + thumbnail.getvalue()


def thumbnail_of(exif: bytes) -> dict:
    parsed = Image.Exif()
    parsed.load(exif)
    return parsed.get_ifd(ExifTags.IFD.IFD1)


@pytest.mark.parametrize("suffix", FORMATS)
def test_exif_is_kept_upright_and_without_thumbnail(tmp_path, suffix):
    assert thumbnail_of(camera_exif())
    PICTURE.save(tmp_path / "camera.jpg", exif=camera_exif())
    source = read_image(tmp_path / "camera.jpg")
    write_image(tmp_path / f"out.{suffix}", np.repeat(source.luma[..., None], 3, axis=2), source)

    image = Image.open(tmp_path / f"out.{suffix}")
    exif = image.getexif()
    details = exif.get_ifd(0x8769)
    assert image.size == source.size == (HEIGHT, WIDTH)
    assert (exif[0x010F], exif[0x010E], exif[0x0112]) == ("Maker", "Grandmother, 1931", 1)
    assert (details[0x9003], details[0xA001], details[0xA002]) == ("1931:05:04 10:00:00", 1, HEIGHT)
    assert details[0x927C] == b"NOTE" * 9 and exif.get_ifd(0x8825)[1] == "N"
    assert not thumbnail_of(source.exif) and not exif.get_ifd(ExifTags.IFD.IFD1)


@pytest.mark.parametrize("suffix", FORMATS)
def test_resolution_is_kept(tmp_path, suffix):
    path = tmp_path / f"out.{suffix}"
    write_image(path, COLORS, photo(dpi=(300.0, 150.0)))
    assert read_image(path).dpi == (300.0, 150.0)
    write_image(path, COLORS, photo())
    assert read_image(path).dpi is None


@pytest.mark.parametrize("suffix", ["jpg", "png", "tiff", "bmp"])
def test_resolution_is_read(tmp_path, suffix):
    PICTURE.save(tmp_path / f"in.{suffix}", dpi=(600, 600))
    assert read_image(tmp_path / f"in.{suffix}").dpi == pytest.approx((600, 600), abs=0.05)
    PICTURE.save(tmp_path / f"none.{suffix}")
    assert read_image(tmp_path / f"none.{suffix}").dpi in (None, (96.0, 96.0))  # Pillow writes 96 into every BMP


@pytest.mark.parametrize("settings", [SETTINGS, {}, None])
@pytest.mark.parametrize("suffix", FORMATS)
def test_settings_come_back(tmp_path, suffix, settings):
    path = tmp_path / f"out.{suffix}"
    write_image(path, COLORS, settings=settings)
    assert read_settings(path) == settings


@pytest.mark.parametrize("settings", [SETTINGS, None])
@pytest.mark.parametrize("suffix", FORMATS)
def test_metadata_says_how_the_colors_came_about(tmp_path, suffix, settings):
    write_image(tmp_path / f"out.{suffix}", COLORS, settings=settings)
    image = Image.open(tmp_path / f"out.{suffix}")
    assert image.getexif()[0x010E] == "AI-colorized"
    xmp = image.info["XML:com.adobe.xmp" if suffix == "png" else "xmp"]
    text = "".join(ElementTree.fromstring(xmp).itertext())
    assert "AI-colorized" in text and "Cold Colorizer" in text
    assert "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia" in text
    if suffix == "png":
        assert "AI-colorized" in image.info["Software"]
        assert json.loads(image.info.get("Settings", "null")) == settings


def test_files_without_settings(tmp_path):
    for suffix in ("jpg", "png", "webp", "bmp", "gif", "tiff"):
        PICTURE.save(tmp_path / f"plain.{suffix}")
        assert read_settings(tmp_path / f"plain.{suffix}") is None
    PICTURE.save(tmp_path / "foreign.webp", xmp=b"<not closed")
    assert read_settings(tmp_path / "foreign.webp") is None
    with pytest.raises(ImageError, match="No such file"):
        read_settings(tmp_path / "gone.png")


@pytest.mark.parametrize(
    ("name", "pixels", "options", "message"),
    [
        ("out.gif", COLORS, {}, r"'\.gif', only \.jpg, \.jpeg, \.png, \.webp, \.tif, \.tiff"),
        ("out", COLORS, {}, "only .jpg"),
        ("no/such/folder/out.png", COLORS, {}, "No such file or directory"),
        ("taken.png", COLORS, {}, "directory"),
        ("out.webp", np.zeros((1, 20_000, 3), np.uint8), {}, "cannot be written .*too large"),
        ("out.jpg", np.zeros((70_000, 1, 3), np.uint8), {}, "cannot be written .*65500"),
        ("out.jpg", COLORS, {"quality": 0}, r"quality must be in \[1, 100\], got 0"),
        ("out.png", COLORS, {"settings": {"prompt": object()}}, "cannot be written as JSON"),
        ("out.png", COLORS, {"settings": {"scale": float("nan")}}, "cannot be written as JSON"),
        ("out.png", LUMA, {}, r"shape \(H, W, 3\), got \(36, 52\)"),
        ("out.png", COLORS / 255, {}, "uint8 or uint16, got float64"),
        ("out.png", COLORS[:5], {"source": photo(ALPHA)}, "do not fit the source's alpha"),
    ],
)
def test_failed_writes_leave_nothing_behind(tmp_path, capfd, name, pixels, options, message):
    (tmp_path / "taken.png").mkdir()
    with pytest.raises(ImageError, match=message) as caught:
        write_image(tmp_path / name, pixels, **options)
    assert str(caught.value).startswith(str(tmp_path / name)) and "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == ["taken.png"] and not os.listdir(tmp_path / "taken.png")
    assert capfd.readouterr().err == ""


def test_a_failed_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "out.webp"
    write_image(path, COLORS)
    before = path.read_bytes()
    with pytest.raises(ImageError):
        write_image(path, np.zeros((1, 20_000, 3), np.uint8))
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["out.webp"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
def test_written_files_have_ordinary_permissions(tmp_path):
    (tmp_path / "ordinary").touch()
    write_image(tmp_path / "out.png", COLORS)
    modes = [stat.S_IMODE(os.stat(tmp_path / name).st_mode) for name in ("ordinary", "out.png")]
    assert modes[0] == modes[1]


def test_reading_and_writing_in_many_threads(tmp_path):
    def round_trip(index: int) -> bool:
        pixels = np.roll(COLORS, index, axis=1)
        path = tmp_path / f"{index}.{FORMATS[index % len(FORMATS)]}"
        write_image(path, pixels, settings={"index": index})
        with pytest.raises(ImageError, match=f"gone-{index}"):
            read_image(tmp_path / f"gone-{index}.png")
        close = difference(read_image(path).luma, luma_of(pixels)) <= 12
        return close and read_settings(path) == {"index": index}

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(round_trip, range(60)))


def test_tiff_keeps_what_it_says_of_the_photograph(tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Artist] = "A. Photographer"
    exif[ExifTags.Base.DateTime] = "1931:05:02 10:00:00"
    Image.new("L", (20, 10), 90).save(tmp_path / "scan.tif", exif=exif, dpi=(300, 300))
    photo = read_image(tmp_path / "scan.tif")
    assert photo.dpi == (300, 300)
    for suffix in (".png", ".jpg"):
        write_image(tmp_path / f"out{suffix}", np.full((10, 20, 3), 90, np.uint8), source=photo)
        with Image.open(tmp_path / f"out{suffix}") as image:
            kept = image.getexif()
            assert kept[ExifTags.Base.Artist] == "A. Photographer"
            assert kept[ExifTags.Base.DateTime] == "1931:05:02 10:00:00"


def test_luma_weights_are_the_library_wide_ones():
    assert _LUMA_WEIGHTS == tuple(round(weight * 65536) for weight in LUMA_WEIGHTS)
