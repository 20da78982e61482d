"""The emulator's build script where it must refuse, or has nothing to do."""

import hashlib
import os
from pathlib import Path

import pytest

from sevkit import processes

BUILD = Path(__file__).parents[2] / "emulator/build.sh"


def build(cache: Path, *arguments: str) -> processes.Completed:
    env = {**os.environ, "SEVKIT_CACHE_DIR": str(cache)}
    return processes.run([str(BUILD), *arguments], timeout=60, env=env)


def test_an_unbuilt_emulator_has_no_path(tmp_path: Path) -> None:
    done = build(tmp_path, "--print-path")
    assert (done.status, done.stdout) == (4, b"")
    assert "make emulator" in done.error_text
    assert not list(tmp_path.iterdir())


def test_the_packages_are_named_without_installing_any(tmp_path: Path) -> None:
    done = build(tmp_path, "--print-packages")
    assert done.status == 0
    assert {"gcc", "flex", "libglib2.0-dev"} <= set(done.text.split())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments",
    [
        ["--jobs", "no"],
        ["--jobs"],
        ["--what"],
        ["--source", "/no/such"],
        ["--source", "http://x/y"],
        ["--source-sha256", "00"],
        ["--source", "/dev/null", "--source-sha256", "12"],
    ],
)
def test_wrong_usage(tmp_path: Path, arguments: list[str]) -> None:
    done = build(tmp_path, *arguments)
    assert (done.status, done.stdout) == (2, b"")
    assert done.error_text
    assert not list(tmp_path.iterdir())


def test_an_unknown_source_needs_its_checksum(tmp_path: Path) -> None:
    source = tmp_path / "qemu.tar.xz"
    source.write_bytes(b"not the pinned source")
    done = build(tmp_path / "cache", "--source", str(source))
    assert done.status == 2
    assert hashlib.sha256(source.read_bytes()).hexdigest() in done.error_text
