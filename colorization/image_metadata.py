"""What a file says besides its pixels: EXIF, IPTC records and resolution, which are kept. For XMP see labels.py."""

import os
import struct
import warnings
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pyvips
from PIL import ExifTags, Image, TiffImagePlugin, TiffTags

from .errors import ColorizationWarning
from .iptc import PHOTOSHOP, photoshop_block, records_of
from .labels import CREATOR, LABEL
from .photo import Origin, Photo
from .vips import field

ORIENTATION_TAG = 0x0112
# What a TIFF file says of the photograph; its other tags describe how the pixels are stored.
_TIFF_TAGS = ("ImageDescription", "Make", "Model", "Software", "DateTime", "Artist", "Copyright", "HostComputer")
_TIFF_TAGS += ("DocumentName", "PageName", "Rating", "XPTitle", "XPComment", "XPAuthor", "XPKeywords", "XPSubject")
_DESCRIPTION_TAG = 0x010E
_DIRECTORIES = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)
_BROKEN_EXIF = (OSError, SyntaxError, ValueError, TypeError, KeyError, struct.error)
_IPTC_TAG, _PHOTOSHOP_TAG = 33723, 34377
_RESOLUTION_TAGS = (0x011A, 0x011B)
_RESOLUTION_UNIT_TAG = 0x0128
_EXIF_PREFIX = b"Exif\x00\x00"
JPEG_SEGMENT_LIMIT = 65_000  # bytes of XMP or IPTC that surely fit into one marker segment
_EXIF_LIMIT = 65_200  # bytes; libvips adds up to 200 and leaves EXIF out that does not fit into a segment then

_MM_PER_INCH = 25.4
_DEFAULT_DPI = 72.0
_MADE_UP_DPI = (25.4, _DEFAULT_DPI)  # what libvips reports for files without a resolution


def vips_origin(image: pyvips.Image, path: str, kind: str, digest: str, page: int | None) -> Origin:
    """What a file says; `kind` is a key of `VIPS_LOADERS`, `digest` the file's SHA-256, `page` one of several."""
    exif = clean_exif(tiff_exif(path) if kind == "tiff" else field(image, "exif-data"))
    return Origin(
        name=Path(path).name,
        format=kind,
        exif=exif,
        dpi=stated_dpi(exif, (image.xres * _MM_PER_INCH, image.yres * _MM_PER_INCH)),
        orientation=valid_orientation(field(image, "orientation")),
        xmp=field(image, "xmp-data"),
        iptc=iptc_records(image, path, kind),
        digest=digest,
        page=page,
    )


def tiff_exif(path: str) -> bytes | None:
    """EXIF made of a TIFF file's tags, for libvips reports none; None where there are none or they are broken."""
    exif = Image.Exif()
    with suppress(*_BROKEN_EXIF), open(path, "rb") as file:
        tags = TiffImagePlugin.TiffImageFile(file).getexif()
        for tag in (ExifTags.Base[name] for name in _TIFF_TAGS):
            if tag in tags:
                exif[tag] = tags[tag]
        for directory in _DIRECTORIES:
            if entries := tags.get_ifd(directory):
                exif.get_ifd(directory).update(entries)
        return exif.tobytes() if exif else None
    return None


def iptc_records(image: pyvips.Image, path: str, kind: str) -> bytes | None:
    """IPTC records of a file; a TIFF's are read by Pillow, for libvips takes them for numbers and swaps bytes."""
    if kind != "tiff":
        return records_of(field(image, "iptc-data"))
    with suppress(*_BROKEN_EXIF), open(path, "rb") as file:
        order, entries, _ = _tiff_directory(file)
        found = [
            _tag_bytes(file, entries[tag], order) if tag in entries else b"" for tag in (_IPTC_TAG, _PHOTOSHOP_TAG)
        ]
        return records_of(found[0]) or records_of(PHOTOSHOP + found[1])
    return None


def _tiff_directory(file: BinaryIO) -> tuple[str, dict[int, bytes], bytes]:
    """Byte order, the 12 bytes of each entry by tag, and the place of the next directory, of the first one in a file.

    Raises:
        KeyError, struct.error: the file is damaged, or a BigTIFF.
    """
    file.seek(0)
    order = {b"II*\0": "<", b"MM\0*": ">"}[file.read(4)]
    file.seek(*struct.unpack(f"{order}I", file.read(4)))
    (count,) = struct.unpack(f"{order}H", file.read(2))
    entries = _entries_by_tag(file.read(12 * count), order)
    return order, entries, file.read(4)


def _entries_by_tag(data: bytes, order: str) -> dict[int, bytes]:
    entries = [data[place : place + 12] for place in range(0, len(data), 12)]
    return {struct.unpack_from(f"{order}H", entry)[0]: entry for entry in entries}


def _tag_bytes(file: BinaryIO, entry: bytes, order: str) -> bytes:
    """A tag's value as it is in the file, be it declared as bytes or as numbers."""
    kind, count = struct.unpack_from(f"{order}HI", entry, 2)
    size = count * (4 if kind == TiffTags.LONG else 1)
    if size <= 4:
        return entry[8 : 8 + size]
    file.seek(*struct.unpack_from(f"{order}I", entry, 8))
    return file.read(size)


def stated_dpi(exif: bytes | None, decoded: tuple[float, float] | None) -> tuple[float, float] | None:
    """The resolution that the decoder found or, failing that, the one in the EXIF. None where none is stated."""
    for dpi in (decoded, _exif_dpi(exif) if exif else None):
        if dpi and min(dpi) > 0:
            horizontal, vertical = (round(float(value), 1) for value in dpi)  # PNG states whole pixels per metre
            if horizontal != vertical or horizontal not in _MADE_UP_DPI:
                return horizontal, vertical
    return None


def _exif_dpi(exif: bytes) -> tuple[float, float] | None:
    """Resolution recorded in a blob that begins with `Exif\\0\\0`, None if there is none or it is broken."""
    with suppress(struct.error, KeyError, ZeroDivisionError):
        directory = _first_directory(exif)
        order, base, entries = directory.order, len(_EXIF_PREFIX), directory.entries
        per_inch = 2.54 if struct.unpack_from(f"{order}H", exif, entries[_RESOLUTION_UNIT_TAG] + 8)[0] == 3 else 1.0
        offsets = [struct.unpack_from(f"{order}I", exif, entries[tag] + 8)[0] for tag in _RESOLUTION_TAGS]
        fractions = [struct.unpack_from(f"{order}II", exif, base + offset) for offset in offsets]
        horizontal, vertical = (per_inch * numerator / denominator for numerator, denominator in fractions)
        return horizontal, vertical
    return None


def with_metadata(image: pyvips.Image, source: Photo | None, packet: str, kind: str) -> pyvips.Image:
    """Attach resolution, EXIF, IPTC records, XMP and, for PNG, text; `kind` is "jpg", "png", "webp" or "tiff"."""
    exif = None
    if source and source.exif and kind != "tiff":  # see `add_tiff_tags`
        exif = fitting_exif(source.exif, source.name)
    horizontal, vertical = (source.dpi if source else None) or (_DEFAULT_DPI, _DEFAULT_DPI)
    image = image.copy(xres=horizontal / _MM_PER_INCH, yres=vertical / _MM_PER_INCH)
    blob, text = pyvips.GValue.blob_type, pyvips.GValue.gstr_type
    if exif:
        image.set_type(blob, "exif-data", exif)
    if not exif or _DESCRIPTION_TAG not in _first_directory(exif).entries:
        image.set_type(text, "exif-ifd0-ImageDescription", LABEL)
    # The photograph may have been in another space, but these pixels are sRGB.
    image.set_type(text, "exif-ifd2-ColorSpace", "1")
    image.set_type(blob, "xmp-data", packet.encode())
    image.set_type(text, "png-comment-0-Software", f"{CREATOR} ({LABEL})")
    records = source.iptc if source else None
    if records and kind == "jpg" and len(records) <= JPEG_SEGMENT_LIMIT:  # PNG and WebP hold none: XMP says the same
        image.set_type(blob, "iptc-data", photoshop_block(records))
    return image


def fitting_exif(exif: bytes, name: str) -> bytes | None:
    """EXIF that a segment can hold together with what is added to it: without its largest values where it must be."""
    if len(exif) <= _EXIF_LIMIT:
        return exif
    parsed = Image.Exif()
    lost = []
    with suppress(*_BROKEN_EXIF):
        parsed.load(exif)
        directories = [parsed, *(parsed.get_ifd(directory) for directory in _DIRECTORIES)]
        while len(blob := parsed.tobytes()) > _EXIF_LIMIT:
            directory, tag = max(
                ((directory, tag) for directory in directories for tag in directory if tag not in _DIRECTORIES),
                key=lambda place: len(repr(place[0][place[1]])),
            )
            del directory[tag]
            lost.append(ExifTags.TAGS.get(tag, f"tag {tag}"))
        if lost:
            message = f"{name}: {', '.join(lost)} of its EXIF metadata, {len(exif):,} bytes, are too long to be kept"
            warnings.warn(message, ColorizationWarning, stacklevel=4)
        return blob
    return None


def add_tiff_tags(path: str, source: Photo | None, size: tuple[int, int]) -> None:
    """Add to a TIFF file what a photograph's EXIF and IPTC say; libvips writes none of it that can be read.

    Args:
        path: the file; its first directory is written again, whatever else is in it stays.
        source: the photograph, None for none.
        size: (width, height) of the picture.
    """
    exif = Image.Exif()
    with suppress(*_BROKEN_EXIF):
        exif.load(source.exif if source else None)
    with open(path, "r+b") as file:
        order, entries, following = _tiff_directory(file)
        directory = TiffImagePlugin.ImageFileDirectory_v2(prefix=b"II" if order == "<" else b"MM")
        for tag in (ExifTags.Base[name] for name in _TIFF_TAGS):
            if tag in exif:
                directory[tag] = exif[tag]
        directory[_DESCRIPTION_TAG] = exif.get(_DESCRIPTION_TAG, LABEL)
        for name in _DIRECTORIES:
            if found := exif.get_ifd(name):
                directory[name] = found | (_picture_tags(*size) if name == ExifTags.IFD.Exif else {})
        if source and source.iptc:
            directory.tagtype[_IPTC_TAG] = TiffTags.UNDEFINED
            directory[_IPTC_TAG] = source.iptc
        end = file.seek(0, os.SEEK_END)
        start = end + end % 2
        added = directory.tobytes(start)
        added += bytes(len(added) % 2)
        # Entries stay valid wherever they are: what does not fit into them is found by its place in the file.
        (count,) = struct.unpack_from(f"{order}H", added)
        entries |= _entries_by_tag(added[2 : 2 + 12 * count], order)
        file.seek(start)
        file.write(added + struct.pack(f"{order}H", len(entries)))
        file.write(b"".join(entries[tag] for tag in sorted(entries)) + following)
        file.seek(4)
        file.write(struct.pack(f"{order}I", start + len(added)))


def _picture_tags(width: int, height: int) -> dict[int, int]:
    """What EXIF says of the pixels, which are sRGB and upright now."""
    tags = ExifTags.Base
    return {tags.ColorSpace: 1, tags.ExifImageWidth: width, tags.ExifImageHeight: height}


def valid_orientation(value: Any) -> int:
    return value if value in range(1, 9) else 1


def clean_exif(exif: bytes | None) -> bytes | None:
    """EXIF for an upright, colored picture: orientation 1 and no thumbnail. None if there is none or it is broken.

    The bytes are patched in place, because re-encoding moves and so breaks the maker notes.
    """
    if not exif:
        return None
    blob = bytearray(_EXIF_PREFIX + exif.removeprefix(_EXIF_PREFIX))
    try:
        directory = _first_directory(bytes(blob))
        if ORIENTATION_TAG in directory.entries:
            struct.pack_into(f"{directory.order}H", blob, directory.entries[ORIENTATION_TAG] + 8, 1)
        # The second directory describes the thumbnail, which shows the picture before coloring.
        struct.pack_into(f"{directory.order}I", blob, directory.next_pointer, 0)
    except struct.error:
        return None
    return bytes(blob)


@dataclass(frozen=True)
class _ExifDirectory:
    """Where the entries of the first EXIF directory are, as offsets into the blob."""

    order: str
    entries: dict[int, int]
    next_pointer: int


def _first_directory(exif: bytes) -> _ExifDirectory:
    """Locate the first directory of a blob that begins with `Exif\\0\\0`. Raises struct.error if it is broken."""
    base = len(_EXIF_PREFIX)
    order = {b"II": "<", b"MM": ">"}.get(exif[base : base + 2])
    if order is None:
        raise struct.error("no TIFF header")
    start = base + struct.unpack_from(f"{order}I", exif, base + 4)[0]
    count = struct.unpack_from(f"{order}H", exif, start)[0]
    offsets = [start + 2 + 12 * index for index in range(count)]
    entries = {struct.unpack_from(f"{order}H", exif, offset)[0]: offset for offset in offsets}
    return _ExifDirectory(order, entries, start + 2 + 12 * count)
