"""The usual alternatives to diffusion, small and trainable, so that a choice between them can be measured.

Each is a :class:`~colorization.baselines.base.Baseline` in a file of its own; `train.baselines` trains them,
`load_pipeline("baseline:NAME")` loads what ships with the package.
"""

import importlib

# Name -> module and class; imported on first use, because some need packages of their own.
BASELINES = {
    "resnet": ("resnet", "ResNetBaseline"),
    "cic": ("cic", "ClassificationBaseline"),
    "gan": ("gan", "GanBaseline"),
    "pixelcnn": ("pixelcnn", "PixelCnnBaseline"),
    "controlnet": ("controlnet", "ControlNetBaseline"),
    "optimization": ("optimization", "OptimizationBaseline"),
}
TRAINED = tuple(name for name in BASELINES if name != "optimization")


def baseline_class(name: str):
    """The class of a baseline; ValueError names those that there are, or the package that it needs."""
    if name not in BASELINES:
        raise ValueError(f"baseline must be one of {', '.join(BASELINES)}, got {name!r}")
    module, kind = BASELINES[name]
    return getattr(importlib.import_module(f".{module}", __name__), kind)
