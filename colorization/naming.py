"""What a photograph shows, in words, and the colors that such things usually have: a prompt where nobody wrote one.

The semantic encoder's backbone was trained to tell 1,000 things apart. Its classifier names them at once and offline;
`usual_colors.csv` says which of them have colors of their own (a macaw, a school bus) and which come in any (a shirt).
"""

import csv
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

from .color_words import COLOR_WORDS

_VIVID = ("red", "orange", "yellow", "green", "blue", "purple", "pink")
_MAJORITY = 0.5  # share of its kind's probability from which on a thing is called by its own name
_COLOR_WORD = re.compile(rf"\b(?:{'|'.join(COLOR_WORDS)})\b")


@dataclass(frozen=True)
class Thing:
    """What is known of one class of the classifier.

    Args:
        name: as people call it; several classes may share it.
        kind: what it is taken for together with others that look alike and have the same colors, or its name.
        colors: words of `COLOR_WORDS`, the one that tells most about it first; empty where any is usual.
        background: the color that is nearly always around it, or "".
        say: whether it is worth saying.
    """

    name: str
    kind: str
    colors: tuple[str, ...]
    background: str
    say: bool


@dataclass(frozen=True)
class Sighting:
    """What is seen in a photograph.

    Args:
        name: of the thing.
        colors: its usual ones, the most telling one first; may be empty where the background says something.
        background: usual color of what is around it, or "".
        probability: of the thing, or of its kind.
    """

    name: str
    colors: tuple[str, ...]
    background: str
    probability: float

    @property
    def vivid(self) -> bool:
        """Whether its most telling color is one that a careful guess would not dare."""
        return self.colors[:1] != () and self.colors[0] in _VIVID

    @property
    def prompt(self) -> str:
        """In the form in which the embedded model knows words."""
        return usual_prompt(self.name, self.colors, self.background)

    @property
    def sentence(self) -> str:
        """ "I see a macaw: red, blue, yellow"."""
        return f"I see {with_article(self.name)}: {', '.join(self.prompts)}"

    @property
    def prompts(self) -> dict[str, str]:
        """Each of the colors and the prompt that asks for it alone; that of the background where there is no other."""
        if not self.colors:
            return {f"{self.background} background": self.prompt}
        return {color: usual_prompt(self.name, (color,), self.background) for color in self.colors}

    def as_dict(self) -> dict:
        """For JSON."""
        return {**asdict(self), "colors": list(self.colors), "probability": round(self.probability, 4)}

    @classmethod
    def of_dict(cls, values: Mapping) -> "Sighting":
        """The reverse of :meth:`as_dict`."""
        return cls(**{**values, "colors": tuple(values["colors"])})


def with_article(words: str) -> str:
    """ "a red bus", "an orange bus"; what looks like a plural stays alone."""
    if words.endswith("s") and not words.endswith(("ss", "us", "is")):
        return words
    return f"{'an' if words[0] in 'aeiou' and not words.startswith('uni') else 'a'} {words}"


def usual_prompt(name: str, colors: Sequence[str], background: str = "") -> str:
    """ "red macaw", "white airliner, blue background"; color words in the name that are none of its colors go.

    So a red panda, which is orange, is an "orange panda", and a black bear remains a "black bear".
    """
    kept = _COLOR_WORD.sub(lambda match: match[0] if match[0] in colors else "", name) if colors else name
    kept = " ".join(kept.split())
    if colors and not _COLOR_WORD.search(kept):
        first = "black and white" if set(colors[:2]) == {"black", "white"} else colors[0]
        kept = f"{first} {kept}"
    return f"{kept}, {background} background" if background else kept


@lru_cache(maxsize=1)
def usual_colors() -> tuple[Thing, ...]:
    """The table, in the classifier's order."""
    # `train.flatten` puts the text in the place of this expression, where the file is not beside the code.
    table = Path(__file__).with_name("usual_colors.csv").read_text(encoding="utf-8")
    return tuple(
        Thing(row["name"], row["kind"], tuple(row["colors"].split()), row["background"], row["say"] == "yes")
        for row in csv.DictReader(table.splitlines())
    )


def see(probabilities: Sequence[float], threshold: float) -> Sighting | None:
    """The kind of thing that is likeliest among those worth saying, if it is likely enough.

    Things of one kind have the same colors: their probabilities are added before they are compared. Where one thing
    has most of its kind's probability it is named, else the kind. Nothing is said where a single thing that is not
    worth saying is likelier.

    Args:
        probabilities: of each thing of :func:`usual_colors`.
        threshold: what is less probable is not said.
    """
    things = usual_colors()
    kinds: dict[str, float] = defaultdict(float)
    silent = 0.0
    for thing, probability in zip(things, probabilities, strict=True):
        if thing.say:
            kinds[thing.kind] += probability
        else:
            silent = max(silent, probability)
    kind = max(kinds, key=kinds.get)
    total = kinds[kind]
    if not total >= max(threshold, silent):
        return None
    names: dict[str, float] = defaultdict(float)
    for thing, probability in zip(things, probabilities, strict=True):
        if thing.say and thing.kind == kind:
            names[thing.name] += probability
            colors, background = thing.colors, thing.background
    name = max(names, key=names.get)
    return Sighting(name if names[name] > _MAJORITY * total else kind, colors, background, total)


class NamingHead(ModelMixin, ConfigMixin):
    r"""
    The classifier on the coarsest stage of a :class:`SemanticEncoder`'s backbone.

    Args:
        in_channels (`int`): of the stage.
        width (`int`): channels before pooling.
        classes (`int`): things told apart.
        threshold (`float`): probability from which on a thing is said; fitted together with the weights.
        known_chroma (`float`, *optional*): mean chroma in the middle of the first guess, in CIELAB, from which on the
            colors are known without words. Below it a vivid thing's usual color becomes the prompt; None is always.
    """

    @register_to_config
    def __init__(
        self,
        in_channels: int = 320,
        width: int = 1280,
        classes: int = 1000,
        threshold: float = 0.5,
        known_chroma: float | None = None,
    ):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, width, 1)
        self.classifier = nn.Linear(width, classes)

    def pool(self, stage: torch.Tensor) -> torch.Tensor:
        """`(batch, width)` of the backbone's stage `(batch, in_channels, h, w)`, of any size."""
        return F.relu6(self.conv(stage.to(self.dtype))).mean(dim=(2, 3))

    def forward(self, stage: torch.Tensor) -> torch.Tensor:
        """Probabilities `(batch, classes)`, float32; `stage` as in :meth:`pool`."""
        return self.classifier(self.pool(stage)).float().softmax(dim=1)

    @torch.no_grad()
    def sightings(self, stage: torch.Tensor) -> list[Sighting | None]:
        """What is seen in each photograph of a batch; None where nothing is worth saying."""
        return [see(row, self.config.threshold) for row in self(stage).tolist()]

    def helps(self, sighting: Sighting | None, chroma: torch.Tensor) -> bool:
        """Whether a thing's usual color says more than the first guess, whose a* and b* are `(2, h, w)`."""
        if sighting is None or not sighting.prompt:
            return False
        limit = self.config.known_chroma
        return limit is None or (sighting.vivid and middle_chroma(chroma) < limit)


def middle_chroma(chroma: torch.Tensor) -> float:
    """Mean chroma of the inner three fifths of a*, b* `(2, h, w)`, along each side."""
    height, width = chroma.shape[-2:]
    inner = chroma[:, height // 5 : height - height // 5, width // 5 : width - width // 5]
    return inner.norm(dim=0).mean().item()
