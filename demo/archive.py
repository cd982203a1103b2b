"""Files of a batch: zip archives of strangers are unpacked with care, results are packed, failures remembered."""

import logging
import lzma
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from colorization.files import Report

logger = logging.getLogger(__name__)

MAX_FILES = 100
MAX_BYTES = 2**30
_CHUNK = 2**20
_DIRECTORY_BYTES = 2**20  # of an archive's list of contents; a hundred long names need a tenth of it
_ZIP_ERRORS = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
    *(EOFError, OSError, RuntimeError, NotImplementedError, ValueError),
)


class BatchError(ValueError):
    """A batch that is refused as a whole; the message is one line for the visitor."""


@dataclass
class Batch:
    """What came in.

    Args:
        files: name as the visitor knows it -> where the file is.
        problems: (name, reason) of what could not be unpacked.
        unpacked: bytes that came out of archives, those of damaged files included.
    """

    files: dict[str, Path] = field(default_factory=dict)
    problems: list[tuple[str, str]] = field(default_factory=list)
    unpacked: int = 0

    def add(self, name: str, path: Path) -> None:
        """Take a file in under its name, or a similar one where another has it already."""
        if len(self.files) + len(self.problems) >= MAX_FILES:
            raise BatchError(f"More than {MAX_FILES} files: please send them in several batches.")
        self.files[unused_name(name, self.files)] = path


@dataclass
class BatchReport(Report):
    """What became of a batch's files, for the page rather than the terminal.

    Args:
        total: number of the files.
    """

    total: int = 0

    def _tell(self, line: str, error: BaseException | None = None) -> None:
        """The page shows what failed at the end; what is our fault belongs in the server's log."""
        if error is not None:
            logger.error(line, exc_info=error)


def unused_name(name: str, used: Iterable[str]) -> str:
    """`name`, or `name` with a number before its suffix where it is used already."""
    stem, suffix = os.path.splitext(name)
    number, candidate = 2, name
    while candidate in used:
        candidate, number = f"{stem} ({number}){suffix}", number + 1
    return candidate


def safe_name(name: str) -> str:
    """A relative path with forward slashes that cannot lead out of a folder; "" if nothing is left of it."""
    parts = name.replace("\\", "/").split("/")
    kept = ("".join(character for character in part if character.isprintable()).strip() for part in parts)
    return "/".join(part for part in kept if part and part.strip(".") and not part.endswith(":"))


def collect(uploads: Iterable[str], folder: Path) -> Batch:
    """All files of a batch: the uploads, and what is in those that are zip archives (but not in archives in these).

    Args:
        uploads: paths.
        folder: of the visitor; unpacked files get numbers for names there, never those in the archive.

    Raises:
        BatchError: too many files, or too many bytes when unpacked.
    """
    batch = Batch()
    for upload in uploads:
        if _is_zip(upload):
            _unpack(upload, folder, batch)
        else:
            batch.add(os.path.basename(upload), Path(upload))
    return batch


def _is_zip(path: str) -> bool:
    with open(path, "rb") as file:
        return file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")


def _unpack(archive: str, folder: Path, batch: Batch) -> None:
    archive_name = os.path.basename(archive)
    try:
        _check_directory(archive)
        with zipfile.ZipFile(archive) as opened:
            for member in opened.infolist():
                name = safe_name(member.filename)
                if member.is_dir() or not name or name.startswith("__MACOSX/") or os.path.basename(name)[0] == ".":
                    continue
                target = folder / f"{len(batch.files) + len(batch.problems):04d}{os.path.splitext(name)[1][:8]}"
                batch.add(name, target)
                try:
                    _extract(opened, member, target, batch)
                except BatchError:
                    raise
                except _ZIP_ERRORS:
                    target.unlink(missing_ok=True)
                    batch.files = {key: path for key, path in batch.files.items() if path != target}
                    reason = "is encrypted" if member.flag_bits & 1 else "is damaged in the archive"
                    batch.problems.append((name, reason))
    except BatchError:
        raise
    except _ZIP_ERRORS:
        batch.problems.append((archive_name, "is no zip archive that can be read"))


def _check_directory(archive: str) -> None:
    """Refuse archives whose list of contents alone would fill the memory; Python's reader has no such limit."""
    with open(archive, "rb") as file:
        file.seek(max(0, os.path.getsize(archive) - 2**16 - 42))
        tail = file.read()
    # Every place that could be the end record counts: which one the reader takes is its own affair.
    ends = [match.start() for match in re.finditer(b"PK\x05\x06", tail) if match.start() + 16 <= len(tail)]
    sizes = [struct.unpack_from("<I", tail, end + 12)[0] for end in ends]
    if b"PK\x06\x07" in tail or any(size > _DIRECTORY_BYTES for size in sizes):
        raise BatchError(f"The archive holds more than {MAX_FILES} files: please send them in several batches.")


def _extract(opened: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path, batch: Batch) -> None:
    """Unpack one file, counting what comes out: what the archive says of its size may be a lie."""
    with opened.open(member) as source, open(target, "xb") as file:
        while chunk := source.read(_CHUNK):
            batch.unpacked += len(chunk)
            if batch.unpacked > MAX_BYTES:
                raise BatchError(f"The files unpack to more than {MAX_BYTES >> 30} GB: please send fewer at once.")
            file.write(chunk)


def pack(files: dict[str, Path], target: str) -> None:
    """Write a zip archive; pictures are compressed already, so they are stored as they are."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name, path in files.items():
            archive.write(path, name)
