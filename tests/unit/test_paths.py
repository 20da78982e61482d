"""Caches hold kernels and programs that run: they are trusted only where nobody else can put them."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sevkit.errors import NotPermittedError
from sevkit.guest import image
from sevkit.hypervisor.qemu import emulated
from sevkit.paths import cache_dir, cache_path, state_dir

root = pytest.mark.skipif(os.getuid() != 0, reason="needs root, to make directories of other users")


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    found = tmp_path / "above" / "cache"
    monkeypatch.setenv("SEVKIT_CACHE_DIR", str(found))
    return found


def test_a_cache_of_ours_is_ours_whatever_the_umask(base: Path) -> None:
    before = os.umask(0o002)
    try:
        assert cache_dir("images").stat().st_mode & 0o022 == 0
    finally:
        os.umask(before)


def test_a_place_in_the_cache_is_named_without_being_made(base: Path) -> None:
    assert cache_path("firmware", "x") == base / "firmware" / "x"
    assert not base.exists()


def test_a_named_place_is_refused_where_another_user_may_write(base: Path) -> None:
    cache_dir("firmware").chmod(0o777)
    with pytest.raises(NotPermittedError, match="not safe"):
        cache_path("firmware", "x")


@pytest.mark.parametrize("part", ["", "..", "images"])
def test_a_cache_that_anybody_may_write_to_is_refused(base: Path, part: str) -> None:
    cache_dir("images")
    (base / part).chmod(0o777)
    with pytest.raises(NotPermittedError, match="not safe"):
        cache_dir("images")


def test_a_sticky_directory_above_is_fine_and_of_the_cache_itself_is_not(base: Path) -> None:
    cache_dir("images")
    base.parent.chmod(0o1777)
    cache_dir("images")
    (base / "images").chmod(0o1777)
    with pytest.raises(NotPermittedError):
        cache_dir("images")


@root
@pytest.mark.parametrize("part", ["..", "", "images"])
def test_a_cache_of_another_user_or_below_one_is_refused(base: Path, part: str) -> None:
    cache_dir("images")
    os.chown((base / part).resolve(), 65534, 65534)
    with pytest.raises(NotPermittedError):
        cache_dir("images")


@root
def test_a_cache_that_a_foreign_group_may_write_to_is_refused(base: Path) -> None:
    cache_dir("images")
    os.chown(base, 0, 65534)
    base.chmod(0o775)
    with pytest.raises(NotPermittedError):
        cache_dir("images")


@root
def test_a_link_to_a_cache_of_another_user_is_refused(base: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    os.chown(theirs, 65534, 65534)
    base.parent.mkdir(exist_ok=True)
    base.symlink_to(theirs)
    with pytest.raises(NotPermittedError):
        cache_dir("images")


@root
def test_a_state_directory_that_is_a_link_or_anothers_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir(mode=0o700)
    link = tmp_path / "link"
    link.symlink_to(theirs)
    monkeypatch.setenv("SEVKIT_STATE_DIR", str(link))
    with pytest.raises(NotPermittedError):
        state_dir()
    os.chown(theirs, 65534, 65534)
    monkeypatch.setenv("SEVKIT_STATE_DIR", str(theirs))
    with pytest.raises(NotPermittedError):
        state_dir()


@pytest.fixture
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def test_what_is_built_under_an_open_umask_is_ours_alone(base: Path, open_umask: None, monkeypatch: Any) -> None:
    def build(work: Path, made: Path, series: str | None, progress: object) -> dict[str, object]:
        for name in ("vmlinuz", "initrd.img"):
            (made / name).write_bytes(name.encode())
        return {"image": "mini"}

    monkeypatch.setitem(image._BUILDERS, "mini", build)
    got = image.get("mini")
    assert got.kernel is not None
    for path in (got.kernel, got.kernel.parent, got.kernel.parent / "info.json"):
        assert path.stat().st_mode & 0o022 == 0
    got.kernel.parent.chmod(0o777)
    with pytest.raises(NotPermittedError, match="not safe"):
        image.get("mini")


@pytest.mark.parametrize(
    "loose", ["emulator", "emulator/hash", "emulator/hash/bin", "emulator/hash/bin/qemu-system-x86_64"]
)
def test_an_emulator_that_others_could_replace_is_not_run(base: Path, loose: str, monkeypatch: Any) -> None:
    monkeypatch.delenv("SEVKIT_EMULATOR", raising=False)
    binary = cache_dir("emulator/hash/bin") / "qemu-system-x86_64"
    binary.write_text("#!/bin/sh\n")
    (base / "emulator/current").symlink_to("hash")
    found = emulated.find()
    assert found is not None
    assert found.resolve() == binary.resolve()
    (base / loose).chmod(0o777)
    with pytest.raises(NotPermittedError, match="not safe"):
        emulated.find()


def test_an_emulator_behind_a_link_out_of_the_cache_is_judged_where_it_is(
    base: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.delenv("SEVKIT_EMULATOR", raising=False)
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "bin").mkdir(parents=True)
    (elsewhere / "bin/qemu-system-x86_64").write_text("#!/bin/sh\n")
    cache_dir("emulator")
    (base / "emulator/current").symlink_to(elsewhere)
    assert emulated.find() is not None
    elsewhere.chmod(0o777)
    with pytest.raises(NotPermittedError, match="elsewhere"):
        emulated.find()


def test_a_home_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEVKIT_STATE_DIR", "/proc/nohome/state")
    with pytest.raises(NotPermittedError) as error:
        state_dir("guests")
    assert "SEVKIT_STATE_DIR" in (error.value.hint or "")
