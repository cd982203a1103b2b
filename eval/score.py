"""`python -m eval score`: metrics of a folder of colored pictures against their originals.

Next to the outputs the same metrics are taken of three rows that show what the numbers mean: "gray" is the input
itself, "vae" what a perfect prediction would give, "original" the original itself.

Pictures are read one after the other; features go through files, so that memory does not grow with their number.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from colorization.command_line import at_least, share_cores

from .checked_run import CheckedRun, load_run
from .options import DEFAULT_CLIP
from .runs import COLOR_WORDS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `python -m eval score`."""
    parser.add_argument("folder", type=Path, metavar="RUN", help="a run, or a folder of colored images named by id")
    parser.add_argument("--reference", type=Path, metavar="DIR", help="run or folder of the color originals")
    parser.add_argument("--inception-weights", type=Path, metavar="FILE", help="weights for FID, KID and HI-FID")
    parser.add_argument(
        "--inception", choices=("fid", "torchvision"), default="fid", help="network and protocol (default: fid)"
    )
    parser.add_argument("--lpips-weights", type=Path, metavar="FILE", help="torchvision's AlexNet weights, for LPIPS")
    parser.add_argument(
        "--clip-model", default=DEFAULT_CLIP, metavar="ID_OR_DIR", help=f"for the CLIP score (default: {DEFAULT_CLIP})"
    )
    parser.add_argument("--seed", type=at_least(0), default=0, metavar="N", help="of the resampling (default: 0)")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="keep the originals' features here")
    parser.add_argument(
        "--extra-seeds",
        type=Path,
        nargs="+",
        default=[],
        metavar="RUN",
        help="runs with other seeds, for diversity and best of K",
    )


def run(arguments: argparse.Namespace) -> int:
    """Score a folder; returns the exit status.

    Raises:
        ValueError: the pictures do not fit together, or an argument is wrong; nothing was written.
    """
    scored = load_run(arguments.folder, arguments.reference)
    extra = [load_run(folder) for folder in arguments.extra_seeds]
    _check_seeds(scored, extra, arguments.extra_seeds)
    share_cores()
    from .scoring import score_run

    print(score_run(arguments, scored, extra))
    return 0


def _check_seeds(scored: CheckedRun, extra: Sequence[CheckedRun], folders: Sequence[Path]) -> None:
    """ValueError unless the extra runs differ from the scored one in the seed alone."""
    if extra and scored.request.get("prompt_mode") == COLOR_WORDS:
        raise ValueError("argument --extra-seeds: makes no sense for a run with color words")
    seeds = {scored.request.get("seed")}
    for other, folder in zip(extra, folders, strict=True):
        if [(item.id, item.reference_sha256) for item in other.items] != [
            (item.id, item.reference_sha256) for item in scored.items
        ]:
            raise ValueError(f"argument --extra-seeds: {folder} has other pictures")
        for key in ("model", "model_revision", "adapter", "adapter_revision", "prompt_mode", "settings"):
            if other.request.get(key) != scored.request.get(key):
                raise ValueError(f"argument --extra-seeds: {folder} was made with another {key}")
        if other.request.get("seed") in seeds:
            raise ValueError(f"argument --extra-seeds: {folder} has the seed {other.request.get('seed')} again")
        seeds.add(other.request.get("seed"))
