"""Captions of one photograph in the forms in which people write prompts.

A model that has read one form alone knows no other. From what a photograph shows and the colors measured in it, one
form is drawn: "red dress", "a woman in a red dress", "woman, red dress, green background".
"""

from collections.abc import Sequence

import numpy as np

from colorization.color_words import compose_caption, label_words, names_color
from colorization.naming import with_article

# Clothes that are named with people, for what is measured in the middle of their photographs is what they wear.
_FEMALE = ("dress", "blouse", "coat")
_MALE = ("shirt", "jacket", "coat")
_CLOTHES = {
    **dict.fromkeys(("woman", "girl", "lady", "bride", "actress", "waitress"), _FEMALE),
    **dict.fromkeys(("man", "boy", "groom", "farmer", "mechanic", "waiter", "actor"), _MALE),
    **dict.fromkeys(("person", "child", "face", "teacher", "judge", "engineer"), ("shirt", "jacket", "coat")),
    **dict.fromkeys(
        ("chef", "doctor", "police", "policeman", "pilot", "firefighter", "soldier"), ("uniform", "jacket")
    ),
    **dict.fromkeys(("player", "athlete", "runner", "person doing sport"), ("shirt", "jersey")),
}
_WEARERS = {
    **dict.fromkeys(("dress", "gown", "skirt", "blouse", "sari"), "woman"),
    **dict.fromkeys(("suit", "tie", "tuxedo"), "man"),
    **dict.fromkeys(("shirt", "t-shirt", "jacket", "coat", "sweater", "uniform"), "person"),
}
# What is measured of a person may be skin or hair: these colors are said of no clothes.
_SKIN = ("brown", "pink", "orange", "ginger", "beige", "blond", "khaki", "gold", "maroon")


def caption_forms(label: str, color: str, background: str, caption: str = "") -> list[str]:
    """Every form of one photograph's caption.

    Args:
        label: what it shows; "" if nothing is known.
        color: word of the object's color.
        background: word of the color around it.
        caption: somebody's own sentence, which then stands in every form and whose colors are not questioned.
    """
    around = f"{background} background"
    if caption:
        colored = [] if names_color(caption.lower()) else [f"{caption}, mostly {color}"]
        return [caption, f"{caption}, {around}", *colored]
    label = label_words(label)
    if not label:
        mostly = f"mostly {color}"
        return [
            compose_caption(color, background),
            mostly,
            *([] if color == background else [f"{color} and {background}"]),
        ]
    if label in _CLOTHES:
        return _person_forms("person" if label == "face" else label, color, background)
    subject = label if names_color(label) else f"{color} {label}"
    single = with_article(subject)
    forms = [
        f"{subject}, {around}",
        subject,
        single,
        f"{single} against {with_article(around)}",
        f"a photo of {single}",
    ]
    if subject != label:
        forms.append(f"{label}, {color}, {around}")
    if label in _WEARERS:
        wearer = _WEARERS[label]
        forms += [f"a {wearer} in {single}", f"{wearer}, {subject}, {around}"]
    return list(dict.fromkeys(forms))  # a plural has no article, and one form less


def _person_forms(label: str, color: str, background: str) -> list[str]:
    around, person = f"{background} background", with_article(label)
    if color in _SKIN:
        return [f"{label}, {around}", label, person, f"{person} against {with_article(around)}"]
    forms = [f"{person} in {color}", f"{person} in {color} against {with_article(around)}"]
    for garment in _CLOTHES.get(label, ("shirt",)):
        worn = f"{color} {garment}"
        forms += [f"{person} in {with_article(worn)}", f"{label}, {worn}, {around}", f"{label}, {worn}"]
    return forms


def draw_caption(
    rng: np.random.Generator, label: str, colors: Sequence[str], backgrounds: Sequence[str], caption: str = ""
) -> str:
    """One form at random, with one of the words that fit each color; see :func:`caption_forms`.

    Args:
        rng: source of the draw.
        label, caption: as there.
        colors: words that fit the object's color, as :func:`colorization.color_words.photo_colors` gives them.
        backgrounds: those that fit the background's.
    """
    color, background = (str(words[rng.integers(len(words))]) for words in (colors, backgrounds))
    forms = caption_forms(label, color, background, caption)
    return forms[rng.integers(len(forms))]
