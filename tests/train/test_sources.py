"""Sources of photographs: folders, parquet files, what is refused."""

import io

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from train.sources import UnreadablePhoto, image_bytes, is_local, load_source, open_photo, read_photo


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("cache")))
    datasets.disable_progress_bars()


def jpeg(seed: int, size: tuple[int, int] = (24, 16)) -> bytes:
    """A colored JPEG file."""
    colors = np.random.default_rng(seed).integers(0, 256, (2, 3, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(colors).resize(size).save(buffer, "JPEG")
    return buffer.getvalue()


def contents(split) -> list[bytes]:
    return [image_bytes(row["image"]) for row in split]


def write_table(path, columns: dict, features: datasets.Features | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(columns, schema=features.arrow_schema) if features else pa.table(columns)
    pq.write_table(table, path)


@pytest.mark.parametrize("streaming", [False, True])
def test_folder_with_splits_and_classes(tmp_path, streaming):
    files = {}
    for index, name in enumerate(("train/cat", "train/dog", "validation/cat", "validation/dog")):
        file = tmp_path / name / "one.jpg"
        file.parent.mkdir(parents=True)
        files[name] = jpeg(index)
        file.write_bytes(files[name])
    splits = load_source(str(tmp_path), streaming=streaming)
    assert set(splits) == {"train", "validation"}
    for name, split in splits.items():
        assert split.features["image"] == datasets.Image(decode=False)
        assert split.features["label"].names == ["cat", "dog"]
        assert contents(split) == [files[f"{name}/cat"], files[f"{name}/dog"]]


def test_plain_folder(tmp_path):
    for index in range(3):
        (tmp_path / f"{index}.jpg").write_bytes(jpeg(index))
    (tmp_path / "index.csv").write_text("file,caption\n0.jpg,cat\n")
    splits = load_source(str(tmp_path))
    assert set(splits) == {"train"} and contents(splits["train"]) == [jpeg(0), jpeg(1), jpeg(2)]


@pytest.mark.parametrize(
    "names",
    [
        ["steam train 1950.jpg", "bus.jpg"],
        ["test.jpg", "b.jpg", "train-1.jpg"],
        ["train/a.jpg", "bus/b.jpg", "car/c.jpg"],  # classes
        ["train rides/a.jpg", "test shots/b.jpg"],
        ["valid/a.jpg", "b.jpg"],
        ["album [1950]/a.jpg", "album [1950]/b*.jpg", "what?.jpg"],
    ],
)
@pytest.mark.parametrize("streaming", [False, True])
def test_words_and_signs_in_names_drop_no_photograph(tmp_path, names, streaming):
    folder = tmp_path / "evaluation of [trains]"
    for index, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(jpeg(index))
    (split,) = load_source(str(folder), streaming=streaming).values()
    assert sorted(contents(split)) == sorted(jpeg(index) for index in range(len(names)))


def test_folders_of_splits_may_be_numbered_and_lie_deeper(tmp_path):
    for index, name in enumerate(("images/train2017/a.jpg", "images/val2017/b.jpg", "images/test-2017/c.jpg")):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(jpeg(index))
    (tmp_path / "index.csv").write_text("file,caption\n")
    splits = {name: contents(split) for name, split in load_source(str(tmp_path)).items()}
    assert splits == {"train": [jpeg(0)], "validation": [jpeg(1)], "test": [jpeg(2)]}


def test_hidden_files_are_no_photographs(tmp_path):
    for name in ("a.jpg", "._a.jpg", ".trash/b.jpg", "__MACOSX/c.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(jpeg(0))
    assert len(load_source(str(tmp_path))["train"]) == 1


def test_captions_beside_the_photographs_are_read(tmp_path):
    for index, name in enumerate("ab"):
        (tmp_path / f"{name}.jpg").write_bytes(jpeg(index))
    (tmp_path / "metadata.csv").write_text("file_name,caption\nb.jpg,cat\na.jpg,dog\n")
    split = load_source(str(tmp_path))["train"]
    assert dict(zip(split["caption"], contents(split), strict=True)) == {"dog": jpeg(0), "cat": jpeg(1)}


@pytest.mark.parametrize("damage", ["cut short", "no picture", "chunk", "AVIF"])
def test_why_a_photograph_cannot_be_opened(damage):
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    picture.save(buffer, "AVIF" if damage == "AVIF" else "PNG")
    data = buffer.getvalue()
    damaged = {
        "cut short": data[:200],
        "no picture": b"no picture",
        "chunk": data.replace(b"IDAT", b"IDAX"),
        "AVIF": data.replace(b"iloc", b"free"),
    }[damage]
    assert open_photo(data).size == (40, 40)
    with pytest.raises(UnreadablePhoto) as error:
        open_photo(damaged)
    assert error.value.cause and "\n" not in error.value.cause and "0x" not in error.value.cause
    with pytest.raises(UnreadablePhoto, match="^a.png: "):
        read_photo({"bytes": damaged, "path": "a.png"}, "")
    with pytest.raises(UnreadablePhoto, match="^missing/a.png: No such file"):
        read_photo({"bytes": None, "path": "missing/a.png"}, "row 3")
    with pytest.raises(UnreadablePhoto, match="^row 3: the cell holds no image"):
        read_photo({"bytes": None, "path": None}, "row 3")


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("column", ["image", "img", "jpg", "png", "webp", "picture"])
@pytest.mark.parametrize("kind", ["declared", "struct", "binary"])
def test_image_columns(tmp_path, column, kind, streaming):
    data = [jpeg(0), jpeg(1)]
    cells = data if kind == "binary" else [{"bytes": item, "path": "x.jpg"} for item in data]
    features = datasets.Features({column: datasets.Image(), "caption": datasets.Value("string")})
    columns = {column: cells, "caption": ["cat", "dog"]}
    write_table(tmp_path / "photos.parquet", columns, features if kind == "declared" else None)
    split = load_source(str(tmp_path / "photos.parquet"), streaming=streaming)["train"]
    assert split.features["image"] == datasets.Image(decode=False)
    assert contents(split) == data and [row["caption"] for row in split] == ["cat", "dog"]


def test_parquet_glob_and_hub_layout(tmp_path):
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})
    for name, seeds in (("train-00000-of-00002", [0]), ("train-00001-of-00002", [1]), ("test-00000-of-00001", [2])):
        cells = [{"bytes": jpeg(seed), "path": None} for seed in seeds]
        write_table(tmp_path / "data" / f"{name}.parquet", {"image": cells, "label": [1]}, features)
    (tmp_path / "README.md").write_text("# Photographs\n")
    (tmp_path / "report.json").write_text("{}")
    for source in (tmp_path, tmp_path / "data" / "*.parquet"):
        splits = load_source(str(source))
        assert {name: contents(split) for name, split in splits.items()} == {
            "train": [jpeg(0), jpeg(1)],
            "test": [jpeg(2)],
        }
        assert splits["train"].features["label"].names == ["cat", "dog"]
    write_table(tmp_path / "small" / "train" / "0000.parquet", {"image": [jpeg(3)], "label": [0]})
    assert contents(load_source(str(tmp_path), config="small")["train"]) == [jpeg(3)]


def test_changed_folder_is_read_anew(tmp_path):
    (tmp_path / "README.md").write_text(
        "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: data/train-*.parquet\n---\n"
    )
    for seed in range(2):
        write_table(tmp_path / "data" / "train-00000-of-00001.parquet", {"image": [jpeg(seed)]})
        assert contents(load_source(str(tmp_path))["train"]) == [jpeg(seed)]


def test_what_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no such file or folder"):
        load_source(str(tmp_path / "missing" / "*.parquet"))
    with pytest.raises(ValueError, match="no such file or folder"):
        load_source(str(tmp_path / "missing"))
    with pytest.raises(ValueError, match="neither images nor parquet"):
        load_source(str(tmp_path))
    (tmp_path / "notes.txt").write_text("no photographs")
    with pytest.raises(ValueError, match="expected parquet files or a folder"):
        load_source(str(tmp_path / "notes.txt"))
    (tmp_path / "broken.parquet").write_bytes(b"not parquet")
    with pytest.raises(ValueError, match="broken"):
        load_source(str(tmp_path / "broken.parquet"))
    write_table(tmp_path / "text.parquet", {"caption": ["cat"], "size": [3]})
    with pytest.raises(ValueError, match="no column of images, only caption, size"):
        load_source(str(tmp_path / "text.parquet"))
    for arguments in ({"config": "full_size"}, {"revision": "main"}):
        with pytest.raises(ValueError, match="makes no sense"):
            load_source(str(tmp_path / "text.parquet"), **arguments)
    with pytest.raises(OSError, match="holds no image"):
        image_bytes({"bytes": None, "path": None})


def test_hub_without_network():
    assert not is_local("frgfm/imagenette") and is_local("./photos") and is_local("data/*.parquet")
    for source in ("frgfm/imagenette", "user/name"):
        with pytest.raises(OSError, match="HF_HUB_OFFLINE is set"):
            load_source(source)
