"""The settings that all tabs share: the values that handlers get, and the components that hold them on the page."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr

from .engine import Engine
from .events import PRIVATE
from .inputs import PhotoInput, Slider

MAX_VARIANTS = 4


@dataclass(frozen=True)
class Settings:
    """What a visitor has set; the names are those of the API's parameters.

    Args:
        negative_prompt: what to steer away from.
        model: one of the engine's.
        steps, guidance_scale, seed: of the sampling.
        color_scale: color intensity.
        auto_color_scale: have the model choose it.
        auto_prompt: without a prompt, color what the model sees as such things are.
    """

    negative_prompt: str
    model: str
    steps: int
    guidance_scale: float
    seed: int | None
    color_scale: float
    auto_color_scale: bool
    auto_prompt: bool = True

    def arguments(self) -> dict[str, Any]:
        """Arguments of the pipeline's call, but for the color scale, which acts when a prediction is rendered."""
        return {
            "negative_prompt": self.negative_prompt,
            "num_inference_steps": self.steps,
            "guidance_scale": self.guidance_scale,
            "seed": self.seed,
            "auto_prompt": self.auto_prompt,
        }


def require(**values: Any) -> None:
    """ValueError on an argument that is null, as only a program can send it."""
    for name, value in values.items():
        if value is None:
            raise ValueError(f"`{name}` must not be null")


Controls = dict[str, gr.components.Component]  # for each field of `Settings` the component with its value


def read_controls(controls: Controls, values: Mapping[gr.components.Component, Any]) -> Settings:
    """The settings, of what gradio hands over where an event's inputs are a set."""
    return Settings(**{name: values[component] for name, component in controls.items()})


def inputs_of(endpoint: Callable, **components: gr.components.Component) -> list[gr.components.Component]:
    """An endpoint's inputs in the order of its parameters, whose names the API shows."""
    return [components[name] for name in inspect.signature(endpoint).parameters if name != "request"]


@dataclass(frozen=True)
class Chosen:
    """Components of the Color tab whose values the other tabs use too."""

    image: PhotoInput
    prompt: gr.Textbox
    hints: gr.Textbox
    controls: Controls


def settings_panel(engine: Engine) -> tuple[Controls, Slider]:
    """What is folded away below the prompt: the controls but for those of the color scale, and how many variants."""
    config = engine.config(engine.models[0])
    with gr.Accordion("Settings", open=False):
        model = gr.Dropdown(engine.models, value=engine.models[0], label="Model", visible=len(engine.models) > 1)
        negative_prompt = gr.Textbox(
            config["default_negative_prompt"], label="Negative prompt", placeholder="what to avoid", max_lines=3
        )
        variants = Slider(
            1, MAX_VARIANTS, 1, step=1, precision=0, label="Variants", visible=engine.varies(engine.models[0])
        )
        auto_prompt = gr.Checkbox(
            True,
            label="Say what is seen",
            info="without a prompt: as a prompt of the model's own",
            visible=engine.names(engine.models[0]),
        )
        fewest = engine.fewest_steps(engine.models[0])
        steps = Slider(
            fewest,
            100,
            config["default_num_inference_steps"],
            step=1,
            precision=0,
            label="Steps",
            info=_steps_info(fewest),
        )
        guidance_scale = Slider(
            1, 15, config["default_guidance_scale"], step=0.1, label="Guidance scale", info="1 is off"
        )
        with gr.Row(equal_height=True):
            seed = gr.Number(config["default_seed"], precision=0, minimum=0, label="Seed", scale=3)
            dice = gr.Button("🎲 Dice", scale=1, min_width=100)
    dice.click(None, outputs=seed, js="() => Math.floor(Math.random() * 2 ** 31)", **PRIVATE)
    controls = {
        "negative_prompt": negative_prompt,
        "model": model,
        "steps": steps,
        "guidance_scale": guidance_scale,
        "seed": seed,
        "auto_prompt": auto_prompt,
    }
    return controls, variants


def _steps_info(fewest: int) -> str | None:
    return None if fewest else "0 is a first guess, at once; the prompt acts from 1 on"


def color_scale_controls(engine: Engine) -> Controls:
    """The color scale's, which belong below the result: they act at once."""
    color_scale = Slider(
        0,
        3,
        engine.config(engine.models[0])["default_color_scale"],
        step=0.05,
        label="Color scale",
        info="0 is gray, 1 as predicted; acts at once",
        elem_id="color-scale",
    )
    auto_color_scale = gr.Checkbox(
        False,
        label="Automatic color scale",
        info="set for each photograph when it is colored",
        visible=engine.chooses_color_scale(engine.models[0]),
    )
    return {"color_scale": color_scale, "auto_color_scale": auto_color_scale}


def follow_model(engine: Engine, controls: Controls, variants: Slider) -> None:
    """Have another model bring its own settings along."""
    defaults = ("negative_prompt", "guidance_scale", "color_scale")

    def suit(model: str) -> list:
        config, automatic = engine.config(model), engine.chooses_color_scale(model)
        values = [config[f"default_{name}"] for name in defaults]
        fewest = engine.fewest_steps(model)
        return [
            *values,
            Slider(minimum=fewest, value=config["default_num_inference_steps"], info=_steps_info(fewest)),
            Slider(value=1, visible=engine.varies(model)),
            gr.Checkbox(value=False, visible=automatic),
            gr.Checkbox(value=True, visible=engine.names(model)),
        ]

    automatics = controls["auto_color_scale"], controls["auto_prompt"]
    outputs = [*(controls[name] for name in defaults), controls["steps"], variants, *automatics]
    controls["model"].input(suit, controls["model"], outputs, **PRIVATE)
