"""The disk of an image: what a failing build says, and that nothing of a build is left however it ends."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sevkit.errors import NoSpaceError
from sevkit.guest import ext4, rootdisk, study
from tests.support.container import not_in_the_container

pytestmark = not_in_the_container("nothing in /tmp can be run in the container")

# Runs the hooks as mmdebstrap does: a shell, the tree as $1; the first that fails ends it.
MMDEBSTRAP = """\
tree=$(mktemp -d)
echo "I: extracting archives..." >&2
for word; do
    case $word in --essential-hook=* | --customize-hook=*) sh -c "${word#*=}" hook "$tree" || exit 1 ;; esac
done"""


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Scripts that stand in for the programs of a build."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setattr(ext4, "check_files", lambda *_: None)

    def make(name: str, script: str) -> None:
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)

    make("mmdebstrap", MMDEBSTRAP)
    make("mke2fs", 'for word; do case $word in *.img) echo disk > "$word" ;; esac; done')
    return make


def built(tmp_path: Path, *hooks: str) -> list[str]:
    """Build with these hooks; returns the messages."""
    told: list[str] = []
    recipe = rootdisk.Recipe("bookworm", ("fio", "make"), "1G", hooks)
    try:
        rootdisk.build(tmp_path / "root.img", recipe, tmp_path / "work", tmp_path / "a.log", told.append)
    finally:
        assert not (tmp_path / "work").exists()
    return told


@pytest.mark.usefixtures("programs")
def test_each_step_is_told(tmp_path: Path) -> None:
    told = built(tmp_path, 'echo "sevkit: configuring one"; echo checking for gcc; echo "sevkit: configuring two"')
    assert told == [
        "fetching the base system",
        "installing 2 packages and what they need",
        "configuring one",
        "configuring two",
        "writing the file system",
        "removing the tree",
        "checking the file system",
    ]
    assert (tmp_path / "root.img").read_text() == "disk\n"
    assert "checking for gcc" in (tmp_path / "a.log").read_text()


@pytest.mark.usefixtures("programs")
def test_a_step_that_fails_is_named_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(rootdisk.ImageBuildError, match="configuring llvm failed") as caught:
        built(tmp_path, 'echo "sevkit: configuring llvm"; echo "CMake Error: no C++ compiler"; exit 1', "echo never")
    assert "no C++ compiler" in str(caught.value.detail)
    assert "I: extracting" not in str(caught.value.detail)
    assert "I: extracting" in (tmp_path / "a.log").read_text()
    assert "a.log" in str(caught.value.hint)
    assert "never" not in (tmp_path / "a.log").read_text()
    assert not (tmp_path / "root.img").exists()


def test_a_full_disk_is_told_apart(tmp_path: Path, programs: Callable[[str, str], None]) -> None:
    programs("mke2fs", 'echo "mke2fs: No space left on device while writing" >&2; exit 1')
    with pytest.raises(NoSpaceError, match="the disk was full while writing the file system") as caught:
        built(tmp_path)
    assert "SEVKIT_CACHE_DIR" in str(caught.value.hint)
    with pytest.raises(NoSpaceError, match="while unpacking linux"):
        built(tmp_path, 'echo "sevkit: unpacking linux"; echo "tar: x: Cannot write: No space left on device"; exit 2')


def test_a_build_that_is_killed_leaves_no_process(tmp_path: Path, programs: Callable[[str, str], None]) -> None:
    if not shutil.which("unshare") or subprocess.run(["unshare", "-pf", "true"], check=False).returncode != 0:
        pytest.skip("namespaces are not permitted here")
    programs("mmdebstrap", f"sleep 1000 & touch {tmp_path}/started; wait")
    script = (
        "import sys; from pathlib import Path; from sevkit.guest import rootdisk; at = Path(sys.argv[1]);"
        "recipe = rootdisk.Recipe('bookworm', (), '1G');"
        "rootdisk.build(at / 'root.img', recipe, at / 'work', at / 'a.log', print)"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)])
    try:
        wait_for(lambda: (tmp_path / "started").exists())
        assert of(tmp_path)
        process.kill()
        process.wait()
        wait_for(lambda: not of(tmp_path))
    finally:
        process.kill()
        for pid in of(tmp_path):
            os.kill(pid, signal.SIGKILL)


def of(folder: Path) -> list[int]:
    """The processes that have this folder in their environment (TMPDIR)."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"TMPDIR={folder}/work".encode() in entry.read_bytes():
                found.append(int(entry.parent.name))
        except OSError:
            continue
    return found


def wait_for(holds: Callable[[], bool]) -> None:
    """Wait up to a minute."""
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("name", study.NAMES)
def test_the_scripts_of_the_study_tell_their_steps(name: str) -> None:
    script = study._script(name)
    assert f'step() {{ echo "{rootdisk.STEP}$*"; }}' in script
    assert "set -e" in script
