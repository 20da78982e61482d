"""Kills at random moments: nothing keeps running, nothing is half made, and the next run works.

The moments come from a seed. A few of them are tried at each run; SEVKIT_TEST_KILLS sets their number (per kind),
SEVKIT_TEST_SEED another seed. Only the compiler of the emulator's build is a fake one, which takes a second.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from tests.integration.sandbox import ROOT, Sandbox
from tests.support.container import not_in_the_container
from tests.support.waiting import until

COUNT = int(os.environ.get("SEVKIT_TEST_KILLS", "2"))
SEED = int(os.environ.get("SEVKIT_TEST_SEED", "1"))
SIGNALS = (signal.SIGTERM, signal.SIGKILL, signal.SIGINT)
LEAK = ("attack", "run", "leak", "--modes", "nosev", "--memory", "192", "--json")

BINARY = """#!/bin/sh
case "$*" in
    --version) echo "QEMU emulator version 10.0.2" ;;
    *help*) printf '  sev-tcg-guest\\n  sev-snp-tcg-guest\\n' ;;
esac
"""
# Writes the binary in two parts, with a compiler as its child that it ends when it is ended, and says so in a log.
NINJA = f"""#!/bin/bash
trap 'kill $!; exit 1' TERM INT
echo compiled >>"$COMPILED"
for part in 1 2 3; do echo "[$part/3] cc"; sleep "${{SLOW-0.1}}" & wait $!; done
head -c 40 >"$2/qemu-system-x86_64" <<'EOF'
{BINARY}EOF
sleep 0.2
cat >"$2/qemu-system-x86_64" <<'EOF'
{BINARY}EOF
chmod +x "$2/qemu-system-x86_64"
"""


class Build:
    """A copy of emulator/ whose QEMU is a few lines, in a world of its own."""

    def __init__(self, box: Sandbox) -> None:
        self.box = box
        self.cache = box.path / "cache/emulator"
        self.script = box.path / "emulator/build.sh"
        shutil.copytree(ROOT / "emulator", self.script.parent, ignore=shutil.ignore_patterns("tests", "wheel"))
        for patch in (self.script.parent / "patches").iterdir():
            patch.unlink()
        (self.script.parent / "patches/0001.patch").touch()
        tools = box.path / "tools"
        venv = self.cache / "venv-1.12.1-1.13.0/bin"
        self.compiled = box.path / "compiled"
        self._programs(tools, dict.fromkeys(("gcc", "flex", "bison", "patch", "xz", "pkg-config"), "#!/bin/sh\n"))
        self._programs(venv, {"ninja": NINJA, "meson": "#!/bin/sh\n"})
        self.source = box.path / "qemu.tar"
        self._programs(box.path / "qemu-10", {"configure": "#!/bin/sh\nsleep 0.1; touch build.ninja\n"})
        with tarfile.open(self.source, "w") as archive:
            archive.add(box.path / "qemu-10", "qemu-10")
        box.environment |= {
            "SEVKIT_CACHE_DIR": str(box.path / "cache"),
            "PATH": f"{tools}:{os.environ['PATH']}",
            "COMPILED": str(self.compiled),
        }
        self.sha = subprocess.check_output(["sha256sum", self.source]).split()[0].decode()

    @staticmethod
    def _programs(folder: Path, programs: dict[str, str]) -> None:
        folder.mkdir(parents=True)
        for name, text in programs.items():
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)

    def start(self, *options: str) -> "subprocess.Popen[bytes]":
        argv = [str(self.script), "--source", str(self.source), "--source-sha256", self.sha, *options]
        return self.box.start(argv, start_new_session=True)

    def run(self, *options: str) -> tuple[int, str]:
        out, err = (process := self.start(*options)).communicate(timeout=120)
        return process.returncode, out.decode().strip() or err.decode()

    def check(self) -> None:
        """What is there under its final name is whole; what is not whole is gone or used again."""
        status, path = self.run("--print-path")
        if status == 0:
            assert Path(path).read_text() == BINARY
        else:
            assert status == 4
        for link in self.cache.glob("current"):
            assert (link / "bin/qemu-system-x86_64").read_text() == BINARY


@pytest.fixture
def build(box: Sandbox) -> Build:
    return Build(box)


@not_in_the_container("nothing in /tmp can be run in the container")
@pytest.mark.parametrize("kind", SIGNALS)
@pytest.mark.parametrize("number", range(COUNT))
def test_a_build_of_the_emulator_is_killed(number: int, kind: signal.Signals, build: Build) -> None:
    """Only the script is hit, as by `kill PID`; Ctrl-C reaches its whole group."""
    moment = random.Random(f"{SEED} {number} {kind}").uniform(0.0, 1.5)
    build.box.environment["SLOW"] = "60"
    process = build.start()
    time.sleep(moment)
    (os.killpg if kind == signal.SIGINT else os.kill)(process.pid, kind)
    process.communicate(timeout=60)
    build.box.settle()
    build.box.environment["SLOW"] = "0.1"
    build.check()
    status, path = build.run()
    assert status == 0, path
    assert Path(path).read_text() == BINARY
    assert sorted(each.name for each in build.cache.glob(".*")) == []
    assert build.run() == (0, path)


@not_in_the_container("nothing in /tmp can be run in the container")
def test_builds_of_the_emulator_at_once_compile_it_once(build: Build) -> None:
    processes = [build.start() for _ in range(4)]
    results = [(process.communicate(timeout=120)[0], process.returncode) for process in processes]
    assert len(set(results)) == 1
    assert results[0][1] == 0
    assert build.compiled.read_text() == "compiled\n"
    build.check()


@not_in_the_container("nothing in /tmp can be run in the container")
def test_a_build_goes_on_where_the_one_that_it_waited_for_is_killed(build: Build) -> None:
    first = build.start()
    until(build.compiled.exists, "the first build compiles nothing")
    second = build.start()
    time.sleep(0.05)
    first.kill()
    out, err = second.communicate(timeout=120)
    first.communicate(timeout=60)
    assert second.returncode == 0, err
    assert Path(out.decode().strip()).read_text() == BINARY


@pytest.mark.guest
@pytest.mark.parametrize("number", range(COUNT))
@pytest.mark.parametrize("kind", SIGNALS)
def test_a_leak_run_on_qemu_is_killed(
    kind: signal.Signals, number: int, box: Sandbox, request: pytest.FixtureRequest
) -> None:
    """At any moment of a run that takes 5 to 10 seconds; one whose moment comes too late has ended well."""
    request.getfixturevalue("qemu")
    chance = random.Random(f"{SEED} leak {number} {kind}")
    capture = chance.choice(["live", "gcore"]) if shutil.which("gdb") else "live"
    process = box.start([sys.executable, "-m", "sevkit", *LEAK, "--capture", capture])
    time.sleep(chance.uniform(0.1, 9.0))
    process.send_signal(kind)
    out, err = process.communicate(timeout=120)
    assert process.returncode in (0, -kind, 130), (process.returncode, out, err)
    assert b"Traceback" not in err
    assert box.left() == "nothing"
