"""`python -m eval study`: the studies behind the documents.

A study measures something, keeps what it found as lines of eval/results/ledger.jsonl, and writes its part of a
document again. Without further arguments it prints all that the ledger holds of it.
"""

import argparse
import importlib
from dataclasses import dataclass
from pathlib import Path

from colorization.command_line import Parser, share_cores

from .ledger import LEDGER

ROOT = Path(__file__).parent.parent.parent  # of the checkout, where the documents are


@dataclass(frozen=True)
class Study:
    """One study.

    Attributes:
        module: of this package, with `add_arguments(parser)` and `run(arguments) -> exit status`.
        purpose: what it asks, in a line.
        document: that shows it, in the checkout; None where none does.
    """

    module: str
    purpose: str
    document: str | None = None


STUDIES = {
    "experiments": Study("experiments", "what losses, targets, noise, data and adapters do", "docs/experiments.md"),
    "samplers": Study("samplers", "which sampler, how many steps", "docs/experiments.md"),
    "hues": Study("hues", "which colors fail", "docs/experiments.md"),
    "seeds": Study("seeds", "how different the seeds are", "docs/experiments.md"),
    "alternatives": Study("alternatives", "the baselines beside diffusion", "docs/alternatives.md"),
    "hints": Study("hints", "what color hints do", "docs/alternatives.md"),
    "shipped": Study("shipped", "scores and settings of the shipped model", "docs/results.md"),
    "knowledge": Study("knowledge", "how much of the colors is explained, by film", "docs/embedded-model.md"),
    "scale": Study("scale", "what metrics of thousands of pictures cost", "docs/results.md"),
    "checkpoints": Study("checkpoints", "from which checkpoint the model ships", "docs/embedded-model.md"),
    "color-scale": Study("color_scale", 'what color_scale="auto" is worth', "docs/use.md"),
    "unchanged": Study("unchanged", "whether anything but color is changed", "docs/use.md"),
    "speed": Study("speed", "speed and memory of the shipped model on this machine", "README.md"),
    "soak": Study("soak", "hundreds of requests to the demo at once"),
    "sheet": Study("sheets", "draw inputs, results and originals side by side"),
    "documents": Study("documents", "write all documents again"),
}

_EXAMPLES = """studies (`python -m eval study NAME --help` tells more):
{studies}

examples:
  python -m eval study samplers                 # print what was measured
  python -m eval study speed --run              # measure, and write the table in README.md again"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m eval study`; a study has its own, which :func:`run` parses."""
    width = max(map(len, STUDIES))
    lines = [f"  {name:<{width}}  {study.purpose}" for name, study in STUDIES.items()]
    parser.epilog = _EXAMPLES.format(studies="\n".join(lines))
    parser.add_argument("name", nargs="?", choices=STUDIES, metavar="NAME", help="a study; none lists them")
    parser.add_argument("words", nargs=argparse.REMAINDER, metavar="...", help="the study's arguments")


def run(arguments: argparse.Namespace) -> int:
    """Run a study and write its document again, or list the studies; returns the exit status."""
    if arguments.name is None:
        for name, study in STUDIES.items():
            print(f"{name:<{max(map(len, STUDIES))}}  {study.purpose}")
        return 0
    study = STUDIES[arguments.name]
    share_cores()  # also for the processes that a study starts
    module = importlib.import_module(f".{study.module}", __package__)
    own = _parser(arguments.name, module).parse_args(arguments.words)
    status = module.run(own)
    if study.document is not None:
        from .documents import write_document  # with torch, which the list of studies does not need

        write_document(study.document, own.ledger, own.root)
    return status


def _parser(name: str, module) -> argparse.ArgumentParser:
    parser = Parser(
        prog=f"python -m eval study {name}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    parser.add_argument(
        "--ledger", type=Path, default=LEDGER, metavar="FILE", help="default: eval/results/ledger.jsonl"
    )
    parser.add_argument(
        "--root", type=Path, default=ROOT, metavar="DIR", help="of the documents (default: the checkout)"
    )
    return parser
