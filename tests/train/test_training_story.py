"""The whole way of an adapter, as a user goes it: train, be killed, go on, publish, color a photograph."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import processes
import torch
from conftest import EXAMPLES
from hub_server import hub_server
from PIL import Image
from safetensors.torch import load_file

from colorization.image_io import read_settings

ROOT = Path(__file__).parents[2]
PHOTO = sorted(EXAMPLES.glob("*.jpg"))[0]
LORA_FILE = "pytorch_lora_weights.safetensors"


def train(run: Path) -> list[str]:
    return ["-m", "train.lora", "--config", "smoke", "--output-dir", str(run)]


def test_train_kill_resume_publish_color(tmp_path):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}

    # 1. A run that nothing disturbs: trained, validated, with checkpoints
    whole = tmp_path / "whole"
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "1", "--cpu"]
    subprocess.run([*launch, *train(whole)], cwd=ROOT, env=environment, check=True)
    assert sorted(path.name for path in whole.glob("checkpoint-*")) == ["checkpoint-000004", "checkpoint-000006"]
    assert sorted(path.name for path in (whole / "validation").iterdir()) == ["step-000003.jpg", "step-000006.jpg"]
    with Image.open(whole / "validation" / "step-000006.jpg") as grid:
        assert grid.size == (3 * 192, 2 * 192)

    # 2. The same, killed after its first checkpoint
    killed = tmp_path / "killed"
    process = processes.start(*train(killed), cwd=ROOT, env=environment)
    deadline = time.monotonic() + 120
    while not (killed / "checkpoint-000002").is_dir() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (killed / "checkpoint-000002").is_dir() and not (killed / "adapter").exists()

    # 3. The same command again goes on, to the same bits
    again = processes.run(*train(killed), cwd=ROOT, env=environment)
    assert again.returncode == 0, again.stderr
    for name in (LORA_FILE, "conv_in.safetensors"):
        first, second = load_file(whole / "adapter" / name), load_file(killed / "adapter" / name)
        assert first.keys() == second.keys()
        assert all(torch.equal(first[key], second[key]) for key in first)

    # 4. Published, and fetched by its name to color a photograph
    with hub_server() as hub:
        environment = hub.environment(tmp_path / "home", hub.token) | {"OMP_NUM_THREADS": "1"}
        publish = ["-m", "train.publish", killed, "--repo", "user/smoke"]
        color = ["-m", "colorization", PHOTO, "--steps", "2", "--format", "png", "--output"]
        adapter = ["--adapter", "user/smoke"]
        for command in (publish, [*color, tmp_path / "plain"], [*color, tmp_path / "adapted", *adapter]):
            done = processes.run(*command, cwd=ROOT, env=environment)
            assert done.returncode == 0, done.stderr
    plain, adapted = (tmp_path / name / f"{PHOTO.stem}.png" for name in ("plain", "adapted"))
    settings = read_settings(adapted)
    assert settings["adapter"] == "user/smoke"
    assert settings["adapter_revision"] == hub.repos["models", "user/smoke"].branches["main"]
    with Image.open(plain) as first, Image.open(adapted) as second, Image.open(PHOTO) as original:
        assert first.size == second.size == original.size
        assert not np.array_equal(np.asarray(first), np.asarray(second))
        luma = np.asarray(original.convert("L"), dtype=int)
        assert np.abs(np.asarray(second.convert("L"), dtype=int) - luma).max() <= 1
