"""The forms of captions."""

import numpy as np
import pytest

from colorization.color_words import compose_caption
from train.dataset.forms import caption_forms, draw_caption


def test_forms_of_the_design():
    dress = caption_forms("dress", "red", "green")
    assert {"red dress", "a woman in a red dress", "woman, red dress, green background"} <= set(dress)
    assert "woman, red dress, green background" in caption_forms("woman", "red", "green")


@pytest.mark.parametrize("label", ["bus", "Garbage_Truck", "black swan", "buildings", ""])
def test_the_form_of_the_palette_is_the_first(label):
    forms = caption_forms(label, "blue", "white")
    assert forms[0] == compose_caption("blue", "white", label)
    assert len(set(forms)) == len(forms) >= 2
    assert all(form == form.strip() and ", ," not in form for form in forms)


def test_articles():
    assert "an orange bus against a gray background" in caption_forms("bus", "orange", "gray")
    assert "gray buildings against an orange background" in caption_forms("buildings", "gray", "orange")


def test_a_label_with_a_color_gets_no_other():
    assert not any("red" in form for form in caption_forms("black swan", "red", "blue"))


def test_skin_is_no_dress():
    forms = caption_forms("woman", "brown", "green")
    assert forms and not any("brown" in form for form in forms)


def test_somebodys_own_caption_stays():
    caption = "Two dogs in a green Meadow"
    assert caption_forms("dog", "brown", "olive", caption) == [caption, f"{caption}, olive background"]
    assert "A dog runs, mostly ginger" in caption_forms("dog", "ginger", "olive", "A dog runs")


def test_draws_follow_the_seed_and_take_all_words():
    def draw(seed):
        return draw_caption(np.random.default_rng(seed), "car", ("red", "crimson"), ("gray", "silver"))

    drawn = [draw(seed) for seed in range(300)]
    assert drawn == [draw(seed) for seed in range(300)]
    known = {
        form
        for color in ("red", "crimson")
        for around in ("gray", "silver")
        for form in caption_forms("car", color, around)
    }
    assert set(drawn) == known
