"""What a file says besides its pixels: EXIF and resolution, which are kept, and how the colors came about."""

import json
import struct
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import pyvips
from PIL import ExifTags, Image, TiffImagePlugin

from .photo import ImageError, Origin, Photo, error_line
from .vips import field

ORIENTATION_TAG = 0x0112
# What a TIFF file says of the photograph; its other tags describe how the pixels are stored.
_TIFF_TAGS = ("ImageDescription", "Make", "Model", "Software", "DateTime", "Artist", "Copyright")
_DESCRIPTION_TAG = 0x010E
_RESOLUTION_TAGS = (0x011A, 0x011B)
_RESOLUTION_UNIT_TAG = 0x0128
_EXIF_PREFIX = b"Exif\x00\x00"
JPEG_SEGMENT_LIMIT = 65_000  # bytes of XMP that surely fit into one marker segment

_MM_PER_INCH = 25.4
_DEFAULT_DPI = 72.0
_MADE_UP_DPI = (25.4, _DEFAULT_DPI)  # what libvips reports for files without a resolution

_CREATOR = "Cold Colorizer"
_LABEL = "AI-colorized"
_SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
_SETTINGS_NAMESPACE = "urn:cold-colorizer:1.0:"


def vips_origin(image: pyvips.Image, name: str, kind: str, exif: bytes | None) -> Origin:
    exif = clean_exif(exif)
    return Origin(
        name=name,
        format=kind,
        exif=exif,
        dpi=stated_dpi(exif, (image.xres * _MM_PER_INCH, image.yres * _MM_PER_INCH)),
        orientation=valid_orientation(field(image, "orientation")),
    )


def tiff_exif(path: str) -> bytes | None:
    """EXIF made of a TIFF file's tags, for libvips reports none; None where there are none or they are broken."""
    exif = Image.Exif()
    with suppress(OSError, SyntaxError, ValueError, TypeError, KeyError, struct.error), open(path, "rb") as file:
        tags = TiffImagePlugin.TiffImageFile(file).getexif()
        for tag in (ExifTags.Base[name] for name in _TIFF_TAGS):
            if tag in tags:
                exif[tag] = tags[tag]
        for directory in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
            if entries := tags.get_ifd(directory):
                exif.get_ifd(directory).update(entries)
        return exif.tobytes() if exif else None
    return None


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


def with_metadata(image: pyvips.Image, source: Photo | None, packet: str) -> pyvips.Image:
    """Attach resolution, EXIF, XMP and, for PNG, text."""
    exif = source.exif if source else None
    horizontal, vertical = (source.dpi if source else None) or (_DEFAULT_DPI, _DEFAULT_DPI)
    image = image.copy(xres=horizontal / _MM_PER_INCH, yres=vertical / _MM_PER_INCH)
    blob, text = pyvips.GValue.blob_type, pyvips.GValue.gstr_type
    if exif:
        image.set_type(blob, "exif-data", exif)
    if not exif or _DESCRIPTION_TAG not in _first_directory(exif).entries:
        image.set_type(text, "exif-ifd0-ImageDescription", _LABEL)
    # The photograph may have been in another space, but these pixels are sRGB.
    image.set_type(text, "exif-ifd2-ColorSpace", "1")
    image.set_type(blob, "xmp-data", packet.encode())
    image.set_type(text, "png-comment-0-Software", f"{_CREATOR} ({_LABEL})")
    return image


def settings_json(path: str, settings: Mapping[str, Any] | None) -> str:
    """The settings as JSON in ASCII, so that no character is illegal in XML or PNG text; "" for None."""
    try:
        return "" if settings is None else json.dumps(dict(settings), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ImageError(f"{path}: settings cannot be written as JSON ({error_line(error)})") from error


def xmp_packet(settings: str) -> str:
    """XMP that marks the picture as colored by a model and holds the settings, unless they are ""."""
    description = f"{_LABEL} by {_CREATOR}: the colors are predicted, the luminance is the original's."
    element = f"<cold:settings>{escape(settings)}</cold:settings>" if settings else ""
    return f"""<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:xmp="http://ns.adobe.com/xap/1.0/"
 xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" xmlns:cold="{_SETTINGS_NAMESPACE}">
<xmp:CreatorTool>{_CREATOR}</xmp:CreatorTool>
<dc:description><rdf:Alt><rdf:li xml:lang="x-default">{description}</rdf:li></rdf:Alt></dc:description>
<dc:subject><rdf:Bag><rdf:li>{_LABEL}</rdf:li></rdf:Bag></dc:subject>
<Iptc4xmpExt:DigitalSourceType>{_SOURCE_TYPE}</Iptc4xmpExt:DigitalSourceType>
{element}
</rdf:Description>
</rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>"""


def recorded_settings(packet: bytes | None) -> dict[str, Any] | None:
    """The settings in an XMP packet, None where there are none."""
    try:
        text = ElementTree.fromstring(packet or b"").findtext(f".//{{{_SETTINGS_NAMESPACE}}}settings")
        return json.loads(text or "null")
    except (ElementTree.ParseError, json.JSONDecodeError):
        return None


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
