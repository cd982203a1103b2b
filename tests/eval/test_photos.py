"""Photographs to evaluate on: where they come from, and what they are called."""

import hashlib
import io
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from conftest import EXAMPLES
from PIL import Image

from colorization.errors import ColorizationWarning
from eval.photos import NamedPhoto, decode, is_validation, list_photos, load_photos, photo_seed, set_name


def encode(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def gray_photo(luma: int) -> NamedPhoto:
    return NamedPhoto(f"gray {luma}", encode(Image.new("RGB", (12, 8), (luma,) * 3)), "bus")


@pytest.fixture(scope="module")
def photo_folder(tmp_path_factory) -> Path:
    """Five small photographs of two shapes with labels."""
    folder = tmp_path_factory.mktemp("photos") / "small"
    folder.mkdir()
    lines = ["file,caption"]
    for k, path in enumerate(sorted(EXAMPLES.glob("*.jpg"))[:5]):
        Image.open(path).convert("RGB").resize((40, 24) if k % 2 else (24, 40)).save(folder / f"{k}.png")
        lines.append(f"{k}.png,{'thing' if k else 'black swan'}")
    (folder / "index.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def parquet(tmp_path_factory) -> Path:
    """Two shards of 60 rows together."""
    folder = tmp_path_factory.mktemp("data") / "squares"
    folder.mkdir()
    rng = np.random.default_rng(0)
    cells = [encode(Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))) for _ in range(60)]
    for shard, part in enumerate((cells[:30], cells[30:])):
        columns = {"image": [{"bytes": cell, "path": None} for cell in part], "label": ["noise"] * len(part)}
        pyarrow.parquet.write_table(pyarrow.table(columns), folder / f"train-{shard:05d}.parquet")
    return folder


def test_photos_of_a_folder_have_names_and_captions(photo_folder):
    photos = load_photos(str(photo_folder))
    assert [photo.id for photo in photos] == ["0", "1", "2", "3", "4"]
    assert [photo.label for photo in photos][:2] == ["black swan", "thing"]
    assert photos[1].pixels().shape == (24, 40, 3)
    assert set_name(str(photo_folder)) == "small"


def test_photos_of_parquet_files(parquet):
    spec = str(parquet / "train-*.parquet")
    photos = load_photos(spec)
    assert len(photos) == 60 and photos[30].id == "train-00001-0" and photos[0].label == "noise"
    assert photos[0].pixels().shape == (4, 4, 3)
    assert set_name(spec) == set_name(str(parquet / "train-00000.parquet")) == "squares-train"


def test_held_out_rows_are_those_whose_digest_is_divisible_by_20(parquet):
    spec = str(parquet / "train-*.parquet")
    expected = [p for p in load_photos(spec) if int.from_bytes(hashlib.sha256(p.data).digest(), "big") % 20 == 0]
    assert 0 < len(expected) < 10
    assert load_photos(spec + ":validation") == expected
    assert set_name(spec + ":validation") == "squares-train-held-out"
    assert is_validation("0" * 62 + "28") and not is_validation("0" * 62 + "29")  # hexadecimal 40 and 41


def test_a_limit_takes_the_same_photos_wherever_they_are_stored(parquet):
    photos = load_photos(str(parquet / "train-*.parquet"), limit=10)
    everything = load_photos(str(parquet / "train-*.parquet"))
    smallest = sorted(photo.digest for photo in everything)[:10]
    assert photos == [photo for photo in everything if photo.digest in smallest]


def test_each_photo_has_its_own_seed():
    first, second = gray_photo(10), gray_photo(20)
    assert photo_seed(0, first) == photo_seed(0, first) < 2**63
    assert len({photo_seed(0, first), photo_seed(0, second), photo_seed(1, first)}) == 3


def test_photos_that_are_not_there_are_an_error(tmp_path):
    with pytest.raises(ValueError, match="no photographs found"):
        load_photos(str(tmp_path))
    with pytest.raises(ValueError, match="no photographs found"):
        load_photos(str(tmp_path / "none-*.parquet"))
    (tmp_path / "bad.parquet").write_bytes(b"no parquet")
    with pytest.raises(ValueError, match="bad.parquet: cannot be read as parquet"):
        load_photos(str(tmp_path / "bad.parquet"))
    pyarrow.parquet.write_table(pyarrow.table({"label": ["cat"]}), tmp_path / "bare.parquet")
    with pytest.raises(ValueError, match="has no column 'image'"):
        load_photos(str(tmp_path / "bare.parquet"))


def test_a_kind_may_be_left_out_or_named(photo_folder, parquet):
    assert load_photos(f"imagefolder:{photo_folder}") == load_photos(str(photo_folder))
    assert set_name(f"imagefolder:{photo_folder}") == "small"
    spec = f"{parquet}/train-*.parquet"
    assert load_photos(f"parquet:{spec}:validation") == load_photos(f"{spec}:validation")
    assert set_name(f"parquet:{spec}:validation") == "squares-train-held-out"


def test_the_validation_split_of_a_folder(tmp_path):
    rng = np.random.default_rng(0)
    for k in range(60):
        Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)).save(tmp_path / f"{k}.png")
    held_out = [photo for photo in load_photos(str(tmp_path)) if is_validation(photo.digest)]
    assert 0 < len(held_out) < 10 and load_photos(f"{tmp_path}:validation") == held_out
    assert list_photos(f"imagefolder:{tmp_path}:validation").name == f"{tmp_path.name}-held-out"


def test_labels_of_listed_photographs(photo_folder, parquet):
    assert [source.label for source in list_photos(f"imagefolder:{photo_folder}").sources][:2] == [
        "black swan",
        "thing",
    ]
    assert {source.label for source in list_photos(f"parquet:{parquet}/*.parquet").sources} == {"noise"}
    pyarrow.parquet.write_table(pyarrow.table({"image": [b"x"], "label": [7]}), parquet / "number.parquet")
    assert [source.label for source in list_photos(f"parquet:{parquet}/number.parquet").sources] == [""]


def test_every_kind_of_photograph_is_listed_and_what_is_left_out_is_named(tmp_path):
    picture = Image.fromarray(np.tile(np.linspace(0, 255, 16, dtype=np.uint8), (8, 1)))
    for name in ("a.tif", "b.avif", "c.GIF", "d.bmp", "e.jpe"):
        picture.save(tmp_path / name)
    for name in ("._a.tif", "f.heic", "notes.txt"):
        (tmp_path / name).write_bytes(b"?")
    with pytest.warns(ColorizationWarning, match=r"left out: 1 \.heic file") as caught:
        photos = list_photos(f"imagefolder:{tmp_path}")
    assert [source.id for source in photos.sources] == ["a", "b", "c", "d", "e"] and len(caught) == 1
    for source in photos.sources:
        assert abs(source.load().pixels()[..., 0].astype(int) - np.asarray(picture)).max() < 12


def test_sixteen_bits_are_scaled_to_eight(tmp_path):
    levels = np.arange(0, 65536, 257, dtype=np.uint16).reshape(16, 16)
    Image.fromarray(levels).save(tmp_path / "a.tif")
    np.testing.assert_array_equal(decode(tmp_path / "a.tif")[..., 1], levels // 257)


@pytest.mark.parametrize("suffix", ["png", "avif"])
def test_whatever_a_decoder_stumbles_over_is_one_line_with_the_name(tmp_path, suffix):
    buffer = io.BytesIO()
    Image.effect_noise((40, 40), 60).save(buffer, suffix)
    damaged = buffer.getvalue().replace(b"IDAT", b"IDAX").replace(b"iloc", b"free")
    (tmp_path / f"a.{suffix}").write_bytes(damaged)
    with pytest.raises(ValueError, match=f"a.{suffix}: cannot be decoded: ") as caught:
        decode(tmp_path / f"a.{suffix}")
    assert "\n" not in str(caught.value)
