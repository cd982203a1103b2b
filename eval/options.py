"""What the commands' arguments share with the work behind them, without loading what the work needs."""

import argparse
from collections.abc import Sequence

from .runs import NO_PROMPT

SAMPLERS = ("cold", "naive", "euler")
LABEL = "label"  # a prompt mode of sweeps: what the data set says of a photograph
DTYPES = ("float32", "bfloat16", "float16")
DIFFUSION_ARGUMENTS = ("steps", "guidance_scale", "sampler")
# The student report's protocol. Its guidance scale of 1.6 counts from the positive prediction, ours from the negative.
REPORT_GUIDANCE_SCALE, REPORT_STEPS = 2.6, 50
DEFAULT_CAPTIONER = "blip-large"
DEFAULT_CLIP = "openai/clip-vit-base-patch32"


def refuse(arguments: argparse.Namespace, names: Sequence[str]) -> None:
    """ValueError when one of these arguments is given, or prompts are asked for: the model has no use for them."""
    given = [name for name in names if getattr(arguments, name) is not None]
    if arguments.prompt_mode != NO_PROMPT:
        given.append("prompt_mode")
    if given:
        raise ValueError(f"argument --{given[0].replace('_', '-')}: makes no sense for the model {arguments.model!r}")
