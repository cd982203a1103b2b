"""Write a metric of `eval/metrics` as a folder that needs nothing of this project, ready to be pushed to a Hub Space.

The evaluate library fetches a metric's file and the modules beside it that this file imports itself, nothing else. So
all modules of the project that the metric needs, also indirectly, are copied beside it, their imports of each other
made relative, and the metric's file imports every one of them.
"""

import argparse
import ast
import re
import shutil
import sys
from pathlib import Path

from colorization.command_line import Parser
from colorization.errors import one_line

ROOT = Path(__file__).parent.parent
METRICS = Path(__file__).parent / "metrics"
_OWN_PACKAGES = ("eval", "colorization")
_PYPI_NAMES = {"PIL": "pillow", "torch_fidelity": "torch-fidelity"}

_EXAMPLES = """examples:
  python -m eval.publish_metric fid --output build/fid
  hf upload USER/fid build/fid --repo-type space"""

_APP = '''"""The metric as a Space: pictures in, numbers out."""

import evaluate
import gradio as gr
{imports}
{before}metric = evaluate.load("{name}.py")


def compute({arguments}):
    """The metric of the uploaded pictures{order}."""
    try:
        return metric.compute({keywords})
    except (OSError, ValueError) as error:
        raise gr.Error(str(error)) from error


demo = gr.Interface(
    compute,
    [{inputs}],
    gr.JSON(label="Result"),
    title=metric.name,
    description=metric.description,
)

if __name__ == "__main__":
    demo.launch()
'''


def metric_names() -> list[str]:
    """The metrics that there are."""
    return sorted(file.parent.name for file in METRICS.glob("*/*.py") if file.stem == file.parent.name)


def publish(name: str, output: Path) -> Path:
    """Write the folder of a metric.

    Args:
        name: one of :func:`metric_names`.
        output: a folder that does not exist yet, or is empty.

    Returns:
        `output`.

    Raises:
        ValueError: no such metric, or `output` holds something.
    """
    if name not in metric_names():
        raise ValueError(f"`name` must be one of {metric_names()}, got {name!r}")
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ValueError(f"{output} exists already and is not an empty folder")
    source = METRICS / name / f"{name}.py"
    modules = _needed(source)
    output.mkdir(parents=True, exist_ok=True)
    for module in modules:
        (output / module.name).write_text(_made_relative(module), encoding="utf-8")
    (output / source.name).write_text(_with_all_imports(source, modules), encoding="utf-8")
    shutil.copyfile(METRICS / name / "README.md", output / "README.md")
    files = [source, *modules]
    packages = {_PYPI_NAMES.get(package, package) for file in files for package in _libraries(file)}
    (output / "requirements.txt").write_text("\n".join(sorted(packages)) + "\n", encoding="utf-8")
    (output / "app.py").write_text(_app(name, source), encoding="utf-8")
    return output


def _imports(file: Path) -> list[str]:
    """Full names of the modules that a file imports, at any depth of its code."""
    package = ".".join(file.relative_to(ROOT).parent.parts)
    names = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names.append(f"{package}.{node.module}" if node.level else node.module)
    return names


def _needed(file: Path) -> list[Path]:
    """The project's modules that a file needs, directly or not."""
    found: dict[str, Path] = {file.name: file}
    waiting = [file]
    while waiting:
        for module in _imports(waiting.pop()):
            path = ROOT.joinpath(*module.split(".")).with_suffix(".py")
            if module.split(".")[0] not in _OWN_PACKAGES or found.get(path.name) == path:
                continue
            if path.name in found:
                raise ValueError(f"{path} and {found[path.name]} would have the same name in one folder")
            found[path.name] = path
            waiting.append(path)
    return sorted(path for path in found.values() if path != file)


def _libraries(file: Path) -> set[str]:
    """Packages outside the project and the standard library that a file imports."""
    packages = {module.split(".")[0] for module in _imports(file)}
    return packages - set(sys.stdlib_module_names) - set(_OWN_PACKAGES)


def _made_relative(file: Path) -> str:
    """A file's text, in which imports of the project's modules are imports of the folder's."""
    pattern = rf"^(\s*)from (?:{'|'.join(_OWN_PACKAGES)})(?:\.\w+)*\.(\w+) import"
    return re.sub(pattern, r"\1from .\2 import", file.read_text(encoding="utf-8"), flags=re.MULTILINE)


def _with_all_imports(file: Path, modules: list[Path]) -> str:
    """The metric's file, which also imports the modules that it needs only indirectly."""
    text = _made_relative(file)
    indirect = [module.stem for module in modules if f"from .{module.stem} import" not in text]
    if not indirect:
        return text
    lines = ["# evaluate copies only modules that this file imports itself.\n"]
    lines += [f"from .{stem} import __name__ as _{stem}\n" for stem in indirect]
    first = re.search(r"^from \.", text, flags=re.MULTILINE).start()
    return text[:first] + "".join(lines) + text[first:]


def _app(name: str, source: Path) -> str:
    text = source.read_text(encoding="utf-8")
    paired = "references" in text
    columns = ["predictions", "references"] if paired else ["predictions"]
    needs_weights = "InceptionFeatures" in text
    imports = "import torch\nfrom torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3\n"
    before = "torch.hub.load_state_dict_from_url(URL_INCEPTION_V3)  # a new Space has no downloads yet\n"
    return _APP.format(
        name=name,
        imports=imports if needs_weights else "",
        before=before if needs_weights else "",
        arguments=", ".join(columns),
        order=", which must be in the same order" if paired else "",
        keywords=", ".join(f"{column}={column}" for column in columns),
        inputs=", ".join(f'gr.File(file_count="multiple", label="{column.capitalize()}")' for column in columns),
    )


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m eval.publish_metric",
        description=__doc__,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("metric", choices=metric_names(), help="which one")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="a new folder")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = build_parser()
    arguments = parser.parse_args(argv)
    try:
        print(publish(arguments.metric, arguments.output))
    except (ValueError, OSError) as error:
        parser.error(one_line(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
