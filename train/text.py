"""Captions as the text encoder takes them, and what a model learns from them."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import torch

from colorization.color_words import COLOR_WORDS, SHADES
from colorization.conditioning import token_ids, token_limit
from colorization.pipeline import ColorizationPipeline

_OFTEN = 20  # captions that a word must be in to be taken for learned
_SENTENCES = 0.05  # share of captions with an article from which on sentences are taken for learned


class Tokenize:
    """Turns a caption into token ids `(tokens,)`, cut and padded as the pipeline does it.

    Loading processes get a copy, so it holds the tokenizer and not the pipeline. Captions come again in every epoch,
    and the tokenizer takes longer than all the rest of a sample from the cache: what it gave is kept.

    Args:
        pipeline: whose tokenizer and limit are used.
    """

    def __init__(self, pipeline: ColorizationPipeline):
        self.tokenizer = pipeline.tokenizer
        self.limit = token_limit(pipeline.tokenizer, pipeline.text_encoder)
        self._known: dict[str, torch.Tensor] = {}

    def __call__(self, caption: str) -> torch.Tensor:
        if caption not in self._known:
            self._known[caption] = torch.tensor(token_ids(self.tokenizer, caption, self.limit))
        return self._known[caption]


def learned_vocabulary(captions: Iterable[str], before: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
    """`prompt_vocabulary` of a model that learns these captions, see :class:`colorization.prompting.Vocabulary`.

    Args:
        captions: of all photographs.
        before: the vocabulary of the model that the training goes on from.

    Returns:
        None where the captions hardly name a color.
    """
    before = before or {}
    found = [set(re.findall(r"[a-z'-]+", caption.lower())) for caption in captions]
    counts = Counter(word for words in found for word in words)
    words = {word for word, count in counts.items() if count >= _OFTEN} | set(before.get("words", "").split())
    colors = [word for word in (*COLOR_WORDS, *SHADES) if word in words or word in before.get("colors", "").split()]
    if not colors:
        return None
    articles = sum(not words.isdisjoint(("a", "an", "the")) for words in found)
    return {
        "colors": " ".join(colors),
        "background": "{color} background" if "background" in words else before.get("background", ""),
        "sentences": articles > _SENTENCES * len(found) or before.get("sentences", False),
        "words": " ".join(sorted(words)),
    }


def no_text(caption: str) -> torch.Tensor:
    """For what learns without captions."""
    return torch.zeros(())
