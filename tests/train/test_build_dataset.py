"""The data set command on a small copy of imagenette's shape, with a real BLIP of tiny size."""

import hashlib
import io
import json
import signal
import time
from collections import Counter

import datasets
import numpy as np
import processes
import pyarrow.parquet as pq
import pytest
from PIL import Image
from test_captioning import save_tiny_blip
from test_sources import jpeg, own_cache, write_table  # noqa: F401

from train.build_dataset import main
from train.dataset.measures import Filters, measure
from train.dataset.rows import Captions

NAMES = ["tench", "English springer", "garbage truck"]


def encoded(rgb: np.ndarray, format: str = "JPEG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, format)
    return buffer.getvalue()


def special_images() -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    gray = rng.integers(60, 200, (32, 32, 1), dtype=np.uint8)
    pale = np.clip(gray + np.array([10, 0, -10], np.int16), 0, 255).astype(np.uint8)
    return {"gray": encoded(gray.repeat(3, axis=2)), "unsaturated": encoded(pale), "unreadable": jpeg(99)[:200]}


@pytest.fixture
def source(tmp_path):
    """Parquet in the Hub's layout: 6 colored photographs to train, a gray, a pale and a broken one; 2 to validate."""
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=NAMES)})
    contents = {
        "train": [*(jpeg(seed) for seed in range(4)), *special_images().values(), jpeg(4), jpeg(5)],
        "validation": [jpeg(6), jpeg(7)],
    }
    for name, images in contents.items():
        columns = {
            "image": [{"bytes": data, "path": f"n0{index}.JPEG"} for index, data in enumerate(images)],
            "label": [index % 3 for index in range(len(images))],
        }
        write_table(tmp_path / "source" / "data" / f"{name}-00000-of-00001.parquet", columns, features)
    return tmp_path / "source"


@pytest.fixture(scope="module")
def blip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("blip") / "tiny-blip"
    save_tiny_blip(folder)
    return folder


def run(*arguments) -> int:
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as stop:
        return stop.code


def hashes(split) -> list[str]:
    return [hashlib.sha256(row["image"]["bytes"]).hexdigest() for row in split]


def load(folder) -> datasets.DatasetDict:
    return datasets.load_dataset(str(folder)).cast_column("image", datasets.Image(decode=False))


def captions_written(folder, model) -> Counter:
    """How often each image was captioned, by what all processes wrote down."""
    counts = Counter()
    for file in (folder / ".work" / "findings").glob("*.jsonl"):
        for line in file.read_text().splitlines():
            try:
                key, kind, _ = json.loads(line)
            except ValueError:
                continue
            counts[key] += kind == str(model)
    return +counts


def test_blip_and_palette(source, tmp_path, blip, capsys):
    output = tmp_path / "out"
    status = run("--source", source, "--output", output, "--captioner", f"{blip},palette", "--batch-size", 2)
    shown = capsys.readouterr()
    assert status == 1  # the unreadable one
    assert (
        "failed: train 6: n06.JPEG: " in shown.err
        and "train: 9 read, 1 unreadable, 1 gray, 1 unsaturated" in shown.out
    )

    built, original = load(output), load(source)
    assert set(built) == {"train", "validation"}
    kept = {"train": [0, 1, 2, 3, 7, 8], "validation": [0, 1]}
    for name, split in built.items():
        expected = original[name].select(kept[name])
        assert hashes(split) == hashes(expected)
        assert split["label"] == expected["label"] and split.features["label"] == expected.features["label"]
        assert split.features["image"] == datasets.Image(decode=False)
        for row in split:
            assert ", mostly " in row["caption"] and row["caption_source"] == "tiny-blip+palette"
            assert row["saturation"] >= 0.18 and row["colorfulness"] > 0
    assert datasets.load_dataset(str(output), split="train")[0]["image"].size == (24, 16)
    assert sorted(file.name for file in (output / "data").iterdir()) == [
        "train-00000-of-00001.parquet",
        "validation-00000-of-00001.parquet",
    ]

    report = json.loads((output / "report.json").read_text())
    assert report["splits"]["train"] == {
        "read": 9, "unreadable": 1, "gray": 1, "unsaturated": 1, "not_colorful": 0, "kept": 6
    }  # fmt: skip
    card = (output / "README.md").read_text()
    assert "tiny-blip" in card and "| train | 9 | 1 | 1 | 1 | 0 | 6 |" in card and str(tmp_path) not in card
    assert len(list((output / "pictures").iterdir())) == 3

    # Again: nothing is captioned twice, and the same files come out.
    before = {file.name: file.read_bytes() for file in (output / "data").iterdir()}
    assert run("--source", source, "--output", output, "--captioner", blip, "--captioner", "palette") == 1
    assert set(captions_written(output, blip).values()) == {1} and len(captions_written(output, blip)) == 8
    assert {file.name: file.read_bytes() for file in (output / "data").iterdir()} == before


def test_palette_limit_and_filters(source, tmp_path, capsys):
    output = tmp_path / "out"
    options = ("--source", source, "--output", output, "--captioner", "palette", "--split", "train")
    assert run(*options, "--limit", 2) == 0
    built = load(output)
    assert set(built) == {"train"} and len(built["train"]) == 2
    assert "tench, " in built["train"][0]["caption"] and "english springer, " in built["train"][1]["caption"]
    assert set(built["train"]["caption_source"]) == {"palette"}
    measured = [measure(Image.open(io.BytesIO(jpeg(seed)))) for seed in range(2)]
    np.testing.assert_allclose(built["train"]["colorfulness"], [item["colorfulness"] for item in measured], rtol=1e-6)

    # With a stricter filter one is left.
    limit = np.mean([item["colorfulness"] for item in measured])
    assert run(*options, "--limit", 2, "--min-colorfulness", limit) == 0
    assert len(load(output)["train"]) == 1
    capsys.readouterr()
    assert run(*options, "--limit", 2, "--min-colorfulness", 1000) == 2
    assert "left no photograph of 2" in capsys.readouterr().err
    assert len(load(output)["train"]) == 1  # what was there stays


def test_captions_and_labels_of_the_source(tmp_path):
    columns = {"img": [jpeg(0), jpeg(1)], "caption": ["a cat", None], "label": ["cat", None]}
    write_table(tmp_path / "photos.parquet", columns)
    options = ("--source", tmp_path / "photos.parquet", "--output", tmp_path / "out", "--license", "cc0-1.0")
    assert run(*options, "--captioner", "none") == 0
    split = load(tmp_path / "out")["train"]
    assert split["caption"] == ["a cat", ""] and split["caption_source"] == ["source", "none"]
    assert split["label"] == ["cat", ""] and hashes(split) == [hashlib.sha256(jpeg(k)).hexdigest() for k in range(2)]
    assert "license: cc0-1.0" in (tmp_path / "out" / "README.md").read_text()
    assert run(*options, "--captioner", "palette") == 0
    assert load(tmp_path / "out")["train"][1]["caption"].startswith("mostly ")
    assert run(*options, "--captioner", "forms") == 0
    forms = load(tmp_path / "out")["train"]
    assert forms[0]["caption"].startswith("a cat") and forms[1]["caption"] not in ("", "a cat")
    assert set(forms["caption_source"]) == {"forms"}
    assert "in one of several forms" in (tmp_path / "out" / "README.md").read_text()
    assert run(*options, "--captioner", "forms") == 0
    assert load(tmp_path / "out")["train"]["caption"] == forms["caption"]


def test_folder_of_images(tmp_path):
    for index in range(4):
        file = tmp_path / "photos" / ("cat", "dog")[index % 2] / f"{index}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(jpeg(index))
    assert run("--source", tmp_path / "photos", "--output", tmp_path / "out", "--captioner", "palette") == 0
    split = load(tmp_path / "out")["train"]
    assert split.features["label"].names == ["cat", "dog"]
    assert set(hashes(split)) == {hashlib.sha256(jpeg(index)).hexdigest() for index in range(4)}
    assert str(tmp_path) not in str(pq.read_table(next((tmp_path / "out" / "data").iterdir())).slice(0).to_pylist())


def test_killed_run_goes_on(tmp_path, blip):
    write_table(tmp_path / "train.parquet", {"image": [jpeg(seed) for seed in range(12)]})
    output = tmp_path / "out"
    options = ["--source", str(tmp_path / "train.parquet"), "--output", str(output), "--captioner", str(blip)]
    process = processes.start("-m", "train.build_dataset", *options, "--batch-size", "2")
    while process.poll() is None and len(captions_written(output, blip)) < 4:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = captions_written(output, blip)
    assert 4 <= len(done) < 12 and not (output / "data").exists()
    with open(output / ".work" / "findings" / "00000.jsonl", "ab") as file:
        file.write(b'["cut short when it was ki')
    assert run(*options, "--batch-size", 3) == 0
    assert captions_written(output, blip) == dict.fromkeys(captions_written(output, blip), 1)
    assert len(captions_written(output, blip)) == 12 and len(load(output)["train"]) == 12


def test_bad_arguments(source, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    (tmp_path / "foreign" / "data").mkdir(parents=True)
    good = {"--source": source, "--output": tmp_path / "out", "--captioner": "palette"}
    cases = [
        ({"--source": tmp_path / "missing"}, "no such file or folder"),
        ({"--source": "user/name"}, "Hub cannot be reached"),
        ({"--split": "test"}, "must be among train, validation"),
        ({"--output": tmp_path / "file"}, "is a file"),
        ({"--output": tmp_path / "foreign"}, "did not write"),
        ({"--output": source}, "must not be the source"),
        ({"--captioner": "blip-large,blip-base"}, "only one model"),
        ({"--captioner": "none,palette"}, "cannot be combined"),
        ({"--captioner": "palette,forms"}, "only one of"),
        ({"--captioner": tmp_path / "foreign"}, "cannot load caption model"),
        ({"--min-saturation": "-1"}, "at least 0"),
        ({"--push-to-hub": "user/name"}, ""),
    ]
    for change, message in cases:
        arguments = [part for pair in (good | change).items() for part in pair]
        assert run(*arguments) == 2, change
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert error.startswith("error: ") and message in error, error


def test_verdicts_and_captioner_names():
    filters = Filters(min_colorfulness=15)
    colored = {"channel_difference": 90.0, "saturation": 0.5, "colorfulness": 40.0}
    assert filters.verdict(colored) == "kept"
    assert filters.verdict(colored | {"colorfulness": 14.9}) == "not_colorful"
    assert filters.verdict(colored | {"saturation": 0.17}) == "unsaturated"
    assert filters.verdict(colored | {"channel_difference": 12.0}) == "gray"
    assert Captions.parse(["blip-large", "palette"]) == Captions("Salesforce/blip-image-captioning-large", True)
    assert Captions.parse(["none"]) == Captions()


def test_measures():
    red = measure(Image.new("RGB", (20, 10), (255, 0, 0)))
    assert red["saturation"] == 1 and red["channel_difference"] == 255 and red["palette"] == (("red",), ("red",))
    black = measure(Image.new("RGB", (20, 10)))
    assert black["saturation"] == 0 and black["channel_difference"] == 0 and black["colorfulness"] == 0
