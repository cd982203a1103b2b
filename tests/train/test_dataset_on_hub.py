"""A data set that is built, pushed to a Hub on loopback and loaded back in a fresh process."""

import hashlib
import json
import shutil
from pathlib import Path

import processes
from conftest import EXAMPLES
from hub_server import hub_server

ROOT = Path(__file__).parents[2]
LOAD = """
import hashlib, json
from datasets import Image, load_dataset

splits = load_dataset("user/photos")
facts = {"splits": {name: len(split) for name, split in splits.items()}}
rows = splits["train"].cast_column("image", Image(decode=False))
facts["sha256"] = sorted(hashlib.sha256(row["image"]["bytes"]).hexdigest() for row in rows)
facts["captions"] = list(rows["caption"])
facts["labels"] = rows.features["label"].names
facts["size"] = splits["train"][0]["image"].size
print(json.dumps(facts))
"""


def test_push_and_load_back(tmp_path):
    photos = tmp_path / "photos" / "train"
    files = sorted(EXAMPLES.glob("*.jpg"))[:4]
    for file, label in zip(files, ["cat", "cat", "dog", "dog"], strict=True):
        (photos / label).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, photos / label / file.name)
    with hub_server() as hub:
        environment = hub.environment(tmp_path / "home", hub.token) | {"OMP_NUM_THREADS": "1"}
        build = [
            *("-m", "train.build_dataset", "--source", tmp_path / "photos"),
            *("--captioner", "palette", "--min-saturation", "0", "--license", "cc0-1.0"),
            *("--output", tmp_path / "built", "--push-to-hub", "user/photos"),
        ]
        built = processes.run(*build, cwd=ROOT, env=environment)
        assert built.returncode == 0, built.stderr
        assert hub.token not in built.stdout + built.stderr
        card = hub.repos["datasets", "user/photos"].files()["README.md"].decode()
        assert "cc0-1.0" in card and str(tmp_path) not in card
        home = hub.environment(tmp_path / "other-home")  # it is public: no token
        loaded = processes.run("-c", LOAD, cwd=tmp_path, env=home)
        assert loaded.returncode == 0, loaded.stderr
    facts = json.loads(loaded.stdout.splitlines()[-1])
    assert facts["splits"] == {"train": 4} and facts["labels"] == ["cat", "dog"]
    assert facts["sha256"] == sorted(hashlib.sha256(file.read_bytes()).hexdigest() for file in files)
    assert all(facts["captions"])
