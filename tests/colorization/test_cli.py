"""The command line: what it colors, where results go, what it says and its exit status."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import naming_pipeline, random_photo, results
from PIL import Image

from colorization import batch_run
from colorization.cli import main
from colorization.files import Report, Task
from colorization.image_io import read_settings

FAST = ["--steps", "1", "--device", "cpu"]


pytestmark = pytest.mark.usefixtures("loaded_once")


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two photographs, a nested one and a text file."""
    folder = tmp_path / "album"
    (folder / "deep").mkdir(parents=True)
    random_photo(64, 48, seed=1).save(folder / "one.png")
    random_photo(48, 64, seed=2).save(folder / "two.jpg")
    random_photo(50, 50, seed=3).save(folder / "deep" / "three.tif")
    (folder / "notes.txt").write_text("not a picture")
    return folder


def run(*arguments: str | Path) -> int:
    """Exit status of the command in this process."""
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as stop:
        return stop.code


def test_help_shows_examples_and_loads_nothing_heavy():
    code = "import sys, colorization.cli as c; c.build_parser().format_help(); print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "diffusers", "transformers", "numpy"} & set(modules)
    shown = subprocess.run(
        [sys.executable, "-m", "colorization", "--help"], capture_output=True, text=True, check=True
    )
    assert "examples:" in shown.stdout and "exit status:" in shown.stdout


def test_folder(folder, tmp_path, capsys):
    output = tmp_path / "out"
    assert run(folder, "--output", output, *FAST) == 0
    assert results(output) == {"one.png", "two.jpg"}  # formats are kept
    with Image.open(output / "one.png") as image:
        assert image.size == (64, 48) and image.mode == "RGB"
        assert np.ptp(np.array(image).astype(int), axis=2).max() > 0  # in color
    assert "2 colored, 0 skipped (already there), 0 failed" in capsys.readouterr().out


def test_recursive_keeps_sub_folders_and_format_is_a_choice(folder, tmp_path):
    output = tmp_path / "out"
    assert run(folder, "--output", output, "--recursive", "--format", "webp", *FAST) == 0
    assert results(output) == {"one.webp", "two.webp", "deep/three.webp"}


def test_files_and_globs(folder, tmp_path):
    output = tmp_path / "out"
    assert run(folder / "two.jpg", folder / "*.png", folder / "deep" / "three.tif", "--output", output, *FAST) == 0
    assert results(output) == {"one.png", "two.jpg", "three.png"}  # TIFF becomes PNG


def test_name_that_looks_like_a_glob(folder, tmp_path):
    shutil.copy(folder / "one.png", folder / "one [1].png")
    assert run(folder / "one [1].png", "--output", tmp_path / "out", *FAST) == 0
    assert results(tmp_path / "out") == {"one [1].png"}


def test_output_inside_the_input_is_not_an_input(folder):
    output = folder / "colored"
    for _ in range(2):
        assert run(folder, "--output", output, "--recursive", *FAST) == 0
    assert results(output) == {"one.png", "two.jpg", "deep/three.png"}


def test_settings_reach_the_model_and_the_metadata(folder, tmp_path):
    call = [folder / "one.png", "--output", tmp_path / "out", "--prompt", "red bus", "--negative-prompt", "blue"]
    call += ["--guidance-scale", "3", "--color-scale", "0.5", "--seed", "7", "--batch-size", "1", "--steps", "2"]
    assert run(*call) == 0
    settings = read_settings(tmp_path / "out" / "one.png")
    expected = {
        "model": "embedded",
        "prompt": "red bus",
        "negative_prompt": "blue",
        "num_inference_steps": 2,
        "guidance_scale": 3,
        "color_scale": 0.5,
        "color_scale_space": "chroma",
        "sampler": "euler",
        "seed": 7,
    }
    assert {name: settings[name] for name in expected} == expected


def test_finished_results_are_skipped_unless_overwritten(folder, tmp_path, capsys):
    output = tmp_path / "out"
    assert run(folder, "--output", output, *FAST) == 0
    before = {file: file.stat().st_mtime_ns for file in output.iterdir()}
    assert run(folder, "--output", output, *FAST) == 0
    assert "0 colored, 2 skipped" in capsys.readouterr().out
    assert {file: file.stat().st_mtime_ns for file in output.iterdir()} == before
    assert run(folder, "--output", output, "--overwrite", *FAST) == 0
    assert all(file.stat().st_mtime_ns > before[file] for file in output.iterdir())


def test_bad_files_are_named_and_the_rest_is_done(folder, tmp_path, capsys):
    (folder / "empty.png").touch()
    (folder / "truncated.jpg").write_bytes((folder / "two.jpg").read_bytes()[:-200])
    shutil.copy(folder / "notes.txt", folder / "text.jpg")
    output = tmp_path / "out"
    assert run(folder, folder / "missing.jpg", "--output", output, *FAST) == 1
    printed = capsys.readouterr()
    for name in ("empty.png", "truncated.jpg", "text.jpg", "missing.jpg"):
        assert printed.err.count(f"failed: {folder / name}: ") == 1
    assert "2 colored, 0 skipped (already there), 4 failed" in printed.out
    assert results(output) == {"one.png", "two.jpg"}  # and nothing half-written


def test_batches_of_mixed_shapes_equal_single_photographs(tmp_path):
    """More photographs than a batch, in shapes that alternate: the same results as one by one."""
    folder = tmp_path / "in"
    folder.mkdir()
    for k in range(7):
        random_photo(*((90, 60) if k % 2 else (60, 90)), seed=k).save(folder / f"{k}.png")
    for name, size in (("batched", 3), ("single", 1)):
        assert run(folder, "--output", tmp_path / name, "--batch-size", size, "--steps", 2, "--device", "cpu") == 0
    for k in range(7):
        pictures = [np.array(Image.open(tmp_path / name / f"{k}.png")).astype(int) for name in ("batched", "single")]
        difference = np.abs(pictures[0] - pictures[1])
        assert difference.max() <= 1 and (difference > 0).sum() <= 2


def test_two_inputs_of_one_name(folder, tmp_path, capsys):
    shutil.copy(folder / "one.png", folder / "deep" / "one.png")
    assert run(folder / "one.png", folder / "deep" / "one.png", "--output", tmp_path / "out", *FAST) == 1
    assert "its result would have the same name as that of" in capsys.readouterr().err


def test_input_is_never_overwritten(folder, capsys):
    before = (folder / "one.png").read_bytes()
    assert run(folder / "one.png", "--output", folder, "--overwrite", *FAST) == 1
    assert "would overwrite the input" in capsys.readouterr().err
    assert (folder / "one.png").read_bytes() == before


def test_no_other_input_is_overwritten_either(tmp_path, capsys):
    """x.bmp becomes x.png, which is an input too."""
    random_photo().save(tmp_path / "x.bmp")
    random_photo(seed=5).save(tmp_path / "x.png")
    before = (tmp_path / "x.png").read_bytes()
    assert run(tmp_path, "--output", tmp_path, "--overwrite", *FAST) == 1
    assert "would overwrite the input" in capsys.readouterr().err
    assert (tmp_path / "x.png").read_bytes() == before


def test_output_above_the_input(folder):
    assert run(folder, "--output", folder.parent, *FAST) == 0
    assert {"one.png", "two.jpg"} <= results(folder.parent)


def test_glob_over_folders_keeps_their_names_and_leaves_results_out(folder):
    shutil.copy(folder / "one.png", folder / "deep" / "one.png")
    for _ in range(2):
        assert run(folder / "**" / "*.png", "--output", folder / "out", *FAST) == 0
    assert results(folder / "out") == {"one.png", "deep/one.png"}


def test_links_to_folders_do_not_lead_in_circles(folder, tmp_path):
    for name in ("again", "once_more"):
        (folder / name).symlink_to(folder)
    assert run(folder, "--output", tmp_path / "out", "--recursive", *FAST) == 0
    assert results(tmp_path / "out") == {"one.png", "two.jpg", "deep/three.png"}


def test_one_file_named_twice_is_colored_once(folder, tmp_path, capsys):
    assert run(folder / "one.png", folder / "deep" / ".." / "one.png", "--output", tmp_path / "out", *FAST) == 0
    assert "1 colored" in capsys.readouterr().out


def test_names_that_the_system_refuses(folder, tmp_path, capsys):
    assert run("x" * 300, folder / "one.png", "--output", tmp_path / "out", *FAST) == 1
    assert results(tmp_path / "out") == {"one.png"}
    assert run(folder / "one.png", "--output", tmp_path / ("y" * 300), *FAST) == 2
    assert "error: argument --output: " in capsys.readouterr().err


def test_file_name_with_a_line_break_stays_on_one_line(folder, tmp_path, capsys):
    (folder / "bad\nname.png").touch()
    assert run(folder, "--output", tmp_path / "out", *FAST) == 1
    failures = [line for line in capsys.readouterr().err.splitlines() if line.startswith("failed")]
    assert len(failures) == 1 and "bad\\nname.png" in failures[0]


@pytest.mark.parametrize("limit", [1, 6000])
def test_little_memory_is_enough(tmp_path, monkeypatch, limit):
    """With room for less than one photograph, or two: everything is done, and never more is held at once."""
    held = []
    change = batch_run._Budget.change

    def watch(self, difference):
        change(self, difference)
        held.append(self._held)

    monkeypatch.setattr(batch_run._Budget, "change", watch)
    monkeypatch.setattr(batch_run, "_MEMORY_BYTES", limit)
    for k in range(9):
        random_photo(*((90, 60) if k % 2 else (60, 90)), seed=k).save(tmp_path / f"{k}.png")  # 5400 bytes each
    assert run(tmp_path, "--output", tmp_path / "out", *FAST) == 0
    assert len(results(tmp_path / "out")) == 9
    assert max(held) <= (limit // 5400 + 1) * 5400 and held[-1] == 0


def test_model_that_fails_on_a_batch_names_its_photographs(folder, tmp_path, embedded, capsys):
    tasks = [Task(folder / "one.png", tmp_path / "out" / "one.png")]
    report = Report()
    handle = embedded.unet.register_forward_hook(lambda module, inputs, output: (output[0] * float("nan"),))
    try:
        batch_run.colorize_files(embedded, tasks, report, num_inference_steps=1)
    finally:
        handle.remove()
    assert "one.png: the model's output is not finite" in capsys.readouterr().err
    assert len(report.failed) == 1 and not (tmp_path / "out").exists()


def test_empty_folder(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert run(tmp_path / "empty", "--output", tmp_path / "out") == 1
    assert "no images found (sub-folders need --recursive)" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x.jpg"], "the following arguments are required: --output"),
        (["--output", "out"], "the following arguments are required: INPUT"),
        (["x.jpg", "--output", __file__], f"argument --output: {__file__} is a file, not a folder"),
        (["x.jpg", "--output", "out", "--steps", "-1"], "argument --steps: must be a whole number of at least 0"),
        (["x.jpg", "--output", "out", "--seed", "-1"], "argument --seed: must be a whole number of at least 0"),
        (["x.jpg", "--output", "out", "--batch-size", "two"], "argument --batch-size: must be a whole number"),
        (
            ["x.jpg", "--output", "out", "--guidance-scale", "nan"],
            "argument --guidance-scale: must be a finite number",
        ),
        (["x.jpg", "--output", "out", "--color-scale", "-1"], "argument --color-scale: must be a finite number"),
        (["x.jpg", "--output", "out", "--format", "gif"], "argument --format: invalid choice: 'gif'"),
        (["x.jpg", "--output", "out", "--device", "tpu"], "argument --device: invalid choice: 'tpu'"),
        (["x.jpg", "--output", "out", "--nonsense"], "unrecognized arguments: --nonsense"),
    ],
)
def test_bad_arguments(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(*arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}") and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--model", "./nowhere", "error: model './nowhere' is not a folder"),
        (
            "--model",
            "nobody/nothing",
            "error: cannot load model nobody/nothing: no such folder, not in the local cache",
        ),
        ("--adapter", "./nowhere", "error: adapter './nowhere' is not a folder"),
    ],
)
def test_model_that_cannot_be_loaded(folder, tmp_path, capsys, option, value, message):
    assert run(folder, "--output", tmp_path / "out", option, value) == 2
    error = capsys.readouterr().err
    assert error.startswith(message) and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_stable_diffusion_with_an_adapter(folder, tmp_path, stock_sd_folder, adapter_folder):
    output = tmp_path / "out"
    call = [folder / "one.png", "--output", output, "--model", stock_sd_folder, "--adapter", adapter_folder, *FAST]
    assert run(*call) == 0
    assert read_settings(output / "one.png")["adapter"] == "tiny-adapter"


def test_warnings_are_one_line(folder, tmp_path, capsys):
    call = [folder / "one.png", "--output", tmp_path / "out", "--prompt", "many words " * 30, *FAST]
    assert run(*call) == 0
    assert "warning: the prompt is longer than the text encoder's 20 tokens and was cut; ignored: " in (
        capsys.readouterr().err
    )


def test_module_and_exit_status_in_a_process_of_its_own(folder, tmp_path):
    command = [sys.executable, "-m", "colorization", str(folder / "one.png"), "--output", str(tmp_path / "out"), *FAST]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert results(tmp_path / "out") == {"one.png"}


def test_what_is_seen_is_told_and_can_be_switched_off(folder, tmp_path, capsys):
    naming_pipeline().save_pretrained(tmp_path / "model")
    command = [folder / "one.png", "--model", tmp_path / "model", "--format", "png", *FAST]
    assert run(*command, "--output", tmp_path / "seen", "--verbose") == 0
    assert "one.png: I see a macaw: red, blue, yellow; colored as “red macaw”" in capsys.readouterr().out
    assert read_settings(tmp_path / "seen" / "one.png")["encoded_prompt"] == "red macaw"
    assert run(*command, "--output", tmp_path / "unseen", "--no-auto-prompt", "--verbose") == 0
    assert "macaw" not in capsys.readouterr().out
    assert read_settings(tmp_path / "unseen" / "one.png")["auto_prompt"] is False
    assert run(*command, "--output", tmp_path / "told", "--prompt", "cat") == 0
    assert "macaw" not in capsys.readouterr().out
    assert read_settings(tmp_path / "told" / "one.png")["prompt"] == "cat"


def test_a_baseline_sees_nothing(folder, tmp_path, capsys):
    assert run(folder, "--output", tmp_path / "out", "--model", "baseline:cic", "--no-auto-prompt") == 2
    assert "--auto-prompt: makes no sense for a baseline" in capsys.readouterr().err
