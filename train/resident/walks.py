"""Training of the small model's UNet and text encoder with everything they see on the device."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from colorization.color import luma
from colorization.pipeline import ColorizationPipeline
from colorization.semantic import CELL, guess_picture

from ..denoiser import Denoiser
from ..objective import latent_loss, training_pair
from ..text import Tokenize
from ..transforms import BOOST_RANGE
from .course import Clock, MovingAverage, Rates, train_by_clock
from .encoder import Mixture
from .film import boosted, filmed
from .photos import Shelf


@dataclass(frozen=True)
class WalkSettings:
    """How the UNet is trained.

    Args:
        batch_size: samples of a step.
        learning_rate: at its peak.
        warmup: steps.
        film: share of them on the gray of an old film.
        boost: share of them with more chroma.
        noise_scale: sigma of the walk's start.
        caption_dropout: share of the samples without caption.
        semantic_dropout: share of the samples without what the encoder knows.
        at_start: share of the samples at severity 1, where every walk begins; the others' is logit-normal.
        decay: of the moving average.
    """

    batch_size: int = 512
    learning_rate: float = 4e-4
    warmup: int = 200
    film: float = 0.3
    boost: float = 0.2
    noise_scale: float = 0.6
    caption_dropout: float = 0.3
    semantic_dropout: float = 0.1
    at_start: float = 0.1
    decay: float = 0.999


@dataclass(frozen=True, eq=False)
class Latents:
    """What the UNet learns from, of one shelf; `n` is photographs times variants.

    Args:
        z_color, z_gray, z_guess: `(n, channels, h, w)` float16.
        features: what the encoder knows, `(n, width, h, w)` float16.
        captions: first row and number of each photograph's captions in `texts`, `(photographs, 2)`.
        texts: token ids of all captions, `(captions, tokens)`; the first is the empty one.
    """

    z_color: torch.Tensor
    z_gray: torch.Tensor
    z_guess: torch.Tensor
    features: torch.Tensor
    captions: torch.Tensor
    texts: torch.Tensor

    def draw(self, count: int, dropout: float, generator: torch.Generator) -> dict[str, torch.Tensor]:
        """A random batch; `text` are token ids."""
        device = self.z_color.device
        rows = torch.randint(len(self.z_color), (count,), device=device, generator=generator)
        first, number = self.captions[rows % len(self.captions)].unbind(dim=1)
        chosen, dropped = torch.rand(2, count, device=device, generator=generator)
        text = torch.where((dropped < dropout) | (number == 0), 0, first + (chosen * number).long())
        latents = {name: getattr(self, name)[rows].float() for name in ("z_color", "z_gray", "z_guess", "features")}
        return latents | {"text": self.texts[text]}


@torch.no_grad()
def encode(
    pipeline: ColorizationPipeline,
    shelf: Shelf,
    variants: int,
    settings: WalkSettings,
    generator: torch.Generator,
    batch_size: int = 256,
) -> Latents:
    """Latents and features of versions of a shelf's photographs, cut, boosted and filmed at random."""
    device, tokenize = shelf.pixels.device, Tokenize(pipeline)
    side, width = pipeline.config.resolution, pipeline.semantic_encoder.config.widths[0]
    cells = side // pipeline.vae_scale_factor
    count, channels = variants * len(shelf), pipeline.vae.config.latent_channels
    shapes = {name: (count, channels, cells, cells) for name in ("z_color", "z_gray", "z_guess")}
    shapes["features"] = (count, width, cells, cells)
    kept = {name: torch.empty(shape, dtype=torch.float16, device=device) for name, shape in shapes.items()}
    seen_side = CELL * cells
    for rows in torch.arange(count, device=device).split(batch_size):
        image = shelf.cut(rows % len(shelf), seen_side, generator)
        image = filmed(boosted(image, settings.boost, BOOST_RANGE, generator), settings.film, generator)
        seen, small = luma(image), F.interpolate(image, [side, side], mode="area")
        gray = luma(small)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            found = pipeline.semantic_encoder(seen)
        guess = guess_picture(gray, found.chroma)
        pictures = torch.cat([small, gray.expand(-1, 3, -1, -1), guess])
        with torch.autocast(device.type, torch.float16, enabled=device.type == "cuda"):
            z = pipeline.encode_image(2 * pictures.contiguous(memory_format=torch.channels_last) - 1)
        for name, part in zip(("z_color", "z_gray", "z_guess"), z.chunk(3), strict=True):
            kept[name][rows] = part.half()
        kept["features"][rows] = found.features.half()
    texts, places = [tokenize("")], []
    for forms in shelf.captions:
        places.append((len(texts), len(forms)))
        texts += [tokenize(caption) for caption in forms]
    return Latents(**kept, captions=torch.tensor(places, device=device), texts=torch.stack(texts).to(device))


class WalkTask:
    """The loss of walks from the first guess.

    Args:
        pipeline: whose UNet and text encoder learn.
        latents: of each shelf.
        mixture: the shelves' shares of a batch.
        settings: see there.
        generator: of everything random.
    """

    def __init__(
        self,
        pipeline: ColorizationPipeline,
        latents: Sequence[Latents],
        mixture: Mixture,
        settings: WalkSettings,
        generator: torch.Generator,
    ):
        self.latents, self.settings, self.generator = latents, settings, generator
        self.counts = mixture.counts(settings.batch_size)
        self.prediction_type = pipeline.scheduler.config.prediction_type
        steps = pipeline.scheduler.config.num_train_timesteps
        self.network = Denoiser(pipeline.unet, steps, pipeline.text_encoder)

    def batch(self) -> dict[str, torch.Tensor]:
        """Samples of all shelves, with noise, severity and what is left out of them."""
        settings, generator = self.settings, self.generator
        parts = [
            latents.draw(count, settings.caption_dropout, generator)
            for latents, count in zip(self.latents, self.counts, strict=True)
        ]
        batch = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        device = batch["z_gray"].device
        kept, start = torch.rand(2, settings.batch_size, device=device, generator=generator)
        kept = (kept >= settings.semantic_dropout)[:, None, None, None]
        batch["z_guess"] = torch.where(kept, batch["z_guess"], batch["z_gray"])
        batch["features"] = batch["features"] * kept
        severity = torch.sigmoid(torch.randn(settings.batch_size, device=device, generator=generator))
        batch["severity"] = torch.where(start < settings.at_start, 1.0, severity)
        batch["noise"] = torch.randn(batch["z_gray"].shape, device=device, generator=generator)
        return batch

    def loss(self) -> torch.Tensor:
        """Mean loss of a new batch, 0-d."""
        batch = self.batch()
        z, target = training_pair(
            batch["z_color"],
            batch["z_guess"],
            batch["noise"],
            batch["severity"],
            self.settings.noise_scale,
            self.prediction_type,
        )
        device = z.device.type
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            seen = [batch["z_gray"], batch["z_guess"], batch["features"]]
            output, _ = self.network(z, seen, batch["severity"], batch["text"])
        return latent_loss(output, target).mean()


def train_walks(
    pipeline: ColorizationPipeline,
    photos: Mixture,
    variants: Sequence[int],
    settings: WalkSettings,
    clock: Clock,
    seed: int = 0,
) -> dict:
    """Train UNet and text encoder for the clock's time; they then hold the moving average.

    Args:
        pipeline: float32, on the device, its UNet as wide as what it sees; the encoder stays as it is.
        photos: what is trained on.
        variants: versions that are kept of each shelf's photographs.
        settings: see there.
        clock: how long, without the encoding.
        seed: of everything random.

    Returns:
        what the summary says of it.
    """
    generator = torch.Generator(photos.shelves[0].pixels.device).manual_seed(seed)
    latents = [
        encode(pipeline, shelf, count, settings, generator)
        for shelf, count in zip(photos.shelves, variants, strict=True)
    ]
    for component in (pipeline.unet, pipeline.text_encoder):
        component.requires_grad_(True).train()
    task = WalkTask(pipeline, latents, photos, settings, generator)
    parameters = list(task.network.parameters())
    average = MovingAverage(parameters, settings.decay)
    optimizer = torch.optim.AdamW(parameters, lr=settings.learning_rate, weight_decay=0.01, fused=True)
    rates = Rates((settings.learning_rate,), (settings.warmup,))
    clock.restart()
    summary = train_by_clock(task.loss, optimizer, rates, average, clock, settings.batch_size, "walks")
    average.keep()
    task.network.eval().requires_grad_(False)
    return summary | {"photographs": [len(shelf) for shelf in photos.shelves], "variants": list(variants)}
