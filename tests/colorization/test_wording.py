"""What a pipeline sees and says: the naming head as its component, the automatic prompt, notes and settings."""

import numpy as np
import pytest
import torch
from conftest import guessing_pipeline, naming_head, naming_pipeline, random_photo, tiny_pipeline

from colorization import ColorizationPipeline, load_pipeline
from colorization.image_io import read_settings, write_image
from colorization.naming import NamingHead, Sighting

VOCABULARY = {"colors": "red green blue", "background": "{color} background"}
NOTE = "I see a macaw: red, blue, yellow; colored as “red macaw”"


@pytest.fixture(scope="module")
def pipeline() -> ColorizationPipeline:
    return naming_pipeline()


def pixels(output) -> np.ndarray:
    return np.stack([np.asarray(image) for image in output.images])


class TestAutomaticPrompt:
    def test_an_empty_prompt_becomes_what_is_seen(self, pipeline):
        for nothing in ("", "  ", None):
            output = pipeline(random_photo(), prompt=nothing)
            assert output.notes == [[NOTE]]
            assert np.array_equal(pixels(output), pixels(pipeline(random_photo(), prompt="red macaw")))
        settings = output.settings[0]
        assert (settings["prompt"], settings["encoded_prompt"]) == ("", "red macaw")
        assert settings["seen"]["name"] == "macaw" and settings["notes"] == [NOTE]
        assert Sighting.of_dict(settings["seen"]).prompts["blue"] == "blue macaw"

    def test_settings_fit_into_metadata(self, pipeline, tmp_path):
        settings = pipeline(random_photo()).settings[0]
        write_image(tmp_path / "a.png", np.zeros((4, 4, 3), np.uint8), settings=settings)
        assert read_settings(tmp_path / "a.png") == settings

    def test_a_prompt_of_the_users_is_never_replaced(self, pipeline):
        output = pipeline(random_photo(), prompt="cat")
        assert output.notes == [[]] and output.settings[0]["prompt"] == "cat"
        assert not {"encoded_prompt", "seen", "notes"} & output.settings[0].keys()

    def test_without_it_and_below_the_threshold_the_result_is_that_of_a_model_without_head(self, pipeline):
        plain = guessing_pipeline(default_guidance_scale=2.0, prompted_guess_severity=0.8)
        expected = plain(random_photo())
        declined = pipeline(random_photo(), auto_prompt=False)
        silent = naming_pipeline(sure=False)(random_photo())
        for output in (declined, silent):
            assert np.array_equal(pixels(output), pixels(expected)) and output.notes == [[]]
        assert declined.settings[0] == expected.settings[0] | {"auto_prompt": False}
        assert silent.settings == expected.settings

    def test_models_without_head_know_the_switch_too(self):
        plain = tiny_pipeline()
        on, off = (plain(random_photo(), auto_prompt=auto_prompt) for auto_prompt in (True, False))
        assert np.array_equal(pixels(on), pixels(off)) and on.settings == off.settings and on.notes == [[]]

    def test_the_threshold_is_the_heads(self, pipeline):
        pipeline.naming_head.register_to_config(threshold=0.999)
        try:
            assert pipeline(random_photo()).notes == [[]]
        finally:
            pipeline.naming_head.register_to_config(threshold=0.5)

    def test_what_the_first_guess_colors_already_is_noted_and_not_said(self, pipeline):
        declined, said = pipeline(random_photo(), auto_prompt=False), pipeline(random_photo())
        try:
            pipeline.naming_head.register_to_config(known_chroma=0.0)
            known = pipeline(random_photo())
            pipeline.naming_head.register_to_config(known_chroma=1000.0)
            dull = pipeline(random_photo())
        finally:
            pipeline.naming_head.register_to_config(known_chroma=None)
        assert known.notes == [[NOTE.partition(";")[0]]] and "encoded_prompt" not in known.settings[0]
        assert np.array_equal(pixels(known), pixels(declined))
        assert dull.notes == said.notes and np.array_equal(pixels(dull), pixels(said))

    def test_a_batch_is_colored_as_each_alone(self, pipeline):
        photos = [random_photo(), random_photo(seed=2), random_photo(40, 40)]
        together = pipeline(photos, prompt=["", "blue", ""], seed=[1, 2, 3])
        assert together.notes == [[NOTE], [], [NOTE]]
        for index, photo in enumerate(photos):
            alone = pipeline(photo, prompt=["", "blue", ""][index], seed=index + 1)
            assert alone.settings[0] == together.settings[index]
            difference = np.asarray(alone.images[0], int) - np.asarray(together.images[index], int)
            assert np.abs(difference).max() <= 1

    @pytest.mark.parametrize("walk_from", ["gray", "guess"])
    def test_the_encoder_looks_once_at_each_photograph(self, walk_from):
        pipeline, looks = naming_pipeline(walk_from=walk_from), []
        found = pipeline.semantic_encoder.backbone.forward
        pipeline.semantic_encoder.backbone.forward = lambda planes: looks.append(len(planes)) or found(planes)
        output = pipeline([random_photo(), random_photo(seed=2)], prompt=["", "cat"], num_images_per_prompt=2)
        assert sum(looks) == 2 and len(output.notes) == 4

    def test_the_first_guess_says_what_is_seen_and_takes_no_prompt(self, pipeline):
        output = pipeline(random_photo(), num_inference_steps=0)
        assert output.notes == [["I see a macaw: red, blue, yellow"]]
        assert "encoded_prompt" not in output.settings[0]

    def test_a_faded_photograph_says_itself_what_color_it_is(self, pipeline):
        assert pipeline(random_photo().convert("RGB"), severity=0.5).notes == [[]]

    def test_the_switch_is_a_switch(self, pipeline):
        with pytest.raises(ValueError, match="`auto_prompt` must be True or False, got 'no'"):
            pipeline(random_photo(), auto_prompt="no")


class TestComponent:
    def test_survives_saving_by_both_ways_of_loading(self, pipeline, tmp_path):
        pipeline.save_pretrained(tmp_path)
        expected = pipeline(random_photo())
        for loaded in (load_pipeline(tmp_path, device="cpu"), ColorizationPipeline.from_pretrained(tmp_path)):
            loaded.set_progress_bar_config(disable=True)
            assert isinstance(loaded.naming_head, NamingHead) and loaded.naming_head.config.threshold == 0.5
            output = loaded(random_photo())
            assert np.array_equal(pixels(output), pixels(expected)) and output.notes == expected.notes

    def test_stays_in_full_precision(self, pipeline, tmp_path):
        pipeline.save_pretrained(tmp_path)
        loaded = load_pipeline(tmp_path, device="cpu", dtype=torch.bfloat16)
        assert loaded.unet.dtype == torch.bfloat16 and loaded.naming_head.dtype == torch.float32

    def test_needs_an_encoder_that_it_fits(self):
        pipeline = guessing_pipeline()
        head = naming_head(pipeline)
        pipeline.register_modules(naming_head=NamingHead(7, 8))
        with pytest.raises(ValueError, match=r"`naming_head` must have \(in_channels, classes\) .* got \(7, 1000\)"):
            pipeline.check_model()
        plain = tiny_pipeline()
        plain.register_modules(naming_head=head)
        with pytest.raises(ValueError, match="`naming_head` needs the component `semantic_encoder`"):
            plain.check_model()

    def test_looks_before_the_others(self):
        order = ColorizationPipeline.model_cpu_offload_seq.split("->")
        assert order[:2] == ["semantic_encoder", "naming_head"]
        assert set(ColorizationPipeline._optional_components) < set(order)


class TestVocabulary:
    def test_a_prompt_is_encoded_in_the_models_words(self):
        plain = tiny_pipeline(default_guidance_scale=2.0, default_negative_prompt="")
        knowing = tiny_pipeline(default_guidance_scale=2.0, default_negative_prompt="", prompt_vocabulary=VOCABULARY)
        output = knowing(random_photo(), prompt="crimson bus, no teal")
        expected = plain(random_photo(), prompt="red bus", negative_prompt="blue")
        assert np.array_equal(pixels(output), pixels(expected))
        settings = output.settings[0]
        assert settings["prompt"] == "crimson bus, no teal" and settings["encoded_prompt"] == "red bus"
        assert settings["negative_prompt"] == "" and settings["encoded_negative_prompt"] == "blue"
        assert output.notes == [["“no teal” goes to the negative prompt, as “blue”", "“crimson” is read as “red”"]]
        assert plain(random_photo(), prompt="crimson bus").notes == [[]]

    def test_says_where_a_negative_prompt_has_no_effect(self):
        notes = tiny_pipeline(prompt_vocabulary=VOCABULARY)(random_photo(), prompt="bus, not red").notes[0]
        assert notes[-1] == "a negative prompt has no effect at a guidance scale of 1"

    def test_no_prompt_but_what_to_avoid_is_no_empty_prompt(self):
        pipeline = naming_pipeline(prompt_vocabulary=VOCABULARY)
        settings = pipeline(random_photo(), prompt="no red").settings[0]
        assert "seen" not in settings and settings["encoded_prompt"] == ""
        assert settings["start_severity"] == 0.8

    def test_what_is_seen_is_in_the_models_words_already(self):
        pipeline = naming_pipeline(prompt_vocabulary={"colors": "green"})
        assert pipeline(random_photo()).settings[0]["encoded_prompt"] == "red macaw"

    def test_survives_saving(self, tmp_path):
        tiny_pipeline(prompt_vocabulary=VOCABULARY).save_pretrained(tmp_path)
        assert load_pipeline(tmp_path, device="cpu").config.prompt_vocabulary == VOCABULARY

    def test_is_checked(self):
        with pytest.raises(ValueError, match="`prompt_vocabulary` must be null or have the keys colors, background"):
            tiny_pipeline(prompt_vocabulary={"colours": "red"})
