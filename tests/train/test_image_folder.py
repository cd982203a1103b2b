"""Folders of images: nothing dropped without a word, captions wherever people write them."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import random_photo

from colorization.errors import ColorizationWarning
from train.config import DataConfig
from train.data import load_photos
from train.sources import load_source, own_caption


@pytest.fixture
def album(tmp_path) -> Path:
    """Three photographs, a.jpg, b.jpg and c.png."""
    for seed, name in enumerate(("a.jpg", "b.jpg", "c.png")):
        random_photo(seed=seed).convert("RGB").save(tmp_path / name)
    return tmp_path


def captions(folder: Path, column: str = "caption") -> dict[str, str]:
    """Captions that a training reads, by file name."""
    photos, _ = load_photos(DataConfig(sources=[str(folder)], holdout=0, caption_column=column))
    names = [Path(photos.parts[part][row]["image"]["path"]).name for part, row in photos.rows]
    return dict(zip(names, photos.captions, strict=True))


def test_what_is_left_out_is_named_a_line_for_each_suffix(album):
    for name in ("d.heic", "e.HEIC", "f.nef", "notes.txt", "._a.jpg"):
        (album / name).write_bytes(b"?")
    with pytest.warns(ColorizationWarning) as caught:
        assert len(load_source(str(album))["train"]) == 3
    assert [str(warning.message) for warning in caught] == [
        f"{album}: left out: 2 .heic files (not supported, convert them to PNG or JPEG)",
        f"{album}: left out: 1 .nef file (not supported, convert them to PNG or JPEG)",
    ]


def test_photographs_that_the_metadata_do_not_list_stay_and_are_named(album):
    (album / "metadata.csv").write_text("file_name,caption\nb.jpg,cat\nz.jpg,gone\na.jpg,dog\n")
    with pytest.warns(ColorizationWarning) as caught:
        assert captions(album) == {"b.jpg": "cat", "a.jpg": "dog", "c.png": ""}
    said = [str(warning.message) for warning in caught]
    assert any("1 of 3 photographs are not in the metadata and have none, such as c.png" in text for text in said)
    assert any("1 files that the metadata list are not there, such as z.jpg" in text for text in said)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("column", ["caption", "text"])
def test_captions_may_be_called_text_and_be_numbers(album, kind, column):
    rows = [{"file_name": name, column: 1950 + k} for k, name in enumerate(("a.jpg", "b.jpg", "c.png"))]
    if kind == "csv":
        lines = [f"file_name,{column}", *(f"{row['file_name']},{row[column]}" for row in rows)]
        (album / "metadata.csv").write_text("\n".join(lines), encoding="utf-8-sig")  # as spreadsheets write it
    elif kind == "jsonl":
        (album / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    else:
        pq.write_table(pa.Table.from_pylist(rows), album / "metadata.parquet")
    assert captions(album) == {"a.jpg": "1950", "b.jpg": "1951", "c.png": "1952"}


def test_captions_in_text_files(album):
    (album / "a.txt").write_text("a red\n bus\n", encoding="utf-8")
    (album / "b.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.warns(ColorizationWarning, match=r"b\.txt: no caption"):
        assert captions(album) == {"a.jpg": "a red bus", "b.jpg": "", "c.png": ""}


def test_any_column_may_be_the_captions(album):
    (album / "metadata.csv").write_text("file_name,title,year\na.jpg,Crab,1950\nb.jpg,,1951\nc.png,Cat,1952\n")
    with pytest.warns(ColorizationWarning, match="no column of captions .* may name another .*title, year"):
        assert set(captions(album).values()) == {""}
    assert captions(album, "title") == {"a.jpg": "Crab", "b.jpg": "", "c.png": "Cat"}
    with pytest.raises(ValueError, match=r"`data.caption_column` must be a column of .*title, year.*, got 'titel'"):
        captions(album, "titel")


def test_a_table_whose_captions_are_numbers_or_lists(tmp_path):
    data = [(tmp_path / "x.png", random_photo(seed=k)) for k in range(2)]
    cells = []
    for file, photo in data:
        photo.save(file)
        cells.append({"bytes": file.read_bytes(), "path": None})
    for column, values, expected in (("text", [7, 8], ["7", "8"]), ("caption", [["a", "b"], []], ["a", ""])):
        pq.write_table(pa.table({"image": cells, column: values}), tmp_path / "photos.parquet")
        photos, _ = load_photos(DataConfig(sources=[str(tmp_path / "photos.parquet")], holdout=0))
        assert photos.captions == expected
        assert [own_caption({column: value}) for value in values] == expected


@pytest.mark.parametrize("text", ["caption\ncat\n", "file_name,caption\n,cat\n"])
def test_metadata_that_name_no_file_are_refused(album, text):
    (album / "metadata.csv").write_text(text)
    with pytest.raises(ValueError, match=r"metadata.csv: must have a column file_name"):
        load_source(str(album))
