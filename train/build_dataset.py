"""`python -m train.build_dataset`: filter and caption photographs, write them as a data set, publish it.

Every process measures and captions its share and appends what it found to a file of its own, batch by batch; then the
main process writes parquet files. The findings are kept by the sha256 of the image bytes, so a run that was killed
goes on where it stopped when the same command is given again, with any number of processes.
"""

import argparse
import json
import shutil
import sys
from dataclasses import asdict
from pathlib import Path

import datasets
import httpx
from accelerate import PartialState
from huggingface_hub import HfApi
from tqdm import tqdm

from colorization.command_line import Parser, at_least, stoppable, stopped_status
from colorization.errors import one_line
from colorization.loading import default_device

from .dataset.card import license_of, write_card
from .dataset.findings import Findings, LazyCaptioner, examine
from .dataset.measures import GRAY_LIMIT, MEASURED_SIDE, Filters
from .dataset.rows import Captions, write_splits
from .sources import Source, is_local, load_source

_UPLOADED = ["README.md", "report.json", "data/*.parquet", "pictures/*.jpg"]
_WORK = ".work"  # folder of what is not finished, never uploaded
_EXAMPLES = """examples:
  python -m train.build_dataset --source frgfm/imagenette --output data/imagenette --captioner blip-large,palette
  python -m train.build_dataset --source photos/ --output data/photos --captioner palette --min-colorfulness 15
  accelerate launch -m train.build_dataset --source frgfm/imagenette --output data/imagenette --push-to-hub user/name

The same command again goes on where the last one was stopped.
exit status: 0 all done, 1 some photographs cannot be read (each is named, the others are done), 2 bad arguments"""


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m train.build_dataset",
        description="Filter photographs for color, caption them and write them as a data set.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--source", required=True, metavar="S", help="Hub id, folder of images or parquet, or glob")
    parser.add_argument("--config", metavar="C", help="configuration (subset) of the source")
    parser.add_argument("--revision", metavar="R", help="branch, tag or commit of the source on the Hub")
    parser.add_argument("--split", nargs="+", metavar="NAME", help="splits to take (default: all)")
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="folder for the data set")
    parser.add_argument(
        "--captioner",
        action="append",
        metavar="NAME",
        help="blip-large, blip-base, another BLIP's Hub id or folder; palette: color words measured from the pixels, "
        "with the label, or appended to BLIP's caption if both are named (blip-large,palette); forms: the same, with "
        "shades (navy, beige), each in one of several forms; none: the source's own captions (default: blip-large)",
    )
    parser.add_argument(
        "--min-saturation",
        type=at_least(0, float),
        default=0.18,
        metavar="X",
        help="leave out photographs of a lower mean HSV saturation (default: 0.18)",
    )
    parser.add_argument(
        "--min-colorfulness",
        type=at_least(0, float),
        metavar="X",
        help="leave out photographs of a lower colorfulness, for example 15 (default: off)",
    )
    parser.add_argument(
        "--batch-size", type=at_least(1), default=8, metavar="N", help="photographs captioned at once (default: 8)"
    )
    parser.add_argument("--limit", type=at_least(1), metavar="N", help="only the first N photographs of every split")
    parser.add_argument("--license", metavar="ID", help="license for the card (default: what the source states)")
    parser.add_argument("--push-to-hub", metavar="USER/NAME", help="also upload the data set")
    parser.add_argument("--private", action="store_true", help="make the uploaded data set private")
    return parser


def _check_output(output: Path, source: str) -> None:
    if output.exists() and not output.is_dir():
        raise ValueError(f"argument --output: {output} is a file, not a folder")
    if output.resolve() == Path(source).resolve():
        raise ValueError("argument --output: must not be the source")
    ours = (output / "report.json").is_file() or (output / _WORK).is_dir()  # finished, or stopped on the way
    if (output / "data").exists() and not ours:
        raise ValueError(f"argument --output: {output} has a folder data/ that this command did not write")


def _load(arguments: argparse.Namespace, state: PartialState) -> Source:
    with state.main_process_first():  # the others find the data in the cache
        splits = load_source(arguments.source, arguments.config, arguments.revision)
    unknown = [name for name in arguments.split or () if name not in splits]
    if unknown:
        raise ValueError(f"argument --split: must be among {', '.join(splits)}, got {unknown[0]}")
    return {name: split for name, split in splits.items() if name in (arguments.split or splits)}


def _examine_all(
    arguments: argparse.Namespace,
    state: PartialState,
    splits: Source,
    lengths: dict[str, int],
    folder: Path,
    filters: Filters,
    captions: Captions,
) -> int:
    """Measure and caption this process's share of every split; the number of captions that were written."""
    findings = Findings(folder, state.process_index)
    state.wait_for_everyone()  # all have read the files before any of them grows
    captioner = LazyCaptioner(captions.model, state.device)
    for name, split in splits.items():
        with state.split_between_processes(list(range(lengths[name]))) as indices:
            with tqdm(total=len(indices), desc=name, unit="photo", disable=not state.is_main_process) as progress:
                examine(split, indices, findings, filters, captions.model, captioner, arguments.batch_size, progress)
    findings.close()
    state.wait_for_everyone()
    return captioner.captioned


def _finish(
    arguments: argparse.Namespace,
    splits: Source,
    lengths: dict[str, int],
    folder: Path,
    filters: Filters,
    captions: Captions,
) -> dict:
    """Write the data set from what all processes found; the report."""
    output, work = arguments.output, arguments.output / _WORK
    findings = Findings(folder, 0)
    counts, pictures = write_splits(splits, lengths, work, findings, filters, captions)
    findings.close()
    if not any(count.kept for count in counts.values()):
        raise ValueError(f"the filters left no photograph of {sum(lengths.values())}; nothing was written")
    report = {
        "source": arguments.source,
        "config": arguments.config,
        "revision": arguments.revision,
        "license": arguments.license or license_of(arguments.source, splits),
        "captioner": captions.model_name,
        "palette": captions.palette,
        "forms": captions.forms,
        "min_saturation": filters.min_saturation,
        "min_colorfulness": filters.min_colorfulness,
        "gray_limit": GRAY_LIMIT,
        "measured_side": MEASURED_SIDE,
        "limit": arguments.limit,
        "splits": {name: asdict(count) for name, count in counts.items()},
    }
    if is_local(arguments.source):  # where it lies here is nobody else's business
        report["source"] = Path(arguments.source).resolve().name
    repository = arguments.push_to_hub or "path/to/this/folder"
    write_card(work / "README.md", report, pictures, captions, repository, not is_local(arguments.source))
    (work / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    _publish_files(work, output)
    return report


def _publish_files(work: Path, output: Path) -> None:
    """Move what was built to its place; the report comes last, it marks a complete data set."""
    for part in ("data", "pictures"):
        shutil.rmtree(output / part, ignore_errors=True)
        (work / part).rename(output / part)
    for part in ("README.md", "report.json"):
        (work / part).replace(output / part)


def _upload(output: Path, repository: str) -> None:
    """Upload exactly the data set's files; parquet files of an earlier version go."""
    HfApi().upload_folder(
        repo_id=repository,
        repo_type="dataset",
        folder_path=output,
        allow_patterns=_UPLOADED,
        delete_patterns=["data/*.parquet"],
        commit_message="Upload captioned photographs",
    )


def _print_report(report: dict, output: Path) -> None:
    for name, counts in report["splits"].items():
        reasons = ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in counts.items())
        print(f"{name}: {reasons}")
    print(f"-> {output}")


def _run(arguments: argparse.Namespace, state: PartialState) -> int:
    """The command, with ValueError and OSError for what the user can mend; the exit status."""
    captions = Captions.parse([name for group in arguments.captioner or ["blip-large"] for name in group.split(",")])
    filters = Filters(arguments.min_saturation, arguments.min_colorfulness)
    output = arguments.output
    _check_output(output, arguments.source)
    if arguments.push_to_hub and state.is_main_process:  # before hours of captioning, not after
        HfApi().create_repo(arguments.push_to_hub, repo_type="dataset", private=arguments.private, exist_ok=True)
    splits = _load(arguments, state)
    lengths = {name: min(len(split), arguments.limit or len(split)) for name, split in splits.items()}

    folder = output / _WORK / "findings"
    folder.mkdir(parents=True, exist_ok=True)
    captioned = _examine_all(arguments, state, splits, lengths, folder, filters, captions)
    if not state.is_main_process:
        return 0
    report = _finish(arguments, splits, lengths, folder, filters, captions)
    if captions.model:
        print(f"{captioned} captions written by this process, the others were there or made by other processes")
    _print_report(report, output)
    if arguments.push_to_hub:
        _upload(output, arguments.push_to_hub)
        print(f"uploaded to {arguments.push_to_hub}")
    return 1 if any(counts["unreadable"] for counts in report["splits"].values()) else 0


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = build_parser()
    arguments = parser.parse_args(argv)
    # Without this, accelerate starts no process group on machines that have no accelerator.
    state = PartialState(cpu=default_device().type == "cpu")
    datasets.disable_progress_bars()
    try:
        with stoppable():
            return _run(arguments, state)
    except (ValueError, OSError, httpx.TransportError) as error:
        parser.error(one_line(error))
    except KeyboardInterrupt as stop:
        return stopped_status(stop)
    finally:
        state.destroy_process_group()


if __name__ == "__main__":
    sys.exit(main())
