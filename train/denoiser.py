"""The network that is trained to color latents, and its loss; the same for an adapter and for the small model."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from torch import nn
from transformers import CLIPTextModel

from colorization.conditioning import first_guess, predict
from colorization.degradation import to_gray
from colorization.pipeline import ColorizationPipeline
from colorization.semantic import CELL

from .config import ObjectiveConfig
from .objective import Loss, alignment_loss, estimate_z_color, latent_loss, saturation_loss, training_pair
from .teacher import Teacher


class Denoiser(nn.Module):
    """UNet, and where it is trained too the text encoder, behind one `forward`.

    Args:
        unet: with as many input channels as the latent, or more: it then sees the gray latent as well, and the
            first guess.
        num_train_timesteps: N; the timestep is severity * (N - 1).
        text_encoder: None where captions come as embeddings.
        teacher_channels: channels of the features that the middle of the UNet is to predict, through a projection that
            is trained along and not kept; 0 is none.
    """

    def __init__(
        self,
        unet: UNet2DConditionModel,
        num_train_timesteps: int,
        text_encoder: CLIPTextModel | None = None,
        teacher_channels: int = 0,
    ):
        super().__init__()
        self.unet, self.text_encoder, self.num_train_timesteps = unet, text_encoder, num_train_timesteps
        self.projection, self._middle = None, None
        if teacher_channels > 0:
            width = 2 * unet.config.block_out_channels[-1]
            self.projection = nn.Sequential(
                nn.Conv2d(width // 2, width, 1), nn.SiLU(), nn.Conv2d(width, teacher_channels, 1)
            ).to(unet.device)
            unet.mid_block.register_forward_hook(self._keep_middle)

    def _keep_middle(self, module: nn.Module, inputs: tuple, output: torch.Tensor) -> None:
        self._middle = output

    def forward(
        self, z: torch.Tensor, seen: Sequence[torch.Tensor], severity: torch.Tensor, text: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The UNet's output `(batch, channels, h, w)`, and predicted features of a teacher `(batch, channels, s, s)`.

        Args:
            z: latents `(batch, channels, h, w)`.
            seen: what a UNet with a wider input layer sees beside them, `(batch, ..., h, w)`; the gray latent first.
            severity: `(batch,)`.
            text: token ids `(batch, tokens)` with a text encoder, else embeddings `(batch, tokens, width)`.
        """
        if self.text_encoder is not None:
            text = self.text_encoder(text).last_hidden_state
        output = predict(self.unet, z, seen, severity * (self.num_train_timesteps - 1), text)
        if self.projection is None:
            return output, None
        middle, self._middle = self._middle, None
        return output, self.projection(middle)


class ColorTask:
    """Coloring latents (Diffusing Colors, Algorithm 1), for the training loop.

    Args:
        pipeline: the model; its scheduler says what is predicted and how the start is made.
        objective: weights of the losses.
        train_text_encoder: whether captions come as token ids and the text encoder learns too.
        lpips: a perceptual distance of pictures in [-1, 1], where its weight is above 0.
        teacher: whose features the batches hold, where their weight is above 0.
    """

    def __init__(
        self,
        pipeline: ColorizationPipeline,
        objective: ObjectiveConfig,
        train_text_encoder: bool,
        lpips: Callable | None = None,
        teacher: Teacher | None = None,
    ):
        self.pipeline, self.objective, self.lpips = pipeline, objective, lpips
        text_encoder = pipeline.text_encoder if train_text_encoder else None
        num_train_timesteps = pipeline.scheduler.config.num_train_timesteps
        channels = 0 if teacher is None else teacher.channels
        self.network = Denoiser(pipeline.unet, num_train_timesteps, text_encoder, channels)

    def loss(self, network: nn.Module, batch: dict[str, torch.Tensor]) -> Loss:
        """Loss of a batch of `train.data` samples.

        Args:
            network: `self.network`, as accelerate wrapped it.
            batch: with `z_color` and `z_gray`, or with `image`.
        """
        objective = self.objective
        z_color, z_gray, text = self._encode(batch)
        severity, z_base, seen = batch["severity"], z_gray, [z_gray]
        if self.pipeline.uses_guess:
            z_guess, known = self._guess(batch, z_gray)
            seen += [z_guess, known] if self.pipeline.sees_guess else []
            z_base = z_guess if self.pipeline.config.walk_from == "guess" else z_gray
        z, target = training_pair(
            z_color, z_base, batch["noise"], severity, objective.noise_scale, objective.prediction_type
        )
        output, features = network(z, seen, severity, text)
        terms = {"latent": (objective.latent_weight, latent_loss(output, target))}
        if objective.saturation_weight > 0 or objective.lpips_weight > 0:
            z_hat = estimate_z_color(output, z, severity, objective.prediction_type)
            image_hat = self.pipeline.decode_latents(z_hat)
            with torch.no_grad():
                image = self.pipeline.decode_latents(z_color)
            if objective.saturation_weight > 0:
                terms["saturation"] = (objective.saturation_weight, saturation_loss(image_hat, image))
            if objective.lpips_weight > 0:
                distance = self.lpips(2 * image_hat - 1, 2 * image - 1).flatten()
                terms["lpips"] = (objective.lpips_weight, distance)
        if "features" in batch:  # validation's have none
            terms["alignment"] = (objective.alignment_weight, alignment_loss(features, batch["features"]))
        per_sample = sum(weight * values for weight, values in terms.values())
        parts = {name: values.detach().mean() for name, (_, values) in terms.items()}
        return Loss(per_sample.mean(), per_sample.detach(), severity, parts)

    @torch.no_grad()
    def _guess(self, batch: dict[str, torch.Tensor], z_gray: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Latents of the first guess and what the encoder knows; the gray latent and zeros where that is dropped."""
        luma = batch["luma"] if "luma" in batch else to_gray(batch["image"])[:, :1] / 2 + 0.5
        sides = [CELL * side for side in z_gray.shape[-2:]]
        seen = F.interpolate(luma, sides, mode="bicubic", align_corners=False, antialias=True).clamp(0, 1)
        guess = first_guess(self.pipeline, self.pipeline.semantic_encoder(seen), luma)
        if "semantics" not in batch:
            return guess.z, guess.features
        kept = batch["semantics"][:, None, None, None]
        return torch.where(kept, guess.z, z_gray), guess.features * kept

    @torch.no_grad()
    def _encode(self, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """z_color, z_gray and text; the gray picture is made from the very pixels that are encoded."""
        text = batch["text"]
        if "image" not in batch:
            return batch["z_color"], batch["z_gray"], text
        z_color = self.pipeline.encode_image(batch["image"])
        z_gray = self.pipeline.encode_image(to_gray(batch["image"]))
        if self.network.text_encoder is None and text.ndim == 2:
            text = self.pipeline.text_encoder(text).last_hidden_state
        return z_color, z_gray, text
