"""Captions as the text encoder takes them."""

import torch

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
        self.limit = min(self.tokenizer.model_max_length, pipeline.text_encoder.config.max_position_embeddings)
        self._known: dict[str, torch.Tensor] = {}

    def __call__(self, caption: str) -> torch.Tensor:
        if caption not in self._known:
            ids = self.tokenizer(caption, padding="max_length", truncation=True, max_length=self.limit).input_ids
            self._known[caption] = torch.tensor(ids)
        return self._known[caption]


def no_text(caption: str) -> torch.Tensor:
    """For what learns without captions."""
    return torch.zeros(())
