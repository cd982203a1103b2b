"""One point of a sweep's grid."""

from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Setting:
    """One point of the grid; `noise_scale` belongs to the model's scheduler, the rest to the pipeline's call."""

    num_inference_steps: int
    guidance_scale: float
    sampler: str
    noise_scale: float
    color_scale: float

    def __str__(self) -> str:
        return (
            f"{self.num_inference_steps} steps, guidance {self.guidance_scale:g}, {self.sampler}, "
            f"noise {self.noise_scale:g}, color {self.color_scale:g}"
        )

    @property
    def file_name(self) -> str:
        """Of its result."""
        numbers = self.guidance_scale, self.sampler, self.noise_scale, self.color_scale
        return "steps-{}_guidance-{}_{}_noise-{}_color-{}.json".format(self.num_inference_steps, *numbers)

    @property
    def call(self) -> dict:
        """Arguments of the pipeline's call, without the color scale."""
        names = ("num_inference_steps", "guidance_scale", "sampler")
        return {name: getattr(self, name) for name in names}

    @property
    def evaluations(self) -> int:
        """Of the UNet for one photograph that has a prompt: a guidance scale other than 1 doubles them."""
        return self.num_inference_steps * (1 if self.guidance_scale == 1 else 2)

    @property
    def model_config(self) -> dict:
        """Entries of a model's configuration that make it the default; `noise_scale` is the scheduler's."""
        defaults = {
            f"default_{name}": value for name, value in (self.call | {"color_scale": self.color_scale}).items()
        }
        return defaults | {"noise_scale": self.noise_scale}
