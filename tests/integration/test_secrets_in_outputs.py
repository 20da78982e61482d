"""No command gives away a secret that it was given, or that a guest holds: the whole table of commands.

Each command either runs here, on a guest and on files that hold secrets, or is named with the reason why it meets none.
A new command fails this test until it has its line. Searched: standard output and error (as text, JSON, and with
--debug), reports, the state, cache and temporary directories, /dev/shm, and the command lines and environments of all
processes, sevkit's helpers and VMMs among them.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from sevkit.cli.tree import root
from tests.integration.sandbox import Sandbox
from tests.integration.watch import Watch, contents, shapes
from tests.unit.elf import Load, core

SECRET = b"SEVKIT-file-" + os.urandom(16).hex().encode()
PAIR = ("--mode", "sev-snp", "--vcpus", "1", "--vcpu-type", "EPYC-v4", "--ovmf", "{ovmf}")
HARMLESS = "shows only what is in its own tables"
NO_SECRET = "reads files of measurements, configurations or logs"
STARTS = "starts or builds what has no secret yet"
PASSES_ON = "is the guest's own terminal"

# command -> how it is run here, or why not. {secrets}: the file with the secret, {core}: a core with it in guest RAM.
COMMANDS: dict[str, tuple[str, ...] | str] = {
    "attack run": ("leak", "--hypervisor", "mock", "--modes", "nosev", "--memory", "64", "--report", "{out}/leak.html"),
    "attack matrix": ("--level", "model"),
    "bench": NO_SECRET,  # a name of a group stands for all its commands that are not named
    "doctor": (),
    "emulator status": (),
    "guest exec": ("g", "--", "true"),
    "guest list": (),
    "guest lint": ("--pid", "{pid}"),
    "guest log": ("g",),
    "guest verify": ("g",),
    "guest attest": ("g",),
    "guest snapshot": ("g", "{out}/g.lime"),
    "measure idblock": (*PAIR, "--id-key", "{key}", "--output", "{out}"),
    "memory extract": ("--core", "{core}", "-o", "{out}/guest.lime"),
    "memory map": ("--guest", "g", "--secrets-file", "{secrets}", "-o", "{out}/map.html"),
    "scan": ("--guest", "g", "--secrets-file", "{secrets}", "--wide"),
    "top": ("--once",),
    **dict.fromkeys(("attack explain", "attack list", "lab", "schema", "completion"), HARMLESS),
    **dict.fromkeys(("report", "report-check", "measure explain", "probe diff", "tcb"), NO_SECRET),
    **dict.fromkeys(("guest launch", "guest restore", "guest run", "emulator build", "container"), STARTS),
    **dict.fromkeys(("guest certificates", "guest reboot", "guest resume", "guest suspend", "guest stop"), NO_SECRET),
    **dict.fromkeys(("guest console", "guest ssh", "guest copy"), PASSES_ON),
}
# Groups that run without a subcommand.
ALSO = {"probe": (), "measure": PAIR}
MORE = [
    ("scan", "--core", "{core}", "--secrets-file", "{secrets}"),
    ("scan", "--core", "{core}", "--secrets-file", "{secrets}", "--regex", "SEVKIT-f[a-z]+-[0-9a-f]+"),
    ("scan", "--core", "{core}", "--secrets-file", "{secrets}", "--max-hits", "1"),
    ("scan", "--core", "{secrets}", "--secrets-file", "{secrets}"),
    ("scan", "--core", "{missing}", "--secrets-file", "{secrets}"),
    ("scan", "--guest", "g", "--secrets-file", "{list}"),
    ("scan", "--core", "{core}", "--secrets-file", "{zero}"),
    ("memory", "map", "--core", "{core}", "--secrets-file", "{secrets}", "-o", "{out}/map.json"),
    ("memory", "map", "--core", "{core}", "--secrets-file", "{secrets}"),
    ("measure", "idblock", *PAIR, "--id-key", "{secrets}", "--output", "{out}"),
    ("measure", "idblock", *PAIR, "--id-key", "{key}", "--author-key", "{half}", "--output", "{out}"),
    ("report", "show", "{secrets}"),
    ("guest", "launch", "--hypervisor", "qemu", "--dry-run", "--ssh-key", "{key}"),
    ("bench", "report", "{secrets}"),
]


def leaves(command: click.Command, path: str = "") -> Iterator[str]:
    """All commands of the table that have no subcommands."""
    if not isinstance(command, click.Group):
        yield path
        return
    for name in command.list_commands(context := click.Context(command)):
        below = command.get_command(context, name)
        assert below is not None
        yield from leaves(below, f"{path} {name}".strip())


def test_each_command_has_its_line() -> None:
    table = list(leaves(root))
    assert [name for name in table if name not in COMMANDS and name.split()[0] not in COMMANDS] == []
    assert [name for name in COMMANDS if not any(f"{leaf} ".startswith(f"{name} ") for leaf in table)] == []


@pytest.fixture
def given(box: Sandbox, tmp_path: Path) -> Iterator[dict[str, str]]:
    """Files with the secret and with a private key, outside of what is searched; and a running guest with the secret."""
    files = {name: tmp_path / name for name in ("secrets", "core", "key", "half", "list", "zero", "ovmf")}
    files["secrets"].write_bytes(SECRET + b"\n")
    files["list"].write_bytes(b"\n".join([b"another-%d" % n for n in range(50)] + [SECRET]))
    files["zero"].write_bytes(SECRET + b"\0\n")
    files["core"].write_bytes(core([Load(0x10000000, (SECRET * 3).ljust(16 << 20, b"\0"))]))
    key = ec.generate_private_key(ec.SECP384R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    files["key"].write_bytes(key)
    files["half"].write_bytes(key[: len(key) // 2])
    files["ovmf"].write_bytes(bytes(1 << 20))
    (box.path / "out").mkdir(mode=0o700)
    launched = box.sevkit(
        "guest", "launch", "--hypervisor", "mock", "--memory", "64", "--name", "g", "--detach", "--json"
    )
    assert launched.status == 0, launched.err
    try:
        yield _planted(box, files)
    finally:
        box.sevkit("guest", "stop", "--all")


def _planted(box: Sandbox, files: dict[str, Path]) -> dict[str, str]:
    process = box.start([*_sevkit(), "guest", "exec", "-i", "g", "tee", "/root/secret"])
    process.communicate(SECRET, timeout=60)
    assert process.returncode == 0
    pid = box.sevkit("guest", "list", "--json").data["guests"][0]["pid"]
    return {
        **{name: str(path) for name, path in files.items()},
        "out": str(box.path / "out"),
        "pid": str(pid),
        "missing": str(box.path / "no-such-core"),
    }


def _sevkit() -> list[str]:
    import sys

    return [sys.executable, "-m", "sevkit"]


def _runs() -> Iterator[tuple[str, ...]]:
    for command, words in {**COMMANDS, **ALSO}.items():
        if not isinstance(words, str):
            yield (*command.split(), *words)
    yield from MORE


def test_no_command_gives_a_secret_away(box: Sandbox, given: dict[str, str]) -> None:
    key = Path(given["key"]).read_bytes()
    wanted = [*shapes(SECRET), SECRET[12:28], *key.splitlines()[1:-1]]
    found = box.sevkit("scan", "--guest", "g", "--secrets-file", given["secrets"], "--json")
    assert found.data["hits"], "the guest holds no secret: nothing would be tested"
    with Watch(box) as watch:
        for words in _runs():
            argv = [word.format(**given) for word in words]
            ways = [("--debug", *argv, "--json")] + [tuple(argv)] * (words not in MORE)
            for done in (box.sevkit(*way) for way in ways):
                assert done.status < 6, (argv, done.err)
                for shape in wanted:
                    assert shape not in done.out + done.err, (argv, shape)
            _forget_meant_outputs(box.path / "out")
    for seen in [*watch.seen, *contents(box)]:
        for shape in wanted:
            assert shape not in seen, seen[max(0, seen.index(shape) - 200) :][:400]
    assert box.sevkit("guest", "stop", "g").status == 0


def _forget_meant_outputs(folder: Path) -> None:
    """A file of guest RAM is meant to hold what the guest holds: only its owner may read it."""
    for path in folder.glob("*.lime"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        path.unlink()
