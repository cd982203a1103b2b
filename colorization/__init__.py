"""Text-guided image colorization by cold diffusion in the latent space of Stable Diffusion.

The names below are imported on first use, so that `python -m colorization --help` need not load torch.
"""

import importlib

__version__ = "0.1.0"

_EXPORTS = {
    "ColdDiffusionScheduler": "scheduler",
    "ColorizationPipeline": "pipeline",
    "ColorizationPipelineOutput": "prediction",
    "load_pipeline": "loading",
    "save_adapter": "adapters",
    "verify": "verification",
}

__all__ = [*_EXPORTS, "__version__"]


def __getattr__(name: str):
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_EXPORTS[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_EXPORTS])
