"""`python -m eval generate`: the folder it writes, the data sets it reads, several processes, and resuming."""

import hashlib
import json
import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import processes
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from conftest import EXAMPLES, naming_pipeline, tiny_pipeline
from hub_server import Repo, hub_server
from PIL import Image
from test_captioning import save_tiny_blip

from colorization.pipeline import REPORT_NEGATIVE_PROMPT
from eval.__main__ import main
from eval.metrics.gray import is_gray
from eval.photos import NamedPhoto, list_photos, photo_seed
from eval.runs import read_lines

ROOT = EXAMPLES.parent
STEPS = 12  # of the tiny model: long enough that a process can be killed between two batches


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """As each of several processes has: sums over threads may round differently."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    """A model whose outputs depend on the seed."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny_pipeline(in_channels=8, noise_scale=0.6).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Six color photographs of two shapes, a gray one, and a file that is no image."""
    folder = tmp_path_factory.mktemp("photos") / "small"
    folder.mkdir()
    for k, path in enumerate(sorted(EXAMPLES.glob("*.jpg"))[:6]):
        Image.open(path).convert("RGB").resize((40, 24) if k % 2 else (24, 40)).save(folder / f"{k}.png")
    Image.open(folder / "0.png").convert("L").convert("RGB").save(folder / "gray.jpg", quality=80)
    (folder / "broken.jpg").write_bytes(b"no image")
    return folder


@pytest.fixture(scope="module")
def finished(model, photos, tmp_path_factory) -> Path:
    """A run that nothing disturbed."""
    output = tmp_path_factory.mktemp("runs") / "whole"
    assert main(command(photos, model, output)) == 1  # for the broken file
    return output


def command(photos: Path | str, model: str, output: Path, *more: str) -> list[str]:
    spec = photos if isinstance(photos, str) else f"imagefolder:{photos}"
    words = ["generate", "--dataset", spec, "--model", model, "--output", str(output), *more]
    return words if model == "gray" else [*words, "--steps", str(STEPS), "--batch-size", "2"]


def pictures(run: Path) -> dict[str, bytes]:
    return {str(file.relative_to(run)): file.read_bytes() for file in sorted(run.rglob("*.png"))}


def manifest(run: Path) -> list[dict]:
    return [
        {key: value for key, value in line.items() if key != "seconds"} for line in read_lines(run / "manifest.jsonl")
    ]


def pixels(file: Path) -> np.ndarray:
    return np.array(Image.open(file))


def luma(array: np.ndarray) -> np.ndarray:
    return np.array(Image.fromarray(array).convert("L")).astype(int)


# The run's folder


def test_the_folder(finished, photos, model):
    lines = read_lines(finished / "manifest.jsonl")
    assert [line["id"] for line in lines] == [str(k) for k in range(6)]
    request = json.loads((finished / "run.json").read_text())
    assert request["format"] == 1 and request["dataset_name"] == "small" and request["processes"] == 1
    assert request["model"] == model and request["dtype"] == "float32" and len(request["weights_sha256"]) == 64
    assert request["settings"] == {
        "num_inference_steps": STEPS,
        "guidance_scale": 1.0,
        "color_scale": 1.0,
        "color_scale_space": "latent",
        "negative_prompt": REPORT_NEGATIVE_PROMPT,
        "sampler": "euler",
        "severity": 1.0,
    }
    for line in lines:
        source = photos / f"{line['id']}.png"
        original = pixels(source)
        assert (pixels(finished / line["reference"]) == original).all()
        assert (line["height"], line["width"]) == original.shape[:2]
        for part in ("file", "vae"):
            output = pixels(finished / line[part])
            assert output.shape == original.shape and (output != original).any()
            assert abs(luma(output) - luma(original)).max() <= 1
        assert line["sha256"] == hashlib.sha256((finished / line["file"]).read_bytes()).hexdigest()
        assert line["reference_sha256"] == hashlib.sha256((finished / line["reference"]).read_bytes()).hexdigest()
        assert line["seed"] == photo_seed(0, NamedPhoto("", source.read_bytes(), ""))
        assert line["caption"] == "" and line["prompt_mode"] == "none" and line["seconds"] > 0
        assert line["settings"] == request["settings"] and line["model"] == model and line["adapter"] is None
    assert len({line["seed"] for line in lines}) == 6
    left_out = json.loads((finished / "left_out.json").read_text())
    assert [entry["id"] for entry in left_out] == ["broken", "gray"] and left_out[1]["reason"] == "gray"
    assert left_out[0]["reason"].startswith("unreadable: cannot be decoded: ")
    assert not list(finished.glob("*.partial.jsonl")) and not list(finished.rglob(".writing-*"))


def test_the_model_gray(photos, tmp_path, capsys):
    assert main(command(photos, "gray", tmp_path, "--keep-gray", "--max-side", "20")) == 1
    captured = capsys.readouterr()
    assert captured.err.count("failed: ") == 1 and f"failed: {photos / 'broken.jpg'}: unreadable" in captured.err
    lines = read_lines(tmp_path / "manifest.jsonl")
    for line in lines:
        original = pixels(tmp_path / line["reference"])
        assert max(original.shape) == 20 and (line["height"], line["width"]) == original.shape[:2]
        assert (pixels(tmp_path / line["file"]) == luma(original)[..., None]).all()
        assert line["vae"] is None and set(line["settings"].values()) == {None}
    assert [line["id"] for line in lines] == [*"012345", "gray"] and not (tmp_path / "vae").exists()


def test_gray_photographs_are_those_that_the_training_data_leaves_out():
    from train.dataset.measures import GRAY_LIMIT, measure

    for path in sorted(EXAMPLES.glob("*.jpg"))[:3]:
        color = Image.open(path).convert("RGB")
        for fading in (0.0, 0.9, 0.97, 1.0):
            image = Image.blend(color, color.convert("L").convert("RGB"), fading)
            assert is_gray(np.array(image)) == (measure(image)["channel_difference"] <= GRAY_LIMIT)
        assert is_gray(np.array(image)) and not is_gray(np.array(color))


# Prompts


@pytest.fixture(scope="module")
def blip(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("blip") / "tiny-blip"
    save_tiny_blip(folder)
    return str(folder)


def test_prompts(photos, model, blip, tmp_path):
    def generate(mode: str, *more: str) -> tuple[dict, list[dict]]:
        words = ["generate", "--dataset", f"imagefolder:{photos}", "--model", model, "--output", str(tmp_path / mode)]
        assert main([*words, "--prompt-mode", mode, "--limit", "2", "--keep-gray", "--no-vae-row", *more]) in (0, 1)
        run = tmp_path / mode
        return json.loads((run / "run.json").read_text()), read_lines(run / "manifest.jsonl")

    request, lines = generate("negative-only")
    settings = request["settings"]
    assert settings["num_inference_steps"] == 50 and settings["guidance_scale"] == 2.6
    assert settings["negative_prompt"] == REPORT_NEGATIVE_PROMPT and {line["caption"] for line in lines} == {""}
    assert {line["vae"] for line in lines} == {None} and request["captioner"] is None
    request, by_gray = generate("gray-caption", "--captioner", blip, "--steps", "1", "--guidance-scale", "2")
    assert request["captioner"] == blip and not request["captions_leak_color"]
    request, by_color = generate("color-caption", "--captioner", blip, "--steps", "1", "--guidance-scale", "2")
    assert request["captions_leak_color"]
    for lines in (by_gray, by_color):
        assert all(line["caption"] for line in lines)
    assert [line["caption"] for line in by_gray] != [line["caption"] for line in by_color]
    assert [line["sha256"] for line in by_gray] != [line["sha256"] for line in by_color]


def test_flags_come_before_the_report_s_protocol(photos, model, tmp_path):
    words = ["--prompt-mode", "negative-only", "--negative-prompt", "sepia", "--guidance-scale", "3", "--no-vae-row"]
    assert main([*command(photos, model, tmp_path, *words), "--steps", "1"]) == 1
    settings = json.loads((tmp_path / "run.json").read_text())["settings"]
    assert (settings["num_inference_steps"], settings["guidance_scale"]) == (1, 3.0)
    assert settings["negative_prompt"] == "sepia"


def test_with_and_without_what_the_model_sees(photos, model, tmp_path, capsys):
    naming_pipeline().save_pretrained(tmp_path / "naming")
    runs = {}
    for name, words in {"seen": [], "unseen": ["--no-auto-prompt"]}.items():
        assert main(command(photos, str(tmp_path / "naming"), tmp_path / name, "--no-vae-row", *words)) == 1
        runs[name] = json.loads((tmp_path / name / "run.json").read_text())["settings"]
    assert runs["unseen"] == runs["seen"] | {"auto_prompt": False}
    assert list(pictures(tmp_path / "seen").values()) != list(pictures(tmp_path / "unseen").values())
    capsys.readouterr()
    error = error_of(capsys, command(photos, model, tmp_path / "other", "--no-auto-prompt"))
    assert "--no-auto-prompt: this model says nothing of what it sees" in error


# Several processes, interruptions


def test_two_processes_write_the_same_bytes(finished, photos, model, tmp_path):
    output = tmp_path / "two"
    words, environment = ["-m", "eval", *command(photos, model, output)], {"OMP_NUM_THREADS": "1"}
    done = processes.run_group(2, *words, cwd=ROOT, env=os.environ | environment)
    assert {process.returncode for process in done} == {1}, done
    assert "failed: " in "".join(process.stderr for process in done) and "6 photographs colored" in done[0].stdout
    assert json.loads((output / "run.json").read_text())["processes"] == 2
    assert pictures(output) == pictures(finished)
    assert manifest(output) == manifest(finished)
    assert (output / "left_out.json").read_bytes() == (finished / "left_out.json").read_bytes()


def test_a_killed_run_goes_on(finished, photos, model, tmp_path, capsys):
    output = tmp_path / "killed"
    partial = output / "manifest.0.partial.jsonl"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = processes.start("-m", "eval", *command(photos, model, output), cwd=ROOT, env=environment)
    deadline = time.monotonic() + 60
    while not (partial.is_file() and partial.read_bytes()) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL and not (output / "manifest.jsonl").exists()
    first = [line["file"] for line in read_lines(partial)]
    assert 0 < len(first) < 6
    (output / "images" / ".writing-1-1").write_bytes(b"half a picture")
    with open(partial, "ab") as file:
        file.write(b'{"id": "cut sho')
    times = {name: (output / name).stat().st_mtime_ns for name in first}
    assert main(command(photos, model, output)) == 1
    assert {name: (output / name).stat().st_mtime_ns for name in first} == times
    assert pictures(output) == pictures(finished) and manifest(output) == manifest(finished)
    assert not list(output.rglob(".writing-*"))


def test_only_what_is_missing_or_damaged_is_made_again(finished, photos, model, tmp_path):
    output = tmp_path / "again"
    shutil.copytree(finished, output)
    (output / "images" / "1.png").write_bytes(b"damaged")
    (output / "vae" / "2.png").unlink()
    (output / "reference" / "3.png").unlink()
    (output / "score.json").write_text("of other pictures")
    times = {name: (output / name).stat().st_mtime_ns for name in pictures(output) if name[-5] in "045"}
    assert main(command(photos, model, output)) == 1
    assert pictures(output) == pictures(finished) and manifest(output) == manifest(finished)
    assert {name: (output / name).stat().st_mtime_ns for name in times} == times
    assert not (output / "score.json").exists()


def test_other_batch_sizes_change_hardly_a_pixel(model, tmp_path):
    """The project's tolerance: at most one level of difference in at most 0.01% of the values."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for k, path in enumerate(sorted(EXAMPLES.glob("*.jpg"))[:6]):
        Image.open(path).convert("RGB").resize((120, 72) if k % 2 else (72, 120)).save(photos / f"{k}.png")
    colored = {}
    for size in (1, 2, 3):
        run = tmp_path / str(size)
        assert main([*command(photos, model, run), "--steps", "4", "--batch-size", str(size)]) == 0
        colored[size] = np.stack([pixels(file).ravel() for file in sorted((run / "images").glob("*.png"))]).astype(int)
    for size in (1, 3):
        difference = abs(colored[size] - colored[2])
        assert difference.max() <= 1 and (difference > 0).mean() <= 1e-4


def test_a_photograph_that_changed_is_colored_again(photos, tmp_path):
    folder, output = tmp_path / "photos", tmp_path / "run"
    shutil.copytree(photos, folder, ignore=shutil.ignore_patterns("broken.jpg"))
    assert main(command(folder, "gray", output)) == 0
    before = manifest(output)
    shutil.copy(folder / "1.png", folder / "3.png")
    shutil.copy(folder / "gray.jpg", folder / "5.png")
    assert main(command(folder, "gray", output)) == 0
    after = manifest(output)
    assert [a == b for a, b in zip(before, after, strict=False)] == [True, True, True, False, True]
    assert len(after) == 5 and len(pictures(output)) == 10
    assert (pixels(output / "images" / "3.png") == pixels(output / "images" / "1.png")).all()


# Errors


def error_of(capsys, words: list[str]) -> str:
    """The one line on stderr of a command that ends with status 2."""
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line and "photo/s]" not in line]
    assert len(lines) == 1 and lines[0].startswith("error: "), lines
    return lines[0]


def test_a_run_with_other_settings_is_refused(photos, tmp_path, capsys):
    folder = tmp_path / "colored"
    shutil.copytree(photos, folder, ignore=shutil.ignore_patterns("broken.jpg"))
    output = tmp_path / "run"
    assert main(command(folder, "gray", output)) == 0
    before = pictures(output)
    error = error_of(capsys, command(folder, "gray", output, "--seed", "1", "--max-side", "16"))
    assert "seed was 0 and is 1" in error and "max_side was None and is 16" in error and "--overwrite" in error
    assert pictures(output) == before
    for name in ("score.json", "score_per_image.csv", "notes.txt"):
        (output / name).write_text("of the old pictures")
    assert main(command(folder, "gray", output, "--max-side", "16", "--limit", "4", "--overwrite")) == 0
    assert max(pixels(output / "images" / manifest(output)[0]["file"].split("/")[1]).shape) == 16
    assert len(pictures(output)) == 2 * len(manifest(output)) < len(before)
    assert (output / "notes.txt").exists() and not (output / "score.json").exists()
    assert not (output / "score_per_image.csv").exists()


def test_a_folder_that_is_no_run_is_left_alone(photos, tmp_path, capsys):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "mine.png").write_bytes(b"precious")
    error = error_of(capsys, command(photos, "gray", tmp_path, "--overwrite"))
    assert "is no run's: it has a images but no run.json" in error
    assert (tmp_path / "images" / "mine.png").read_bytes() == b"precious"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--dataset", "photos"], "argument --dataset: must be imagefolder:PATH"),
        (["--dataset", "imagefolder:"], "argument --dataset: must be imagefolder:PATH"),
        (["--dataset", "imagefolder:nowhere"], "argument --dataset: nowhere is not a folder"),
        (["--dataset", "parquet:nowhere/*.parquet"], "argument --dataset: nowhere/*.parquet: no photographs found"),
        (["--dataset", "ctest10k:nowhere.txt:."], "'nowhere.txt' is no file"),
        (["--dataset", "hub:user/none:val"], "user/none cannot be had from the Hub"),
        (["--limit", "0"], "argument --limit: must be a whole number of at least 1, got '0'"),
        (["--steps", "2"], "argument --steps: makes no sense for the model 'gray'"),
        (["--prompt-mode", "negative-only"], "argument --prompt-mode: makes no sense for the model 'gray'"),
        (["--model", "nowhere/at/all"], "'nowhere/at/all' is not a folder"),
        (
            ["--model", "embedded", "--captioner", "blip-base"],
            "argument --captioner: --prompt-mode none has no captions",
        ),
        (["--model", "embedded", "--adapter-revision", "main"], "argument --adapter-revision: needs --adapter"),
        (
            ["--model", "embedded", "--prompt-mode", "gray-caption", "--captioner", "./none"],
            "cannot load caption model ./none",
        ),
        (
            ["--model", "embedded", "--negative-prompt", "sepia", "--guidance-scale", "1"],
            "argument --negative-prompt: has no effect at a guidance scale of 1",
        ),
        (["--seed", "-1"], "argument --seed: must be a whole number of at least 0"),
    ],
)
def test_errors_are_one_line(words, message, tmp_path, capsys):
    output = tmp_path / "run"
    defaults = ["--dataset", f"imagefolder:{EXAMPLES}", "--model", "gray", "--output", str(output)]
    assert message in error_of(capsys, ["generate", *defaults, *words])
    assert not output.exists()


def test_more_errors(photos, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert "file is a file, not a folder" in error_of(capsys, command(photos, "gray", tmp_path / "file"))
    assert "lies inside the data set" in error_of(capsys, command(photos, "gray", photos / "run"))
    assert "argument COMMAND" in error_of(capsys, ["paint"])
    shutil.copy(photos / "gray.jpg", tmp_path / "gray.jpg")
    error = error_of(capsys, command(tmp_path, "gray", tmp_path.parent / "run-of-gray"))
    assert "none of the 1 photographs can be used: 1 are gray (--keep-gray keeps them), 0 unreadable" in error


# Data sets


def image_bytes() -> list[bytes]:
    return [path.read_bytes() for path in sorted(EXAMPLES.glob("*.jpg"))]


def write_parquet(file: Path, **columns) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), file, row_group_size=3)


def test_folders(tmp_path):
    long = "q" * 200
    names = ["a/x.jpg", "a/y z.png", "b/x.jpg", f"{long}.png", "x.webp", "notes.txt"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    listed = list_photos(f"imagefolder:{tmp_path}")
    ids = [source.id for source in listed.sources]
    assert [ids[row] for row in (0, 1, 2, 4)] == ["a_x", "a_y_z", "b_x", "x"]
    assert ids[3].startswith("qqq") and len(ids[3]) < 200
    assert [source.read() for source in listed.sources] == [name.encode() for name in names[:-1]]
    (tmp_path / "a_X.png").write_bytes(b"")
    with pytest.raises(ValueError, match="x.jpg and .*a_X.png would both be called|a_X.png and .*x.jpg would both be"):
        list_photos(f"imagefolder:{tmp_path}")


def test_parquet(tmp_path):
    images = image_bytes()
    cells = [{"bytes": data, "path": f"{k}.jpg"} for k, data in enumerate(images)]
    write_parquet(tmp_path / "coco" / "val-0.parquet", image=cells[:7], image_id=list(range(100, 107)))
    write_parquet(tmp_path / "coco" / "val-1.parquet", image=cells[7:], image_id=list(range(107, 100 + len(images))))
    coco = list_photos(f"parquet:{tmp_path}/coco/*.parquet")
    assert [source.id for source in coco.sources] == [str(100 + k) for k in range(len(images))]
    assert [source.read() for source in coco.sources] == images and coco.name == "coco"
    assert [source.read() for source in reversed(coco.sources)] == images[::-1]
    write_parquet(tmp_path / "paths.parquet", image=cells)
    assert [source.id for source in list_photos(f"parquet:{tmp_path}/paths.parquet").sources][:2] == ["0", "1"]
    write_parquet(tmp_path / "plain.parquet", image=[*images[:2], None])
    plain = list_photos(f"parquet:{tmp_path}/plain.parquet").sources
    assert [source.id for source in plain] == ["plain-0", "plain-1", "plain-2"]
    with pytest.raises(OSError, match="holds no image"):
        plain[2].read()
    write_parquet(tmp_path / "text.parquet", caption=["a dog"])
    with pytest.raises(ValueError, match="text.parquet: has no column 'image', only caption"):
        list_photos(f"parquet:{tmp_path}/text.parquet")
    (tmp_path / "broken.parquet").write_bytes(b"no parquet at all")
    with pytest.raises(ValueError, match="broken.parquet: cannot be read as parquet"):
        list_photos(f"parquet:{tmp_path}/broken.parquet")


def test_a_sample_depends_on_nothing_but_the_ids(tmp_path):
    images = image_bytes()
    numbers = list(range(len(images)))
    write_parquet(tmp_path / "a.parquet", image=images, id=numbers)
    write_parquet(tmp_path / "b.parquet", image=images[::-1], id=numbers[::-1])
    samples = [list_photos(f"parquet:{tmp_path}/{name}.parquet", limit=5).sources for name in "ab"]
    assert [source.id for source in samples[0]] == [source.id for source in samples[1]][::-1]
    smaller = list_photos(f"parquet:{tmp_path}/a.parquet", limit=3).sources
    assert {source.id for source in smaller} < {source.id for source in samples[0]}
    assert [source.id for source in smaller] != ["0", "1", "2"]


def test_lists_of_imagenet(tmp_path, capsys):
    for k, path in enumerate(sorted(EXAMPLES.glob("*.jpg"))[:2]):
        (tmp_path / "val" / f"class{k}").mkdir(parents=True)
        shutil.copy(path, tmp_path / "val" / f"class{k}" / f"ILSVRC2012_val_{k}.JPEG")
    (tmp_path / "ctest10k.txt").write_text("val/ILSVRC2012_val_1.JPEG\nILSVRC2012_val_9.JPEG\n\n")
    spec = f"ctest10k:{tmp_path}/ctest10k.txt:{tmp_path}/val"
    listed = list_photos(spec)
    assert listed.name == "ctest10k" and [source.id for source in listed.sources][0] == "ILSVRC2012_val_1"
    assert main(command(spec, "gray", tmp_path / "run")) == 1
    assert "ILSVRC2012_val_9.JPEG: unreadable: " in capsys.readouterr().err
    assert [line["id"] for line in manifest(tmp_path / "run")] == ["ILSVRC2012_val_1"]
    (tmp_path / "ctest10k.txt").write_text("none.JPEG\n")
    with pytest.raises(ValueError, match="holds none of the 1 photographs"):
        list_photos(spec)


CLIENT = """
import json, sys
from eval.photos import list_photos
main, converted = list_photos("hub:user/data:val", 2), list_photos("hub:user/script")
print(json.dumps([[set.name, set.revision, [source.id for source in set.sources]] for set in (main, converted)]))
try:
    list_photos("hub:user/data:test")
except ValueError as error:
    print(error)
"""


def test_the_hub(tmp_path):
    images = image_bytes()[:3]
    write_parquet(tmp_path / "val.parquet", image=images, image_id=[7, 8, 9])
    data = (tmp_path / "val.parquet").read_bytes()
    with hub_server() as hub:
        direct, script = Repo("datasets", "user/data", False), Repo("datasets", "user/script", False)
        hub.repos |= {("datasets", "user/data"): direct, ("datasets", "user/script"): script}
        files = {"data/val-00000-of-00001.parquet": data, "data/train-00000-of-00001.parquet": b"huge"}
        commit = direct.add("main", "data", files, set())
        script.add("main", "script", {"script.py": b""}, set())
        branch = script.add("refs/convert/parquet", "converted", {"default/validation/0000.parquet": data}, set())
        done = processes.run("-c", CLIENT, env=hub.environment(tmp_path / "home"), cwd=ROOT)
        assert done.returncode == 0, done.stderr
        requested = [path for _, path, _ in hub.requests]
    sets, error = done.stdout.splitlines()
    first, second = json.loads(sets)
    assert first[:2] == ["data-val", commit.sha] and len(first[2]) == 2 and set(first[2]) <= {"7", "8", "9"}
    assert second == ["script-validation", branch.sha, ["7", "8", "9"]]
    assert "user/data has no parquet files of a split 'test'" in error
    assert not any("train-" in path for path in requested)
