"""The variants of the model that the study "experiments" trains, and which of them are compared with which."""

from dataclasses import dataclass
from pathlib import Path

import yaml

CONFIGS = Path(__file__).parent.parent.parent / "train" / "configs" / "experiments"
BASE = "base"
ADAPTATION, GENERAL = "adaptation", "general"  # a folder of CONFIGS, and the model that is adapted there
GENERAL_EXPERIMENT = f"{ADAPTATION}/{GENERAL}"
FULL_EXPERIMENT = f"{ADAPTATION}/full"  # what the adapters are compared with
DATA = "data"  # a folder of CONFIGS that change several things at once, see EFFECTS
QUESTIONS = {
    "severity": "Which severities should be trained?",
    "loss": "Which loss?",
    "dropout": "How many captions should be dropped?",
    "captions": "Which captions?",
    "target": "What should the network predict?",
    "noise": "How much noise at the start?",
    DATA: "More photographs, longer training, or a stochastic start?",
    ADAPTATION: "Adapting a general model: LoRA or full fine-tuning?",
}


def _data_name(share: str, length: str, start: str) -> str:
    same = {("all", "once", "stochastic"): BASE, ("all", "once", "cold"): "noise/0"}
    return same.get((share, length, start), f"{DATA}/{share}-{length}-{start}")


# Pairs (before, after) of experiments that differ in one thing; `all` and `tenth` are numbers of photographs.
NOISE_EFFECT = "a stochastic start instead of a cold one"
EFFECTS = {
    **{
        f"{{all}} photographs instead of {{tenth}}, {start} start": [
            (_data_name("tenth", length, start), _data_name("all", length, start)) for length in ("once", "twice")
        ]
        for start in ("cold", "stochastic")
    },
    **{
        f"twice the samples, {start} start": [
            (_data_name(share, "once", start), _data_name(share, "twice", start))
            for share in ("tenth", "third", "all")
        ]
        for start in ("cold", "stochastic")
    },
    NOISE_EFFECT: [
        (_data_name(share, length, "cold"), _data_name(share, length, "stochastic"))
        for share in ("tenth", "third", "all")
        for length in ("once", "twice")
    ],
}
COUNTED = {share: _data_name(share, "twice", "cold") for share in ("all", "tenth")}  # whose photographs are counted


@dataclass(frozen=True)
class Experiment:
    """One configuration.

    Attributes:
        name: "base" or "group/name".
        settings: of the trainer, complete, as its YAML holds them.
        changes: what the experiment's own file says.
        purpose: the file's first line, a comment.
    """

    name: str
    settings: dict
    changes: dict
    purpose: str

    @property
    def group(self) -> str:
        return self.name.partition("/")[0]

    @property
    def is_lora(self) -> bool:
        return "lora" in self.settings

    @property
    def starts_from_general(self) -> bool:
        """Whether it needs the model that the general experiment of the same seed has trained."""
        return GENERAL in (self.settings["model"].get("base"), self.settings["model"].get("start"))

    @property
    def reference(self) -> str:
        """Name of the experiment that it is compared with."""
        return FULL_EXPERIMENT if self.group == ADAPTATION else BASE


def read_experiments(folder: Path = CONFIGS) -> list[Experiment]:
    """All experiments, the base first; a general model comes before what is adapted from it."""
    base = yaml.safe_load((folder / f"{BASE}.yaml").read_text(encoding="utf-8"))
    experiments = [Experiment(BASE, base, {}, _comment(folder / f"{BASE}.yaml"))]
    for file in sorted(folder.glob("*/*.yaml"), key=lambda file: (file.parent.name, file.stem != GENERAL, file.stem)):
        changes = yaml.safe_load(file.read_text(encoding="utf-8"))
        settings = merge_settings(base, changes)
        if "lora" in changes:
            settings["model"] = changes["model"]  # of another trainer
        experiments.append(Experiment(f"{file.parent.name}/{file.stem}", settings, changes, _comment(file)))
    return experiments


def _comment(file: Path) -> str:
    return file.read_text(encoding="utf-8").partition("\n")[0].removeprefix("#").strip()


def merge_settings(base: dict, changes: dict) -> dict:
    """`base` with the entries of `changes` in place of its own, section by section."""
    merged = dict(base)
    for key, value in changes.items():
        merged[key] = merge_settings(base.get(key, {}), value) if isinstance(value, dict) else value
    return merged
