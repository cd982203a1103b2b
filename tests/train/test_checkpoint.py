"""Checkpoints that a full disk or a power cut has damaged."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from train.checkpoint import STATE_FILE, WEIGHTS_FILE, damage, find_checkpoint, list_checkpoints, set_aside

FILES = (STATE_FILE, WEIGHTS_FILE, "optimizer.bin", "random_states_0.pkl")


@pytest.fixture
def run_folder(tmp_path) -> Path:
    """Two checkpoints with the files that accelerate writes."""
    for step in (1, 2):
        folder = tmp_path / f"checkpoint-{step:06d}"
        folder.mkdir()
        (folder / STATE_FILE).write_text(json.dumps({"step": step}))
        save_file({"weight": torch.arange(100.0)}, folder / WEIGHTS_FILE)
        for name in FILES[2:]:
            torch.save({"state": torch.arange(100.0)}, folder / name)
    return tmp_path


def empty(file: Path) -> None:
    file.write_bytes(b"")


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-9])


def lose(file: Path) -> None:
    file.unlink()


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("harm", [empty, cut])
def test_a_damaged_newest_checkpoint_gives_way_to_the_one_before(run_folder, capsys, name, harm):
    first, second = list_checkpoints(run_folder)
    assert damage(second) is None and find_checkpoint(run_folder, None) == second
    harm(second / name)
    assert damage(second).startswith(f"{second / name}: ")
    for resume in (None, "latest"):
        assert find_checkpoint(run_folder, resume) == first
    with pytest.raises(ValueError, match="`--resume` .* is damaged: .*" + name):
        find_checkpoint(run_folder, str(second))
    set_aside(run_folder, first)
    assert list_checkpoints(run_folder) == [first] and (run_folder / "checkpoint-000002.damaged").is_dir()
    said = capsys.readouterr().err
    assert said.startswith(f"warning: {second / name}: ") and f"going on from {first}" in said


@pytest.mark.parametrize("name", FILES[:2])
def test_a_lost_file_is_damage(run_folder, name):
    first, second = list_checkpoints(run_folder)
    lose(second / name)
    assert find_checkpoint(run_folder, None) == first


def test_where_no_checkpoint_is_whole_none_is_thrown_away(run_folder):
    for checkpoint in list_checkpoints(run_folder):
        empty(checkpoint / WEIGHTS_FILE)
    with pytest.raises(ValueError, match="no checkpoint is whole .*the file is empty.*: remove them to begin anew"):
        find_checkpoint(run_folder, None)
    assert len(list_checkpoints(run_folder)) == 2
