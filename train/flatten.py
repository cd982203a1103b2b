"""Files that let diffusers load a published model where the package `colorization` is not installed.

`DiffusionPipeline.from_pretrained(repo, trust_remote_code=True)` runs the module that the model's index names, copies
the siblings that this module imports relatively, and looks for the code of a component in the component's folder. So
the package's own modules are published, `pipeline.py` and what it imports directly or indirectly, beside an index that
names them.

Two things differ from the package. diffusers copies from a local folder only what the module itself imports, so the
published `pipeline.py` imports all the others. From the Hub it goes on with what these import, and asks for a module
once for every way that leads to it, so they import each other in a form that diffusers does not look for.
"""

import ast
import json
import re
from collections.abc import Iterable
from pathlib import Path

import colorization
from colorization.hub import INDEX_FILE
from colorization.pipeline import EXTRAS
from colorization.scheduler import ColdDiffusionScheduler

PACKAGE = Path(colorization.__file__).parent
PIPELINE_MODULE = "pipeline"
# Components whose classes are this package's.
COMPONENTS = {"scheduler": ColdDiffusionScheduler, **EXTRAS}

_HEADER = "# Part of Cold Colorizer {version} (Apache-2.0), published with the model; generated, do not edit.\n"
# The one import that is no sibling: the folder that diffusers copies the modules to has an empty __init__.py.
_VERSION_IMPORT = "from . import __version__\n"
_VERSION = f'__version__ = "{colorization.__version__}"\n'
# A text that a module reads from beside it; diffusers copies no files but modules.
_DATA_FILE = re.compile(r'Path\(__file__\)\.with_name\("([\w.]+)"\)\.read_text\(encoding="utf-8"\)')
# Of what `pipeline.py` does not import itself.
_INDIRECT_IMPORT = "from .{name} import __name__ as _{name}  # for diffusers, which copies what is named here\n"
# With a space after the dot the import stays what it was, but diffusers' search does not find it.
_SIBLING_IMPORT, _HIDDEN_IMPORT = re.compile(r"^(\s*from\s+)\.(\w+\s+import\b)", re.MULTILINE), r"\1. \2"
# diffusers runs a component's module anew, and the pipeline knows its components by their classes, so a class must be
# the one that the pipeline has imported already. `from .scheduler` would make diffusers look for a copy of that module
# in this folder.
_COMPONENT_CODE = '''"""Names the {name}'s class to diffusers; its code is {module}.py beside the pipeline's."""

from . import {module}

{kind} = {module}.{kind}
'''


def add_custom_pipeline(folder: Path) -> None:
    """Make a model folder in diffusers layout loadable without this package: adds modules, changes its index.

    Raises:
        ValueError: the folder's model is not one of this package.
    """
    index = json.loads((folder / INDEX_FILE).read_text(encoding="utf-8"))
    name, scheduler = colorization.ColorizationPipeline.__name__, ColdDiffusionScheduler.__name__
    if index["_class_name"] not in (name, [PIPELINE_MODULE, name]) or index["scheduler"][1] != scheduler:
        raise ValueError(f"{folder / INDEX_FILE} must be that of a {name} with a {scheduler}")
    index["_class_name"] = [PIPELINE_MODULE, name]
    components = [component for component in COMPONENTS if index.get(component, [None])[0] is not None]
    for component in components:
        index[component] = [_component_module(component), COMPONENTS[component].__name__]
    (folder / INDEX_FILE).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    for module, code in custom_modules(components).items():
        (folder / module).write_text(code, encoding="utf-8")


def _component_module(component: str) -> str:
    return f"colorization_{component}"


def siblings(code: str) -> set[str]:
    """Modules that a module of the package imports from beside it, at the top or inside a function."""
    relative = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.ImportFrom) and node.level == 1]
    named = {node.module for node in relative if node.module is not None}
    return named | {alias.name for node in relative if node.module is None for alias in node.names} - {"__version__"}


def needed_modules(package: Path, module: str) -> dict[str, str]:
    """Name -> source code of a module and of all that it needs of the package, directly or through others."""
    sources, waiting = {}, [module]
    while waiting:
        name = waiting.pop()
        code = (package / f"{name}.py").read_text(encoding="utf-8")
        sources[name] = _DATA_FILE.sub(lambda data: repr((package / data[1]).read_text(encoding="utf-8")), code)
        waiting += siblings(sources[name]) - sources.keys()
    return sources


def custom_modules(components: Iterable[str], package: Path = PACKAGE) -> dict[str, str]:
    """Path in the repository -> source code, of the pipeline, of what it needs and of these of `COMPONENTS`."""
    needed = needed_modules(package, PIPELINE_MODULE)
    pipeline = needed.pop(PIPELINE_MODULE)
    indirect = "".join(_INDIRECT_IMPORT.format(name=name) for name in sorted(needed.keys() - siblings(pipeline)))
    sources = {PIPELINE_MODULE: pipeline + (indirect and f"\n{indirect}")}
    sources |= {name: _SIBLING_IMPORT.sub(_HIDDEN_IMPORT, code) for name, code in sorted(needed.items())}
    sources = {f"{name}.py": code.replace(_VERSION_IMPORT, _VERSION) for name, code in sources.items()}
    for component in components:
        kind = COMPONENTS[component]
        module = kind.__module__.rsplit(".", 1)[-1]
        code = _COMPONENT_CODE.format(name=component, module=module, kind=kind.__name__)
        sources[f"{component}/{_component_module(component)}.py"] = code
    header = _HEADER.format(version=colorization.__version__)
    return {path: header + code for path, code in sources.items()}
