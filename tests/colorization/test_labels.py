"""Metadata of results, read back by a program that shares no code with ours: exiv2."""

import warnings

import numpy as np
import pytest
from PIL import ExifTags, Image

from colorization.errors import ColorizationWarning
from colorization.image_io import read_image, read_settings, write_image
from colorization.iptc import data_sets, described_fields, photoshop_block, records_of
from colorization.labels import SOURCE_TYPE, is_setting, property_names, xmp_packet
from colorization.photo import Photo

pyexiv2 = pytest.importorskip("pyexiv2", exc_type=ImportError)  # no wheel for this platform

FORMATS = ("jpg", "png", "webp", "tiff")
COLORS = np.full((20, 30, 3), (200, 120, 60), np.uint8)
SETTINGS = {"model": "some-base", "model_revision": "abc", "adapter": "user/lora", "prompt": "red bus", "seed": 1}
ENVELOPE = '<x:xmpmeta xmlns:x="adobe:ns:meta/"><{0}:RDF xmlns:{0}="http://www.w3.org/1999/02/22-rdf-syntax-ns#">{1}'
ENVELOPE += "</{0}:RDF></x:xmpmeta>"
XMP = ENVELOPE.format(
    "rdf",
    """<rdf:Description rdf:about="uuid:1" xmlns:dc="http://purl.org/dc/elements/1.1/"
 xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" xmlns:crs="http://ns.adobe.com/camera-raw-settings/1.0/"
 xmlns:tiff="http://ns.adobe.com/tiff/1.0/" xmlns:my="http://example.org/archive/"
 photoshop:Headline="A day at sea" crs:ConvertToGrayscale="True" tiff:Orientation="6" my:shelf="7 &amp; 8">
<dc:subject><rdf:Bag><rdf:li>sea</rdf:li><rdf:li>boats</rdf:li></rdf:Bag></dc:subject>
<dc:rights><rdf:Alt><rdf:li xml:lang="x-default">The archive</rdf:li></rdf:Alt></dc:rights>
</rdf:Description>""",
)


def data_set(number: int, text: str) -> bytes:
    value = text.encode()
    return bytes([0x1C, 2, number]) + len(value).to_bytes(2, "big") + value


IPTC = b"\x1c\x01\x5a\x00\x03\x1b%G" + data_set(120, "Großmutter") + data_set(25, "summer") + data_set(25, "hats")
IPTC += data_set(116, "Old notice") + data_set(55, "19310504")


def read_back(path) -> tuple[dict, dict, dict]:
    """(EXIF, XMP, IPTC) of a file."""
    image = pyexiv2.Image(str(path))
    try:
        return image.read_exif(), image.read_xmp(), image.read_iptc()
    finally:
        image.close()


def gray(exif: bytes | None = None, xmp: bytes | str | None = None) -> Photo:
    luma = np.full((20, 30), 120, np.uint8)
    return Photo(luma=luma, alpha=None, rgb=None, format="", exif=exif, dpi=None, name="a.jpg", xmp=xmp)


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_is_labelled(tmp_path, suffix):
    path = tmp_path / f"out.{suffix}"
    write_image(path, COLORS, settings=SETTINGS | {"negative_prompt": "fog", "guidance_scale": 2.0})
    _, xmp, _ = read_back(path)
    assert xmp["Xmp.iptcExt.DigitalSourceType"] == SOURCE_TYPE
    assert SOURCE_TYPE.endswith("/digitalsourcetype/compositeWithTrainedAlgorithmicMedia")
    assert xmp["Xmp.iptcExt.AISystemUsed"] == "Cold Colorizer, model some-base, adapter user/lora"
    assert xmp["Xmp.iptcExt.AISystemVersionUsed"].endswith(", model abc")
    assert xmp["Xmp.iptcExt.AIPromptInformation"] == "red bus; excludes: fog"
    assert xmp["Xmp.dc.subject"] == ["AI-colorized"] and "AI-colorized" in str(xmp["Xmp.dc.description"])
    write_image(path, COLORS)
    _, xmp, _ = read_back(path)
    assert xmp["Xmp.iptcExt.DigitalSourceType"] == SOURCE_TYPE
    assert "Xmp.iptcExt.AIPromptInformation" not in xmp


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("source", ["jpg", "png", "webp", "tiff"])
def test_captions_keywords_and_rights_of_the_photograph_are_kept(tmp_path, source, suffix):
    file, result = tmp_path / f"in.{source}", tmp_path / f"out.{suffix}"
    Image.new("L", (30, 20), 120).convert("RGB").save(file)
    image = pyexiv2.Image(str(file))
    taken = {"Exif.Photo.DateTimeOriginal": "1931:05:04 10:00:00", "Exif.Photo.ColorSpace": "65535"}
    image.modify_exif({"Exif.Image.Artist": "A. Photographer", "Exif.GPSInfo.GPSLatitudeRef": "N"} | taken)
    image.modify_raw_xmp(XMP)
    if source in ("jpg", "tiff"):  # the others have no place for it
        image.modify_iptc({"Iptc.Application2.Caption": "Großmutter", "Iptc.Application2.Keywords": ["summer"]})
    image.close()
    write_image(result, COLORS, read_image(file), settings=SETTINGS)

    exif, xmp, iptc = read_back(result)
    assert exif["Exif.Image.Artist"] == "A. Photographer" and exif["Exif.GPSInfo.GPSLatitudeRef"] == "N"
    assert exif["Exif.Photo.DateTimeOriginal"] == "1931:05:04 10:00:00" and exif["Exif.Photo.ColorSpace"] == "1"
    assert xmp["Xmp.photoshop.Headline"] == "A day at sea" and xmp["Xmp.my.shelf"] == "7 & 8"
    assert xmp["Xmp.dc.subject"] == ["sea", "boats", "AI-colorized"] and "The archive" in str(xmp["Xmp.dc.rights"])
    assert xmp["Xmp.iptcExt.DigitalSourceType"] == SOURCE_TYPE
    assert not [name for name in xmp if name.startswith("Xmp.crs.") or name == "Xmp.tiff.Orientation"]
    if source in ("jpg", "tiff"):
        assert "Großmutter" in str(xmp["Xmp.dc.description"])
        if suffix in ("jpg", "tiff"):
            assert iptc["Iptc.Application2.Caption"] == "Großmutter"
            assert iptc["Iptc.Application2.Keywords"] == ["summer"]
    settings = read_settings(result)
    assert settings["input"]["file"] == f"in.{source}" and len(settings["input"]["sha256"]) == 64
    # A result that is colored again is labelled once.
    write_image(result, COLORS, read_image(result), settings=SETTINGS)
    assert read_back(result)[1]["Xmp.dc.subject"] == ["sea", "boats", "AI-colorized"]


def test_records_become_properties():
    fields = {field.name: field.values for field in described_fields(IPTC)}
    assert fields == {
        "description": ["Großmutter"],
        "subject": ["summer", "hats"],
        "rights": ["Old notice"],
        "DateCreated": ["1931-05-04"],
    }
    assert described_fields(data_set(120, "x") + b"\x1c\x02\x19\x00\x03caf\xe9"[:8])[0].values == ["x"]  # cut short
    latin = b"\x1c\x02\x78\x00\x04caf\xe9"
    assert described_fields(latin)[0].values == ["café"]
    long = b"\x1c\x02\x78\x80\x04" + (3).to_bytes(4, "big") + b"abc"
    assert data_sets(long) == [(2, 120, b"abc")]


def test_records_are_found_among_the_resources_of_photoshop():
    block = photoshop_block(IPTC)
    other = b"8BIM" + (0x040C).to_bytes(2, "big") + b"\x03abc" + (5).to_bytes(4, "big") + b"thumb\0"
    assert records_of(block) == records_of(IPTC + b"\0\0") == IPTC
    assert records_of(b"Photoshop 3.0\0" + other + block[14:]) == IPTC
    for damaged in (
        b"",
        None,
        b"Photoshop 3.0\0",
        block[:20],
        block[:30],
        b"Photoshop 3.0\x008BIM\x04\x04\xff",
        b"junk",
    ):
        assert records_of(damaged) is None or damaged[:5] == b"Photo"


@pytest.mark.parametrize(
    "packet",
    [
        b"<not closed",
        b"\xff\xfe\x00",
        b"<x/>",
        '<!DOCTYPE x [<!ENTITY a "aaaa">]>' + XMP,
        ENVELOPE.format("rdf", "<rdf:Description>" + "<rdf:a>" * 20_000 + "</rdf:a>" * 20_000 + "</rdf:Description>"),
    ],
    ids=["damaged", "binary", "foreign", "entities", "deep"],
)
def test_unreadable_xmp_spoils_no_result(tmp_path, packet):
    packet = packet.encode() if isinstance(packet, str) else packet
    write_image(tmp_path / "out.jpg", COLORS, gray(xmp=packet), settings=SETTINGS)
    assert read_back(tmp_path / "out.jpg")[1]["Xmp.dc.subject"] == ["AI-colorized"]


def test_other_prefixes_and_forms_of_xmp_are_understood(tmp_path):
    body = '<r:Description r:about="" xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:subject><r:Seq><r:li>a</r:li></r:Seq>'
    packet = ENVELOPE.format("r", body + "</dc:subject></r:Description>")
    write_image(tmp_path / "out.png", COLORS, gray(xmp=f"\ufeff{packet}\0\0".encode()))
    assert read_back(tmp_path / "out.png")[1]["Xmp.dc.subject"] == ["a", "AI-colorized"]
    empty = ENVELOPE.format(
        "rdf", '<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" dc:subject="b"/>'
    )
    write_image(tmp_path / "out.png", COLORS, gray(xmp=empty))
    assert read_back(tmp_path / "out.png")[1]["Xmp.iptcExt.DigitalSourceType"] == SOURCE_TYPE
    assert property_names(XMP) > {"{http://purl.org/dc/elements/1.1/}rights", "{http://example.org/archive/}shelf"}
    assert property_names(b"<damaged") == set()


def test_what_is_no_xml_is_replaced(tmp_path):
    write_image(tmp_path / "out.png", COLORS, settings={"prompt": "red\x01\x00 bus & <b>"})
    _, xmp, _ = read_back(tmp_path / "out.png")
    assert xmp["Xmp.iptcExt.AIPromptInformation"] == "red\ufffd\ufffd bus & <b>"
    assert read_settings(tmp_path / "out.png")["prompt"] == "red\x01\x00 bus & <b>"


def test_settings_too_long_for_jpeg_keep_what_fits_and_digests(tmp_path):
    hints = [[x, 1, "#c02020"] for x in range(4000)]
    settings = SETTINGS | {"prompt": "red " * 20_000, "hints": hints}
    for suffix in FORMATS:
        write_image(tmp_path / f"out.{suffix}", COLORS, gray(xmp=XMP), settings=settings)
    assert all(read_settings(tmp_path / f"out.{suffix}") == settings for suffix in FORMATS[1:])
    kept = read_settings(tmp_path / "out.jpg")
    assert set(kept["omitted"]) == {"prompt", "hints"} and "hints" not in kept
    assert kept["prompt"].startswith("red red") and len(kept["prompt"]) < 2000 and kept["seed"] == 1
    assert is_setting(kept, "hints", hints) and not is_setting(kept, "hints", hints[1:])
    assert is_setting(kept, "seed", 1) and not is_setting(kept, "seed", 2)
    _, xmp, _ = read_back(tmp_path / "out.jpg")
    assert xmp["Xmp.photoshop.Headline"] == "A day at sea" and xmp["Xmp.iptcExt.DigitalSourceType"] == SOURCE_TYPE
    many = {f"setting {index}": index for index in range(10_000)}
    write_image(tmp_path / "out.jpg", COLORS, settings=many)
    assert list(read_settings(tmp_path / "out.jpg")) == ["omitted"]


def test_xmp_too_long_for_jpeg_keeps_captions_and_rights(tmp_path):
    long = XMP.replace("7 &amp; 8", "x" * 70_000)
    with pytest.warns(ColorizationWarning, match="a.jpg: parts of its XMP metadata do not fit"):
        write_image(tmp_path / "out.jpg", COLORS, gray(xmp=long), settings=SETTINGS)
    _, xmp, _ = read_back(tmp_path / "out.jpg")
    assert xmp["Xmp.dc.subject"] == ["sea", "boats", "AI-colorized"] and "Xmp.my.shelf" not in xmp
    assert read_settings(tmp_path / "out.jpg") == SETTINGS
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_image(tmp_path / "out.png", COLORS, gray(xmp=long), settings=SETTINGS)
    assert len(read_back(tmp_path / "out.png")[1]["Xmp.my.shelf"]) == 70_000
    with pytest.warns(ColorizationWarning, match="all of its XMP"):
        packet = xmp_packet("{}", gray(xmp=XMP.replace("A day at sea", "x" * 70_000)), 65_000)
    assert len(packet) < 65_000 and SOURCE_TYPE in packet


@pytest.mark.parametrize("size", [60_000, 65_250, 65_400, 65_500, 70_000])
@pytest.mark.parametrize("suffix", FORMATS)
def test_long_exif_does_not_vanish(tmp_path, suffix, size):
    exif = Image.Exif()
    exif[ExifTags.Base.Artist] = "A. Photographer"
    exif.get_ifd(ExifTags.IFD.Exif).update({ExifTags.Base.MakerNote: b"N" * size, 0x9003: "1931:05:04 10:00:00"})
    source = gray(exif=exif.tobytes())
    fits = size < 65_000 or suffix == "tiff"  # which has no segments
    if not fits:
        with pytest.warns(ColorizationWarning, match="a.jpg: MakerNote of its EXIF metadata"):
            write_image(tmp_path / f"out.{suffix}", COLORS, source)
    else:
        write_image(tmp_path / f"out.{suffix}", COLORS, source)
    kept, _, _ = read_back(tmp_path / f"out.{suffix}")
    assert kept["Exif.Image.Artist"] == "A. Photographer"
    assert kept["Exif.Photo.DateTimeOriginal"] == "1931:05:04 10:00:00"
    assert ("Exif.Photo.MakerNote" in kept) == fits
