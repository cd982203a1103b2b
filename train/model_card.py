"""The card of a published model: what it is, how it is used, how it was trained and what was measured."""

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from colorization.adapters import LORA_FILE
from colorization.errors import one_line

from .config_file import without_local_paths
from .finished_run import Run, read_json

CARD_TEMPLATE = Path(__file__).parent / "templates" / "model_card.md"
PICTURE_FOLDER = "images"
TAGS = ["colorization", "image-colorization", "cold-diffusion", "stable-diffusion"]
# Times are no property of the model, and what becomes of each hue is for the report.
_NOT_ON_CARDS = ("seconds", "chroma_error_", "chroma_retention_")

# Times are no property of the model, and what becomes of each hue is for the report.
_NOT_ON_CARDS = ("seconds", "chroma_error_", "chroma_retention_")


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


# Results


def read_results(file: Path) -> dict:
    """One result: model, data (name, n, geometry), metrics (value, n, interval), settings, seed, versions.

    Args:
        file: score.json of a run of `python -m eval`, or a result of that form itself.

    Raises:
        ValueError: the file is missing, is no JSON object or lacks something; the message names it.
    """
    result = read_json(file)
    try:
        result = _result_of_outputs(result) if "rows" in result else result
        for name in ("name", "n", "geometry"):
            result["data"][name]
        result["seed"]
        # What could not be measured has no value, only a reason, and what says nothing by itself a note.
        result["metrics"] = {
            name: metric
            for name, metric in result["metrics"].items()
            if metric["value"] is not None and not metric.get("note") and not name.startswith(_NOT_ON_CARDS)
        }
        for name, metric in result["metrics"].items():
            numbers = [metric["value"], metric["n"], *(metric.get("interval") or [])]
            if not all(math.isfinite(number) for number in numbers) or len(numbers) not in (2, 4):
                raise ValueError(f"{name} must have a finite value, n, and an interval of two finite numbers or null")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"no {error}" if isinstance(error, KeyError) else one_line(error)
        raise ValueError(f"{file} is no result of an evaluation: {what}") from error
    return result


def _result_of_outputs(score: Mapping) -> dict:
    """What a score.json says of the outputs: their metrics, and with which settings they were made."""
    run = score["run"]
    settings = {name: value for name, value in (run.get("settings") or {}).items() if value is not None}
    settings |= {name: run[name] for name in ("prompt_mode", "dtype") if run.get(name) is not None}
    return {
        "model": run.get("model"),
        "data": score["data"],
        "metrics": score["rows"]["output"],
        "settings": settings,
        "seed": run.get("seed", score["seed"]),
        "versions": score.get("versions"),
    }


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
