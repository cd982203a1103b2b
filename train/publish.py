"""`python -m train.publish`: upload a trained adapter or model to the Hugging Face Hub, with a model card."""

import argparse
import json
import math
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from colorization.command_line import Parser
from colorization.loading import (
    CONV_IN_FILE,
    DEFAULTS_FILE,
    EMBEDDED_MODEL,
    INDEX_FILE,
    LORA_FILE,
    MODEL_PATTERNS,
    SCHEDULER_FILE,
    load_pipeline,
)

from .config import without_local_paths
from .custom_pipeline import add_custom_pipeline
from .hub import PublishError, list_files, one_line, repo_name, upload

CARD_TEMPLATE = Path(__file__).parent / "templates" / "model_card.md"
CARD_FILE = "README.md"
CONFIG_FILE = "training_config.yaml"
PICTURE_FOLDER = "images"
TAGS = ["colorization", "image-colorization", "cold-diffusion", "stable-diffusion"]

# What an earlier upload may have left in the repository and this one may not contain: it would be loaded with it.
_REPLACED = [LORA_FILE, CONV_IN_FILE, DEFAULTS_FILE, CONFIG_FILE, *MODEL_PATTERNS, "*.py", f"{PICTURE_FOLDER}/*"]

_EXAMPLES = """examples:
  python -m train.publish runs/lora --repo user/my-colorizer --results eval/results/coco.json
  python -m train.publish runs/lora --repo user/my-colorizer --dry-run
  python -m train.publish runs/embedded --repo user/my-small-colorizer --full-model --private

The token is the one of `hf auth login`, or HF_TOKEN.
exit status: 0 published, 1 the upload failed, 2 bad arguments"""


@dataclass(frozen=True)
class Run:
    """What a run left behind.

    Args:
        kind: "adapter" (for a base model), "model" (complete, loaded by this package) or "full" (complete, with code
            that diffusers loads).
        folder: holds the adapter's or the model's files.
        base: Hub id or folder of the model that was adapted; None for a model that was trained from scratch.
        base_revision: branch, tag or commit of the base.
        config: settings of the training, {} when they are not known.
        settings: of the scheduler and the pipeline, as they are stored with the adapter or the model.
        widened: whether an adapter has an input layer that also sees the gray latent.
        picture: the last picture of the validation.
    """

    kind: str
    folder: Path
    base: str | None = None
    base_revision: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    widened: bool = False
    picture: Path | None = None


# The run


def find_run(directory: Path, base: str | None = None, full_model: bool = False) -> Run:
    """What there is to publish in a run's folder, or in a folder that is an adapter or a model itself.

    Args:
        directory: of the run.
        base: the base model, if not the one that the run's config names.
        full_model: whether a complete model with its code is asked for.

    Raises:
        ValueError: there is no adapter and no model, or it is incomplete.
    """
    if not directory.is_dir():
        raise ValueError(f"RUN_DIR must be a folder, got {str(directory)!r}")
    config = _read_config(directory / "config.yaml")
    model_config = config.get("model") or {}
    if base is None:
        base, base_revision = model_config.get("base"), model_config.get("revision")
    else:
        base_revision = None
    candidates = [(directory / "adapter", LORA_FILE), (directory, LORA_FILE)]
    candidates += [(directory / "model", INDEX_FILE), (directory, INDEX_FILE)]
    folder, file = next((found for found in candidates if (found[0] / found[1]).is_file()), (None, None))
    if folder is None:
        raise ValueError(
            f"{str(directory)!r} holds nothing to publish: neither {LORA_FILE} nor {INDEX_FILE}, "
            "in the folder itself or in its folders adapter and model"
        )
    settings, widened = _stored_settings(folder), (folder / CONV_IN_FILE).is_file()
    if not (folder / SCHEDULER_FILE).is_file():
        raise ValueError(f"{str(folder)!r} is incomplete: it has no {SCHEDULER_FILE}")
    if file == LORA_FILE and base is None:
        raise ValueError(f"the base model of {str(directory)!r} is not known: name it with --base-model")
    if file == LORA_FILE and settings.get("noise_scale", 0) > 0 and not widened:
        raise ValueError(f"{str(folder)!r} is incomplete: its noise_scale needs {CONV_IN_FILE}")
    pictures = sorted((directory / "validation").glob("step-*.jpg"), key=_step)
    return Run(
        kind="full" if full_model else "adapter" if file == LORA_FILE else "model",
        folder=folder,
        base=base,
        base_revision=base_revision,
        config=config,
        settings=settings,
        widened=widened,
        picture=pictures[-1] if pictures else None,
    )


def _step(picture: Path) -> int:
    number = picture.stem.removeprefix("step-")
    return int(number) if number.isdecimal() else -1


def _read_config(file: Path) -> dict:
    if not file.is_file():
        return {}
    try:
        config = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{file} cannot be read: {one_line(error)}") from error
    if not isinstance(config, dict) or not isinstance(config.get("model", {}), dict | None):
        raise ValueError(f"{file} must hold a mapping with a mapping `model`")
    return config


def _read_json(file: Path) -> dict:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{file} cannot be read: {one_line(error)}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file} must hold a JSON object, got {type(content).__name__}")
    return content


def _stored_settings(folder: Path) -> dict[str, Any]:
    """The scheduler's settings and the pipeline's defaults, from an adapter's or a model's files."""
    stored = {}
    for name in (SCHEDULER_FILE, DEFAULTS_FILE, INDEX_FILE):
        if (folder / name).is_file():
            stored |= _read_json(folder / name)
    # Those of the index that are lists name the components.
    return {key: value for key, value in stored.items() if not key.startswith("_") and not isinstance(value, list)}


def default_license(base: str | None) -> str:
    """License of weights derived from `base`, by the name of the base; None and "embedded" mean our own weights.

    Raises:
        ValueError: the base is none whose license is known here.
    """
    if base is None or base == EMBEDDED_MODEL:
        return "apache-2.0"
    if "stable-diffusion-2" in base:
        return "openrail++"
    raise ValueError(f"the license of the base model {base!r} is not known here: name it with --license")


# Results


def read_results(file: Path) -> dict:
    """One result: model, data (name, n, geometry), metrics (value, n, interval), settings, seed, versions.

    Raises:
        ValueError: the file is missing, is no JSON object or lacks something; the message names it.
    """
    result = _read_json(file)
    try:
        for name in ("name", "n", "geometry"):
            result["data"][name]
        result["seed"]
        # What could not be measured has no value, only a reason; times are no property of the model.
        result["metrics"] = {
            name: metric
            for name, metric in result["metrics"].items()
            if metric["value"] is not None and not name.startswith("seconds")
        }
        for name, metric in result["metrics"].items():
            numbers = [metric["value"], metric["n"], *(metric.get("interval") or [])]
            if not all(math.isfinite(number) for number in numbers) or len(numbers) not in (2, 4):
                raise ValueError(f"{name} must have a finite value, n, and an interval of two finite numbers or null")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"no {error}" if isinstance(error, KeyError) else one_line(error)
        raise ValueError(f"{file} is no result of an evaluation: {what}") from error
    return result


def _result_rows(results: Iterable[Mapping]) -> list[list[str]]:
    rows = []
    for result in results:
        data = result["data"]
        for name, metric in result["metrics"].items():
            interval = metric.get("interval")
            shown = "" if interval is None else f"{interval[0]:.4g} to {interval[1]:.4g}"
            cells = [data["name"], data["geometry"], name, f"{metric['value']:.4g}", shown, metric["n"]]
            rows.append([_cell(cell) for cell in (*cells, result["seed"])])
    return rows


def _conditions(results: Iterable[Mapping]) -> list[str]:
    """Under which settings and versions each result was measured."""
    lines = []
    for result in results:
        facts = {**(result.get("settings") or {}), **(result.get("versions") or {})}
        if facts:
            shown = ", ".join(f"{name} {_cell(value)}" for name, value in facts.items())
            lines.append(f"{_cell(result['data']['name'])}, {_cell(result['data']['geometry'])}: {shown}")
    return lines


def _evaluations(results: Iterable[Mapping]) -> list[EvalResult]:
    return [
        EvalResult(
            task_type="image-to-image",
            task_name="Image colorization",
            dataset_type=result["data"]["name"],
            dataset_name=result["data"]["name"],
            metric_type=name,
            metric_name=name,
            metric_value=metric["value"],
            metric_args={"n": metric["n"], "geometry": result["data"]["geometry"], "seed": result["seed"]},
        )
        for result in results
        for name, metric in result["metrics"].items()
    ]


# Model card


def render_model_card(
    repo: str,
    run: Run,
    license: str,
    results: Sequence[Mapping] = (),
    revision: str | None = None,
    notes: str = "",
) -> str:
    """The model card, front matter included. Every number in it comes from the run or from `results`.

    Args:
        repo: "user/name" that the card is for.
        run: what is published.
        license: identifier of the Hub.
        results: as :func:`read_results` returns them.
        revision: branch that is published to, None for the main one.
        notes: Markdown on training, limits and license, in place of what the card says of itself.
    """
    hub_base = run.base if run.base is not None and _is_hub_id(run.base) else None
    data = ModelCardData(
        base_model=hub_base,
        base_model_relation="adapter" if hub_base and run.kind == "adapter" else None,
        license=license,
        library_name="diffusers",
        pipeline_tag="image-to-image",
        tags=[*TAGS, *(["lora"] if run.kind == "adapter" else [])],
        datasets=_hub_datasets(run.config) or None,
        model_name=repo.split("/")[1],
        eval_results=_evaluations(results) or None,
    )
    return str(
        ModelCard.from_template(
            data,
            template_path=str(CARD_TEMPLATE),
            title=repo.split("/")[1],
            kind=run.kind,
            base=None if run.base is None else f"`{without_local_paths(run.base)}`",
            widened=run.widened,
            picture=None if run.picture is None else f"{PICTURE_FOLDER}/{run.picture.name}",
            usage=usage(repo, run, revision),
            plain_usage=_plain_usage(repo, run, revision) if run.kind == "adapter" and not run.widened else None,
            settings=[(name, _cell(value)) for name, value in run.settings.items()],
            training=[(name, _cell(value)) for name, value in _flatten(without_local_paths(dict(run.config)))],
            results=_result_rows(results),
            conditions=_conditions(results),
            notes=notes.strip(),
        )
    )


def usage(repo: str, run: Run, revision: str | None = None) -> str:
    """A few lines of Python that load what was published and color a photograph."""
    pinned = "" if revision is None else f', revision="{revision}"'
    color = 'pipeline("photo.jpg", prompt="red bus").images[0].save("colored.png")'
    if run.kind == "full":
        load = f'pipeline = DiffusionPipeline.from_pretrained("{repo}"{pinned}, trust_remote_code=True)'
        return f"from diffusers import DiffusionPipeline\n\n{load}\n{color}"
    if run.kind == "model":
        load = f'pipeline = load_pipeline("{repo}"{pinned})'
    else:
        base = f'"{without_local_paths(run.base)}"'
        base_revision = "" if run.base_revision is None else f', revision="{run.base_revision}"'
        adapter_revision = "" if revision is None else f', adapter_revision="{revision}"'
        load = f'pipeline = load_pipeline({base}, adapter="{repo}"{base_revision}{adapter_revision})'
    return f"from colorization import load_pipeline\n\n{load}\n{color}"


def _plain_usage(repo: str, run: Run, revision: str | None) -> str:
    base_revision = "" if run.base_revision is None else f', revision="{run.base_revision}"'
    pinned = "" if revision is None else f', revision="{revision}"'
    base = without_local_paths(run.base)
    return (
        "from diffusers import StableDiffusionPipeline\n\n"
        f'pipeline = StableDiffusionPipeline.from_pretrained("{base}"{base_revision})\n'
        f'pipeline.load_lora_weights("{repo}"{pinned}, weight_name="{LORA_FILE}")'
    )


def _flatten(value: Any, name: str = "") -> list[tuple[str, Any]]:
    """Nested settings as pairs of a dotted name and a value."""
    if not isinstance(value, dict):
        return [(name, value)]
    return [pair for key, entry in value.items() for pair in _flatten(entry, f"{name}.{key}" if name else str(key))]


def _cell(value: Any) -> str:
    """A value as one cell of a Markdown table."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return " ".join(text.split()).replace("|", "\\|")


def _is_hub_id(name: str) -> bool:
    return re.fullmatch(r"[\w.-]+/[\w.-]+", name) is not None and not Path(name).exists() and name[0] not in "./"


def _hub_datasets(config: Mapping) -> list[str]:
    """Sources of the training data that are data sets on the Hub."""
    sources = (config.get("data") or {}).get("sources") or []
    return list(dict.fromkeys(source for source in sources if isinstance(source, str) and _is_hub_id(source)))


# Files


def write_files(
    target: Path,
    repo: str,
    run: Run,
    license: str,
    results: Sequence[Mapping] = (),
    revision: str | None = None,
    notes: str = "",
) -> None:
    """Write everything that is to be uploaded into an empty folder.

    Pictures that the notes show, by paths relative to the current folder, go along.

    Raises:
        ValueError: a model cannot be put together.
    """
    if run.kind == "adapter":
        _copy(run.folder, target, [LORA_FILE, CONV_IN_FILE, DEFAULTS_FILE, SCHEDULER_FILE])
    elif (run.folder / LORA_FILE).is_file():
        _merge(run, target)
    else:
        _copy(run.folder, target, MODEL_PATTERNS)
    if run.kind != "adapter":
        _forget_origin(target)
    if run.kind == "full":
        add_custom_pipeline(target)
    if run.config:
        text = yaml.safe_dump(without_local_paths(dict(run.config)), sort_keys=False, allow_unicode=True)
        (target / CONFIG_FILE).write_text(text, encoding="utf-8")
    if run.picture is not None:
        (target / PICTURE_FOLDER).mkdir()
        shutil.copyfile(run.picture, target / PICTURE_FOLDER / run.picture.name)
    for picture in map(Path, re.findall(r"!\[[^\]]*\]\((?!https?:)([^)\s]+)\)", notes)):
        if picture.is_absolute() or ".." in picture.parts or not picture.is_file():
            raise ValueError(f"the notes show {str(picture)!r}, which is no file below the current folder")
        (target / picture).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(picture, target / picture)
    card = render_model_card(repo, run, license, results, revision, notes)
    (target / CARD_FILE).write_text(card, encoding="utf-8")


def _copy(source: Path, target: Path, patterns: Iterable[str]) -> None:
    for file in sorted({file for pattern in patterns for file in source.glob(pattern)}):
        copy = target / file.relative_to(source)
        copy.parent.mkdir(exist_ok=True)
        shutil.copyfile(file, copy)


def _merge(run: Run, target: Path) -> None:
    """Save the base model with the adapter's updates added to its weights, in float32."""
    pipeline = load_pipeline(run.base, run.folder, run.base_revision, device="cpu", dtype=torch.float32)
    pipeline.fuse_lora(components=["unet"])
    pipeline.unload_lora_weights()
    pipeline.save_pretrained(target)


def _forget_origin(folder: Path) -> None:
    """Remove from a model's JSON files where it was loaded from: a path on this machine, of no use elsewhere."""
    for file in (folder / INDEX_FILE, *folder.glob("*/config.json")):
        config = _read_json(file)
        if config.pop("_name_or_path", None) is not None:
            file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


# The command


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m train.publish",
        description="Upload a trained adapter or model to the Hugging Face Hub, with a model card.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run_dir", type=Path, metavar="RUN_DIR", help="folder of a run, of an adapter or of a model")
    parser.add_argument("--repo", required=True, type=repo_name, metavar="USER/NAME", help="model repository")
    parser.add_argument(
        "--full-model",
        action="store_true",
        help="a complete model (an adapter is merged into its base) with code that diffusers can load it with",
    )
    parser.add_argument("--private", action="store_true", help="make the repository private")
    parser.add_argument("--revision", metavar="BRANCH", help="branch to publish to, made if need be (default: main)")
    parser.add_argument("--dry-run", action="store_true", help="list the files and print the card, send nothing")
    parser.add_argument(
        "--results", nargs="+", default=[], type=Path, metavar="JSON", help="results of an evaluation, for the card"
    )
    parser.add_argument(
        "--notes",
        type=Path,
        metavar="FILE",
        help="Markdown on training, limits and license for the card, in place of the card's own words",
    )
    parser.add_argument("--card", type=Path, metavar="FILE", help="write the card to this file, send nothing")
    parser.add_argument("--base-model", metavar="ID", help="base of the adapter (default: the one in config.yaml)")
    parser.add_argument("--license", metavar="ID", help="license of the weights (default: that of the base model)")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = build_parser()
    arguments = parser.parse_args(argv)
    repo, revision = arguments.repo, arguments.revision
    with tempfile.TemporaryDirectory(prefix="publish-") as name:
        folder = Path(name)
        try:
            run = find_run(arguments.run_dir, arguments.base_model, arguments.full_model)
            results = [read_results(file) for file in arguments.results]
            license = arguments.license or default_license(run.base)
            notes = "" if arguments.notes is None else arguments.notes.read_text(encoding="utf-8")
            write_files(folder, repo, run, license, results, revision, notes)
        except (ValueError, OSError) as error:
            parser.error(one_line(error))
        if arguments.card is not None:
            shutil.copyfile(folder / CARD_FILE, arguments.card)
            return 0
        print(list_files(folder))
        if arguments.dry_run:
            print(f"\n{(folder / CARD_FILE).read_text(encoding='utf-8')}")
            return 0
        try:
            # Model files of an earlier upload that this one does not have are removed, other files stay.
            message = "Publish a colorization model"
            address = upload(folder, repo, message, _REPLACED, private=arguments.private, revision=revision)
        except PublishError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
    print(f"published: {address}\n\n{usage(repo, run, revision)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
