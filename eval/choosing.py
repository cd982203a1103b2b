"""Which setting of a sweep a model should ship with."""

import json
from collections.abc import Sequence
from pathlib import Path

from .columns import METRICS, badness, show_metric, value_of
from .files import write_result
from .setting import Setting

CHOICES = ("kd_lite2", "feature_distance", "psnr", "ciede2000")
RATIO = "colorfulness_ratio"
FRONT = ("kd_lite2", "psnr", RATIO)


def choose_setting(rows: Sequence[dict], gray: dict, metric: str, psnr_loss: float) -> dict:
    """The cheapest row that is as good as the best one, and what to know about it.

    Args:
        rows: of a sweep, at least one.
        gray: the metrics of the gray input.
        metric: one of `CHOICES`.
        psnr_loss: by how many dB a row's PSNR may be below that of the gray input.

    Returns:
        `metric`; `psnr_loss`; `psnr_gray`; `reached`, whether any row keeps that bound, and `eligible`, how many;
        `best`, the setting with the best value among them, or among all where there is none; `equal`, settings as
        eligible that lie within one standard error of the best one's value, itself included; `setting`, the chosen
        one: of `equal` that with the fewest evaluations of the UNet, and of several such the one whose colorfulness is
        nearest to the originals', then the one with the best value;
        `unconditional`, the best of all rows. Settings are None where nothing was measured.
    """
    measured = [row for row in rows if value_of(row["metrics"].get(metric)) is not None]
    psnr_gray = gray["psnr"]["value"]
    within = [row for row in measured if row["metrics"]["psnr"]["value"] >= psnr_gray - psnr_loss]
    choice = {
        "metric": metric,
        "psnr_loss": psnr_loss,
        "psnr_gray": psnr_gray,
        "reached": bool(within),
        "eligible": len(within),
    }
    if not measured:
        return choice | {"setting": None, "best": None, "equal": [], "unconditional": None}

    def rank(row: dict) -> float:
        return badness(value_of(row["metrics"][metric]), METRICS[metric].better, None)

    eligible = within or measured
    best = min(eligible, key=rank)
    bound = rank(best) + standard_error(best["metrics"][metric])
    equal = [row for row in eligible if rank(row) <= bound]

    def cost(row: dict) -> tuple[int, float, float]:
        return Setting(**row["setting"]).evaluations, _missing_colorfulness(row["metrics"]), rank(row)

    chosen = min(equal, key=cost)
    return choice | {
        "setting": chosen["setting"],
        "best": best["setting"],
        "equal": [row["setting"] for row in equal],
        "unconditional": min(measured, key=rank)["setting"],
    }


def _missing_colorfulness(metrics: dict) -> float:
    """How far the mean colorfulness is from the originals', as a share of it."""
    ratio = value_of(metrics.get("colorfulness_ratio"))
    return 1.0 if ratio is None else abs(1 - ratio)


def standard_error(entry: dict) -> float:
    """Of a metric, from its 95% interval where it has no other; 0 where it has neither."""
    if entry.get("interval"):
        low, high = entry["interval"]
        return (high - low) / (2 * 1.96)
    return entry.get("standard_error") or 0.0


def front(rows: Sequence[dict]) -> set[int]:
    """Rows that no other one beats in one of `FRONT` and equals in the rest; rows without a value take no part."""
    points = {}
    for index, row in enumerate(rows):
        values = [value_of(row["metrics"].get(name)) for name in FRONT]
        if None not in values:
            points[index] = [
                badness(value, METRICS[name].better, None) for name, value in zip(FRONT, values, strict=True)
            ]

    def beaten(point: list[float]) -> bool:
        return any(
            other != point and all(b <= a for a, b in zip(point, other, strict=True)) for other in points.values()
        )

    return {index for index, point in points.items() if not beaten(point)}


def explain_choice(choice: dict, rows: Sequence[dict]) -> str:
    """The choice in words."""
    metric = METRICS[choice["metric"]]
    if choice["setting"] is None:
        return f"No setting can be chosen: {metric.title} was not measured."

    def show(setting: dict) -> str:
        metrics = next(row["metrics"] for row in rows if row["setting"] == setting)
        names = dict.fromkeys((choice["metric"], "psnr", RATIO))
        values = [f"{METRICS[name].title} {show_metric(metrics.get(name), METRICS[name].form)}" for name in names]
        return f"{Setting(**setting)} ({', '.join(values)})"

    floor = f"at most {choice['psnr_loss']:g} dB below the gray input's {choice['psnr_gray']:.2f} dB"
    if choice["reached"]:
        among = f"of the {choice['eligible']} of {len(rows)} settings whose PSNR is {floor}"
    else:
        among = f"of all {len(rows)} settings, as none has a PSNR {floor}"
    text = f"Chosen: {show(choice['setting'])}. "
    if choice["setting"] == choice["best"]:
        text += f"It has the best {metric.title} {among}"
    else:
        text += f"The best {metric.title}, {among}, has {show(choice['best'])}"
    others = len(choice["equal"]) - 1
    if others:
        text += (
            f"; {others} more lie within one standard error of it and count as equally good. Of these the cheapest "
            "was taken, and among the cheapest the one whose colorfulness is nearest to the originals'"
        )
    text += "."
    if choice["unconditional"] != choice["best"]:
        text += f" Without regard to PSNR the best would be {show(choice['unconditional'])}."
    return text


def store_defaults(folder: Path, setting: Setting) -> list[Path]:
    """Make a setting the default of a model in diffusers layout; the files that were changed.

    Raises:
        ValueError: the folder holds no model.
    """
    index, scheduler = folder / "model_index.json", folder / "scheduler" / "scheduler_config.json"
    for file in (index, scheduler):
        if not file.is_file():
            raise ValueError(f"argument --store: {folder} has no {file.relative_to(folder)}")
    defaults = setting.model_config
    changed = []
    for file, names in ((index, defaults.keys() - {"noise_scale"}), (scheduler, {"noise_scale"})):
        old = json.loads(file.read_text(encoding="utf-8"))
        new = old | {name: defaults[name] for name in sorted(names)}
        if new != old:
            write_result(file, new)
            changed.append(file)
    return changed
