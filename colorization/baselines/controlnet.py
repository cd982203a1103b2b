"""ControlNet (Zhang, Rao, Agrawala 2023): a Stable Diffusion base draws a color picture whose shapes a copy of its
encoder imposes; only the drawn picture's chroma is used."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    ControlNetModel,
    DDIMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from diffusers.configuration_utils import register_to_config

from ..color import rgb_to_chroma
from ..degradation import to_gray
from ..loading import EMBEDDED_DIRECTORY
from .base import Baseline

CANNY_THRESHOLDS = (100, 200)
CONDITIONS = ("canny", "gray")
# Channels of the layers that bring the condition down to the latent's size, one halving after each but the last.
CONDITION_CHANNELS = (16, 32, 96, 256)
NEW_UNET = {
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": [32, 64, 128],
    "layers_per_block": 1,
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "cross_attention_dim": 32,
    "attention_head_dim": [1, 2, 4],
}


class ControlNetBaseline(Baseline):
    """A denoising UNet without prompt, steered by Canny edges or by the gray picture itself.

    Args:
        base: Hub id or folder of a Stable Diffusion 1.x or 2.x model, which stays as it is: only the ControlNet is
            trained. None takes the embedded model's autoencoder and a new small UNet, which is trained along, because
            no text-to-image model of this size exists.
        condition: "canny" or "gray", what the ControlNet sees.
        num_inference_steps: DDIM steps.
        unet_config, vae_config, scheduler_config: configs of the base's parts; :meth:`complete_settings` finds them.
        prompt_tokens: length of the base's prompts.
    """

    @register_to_config
    def __init__(
        self,
        base: str | None = None,
        condition: str = "canny",
        num_inference_steps: int = 20,
        unet_config: dict | None = None,
        vae_config: dict | None = None,
        scheduler_config: dict | None = None,
        prompt_tokens: int = 1,
    ):
        super().__init__()
        if condition not in CONDITIONS:
            raise ValueError(f"`condition` must be one of {CONDITIONS}, got {condition!r}")
        self.vae = (AutoencoderTiny if base is None else AutoencoderKL).from_config(vae_config)
        self.unet = UNet2DConditionModel.from_config(unet_config)
        self.factor = 2 ** (len(self.vae.config.block_out_channels) - 1)
        levels = self.factor.bit_length()  # a halving between each two
        self.controlnet = self._copy_of_encoder(CONDITION_CHANNELS[-levels:], with_weights=False)
        self.scheduler = DDIMScheduler.from_config(scheduler_config)
        # What the base's text encoder says of an empty prompt.
        shape = (1, prompt_tokens, self.unet.config.cross_attention_dim)
        self.register_buffer("prompt_embeds", torch.zeros(shape))
        self.size_multiple = self.factor * 2 ** (len(self.unet.config.block_out_channels) - 1)

    @classmethod
    def complete_settings(cls, settings: dict[str, Any], images: Iterable[torch.Tensor]) -> dict[str, Any]:
        base = settings.get("base")
        if base is None:
            vae = AutoencoderTiny.load_config(EMBEDDED_DIRECTORY, subfolder="vae")
            scheduler = {"num_train_timesteps": 1000, "prediction_type": "v_prediction", "clip_sample": False}
            return settings | {"unet_config": NEW_UNET, "vae_config": _plain(vae), "scheduler_config": scheduler}
        parts = {"unet": UNet2DConditionModel, "vae": AutoencoderKL, "scheduler": DDIMScheduler}
        configs = {f"{name}_config": _plain(kind.load_config(base, subfolder=name)) for name, kind in parts.items()}
        return settings | configs | {"prompt_tokens": _base_prompt_embeds(base).shape[1]}

    def initialize(self) -> None:
        if self.config.base is None:
            vae = AutoencoderTiny.from_pretrained(EMBEDDED_DIRECTORY, subfolder="vae", torch_dtype=torch.float32)
        else:
            vae = AutoencoderKL.from_pretrained(self.config.base, subfolder="vae", use_safetensors=True)
            unet = UNet2DConditionModel.from_pretrained(self.config.base, subfolder="unet", use_safetensors=True)
            self.unet.load_state_dict(unet.state_dict())
            self.unet.requires_grad_(False)
            self.prompt_embeds.copy_(_base_prompt_embeds(self.config.base))
        self.vae.load_state_dict(vae.state_dict())
        self.vae.requires_grad_(False)
        self.controlnet = self._copy_of_encoder(self.controlnet.config.conditioning_embedding_out_channels, True)

    def _copy_of_encoder(self, condition_channels: Sequence[int], with_weights: bool) -> ControlNetModel:
        return ControlNetModel.from_unet(
            self.unet, conditioning_embedding_out_channels=condition_channels, load_weights_from_unet=with_weights
        )

    def noise_shape(self, resolution: int) -> tuple[int, int, int]:
        side = resolution // self.factor
        return (self.vae.config.latent_channels, side, side)

    def forward(self, image: torch.Tensor, severity: torch.Tensor, noise: torch.Tensor) -> dict[str, torch.Tensor]:
        with torch.no_grad():
            z = self._encode(image)
        count = self.scheduler.config.num_train_timesteps
        timestep = (severity * count).long().clamp(max=count - 1)
        noisy = self.scheduler.add_noise(z, noise, timestep)
        target = noise
        if self.scheduler.config.prediction_type == "v_prediction":
            target = self.scheduler.get_velocity(z, noise, timestep)
        output = self._denoise(noisy, timestep, self._condition(to_gray(image)[:, :1] / 2 + 0.5))
        return {"denoising": ((output - target) ** 2).mean(dim=(1, 2, 3))}

    def predict_chroma(self, gray: torch.Tensor, generators: Sequence[torch.Generator]) -> torch.Tensor:
        condition = self._condition(gray)
        shape = (self.vae.config.latent_channels, *(side // self.factor for side in gray.shape[-2:]))
        z = torch.stack([torch.randn(shape, generator=source) for source in generators]).to(gray.device)
        self.scheduler.set_timesteps(self.config.num_inference_steps, device=gray.device)
        for timestep in self.scheduler.timesteps:
            output = self._denoise(z, timestep, condition)
            z = self.scheduler.step(output, timestep, z, return_dict=False)[0]
        picture = self.vae.decode((z / self.vae.config.scaling_factor).to(self.vae.dtype), return_dict=False)[0]
        return rgb_to_chroma((picture.float() / 2 + 0.5).clamp(0, 1))

    def _denoise(self, z: torch.Tensor, timestep: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        z = z.to(self.unet.dtype)
        prompt = self.prompt_embeds.to(z.dtype).expand(len(z), -1, -1)
        down, middle = self.controlnet(z, timestep, prompt, condition.to(z.dtype), return_dict=False)
        return self.unet(
            z,
            timestep,
            prompt,
            down_block_additional_residuals=down,
            mid_block_additional_residual=middle,
            return_dict=False,
        )[0].float()

    def _encode(self, image: torch.Tensor) -> torch.Tensor:
        encoded = self.vae.encode(image.to(self.vae.dtype))
        z = encoded.latents if isinstance(self.vae, AutoencoderTiny) else encoded.latent_dist.mode()
        return z.float() * self.vae.config.scaling_factor

    def _condition(self, gray: torch.Tensor) -> torch.Tensor:
        """What the ControlNet sees, `(batch, 3, height, width)` in [0, 1], of luma `(batch, 1, height, width)`."""
        if self.config.condition == "canny":
            gray = canny_edges(gray)
        return gray.expand(-1, 3, -1, -1)


def canny_edges(gray: torch.Tensor) -> torch.Tensor:
    """Canny edges, 0 or 1, of luma in [0, 1], both `(batch, 1, height, width)`; needs OpenCV."""
    import cv2

    pixels = (255 * gray[:, 0]).round().clamp(0, 255).byte().cpu().numpy()
    edges = np.stack([cv2.Canny(picture, *CANNY_THRESHOLDS) for picture in pixels])
    return torch.from_numpy(edges)[:, None].to(gray.device, torch.float32) / 255


def _plain(config: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if not key.startswith("_")}


@torch.no_grad()
def _base_prompt_embeds(base: str) -> torch.Tensor:
    """`(1, tokens, width)` of an empty prompt."""
    pipeline = StableDiffusionPipeline.from_pretrained(
        base, unet=None, vae=None, safety_checker=None, use_safetensors=True, requires_safety_checker=False
    )
    ids = pipeline.tokenizer("", padding="max_length", return_tensors="pt").input_ids
    return pipeline.text_encoder(ids).last_hidden_state
