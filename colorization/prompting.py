"""Prompts as people write them, turned into the words that a model has learned.

A small model knows the words of its captions and nothing else. `prompt_vocabulary` in a pipeline's config says what
these were; a prompt is translated before it is encoded, and notes say what became of it. Models that say nothing of
their words, as those of Stable Diffusion, read prompts as they are.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import ImageColor

from .color_words import COLOR_WORDS, SHADES, in_shade, name_colors, srgb_to_oklch
from .naming import usual_colors

# What CSS does not name, or names otherwise than people do.
_COMMON_NAMES = {
    "grey": "#808080", "blond": "#e0c080", "ginger": "#b06500", "beige": "#d8c8a8", "lavender": "#b0a0d0",
    "scarlet": "#ff2400", "burgundy": "#800020", "auburn": "#a04020", "rust": "#b7410e", "copper": "#b87333",
    "bronze": "#cd7f32", "mustard": "#e1ad01", "amber": "#ffbf00", "ochre": "#cc7722", "vermilion": "#e34234",
    "cream": "#fffdd0", "taupe": "#8b7d6b", "sepia": "#704214", "charcoal": "#36454f", "emerald": "#50c878",
    "ruby": "#9b111e", "sapphire": "#0f52ba", "cobalt": "#0047ab", "lilac": "#c8a2c8", "mauve": "#b784a7",
    "brunette": "#5b3a29", "rose": "#ff80a0", "peach": "#ffcba4", "chestnut": "#954535",
}  # fmt: skip
_OTHER_FORMS = {
    "grey": "gray", "blonde": "blond", "golden": "gold", "silvery": "silver", "rusty": "rust", "bluish": "blue",
    "reddish": "red", "purplish": "purple", "whitish": "white", "yellowish": "yellow", "greenish": "green",
    "brownish": "brown", "pinkish": "pink", "grayish": "gray", "greyish": "gray", "blackish": "black",
}  # fmt: skip
# Names of things that are colors only where that is said: "salmon-colored", "dark salmon".
_THINGS = set(
    "chocolate tomato salmon snow wheat linen seashell plum orchid thistle peru coral lime honeydew rose peach "
    "chestnut amber charcoal copper bronze cream mustard rust".split()
)
_SHADINGS = "dark|light|bright|pale|deep|vivid|soft|pastel|medium|dull|faded|warm|cold|hot"
_SKIES = "sky|skies|backdrop|background|surroundings"  # always around what a photograph is of
_GROUNDS = "grass|meadow|lawn|field|water|sea|ocean|lake|wall|curtain"  # around it where it is of something else
_LINKS = "in front of|in|on|under|against|before|below|with|and|at|by|near|over|above|of|for|from"
_NOTHING_MORE = rf"(?:\s+(?:that|which|who|is|are|was|but|or|nor|please|{_LINKS}))+$"
_NEGATION = re.compile(r"\b(no|not|without|never)\s+(?:(?:any|an?|the|too|much|so|in|be)\s+)*", re.I)
# Said of people these are the colors of their hair.
_HAIR = re.compile(
    r"\b(blonde?|brunette|auburn|ginger)\s+((?:young|old|little)\s+)?(wom[ae]n|m[ae]n|girls?|boys?|lady|child|person)\b",
    re.I,
)
_CLAUSES = re.compile(r"\s*[,;\n]+\s*|\.\s+|\.$|\s+but\s+", re.I)
_PHOTO_OF = re.compile(r"^(?:(?:an?|the)\s+)?(?:photo|photograph|picture|image|portrait)\s+of\s+", re.I)
_SMALL_WORDS = set("a an and at by for from in is are near of on or over the to under with".split())


@dataclass(frozen=True)
class Vocabulary:
    """What the captions were made of that a model has learned.

    Args:
        colors: its color words.
        background: form in which a caption names the color around its object, with `{color}`; "" if there is none.
        sentences: whether captions were sentences too, with articles, or nothing but names and colors.
        words: all words of its captions; None where that is not known.
    """

    colors: tuple[str, ...]
    background: str = ""
    sentences: bool = False
    words: frozenset[str] | None = None

    @classmethod
    def of_config(cls, config: Mapping[str, Any] | None) -> "Vocabulary | None":
        """From a pipeline's `prompt_vocabulary`: "colors" and "words" of words divided by blanks.

        Raises:
            ValueError: it is of another form.
        """
        if config is None:
            return None
        problem = (
            f"`prompt_vocabulary` must be null or have the keys colors, background, sentences, words; got {config}"
        )
        if not isinstance(config, Mapping) or not config.keys() <= {"colors", "background", "sentences", "words"}:
            raise ValueError(problem)
        colors, background, words = (config.get(key, "") for key in ("colors", "background", "words"))
        if not all(isinstance(text, str) for text in (colors, background, words)) or not colors.split():
            raise ValueError(problem)
        if background and "{color}" not in background:
            raise ValueError(f"`prompt_vocabulary` must have {{color}} in its background, got {background!r}")
        return cls(tuple(colors.split()), background, bool(config.get("sentences")), frozenset(words.split()) or None)

    def knows(self, words: str) -> bool:
        """Whether all of these words were in the captions; never where that is not known."""
        return self.words is not None and all(word in self.words for word in words.split())


@dataclass(frozen=True)
class Translation:
    """A prompt in a model's words.

    Args:
        prompt: what is to be encoded.
        avoided: what it asks to avoid, for the negative prompt.
        notes: sentences on what was understood otherwise than it stands there, and what was not understood.
    """

    prompt: str
    avoided: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def negative(self, prompt: str) -> str:
        """A negative prompt with what is to be avoided."""
        return ", ".join(filter(None, [prompt.strip(), *self.avoided])) if self.avoided else prompt


# Colors


@lru_cache(maxsize=1)
def color_names() -> dict[str, tuple[int, int, int]]:
    """Names of colors, each a word in lower case, and the sRGB that they mean: those of CSS and other common ones."""
    # By name: of the values Pillow's table holds, those that were asked for before are no strings any more.
    css = {name: ImageColor.getrgb(name)[:3] for name in ImageColor.colormap}
    return css | {name: ImageColor.getrgb(value)[:3] for name, value in _COMMON_NAMES.items()}


@lru_cache(maxsize=1)
def _color_phrase() -> re.Pattern:
    """A color's name as people write it: "crimson", "light blue", "sky-blue", "salmon-colored", "reddish"."""
    names = {*color_names(), *_OTHER_FORMS}
    endings = "|".join(COLOR_WORDS)
    spaced = {re.sub(rf"(?<=[a-z])(?=(?:{endings})$)", "[ -]?", name) for name in names}  # skyblue, "sky blue"
    choice = "|".join(sorted(spaced, key=len, reverse=True))
    return re.compile(rf"\b(?P<shading>(?:(?:{_SHADINGS})[ -]+)*)(?P<name>{choice})(?P<kind>[ -]colou?red)?\b", re.I)


@lru_cache(maxsize=1)
def _names_with_colors() -> re.Pattern:
    """Names of things that have a color's name in them: "golden retriever", "indigo bunting"."""
    names = {name for thing in usual_colors() for name in (thing.name, thing.kind) if " " in name}
    colored = sorted((name for name in names if _color_phrase().search(name)), key=len, reverse=True)
    return re.compile(rf"\b(?:{'|'.join(map(re.escape, colored))})s?\b", re.I)


def nearest_color(name: str, known: Iterable[str]) -> str:
    """The word among `known` that says most nearly what a key of :func:`color_names` does.

    That is the name itself, or else the shade or the basic word whose region it is in; if neither is known, the known
    word whose own color is least far in OKLab.
    """
    known = tuple(known)
    if name in known:
        return name
    rgb = np.array(color_names()[name], np.uint8)
    shades = [shade for shade in SHADES if shade in known and in_shade(rgb, shade)]
    basic = COLOR_WORDS[int(name_colors(rgb))]
    if shades or basic in known:
        return [*shades, basic][0]
    measurable = [word for word in known if word in color_names()]
    return min(measurable, key=lambda word: _distance(rgb, np.array(color_names()[word], np.uint8)), default=basic)


def _distance(first: np.ndarray, second: np.ndarray) -> float:
    """Between two sRGB colors in OKLab."""

    def place(rgb: np.ndarray) -> np.ndarray:
        lightness, chroma, hue = srgb_to_oklch(rgb).tolist()
        return np.array([lightness, chroma * np.cos(np.radians(hue)), chroma * np.sin(np.radians(hue))])

    return float(np.linalg.norm(place(first) - place(second)))


def _known_color(match: re.Match, vocabulary: Vocabulary) -> str | None:
    """The model's word for a color phrase; None where it is a thing and no color."""
    shading, name = match["shading"].lower().split("-")[0].strip(), re.sub("[ -]", "", match["name"].lower())
    name = _OTHER_FORMS.get(name, name)
    if name in _THINGS and not shading and not match["kind"]:
        return None
    if vocabulary.knows(match[0].lower()):
        return match[0].lower()
    shaded = shading.replace(" ", "") + name
    return nearest_color(shaded if shaded in color_names() else name, vocabulary.colors)


def _rename_colors(text: str, vocabulary: Vocabulary, notes: list[str]) -> str:
    """Every color by the name that the model knows it by; "navy blue" is one blue, not two."""

    text = _HAIR.sub(r"\2\3 with \1 hair", text)
    names = [found.span() for found in _names_with_colors().finditer(text)]

    def rename(match: re.Match) -> str:
        word = _known_color(match, vocabulary)
        in_name = any(start <= match.start() and match.end() <= end for start, end in names)
        if in_name or word is None or word == match[0].lower():
            return match[0]
        notes.append(f"“{match[0]}” is read as “{word}”")
        return word

    text = _color_phrase().sub(rename, text)
    return re.sub(rf"\b({'|'.join(map(re.escape, vocabulary.colors))})(?:[ -]\1\b)+", r"\1", text)


# Parts of a prompt


def _take_negations(clause: str, vocabulary: Vocabulary, avoided: list[str], notes: list[str]) -> str:
    """A clause without what it says shall not be there, which is added to `avoided`: "not red", "without clouds"."""
    start = 0
    while (found := _NEGATION.search(clause, start)) is not None:
        rest = clause[found.end() :]
        colors, place = [], 0
        while (color := _color_phrase().match(rest, place)) is not None:
            colors.append(_known_color(color, vocabulary) or color[0])
            following = re.compile(r"\s+(?:and|or|nor)\s+(?:no\s+|any\s+)?").match(rest, color.end())
            place = color.end()
            if following is None or not _color_phrase().match(rest, following.end()):
                break
            place = following.end()
        thing = None
        if found[1].lower() in ("no", "without"):
            words = r"\s*(?!(?:" + _LINKS + r"|or|but|is|are|please)\b)([\w'-]+)"
            thing = re.compile(words if colors else f"(?:{words}){{1,3}}").match(rest, place)
        if not colors and thing is None:
            start = found.end()
            continue
        end = place if thing is None else thing.end()
        noun = "" if thing is None else rest[place:end].strip()
        unwanted = [f"{color} {noun}".strip() for color in colors] or [noun]
        avoided.extend(unwanted)
        notes.append(
            f"“{clause[found.start() : found.end() + end].strip()}” goes to the negative prompt, as "
            f"{' and '.join(f'“{one}”' for one in unwanted)}"
        )
        clause = re.sub(_NOTHING_MORE, "", clause[: found.start()].rstrip()) + " " + rest[end:].lstrip()
        clause, start = re.sub(rf"^(?:{_LINKS}|or)\s+", "", clause.strip()), 0
        clause = "" if clause.lower() in _SMALL_WORDS else clause
    return clause


def _take_background(clause: str, vocabulary: Vocabulary, first: bool, notes: list[str]) -> tuple[str, str]:
    """What a clause says besides the color around its object, and that color in the model's form: "blue sky".

    A prompt that begins with a meadow is of the meadow, what comes after something else is around that.
    """
    colors = "|".join(map(re.escape, vocabulary.colors))
    ground = re.search(
        rf"^(?:(?P<thing>.+?)\s+(?:{_LINKS})\s+)?(?:(?:an?|the|some)\s+)?"
        rf"(?P<color>{colors})\s+(?:(?P<sky>{_SKIES})|(?P<ground>{_GROUNDS}))$",
        clause,
        re.I,
    )
    if ground is None or ground["ground"] and first and not ground["thing"]:
        return clause, ""
    around = (ground["sky"] or ground["ground"]).lower()
    if vocabulary.knows(around) and around != "background":
        return clause, ""
    background = vocabulary.background.replace("{color}", ground["color"].lower())
    said = f"{ground['color'].lower()} {around}"
    if said != background:
        notes.append(f"“{said}” is read as “{background}”")
    return ground["thing"] or "", background


def _without_grammar(clause: str) -> str:
    """Names and colors alone, for a model that has read no sentences: "the bus is red" is "red bus"."""
    clause = re.sub(r"\b(?:an?|the)\s+", "", _PHOTO_OF.sub("", clause), flags=re.I)
    colors = "|".join(map(re.escape, color_names()))
    return re.sub(rf"^(.+?)\s+(?:is|are)\s+((?:{colors})(?:\s+and\s+(?:{colors}))*)$", r"\2 \1", clause, flags=re.I)


def translate(prompt: str, vocabulary: Vocabulary | None) -> Translation:
    """A prompt in the words and the form that a model has learned; itself where there is nothing to change.

    Colors get the nearest word that the model knows, what shall not be there goes to the negative prompt, the color
    of the sky and the like becomes that of the background.

    Args:
        prompt: of any form.
        vocabulary: the model's; None leaves prompts as they are.
    """
    if vocabulary is None or not prompt.strip():
        return Translation(prompt)
    avoided, notes, background = [], [], ""
    clauses = [_take_negations(clause, vocabulary, avoided, notes) for clause in _CLAUSES.split(prompt.strip())]
    things = [_rename_colors(clause.strip(), vocabulary, notes) for clause in clauses if clause.strip()]
    kept = []
    told = any(re.search(r"\bbackground$", thing, re.I) for thing in things)
    for index, thing in enumerate(things):
        if vocabulary.background and not background and (not told or thing.lower().endswith("background")):
            thing, background = _take_background(thing, vocabulary, index == 0, notes)
        kept.append(thing if vocabulary.sentences else _without_grammar(thing))
    text = ", ".join(filter(None, [*kept, background]))
    if vocabulary.words is not None:
        unknown = [word for word in re.findall(r"[a-z'-]+", text.lower()) if not _learned(word, vocabulary)]
        if unknown:
            notes.append(f"not learned: {', '.join(f'“{word}”' for word in dict.fromkeys(unknown))}")
    return Translation(text, tuple(avoided), tuple(dict.fromkeys(notes)))


def translate_negative(prompt: str, vocabulary: Vocabulary | None) -> Translation:
    """The same of a negative prompt, of which colors alone need another name."""
    if vocabulary is None or not prompt.strip():
        return Translation(prompt)
    notes: list[str] = []
    return Translation(_rename_colors(prompt, vocabulary, notes), (), tuple(notes))


def _learned(word: str, vocabulary: Vocabulary) -> bool:
    forms = {word, word.removesuffix("s"), word.removesuffix("es")}
    return word in _SMALL_WORDS or word in vocabulary.colors or not forms.isdisjoint(vocabulary.words)
