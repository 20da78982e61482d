"""Text as people have it: one text, however it is encoded, compressed, or ended, is one text."""

import bz2
import gzip
import io
import lzma
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from sevkit import textfile
from sevkit.errors import BadInputError, SevkitError

PACK = {
    "plain": bytes,
    "gzip": gzip.compress,
    "two members": lambda data: gzip.compress(data[:5]) + gzip.compress(data[5:]),
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstandard.ZstdCompressor().compress,
    "two frames": lambda data: zstandard.compress(data[:5]) + zstandard.compress(data[5:]),
    "twice": lambda data: gzip.compress(lzma.compress(data)),
}
ENCODE = {
    "utf-8": lambda text: text.encode(),
    "utf-8 with mark": lambda text: text.encode("utf-8-sig"),
    "utf-16 with mark": lambda text: text.encode("utf-16"),
    "utf-16-be with mark": lambda text: ("\ufeff" + text).encode("utf-16-be"),
    "utf-32 with mark": lambda text: text.encode("utf-32"),
    "windows": lambda text: text.replace("\n", "\r\n").encode(),
    "old mac": lambda text: text.replace("\n", "\r").encode(),
}
TEXT = st.text(st.characters(exclude_characters="\0\r\ufeff", exclude_categories=("Cs",)))


@pytest.mark.parametrize("pack", PACK)
@pytest.mark.parametrize("encode", ENCODE)
@given(text=TEXT)
def test_one_text_in_any_dress(pack: str, encode: str, text: str) -> None:
    text = "x" + text  # no text that begins like a compressed file
    assert textfile.text(PACK[pack](ENCODE[encode](text)), "x") == text


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_mark(encoding: str) -> None:
    assert textfile.plain("one\r\ntwo\r\n".encode(encoding), "x") == b"one\ntwo\n"


def test_bytes_of_no_encoding_are_kept() -> None:
    assert textfile.plain(b"p\xe4ss\r\nw\xf6rd", "x") == b"p\xe4ss\nw\xf6rd"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"a\nb\0", "line 2: binary data"),
        (gzip.compress(b"hello" * 100)[:-9], "gzip data is damaged or cut off"),
        (lzma.compress(b"hello" * 100)[:-9], "xz data is damaged or cut off"),
        (bz2.compress(b"hello" * 100)[:-9], "bzip2 data is damaged or cut off"),
        (zstandard.compress(b"hello" * 100)[:-3], "zstd data is damaged or cut off"),
        (b"\x28\xb5\x2f\xfd", "zstd data is damaged or cut off"),
        ("hello".encode("utf-16")[:-1], "damaged UTF-16 at byte 10"),
        (b"PK\x03\x04rest", "a zip archive"),
        (b"\x04\x22\x4d\x18rest", "lz4"),
    ],
    ids=["nul", "gzip", "xz", "bzip2", "zstd", "zstd-header", "utf-16", "zip", "lz4"],  # gzip's bytes hold the time
)
def test_what_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(BadInputError, match=words):
        textfile.plain(data, "x")


@pytest.mark.parametrize("pack", PACK)
def test_the_limit_holds_after_decompression(pack: str) -> None:
    with pytest.raises(BadInputError, match="larger than 1 MiB"):
        textfile.plain(PACK[pack](bytes(3 << 20)), "x", 1 << 20)


def test_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"12345678")
    assert textfile.read_bytes(str(tmp_path / "file"), 8) == (b"12345678", str(tmp_path / "file"))
    for path, limit in ((tmp_path / "file", 7), (tmp_path, 9), (tmp_path / "none", 9), ("a\0b", 9)):
        with pytest.raises(BadInputError):
            textfile.read_bytes(str(path), limit)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"in")))
    assert textfile.read_bytes("-") == (b"in", "standard input")
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(BadInputError, match="standard input: it is closed"):
        textfile.read_bytes("-")


@given(
    st.sampled_from([b"\x1f\x8b\x08", b"BZh9", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd", b"\xff\xfe", b"\0\0\xfe\xff", b""]),
    st.binary(),
)
def test_hostile_bytes_are_text_or_an_error(magic: bytes, rest: bytes) -> None:
    try:
        found = textfile.plain(magic + rest, "x")
    except SevkitError:
        return
    assert b"\r" not in found
    assert b"\0" not in found
