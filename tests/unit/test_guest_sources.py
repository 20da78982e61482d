"""Source tarballs: what the index says, what is in the cache, and what an archive that lost them leads to."""

import hashlib
from pathlib import Path

import pytest

from sevkit.errors import MissingToolError
from sevkit.guest import apt, image, sources, study

# `apt-cache showsrc --only-source linux`, shortened: two versions, the older one twice, once with MD5 sums beside.
INDEX = """\
Package: linux
Version: 6.1.9-1
Files:
 0123456789abcdef0123456789abcdef 137 linux_6.1.9.orig.tar.xz
Checksums-Sha256:
 {old} 137 linux_6.1.9.orig.tar.xz
 {deb} 2 linux_6.1.9-1.debian.tar.xz
Directory: pool/main/l/linux

Package: linux
Version: 6.1.170-3
Checksums-Sha256:
 {new} 138 linux_6.1.170.orig.tar.xz
Directory: pool/updates/main/l/linux

Package: linux
Version: 6.1.9-2
Checksums-Sha256:
 {old} 137 linux_6.1.9.orig.tar.xz
Directory: pool/main/l/linux
""".format(old="a" * 64, new="b" * 64, deb="c" * 64)


def silent(text: str) -> None:
    del text


def test_the_index_gives_each_tarball_once_and_the_newest_first() -> None:
    found = sources.parse("linux", INDEX)
    assert [(s.pool_path, s.sha256, s.size) for s in found] == [
        ("pool/updates/main/l/linux/linux_6.1.170.orig.tar.xz", "b" * 64, 138),
        ("pool/main/l/linux/linux_6.1.9.orig.tar.xz", "a" * 64, 137),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Package: linux\n",
        INDEX.replace("pool/", "../pool/"),
        INDEX.replace("orig.tar.xz", "orig.tar.xz;id"),
        INDEX.replace("a" * 64, "a" * 63).replace("b" * 64, "B" * 64),
    ],
)
def test_an_odd_index_gives_nothing(text: str) -> None:
    assert sources.parse("linux", text) == []


def test_the_pinned_sources_are_whole() -> None:
    assert set(sources.PINNED) == {"linux", "llvm", "godot", "imagemagick"}
    for source in sources.PINNED.values():
        assert len(source.sha256) == 64
        assert source.file.endswith((".orig.tar.xz", ".orig.tar.gz"))
        assert source.package in source.pool_path
        assert "://" not in source.pool_path


@pytest.fixture
def pinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> sources.Source:
    monkeypatch.setenv("SEVKIT_CACHE_DIR", str(tmp_path))
    made = sources.Source("p", "pool/main/p/p/p_1.orig.tar.xz", hashlib.sha256(b"good").hexdigest(), 4)
    monkeypatch.setitem(sources.PINNED, "p", made)
    return made


def test_a_damaged_file_in_the_cache_is_fetched_again(pinned: sources.Source, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(pool_path: str, sha256: str, target: Path) -> bool:
        assert (pool_path, sha256) == (pinned.pool_path, pinned.sha256)
        target.write_bytes(b"good")
        return True

    monkeypatch.setattr(apt, "download_pinned", download)
    _, path = sources.fetch("p", silent)
    path.write_bytes(b"evil")
    assert sources.fetch("p", silent)[1].read_bytes() == b"good"


def test_what_no_mirror_has_is_an_error_that_says_what_to_do(
    pinned: sources.Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apt, "download_pinned", lambda *_: False)
    monkeypatch.setattr(sources, "_from_index", lambda *_: [])
    with pytest.raises(MissingToolError, match="cannot be fetched") as caught:
        sources.fetch("p", silent)
    assert pinned.file in str(caught.value.hint)


def test_another_version_is_taken_when_the_archive_dropped_the_pinned_one(
    pinned: sources.Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = sources.Source("p", "pool/main/p/p/p_2.orig.tar.xz", "d" * 64, 4)

    def download(pool_path: str, sha256: str, target: Path) -> bool:
        del sha256
        if pool_path == pinned.pool_path:
            return False
        target.write_bytes(b"new")
        return True

    monkeypatch.setattr(apt, "download_pinned", download)
    monkeypatch.setattr(sources, "_from_index", lambda *_: [other])
    found, path = sources.fetch("p", silent)
    assert found == other
    assert path.name == "p_2.orig.tar.xz"


def test_the_recipe_of_an_image_changes_with_its_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {name: image.expected(name).kernel for name in ("bench", *study.NAMES)}
    changed = sources.Source("linux", "pool/main/l/linux/linux_9.orig.tar.xz", "e" * 64, 1)
    monkeypatch.setitem(sources.PINNED, "linux", changed)
    after = {name: image.expected(name).kernel for name in before}
    assert {name for name in before if before[name] != after[name]} == set(study.NAMES)
