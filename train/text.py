"""Captions as the text encoder takes them."""

import torch

from colorization.conditioning import token_ids, token_limit
from colorization.pipeline import ColorizationPipeline


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


def no_text(caption: str) -> torch.Tensor:
    """For what learns without captions."""
    return torch.zeros(())
