"""Prompts as people write them, in the words of models that know few or many."""

import pytest

from colorization.color_words import COLOR_WORDS, SHADES
from colorization.naming import usual_colors, usual_prompt
from colorization.prompting import Translation, Vocabulary, color_names, nearest_color, translate, translate_negative

BASIC = Vocabulary(COLOR_WORDS, "{color} background")
WIDE = Vocabulary((*COLOR_WORDS, *SHADES), "{color} background", sentences=True)


@pytest.mark.parametrize(
    ("prompt", "encoded"),
    [
        ("red bus", "red bus"),
        ("Navy blue car", "blue car"),
        ("dark red dress, light sky-blue sky", "red dress, blue background"),
        ("a woman in a red dress, blue sky", "woman in red dress, blue background"),
        ("the bus is teal", "blue bus"),
        ("a photo of a ginger cat.", "brown cat"),
        ("blonde woman, reddish wall", "woman with yellow hair, red background"),
        ("a ginger old man", "old man with brown hair"),
        ("red boat on blue water", "red boat, blue background"),
        ("green meadow", "green meadow"),
        ("blue sky", "blue background"),
        ("blue bus, green meadow, blue sky", "blue bus, blue sky, green background"),
        ("blue lake, green background", "blue lake, green background"),
        ("olive green jacket", "green jacket"),
        ("grey whale", "gray whale"),
        ("black and white panda", "black and white panda"),
        ("salmon", "salmon"),
        ("salmon-colored dress", "pink dress"),
        ("golden retriever, golden ball", "golden retriever, yellow ball"),
    ],
)
def test_a_model_of_few_words(prompt, encoded):
    translation = translate(prompt, BASIC)
    assert translation.prompt == encoded and translation.avoided == ()
    assert translate(encoded, BASIC) == Translation(encoded)  # what it knows stays, and nothing is said of it


@pytest.mark.parametrize(
    ("prompt", "encoded", "avoided"),
    [
        ("no red", "", ["red"]),
        ("bus, not red", "bus", ["red"]),
        ("bus without red", "bus", ["red"]),
        ("a dress that is not red", "dress", ["red"]),
        ("a not red car", "car", ["red"]),
        ("bus, no crimson or teal", "bus", ["red", "blue"]),
        ("red bus, no red flowers", "red bus", ["red flowers"]),
        ("horse without clouds in a green meadow", "horse, green background", ["clouds"]),
        ("red hat but no beige", "red hat", ["brown"]),
        ("not a cat", "not cat", []),
        ("Notting Hill, Nora", "Notting Hill, Nora", []),
    ],
)
def test_what_shall_not_be_there(prompt, encoded, avoided):
    translation = translate(prompt, BASIC)
    assert translation.prompt == encoded and list(translation.avoided) == avoided
    assert bool(avoided) == any("negative prompt" in note for note in translation.notes)


def test_it_joins_the_negative_prompt():
    assert translate("not red", BASIC).negative("") == "red"
    assert translate("not red", BASIC).negative("blurred") == "blurred, red"
    assert translate("red", BASIC).negative(" blurred ") == " blurred "  # untouched
    assert translate_negative("crimson bus", BASIC).prompt == "red bus"


def test_a_model_of_many_words_reads_more_of_them():
    for prompt in ("a woman in a navy dress", "crimson bus, olive background"):
        assert translate(prompt, WIDE) == Translation(prompt)
    assert translate("a scarlet bus", WIDE).prompt == "a red bus"
    assert translate("a burgundy bus", WIDE).prompt == "a maroon bus"


def test_words_of_the_captions_are_known_and_others_named():
    vocabulary = Vocabulary(("red", "blue"), "", True, frozenset("a bus sky scarlet red blue".split()))
    assert translate("a scarlet bus, blue sky", vocabulary) == Translation("a scarlet bus, blue sky")
    assert translate("red zeppelins with buses", vocabulary).notes == ("not learned: “zeppelins”",)


def test_models_without_a_vocabulary_read_prompts_as_they_are():
    for prompt in ("a crimson bus, no red", "", " "):
        assert translate(prompt, None) == translate_negative(prompt, None) == Translation(prompt)
    assert translate("  ", BASIC) == Translation("  ")


@pytest.mark.parametrize(
    ("name", "word"),
    [
        *[("crimson", "red"), ("teal", "blue"), ("khaki", "yellow"), ("ginger", "brown"), ("beige", "brown")],
        *[("navy", "blue"), ("turquoise", "green"), ("olive", "green"), ("maroon", "red"), ("lavender", "purple")],
        *[("gold", "yellow"), ("silver", "gray"), ("blond", "yellow"), ("dodgerblue", "blue"), ("tan", "brown")],
    ],
)
def test_nearest_color(name, word):
    assert nearest_color(name, COLOR_WORDS) == word
    assert nearest_color(name, (*COLOR_WORDS, name)) == name
    assert all(nearest_color(shade, SHADES) == shade for shade in SHADES)


def test_the_nearest_word_of_a_model_that_knows_hardly_any():
    assert nearest_color("crimson", ["yellow", "brown"]) == "brown"
    assert {nearest_color(name, ["black", "white"]) for name in color_names()} == {"black", "white"}


def test_what_the_model_says_itself_means_the_same_when_the_user_says_it():
    for thing in filter(lambda thing: thing.say, usual_colors()):
        prompt = usual_prompt(thing.name, thing.colors, thing.background)
        translation = translate(prompt, BASIC)
        assert not translation.notes and translation.prompt == prompt.replace(" the ", " "), prompt


@pytest.mark.parametrize(
    "config",
    [
        {"colors": ""},
        {"colors": ["red"]},
        {"colors": "red", "forms": "x"},
        {"colors": "red", "background": "sky"},
        "red",
    ],
)
def test_bad_vocabularies_are_refused(config):
    with pytest.raises(ValueError, match="`prompt_vocabulary` must"):
        Vocabulary.of_config(config)


def test_vocabulary_of_a_config():
    assert Vocabulary.of_config(None) is None
    found = Vocabulary.of_config({"colors": "red blue", "words": "bus a", "sentences": True})
    assert found == Vocabulary(("red", "blue"), "", True, frozenset({"bus", "a"}))
