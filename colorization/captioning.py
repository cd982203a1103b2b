"""Captions of photographs by BLIP, and captions without words about black-and-white photography."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from transformers import AutoProcessor, BlipForConditionalGeneration, BlipProcessor

from .color_words import to_rgb
from .errors import ModelLoadError
from .loading import default_device, default_dtype
from .weights import check_folder, loading

CAPTION_MODELS = {
    "blip-large": "Salesforce/blip-image-captioning-large",
    "blip-base": "Salesforce/blip-image-captioning-base",
}
_MAX_NEW_TOKENS = 40
_NUM_BEAMS = 3

# BLIP large begins many captions with a made-up word: "arafed", "araffe", "arafy".
_MADE_UP = re.compile(r"\baraf\w*\s*", re.IGNORECASE)


class Captioner:
    """BLIP with its processor; call it with images.

    Args:
        model: the network, on its device and in its dtype.
        processor: prepares images (all are resized to one size, so nothing is padded) and decodes tokens.
        name: Hub id or folder that the model came from.
    """

    def __init__(self, model: BlipForConditionalGeneration, processor: BlipProcessor, name: str):
        self.model, self.processor, self.name = model, processor, name

    def __call__(self, images: Sequence[Image.Image], batch_size: int = 8) -> list[str]:
        """One caption per image, by beam search: deterministic, and the same whatever else is in the batch.

        (In half precision, sums in batches of other sizes may round differently and so decide a tie between words.)
        """
        if batch_size < 1:
            raise ValueError(f"`batch_size` must be at least 1, got {batch_size}")
        captions = []
        for start in range(0, len(images), batch_size):
            batch = [to_rgb(image) for image in images[start : start + batch_size]]
            pixels = self.processor(images=batch, return_tensors="pt")["pixel_values"]
            with torch.inference_mode():
                tokens = self.model.generate(
                    pixel_values=pixels.to(self.model.device, self.model.dtype),
                    max_new_tokens=_MAX_NEW_TOKENS,
                    num_beams=_NUM_BEAMS,
                    do_sample=False,
                )
            captions += [_tidy(text) for text in self.processor.batch_decode(tokens, skip_special_tokens=True)]
        return captions


def _tidy(caption: str) -> str:
    return _repair(_MADE_UP.sub("", caption))


def load_captioner(
    model: str | os.PathLike = "blip-large",
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
) -> Captioner:
    """BLIP from the Hub or a folder; safetensors only.

    Args:
        model: "blip-large", "blip-base", the Hub id of another BLIP captioning model, or a folder with one and its
            processor.
        device: None takes the first accelerator there is, else the CPU.
        dtype: None is float32 on CPU and MPS, and on CUDA bfloat16 where supported, else float16.

    Raises:
        ModelLoadError: the model is missing, unreachable, incomplete or no BLIP captioning model.
    """
    name = CAPTION_MODELS.get(str(model), str(model))
    device = default_device() if device is None else torch.device(device)
    dtype = default_dtype(device) if dtype is None else dtype
    check_folder(Path(name))  # nothing where it is no folder
    what = f"caption model {name}"
    processor = loading(what, lambda: AutoProcessor.from_pretrained(name))
    network, information = loading(
        what,
        lambda: BlipForConditionalGeneration.from_pretrained(
            name, dtype=dtype, use_safetensors=True, output_loading_info=True
        ),
    )
    if not isinstance(processor, BlipProcessor):
        raise ModelLoadError(f"caption model {name} is no BLIP model: its processor is a {type(processor).__name__}")
    if information["missing_keys"]:
        raise ModelLoadError(f"caption model {name} is incomplete: no values for {min(information['missing_keys'])}")
    return Captioner(network.to(device).eval(), processor, name)


# Words about black-and-white photography. The patterns below are built of these; captions have single spaces.

_BLACK_AND_WHITE = r"black[ -]{0,3}(?:and|&|n|'n'|/)[ -]{0,3}white|white and black|b ?(?:&|/|and|n) ?w|bw"
_TONE = r"gr[ae]y[ -]?scaled?|monochrom(?:e|atic)|sepia(?:[ -]?ton(?:es|ed|e)\b)?|tea[ -]?stained"
_YEAR = r"(?:1[89]|20)\d\d"
_DECADE = rf"(?:(?:early|mid|late|the)[ -]){{0,2}}{_YEAR[:-2]}0'?s|(?:1[89]|19|20)th[ -]century|{_YEAR}"
_AGE = (
    r"(?:(?:very|really) )?old(?:[ -](?:fashioned|timey?|school))?|vintage|antique|aged|ancient|faded|historic(?:al)?"
    # No "early" before a decade, which takes it along: two ways to read a word multiply with every such word.
    rf"|archiv(?:al|e)|retro|early(?![ -](?:the )?(?:1[89]|20|mid|late))|yellowed|grainy|{_DECADE}"
)
_MEDIUM = rf"(?:{_BLACK_AND_WHITE}|{_TONE}|{_AGE})"
_FILLER = r"(?:blurry|blurred|close[ -]?up|aerial|beautiful|large|small|framed|family|colorless|wet plate|film)"
_ARTICLE = r"(?:(?:a|an|the|this|some|his|her|their)\b )?"
_WORDS = rf"(?:{_FILLER}[ ,]+)*{_MEDIUM}(?:,? (?:and )?(?:{_MEDIUM}|{_FILLER}))*"  # at least one of them is medium
_PHOTO_NOUN = (
    r"(?:photo(?:graph(?:y|ic image)?|s|graphs)?|pictures?|pics?|images?|snapshots?|film stills?|stills?|shots?"
    r"|footage|scans?|negatives?|film)\b"
)
_OLD_PROCESS = r"(?:daguerreotype|tintype|ambrotype|silver print)s?\b"
_PHOTO = rf"{_ARTICLE}(?:\b{_WORDS},? {_PHOTO_NOUN}|(?:\b{_WORDS} )?\b{_OLD_PROCESS})"
_KEPT_NOUN = (
    r"(?:portraits?|drawings?|sketch(?:es)?|illustrations?|paintings?|engravings?|etchings?|views?|scenes?"
    r"|close[ -]?ups?|silhouettes?|prints?|posters?|postcards?)\b"
)
_LINK = r" (?:(?:taken )?of|that shows|showing|shows|depicting|depicts|featuring|with)\b"
_SHOT = r"(?:(?:that (?:is|was) )?(?:taken|shot|photographed|filmed|captured|made|printed|rendered|shown|seen|done) )"
_END = r"(?=$| ?[,.;!])"
_WORN = "".join(rf"(?<!{verb} )" for verb in ("dressed", "clad", "painted", "covered", "decorated", "uniform"))


def _compile(pattern: str) -> re.Pattern:
    return re.compile(pattern, re.IGNORECASE)


_REMOVALS = [
    # "circa 1910", "from the 1920s", but no year that counts things
    _compile(rf",? ?\(?\b(?:circa|ca\.?|c\.|dated) {_YEAR}(?:'?s)?\b\)?"),
    _compile(rf",? ?\b{_SHOT}?(?:from|in|during) (?:the )?(?:{_DECADE})(?= of\b|$| ?[,.;])"),
    # "taken with an old box camera", "with film grain"
    _compile(rf",? ?\b{_SHOT}(?:with|on|by|using|through) {_ARTICLE}(?:{_WORDS} )?(?:box |film )?(?:camera|film)\b"),
    _compile(rf",? ?\b(?:(?:with|and) )?{_ARTICLE}(?:(?:{_WORDS}|heavy|visible) )?film grain\b"),
    _compile(rf",? ?\bwith {_ARTICLE}{_WORDS} (?:filter|effect|look|style|tones?|toning|finish)\b"),
    # "in black and white", but not "in black and white stripes" or "dressed in black and white"
    _compile(rf",? ?{_WORN}\b{_SHOT}?in (?:{_BLACK_AND_WHITE}|{_TONE})(?: (?:tones?|mode|style|colors?))?{_END}"),
    _compile(rf",? ?\b{_SHOT}in (?:{_BLACK_AND_WHITE}|{_TONE})\b"),
    # "a black and white photo of a dog", "a dog in an old photo", "an old photo"
    _compile(rf"{_PHOTO}{_LINK} "),
    _compile(rf",? ?\b{_SHOT}?(?:in|on|from|as) {_PHOTO}(?: style)?{_END}"),
    _compile(rf"(?:\b(?:it|this|there) is )?{_PHOTO}{_END}"),
]
# Here an article may be left that has to suit the next word.
_ADJECTIVES = [
    _compile(rf"(?:\b(?P<article>an?) )?\b{_WORDS} (?={_KEPT_NOUN}{_LINK})"),  # "a sepia drawing of a ship"
    _compile(rf"(?:\b(?P<article>an?) )?\b(?:{_BLACK_AND_WHITE}) (?=(?:movie|film|television show|cartoon)\b)"),
    # Nothing in a photograph has the color "sepia" or "monochrome".
    _compile(rf"(?:\b(?P<article>an?) )?\b(?:{_TONE})(?: |$)"),
]
_ONLY_MEDIUM = _compile(rf"^ ?{_ARTICLE}{_WORDS}(?: (?:style|tones?|colors?|look|effect))? ?\.?$")


def strip_gray_words(caption: str) -> str:
    """A caption without words about black-and-white, grayscale, monochrome, sepia, old or filmed photographs.

    "a black and white photo of a dog" becomes "a dog", "an old photograph of two men" "two men". Colors and ages that
    describe what is shown stay: "a black and white cow", "an old man". What kind of picture it is stays too if it is
    none of a photograph: "a sepia drawing of a ship" becomes "a drawing of a ship". May return "".
    """
    text = " ".join(caption.split())
    before = None
    while text != before:  # "an old picture of a black and white photo of ..."
        before = text
        for pattern in _REMOVALS:
            text = pattern.sub("", text)
        for pattern in _ADJECTIVES:
            text = pattern.sub(_article, text)
        kept = [part for part in text.split(",") if not _ONLY_MEDIUM.match(part)]
        text = _repair(",".join(kept))
    if caption[:1].isupper():
        text = text[:1].upper() + text[1:]
    return text


def _article(match: re.Match) -> str:
    """The article before removed words, in the form that suits what follows."""
    if match["article"] is None:
        return ""
    vowel = re.match(r"[aeio]|u(?!ni|se)|hour", match.string[match.end() :], re.IGNORECASE)
    return f"{match['article'][0]}n " if vowel else f"{match['article'][0]} "


def _repair(text: str) -> str:
    """Spaces and commas put right after words were taken out."""
    text = " ".join(text.split())
    text = re.sub(r" ([,.;!])", r"\1", text)
    return re.sub(r"[,;](?: ?[,;])+", ",", text).strip(" ,;").removeprefix(".")
