"""What a model learns from captions, as its pipeline's config says it."""

from colorization.prompting import Vocabulary, translate
from train.text import learned_vocabulary

PALETTE = ["red bus, green background", "blue bus, green background"] * 20
SENTENCES = ["a woman in a navy dress", "a bus in the street"] * 20


def test_words_and_forms_of_the_captions():
    found = learned_vocabulary(PALETTE)
    assert found == {
        "colors": "red green blue",
        "background": "{color} background",
        "sentences": False,
        "words": "background blue bus green red",
    }
    translation = translate("a crimson tram, blue sky", Vocabulary.of_config(found))
    assert translation.prompt == "red tram, blue background" and translation.notes[-1] == "not learned: “tram”"


def test_sentences_and_shades():
    vocabulary = Vocabulary.of_config(learned_vocabulary(SENTENCES))
    assert vocabulary.sentences and vocabulary.colors == ("navy",) and not vocabulary.background
    assert translate("a woman in a navy dress", vocabulary).notes == ()


def test_rare_words_are_not_learned():
    assert "tram" not in learned_vocabulary([*PALETTE, "red tram"])["words"]
    assert learned_vocabulary(["a bus"] * 100) is learned_vocabulary([]) is None


def test_a_model_that_learns_on_knows_what_it_knew():
    found = learned_vocabulary(SENTENCES, learned_vocabulary(PALETTE))
    assert found["colors"] == "red green blue navy" and found["background"] and found["sentences"]
    assert {"woman", "bus"} < set(found["words"].split())
    # Of what another model was trained on besides, the words are not known: they stay unknown.
    shipped = {"colors": "red pink", "background": "{color} background"}
    assert "pink" in learned_vocabulary(PALETTE, shipped)["colors"]
