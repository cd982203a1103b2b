"""`colorize info`, `redo` and `verify`: what can be done with results."""

import argparse
import json
import sys
from collections.abc import Callable
from typing import Any

from .command_line import Parser, one_line_warnings, quiet_libraries, share_cores
from .image_io import read_packet
from .labels import LABEL, recorded_label, recorded_settings
from .photo import ImageError
from .verification import Verification, verify

_LONGEST = 300  # characters of a value that are shown


def _info_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", nargs="+", metavar="FILE", help="result, or any other image file")


def _info(arguments: argparse.Namespace) -> int:
    """Print what files say of themselves; returns the exit status."""
    unlabelled = 0
    for index, file in enumerate(arguments.file):
        try:
            packet = read_packet(file)
        except ImageError as error:
            print(f"failed: {error}", file=sys.stderr)
            unlabelled += 1
            continue
        settings, label = recorded_settings(packet), recorded_label(packet)
        if len(arguments.file) > 1:
            print(f"{'' if index == 0 else chr(10)}{file}")
        if settings is None and LABEL not in label.get("dc:subject", ""):
            print(f"{file}: not labelled as colored by this program")
            unlabelled += 1
        _print_table(label | (settings if isinstance(settings, dict) else {}))
    return 1 if unlabelled else 0


def _print_table(values: dict[str, Any]) -> None:
    width = max((len(name) for name in values), default=0)
    for name, value in values.items():
        text = value if isinstance(value, str) else json.dumps(value)
        text = "".join(character if character.isprintable() else " " for character in text)
        print(f"{name:{width}}  {text if len(text) <= _LONGEST else text[:_LONGEST] + '…'}")


def _redo_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="result that is to be made again")
    parser.add_argument(
        "--original",
        metavar="PATH",
        help="its photograph, or the folder that holds it (default: beside the result, one folder above, or here)",
    )
    parser.add_argument("--to", metavar="FILE", help='the new file (default: the result\'s name with "-again")')
    parser.add_argument("--model", metavar="DIR", help="where its model is, if that was a local folder")
    parser.add_argument("--adapter", metavar="DIR", help="where its adapter is, if that was a local folder")


def _redo(arguments: argparse.Namespace) -> int:
    """Make a result again; returns the exit status, 1 where it cannot be made or differs."""
    share_cores()
    from .redo import redo  # with torch, which `share_cores` has prepared for

    quiet_libraries()
    try:
        with one_line_warnings():
            redone = redo(arguments.file, arguments.original, arguments.to, arguments.model, arguments.adapter)
    except (ValueError, OSError) as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    if redone.difference:
        print(f"{redone.target}: differs from {arguments.file}: {redone.difference}")
        return 1
    print(f"{redone.target}: the same as {arguments.file}, byte for byte, made of {redone.original}")
    return 0


def _verify_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("original", metavar="ORIGINAL", help="photograph; of one in color the luminance counts")
    parser.add_argument("result", metavar="RESULT", help="its colored version")


def _verify(arguments: argparse.Namespace) -> int:
    """Print what differs besides color; returns the exit status, 1 where something does."""
    try:
        found = verify(arguments.original, arguments.result)
    except ImageError as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    _print_table(_described(found))
    print(f"changed besides color: {'; '.join(found.problems)}" if found.problems else "nothing but color was changed")
    return 1 if found.problems else 0


def _described(found: Verification) -> dict[str, str]:
    lines = {"size": "{} x {}".format(*found.result_size)}
    if found.luminance_mean is not None:
        lines["luminance"] = (
            f"differs by {found.luminance_mean:.3f} of 255 on average, {found.luminance_max:.1f} at most; "
            f"by more than 1 in {found.luminance_share:.2%} of the pixels"
        )
        lines["lightness L*"] = f"differs by {found.lightness_mean:.3f} on average"
        lines["position"] = "displaced by {} x {} pixels".format(*found.shift) if any(found.shift) else "the same"
    if found.chroma_edges is not None:
        near, everywhere = found.chroma_edges
        lines["chroma edges"] = f"{near:.0%} are at edges of luminance (of all pixels {everywhere:.0%} are)"
    lines["metadata"] = f"{len(found.kept)} of {len(found.kept) + len(found.lost)} fields kept"
    return lines


_COMMANDS: dict[str, tuple[str, Callable, Callable]] = {
    "info": ("print what results say of themselves", _info_arguments, _info),
    "redo": ("make a result again from what it says of itself", _redo_arguments, _redo),
    "verify": ("measure whether anything but color was changed", _verify_arguments, _verify),
}


def run(name: str, argv: list[str]) -> int:
    """Run one of the commands; returns the exit status."""
    description, add_arguments, execute = _COMMANDS[name]
    parser = Parser(
        prog=f"python -m colorization {name}",
        description=f"{description[0].upper()}{description[1:]}.",
        epilog="exit status: 0 yes, 1 no or some failed, 2 bad arguments",
    )
    add_arguments(parser)
    return execute(parser.parse_args(argv))
