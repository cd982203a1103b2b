"""The label of a colored picture: XMP which says that a model made its colors, with what, and at which settings.

The properties are those of the IPTC Photo Metadata Standard 2025.1. What the photograph's own XMP and IPTC records say
(caption, keywords, rights, ...) is kept beside them, without what is not true of the result any more.
"""

import hashlib
import json
import re
import warnings
from collections.abc import Iterator, Mapping
from typing import Any
from xml.dom import minidom
from xml.etree import ElementTree
from xml.parsers.expat import ExpatError

from . import __version__
from .errors import ColorizationWarning
from .iptc import Field, described_fields
from .photo import ImageError, Photo, error_line

CREATOR = "Cold Colorizer"
LABEL = "AI-colorized"
SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
DESCRIPTION = f"{LABEL} by {CREATOR}: the colors are predicted, the luminance is the original's."
OMITTED = "omitted"  # in recorded settings: the digests of those that did not fit, by name
_EXCERPT = 1000  # characters that are kept of a text that does not fit
_SHORT = 200  # characters of a setting that is never left out for another's sake: its digest is hardly shorter

_SETTINGS_NAMESPACE = "urn:cold-colorizer:1.0:"
_XMLNS = "http://www.w3.org/2000/xmlns/"
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
NAMESPACES = {
    "dc": "http://purl.org/dc/elements/1.1/",
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "xmpRights": "http://ns.adobe.com/xap/1.0/rights/",
    "photoshop": "http://ns.adobe.com/photoshop/1.0/",
    "Iptc4xmpCore": "http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/",
    "Iptc4xmpExt": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
    "plus": "http://ns.useplus.org/ldf/xmp/1.0/",
    "cold": _SETTINGS_NAMESPACE,
}
# What makes no sense in a result: our own properties of an earlier run, a raw converter's settings (they may turn the
# picture gray again), pointers to a part of the packet that is read nowhere, and how the old pixels were stored.
_UNTRUE_NAMESPACES = {
    _SETTINGS_NAMESPACE,
    "http://ns.adobe.com/camera-raw-settings/1.0/",
    "http://ns.adobe.com/xmp/note/",
}
_TIFF, _EXIF = "http://ns.adobe.com/tiff/1.0/", "http://ns.adobe.com/exif/1.0/"
_UNTRUE = {
    *((_TIFF, name) for name in ("Orientation", "ImageWidth", "ImageLength", "BitsPerSample", "Compression")),
    *((_TIFF, name) for name in ("PhotometricInterpretation", "SamplesPerPixel", "PlanarConfiguration")),
    *((_EXIF, name) for name in ("ColorSpace", "PixelXDimension", "PixelYDimension")),
    *((NAMESPACES["photoshop"], name) for name in ("ColorMode", "ICCProfile")),
    *((NAMESPACES["xmp"], name) for name in ("Thumbnails", "CreatorTool")),
    *((NAMESPACES["Iptc4xmpExt"], name) for name in ("DigitalSourceType", "AISystemUsed", "AISystemVersionUsed")),
    *((NAMESPACES["Iptc4xmpExt"], name) for name in ("AIPromptInformation", "AIPromptWriterName")),
    (NAMESPACES["dc"], "format"),
    ("http://purl.org/dc/terms/", "provenance"),  # of content credentials that are signed for other pixels
}
_TOLD = {
    "Iptc4xmpExt": ("DigitalSourceType", "AISystemUsed", "AISystemVersionUsed", "AIPromptInformation"),
    "dc": ("title", "description", "subject", "creator", "rights"),
}
# Captions, keywords and rights: kept where not all of a photograph's XMP fits.
_ESSENTIAL = {uri for prefix, uri in NAMESPACES.items() if prefix not in ("xmp", "cold")}
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def settings_json(path: str, settings: Mapping[str, Any] | None) -> str:
    """The settings as JSON in ASCII, so that no character is illegal in XML or PNG text; "" for None.

    Raises:
        ImageError: they hold what JSON has no form for.
    """
    try:
        return "" if settings is None else json.dumps(dict(settings), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ImageError(f"{path}: settings cannot be written as JSON ({error_line(error)})") from error


def recorded_settings(packet: bytes | str | None) -> dict[str, Any] | None:
    """The settings in an XMP packet, None where there are none."""
    try:
        text = ElementTree.fromstring(packet or b"").findtext(f".//{{{_SETTINGS_NAMESPACE}}}settings")
        return json.loads(text or "null")
    except (ElementTree.ParseError, json.JSONDecodeError):
        return None


def recorded_label(packet: bytes | str | None) -> dict[str, str]:
    """What a packet says of how a picture came about and of its rights, by the names of XMP; empty for nothing."""
    document = _parse(packet)
    found = {}
    for prefix, names in _TOLD.items():
        for name in names:
            for element in document.getElementsByTagNameNS(NAMESPACES[prefix], name) if document else []:
                items = element.getElementsByTagNameNS(_RDF, "li") or [element]
                texts = [
                    child.data for item in items for child in item.childNodes if child.nodeType == child.TEXT_NODE
                ]
                found[f"{prefix}:{name}"] = ", ".join(text for text in texts if text.strip())
    return found


def xmp_packet(settings: str, source: Photo | None = None, limit: int | None = None) -> str:
    """XMP that marks a picture as colored by a model.

    Args:
        settings: what made it, as JSON; "" for none.
        source: the photograph, whose own XMP and IPTC are kept.
        limit: bytes that the packet may have. Where they are too few, what is not a caption, keyword or right of the
            photograph goes first, then settings that are long (their digest stays), then the rest of the photograph's.
    """
    candidates = _candidates(settings, source, limit)
    packet, lost = next(candidates)
    for smaller in candidates:
        if limit is None or len(packet.encode()) <= limit:
            break
        packet, lost = smaller
    if lost and source is not None:
        message = f"{source.name}: {lost} of its XMP metadata do not fit into the result's format and are left out"
        warnings.warn(message, ColorizationWarning, stacklevel=3)
    return packet


def _candidates(settings: str, source: Photo | None, limit: int | None) -> Iterator[tuple[str, str]]:
    """Packets in order of preference, each with what it lacks of the photograph's metadata ("" for nothing)."""
    fields = described_fields(source.iptc) if source else []
    own = source.xmp if source else None
    yield _write(_kept(own), settings, fields), ""
    if limit is None:
        return
    short = _shortened(settings, limit // 2)
    if own:
        yield _write(_kept(own, _ESSENTIAL), settings, fields), "parts"
    yield _write(_kept(own, _ESSENTIAL) if own else None, short, fields), "parts" if own else ""
    yield _write(None, short, []), "all"


def _shortened(settings: str, limit: int) -> str:
    """The settings in at most `limit` characters of JSON; of the longest ones only a digest and a start are kept."""
    if len(settings) <= limit:
        return settings
    values = json.loads(settings)
    lengths = {name: len(json.dumps(value)) for name, value in values.items()}
    omitted: dict[str, str] = {}
    for name in sorted(values, key=lengths.__getitem__, reverse=True):
        if lengths[name] <= _SHORT:
            break
        omitted[name] = _digest(values[name])
        if isinstance(values[name], str):
            values[name] = values[name][:_EXCERPT] + "…"
        else:
            del values[name]
        shortened = json.dumps(values | {OMITTED: omitted})
        if len(shortened) <= limit:
            return shortened
    return json.dumps({OMITTED: {"all": _digest(json.loads(settings))}})  # thousands of short ones


def _digest(value: Any) -> str:
    """SHA-256 of a setting's JSON, hexadecimal."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def is_setting(recorded: Mapping[str, Any], name: str, value: Any) -> bool:
    """Whether recorded settings have this value under a name, be it by its digest."""
    if name in recorded.get(OMITTED, {}):
        return recorded[OMITTED][name] == _digest(value)
    return recorded.get(name) == value


# The photograph's own packet


def property_names(packet: bytes | str | None) -> set[str]:
    """Names of the properties in a packet that are true of a colored copy too, as "{namespace}name"."""
    document = _kept(packet)
    if document is None:
        return set()
    names = set()
    for description in _descriptions(document):
        nodes = [*description.attributes.values(), *_elements(description)]
        names |= {f"{{{node.namespaceURI}}}{node.localName}" for node in nodes if _is_property(node)}
    return names


def _kept(packet: bytes | str | None, namespaces: set[str] | None = None) -> minidom.Document | None:
    """A photograph's XMP without what is untrue of the result, of these namespaces only; None if there is none."""
    document = _parse(packet)
    for description in _descriptions(document) if document else []:
        for node in [*description.attributes.values(), *_elements(description)]:
            if not _is_property(node):
                continue
            uri, name = node.namespaceURI, node.localName
            foreign = namespaces is not None and uri not in namespaces
            if foreign or uri in _UNTRUE_NAMESPACES or (uri, name) in _UNTRUE:
                is_element = node.nodeType == node.ELEMENT_NODE
                description.removeChild(node) if is_element else description.removeAttributeNode(node)
    return document


def _parse(packet: bytes | str | None) -> minidom.Document | None:
    """The packet as a tree, None where it cannot be read or has no rdf:RDF."""
    data = packet.encode() if isinstance(packet, str) else packet
    if not data or b"<!DOCTYPE" in data:  # XMP has none; entities can make a small file endless
        return None
    try:
        document = minidom.parseString(data.strip(b"\0 \t\r\n"))
        document.toxml()  # a tree that is too deep to be written is of no use
    except (ExpatError, ValueError, RecursionError):
        return None
    if not document.getElementsByTagNameNS(_RDF, "RDF"):
        return None
    # Readers such as exiv2 find nothing where this namespace has another prefix than the usual one.
    for element in document.getElementsByTagName("*"):
        for node in (element, *element.attributes.values()):
            if node.namespaceURI == _RDF and node.prefix != "rdf":
                document.renameNode(node, _RDF, f"rdf:{node.localName}")
    document.getElementsByTagNameNS(_RDF, "RDF")[0].setAttributeNS(_XMLNS, "xmlns:rdf", _RDF)
    return document


def _descriptions(document: minidom.Document) -> list[minidom.Element]:
    (rdf, *_) = document.getElementsByTagNameNS(_RDF, "RDF")
    return [child for child in _elements(rdf) if (child.namespaceURI, child.localName) == (_RDF, "Description")]


def _elements(parent: minidom.Element) -> list[minidom.Element]:
    return [child for child in parent.childNodes if child.nodeType == child.ELEMENT_NODE]


def _is_property(node: minidom.Node) -> bool:
    return node.namespaceURI not in (None, _RDF, _XMLNS)


# Writing


def _write(kept: minidom.Document | None, settings: str, fields: list[Field]) -> str:
    """The packet: what is kept, what the IPTC records add to it, and the label."""
    document = kept or minidom.parseString(
        f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{_RDF}"/></x:xmpmeta>'
    )
    (rdf, *_) = document.getElementsByTagNameNS(_RDF, "RDF")
    writer = _Writer(document, rdf)
    for field in fields:
        writer.add(field.prefix, field.name, field.values, field.kind)
    record = json.loads(settings) if settings else {}
    writer.add("dc", "description", [DESCRIPTION], "Alt")
    writer.add("dc", "subject", [LABEL], "Bag", append=True)
    writer.add("xmp", "CreatorTool", [CREATOR])
    for name, value in _iptc_label(record).items():
        writer.add("Iptc4xmpExt", name, [value])
    if settings:
        writer.add("cold", "settings", [settings])
    begin = '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    return f'{begin}\n{document.documentElement.toxml()}\n<?xpacket end="w"?>'


def _iptc_label(record: Mapping[str, Any]) -> dict[str, str]:
    """The properties of IPTC 2025.1 that say how a picture was made."""

    def text(name: str) -> str:
        return record[name] if isinstance(record.get(name), str) else ""

    parts = [f"{part} {text(part)}" for part in ("model", "adapter") if text(part)]
    revisions = [f"{part} {text(key)}" for part in ("model", "adapter") if text(key := f"{part}_revision")]
    label = {
        "DigitalSourceType": SOURCE_TYPE,
        "AISystemUsed": ", ".join([CREATOR, *parts]),
        "AISystemVersionUsed": ", ".join([__version__, *revisions]),
    }
    steering = text("negative_prompt") if record.get("guidance_scale", 1) != 1 else ""
    prompt = "; ".join([part for part in (text("prompt"), steering and f"excludes: {steering}") if part])
    return label | ({"AIPromptInformation": prompt} if prompt else {})


class _Writer:
    """Adds properties to a packet, in a description of its own unless a list is to grow."""

    def __init__(self, document: minidom.Document, rdf: minidom.Element):
        self._document = document
        descriptions = _descriptions(document)
        self._known = {
            (node.namespaceURI, node.localName): node
            for description in descriptions
            for node in [*description.attributes.values(), *_elements(description)]
        }
        self._own = document.createElementNS(_RDF, "rdf:Description")
        # All descriptions in a packet are of one resource, so they have the same name for it.
        about = descriptions[0].getAttributeNS(_RDF, "about") if descriptions else ""
        self._own.setAttributeNS(_RDF, "rdf:about", about)
        for prefix, uri in NAMESPACES.items():
            self._own.setAttributeNS(_XMLNS, f"xmlns:{prefix}", uri)
        rdf.appendChild(self._own)

    def add(self, prefix: str, name: str, values: list[str], kind: str = "", append: bool = False) -> None:
        """Add a property that is not there yet; `append` adds to a list that is."""
        key = (NAMESPACES[prefix], name)
        if key in self._known:
            if append:
                self._extend(self._known[key], values)
            return
        element = self._own.appendChild(self._document.createElementNS(key[0], f"{prefix}:{name}"))
        self._known[key] = element
        if not kind:
            element.appendChild(self._text(values[0]))
            return
        container = element.appendChild(self._document.createElementNS(_RDF, f"rdf:{kind}"))
        for value in values:
            item = self._item(value)
            if kind == "Alt":
                item.setAttribute("xml:lang", "x-default")
            container.appendChild(item)

    def _extend(self, element: minidom.Node, values: list[str]) -> None:
        containers = _elements(element)
        present = (
            {"".join(child.data for child in item.childNodes) for item in _elements(containers[0])}
            if containers
            else set()
        )
        for value in values:
            if containers and value not in present:
                containers[0].appendChild(self._item(value))

    def _item(self, value: str) -> minidom.Element:
        item = self._document.createElementNS(_RDF, "rdf:li")
        item.appendChild(self._text(value))
        return item

    def _text(self, value: str) -> minidom.Text:
        return self._document.createTextNode(_NOT_XML.sub("\ufffd", value))
