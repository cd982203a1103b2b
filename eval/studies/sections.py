"""The experiments of docs/experiments.md that need no training: samplers, hues and seeds.

Each becomes a section of the page with sentences that follow from its numbers. Two values count as different where
their 95% intervals do not overlap: as they are of the same photographs, that is more cautious than it need be.
"""

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..choosing import standard_error
from ..columns import HUE_SECTORS, METRICS, badness, show_metric, value_of
from ..runs import GRAY, OUTPUT, Run
from ..setting import Setting
from ..sweep_page import RESULT_FILE, sweep_table
from ..tables import Cell, Row, Table, metric_table
from .alternatives import read_kept
from .results_page import SCORES, describe_weights, generate_command

SAMPLING, DIVERSITY = "sampling", "diversity"  # folders of JSONs
HUES_OF = Path(SCORES) / "embedded" / "tiny-imagenet-64-validation.json"
UNTRAINED_QUESTIONS = {
    "sampling": "Which sampler, how many steps?",
    "hues": "Which colors fail?",
    "seeds": "How different are the seeds?",
}
COMPARED = ("kd_lite2", "feature_distance", "colorfulness_ratio", "psnr", "ciede2000")  # of samplers
OF_SEEDS = ("diversity", "best_of_k_ciede2000", "ciede2000", "colorfulness_ratio", "psnr")
OF_HUES = {"chroma_error": "chroma error", "chroma_retention": "chroma retention"}
DOUBTED_HUES = ("red", "green")  # those that the student report found to fail
_NORMAL = 1.96  # standard errors to either side make a 95% interval


@dataclass(frozen=True)
class Section:
    """What the page shows of one experiment.

    Attributes:
        title: its heading.
        commands: that made it.
        table: its numbers.
        findings: sentences computed from them.
        facts: names and values of what was measured and how.
    """

    title: str
    commands: list[str]
    table: Table
    findings: list[str]
    facts: dict[str, str]


def untrained_sections(results: Path) -> dict[str, list[Section]]:
    """Sections by question, none where no JSON is there.

    Args:
        results: eval/results.

    Raises:
        ValueError: the runs whose seeds are compared are of different photographs.
    """
    sweeps = [_read(file) for file in sorted((results / SAMPLING).glob("*.json"))]
    hues, seeds = results / HUES_OF, read_kept(results / DIVERSITY)
    return {
        "sampling": [sampling_section(sweep) for sweep in sweeps],
        "hues": [hues_section(_read(hues))] if hues.is_file() else [],
        "seeds": [seeds_section(seeds)] if seeds else [],
    }


def _read(file: Path) -> dict:
    return json.loads(file.read_text(encoding="utf-8"))


# Differences


def badness_range(entry: dict, better: str) -> tuple[float, float] | None:
    """From the least to the greatest badness in a metric's 95% interval; None where it has none.

    Args:
        entry: of score.json or sweep.json, with `interval` or `standard_error`.
        better: "lower", "higher" or "one", see `eval.report.Metric`.
    """
    value, interval = value_of(entry), entry.get("interval")
    if value is None:
        return None
    if interval is None:
        error = entry.get("standard_error")
        if error is None:
            return None
        interval = value - _NORMAL * error, value + _NORMAL * error
    ends = sorted(badness(end, better, None) for end in interval)
    if better == "one" and interval[0] <= 1 <= interval[1]:
        ends[0] = 0.0
    return ends[0], ends[1]


def verdict(entry: dict, other: dict, better: str) -> str:
    """ "better" or "worse" than another value, "no difference shown" where intervals overlap or are missing."""
    own, others = badness_range(entry, better), badness_range(other, better)
    if own is None or others is None or (own[0] <= others[1] and others[0] <= own[1]):
        return "no difference shown"
    return "better" if own[1] < others[0] else "worse"


# Samplers and steps


def check_sampling(folder: Path) -> None:
    """ValueError where a sweep varies anything but samplers and steps: the sentences below its table could not say of
    which setting they speak."""
    file = folder / RESULT_FILE
    if not file.is_file():
        return  # what keeps the sweep says so
    settings = [row["setting"] for row in _read(file)["rows"]]
    for name in ("guidance_scale", "noise_scale", "color_scale"):
        values = sorted({setting[name] for setting in settings})
        if len(values) > 1:
            raise ValueError(f"argument --add-sweep: {folder} must vary samplers and steps only, got {name} {values}")


def sampling_section(sweep: dict) -> Section:
    """The section of one model's sweep over samplers and steps."""
    rows, request = sweep["rows"], sweep["request"]
    data = rows[0]["data"]
    facts = {
        "photographs": f"{data['n']} of {data['name']}, {data['geometry']}; prompts: {request['prompt_mode']}",
        "model": f"{sweep['model']}, SHA-256 of the loaded weights {request['weights_sha256']}",
        "computed on": ", ".join(sorted({f"{row['device']} in {row['dtype']}" for row in rows})),
    }
    title = f"{UNTRAINED_QUESTIONS['sampling']} ({sweep['model']})"
    findings = [*algorithms_compared(rows), *enough_steps(rows)]
    return Section(
        title, [sweep_command(sweep)], sweep_table(rows, sweep["gray"], with_seconds=False), findings, facts
    )


def sweep_command(sweep: dict) -> str:
    """The command that makes a sweep again."""
    settings = [row["setting"] for row in sweep["rows"]]
    values = {
        "--steps": "num_inference_steps",
        "--sampler": "sampler",
        "--guidance-scale": "guidance_scale",
        "--noise-scale": "noise_scale",
        "--color-scale": "color_scale",
    }
    words = ["python -m eval sweep", f'--dataset "{sweep["dataset"]}"', f"--model {shlex.quote(sweep['model'])}"]
    words += [f"--limit {sweep['limit']}"] if sweep.get("limit") else []
    for option, name in values.items():
        given = sorted({setting[name] for setting in settings})
        words.append(" ".join([option, *(value if name == "sampler" else f"{value:g}" for value in given)]))
    words += [f"--prompt-mode {sweep['request']['prompt_mode']}", f"--seed {sweep['request']['seed']}"]
    return " ".join([*words, "--output SWEEP"])


def algorithms_compared(rows: Sequence[dict]) -> list[str]:
    """For each metric, with how many steps Algorithm 1 is better or worse than Algorithm 2, all else equal."""
    metrics = {Setting(**row["setting"]): row["metrics"] for row in rows}
    pairs = [(a, b) for a in metrics for b in metrics if a.sampler == "naive" and b.sampler == "cold"]
    pairs = sorted((a, b) for a, b in pairs if a.file_name.replace("naive", "cold") == b.file_name)
    sentences = []
    for metric in (METRICS[name] for name in COMPARED):
        found: dict[str, list[int]] = {}
        for a, b in pairs:
            word = verdict(metrics[a][metric.name], metrics[b][metric.name], metric.better)
            found.setdefault(word, []).append(a.num_inference_steps)
        parts = [f"{word} at steps {', '.join(map(str, steps))}" for word, steps in found.items()]
        if parts:
            sentences.append(f"{metric.title}, Algorithm 1 (naive) against Algorithm 2 (cold): {'; '.join(parts)}.")
    return sentences


def enough_steps(rows: Sequence[dict]) -> list[str]:
    """For each sampler, its best KD-Lite2 and the fewest steps within one standard error of it."""
    metric, sentences = METRICS["kd_lite2"], []
    for sampler in sorted({row["setting"]["sampler"] for row in rows}):
        entries = {
            row["setting"]["num_inference_steps"]: row["metrics"][metric.name]
            for row in rows
            if row["setting"]["sampler"] == sampler and value_of(row["metrics"][metric.name]) is not None
        }
        if not entries:
            continue
        best = min(entries, key=lambda steps: entries[steps]["value"])
        bound = entries[best]["value"] + standard_error(entries[best])
        fewest = min(steps for steps, entry in entries.items() if entry["value"] <= bound)
        shown = show_metric(entries[best], metric.form)
        sentences.append(
            f"{sampler}: the best {metric.title}, {shown}, at steps {best}; the fewest within one standard error of "
            f"it: {fewest}."
        )
    return sentences


# Hues


def hues_section(score: dict) -> Section:
    """The section on errors by the original's hue, of a scored run of the shipped model."""
    run = Run(Path(), score["run"]["model"], score)
    definition = score["settings"]["hue_sectors"]
    starts = ", ".join(f"{name} from {start}°" for name, start in definition["start_degrees"].items())
    facts = {
        "photographs": f"{score['data']['n']} of {score['data']['name']}, {score['data']['geometry']}",
        "weights": describe_weights(score["run"]),
        "sectors": f"{starts}, of the original in {definition['space']}; pixels with a chroma below "
        f"{definition['minimum_chroma']:g} count as gray and are in none",
        " and ".join(DOUBTED_HUES): "the hues that fail by the student report that this project started from",
    }
    commands = [f"{generate_command(score['run'])} --output RUN", "python -m eval score RUN"]
    return Section(UNTRAINED_QUESTIONS["hues"], commands, hue_table(run), hue_findings(run), facts)


def hue_table(run: Run) -> Table:
    """A row for each hue sector; the gray input's chroma error, its original's chroma, beside the model's."""
    columns = [*OF_HUES.values(), "chroma error of the gray input", "photographs with such pixels"]
    table = Table("", columns, [])
    for sector in HUE_SECTORS:
        entries = [run.metric(f"{name}_{sector}") for name in OF_HUES] + [run.metric(f"chroma_error_{sector}", GRAY)]
        cells = [Cell(show_metric(entry, ".2f")) for entry in entries]
        table.rows.append(Row(sector, [*cells, Cell(f"{entries[0]['n']:,}")]))
    return table


def hue_findings(run: Run) -> list[str]:
    """Which sectors are worst, which are worse than doing nothing, and where red and green stand."""
    sentences = []
    for name, title in OF_HUES.items():
        entries = {sector: run.metric(f"{name}_{sector}") for sector in HUE_SECTORS}
        entries = {sector: entry for sector, entry in entries.items() if value_of(entry) is not None}
        if not entries:
            continue
        better = METRICS[f"{name}_{HUE_SECTORS[0]}"].better
        ranked = sorted(entries, key=lambda sector: -badness(entries[sector]["value"], better, None))
        worst = ranked[0]
        equal = [
            sector
            for sector in ranked[1:]
            if verdict(entries[sector], entries[worst], better) == "no difference shown"
        ]
        overlapping = f"; intervals that overlap with its own: {', '.join(equal)}" if equal else ""
        sentences.append(f"Worst sector by {title}: {worst}, {show_metric(entries[worst], '.2f')}{overlapping}.")
        places = [f"{sector} {ranked.index(sector) + 1}" for sector in DOUBTED_HUES if sector in ranked]
        sentences.append(f"Places by {title} of {len(ranked)}, the worst first: {', '.join(places)}.")
    return [*sentences, *_against_gray(run)]


def _against_gray(run: Run) -> list[str]:
    found: dict[str, list[str]] = {}
    for sector in HUE_SECTORS:
        own, gray = run.metric(f"chroma_error_{sector}"), run.metric(f"chroma_error_{sector}", GRAY)
        if own is not None and gray is not None:
            found.setdefault(verdict(own, gray, "lower"), []).append(sector)
    parts = [
        f"{word} in {', '.join(found[word])}" for word in ("better", "worse", "no difference shown") if word in found
    ]
    return [f"Chroma error against the gray input's: {'; '.join(parts)}."] if parts else []


# Seeds


def seeds_section(entries: Sequence[dict]) -> Section:
    """The section that compares how different models' outputs are between seeds.

    Args:
        entries: what `eval.studies.alternatives.keep` stored, at least one.
    """
    runs = []
    for entry in entries:
        rows = {name: entry["score"]["rows"][name] for name in (OUTPUT, GRAY)}
        runs.append(Run(Path(), entry["label"], entry["score"] | {"rows": rows}))
    data, commands = runs[0].score["data"], []
    for run in runs:
        extra = " ".join(map(shlex.quote, run.score["settings"]["extra_seeds"]))
        commands += [
            f"{generate_command(run.request)} --output RUN",
            f"python -m eval score RUN --extra-seeds {extra}",
        ]
    facts = {
        "photographs": f"{data['n']} of {data['name']}, each at its own size",
        "seeds": "the runs behind --extra-seeds were made as RUN was, but for --seed",
    }
    facts |= {f"weights of {run.label}": describe_weights(run.request) for run in runs}
    table = metric_table("", [METRICS[name] for name in OF_SEEDS], runs)
    return Section(UNTRAINED_QUESTIONS["seeds"], commands, table, seeds_findings(runs), facts)


def seeds_findings(runs: Sequence[Run]) -> list[str]:
    """Which models ignore the seed, and which of the others vary most and least."""
    entries = {run.label: run.metric("diversity") for run in runs}
    entries = {label: entry for label, entry in entries.items() if value_of(entry) is not None}
    ranked = sorted(entries, key=lambda label: -entries[label]["value"])
    sentences = [
        f"{label}: {show_metric(entries[label], '.2f')} between seeds, so the seed changes nothing."
        for label in ranked
        if entries[label]["value"] == 0
    ]
    varied = [label for label in ranked if entries[label]["value"] > 0]
    if len(varied) > 1:
        ends = [f"{label} ({show_metric(entries[label], '.2f')})" for label in (varied[0], varied[-1])]
        sentences.append(f"Of those that vary, most between seeds: {ends[0]}; least: {ends[1]}.")
    return sentences
