"""`python -m train.publish`: upload a trained adapter or model to the Hugging Face Hub, with a model card."""

import argparse
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
import yaml

from colorization.adapters import CONV_IN_FILE, DEFAULTS_FILE, LORA_FILE, SCHEDULER_FILE
from colorization.command_line import Parser
from colorization.errors import one_line
from colorization.hub import INDEX_FILE, MODEL_PATTERNS
from colorization.loading import load_pipeline

from .config_file import without_local_paths
from .finished_run import Run, default_license, find_run, read_json
from .flatten import add_custom_pipeline
from .hub import PublishError, list_files, repo_name, upload
from .model_card import PICTURE_FOLDER, read_results, render_model_card, usage

CARD_FILE = "README.md"
CONFIG_FILE = "training_config.yaml"

# What an earlier upload may have left in the repository and this one may not contain: it would be loaded with it.
_REPLACED = [LORA_FILE, CONV_IN_FILE, DEFAULTS_FILE, CONFIG_FILE, *MODEL_PATTERNS, "*.py", f"{PICTURE_FOLDER}/*"]

_EXAMPLES = """examples:
  python -m train.publish runs/lora --repo user/my-colorizer --results runs/coco/score.json
  python -m train.publish runs/lora --repo user/my-colorizer --dry-run
  python -m train.publish runs/embedded --repo user/my-small-colorizer --full-model --private

The token is the one of `hf auth login`, or HF_TOKEN.
exit status: 0 published, 1 the upload failed, 2 bad arguments"""


def write_files(
    target: Path,
    repo: str,
    run: Run,
    license: str,
    results: Sequence[Mapping] = (),
    revision: str | None = None,
    notes: str = "",
) -> None:
    """Write everything that is to be uploaded into an empty folder.

    Pictures that the notes show, by paths relative to the current folder, go along.

    Raises:
        ValueError: a model cannot be put together.
    """
    if run.kind == "adapter":
        _copy(run.folder, target, [LORA_FILE, CONV_IN_FILE, DEFAULTS_FILE, SCHEDULER_FILE])
    elif (run.folder / LORA_FILE).is_file():
        _merge(run, target)
    else:
        _copy(run.folder, target, MODEL_PATTERNS)
    if run.kind != "adapter":
        _forget_origin(target)
    if run.kind == "full":
        add_custom_pipeline(target)
    if run.config:
        text = yaml.safe_dump(without_local_paths(dict(run.config)), sort_keys=False, allow_unicode=True)
        (target / CONFIG_FILE).write_text(text, encoding="utf-8")
    if run.picture is not None:
        (target / PICTURE_FOLDER).mkdir()
        shutil.copyfile(run.picture, target / PICTURE_FOLDER / run.picture.name)
    for picture in map(Path, re.findall(r"!\[[^\]]*\]\((?!https?:)([^)\s]+)\)", notes)):
        if picture.is_absolute() or ".." in picture.parts or not picture.is_file():
            raise ValueError(f"the notes show {str(picture)!r}, which is no file below the current folder")
        (target / picture).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(picture, target / picture)
    card = render_model_card(repo, run, license, results, revision, notes)
    (target / CARD_FILE).write_text(card, encoding="utf-8")


def _copy(source: Path, target: Path, patterns: Iterable[str]) -> None:
    for file in sorted({file for pattern in patterns for file in source.glob(pattern)}):
        copy = target / file.relative_to(source)
        copy.parent.mkdir(exist_ok=True)
        shutil.copyfile(file, copy)


def _merge(run: Run, target: Path) -> None:
    """Save the base model with the adapter's updates added to its weights, in float32."""
    pipeline = load_pipeline(run.base, run.folder, run.base_revision, device="cpu", dtype=torch.float32)
    pipeline.fuse_lora(components=["unet"])
    pipeline.unload_lora_weights()
    pipeline.save_pretrained(target)


def _forget_origin(folder: Path) -> None:
    """Remove from a model's JSON files where it was loaded from: a path on this machine, of no use elsewhere."""
    for file in (folder / INDEX_FILE, *folder.glob("*/config.json")):
        config = read_json(file)
        if config.pop("_name_or_path", None) is not None:
            file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


# The command


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m train.publish",
        description="Upload a trained adapter or model to the Hugging Face Hub, with a model card.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run_dir", type=Path, metavar="RUN_DIR", help="folder of a run, of an adapter or of a model")
    parser.add_argument("--repo", required=True, type=repo_name, metavar="USER/NAME", help="model repository")
    parser.add_argument(
        "--full-model",
        action="store_true",
        help="a complete model (an adapter is merged into its base) with code that diffusers can load it with",
    )
    parser.add_argument("--private", action="store_true", help="make the repository private")
    parser.add_argument("--revision", metavar="BRANCH", help="branch to publish to, made if need be (default: main)")
    parser.add_argument("--dry-run", action="store_true", help="list the files and print the card, send nothing")
    parser.add_argument(
        "--results", nargs="+", default=[], type=Path, metavar="JSON", help="score.json of evaluations, for the card"
    )
    parser.add_argument(
        "--notes",
        type=Path,
        metavar="FILE",
        help="Markdown on training, limits and license for the card, in place of the card's own words",
    )
    parser.add_argument("--card", type=Path, metavar="FILE", help="write the card to this file, send nothing")
    parser.add_argument("--base-model", metavar="ID", help="base of the adapter (default: the one in config.yaml)")
    parser.add_argument("--license", metavar="ID", help="license of the weights (default: that of the base model)")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = build_parser()
    arguments = parser.parse_args(argv)
    repo, revision = arguments.repo, arguments.revision
    with tempfile.TemporaryDirectory(prefix="publish-") as name:
        folder = Path(name)
        try:
            run = find_run(arguments.run_dir, arguments.base_model, arguments.full_model)
            results = [read_results(file) for file in arguments.results]
            license = arguments.license or default_license(run.base)
            notes = "" if arguments.notes is None else arguments.notes.read_text(encoding="utf-8")
            write_files(folder, repo, run, license, results, revision, notes)
        except (ValueError, OSError) as error:
            parser.error(one_line(error))
        if arguments.card is not None:
            shutil.copyfile(folder / CARD_FILE, arguments.card)
            return 0
        print(list_files(folder))
        if arguments.dry_run:
            print(f"\n{(folder / CARD_FILE).read_text(encoding='utf-8')}")
            return 0
        try:
            # Model files of an earlier upload that this one does not have are removed, other files stay.
            message = "Publish a colorization model"
            address = upload(folder, repo, message, _REPLACED, private=arguments.private, revision=revision)
        except PublishError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
    print(f"published: {address}\n\n{usage(repo, run, revision)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
