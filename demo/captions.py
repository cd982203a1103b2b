"""The "suggest a caption" button: BLIP, where its weights are on this machine already."""

import os
import threading
from functools import lru_cache

from huggingface_hub import try_to_load_from_cache
from PIL import Image

from colorization.photo import Photo

from .rendering import THUMBNAIL_SIDE, shrink

# `colorization.captioning` takes a second to import: only who has a caption model and uses it waits for that.
_IN_HUB_CACHE = ("Salesforce/blip-image-captioning-large", "Salesforce/blip-image-captioning-base")
_lock = threading.Lock()


def find_captioner() -> str | None:
    """Name or folder of a caption model that needs no download; None where there is none.

    COLORIZER_CAPTIONER names another one than those in the Hub's cache.
    """
    if name := os.environ.get("COLORIZER_CAPTIONER"):
        return name
    for name in _IN_HUB_CACHE:
        if isinstance(try_to_load_from_cache(name, "model.safetensors"), str):
            return name
    return None


@lru_cache(maxsize=1)
def _captioner(name: str):
    from colorization.captioning import load_captioner

    return load_captioner(name)


def caption(name: str, photo: Photo) -> str:
    """What is in a photograph, without words about its being gray or old.

    Raises:
        ModelLoadError: (a ValueError) the model cannot be loaded.
    """
    from colorization.captioning import strip_gray_words

    with _lock:
        (text,) = _captioner(name)([Image.fromarray(shrink(photo.luma, THUMBNAIL_SIDE))])
    return strip_gray_words(text)
