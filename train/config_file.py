"""Settings to and from YAML files and the command line; flags win over the file."""

import argparse
import sys
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import jsonargparse
import yaml

from colorization.loading import EMBEDDED_MODEL

from .config import AnyTraining, LoraTraining, Training

CONFIG_DIRECTORY = Path(__file__).parent / "configs"


class _Parser(jsonargparse.ArgumentParser):
    def error(self, message: str, ex: Exception | None = None):
        fail(message)


def fail(message: str, status: int = 2):
    """End the command with one line on stderr."""
    print(f"error: {' '.join(str(message).split())}", file=sys.stderr)
    sys.exit(status)


def find_config(name: str) -> Path:
    """A YAML file by its path, or by its name in train/configs; ValueError lists what there is."""
    for path in (Path(name), CONFIG_DIRECTORY / f"{name}.yaml"):
        if path.is_file():
            return path
    known = ", ".join(sorted(path.stem for path in CONFIG_DIRECTORY.glob("*.yaml")))
    raise ValueError(f"`--config` must be a YAML file or one of {known}, got {name!r}")


def parse_command_line(
    kind: type[Training], description: str, argv: list[str] | None = None
) -> tuple[Training, argparse.Namespace]:
    """Settings and the command's own options (`resume`, `dry_run`); ends the process on errors and on --help."""
    parser = _Parser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", action="config", help="a YAML file, or the name of one in train/configs")
    parser.add_argument("--output-dir", help="the same as --run.output_dir")
    parser.add_argument(
        "--resume",
        nargs="?",
        const="latest",
        help="a checkpoint to go on from, or without value the latest; an error when there is none. Without this flag "
        "a run goes on where it stopped and begins anew where there is nothing",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print settings, parameters, memory and steps, then end"
    )
    parser.add_class_arguments(kind)
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        for i, argument in enumerate(argv):
            if argument == "--config" and i + 1 < len(argv):
                argv[i + 1] = str(find_config(argv[i + 1]))
            elif argument.startswith("--config="):
                argv[i] = f"--config={find_config(argument.split('=', 1)[1])}"
        parsed = vars(parser.instantiate(parser.parse_args(argv)))
        options = argparse.Namespace(**{name: parsed.pop(name) for name in ("output_dir", "resume", "dry_run")})
        parsed.pop("config")
        config = kind(**parsed)
    except ValueError as error:
        fail(error)
    config = replace(config, data=replace(config.data, sources=[_mark_local(name) for name in config.data.sources]))
    if isinstance(config, LoraTraining):
        config = replace(config, model=replace(config.model, base=_mark_local(config.model.base)))
    if options.output_dir is not None:
        config = replace(config, run=replace(config.run, output_dir=options.output_dir))
    return config, options


def without_local_paths(value: Any) -> Any:
    """Settings with local paths cut to their last part: what is published need not tell who has which folders.

    Paths are what is absolute or begins with "." or "~"; :func:`parse_command_line` writes local sources so.
    """
    if isinstance(value, dict):
        return {key: without_local_paths(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [without_local_paths(entry) for entry in value]
    local = isinstance(value, str) and (Path(value).is_absolute() or value.startswith(("./", "../", "~")))
    return Path(value).name if local else value


def _mark_local(name: str | None) -> str | None:
    """A relative path of something that is there begins with "./": nobody shall take it for an id on the Hub."""
    if name is None or name == EMBEDDED_MODEL or name.startswith((".", "~", "/")) or not Path(name).exists():
        return name
    return f"./{name}"


def flat_settings(config: AnyTraining) -> dict[str, int | float | str | bool]:
    """The settings under dotted names, as trackers take them: lists as text."""
    flat = _flatten(yaml.safe_load(to_yaml(config, public=True)))
    return {key: value if isinstance(value, int | float | bool) else str(value) for key, value in flat.items()}


def _flatten(tree: dict, prefix: str = "") -> dict:
    flat = {}
    for key, value in tree.items():
        flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def changed_settings(stored: str, config: AnyTraining) -> dict[str, tuple]:
    """Settings that differ from those stored as YAML: name -> (stored, now); what was not stored had its default."""
    defaults = _flatten({section.name: asdict(section.default_factory()) for section in fields(config)})
    old, new = defaults | _flatten(yaml.safe_load(stored)), _flatten(yaml.safe_load(to_yaml(config)))
    return {key: (old.get(key), new.get(key)) for key in sorted(old | new) if _plain(old.get(key)) != new.get(key)}


def to_yaml(config: AnyTraining, public: bool = False) -> str:
    """The settings as YAML that `--config` reads; `public` cuts local paths, see :func:`without_local_paths`."""
    settings = _plain(asdict(config))
    return yaml.safe_dump(without_local_paths(settings) if public else settings, sort_keys=False, allow_unicode=True)


def _plain(value: Any) -> Any:
    """Settings as YAML knows them: tuples are lists."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, list | tuple) else value
