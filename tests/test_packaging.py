"""What is installed: the library without the demo, the demo with it, and both on a Space."""

import re
from pathlib import Path

import pytest

tomllib = pytest.importorskip("tomllib")  # Python 3.11

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_a_space_installs_what_the_library_and_the_demo_need(project):
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    required = [line for line in lines if line and not line.startswith("#")]
    library, extras = project["project"]["dependencies"], project["project"]["optional-dependencies"]
    assert required == [*library, *extras["demo"]]
    assert not any(name.startswith("gradio") for name in library)


def test_the_tests_need_every_extra(project):
    extras = project["project"]["optional-dependencies"]
    (own,) = (re.fullmatch(r"cold-colorizer\[(.*)\]", name) for name in extras["dev"] if name.startswith("cold-"))
    assert set(own[1].split(",")) == set(extras) - {"dev"}


def test_the_wheel_holds_the_library_and_nothing_beside_it(project):
    packages = {file.parent.relative_to(ROOT) for file in (ROOT / "colorization").rglob("__init__.py")}
    assert set(project["tool"]["setuptools"]["packages"]) == {".".join(path.parts) for path in packages}
