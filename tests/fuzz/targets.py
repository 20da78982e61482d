"""The readers of foreign bytes. Each may refuse its input by a SevkitError, and by nothing else; laws hold as well."""

import contextlib
import functools
import gzip
import json
import os
import socket
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sevkit.errors import SevkitError

CORPUS = Path(__file__).parent / "corpus"
_PAGE = 4096


@dataclass(frozen=True)
class Target:
    """A reader. ``packages`` are what atheris instruments; ``quick`` is the number of inputs of a run as a test."""

    name: str
    read: Callable[[bytes], None]
    packages: tuple[str, ...] = ("sevkit",)
    quick: int = 400

    @property
    def corpus(self) -> Path:
        """Where its inputs are kept."""
        return CORPUS / self.name

    def run(self, data: bytes) -> None:
        """Give it an input. A refusal is fine; anything else that is raised is a find."""
        with contextlib.suppress(SevkitError):
            self.read(data)


@contextlib.contextmanager
def _file(data: bytes) -> Iterator[Path]:
    """A file of these bytes that nobody can write to, so that it may be leased."""
    writable = os.memfd_create("fuzz")
    try:
        os.write(writable, data)
        descriptor = os.open(f"/proc/self/fd/{writable}", os.O_RDONLY)
    finally:
        os.close(writable)
    try:
        yield Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def _now_and_then(data: bytes) -> bool:
    """One input of eight: for laws that cost more than the reader itself."""
    return zlib.crc32(data) % 8 == 0


def _core(data: bytes) -> None:
    """An ELF core: what is read lies inside what it claims, nothing is read twice, and searches account for all."""
    from sevkit.memory.search.patterns import Pattern
    from sevkit.memory.search.scan import scan
    from sevkit.memory.sources.base import State
    from sevkit.memory.sources.core import CoreMemory

    with _file(data) as path, CoreMemory(path) as core:
        previous = -1
        for stretch in core.stretches():
            assert previous <= stretch.start < stretch.end <= 1 << 64
            previous = stretch.end
        list(core.regions())
        buffer = bytearray(3 * _PAGE)
        for stretch in list(core.stretches())[:32]:
            if stretch.state == State.DATA:
                got = core.readinto(stretch.start, memoryview(buffer)[: min(len(buffer), stretch.size)])
                assert got > 0
        for patterns in ([Pattern(b"needle")], [Pattern(b"needle"), Pattern(b"n..dle", regex=True)]):
            coverage = scan(core, patterns, threads=1).coverage
            assert coverage.mapped_bytes == coverage.read_bytes + coverage.unreadable_bytes


def _facts(data: bytes) -> None:
    """A CPUID dump, or a host that was saved: whatever is accepted can be judged."""
    from sevkit.probe.answer import judge
    from sevkit.probe.sources import facts_from

    judge(facts_from(data, "fuzz")).to_json()


def _log(data: bytes) -> None:
    """A kernel log: quoting or colouring it changes no verdict."""
    from sevkit.probe.klog import judge, read_log

    lines = read_log(data, "fuzz")
    found = judge(lines)
    json.dumps(found)
    if max(map(len, lines)) < 10_000 and zlib.crc32(data) % 2:
        assert judge([f"> {line}" for line in lines]) == found
        assert judge([f"\x1b[32m{line}\x1b[0m" for line in lines]) == found
    if _now_and_then(data) and b"\0" not in data[:4096]:
        text = "\n".join(lines)
        for dressed in (gzip.compress(text.encode(), 1), text.encode("utf-16"), text.encode("utf-8-sig")):
            assert judge(read_log(dressed, "fuzz")) == found


def _text(data: bytes) -> None:
    """Text in any dress: what is accepted is text, and is the same text when it is read again."""
    from sevkit import textfile

    found = textfile.plain(data, "fuzz", 1 << 20)
    assert len(found) <= 3 << 19  # UTF-16 may take half as much again in UTF-8
    assert not {0, 13} & set(found)
    if not found.startswith(
        (b"\x1f\x8b", b"BZh", b"\xfd7z", b"\x28\xb5", b"PK", b"7z", b"\xff\xfe", b"\xfe\xff", b"\xef\xbb")
    ):
        assert textfile.plain(found, "fuzz", 2 << 20) in (found, found.removeprefix(b"\xef\xbb\xbf"))


def _dump(data: bytes) -> None:
    """A CPUID dump: quoting it changes nothing."""
    from sevkit.probe.dumps import read_dump

    plain = data.decode("utf-8", "replace").replace("\ufffd", "?")
    found = read_dump(plain.encode())
    assert all(0 <= value < 1 << 32 for cpu in found.cpus for registers in cpu.leaves.values() for value in registers)
    if "\r" not in plain and "\x1b" not in plain and "\ufeff" not in plain:
        assert read_dump("\n".join(f"> {line}" for line in plain.split("\n")).encode()) == found


def _bundle(data: bytes) -> None:
    """A tar archive of somebody's reports: whatever is accepted can be judged."""
    from sevkit.probe.answer import judge
    from sevkit.probe.bundle import read_bundle

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.tar"
        path.write_bytes(data)
        judge(read_bundle(str(path))).to_json()


def _foreign(data: bytes) -> None:
    """Output of other programs: its readings have the shape that checks rely on."""
    from sevkit.probe.answer import judge
    from sevkit.probe.bundle import facts_of_text

    name, _, text = data.partition(b"\n")
    facts = facts_of_text(text, name.decode("utf-8", "replace"))
    if facts and _now_and_then(data):
        judge(facts).to_json()


def _launch(data: bytes) -> None:
    """A command line of QEMU, a domain of libvirt, or what they printed."""
    from sevkit.hypervisor.lint import answer
    from sevkit.hypervisor.lint.rules import Host

    text = data.decode("utf-8", "replace")
    twice = [("a", text), ("b", text)] if _now_and_then(data) else [("a", text)]
    json.dumps(answer.lint(twice, [], text, Host(51)))


def _monitor(data: bytes) -> None:
    """The text of QEMU's monitor: ranges that come out of it do not overlap in guest memory."""
    from sevkit.memory.guest_ram.layout import GuestMap
    from sevkit.memory.guest_ram.qemu_layout import guest_ranges, parse_gpa2hva

    text = data.decode(errors="replace")
    first, _, second = text.partition("\0")
    GuestMap(guest_ranges(first, second, ["ram0"]))
    parse_gpa2hva(text)


def _qmp(data: bytes) -> None:
    """A peer on the QMP socket that says anything."""
    from sevkit.memory.guest_ram.qemu_layout import guest_map

    with _peer(data) as path:
        guest_map(path, timeout=0.3)


def _agent(data: bytes) -> None:
    """A guest's agent that answers anything: `ID` in the input is what it was asked under."""
    from sevkit.guest.channel import AgentChannel

    with _peer(data, answering=True) as path:
        done = AgentChannel(path, lambda: True).run("true", timeout=0.3)
        assert len(done.stdout) + len(done.stderr) <= len(data) + 64


@contextlib.contextmanager
def _peer(data: bytes, *, answering: bool = False) -> Iterator[Path]:
    """A socket with someone behind it who sends these bytes and closes."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder, socket.socket(socket.AF_UNIX) as listener:
        path = Path(folder) / "socket"
        listener.bind(str(path))
        listener.listen(1)
        listener.settimeout(5)

        def serve() -> None:
            with contextlib.suppress(OSError):
                connection, _ = listener.accept()
                with connection:
                    connection.settimeout(1)
                    said = connection.recv(1 << 16) if answering else b""
                    words = said.split()
                    ident = words[1] if len(words) > 1 else b"0"
                    connection.sendall(data.replace(b"ID", ident))
                    time.sleep(0.005)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield path
        thread.join(5)


def _record(data: bytes) -> None:
    """A guest's record in the registry, and the spec in it."""
    from sevkit.guest.spec import from_dict
    from sevkit.hypervisor import registry

    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        place = Path(folder) / "g"
        place.mkdir(mode=0o700)
        for name in ("guest.json", "owner", "vmm.mark"):
            (place / name).write_bytes(data)
            (place / name).chmod(0o600)
        found = registry._read(place)
        if found is not None:
            assert found.name == "g"
            from_dict(found.spec)
        registry._process(place / "owner")


def _results(data: bytes) -> None:
    """A results directory: the header and the records, either of which may be anything."""
    from sevkit.bench import store

    header, _, records = data.partition(b"\n\n")
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        (Path(folder) / store.HEADER).write_bytes(header)
        (Path(folder) / store.RECORDS).write_bytes(records)
        campaign = store.load(Path(folder))
        assert len(campaign.damage) <= store.MOST_COMPLAINTS + 1


def _imported(data: bytes) -> None:
    """Results of other tools: fio, hyperfine, pyperf, tables; the name of the file says which."""
    from sevkit.bench.imports.files import Given, read_folder

    names = ("iops_randread-nvme-sev.json", "table-sev.csv", "x-sev.xml", "x-sev.log")
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir="/dev/shm") as folder:
        (Path(folder) / names[zlib.crc32(data) % len(names)]).write_bytes(data)
        read_folder(Path(folder), Given())


def _report(data: bytes) -> None:
    """An attestation report, a save area, an RMP entry: blobs of a fixed layout."""
    from sevkit.model import report, vmsa

    with contextlib.suppress(ValueError):  # the model is pure and knows no SevkitError
        fields = report.parse(data)
        assert sum(1 for value in fields.values() if isinstance(value, int)) > 5
    vmsa.unpack(data)
    if len(data) == _PAGE:
        assert vmsa.unprotect(vmsa.protect(data, bytes(8)))[:16] == data[:16]


def _smaps(data: bytes) -> None:
    """/proc/PID/smaps: names in it are the process's own."""
    from sevkit.memory.sources.mappings import parse

    list(parse(data.decode(errors="replace")))


def _module(data: bytes) -> None:
    """A kernel module or program out of a package."""
    from sevkit.guest import debian

    debian.module_dependencies(data)
    with _file(data) as path:
        debian._dynamic(path)


def _spec(data: bytes) -> None:
    """What users give: names, policies, options for QEMU."""
    from sevkit.guest import policy
    from sevkit.guest.spec import GuestSpec
    from sevkit.vocabulary import Mode

    text = data.decode(errors="replace")
    for mode in Mode:
        with contextlib.suppress(SevkitError):
            assert 0 <= policy.parse(text, mode) < 1 << 64
    for key in ("name", "cpu", "qemu_machine"):
        with contextlib.suppress(SevkitError):
            GuestSpec(**{key: text})
            assert not set(text) & set(" \n\t/'\"\\;|&$`\0"), key


def _facts_of_guest(data: bytes) -> None:
    """What a guest says of itself."""
    from sevkit.guest import verify
    from sevkit.guest.result import CommandResult

    class Guest:
        def run(self, command: object, **options: object) -> CommandResult:
            return CommandResult(0, data, b"")

    verify.collect(Guest()).log_lines  # type: ignore[arg-type]


def _evidence(data: bytes) -> None:
    """A file that may hold an attestation report: what is no genuine report is never accepted."""
    import datetime as dt

    from sevkit.attestation.report.certificates import store_of
    from sevkit.attestation.report.evidence import read
    from sevkit.attestation.report.finding import Trust
    from sevkit.attestation.report.verify import verify

    evidence = read(data)
    found = verify(evidence, store_of({}), now=dt.datetime(2026, 11, 1, tzinfo=dt.UTC))
    json.dumps(found.as_dict())
    assert found.verdict is not Trust.ACCEPTED or evidence.report in _genuine()


@functools.cache
def _genuine() -> set[bytes]:
    """The reports of the corpus: only what they hold unchanged may be accepted."""
    from sevkit.attestation.report.evidence import read

    files = [path for path in (CORPUS / "evidence").iterdir() if not path.name.startswith("find")]
    return {read(path.read_bytes()).report for path in files}


def _table(data: bytes) -> None:
    """A certificate table: no byte belongs to two entries, and what is read can be written."""
    from sevkit.attestation.report import certtable

    found = certtable.read(data)
    assert sum(map(len, found.values())) <= len(data)
    if set(found) <= set(certtable.KNOWN.values()):
        assert certtable.read(certtable.write(found)) == found


def _id_block(data: bytes) -> None:
    """An ID block with its authentication page."""
    from sevkit.attestation.measure import idblock

    size = idblock.BLOCK_SIZE
    idblock.verify(data[:size], data[size : size + idblock.AUTH_SIZE].ljust(idblock.AUTH_SIZE, b"\0"))


def _certificates(data: bytes) -> None:
    """A certificate file: PEM, DER, a table, or a revocation list."""
    from sevkit.attestation.report.certificates import load

    certificates, _ = load(data)
    for certificate in certificates:
        assert certificate.role
        with contextlib.suppress(SevkitError):
            certificate.endorsement.tcb.components()


def _policy(data: bytes) -> None:
    """A relying party's policy."""
    from sevkit.attestation.report.policy import read

    read(data)


def _igvm(data: bytes) -> None:
    """An IGVM file; its checksum is made right, so that what is behind it is read."""
    import struct
    import zlib

    from sevkit.attestation.measure import igvm

    if data[:4] == b"IGVM" and len(data) >= 24:
        _, start, size = struct.unpack_from("<III", data, 4)
        head = data[: 24 if data[4] == 1 else 32]
        total = len(data).to_bytes(4, "little")
        checksum = zlib.crc32(head[:16] + total + bytes(4) + head[24:] + data[start : start + size])
        data = data[:16] + total + checksum.to_bytes(4, "little") + data[24:]
    assert len(igvm.measure(igvm.parse(data)).digest) == 48


def _firmware(data: bytes) -> None:
    """An OVMF image: its footer table and metadata."""
    from sevkit.model.digest import LaunchInputs, launch_digest
    from sevkit.vocabulary import Mode

    for mode in (Mode.SEV, Mode.SEV_ES, Mode.SEV_SNP):
        with contextlib.suppress(SevkitError):
            launch_digest(LaunchInputs(mode, data, 2))


TARGETS = {
    target.name: target
    for target in (
        Target("core", _core),
        Target("facts", _facts),
        Target("klog", _log),
        Target("text", _text),
        Target("dump", _dump),
        Target("bundle", _bundle, quick=150),
        Target("foreign", _foreign),
        Target("launch", _launch),
        Target("monitor", _monitor),
        Target("qmp", _qmp, ("sevkit", "qemu"), quick=12),
        Target("agent", _agent, quick=25),
        Target("record", _record),
        Target("results", _results, quick=200),
        Target("imported", _imported, quick=150),
        Target("report", _report),
        Target("evidence", _evidence, quick=150),
        Target("certificates", _certificates),
        Target("table", _table),
        Target("idblock", _id_block),
        Target("policy", _policy),
        Target("igvm", _igvm),
        Target("firmware", _firmware, quick=150),
        Target("smaps", _smaps),
        Target("module", _module, ("sevkit", "elftools")),
        Target("spec", _spec),
        Target("guest", _facts_of_guest),
    )
}
