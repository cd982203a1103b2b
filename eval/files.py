"""Results on disk, each written whole or not at all."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from colorization.atomic import sha256_of

# Whose versions a result tells.
PACKAGES = ("cold-colorizer", "torch", "diffusers", "transformers", "numpy", "pillow", "efficientnet_lite_pytorch")


def write_result(file: Path, result: dict) -> None:
    """Write a result as JSON, whole or not at all."""
    write_text(file, json.dumps(result, indent=2, allow_nan=False) + "\n")


def write_text(file: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    replace_file(file, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_bytes(file: Path, data: bytes) -> str:
    """Write a file, whole or not at all; its SHA-256."""
    replace_file(file, lambda temporary: temporary.write_bytes(data))
    return hashlib.sha256(data).hexdigest()


def replace_file(file: Path, write: Callable[[Path], object]) -> None:
    """Have `write` fill a temporary file beside `file`, which it then becomes; an error leaves `file` as it was."""
    temporary = file.with_name(f".writing-{os.getpid()}-{file.name}")
    try:
        write(temporary)
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def weights_sha256(folder: Path) -> str:
    """One SHA-256 for the safetensors files below a folder, their relative names included.

    The vividness network is left out: it only chooses a color scale, where that is asked for.
    """
    total = hashlib.sha256()
    for file in sorted(set(folder.rglob("*.safetensors")) - set(folder.glob("vividness/*"))):
        total.update(file.relative_to(folder).as_posix().encode() + bytes.fromhex(sha256_of(file)))
    return total.hexdigest()


def package_versions(packages: Iterable[str]) -> dict[str, str | None]:
    """The installed version of each package, None where it is not installed."""
    versions = {}
    for package in packages:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    return versions
