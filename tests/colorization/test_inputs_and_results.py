"""Which files the command takes, what it says of the others, and when it takes a result for done."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import colorize, random_photo, results
from PIL import Image

from colorization.atomic import is_full, remove_leftovers, replacing
from colorization.batch_run import colorize_all
from colorization.errors import StorageFull, explain
from colorization.files import Report
from colorization.image_io import as_photo, read_settings
from colorization.planning import check_pattern

pytestmark = pytest.mark.usefixtures("loaded_once")


@pytest.fixture
def album(tmp_path) -> Path:
    folder = tmp_path / "album"
    folder.mkdir()
    random_photo(seed=1).save(folder / "one.png")
    return folder


# What is an input


def test_files_that_systems_hide_are_left_out(album, tmp_path, capsys):
    """macOS leaves `._NAME` beside every photograph on a USB stick."""
    (album / "._one.png").write_bytes(b"\0\5\26\7\0\2\0\0Mac OS X        ")
    for number, inputs in enumerate(([album], [album / "*.png"])):
        assert colorize(*inputs, "--output", tmp_path / str(number)) == 0
        assert results(tmp_path / str(number)) == {"one.png"}
        assert "left out: 1 hidden file (a name that begins with a dot)" in capsys.readouterr().err


def test_what_is_left_out_of_a_folder_is_said_a_line_for_each_suffix(album, tmp_path, capsys):
    for name in ("a.HEIC", "b.heic", "c.jxl", "d.nef", "notes.txt", "README"):
        (album / name).write_bytes(b"?")
    (album / "more").mkdir()
    assert colorize(album, "--output", tmp_path / "out") == 0
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("left out")]
    assert said == [
        "left out: 1 file without suffix (not known as pictures)",
        "left out: 2 .heic files (not supported, convert them to PNG or JPEG)",
        "left out: 1 .jxl file (not supported, convert them to PNG or JPEG)",
        "left out: 1 .nef file (not supported, convert them to PNG or JPEG)",
        "left out: 1 .txt file (not known as pictures)",
        "left out: 1 sub-folder (--recursive enters them)",
    ]


def test_a_link_to_itself_is_named_and_the_rest_is_done(album, tmp_path, capsys):
    (album / "loop.png").symlink_to("loop.png")
    (album / "gone.png").symlink_to("nowhere.png")
    assert colorize(album, "--output", tmp_path / "out") == 1
    error = capsys.readouterr().err
    assert f"failed: {album / 'loop.png'}: Too many levels of symbolic links" in error
    assert f"failed: {album / 'gone.png'}: No such file or directory" in error
    assert results(tmp_path / "out") == {"one.png"}
    assert colorize(album / "loop.png", album / "loop.png" / "x*", "--output", tmp_path / "loop") == 1


def test_two_links_to_one_photograph_are_two_photographs(album, tmp_path):
    (album / "again.png").symlink_to("one.png")
    assert colorize(album, "--output", tmp_path / "out") == 0
    assert results(tmp_path / "out") == {"one.png", "again.png"}


def test_results_in_the_folder_of_the_inputs_are_no_inputs(tmp_path, capsys):
    random_photo().save(tmp_path / "scan.tif")
    assert colorize(tmp_path, "--output", tmp_path) == 0
    before = (tmp_path / "scan.png").read_bytes()
    for inputs in ([tmp_path], sorted(tmp_path.iterdir())):  # named by the shell, too
        assert colorize(*inputs, "--output", tmp_path) == 0
        said = capsys.readouterr()
        assert "1 skipped" in said.out and "left out: 1 result of earlier runs" in said.err
    assert results(tmp_path) == {"scan.tif", "scan.png"} and (tmp_path / "scan.png").read_bytes() == before


# What is done


def test_another_photograph_of_the_same_name_is_not_taken_for_done(album, tmp_path, capsys):
    output, other = tmp_path / "out", tmp_path / "other" / "one.png"
    assert colorize(album, "--output", output) == 0
    before = (output / "one.png").read_bytes()
    other.parent.mkdir()
    random_photo(seed=2).save(other)
    assert colorize(other, "--output", output) == 1
    assert "one.png is there and is the result of another photograph, one.png (--ov" in capsys.readouterr().err
    assert (output / "one.png").read_bytes() == before
    for _ in range(2):  # the second time it is done
        assert colorize(album, other, "--output", output, "--keep-both") == 0
    assert "0 colored, 2 skipped" in capsys.readouterr().out
    assert results(output) == {"one.png", "one (2).png"} and (output / "one.png").read_bytes() == before
    assert colorize(other, "--output", output, "--overwrite") == 0
    assert (output / "one.png").read_bytes() != before


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--prompt", "red"], "prompt was '' and is 'red'"),
        (["--seed", "5"], "seed was 0 and is 5"),
        (["--color-scale", "auto"], "color_scale was "),
        (["--hints", "hints.csv"], "hints was [] and is [[3, 4, '#ff0000']]"),
    ],
)
def test_other_settings_are_not_taken_for_done(album, tmp_path, capsys, monkeypatch, options, said):
    monkeypatch.chdir(tmp_path)
    Path("hints.csv").write_text("3,4,#ff0000\n")
    assert colorize(album, "--output", "out") == 0
    assert colorize(album, "--output", "out", *options) == 1
    assert f"was made with other settings: {said}" in capsys.readouterr().err
    assert colorize(album, "--output", "out", "--overwrite", *options) == 0
    assert colorize(album, "--output", "out", *options) == 0
    assert "1 skipped" in capsys.readouterr().out
    assert colorize(album, "--output", "out") == 1  # and back


def test_what_is_no_result_is_not_taken_for_one(album, tmp_path, capsys):
    output = tmp_path / "out"
    output.mkdir()
    (output / "one.png").touch()  # nothing is lost
    assert colorize(album, "--output", output) == 0
    assert read_settings(output / "one.png")["input"]["file"] == "one.png"
    shutil.copy(album / "one.png", output / "one.png")
    assert colorize(album, "--output", output) == 1
    assert "is there and is no result of this program" in capsys.readouterr().err


def test_ways_out_of_equal_names(album, tmp_path, capsys):
    random_photo(seed=3).save(album / "one.tif")
    assert colorize(album, "--output", tmp_path / "out") == 1
    assert '--name-pattern "{stem}-{suffix}"' in capsys.readouterr().err
    assert colorize(album, "--output", tmp_path / "pattern", "--name-pattern", "{stem}-{suffix}") == 0
    assert results(tmp_path / "pattern") == {"one-png.png", "one-tif.png"}
    for _ in range(2):
        assert colorize(album, "--output", tmp_path / "both", "--keep-both") == 0
    assert results(tmp_path / "both") == {"one.png", "one (2).png"}


@pytest.mark.parametrize("pattern", ["colored", "{stem}/x", "{stem", "{name}", "{}-{stem}"])
def test_patterns_that_make_no_names(pattern):
    with pytest.raises(ValueError, match="must be "):
        check_pattern(pattern)


# Faults


class OneByOne:
    """A source of three small photographs and a sink that remembers; `broken` cannot be kept."""

    def __init__(self, broken: Exception | None = None):
        self.broken, self.done, self.failed = broken, [], {}

    def __len__(self) -> int:
        return 3

    def __iter__(self):
        return iter(range(3))

    def read(self, item):
        return as_photo(random_photo(seed=item))

    def hints(self, item):
        return ()

    def write(self, item, photo, prediction):
        if item == 0 and self.broken is not None:
            raise self.broken

    def succeed(self, item):
        self.done.append(item)

    def fail(self, item, error):
        self.failed[item] = error


@pytest.mark.parametrize("stage", ["read", "hints", "write"])
def test_an_error_that_nobody_foresaw_ends_no_run(embedded, stage):
    both = OneByOne()
    normal = getattr(both, stage)

    def fail(item, *rest):
        if item == 1:
            raise KeyError("colourspace")
        return normal(item, *rest)

    setattr(both, stage, fail)
    colorize_all(embedded, both, both, batch_size=3, num_inference_steps=1)
    assert sorted(both.done) == [0, 2] and list(both.failed) == [1]
    assert explain(both.failed[1]).startswith("unexpected KeyError: 'colourspace' (batch_run.py, line ")


def test_a_photograph_that_spoils_its_batch_is_lost_alone(embedded):
    def spoil(module, inputs, output):
        if len(inputs[0]) > 1:
            raise AttributeError("no such thing")

    both, handle = OneByOne(), embedded.unet.register_forward_hook(spoil)
    try:
        colorize_all(embedded, both, both, batch_size=3, num_inference_steps=1)
    finally:
        handle.remove()
    assert sorted(both.done) == [0, 1, 2] and not both.failed


def test_an_unexpected_error_is_called_so_with_one_hint(capsys):
    report = Report()
    for name in ("a.png", "b.png"):
        report.fail(name, TypeError("odd\nthing"))
    report.fail("c.png", ValueError("c.png: known"))
    assert capsys.readouterr().err.splitlines() == [
        "failed: a.png: unexpected TypeError: odd thing",
        "note: an unexpected error is a fault of this program: please report that line, with the file if you may",
        "failed: b.png: unexpected TypeError: odd thing",
        "failed: c.png: known",
    ]


def test_a_full_disk_stops_the_run_after_the_first_photograph(embedded):
    both = OneByOne(broken=OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    with pytest.raises(StorageFull, match="No space left on device"):
        colorize_all(embedded, both, both, batch_size=1, num_inference_steps=1)
    assert list(both.failed) == [0]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's device that is always full")
def test_a_full_disk_is_called_so_whatever_the_encoder_says(tmp_path):
    with pytest.raises(OSError, match="No space left on device") as caught, replacing(tmp_path / "a.png") as temporary:
        os.unlink(temporary)
        os.symlink("/dev/full", temporary)
        raise ValueError("write error")
    assert is_full(caught.value) and not list(tmp_path.iterdir())


# What remains after a stop


def test_leftovers_of_killed_processes_are_removed(tmp_path):
    code = (
        "import os, signal, sys; from colorization.atomic import replacing\n"
        "with replacing(sys.argv[1]): os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "a.png"])
    assert len(list(tmp_path.iterdir())) == 1
    (tmp_path / ".notes.tmp").touch()  # not ours
    with replacing(tmp_path / "b.png"):
        assert remove_leftovers(tmp_path) == 1
        assert len(list(tmp_path.iterdir())) == 2
    assert results(tmp_path) == {".notes.tmp", "b.png"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_leaves_nothing_half_written_and_one_line(tmp_path, number):
    rng = np.random.default_rng(0)
    for k in range(4):
        pixels = rng.integers(0, 256, (1500, 1500), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{k}.png", compress_level=1)
    command = [sys.executable, "-m", "colorization", *tmp_path.glob("*.png"), "--output", tmp_path / "out"]
    process = subprocess.Popen(
        [*command, "--steps", "1", "--batch-size", "1"],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # which a shell may have changed
    )
    while process.poll() is None and not list(tmp_path.glob("out/.*.tmp")):
        time.sleep(0.001)
    process.send_signal(number)
    error = process.communicate(timeout=300)[1].replace("\r", "\n")
    assert process.returncode == 128 + number and "Traceback" not in error
    assert error.splitlines()[-1] == "interrupted: the same command goes on where this one stopped"
    assert all(name.endswith(".png") for name in results(tmp_path / "out"))
