"""Files that are written whole or not at all; what a killed process left half-written is removed later."""

import errno
import hashlib
import os
import re
import secrets
import socket
import sys
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_BLOCK = 2**20  # bytes read or written at once
_HOST = f"{zlib.crc32(socket.gethostname().encode()):08x}"
_TEMPORARY = re.compile(r"\.cold-([0-9a-f]{8})-(\d+)-[0-9a-f]{8}\.tmp")
_STALE_SECONDS = 86_400  # after which a file of another machine counts as left behind
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)

_open: set[str] = set()  # temporary files that this process is writing


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[str]:
    """Yield a temporary name beside `path` that takes its place on success and is removed on any error.

    Raises:
        OSError: the file cannot be made or moved; or the body failed while the disk takes no more.
    """
    path = os.fspath(path)
    name = f".cold-{_HOST}-{os.getpid()}-{secrets.token_hex(4)}.tmp"
    temporary = os.path.join(os.path.dirname(path), name)
    _open.add(temporary)
    try:
        # Created here rather than by the encoder: never over another file, and with the permissions of any new file.
        with open(temporary, "xb"):
            pass
        try:
            yield temporary
        except Exception as error:
            if not isinstance(error, OSError):
                _check_space(temporary, error)
            raise
        os.replace(temporary, path)
    except BaseException:
        with suppress(FileNotFoundError, NotADirectoryError):
            os.unlink(temporary)
        raise
    finally:
        _open.discard(temporary)


def _check_space(path: str, cause: BaseException) -> None:
    """OSError if no more can be written to a file: encoders call a full disk a write error and keep the reason."""
    try:
        with open(path, "ab", buffering=0) as file:
            file.write(bytes(_BLOCK))
            os.fsync(file)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # devices that cannot be synchronized
            raise error from cause


def is_full(error: BaseException | None) -> bool:
    """Whether an error, or what caused it, is that nothing can be written there: no further file can be either."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return True
        error = error.__cause__
    return False


def remove_leftovers(folder: str | os.PathLike) -> int:
    """Remove temporary files in a folder whose process was killed; their number."""
    removed = 0
    with suppress(OSError):
        for file in Path(folder).iterdir():
            match = _TEMPORARY.fullmatch(file.name)
            with suppress(OSError):
                if match and str(file) not in _open and _is_left_behind(file, match[1], int(match[2])):
                    file.unlink()
                    removed += 1
    return removed


def _is_left_behind(file: Path, host: str, process: int) -> bool:
    if host != _HOST or sys.platform == "win32":  # where asking for a process would end it
        return time.time() - file.stat().st_mtime > _STALE_SECONDS
    if process == os.getpid():  # in containers every run has the same number
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except OSError:  # somebody else's
        pass
    return False


def sha256_of(file: str | os.PathLike) -> str:
    """SHA-256 of a file, hexadecimal."""
    digest = hashlib.sha256()
    with open(file, "rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
