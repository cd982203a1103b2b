"""Who may import whom, read from the source: nothing upward, no loops, gradio in the demo alone, no endless files."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LINES_AT_MOST = 400
REASON = re.compile(r"^(# )?Long because \w+", re.MULTILINE)  # in the first lines of a longer file

# The storeys of the house, from the top: each may import itself and those named. A module belongs to the deepest one.
ARROWS = {
    "app": {"demo", "colorization"},
    "demo": {"colorization"},
    "eval.studies": {"train", "eval", "eval.metrics", "colorization"},
    "train": {"eval.metrics", "colorization"},
    "eval": {"eval.metrics", "colorization"},
    "eval.metrics": {"colorization"},
    "colorization": set(),
}

# What is still to be put right, by module; an entry that is not needed any more has to go.
UPWARD: set[tuple[str, str]] = set()
TOO_LONG: set[str] = set()


@dataclass(frozen=True)
class Import:
    """One import of a module.

    Args:
        name: dotted, with what is taken out of the module where that may be a module too.
        lazy: whether it happens in a function, or for type checkers only.
    """

    name: str
    lazy: bool


def module_name(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def product_files() -> Iterator[Path]:
    yield ROOT / "app.py"
    for package in ("demo", "colorization", "train", "eval"):
        yield from sorted((ROOT / package).rglob("*.py"))


FILES = {module_name(file): file for file in product_files()}


def storey(module: str) -> str | None:
    """The deepest storey that a module belongs to, None for other people's."""
    inside = [name for name in ARROWS if f"{module}.".startswith(f"{name}.")]
    return max(inside, key=len, default=None)


def imports(module: str) -> list[Import]:
    """All imports of a module, relative ones made absolute."""
    file = FILES[module]
    package = module.split(".") if file.name == "__init__.py" else module.split(".")[:-1]
    found = []

    def visit(node: ast.AST, lazy: bool) -> None:
        if isinstance(node, ast.Import):
            found.extend(Import(alias.name, lazy) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            found.extend(Import(f"{source}.{alias.name}", lazy) for alias in node.names)
        lazy = lazy or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        lazy = lazy or isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for child in ast.iter_child_nodes(node):
            visit(child, lazy)

    visit(ast.parse(file.read_text(encoding="utf-8")), lazy=False)
    return found


IMPORTS = {module: imports(module) for module in FILES}


def own_module(name: str) -> str | None:
    """The module of this project that an import names, None where it is somebody else's."""
    if name in FILES:
        return name
    parent = name.rpartition(".")[0]
    return parent if parent in FILES else None


def test_nothing_is_imported_upward():
    upward = set()
    for module in FILES:
        here = storey(module)
        for one in IMPORTS[module]:
            there = own_module(one.name)
            if there is not None and storey(there) not in ARROWS[here] | {here}:
                upward.add((module, there))
    assert upward - UPWARD == set()
    assert UPWARD - upward == set(), "put right meanwhile: remove from the list"


def test_the_arrows_lead_in_no_circle():
    tuple(TopologicalSorter(ARROWS).static_order())


def test_only_the_demo_imports_gradio():
    users = {module for module in FILES for one in IMPORTS[module] if one.name.split(".")[0] == "gradio"}
    assert {storey(module) for module in users} == {"app", "demo"}


def test_no_module_needs_itself_to_be_imported():
    graph = defaultdict(set)
    for module in FILES:
        for one in IMPORTS[module]:
            there = own_module(one.name)
            if there is not None and not one.lazy and there != module:
                graph[module].add(there)
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_long_files_say_why():
    long = set()
    for module, file in FILES.items():
        lines = file.read_text(encoding="utf-8").splitlines()
        if len(lines) > LINES_AT_MOST and not REASON.search("\n".join(lines[:12])):
            long.add(module)
    assert long - TOO_LONG == set(), f"over {LINES_AT_MOST} lines: split, or say 'Long because ...' in the docstring"
    assert TOO_LONG - long == set(), "put right meanwhile: remove from the list"


def test_other_forms_of_import_are_understood(tmp_path, monkeypatch):
    file = tmp_path / "module.py"
    file.write_text(
        "from . import a\nfrom ..b import c\nimport d.e\nif TYPE_CHECKING:\n import f\ndef g():\n import h\n"
    )
    monkeypatch.setitem(FILES, "top.inner.module", file)
    assert imports("top.inner.module") == [
        Import("top.inner.a", False),
        Import("top.b.c", False),
        Import("d.e", False),
        Import("f", True),
        Import("h", True),
    ]
