"""Batches: archives of strangers, what is refused, what comes back."""

import io
import os
import struct
import zipfile
import zlib
from pathlib import Path

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from colorization.image_io import read_image, read_settings
from demo import archive
from demo.archive import BatchError, collect, safe_name, unused_name


@pytest.fixture(scope="module")
def client(demo_url, tmp_path_factory) -> Client:
    return Client(demo_url, verbose=False, download_files=tmp_path_factory.mktemp("downloads"))


def photo_bytes(width: int = 40, height: int = 30) -> bytes:
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((width, height)).save(buffer, "PNG")
    return buffer.getvalue()


def zip_file(path: Path, members: dict[str, bytes], **options) -> Path:
    with zipfile.ZipFile(path, "w", **options) as opened:
        for name, content in members.items():
            opened.writestr(name, content)
    return path


def colorize_batch(client: Client, *paths: Path, **settings) -> tuple[str | None, str]:
    return client.predict([handle_file(path) for path in paths], api_name="/colorize_batch", steps=1, **settings)


def test_files_and_archives_come_back_as_one_archive(client, example_files, tmp_path):
    members = {
        "a/photo.png": photo_bytes(),
        "a/notes.txt": b"text",
        "b/photo.png": photo_bytes(50, 20),
        "a/x.jpg": b"",
    }
    album = zip_file(tmp_path / "album.zip", members)
    (tmp_path / "notes.txt").write_text("not a picture\n")
    result, report = colorize_batch(client, album, example_files[0], tmp_path / "notes.txt", color_scale=1.5)
    lines = report.splitlines()
    assert lines[0] == "3 colored, 3 failed"
    assert [line.split(": ")[0] for line in lines[1:]] == ["a/notes.txt", "a/x.jpg", "notes.txt"]
    assert all("/tmp" not in line for line in lines)
    with zipfile.ZipFile(result) as opened:
        opened.extractall(tmp_path / "out")
        names = sorted(opened.namelist())
    assert names == sorted(
        ["a/photo-colorized.png", "b/photo-colorized.png", f"{example_files[0].stem}-colorized.png"]
    )
    assert read_image(tmp_path / "out" / "b" / "photo-colorized.png").size == (50, 20)
    assert read_settings(tmp_path / "out" / "a" / "photo-colorized.png")["color_scale"] == 1.5


def test_format_is_the_one_asked_for(client, tmp_path):
    album = zip_file(tmp_path / "album.zip", {"photo.png": photo_bytes()})
    result, _ = colorize_batch(client, album, file_format="JPEG")
    with zipfile.ZipFile(result) as opened:
        assert opened.namelist() == ["photo-colorized.jpg"]
        assert opened.read("photo-colorized.jpg").startswith(b"\xff\xd8\xff")


def test_the_automatic_color_scale_is_recorded_in_each_file(client, tmp_path):
    album = zip_file(tmp_path / "album.zip", {"a.png": photo_bytes(), "b.png": photo_bytes(50, 20)})
    result, _ = colorize_batch(client, album, auto_color_scale=True)
    with zipfile.ZipFile(result) as opened:
        opened.extractall(tmp_path / "out")
    settings = [read_settings(path) for path in (tmp_path / "out").iterdir()]
    assert len(settings) == 2 and all(one["automatic_color_scale"] == one["color_scale"] for one in settings)


def test_without_any_result_there_is_no_archive(client, tmp_path):
    (tmp_path / "broken.zip").write_bytes(b"PK\x03\x04 and nothing else")
    result, report = colorize_batch(client, tmp_path / "broken.zip")
    assert result is None
    assert report == "0 colored, 1 failed\nbroken.zip: is no zip archive that can be read"


def test_too_much_is_refused_in_words(client, tmp_path):
    with pytest.raises(AppError, match="Choose some photographs"):
        client.predict([], api_name="/colorize_batch")
    many = zip_file(tmp_path / "many.zip", {f"{index}.png": b"" for index in range(archive.MAX_FILES + 1)})
    with pytest.raises(AppError, match="More than 100 files: please send them in several batches"):
        colorize_batch(client, many)


def test_nothing_is_left_of_a_refused_batch(client, demo_cache, tmp_path):
    before = {path for path in demo_cache.rglob("*") if path.is_file()}
    many = zip_file(tmp_path / "leftovers.zip", {f"{index}.png": b"x" for index in range(archive.MAX_FILES + 1)})
    with pytest.raises(AppError):
        colorize_batch(client, many)
    after = {path for path in demo_cache.rglob("*") if path.is_file()}
    assert {path.name for path in after - before} <= {"leftovers.zip"}


def test_a_zip_bomb_stops_at_the_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "MAX_BYTES", 3 * 2**20)
    members = {"one.png": bytes(2 * 2**20), "two.png": bytes(2 * 2**20)}
    bomb = zip_file(tmp_path / "bomb.zip", members, compression=zipfile.ZIP_DEFLATED)
    assert bomb.stat().st_size < 10_000
    folder = tmp_path / "out"
    folder.mkdir()
    with pytest.raises(BatchError, match="unpack to more than"):
        collect([str(bomb)], folder)
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 3 * 2**20


def test_damaged_files_count_toward_the_limit_and_are_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "MAX_BYTES", 3 * 2**20)
    contents = {f"{index}.png": bytes([index]) * 2**21 for index in range(5)}
    bomb = zip_file(tmp_path / "bomb.zip", contents, compression=zipfile.ZIP_DEFLATED)
    content = bomb.read_bytes()
    for data in contents.values():  # other checksums than those of what comes out
        content = content.replace(struct.pack("<I", zlib.crc32(data)), b"\0\0\0\1")
    bomb.write_bytes(content)
    folder = tmp_path / "out"
    folder.mkdir()
    with pytest.raises(BatchError, match="unpack to more than"):
        collect([str(bomb)], folder)
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 2**20  # the one that was being written


@pytest.mark.parametrize("content", [b"PK\x05\x06", b"PK\x05\x06" + bytes(8), b"PK\x03\x04 and no more"])
def test_what_only_begins_like_an_archive_is_named_and_the_rest_is_done(tmp_path, content):
    (tmp_path / "broken.zip").write_bytes(content)
    (tmp_path / "photo.png").write_bytes(b"x")
    batch = collect([str(tmp_path / "broken.zip"), str(tmp_path / "photo.png")], tmp_path)
    assert batch.problems == [("broken.zip", "is no zip archive that can be read")] and list(batch.files) == [
        "photo.png"
    ]


def test_damaged_lzma_is_named(tmp_path):
    whole = zip_file(tmp_path / "whole.zip", {"a.png": os.urandom(5000)}, compression=zipfile.ZIP_LZMA)
    content = bytearray(whole.read_bytes())
    content[60:4000] = bytes(3940)
    (tmp_path / "damaged.zip").write_bytes(content)
    (tmp_path / "out").mkdir()
    batch = collect([str(tmp_path / "damaged.zip")], tmp_path / "out")
    assert batch.problems == [("a.png", "is damaged in the archive")] and not list((tmp_path / "out").iterdir())


def test_sizes_in_the_archive_are_not_believed(tmp_path):
    """The file says that it unpacks to one byte."""
    honest = zip_file(tmp_path / "honest.zip", {"a.png": bytes(5000)}, compression=zipfile.ZIP_DEFLATED).read_bytes()
    liar = tmp_path / "liar.zip"
    liar.write_bytes(honest.replace(struct.pack("<I", 5000), struct.pack("<I", 1)))
    (tmp_path / "out").mkdir()
    batch = collect([str(liar)], tmp_path / "out")
    assert batch.problems == [("a.png", "is damaged in the archive")] and not batch.files


def test_a_long_list_of_contents_is_not_even_read(tmp_path):
    many = zip_file(tmp_path / "many.zip", {f"{'x' * 200}{index}.png": b"" for index in range(5000)})
    with pytest.raises(BatchError, match="more than 100 files"):
        collect([str(many)], tmp_path)
    # A second signature inside the true end record must not hide its size.
    content = bytearray(many.read_bytes())
    content[-18:-14] = b"PK\x05\x06"
    many.write_bytes(content)
    with pytest.raises(BatchError, match="more than 100 files"):
        collect([str(many)], tmp_path)


def test_names_in_archives_lead_nowhere(tmp_path):
    names = [
        "../../up.png",
        "/etc/root.png",
        "C:\\windows\\disk.png",
        "a/../../b.png",
        "....//c.png",
        "\x1b[31mred.png",
    ]
    album = zip_file(tmp_path / "tricks.zip", {name: photo_bytes() for name in names})
    folder = tmp_path / "deep" / "out"
    folder.mkdir(parents=True)
    batch = collect([str(album)], folder)
    assert all(path.parent == folder for path in batch.files.values())
    assert {path for path in tmp_path.rglob("*.png")} == set(batch.files.values())
    for name in batch.files:
        assert not name.startswith("/") and ".." not in name.split("/") and ":" not in name and name.isprintable()


def test_links_hidden_and_nested_files(tmp_path):
    inner = zip_file(tmp_path / "inner.zip", {"a.png": photo_bytes()})
    album = tmp_path / "album.zip"
    with zipfile.ZipFile(album, "w") as opened:
        link = zipfile.ZipInfo("link.png")
        link.external_attr = 0o120777 << 16
        opened.writestr(link, "/etc/passwd")
        opened.write(inner, "inner.zip")
        opened.writestr("__MACOSX/._a.png", b"x")
        opened.writestr(".hidden", b"x")
    folder = tmp_path / "out"
    folder.mkdir()
    batch = collect([str(album)], folder)
    assert list(batch.files) == ["link.png", "inner.zip"]
    assert not any(path.is_symlink() for path in folder.iterdir())


def test_encrypted_files_are_listed(tmp_path):
    album = zip_file(tmp_path / "album.zip", {"secret.png": photo_bytes(), "open.png": photo_bytes()})
    content = bytearray(album.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.find(signature) + offset] |= 1  # the flag is in both of the file's headers
    album.write_bytes(content)
    (tmp_path / "out").mkdir()
    batch = collect([str(album)], tmp_path / "out")
    assert list(batch.files) == ["open.png"] and batch.problems == [("secret.png", "is encrypted")]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a/b.png", "a/b.png"), ("../a.png", "a.png"), ("a\\b.png", "a/b.png"), ("//", ""), ("C:/a.png", "a.png")],
)
def test_safe_names(name, expected):
    assert safe_name(name) == expected


def test_equal_names_get_numbers(tmp_path):
    assert unused_name("a.png", []) == "a.png"
    assert unused_name("a.png", ["a.png", "a (2).png"]) == "a (3).png"
    (tmp_path / "x").mkdir()
    for folder in (tmp_path, tmp_path / "x"):
        (folder / "a.png").write_bytes(photo_bytes())
    batch = collect([str(tmp_path / "a.png"), str(tmp_path / "x" / "a.png")], tmp_path)
    assert [os.path.basename(name) for name in batch.files] == ["a.png", "a (2).png"]
