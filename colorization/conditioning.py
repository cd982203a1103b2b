"""What a walk is told besides its latent: prompts, what the semantic encoder sees, hints. And the call of the UNet.

Sampling and training call the UNet through :func:`predict` alone, so that both show it the same.
"""

import warnings
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from transformers import CLIPTextModel, PreTrainedTokenizerBase

from .color import merge_luma_chroma
from .errors import ColorizationWarning
from .jobs import Job
from .semantic import SemanticOutput, guess_picture

if TYPE_CHECKING:
    from .pipeline import ColorizationPipeline

_PROMPT_CACHE_SIZE = 64


def predict(
    unet: UNet2DConditionModel,
    z: torch.Tensor,
    seen: Sequence[torch.Tensor],
    timestep: torch.Tensor,
    embeds: torch.Tensor,
) -> torch.Tensor:
    """The UNet's output `(n, channels, h, w)`.

    Args:
        unet: with the input channels of `z`, or of `z` and `seen`.
        z: latents `(batch, channels, h, w)`.
        seen: planes `(batch, ..., h, w)` that a UNet with a wider input layer sees beside them.
        timestep: one, or `(batch,)`.
        embeds: of prompts, `(n, tokens, width)`; n is the batch, or a multiple of it for several prompts each.
    """
    model_input = z if unet.config.in_channels == z.shape[1] else torch.cat([z, *seen], dim=1)
    prompts = len(embeds) // len(z)
    if prompts > 1:
        model_input = torch.cat([model_input] * prompts)
    return unet(model_input, timestep, encoder_hidden_states=embeds, return_dict=False)[0]


@dataclass(frozen=True, eq=False)
class Conditioning:
    """What steers the walk of a batch.

    Args:
        embeds: of the prompts, `(batch, tokens, width)`; where the walk is guided, of the negative ones before them.
        seen: planes that the UNet may see beside the latent, in its dtype.
        guidance_scale: of the difference that the prompts make.
        z_hint: latents of the hints' colors, `(batch, channels, h, w)`; None where there are no hints.
        region: where they count, `(batch, 1, h, w)` in [0, 1].
    """

    embeds: torch.Tensor
    seen: tuple[torch.Tensor, ...]
    guidance_scale: float
    z_hint: torch.Tensor | None
    region: torch.Tensor | None

    def predict(self, unet: UNet2DConditionModel, z: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        """The UNet's output, guided, in float32."""
        output = predict(unet, z.to(unet.dtype), self.seen, timestep, self.embeds).float()
        if len(output) == len(z):
            return output
        negative, positive = output.chunk(2)
        return negative + self.guidance_scale * (positive - negative)

    def constrain(self, z_hat: torch.Tensor) -> torch.Tensor:
        """A predicted latent with the hints' colors where they count."""
        return z_hat if self.region is None else torch.lerp(z_hat, self.z_hint, self.region)

    def scale(self, z: torch.Tensor, z_gray: torch.Tensor, color_scale: float) -> torch.Tensor:
        """Color latents at a color scale, which does not act on what the hints ask for; exact at 1."""
        weight = color_scale if self.region is None else self.region + color_scale * (1 - self.region)
        return torch.lerp(z_gray, z, weight)


def condition(
    pipeline: "ColorizationPipeline",
    jobs: Sequence[Job],
    guidance_scale: float,
    z_gray: torch.Tensor,
    semantics: "Semantics | None",
) -> Conditioning:
    """The conditioning of jobs that share one shape.

    Args:
        pipeline: whose components are used.
        jobs: of the batch.
        guidance_scale: of the call.
        z_gray: gray latents of the jobs.
        semantics: what the semantic encoder says of them, where the UNet sees it.
    """
    # The positive prompt alone does where guidance changes nothing: at a scale of 1, and where both prompts are the
    # same (by default, both are empty).
    guided = guidance_scale != 1 and any(job.prompt != job.negative_prompt for job in jobs)
    texts = [job.negative_prompt for job in jobs] if guided else []
    embeds = pipeline.encode_prompt(texts + [job.prompt for job in jobs])
    seen = [z_gray] if semantics is None else [z_gray, semantics.z, semantics.features]
    z_hint, region = encode_hints(pipeline, jobs, z_gray)
    return Conditioning(
        embeds, tuple(planes.to(pipeline.unet.dtype) for planes in seen), guidance_scale, z_hint, region
    )


# Prompts


def token_limit(tokenizer: PreTrainedTokenizerBase, text_encoder: CLIPTextModel) -> int:
    """How many tokens of a prompt count; some tokenizers know no limit of their own."""
    return min(tokenizer.model_max_length, text_encoder.config.max_position_embeddings)


def token_ids(tokenizer: PreTrainedTokenizerBase, prompt: str, limit: int) -> list[int]:
    """Token ids of one prompt, padded and cut to the limit."""
    return tokenizer(prompt, padding="max_length", truncation=True, max_length=limit).input_ids


class PromptCache:
    """Embeddings of the last prompts, remembered as long as the text encoder stays the same."""

    def __init__(self):
        self._embeddings: OrderedDict[tuple, torch.Tensor] = OrderedDict()

    def clear(self) -> None:
        """Forget them all."""
        self._embeddings.clear()

    def embed(
        self,
        tokenizer: PreTrainedTokenizerBase,
        text_encoder: CLIPTextModel,
        prompts: Sequence[str],
        device: torch.device,
    ) -> torch.Tensor:
        """Embeddings `(len(prompts), tokens, width)`, each prompt encoded alone."""
        # An adapter on the text encoder can be rescaled without a change of any parameter.
        cacheable = not torch.is_grad_enabled() and not hasattr(text_encoder, "peft_config")
        weights = _fingerprint(text_encoder, device) if cacheable else ()
        embeddings = []
        for prompt in prompts:
            ids = _checked_ids(tokenizer, prompt, token_limit(tokenizer, text_encoder))
            key = (tuple(ids), weights)
            embedding = self._embeddings.pop(key, None) if cacheable else None
            if embedding is None:
                embedding = text_encoder(torch.tensor([ids], device=device)).last_hidden_state
            if cacheable:
                self._embeddings[key] = embedding
            embeddings.append(embedding)
        while len(self._embeddings) > _PROMPT_CACHE_SIZE:
            self._embeddings.popitem(last=False)
        return torch.cat(embeddings)


def _fingerprint(text_encoder: CLIPTextModel, device: torch.device) -> tuple:
    """Changes when any weight does, however it was changed: versions and addresses miss writes through `.data`."""
    sums = torch.stack([parameter.sum(dtype=torch.float32) for parameter in text_encoder.parameters()])
    return (device, text_encoder.dtype, *sums.tolist())


def _checked_ids(tokenizer: PreTrainedTokenizerBase, prompt: str, limit: int) -> list[int]:
    """Token ids, with a warning that quotes what is lost."""
    all_ids = tokenizer(prompt, truncation=False, verbose=False).input_ids
    if len(all_ids) > limit:
        lost = tokenizer.decode(all_ids[limit - 1 : -1], skip_special_tokens=True).strip()
        warnings.warn(
            f"the prompt is longer than the text encoder's {limit} tokens and was cut; ignored: {lost!r}",
            ColorizationWarning,
            stacklevel=2,
        )
    return token_ids(tokenizer, prompt, limit)


# What the semantic encoder sees


@dataclass(frozen=True, eq=False)
class Semantics:
    """What the semantic encoder says of a batch, as its UNet takes it.

    Args:
        picture: the first guess, `(batch, 3, height, width)` in [0, 1].
        z: the same encoded; None where nobody asked for it.
        features: `(batch, width, h, w)`.
    """

    picture: torch.Tensor
    z: torch.Tensor | None
    features: torch.Tensor


def first_guess(
    pipeline: "ColorizationPipeline", found: SemanticOutput, luma: torch.Tensor, encoded: bool = True
) -> Semantics:
    """What the semantic encoder says of photographs, as the UNet takes it.

    Args:
        pipeline: whose autoencoder encodes the guess.
        found: what the semantic encoder says.
        luma: `(batch, 1, height, width)` in [0, 1] at model resolution.
        encoded: whether the latent is wanted.
    """
    picture = guess_picture(luma, found.chroma)
    return Semantics(picture, pipeline.encode_image(2 * picture - 1) if encoded else None, found.features)


def encode_semantics(pipeline: "ColorizationPipeline", jobs: Sequence[Job], encoded: bool = True) -> Semantics:
    """The first guess of each job's photograph; computed once where several jobs share it."""
    photographs = list({id(job.wording): job for job in jobs}.values())  # variants share it
    rows = [[job.wording is photograph.wording for photograph in photographs].index(True) for job in jobs]
    luma = torch.stack([job.guide for job in photographs]).to(pipeline._execution_device)
    found = first_guess(pipeline, _understand(pipeline, photographs), luma, encoded)
    return Semantics(found.picture[rows], found.z[rows] if encoded else None, found.features[rows])


def _understand(pipeline: "ColorizationPipeline", jobs: Sequence[Job]) -> SemanticOutput:
    """What the semantic encoder says of each photograph; it looks at those that it has not seen for their names."""
    unseen = [job for job in jobs if job.wording.understood is None]
    looked = None
    if unseen:
        seen = torch.stack([job.seen[:1] for job in unseen]).to(pipeline._execution_device) / 2 + 0.5
        looked = pipeline.semantic_encoder(seen)
    if len(unseen) == len(jobs):
        return looked
    rows = iter(range(len(unseen)))
    outputs = [(looked, next(rows)) if job in unseen else (job.wording.understood, 0) for job in jobs]
    return SemanticOutput(
        features=torch.stack([output.features[row] for output, row in outputs]),
        chroma=torch.stack([output.chroma[row] for output, row in outputs]),
    )


# Hints


def encode_hints(
    pipeline: "ColorizationPipeline", jobs: Sequence[Job], z_gray: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor] | tuple[None, None]:
    """Latents of the hints' colors, shaped as `z_gray`, and where they count, `(len(jobs), 1, h, w)` in [0, 1].

    Where only some jobs have hints the region of the others is 0; None where no job has any.
    """
    hinted = [index for index, job in enumerate(jobs) if job.hints is not None]
    if not hinted:
        return None, None
    pictures = [merge_luma_chroma(jobs[index].guide, jobs[index].hints.chroma) for index in hinted]
    regions = torch.stack([jobs[index].hints.region for index in hinted])
    z_hint, region = z_gray.clone(), torch.zeros_like(z_gray[:, :1])
    z_hint[hinted] = pipeline.encode_image(torch.stack(pictures) * 2 - 1)
    region[hinted] = F.avg_pool2d(regions, pipeline.vae_scale_factor).to(region)
    return z_hint, region
