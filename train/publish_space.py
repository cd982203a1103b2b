"""`python -m train.publish_space`: upload the demo, as this checkout has it, to a Space on the Hugging Face Hub."""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from colorization.command_line import Parser
from colorization.errors import one_line

from .hub import PublishError, list_files, repo_name, upload

ROOT = Path(__file__).parent.parent

# What the Space runs and what its page of files shows; the tests, the training and the evaluation stay here.
SPACE = (
    "README.md",
    "LICENSE",
    "NOTICE",
    "CITATION.cff",
    "app.py",
    "requirements.txt",
    "model_card.md",
    "colorization",
    "demo",
    "docs",
    "examples",
)

_EXAMPLES = """examples:
  python -m train.publish_space --repo user/cold-colorizer --dry-run
  python -m train.publish_space --repo user/cold-colorizer --private

The token is the one of `hf auth login`, or HF_TOKEN. The same command updates the Space; files that this checkout does
not have are removed from it.
exit status: 0 published, 1 the upload failed, 2 bad arguments"""


def copy_space(root: Path, target: Path) -> None:
    """Copy what the Space needs into an empty folder, without hidden files, bytecode and half-written files.

    Args:
        root: of the checkout.
        target: an existing folder.

    Raises:
        FileNotFoundError: the checkout lacks something.
    """
    # The demo offers no baselines, which need packages of their own.
    ignore = shutil.ignore_patterns(".*", "__pycache__", "*.pyc", "*.tmp", "baselines")
    for name in SPACE:
        if (root / name).is_dir():
            shutil.copytree(root / name, target / name, ignore=ignore)
        else:
            shutil.copyfile(root / name, target / name)


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m train.publish_space",
        description="Upload the demo, with the embedded model, to a Space on the Hugging Face Hub.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--repo", required=True, type=repo_name, metavar="USER/NAME", help="the Space")
    parser.add_argument("--private", action="store_true", help="make the Space private")
    parser.add_argument("--dry-run", action="store_true", help="list the files, send nothing")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = build_parser()
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="publish-") as name:
        folder = Path(name)
        try:
            copy_space(ROOT, folder)
        except OSError as error:
            parser.error(one_line(error))
        print(list_files(folder))
        if arguments.dry_run:
            return 0
        try:
            address = upload(
                folder, arguments.repo, "Publish the demo", ["*"], repo_type="space", private=arguments.private
            )
        except PublishError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
    print(f"published: {address}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
