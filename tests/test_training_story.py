"""The whole way of an adapter, as a user goes it: train, be killed, go on, publish, color a photograph."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from conftest import EXAMPLES
from hub_server import hub_server
from PIL import Image
from safetensors.torch import load_file

from colorization.image_io import read_settings

ROOT = Path(__file__).parent.parent
PHOTO = sorted(EXAMPLES.glob("*.jpg"))[0]
LORA_FILE = "pytorch_lora_weights.safetensors"


def launch(run: Path) -> list[str]:
    """accelerate launch -m train.lora --config smoke --output-dir RUN"""
    accelerate = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "1", "--cpu"]
    return [*accelerate, "-m", "train.lora", "--config", "smoke", "--output-dir", str(run)]


def test_train_kill_resume_publish_color(tmp_path):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}

    # 1. A run that nothing disturbs: trained, validated, with checkpoints
    whole = tmp_path / "whole"
    subprocess.run(launch(whole), cwd=ROOT, env=environment, check=True)
    assert sorted(path.name for path in whole.glob("checkpoint-*")) == ["checkpoint-000004", "checkpoint-000006"]
    assert sorted(path.name for path in (whole / "validation").iterdir()) == ["step-000003.jpg", "step-000006.jpg"]
    with Image.open(whole / "validation" / "step-000006.jpg") as grid:
        assert grid.size == (3 * 192, 2 * 192)

    # 2. The same, killed after its first checkpoint
    killed = tmp_path / "killed"
    process = subprocess.Popen(launch(killed), cwd=ROOT, env=environment, start_new_session=True)
    deadline = time.monotonic() + 120
    while not (killed / "checkpoint-000002").is_dir() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert (killed / "checkpoint-000002").is_dir() and not (killed / "adapter").exists()

    # 3. The same command again goes on, to the same bits
    subprocess.run(launch(killed), cwd=ROOT, env=environment, check=True)
    for name in (LORA_FILE, "conv_in.safetensors"):
        first, second = load_file(whole / "adapter" / name), load_file(killed / "adapter" / name)
        assert first.keys() == second.keys()
        assert all(torch.equal(first[key], second[key]) for key in first)

    # 4. Published, and fetched by its name to color a photograph
    with hub_server() as hub:
        environment = hub.environment(tmp_path / "home", hub.token) | {"OMP_NUM_THREADS": "1"}
        publish = [sys.executable, "-m", "train.publish", str(killed), "--repo", "user/smoke"]
        subprocess.run(publish, cwd=ROOT, env=environment, check=True)
        color = [sys.executable, "-m", "colorization", str(PHOTO), "--output", str(tmp_path / "colored")]
        for extra in ([], ["--adapter", "user/smoke"]):
            name = "adapted" if extra else "plain"
            flags = ["--steps", "2", "--format", "png", "--output", str(tmp_path / name), *extra]
            subprocess.run([*color, *flags], cwd=ROOT, env=environment, check=True)
    plain, adapted = (tmp_path / name / f"{PHOTO.stem}.png" for name in ("plain", "adapted"))
    settings = read_settings(adapted)
    assert settings["adapter"] == "user/smoke"
    assert settings["adapter_revision"] == hub.repos["models", "user/smoke"].branches["main"]
    with Image.open(plain) as first, Image.open(adapted) as second, Image.open(PHOTO) as original:
        assert first.size == second.size == original.size
        assert not np.array_equal(np.asarray(first), np.asarray(second))
        luma = np.asarray(original.convert("L"), dtype=int)
        assert np.abs(np.asarray(second.convert("L"), dtype=int) - luma).max() <= 1
