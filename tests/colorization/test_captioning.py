"""BLIP of the real class at tiny size, and captions without words about black-and-white photography."""

import time

import numpy as np
import pytest
import torch
from conftest import random_photo
from PIL import Image
from transformers import (
    BertTokenizer,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessor,
    BlipProcessor,
)

from colorization.captioning import load_captioner, strip_gray_words
from colorization.errors import ModelLoadError

WORDS = "dog cat bus tree house sky red blue green arafed photo of man sitting on the grass near water".split()


def save_tiny_blip(folder) -> None:
    """A BLIP captioning model of a few thousand random weights, and its processor, as on the Hub."""
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", *WORDS]
    tokenizer = BertTokenizer(vocab={token: index for index, token in enumerate(tokens)})
    ids = {"bos_token_id": 5, "eos_token_id": 3, "sep_token_id": 3, "pad_token_id": 0}
    tiny = {"hidden_size": 32, "intermediate_size": 37, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = BlipConfig(
        text_config={
            **tiny,
            **ids,
            "vocab_size": len(tokens),
            "encoder_hidden_size": 32,
            "max_position_embeddings": 64,
            "initializer_range": 1.0,
        },
        vision_config={**tiny, "image_size": 32, "patch_size": 8, "initializer_range": 1.0},
        projection_dim=32,
    )
    torch.manual_seed(0)
    BlipForConditionalGeneration(config).save_pretrained(folder)
    BlipProcessor(BlipImageProcessor(size={"height": 32, "width": 32}), tokenizer).save_pretrained(folder)


@pytest.fixture(scope="module")
def blip_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("blip") / "tiny-blip"
    save_tiny_blip(folder)
    return folder


def colored_photos(count: int) -> list[Image.Image]:
    rng = np.random.default_rng(0)
    sizes = [(32, 32), (50, 20), (64, 48)]
    return [
        Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)).resize(sizes[index % 3])
        for index in range(count)
    ]


def test_captions_do_not_depend_on_the_batch(blip_folder):
    captioner = load_captioner(blip_folder, device="cpu")
    assert next(captioner.model.parameters()).dtype == torch.float32
    photos = colored_photos(3)
    captions = captioner(photos, batch_size=1)
    assert len(set(captions)) > 1  # else the next lines would say nothing
    assert captioner(photos, batch_size=2) == captions
    assert captioner(photos[::-1], batch_size=8)[::-1] == captions
    assert all(set(caption.split()) <= {"[DEC]", *WORDS} - {"arafed"} for caption in captions)
    assert captioner([]) == []


def test_any_mode(blip_folder):
    captioner = load_captioner(str(blip_folder), device="cpu")
    gray = random_photo()
    captions = captioner([gray, gray.convert("RGB"), gray.convert("RGBA"), gray.convert("P")])
    assert captions[0] == captions[1] == captions[2]
    with pytest.raises(ValueError, match="`batch_size`"):
        captioner([gray], batch_size=0)


def test_models_that_cannot_be_loaded(tmp_path, blip_folder):
    with pytest.raises(ModelLoadError, match="cannot load caption model Salesforce/blip-image-captioning-base"):
        load_captioner("blip-base", device="cpu")
    with pytest.raises(ModelLoadError, match="cannot load caption model"):
        load_captioner(tmp_path, device="cpu")
    BertTokenizer.from_pretrained(blip_folder).save_pretrained(tmp_path)
    BlipForConditionalGeneration.from_pretrained(blip_folder).text_decoder.save_pretrained(tmp_path)
    with pytest.raises(ModelLoadError, match="caption model"):
        load_captioner(tmp_path, device="cpu")


@pytest.mark.parametrize(
    ("caption", "stripped"),
    [
        ("a black and white photo of a dog", "a dog"),
        ("A black and white photo of a dog.", "A dog."),
        ("there is a black and white photo of a dog", "there is a dog"),
        ("this is an old black and white photo of a bridge", "this is a bridge"),
        ("a black - and - white photo of a boat", "a boat"),
        ("a b&w photo of a train", "a train"),
        ("black & white shot of a lake", "a lake"),
        ("black and white photos of people", "people"),
        ("a blurry black and white photo of a train", "a train"),
        ("a black and white photograph shows a river", "a river"),
        ("an old photograph of two men", "two men"),
        ("an old, faded, grainy photo of a house", "a house"),
        ("an antique photograph of a horse drawn carriage", "a horse drawn carriage"),
        ("a sepia toned photograph of a church", "a church"),
        ("a grayscale image of a cat", "a cat"),
        ("a greyscale cat", "a cat"),
        ("a monochrome apple", "an apple"),
        ("a daguerreotype of a woman", "a woman"),
        ("a 1920s photograph of a man", "a man"),
        ("a photograph from the 1920s of a man", "a photograph of a man"),
        ("a black and white photograph of people in the early 1900s", "people"),
        ("a man, circa 1910", "a man"),
        ("two men in a black and white photo", "two men"),
        ("a man and a woman in a vintage black and white photograph from the 1940s", "a man and a woman"),
        ("a street in black and white", "a street"),
        ("a dog, black and white photography, film grain", "a dog"),
        ("a house shot on old film", "a house"),
        ("a black and white film still of an actor", "an actor"),
        ("a scene from a black and white movie", "a scene from a movie"),
        ("a picture of an old photograph of a ship", "a picture of a ship"),
        ("a sepia drawing of a ship", "a drawing of a ship"),
        ("an old black and white portrait of a woman", "a portrait of a woman"),
        ("a black and white sketch of an owl", "a sketch of an owl"),
        ("grainy black-and-white photo", ""),
        ("", ""),
    ],
)
def test_words_about_the_photograph_go(caption, stripped):
    assert strip_gray_words(caption) == stripped
    assert strip_gray_words(stripped) == stripped


@pytest.mark.parametrize(
    "caption",
    [
        "a black and white cow",
        "a small black and white dog",
        "a woman in a black and white dress",
        "a man dressed in black and white",
        "a cat in black and white stripes",
        "a dog on a black and white checkered floor",
        "a black dog and a white cat",
        "a gray cat",
        "an old man sitting on a bench",
        "a vintage car parked on a street",
        "the old city of rome",
        "an old photo album",
        "an old camera on a table",
        "a soccer ball on an old film camera",
        "a wall with old photos on it",
        "a film poster",
        "a photo of a dog",
        "a photo of an hour glass",
        "2000 people in a stadium",
    ],
)
def test_words_about_what_is_shown_stay(caption):
    assert strip_gray_words(caption) == caption
    if not caption.startswith(("a photo", "2000")):
        assert strip_gray_words(f"a black and white photo of {caption}") == caption


def test_stripping_takes_no_longer_for_words_that_read_two_ways():
    started = time.perf_counter()
    strip_gray_words("1920s early " * 60)
    assert time.perf_counter() - started < 2
