"""Damaged files of every kind, seeded: each is read or refused in one line that names it, and nothing else happens."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import colorize, random_photo

from colorization.image_io import list_pages, read_image
from colorization.in_memory import open_picture
from colorization.photo import ImageError

FILES = 300  # of each kind of damage
FORMATS = {
    "JPEG": {},
    "PNG": {},
    "WEBP": {},
    "TIFF": {"compression": "tiff_lzw"},
    "GIF": {},
    "BMP": {},
    "PPM": {},
    "AVIF": {"speed": 10},
}


def flip_bits(data: bytearray, rng: np.random.Generator) -> None:
    for place in rng.integers(0, len(data), 20):
        data[place] ^= 1 << rng.integers(0, 8)


def flip_head(data: bytearray, rng: np.random.Generator) -> None:
    data[rng.integers(0, min(len(data), 200))] ^= 1 << rng.integers(0, 8)


def overwrite(data: bytearray, rng: np.random.Generator) -> None:
    start = rng.integers(0, len(data))
    data[start : start + 64] = rng.bytes(len(data[start : start + 64]))


def fill(value: int) -> Callable:
    def damage(data: bytearray, rng: np.random.Generator) -> None:
        start = rng.integers(0, len(data))
        data[start : start + 256] = bytes([value]) * len(data[start : start + 256])

    return damage


def cut(data: bytearray, rng: np.random.Generator) -> None:
    del data[rng.integers(1, len(data)) :]


def cut_middle(data: bytearray, rng: np.random.Generator) -> None:
    start = rng.integers(0, len(data))
    del data[start : start + rng.integers(1, 100)]


def insert(data: bytearray, rng: np.random.Generator) -> None:
    start = rng.integers(0, len(data))
    data[start:start] = rng.bytes(rng.integers(1, 100))


def repeat(data: bytearray, rng: np.random.Generator) -> None:
    start = rng.integers(0, len(data))
    data[start:start] = data[start : start + 128]


def swap(data: bytearray, rng: np.random.Generator) -> None:
    first, second = sorted(rng.integers(0, len(data), 2))
    data[:] = data[:first] + data[second:] + data[first:second]


def large_number(data: bytearray, rng: np.random.Generator) -> None:
    start = rng.integers(0, min(len(data), 400))
    data[start : start + 4] = b"\xff\xff\xff\x7f"


def append(data: bytearray, rng: np.random.Generator) -> None:
    data += rng.bytes(500)


DAMAGE = {
    "flipped bits": flip_bits,
    "a flipped bit in the header": flip_head,
    "noise": overwrite,
    "zeros": fill(0),
    "ones": fill(255),
    "cut short": cut,
    "a hole": cut_middle,
    "an insertion": insert,
    "a repetition": repeat,
    "parts in another order": swap,
    "a large number": large_number,
    "something behind the end": append,
}


def damaged_file(folder: Path, kind: str, number: int) -> Path:
    name, options = list(FORMATS.items())[number % len(FORMATS)]
    buffer = io.BytesIO()
    photo = random_photo(40, 28, seed=number)
    (photo if number % 3 else photo.convert("RGB")).save(buffer, name, **options)
    data, rng = bytearray(buffer.getvalue()), np.random.default_rng([number, list(DAMAGE).index(kind)])
    DAMAGE[kind](data, rng)
    file = folder / f"{kind} {number}.{name.lower()}"
    file.write_bytes(data)
    return file


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Pillow's, of what it goes on in spite of
@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_file_is_read_or_refused_in_one_line(tmp_path, kind):
    for number in range(FILES):
        file = damaged_file(tmp_path, kind, number)
        try:
            for page in list_pages(file):
                assert read_image(file, max_pixels=10**7, page=page).luma.size
        except ImageError as error:
            assert str(error).startswith(f"{file}: ") and "\n" not in str(error)
        try:
            open_picture(io.BytesIO(file.read_bytes()))
        except ImageError as error:
            assert "\n" not in str(error)


@pytest.mark.slow
@pytest.mark.usefixtures("loaded_once")
def test_the_command_names_damaged_files_and_does_the_rest(tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(FILES // 3):
        damaged_file(folder, list(DAMAGE)[number % len(DAMAGE)], number)
    assert colorize(folder, "--output", tmp_path / "out", "--max-pixels", 10**7) in (0, 1)
    said = capsys.readouterr()
    assert "unexpected" not in said.err and "Traceback" not in said.err
    assert not list((tmp_path / "out").glob("*.tmp"))
