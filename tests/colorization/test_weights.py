"""Weights damaged by a stopped download, a clone without Git LFS or a full disk: one line with file and cause."""

import shutil
from pathlib import Path

import pytest
import torch
from conftest import add_random_lora, tiny_pipeline
from safetensors.torch import save_file

from colorization import load_pipeline, save_adapter
from colorization.adapters import CONV_IN_FILE, LORA_FILE
from colorization.captioning import load_captioner
from colorization.errors import ModelLoadError
from colorization.loading import EMBEDDED_DIRECTORY
from colorization.weights import check_folder, fault_of, read_weights

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:%064d\nsize 34567890\n" % 0
PARTS = sorted(file.relative_to(EMBEDDED_DIRECTORY).as_posix() for file in EMBEDDED_DIRECTORY.glob("*/*.safetensors"))


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> bytes:
    file = tmp_path_factory.mktemp("weights") / "a.safetensors"
    save_file({"weight": torch.arange(10.0), "bias": torch.ones(3)}, file, metadata={"format": "pt"})
    assert fault_of(file) is None
    return file.read_bytes()


@pytest.mark.parametrize(
    ("damage", "cause"),
    [
        (lambda data: b"", "the file is empty"),
        (lambda data: POINTER, "is a Git LFS pointer, not the weights: `git lfs pull` fetches them"),
        (lambda data: data[:5], "is cut short or damaged|is damaged|is cut short"),
        (lambda data: data[:40], "is cut short"),
        (lambda data: data[:-1], "is cut short or damaged"),
        (lambda data: data + b"\0", "is cut short or damaged"),
        (lambda data: data[:8] + b"?" + data[9:], "is damaged: its header cannot be read"),
        (lambda data: b"\x80\x02" * 200, "is no safetensors file"),
    ],
)
def test_damage_is_named_with_file_and_cause(tmp_path, weights, damage, cause):
    file = tmp_path / "conv_in.safetensors"
    file.write_bytes(damage(weights))
    for check in (lambda: read_weights(file), lambda: check_folder(tmp_path)):
        with pytest.raises(ModelLoadError, match=f"{file}: ({cause})"):
            check()


def test_a_missing_file(tmp_path):
    with pytest.raises(ModelLoadError, match="No such file or directory"):
        read_weights(tmp_path / "none.safetensors")


@pytest.mark.parametrize("part", PARTS)
def test_every_part_of_a_model(tmp_path, part):
    folder = tmp_path / "model"
    shutil.copytree(EMBEDDED_DIRECTORY, folder)
    (folder / part).write_bytes(POINTER)
    with pytest.raises(ModelLoadError, match=f"cannot load model .*{folder / part}: is a Git LFS pointer"):
        load_pipeline(folder, device="cpu")


@pytest.mark.parametrize("name", ["tokenizer/tokenizer.json", "unet/config.json", "model_index.json"])
def test_other_files_of_a_model(tmp_path, name):
    folder = tmp_path / "model"
    shutil.copytree(EMBEDDED_DIRECTORY, folder)
    (folder / name).write_bytes(b"{")
    with pytest.raises(ModelLoadError) as caught:
        load_pipeline(folder, device="cpu")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [LORA_FILE, CONV_IN_FILE])
def test_every_part_of_an_adapter(tmp_path, stock_sd_folder, name):
    pipeline = tiny_pipeline(in_channels=8, noise_scale=0.5)
    add_random_lora(pipeline)
    save_adapter(pipeline, tmp_path)
    file: Path = tmp_path / name
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(ModelLoadError, match=f"{file}: is cut short"):
        load_pipeline(stock_sd_folder, adapter=tmp_path, device="cpu")


def test_a_caption_model(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(POINTER)
    with pytest.raises(ModelLoadError, match="is a Git LFS pointer"):
        load_captioner(tmp_path)
