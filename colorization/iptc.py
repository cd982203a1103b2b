"""IPTC records (IIM) of a photograph: older than XMP, and all that many archives have. JPEG and TIFF can hold them."""

import struct
from dataclasses import dataclass

PHOTOSHOP = b"Photoshop 3.0\0"
_RESOURCE = b"8BIM"
RECORDS = 0x0404  # the Photoshop resource that holds the records
_UTF8 = b"\x1b%G"


@dataclass(frozen=True)
class Field:
    """An XMP property that says what records say.

    Args:
        prefix, name: of the property.
        kind: of the list that it is, "Alt", "Bag" or "Seq"; "" for a single text.
        values: one or more.
    """

    prefix: str
    name: str
    kind: str
    values: list[str]


# Which XMP property says the same as a data set of record 2 (IPTC Photo Metadata Standard).
_PROPERTIES = {
    5: ("dc", "title", "Alt"),
    25: ("dc", "subject", "Bag"),
    40: ("photoshop", "Instructions", ""),
    55: ("photoshop", "DateCreated", ""),
    80: ("dc", "creator", "Seq"),
    85: ("photoshop", "AuthorsPosition", ""),
    90: ("photoshop", "City", ""),
    92: ("Iptc4xmpCore", "Location", ""),
    95: ("photoshop", "State", ""),
    100: ("Iptc4xmpCore", "CountryCode", ""),
    101: ("photoshop", "Country", ""),
    103: ("photoshop", "TransmissionReference", ""),
    105: ("photoshop", "Headline", ""),
    110: ("photoshop", "Credit", ""),
    115: ("photoshop", "Source", ""),
    116: ("dc", "rights", "Alt"),
    120: ("dc", "description", "Alt"),
    122: ("photoshop", "CaptionWriter", ""),
}
_DATE = 55


def records_of(blob: bytes | None) -> bytes | None:
    """The records in what a decoder reports: bare ones (TIFF) or a JPEG's Photoshop resources. None without any."""
    if not blob:
        return None
    if not blob.startswith(PHOTOSHOP):
        return blob.rstrip(b"\0") if blob[:1] == b"\x1c" else None
    position = len(PHOTOSHOP)
    while blob[position : position + 4] == _RESOURCE and position + 12 <= len(blob):
        name_length = blob[position + 6] + 1
        start = position + 6 + name_length + name_length % 2
        if start + 4 > len(blob):
            return None
        (size,) = struct.unpack_from(">I", blob, start)
        if struct.unpack_from(">H", blob, position + 4)[0] == RECORDS:
            return blob[start + 4 : start + 4 + size] or None
        position = start + 4 + size + size % 2
    return None


def photoshop_block(records: bytes) -> bytes:
    """The records as a JPEG file holds them, without other resources of Photoshop (a thumbnail, a resolution)."""
    head = struct.pack(">4sHHI", _RESOURCE, RECORDS, 0, len(records))
    return PHOTOSHOP + head + records + bytes(len(records) % 2)


def data_sets(records: bytes | None) -> list[tuple[int, int, bytes]]:
    """(record, number, value) of all data sets, as far as they can be read."""
    found, position = [], 0
    data = records or b""
    while position + 5 <= len(data) and data[position] == 0x1C:
        record, number, size = struct.unpack_from(">BBH", data, position + 1)
        position += 5
        if size & 0x8000:  # an extended data set: what follows is the length of its length
            length = size & 0x7FFF
            size = int.from_bytes(data[position : position + length], "big")
            position += length
        if position + size > len(data):
            break
        found.append((record, number, data[position : position + size]))
        position += size
    return found


def described_fields(records: bytes | None) -> list[Field]:
    """The records as XMP properties."""
    sets = data_sets(records)
    utf8 = any((record, number, value) == (1, 90, _UTF8) for record, number, value in sets)
    fields: dict[int, Field] = {}
    for record, number, value in sets:
        text = _decoded(value, utf8).strip("\0 ")
        if record != 2 or number not in _PROPERTIES or not text:
            continue
        if number == _DATE and len(text) == 8:
            text = f"{text[:4]}-{text[4:6]}-{text[6:]}"
        prefix, name, kind = _PROPERTIES[number]
        field = fields.setdefault(number, Field(prefix, name, kind, []))
        if kind in ("Bag", "Seq") or not field.values:
            field.values.append(text)
    return list(fields.values())


def _decoded(value: bytes, utf8: bool) -> str:
    """Text of a data set; files that state no encoding hold UTF-8 or, if older, Latin-1."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode(errors="replace") if utf8 else value.decode("latin-1")
