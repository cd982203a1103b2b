"""The Space: its settings, its requirements, what is uploaded to a Hub on loopback, and that this starts alone."""

import ast
import re
import shutil
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import httpx
import pytest
import yaml
from gradio_client import Client, handle_file
from hub_server import hub_server
from packaging.requirements import Requirement
from PIL import Image

from train.publish_space import ROOT, copy_space, main

LFS = (".safetensors", ".jpg", ".png")  # what the Hub on loopback wants in its store of large files
COLORS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}  # those that the Hub's cards have
NOT_IMPORTED = {"accelerate", "pyvips-binary", "torchvision"}  # used by diffusers, by pyvips, and by timm


@pytest.fixture(scope="module")
def space(tmp_path_factory) -> Path:
    """A folder with what is uploaded."""
    folder = tmp_path_factory.mktemp("space")
    copy_space(ROOT, folder)
    return folder


@pytest.fixture(scope="module")
def requirements() -> dict[str, Requirement]:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    parsed = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {requirement.name.lower().replace("_", "-"): requirement for requirement in parsed}


def test_front_matter_is_what_the_hub_takes(requirements):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    settings = yaml.safe_load(text.split("---")[1])
    assert settings["sdk"] == "gradio" and requirements["gradio"].specifier.contains(settings["sdk_version"])
    assert re.fullmatch(r"3\.1\d(\.\d+)?", settings["python_version"])
    assert (ROOT / settings["app_file"]).is_file()
    assert {settings["colorFrom"], settings["colorTo"]} <= COLORS
    assert len(settings["short_description"]) <= 60
    assert settings["license"] == "apache-2.0"
    # What these name would be shown and downloaded; nothing of this project is on the Hub yet.
    assert not {"models", "datasets", "preload_from_hub"} & set(settings)


def test_requirements_are_what_the_space_imports(space, requirements):
    distributions = packages_distributions()
    imported = set()
    for file in [space / "app.py", *space.glob("demo/*.py"), *space.glob("colorization/**/*.py")]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                imported.add(node.module.split(".")[0])
    imported -= {*sys.stdlib_module_names, "colorization", "demo"}
    needed = {name.lower().replace("_", "-") for module in imported for name in distributions[module]}
    assert needed - {"gradio-client"} <= set(requirements)
    assert set(requirements) <= needed | NOT_IMPORTED
    assert all(re.fullmatch(r">=[\d.]+", str(requirement.specifier)) for requirement in requirements.values())
    assert "mcp" in requirements["gradio"].extras


def test_nothing_but_the_demo_is_uploaded(space, tmp_path):
    checkout = tmp_path / "checkout"
    shutil.copytree(space, checkout)
    for stray in (".git/HEAD", "tests/x.py", "runs/x", "colorization/__pycache__/x.pyc", "docs/.x.swp", "docs/x.tmp"):
        (checkout / stray).parent.mkdir(parents=True, exist_ok=True)
        (checkout / stray).write_text("stray")
    (tmp_path / "copy").mkdir()
    copy_space(checkout, tmp_path / "copy")
    names = {path.relative_to(tmp_path / "copy") for path in (tmp_path / "copy").rglob("*")}
    assert names == {path.relative_to(space) for path in space.rglob("*")}
    tops = {"app.py", "requirements.txt", "README.md", "LICENSE", "NOTICE", "CITATION.cff", "model_card.md"}
    assert {name.parts[0] for name in names} == tops | {"colorization", "demo", "docs", "examples"}


def test_every_picture_of_the_readme_is_uploaded(space):
    text = (space / "README.md").read_text(encoding="utf-8")
    pictures = re.findall(r"!\[[^\]]*\]\((?!https?://)([^)]+)\)", text)
    assert pictures and all((space / picture).is_file() for picture in pictures)


def test_bad_arguments_and_dry_run(capsys, monkeypatch):
    assert main(["--repo", "user/x", "--dry-run"]) == 0  # offline, as all tests: a request would fail
    assert "colorization/models/embedded/unet/diffusion_pytorch_model.safetensors" in capsys.readouterr().out
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", "/no/such/file")
    for arguments in (["--repo", "nobody"], ["--repo", ""], []):
        with pytest.raises(SystemExit) as ending:
            main(arguments)
        error = capsys.readouterr().err
        assert ending.value.code == 2 and error.startswith("error: ") and error.count("\n") == 1


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_space(space, tmp_path):
    """The command of the README, with this interpreter as its environment."""
    python = tmp_path / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    (tmp_path / "venv" / "run.stamp").touch()  # the package is installed
    command = ["make", "--no-print-directory", "space", f"VENV={tmp_path / 'venv'}"]
    with hub_server() as hub:

        def make(repo: str, token: str | None = hub.token) -> subprocess.CompletedProcess:
            environment = hub.environment(tmp_path / "home", token)
            arguments = [*command, f"REPO={repo}"]
            return subprocess.run(arguments, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)

        done = make("user/demo")
        assert done.returncode == 0, done.stderr
        assert f"published: {hub.url}/spaces/user/demo" in done.stdout
        repo = hub.repos["spaces", "user/demo"]
        commits = len(repo.commits)
        files, lfs = dict(repo.files()), repo.at("main").lfs
        assert files.pop(".gitattributes")
        expected = {path.relative_to(space).as_posix(): path for path in space.rglob("*") if path.is_file()}
        assert files == {name: path.read_bytes() for name, path in expected.items()}
        assert lfs == {name for name in expected if name.endswith(LFS)}
        assert (repo.sdk, repo.private) == ("gradio", False)

        # Again: nothing is sent, no commit is made. Then what the checkout does not have goes.
        done = make("user/demo")
        assert done.returncode == 0 and len(repo.commits) == commits
        repo.add("main", "by hand", repo.files() | {"colorization/old.py": b"old"}, lfs)
        assert make("user/demo").returncode == 0
        assert set(repo.files()) == {*expected, ".gitattributes"} and repo.at("main").lfs == lfs

        for repo_name, token, message in [
            ("other/demo", hub.token, "error: the token does not allow to write to other/demo (403)"),
            ("user/demo", "hf_wrong", "error: the Hub refuses the token (401)"),
            ("user/demo", None, "error: not logged in"),
        ]:
            failed = make(repo_name, token)
            assert failed.returncode == 2 and message in failed.stderr  # 2 is make's
            assert hub.token not in failed.stdout + failed.stderr


def test_the_uploaded_files_start_alone(space_server, space, tmp_path):
    assert "Cold Colorizer" in httpx.get(space_server.url).text
    client = Client(space_server.url, verbose=False, download_files=tmp_path, analytics_enabled=False)
    example = space / "examples" / "farm_animals_cat.jpg"
    _, download = client.predict(image=handle_file(example), steps=1, api_name="/colorize")
    client.close()
    with Image.open(download) as result, Image.open(example) as source:
        assert result.size == source.size
    # The checkout is installed in this environment too: it is the copy that was imported, and so compiled.
    assert list(space_server.app.parent.glob("colorization/__pycache__/pipeline.*.pyc"))
