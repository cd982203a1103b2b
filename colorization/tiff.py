"""What a TIFF file says of its pages: which are pictures at full resolution, and which channels are transparency.

Scanners, cameras and programs for science keep much in TIFF that is no photograph: previews, masks, infrared, sensor
data. libvips tells none of it, Pillow's reader of directories does.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from PIL.TiffImagePlugin import ImageFileDirectory_v2

from .photo import ImageError

TIFF_STARTS = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")  # the latter two of BigTIFF
_MOST_PAGES = 10_000
_REDUCED, _MASK = 1, 4  # bits of the tag NewSubfileType
_OLD_REDUCED = 2  # value of its predecessor
_SENSOR_DATA = (32803, 34892)  # photometric interpretations of camera raw files
_PALETTE = 3
_COLORS = {0: 1, 1: 1, 2: 3, 5: 4, 6: 3, 8: 3, 9: 3, 10: 3, 32844: 1, 32845: 3}  # channels by interpretation
_ALPHA = (1, 2)  # values of ExtraSamples; 0 is anything, such as infrared or a selection
_OLD_JPEG = 6


@dataclass(frozen=True)
class TiffPage:
    """One directory of a TIFF file.

    Attributes:
        number: of the page, from 0.
        reduced: whether it is a smaller copy of another page.
        mask: whether it says where another page is transparent.
        photometric: the tag PhotometricInterpretation.
        samples: channels.
        extra: the tag ExtraSamples.
        tiled: whether it is stored in tiles.
        compression: the tag Compression.
        has_parts: whether further directories hang below it.
    """

    number: int
    reduced: bool
    mask: bool
    photometric: int | None
    samples: int
    extra: tuple[int, ...]
    tiled: bool
    compression: int
    has_parts: bool

    @property
    def channels(self) -> tuple[int, int | None]:
        """How many of the first channels are color, and which one is transparency, if any."""
        known = _COLORS.get(self.photometric)
        if known is None or known > self.samples:
            return self.samples, None
        colors = self.samples - len(self.extra) if self.extra else known
        alpha = next((colors + k for k, kind in enumerate(self.extra) if kind in _ALPHA), None)
        return max(colors, 1), alpha


def read_pages(file: BinaryIO) -> list[TiffPage]:
    """All pages of a TIFF file; none where its directories cannot be read, so that it is as it may be."""
    try:
        file.seek(0)
        return list(_directories(file))
    except (SyntaxError, ValueError, TypeError, KeyError, IndexError, struct.error):
        return []


def _directories(file: BinaryIO) -> Iterator[TiffPage]:
    header = file.read(8)
    if 43 in header[2:4]:  # BigTIFF
        header += file.read(8)
    directory = ImageFileDirectory_v2(header)
    seen: set[int] = set()
    while directory.next and directory.next not in seen and len(seen) < _MOST_PAGES:
        seen.add(directory.next)
        file.seek(directory.next)
        directory.load(file)
        subfile, extra = directory.get(254, 0), directory.get(338, ())
        yield TiffPage(
            number=len(seen) - 1,
            reduced=bool(subfile & _REDUCED) or directory.get(255) == _OLD_REDUCED,
            mask=bool(subfile & _MASK),
            photometric=directory.get(262),
            samples=directory.get(277, 1),
            extra=tuple(extra) if isinstance(extra, tuple) else (extra,),
            tiled=322 in directory,
            compression=directory.get(259, 1),
            has_parts=330 in directory,
        )


def pictures(file: BinaryIO, name: str) -> list[TiffPage]:
    """The pages of a TIFF file that are pictures at full resolution; none where the directories cannot be read.

    Raises:
        ImageError: the file, which the message names, is a camera raw, or holds only reduced copies and masks.
    """
    pages = read_pages(file)
    file.seek(8)
    canon_raw = file.read(2) == b"CR"
    if canon_raw or any(page.photometric in _SENSOR_DATA for page in pages):
        raise ImageError(f"{name}: is a camera raw file; develop it and export a TIFF, PNG or JPEG")
    full = [page for page in pages if not page.reduced and not page.mask]
    if pages and not full:
        raise ImageError(f"{name}: holds only a reduced preview that can be read (as camera raw files do)")
    return full


def check_readable(page: TiffPage, name: str) -> None:
    """ImageError, which names the file, on what libvips would read as black."""
    if page.compression == _OLD_JPEG and page.tiled:
        raise ImageError(f"{name}: tiles with JPEG compression of the old kind (6) cannot be read")
