"""Files that let diffusers load a published model where the package `colorization` is not installed.

`DiffusionPipeline.from_pretrained(repo, trust_remote_code=True)` runs the module that the model's index names, copies
the siblings that this module imports relatively, and looks for the code of a component in the component's folder. So
the package's own modules are published as they are, `pipeline.py` and what it imports, beside an index that names
them.
"""

import json
from collections.abc import Iterable
from pathlib import Path

from diffusers.utils.dynamic_modules_utils import get_relative_imports

import colorization
from colorization.loading import INDEX_FILE
from colorization.scheduler import ColdDiffusionScheduler
from colorization.vividness import VividnessModel

PACKAGE = Path(colorization.__file__).parent
PIPELINE_MODULE = "pipeline"
# Components whose classes are this package's, each defined in a module of the component's name.
COMPONENTS = {"scheduler": ColdDiffusionScheduler, "vividness": VividnessModel}

_HEADER = "# Part of Cold Colorizer {version} (Apache-2.0), published with the model; generated, do not edit.\n"
# The one import that is no sibling: the folder that diffusers copies the modules to has an empty __init__.py.
_VERSION_IMPORT = "from . import __version__\n"
# diffusers runs a component's module anew, and the pipeline knows its components by their classes, so a class must be
# the one that the pipeline has imported already. `from .scheduler` would make diffusers look for a copy of that module
# in this folder.
_COMPONENT_CODE = '''"""Names the {name}'s class to diffusers; its code is {name}.py beside the pipeline's."""

from . import {name}

{kind} = {name}.{kind}
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


def custom_modules(components: Iterable[str]) -> dict[str, str]:
    """Path in the repository -> source code, of the pipeline, of what it imports and of these of `COMPONENTS`."""
    names = [PIPELINE_MODULE, *sorted(get_relative_imports(PACKAGE / f"{PIPELINE_MODULE}.py"))]
    sources = {f"{name}.py": (PACKAGE / f"{name}.py").read_text(encoding="utf-8") for name in names}
    pipeline = sources[f"{PIPELINE_MODULE}.py"]
    if pipeline.count(_VERSION_IMPORT) != 1:
        raise RuntimeError(f"{PIPELINE_MODULE}.py must have the line {_VERSION_IMPORT.strip()!r} once")
    # After the imports of siblings, which come next in the sorted block.
    head, tail = pipeline.split(_VERSION_IMPORT)
    imports, rest = tail.split("\n\n", 1)
    version = f'__version__ = "{colorization.__version__}"'
    sources[f"{PIPELINE_MODULE}.py"] = f"{head}{imports}\n\n{version}\n{rest}"
    for component in components:
        code = _COMPONENT_CODE.format(name=component, kind=COMPONENTS[component].__name__)
        sources[f"{component}/{_component_module(component)}.py"] = code
    header = _HEADER.format(version=colorization.__version__)
    return {path: header + code for path, code in sources.items()}
