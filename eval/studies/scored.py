"""Scored runs and sweeps as entries of the ledger and back, and the commands that make them again."""

import shlex
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from colorization.loading import EMBEDDED_DIRECTORY, EMBEDDED_MODEL, baseline_folder

from ..files import weights_sha256
from ..runs import GRAY, OUTPUT, Run, read_score
from ..setting import Setting
from ..sweep_page import RESULT_FILE
from .ledger import Entry, read_json, shown, without_nothing

SHIPPED = "embedded"  # folder of the shipped model's whole scores, beside the ledger
# Of what a run was asked for, what says nothing of the result.
_LEFT_OUT = ("format", "keep_gray", "captions_leak_color", "vae_row", "geometry", "versions")


# Scored runs


def entry_of_score(study: str, label: str, score: dict, metrics: Sequence[str], **settings: object) -> Entry:
    """A scored run with these metrics of all its rows; `settings` are further ones."""
    request = without_nothing({key: value for key, value in score["run"].items() if key not in _LEFT_OUT})
    measured = without_nothing({key: value for key, value in score["settings"].items() if key != "hue_sectors"})
    return Entry(
        study,
        label,
        score["data"],
        {"run": request | {"settings": without_nothing(request["settings"])}}
        | {"score": measured, "seed": score["seed"], "weights": score["weights"]}
        | without_nothing(settings),
        {row: shown(values, metrics) for row, values in score["rows"].items()},
        score["versions"],
    )


def run_of(entry: Entry) -> Run:
    """An entry of :func:`entry_of_score` as the run that tables are made of."""
    settings = entry.settings
    score = {"run": settings["run"], "data": entry.data, "rows": entry.rows, "settings": settings["score"]}
    score |= {"seed": settings["seed"], "weights": settings["weights"], "versions": entry.versions}
    return Run(Path(), entry.run, score)


def read_scored(run: Path) -> dict:
    """The score of a run of `eval generate` that may be kept.

    Raises:
        ValueError: it was not scored, was not made by `eval generate`, or names a folder of this machine alone.
    """
    score = read_score(run)
    for name in ("model", "dataset", "dataset_name"):
        if not isinstance(score["run"].get(name), str):
            raise ValueError(f"argument --add: {run} was not made by python -m eval generate: it has no {name!r}")
        check_relative(f"argument --add: {run}", score["run"][name])
    return score


def model_folder(model: str) -> Path:
    """Where a model's weights are; ValueError where they are not on this machine."""
    folder = EMBEDDED_DIRECTORY if model == EMBEDDED_MODEL else baseline_folder(model) or Path(model)
    if not folder.is_dir():
        raise ValueError(f"the model {model!r} is not on this machine")
    return folder


def check_relative(what: str, name: str) -> None:
    """ValueError where a model or data set is named by a place on this machine, which would tell others nothing."""
    path = name.split(":", 1)[-1]
    if Path(path).expanduser().is_absolute():
        raise ValueError(f"{what} names {path}, a place on this machine: use a path relative to the checkout")


def describe_weights(request: dict) -> str:
    """Their SHA-256, and of the embedded model whether they are still those that are shipped."""
    digest = request.get("weights_sha256")
    if request["model"] != EMBEDDED_MODEL:
        return f"SHA-256 {digest}"
    same = digest == weights_sha256(EMBEDDED_DIRECTORY)
    return f"SHA-256 {digest}, {'those that are shipped' if same else 'not those that are shipped now'}"


def generate_command(request: dict) -> str:
    """The command that makes a run again."""
    settings = request["settings"]
    words = ["python -m eval generate", f'--dataset "{request["dataset"]}"', f"--model {request['model']}"]
    options = {
        "--adapter": request.get("adapter"),
        "--limit": request.get("limit"),
        "--prompt-mode": request.get("prompt_mode"),
        "--steps": settings.get("num_inference_steps"),
        "--guidance-scale": settings.get("guidance_scale"),
        "--color-scale": settings.get("color_scale"),
        "--sampler": settings.get("sampler"),
        "--seed": request.get("seed"),
        "--batch-size": request.get("batch_size"),
        "--max-side": request.get("max_side"),
        "--dtype": request.get("dtype"),
    }
    words += [f"{option} {value}" for option, value in options.items() if value is not None]
    return " ".join(words)


# Sweeps


def read_sweep(folder: Path, option: str) -> dict:
    """What a sweep found; `option` is that of the command line which names it.

    Raises:
        ValueError: there is no sweep, or it names a folder of this machine alone.
    """
    source = folder / RESULT_FILE
    if not source.is_file():
        raise ValueError(f"argument {option}: {folder} has no {RESULT_FILE}")
    sweep = read_json(source)
    for name in ("model", "dataset"):
        check_relative(f"argument {option}: {folder}", sweep[name])
    return sweep


def entries_of_sweep(study: str, sweep: dict, metrics: Sequence[str]) -> list[Entry]:
    """An entry for each setting of a sweep, and one for the gray input."""
    rows, request = sweep["rows"], sweep["request"]
    common = {name: sweep.get(name) for name in ("model", "dataset", "limit")}
    common |= {name: request.get(name) for name in ("weights_sha256", "prompt_mode", "seed")}
    common |= {"choice": {name: sweep["choice"][name] for name in ("metric", "psnr_loss")}}
    common = without_nothing(common)
    entries = [
        Entry(
            study,
            f"{sweep['model']}: {Setting(**row['setting'])}",
            row["data"],
            common | {"setting": row["setting"]} | {name: row[name] for name in ("device", "dtype") if name in row},
            {OUTPUT: shown(row["metrics"], metrics)},
            row.get("versions", {}),
        )
        for row in rows
    ]
    gray = Entry(study, f"{sweep['model']}: {GRAY}", rows[0]["data"], common, {GRAY: shown(sweep["gray"], metrics)})
    return [*entries, gray]


def settings_of_sweep(entries: Iterable[Entry]) -> tuple[list[Entry], dict]:
    """The entries of one sweep that have a setting, sorted by it, and the gray input's metrics."""
    entries = list(entries)
    settings = [entry for entry in entries if "setting" in entry.settings]
    (gray,) = (entry.rows[GRAY] for entry in entries if "setting" not in entry.settings)
    return sorted(settings, key=lambda entry: Setting(**entry.settings["setting"])), gray


def rows_of_sweep(entries: Iterable[Entry]) -> list[dict]:
    """Entries with a setting as the rows of sweep.json, as far as tables and the choice need them."""
    return [{"setting": entry.settings["setting"], "metrics": entry.metrics} for entry in entries]


def by_model(entries: Iterable[Entry]) -> dict[str, list[Entry]]:
    """Entries of sweeps by the model that was swept."""
    found: dict[str, list[Entry]] = {}
    for entry in entries:
        found.setdefault(entry.settings["model"], []).append(entry)
    return found


def sweep_command(entries: Sequence[Entry]) -> str:
    """The command that makes a sweep again, from its entries with a setting."""
    common = entries[0].settings
    options = {
        "--steps": "num_inference_steps",
        "--sampler": "sampler",
        "--guidance-scale": "guidance_scale",
        "--noise-scale": "noise_scale",
        "--color-scale": "color_scale",
    }
    words = ["python -m eval sweep", f'--dataset "{common["dataset"]}"', f"--model {shlex.quote(common['model'])}"]
    words += [f"--limit {common['limit']}"] if common.get("limit") else []
    for option, name in options.items():
        given = sorted({entry.settings["setting"][name] for entry in entries})
        words.append(" ".join([option, *(value if name == "sampler" else f"{value:g}" for value in given)]))
    words += [f"--prompt-mode {common['prompt_mode']}", f"--seed {common['seed']}"]
    return " ".join([*words, "--output SWEEP"])


def of_model(study: str, model: str) -> Callable[[Entry], bool]:
    """Whether an entry is of this sweep: what a new one of the same model replaces."""
    return lambda entry: entry.study == study and entry.settings.get("model") == model
