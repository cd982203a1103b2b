"""The words for each photograph: the user's in those of the model, or what is seen where there are none."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from .batching import one_per_image, resize_to_tensor
from .naming import Sighting
from .photo import Photo
from .prompting import Vocabulary, translate, translate_negative
from .semantic import CELL, SemanticOutput

if TYPE_CHECKING:
    import torch

    from .jobs import Settings
    from .pipeline import ColorizationPipeline


@dataclass(frozen=True, eq=False)
class Wording:
    """What is said of one photograph.

    Args:
        asked, asked_negative: the prompts as the user gave them.
        prompt, negative_prompt: as they are encoded.
        notes: sentences on what is seen, what was understood and what was not.
        sighting: what is seen; None where nobody looked, or nothing is worth saying.
        understood: features and chroma that the semantic encoder gives for the photograph, where it has looked
            already; of a batch of 1.
        declined: whether the model could have said what it sees, but was not to.
        helps: whether the usual colors of what is seen become the prompt.
    """

    asked: str = ""
    asked_negative: str = ""
    prompt: str = ""
    negative_prompt: str = ""
    notes: tuple[str, ...] = ()
    sighting: Sighting | None = None
    understood: SemanticOutput | None = None
    declined: bool = False
    helps: bool = False

    @property
    def steers(self) -> bool:
        """Whether there is any prompt, the user's or the model's own."""
        return bool(self.asked.strip() or self.prompt.strip())

    def describe(self) -> dict[str, Any]:
        """For settings and metadata: the prompts as asked for, and what was made of them where that differs."""
        described: dict[str, Any] = {"prompt": self.asked, "negative_prompt": self.asked_negative}
        if self.prompt != self.asked:
            described["encoded_prompt"] = self.prompt
        if self.negative_prompt != self.asked_negative:
            described["encoded_negative_prompt"] = self.negative_prompt
        if self.declined:
            described["auto_prompt"] = False
        if self.sighting is not None:
            described["seen"] = self.sighting.as_dict()
        return described | ({"notes": list(self.notes)} if self.notes else {})


def seen_size(pipeline: "ColorizationPipeline", photo: Photo) -> tuple[int, int]:
    """(width, height) at which the semantic encoder sees a photograph: 8 pixels per latent cell."""
    width, height = (side // pipeline.vae_scale_factor * CELL for side in pipeline.model_size(*photo.size))
    return width, height


def find_words(
    pipeline: "ColorizationPipeline",
    photos: Sequence[Photo],
    settings: "Settings",
    prompt: str | Sequence[str] | None,
    negative_prompt: str | Sequence[str] | None,
    auto_prompt: bool,
) -> list[Wording]:
    """The words for each photograph.

    Args:
        pipeline: whose vocabulary and, for photographs without a prompt, whose naming head are used.
        photos: read ones.
        settings: of the call.
        prompt, negative_prompt: one value or one per image; None is "", and the model's own negative prompt.
        auto_prompt: whether an empty prompt becomes what is seen.

    Raises:
        ValueError: an argument of another form.
    """
    if not isinstance(auto_prompt, bool):
        raise ValueError(f"`auto_prompt` must be True or False, got {auto_prompt!r}")
    negative_prompt = pipeline.config.default_negative_prompt if negative_prompt is None else negative_prompt
    prompts = one_per_image("prompt", "" if prompt is None else prompt, len(photos), str)
    negatives = one_per_image("negative_prompt", negative_prompt, len(photos), str)
    vocabulary = Vocabulary.of_config(pipeline.config.prompt_vocabulary)
    wordless = [index for index, own in enumerate(prompts) if _may_look(pipeline, own, settings)]
    if auto_prompt:
        seen = dict(zip(wordless, _look(pipeline, [photos[index] for index in wordless]), strict=True))
    else:
        seen = dict.fromkeys(wordless, Wording(declined=True))
    return [
        _put_words(seen.get(index, Wording()), own, negative, vocabulary, settings)
        for index, (own, negative) in enumerate(zip(prompts, negatives, strict=True))
    ]


def expected_words(
    pipeline: "ColorizationPipeline", settings: "Settings", prompt: str, negative_prompt: str, auto_prompt: bool
) -> tuple[Wording, bool]:
    """What is said of any photograph, before one is looked at, and whether what is seen may be added."""
    looking = _may_look(pipeline, prompt, settings)
    vocabulary = Vocabulary.of_config(pipeline.config.prompt_vocabulary)
    wording = _put_words(Wording(declined=looking and not auto_prompt), prompt, negative_prompt, vocabulary, settings)
    return wording, looking and auto_prompt


def _may_look(pipeline: "ColorizationPipeline", prompt: str, settings: "Settings") -> bool:
    """Whether the model could say what it sees; not of a faded photograph, whose remaining color says more."""
    return pipeline.naming_head is not None and settings.severity == 1 and not prompt.strip()


def _look(pipeline: "ColorizationPipeline", photos: Sequence[Photo]) -> list[Wording]:
    """What the semantic encoder and the naming head say of each photograph, as yet without words.

    One by one, so that what is said of a photograph does not depend on what is beside it; all by one network before
    the other, for they may have to take turns on the device.
    """
    head = pipeline.naming_head
    outputs = [pipeline.semantic_encoder(_luma(pipeline, photo)) for photo in photos]
    wordings = []
    for output in outputs:
        sighting = head.sightings(output.coarse)[0]
        understood = SemanticOutput(features=output.features, chroma=output.chroma)  # the rest is large
        wordings.append(
            Wording(sighting=sighting, understood=understood, helps=head.helps(sighting, output.chroma[0]))
        )
    return wordings


def _luma(pipeline: "ColorizationPipeline", photo: Photo) -> "torch.Tensor":
    return resize_to_tensor(photo.luma, seen_size(pipeline, photo))[None, :1].to(pipeline._execution_device) / 2 + 0.5


def _put_words(
    seen: Wording, asked: str, negative: str, vocabulary: Vocabulary | None, settings: "Settings"
) -> Wording:
    """The words for a photograph of which this is seen."""
    prompt, unwanted = translate(asked, vocabulary), translate_negative(negative, vocabulary)
    text, notes = prompt.prompt, [*prompt.notes, *unwanted.notes]
    if prompt.avoided and settings.guidance_scale == 1:
        notes.append("a negative prompt has no effect at a guidance scale of 1")
    if seen.helps and settings.num_inference_steps > 0:  # the first guess takes no prompt
        text = seen.sighting.prompt
        notes.append(f"{seen.sighting.sentence}; colored as “{text}”")
    elif seen.sighting is not None:
        notes.append(seen.sighting.sentence)
    return replace(
        seen,
        asked=asked,
        asked_negative=negative,
        prompt=text,
        negative_prompt=prompt.negative(unwanted.prompt),
        notes=tuple(notes),
    )
