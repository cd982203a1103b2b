"""Measure a model over a grid of settings on a small set of photographs, to choose the defaults that it ships with.

The grid is full: every combination of the values given, since settings act on each other (few steps want another
sampler than many do). What is not given stays at the model's default. The color scale costs no sampling where the
model applies it to the decoded chroma: all scales are rendered from one run.

Settings that are measured already are skipped: the same command goes on where an interrupted one stopped, and one with
further values adds to the table.

A setting is chosen so that neither more color nor more steps win by themselves. Only settings count whose PSNR is at
most so many dB below that of the gray input: a color scale cannot buy color with errors. Of these the best by the
metric is sought, and whatever lies within one standard error of it is as good; the cheapest of those is chosen, and
among the cheapest the one whose colorfulness is nearest to the originals'. The table marks the front: settings that no
other one beats in colorfulness, PSNR and KD-Lite2 together.
"""

import argparse
from pathlib import Path

from colorization.command_line import at_least, share_cores

from .choosing import CHOICES
from .options import LABEL, SAMPLERS
from .photos import load_photos, naming
from .runs import NO_PROMPT

DEFAULT_PSNR_LOSS = 1.0  # dB

_EXAMPLES = """examples:
  python -m eval sweep --dataset imagefolder:photos --output sweeps/embedded --steps 4 8 16 --color-scale 1 1.3 1.6
  python -m eval sweep --dataset imagefolder:photos --model runs/new/pipeline --output sweeps/new --steps 4 8 16 \\
      --store runs/new/pipeline
  python -m eval sweep --dataset "parquet:data/*.parquet:validation" --model runs/new/pipeline --output sweeps/new \\
      --limit 100 --sampler euler naive --noise-scale 0.4 0.6
  python -m eval sweep --dataset imagefolder:photos --output sweeps/guidance --prompt-mode label --guidance-scale 1 2 3

exit status: 0 all done, 1 some photographs or settings failed (each is named), 2 bad arguments"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m eval sweep`."""
    parser.epilog = _EXAMPLES
    add, scale = parser.add_argument, at_least(0, float)
    add(
        "--dataset",
        required=True,
        metavar="SPEC",
        help="imagefolder:PATH (labels from its index.csv) or parquet:GLOB[:validation] (columns image and label)",
    )
    add("--model", default="embedded", metavar="ID_OR_DIR", help='folder, Hub id or "embedded" (default)')
    add("--output", required=True, type=Path, metavar="DIR", help="folder for the results")
    add("--steps", nargs="+", type=at_least(1), metavar="N", help="sampling steps")
    add("--guidance-scale", nargs="+", type=scale, metavar="S", help="several need prompts to act on")
    add("--sampler", nargs="+", choices=SAMPLERS, help="samplers")
    add("--noise-scale", nargs="+", type=scale, metavar="S", help="of the start, at inference only")
    add("--color-scale", nargs="+", type=scale, metavar="S", help="color intensities")
    add(
        "--prompt-mode",
        choices=(NO_PROMPT, LABEL),
        default=NO_PROMPT,
        help="none (default), or the data set's labels",
    )
    add("--limit", type=at_least(1), metavar="N", help="only a random sample of N, always the same")
    add("--seed", type=at_least(0), default=0, metavar="N", help="of noise and resampling (default: 0)")
    add("--choose", choices=CHOICES, default=CHOICES[0], help=f"choose by this metric (default: {CHOICES[0]})")
    add(
        "--psnr-loss",
        type=scale,
        default=DEFAULT_PSNR_LOSS,
        metavar="DB",
        help=f"how far below the gray input's a chosen setting's PSNR may be (default: {DEFAULT_PSNR_LOSS:g} dB)",
    )
    add("--store", type=Path, metavar="DIR", help="make the chosen setting the default of the model in this folder")
    add("--overwrite", action="store_true", help="measure settings again that are there already")


def run(arguments: argparse.Namespace) -> int:
    """Measure what is not measured yet and print the table; returns the exit status.

    Raises:
        ValueError, OSError: something that the user can mend.
    """
    with naming("--dataset"):
        photos = load_photos(arguments.dataset, arguments.limit)
    share_cores()
    from .sweeping import sweep

    return sweep(arguments, photos)
