"""A run of sevkit in a world of its own, of which everything that is left behind can be found.

Its temporary files, state and home are in one directory; its processes carry the directory's name in their
environment, down to grandchildren that lost their parents.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.waiting import until

ROOT = Path(__file__).resolve().parents[2]
SECRET = re.compile(rb"SEVKIT-(?:file|anonymous|environment|kernel-log)-[0-9a-f]{64}")


def _heed_signals() -> None:
    """A shell without job control has what it runs in the background ignore Ctrl-C; nohup ignores SIGHUP."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


class Sandbox:
    """Directories, environment, processes and leftovers of runs."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.temporary, self.state, self.home = (path / name for name in ("tmp", "state", "home"))
        for folder in (self.temporary, self.state, self.home):
            folder.mkdir(mode=0o700)
        from sevkit.paths import cache_dir

        self.environment = {
            **os.environ,
            "HOME": str(self.home),
            "TMPDIR": str(self.temporary),
            "SEVKIT_STATE_DIR": str(self.state),
            "SEVKIT_CACHE_DIR": str(cache_dir()),
            "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        for name in [name for name in self.environment if name.startswith("XDG_")]:
            del self.environment[name]

    def start(self, argv: Sequence[str], **options: Any) -> "subprocess.Popen[bytes]":
        """Start a program in this world, with no signal ignored, whatever the tests themselves were started by."""
        options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        options["preexec_fn"] = _heed_signals
        return subprocess.Popen(list(argv), env=self.environment, cwd=self.path, **options)

    def sevkit(self, *argv: str, before: Sequence[str] = (), timeout: float = 240) -> "Outcome":
        """Run sevkit to its end. ``before``: a program that starts it (unshare, prlimit)."""
        process = self.start([*before, sys.executable, "-m", "sevkit", *argv])
        try:
            out, err = process.communicate(timeout=timeout)
        finally:
            process.kill()
        return Outcome(process.returncode, out, err)

    def processes(self) -> dict[int, str]:
        """Processes of this world that still run: PID and command line."""
        mine = os.fsencode(str(self.state))
        found = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            try:
                if mine in (entry / "environ").read_bytes():
                    found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
        return found

    def end(self) -> None:
        """Kill what still runs in this world; what is stopped dies of SIGKILL too."""
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def settle(self) -> None:
        """Wait until no process of this world is left."""
        until(lambda: not self.processes(), lambda: f"still running: {self.processes()}")

    def files(self) -> list[str]:
        """Files that are left, but for the registry's lock and what Python and libraries cache for themselves."""
        found = [path for path in self.path.rglob("*") if not path.is_dir()]
        names = [str(path.relative_to(self.path)) for path in found]
        return [name for name in names if not name.endswith("/.lock") and "matplotlib" not in name]

    def secrets(self) -> list[str]:
        """Files in which a planted secret stands."""
        found = []
        for path in self.path.rglob("*"):
            if path.is_file() and not path.is_symlink() and SECRET.search(path.read_bytes()):
                found.append(str(path.relative_to(self.path)))
        return found

    def left(self) -> str:
        """What a run has left behind, in words for the table."""
        self.settle()
        unsafe = self.secrets()
        assert not unsafe, f"secrets were left in {unsafe}"
        # A VMM that is being killed still counts while the kernel takes its memory apart.
        until(lambda: not self.sevkit("guest", "list", "--json").data["guests"], "guests are left")
        files = self.files()
        assert not files, f"left behind: {files}"
        return "nothing"


class Outcome:
    """How a run of sevkit ended."""

    def __init__(self, status: int, out: bytes, err: bytes) -> None:
        self.status, self.out, self.err = status, out, err

    @property
    def envelope(self) -> dict[str, Any]:
        return json.loads(self.out)

    @property
    def data(self) -> Any:
        return self.envelope["data"]

    @property
    def words(self) -> str:
        """For the table: the exit code, and the kind of the error or the verdict."""
        envelope = self.envelope
        if envelope["errors"]:
            kind = envelope["errors"][0]["kind"]
            assert kind != "SevkitError", envelope["errors"]  # the kind of defects and of causes nobody thought of
            return f"exit {self.status}, `{kind}`"
        verdicts = [e["verdict"] for e in (envelope["data"] or {}).get("experiments", [])]
        return f"exit {self.status}, {', '.join(verdicts) or 'done'}"


class Stepped:
    """A leak run that waits before each phase until it is told to go on (see stepper.py)."""

    def __init__(self, box: Sandbox, **setup: Any) -> None:
        self.process = box.start([sys.executable, str(Path(__file__).with_name("stepper.py")), json.dumps(setup)])

    def reach(self, phase: str) -> int:
        """Go on to the point before ``phase``; returns the PID of the VMM (0 while there is none)."""
        assert self.process.stdout is not None
        assert self.process.stdin is not None
        while True:
            line = self.process.stdout.readline()
            if not line:
                _, err = self.process.communicate(timeout=60)
                raise AssertionError(f"ended before {phase}: status {self.process.returncode}: {err.decode()}")
            said = json.loads(line)
            if phase in said.get("phase", ""):
                return int(said["pid"])
            self.go()

    def go(self) -> None:
        """Let it run on."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.communicate()

    def end(self) -> str:
        """Go through all other phases; how it ended, in words for the table."""
        out, err = self.process.communicate(b"\n" * 20, timeout=180)
        last = out.splitlines()[-1]
        said = json.loads(last)
        assert "words" in said, (out, err)
        return str(said["words"])


@pytest.fixture
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A world of its own, under a short name: what is below it has to fit into the 107 bytes of a socket's.

    It ends with the test: a test that fails leaves no detached guest, and no process that it stopped.
    """
    world = Sandbox(tmp_path_factory.mktemp("box"))
    yield world
    world.end()
