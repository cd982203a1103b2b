"""What the commands that upload to the Hugging Face Hub have in common."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError
from huggingface_hub.utils import validate_repo_id

from colorization.errors import one_line


class PublishError(Exception):
    """Why the Hub did not take the files, in one line."""


def upload(
    folder: Path,
    repo: str,
    message: str,
    delete: Sequence[str],
    repo_type: str = "model",
    private: bool = False,
    revision: str | None = None,
) -> str:
    """Send a folder to a repository, made if need be, in one commit; the address of what was published.

    Nothing is committed when the repository holds these very files already.

    Args:
        folder: all of it is sent.
        repo: "user/name".
        message: of the commit.
        delete: patterns of files that go when the folder does not have them; other files stay.
        repo_type: "model" or "space"; a new Space is one for gradio.
        private: the repository must be private.
        revision: branch, made if need be; None for the main one.

    Raises:
        PublishError: not logged in, no permission, no connection, or a public repository where a private one is
            asked for.
    """
    token = get_token()
    if token is None:
        raise PublishError("not logged in: use `hf auth login`, or set HF_TOKEN")
    api = HfApi(token=token)
    sdk = "gradio" if repo_type == "space" else None
    try:
        api.create_repo(repo, repo_type=repo_type, private=private or None, exist_ok=True, space_sdk=sdk)
        if private and not api.repo_info(repo, repo_type=repo_type).private:
            raise PublishError(
                f"{repo} exists and is public: make it private on the Hub first, or leave out --private"
            )
        if revision is not None:
            api.create_branch(repo, repo_type=repo_type, branch=revision, exist_ok=True)
        api.upload_folder(
            repo_id=repo,
            repo_type=repo_type,
            folder_path=folder,
            revision=revision,
            commit_message=message,
            delete_patterns=list(delete),
        )
    except (HTTPError, OSError, ValueError, RuntimeError) as error:
        # An unusable token is quoted by the HTTP client.
        raise PublishError(_hub_problem(error, repo).replace(token, "<token>")) from None
    address = f"{api.endpoint}/spaces/{repo}" if repo_type == "space" else f"{api.endpoint}/{repo}"
    return address + ("" if revision is None else f"/tree/{revision}")


def _hub_problem(error: Exception, repo: str) -> str:
    """Why the Hub did not take the files, in the user's words."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, HfHubHTTPError):
        cause = cause.__cause__
    status = None if cause is None else cause.response.status_code
    if status == 401:
        return "the Hub refuses the token (401): log in with `hf auth login`, or set HF_TOKEN"
    if status == 403:
        return f"the token does not allow to write to {repo} (403)"
    return f"cannot publish to {repo}: {one_line(error)}"


def repo_name(name: str) -> str:
    """A repository's name from the command line, for argparse."""
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise argparse.ArgumentTypeError(one_line(error)) from None
    if "/" not in name:
        raise argparse.ArgumentTypeError(f"must be USER/NAME, got {name!r}")
    return name


def list_files(folder: Path) -> str:
    """The files of a folder with their sizes, one a line."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return "\n".join(f"{_size(file.stat().st_size):>10}  {file.relative_to(folder).as_posix()}" for file in files)


def _size(count: float) -> str:
    unit = "B"
    for larger in ("kB", "MB", "GB"):
        if count >= 1000:
            count, unit = count / 1000, larger
    return f"{count:.3g} {unit}"
