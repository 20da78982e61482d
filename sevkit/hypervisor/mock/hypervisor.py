"""The mock hypervisor: the software model in real processes, whose memory a host can dump."""

import contextlib
import hashlib
import os
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sevkit import __version__, processes, procfs
from sevkit.errors import BadInputError, DeadlineError, GuestError, HypervisorError, UsageError
from sevkit.guest import secrets
from sevkit.guest import spec as spec_module
from sevkit.guest.result import CommandResult
from sevkit.guest.spec import Accel, GuestSpec, StorageKind
from sevkit.hypervisor import registry
from sevkit.hypervisor.mock import wire
from sevkit.hypervisor.mock.layout import SHARED_SIZE
from sevkit.hypervisor.protocols import Availability, RamBlock
from sevkit.vocabulary import Mode, Provenance

_ACCEL = "model"
_SPREAD = 2 << 20  # guest RAM is mapped in units of this, so that 2 MiB pages fit


class MockGuest:
    """A guest of the mock: a VMM process that holds its RAM, and a process that represents the SoC."""

    def __init__(self, record: registry.Record, spec: GuestSpec, processes: "Sequence[Any]" = ()) -> None:
        self._record = record
        self._spec = spec
        self._processes = processes
        self._folder = registry.folder(record.name)

    name = property(lambda self: self._record.name)
    spec = property(lambda self: self._spec)
    provenance = property(lambda _: Provenance.MOCK)
    pid = property(lambda self: self._record.pid)
    accel = property(lambda _: _ACCEL)
    command_line = property(lambda self: self._record.command_line)
    confounds = property(lambda _: ())
    versions = property(lambda _: {"model": __version__})
    notes = property(lambda self: self._record.notes)

    def run(
        self, command: str | Sequence[str], *, stdin: bytes = b"", timeout: float = 60.0, private: bool = False
    ) -> CommandResult:
        """Run a command in the guest: through the VMM and shared guest memory, or ``private`` past the VMM."""
        words = command if isinstance(command, str) else list(command)
        request = {"op": "run", "command": words, "stdin": wire.pack(stdin)}
        answer = self._ask(request, timeout, "soc" if private else "vmm")
        return CommandResult(answer["status"], wire.unpack(answer["stdout"]), wire.unpack(answer["stderr"]))

    def plant(self, nonce: bytes) -> None:
        """Have the guest derive its secrets from a public nonce and keep one in every place."""
        before, after = secrets.MARKERS
        secrets.mark_shared(self, nonce, before)
        self._ask({"op": "plant", "nonce": nonce.hex()})
        secrets.mark_shared(self, nonce, after)

    def holds(self, nonce: bytes) -> dict[str, bool]:
        """For every place, whether the guest still reads its secret there."""
        places = self._ask({"op": "holds", "nonce": nonce.hex()})["places"]
        return {str(place): bool(held) for place, held in places.items()}

    def write_back(self) -> None:
        """Nothing to do: the mock's guest writes through."""

    def word(self) -> secrets.GuestWord:
        """What the guest says of its memory."""
        told = self._ask({"op": "word"})
        return secrets.GuestWord(int(told["used_pages"]), tuple(int(page) for page in told["secret_pages"]))

    def put(self, source: Path, target: str) -> None:
        """Copy a file into the guest."""
        self._ask({"op": "put", "path": target, "data": wire.pack(source.read_bytes())}, door="soc")

    def get(self, source: str, target: Path) -> None:
        """Copy a file out of the guest."""
        target.write_bytes(wire.unpack(self._ask({"op": "get", "path": source}, door="soc")["data"]))

    def ram_blocks(self) -> Sequence[RamBlock]:
        """The guest's RAM in the VMM; under SEV-SNP the private part lies outside of it."""
        (block,) = self._ask({"op": "ram"})["blocks"]
        size, address = int(block["size"]), int(block["host_address"])
        if self._spec.mode is not Mode.SEV_SNP:
            return [RamBlock("mock.ram", 0, size, address)]
        private = size - SHARED_SIZE
        return [
            RamBlock("mock.ram.shared-view", 0, private, address),
            RamBlock("mock.ram.shared", private, SHARED_SIZE, address + private),
        ]

    def private_blocks(self) -> Sequence[RamBlock]:
        """The mock's VMM maps no private pages."""
        return []

    def console(self) -> str:
        """The console so far."""
        return str(self._ask({"op": "console"})["text"])

    def alive(self) -> bool:
        """Whether the VMM still runs."""
        return self._record.alive()

    def stop(self) -> None:
        """End both processes and remove the guest's folder."""
        if self._processes:
            for process in self._processes:
                processes.stop(process)
        elif self.alive():
            processes.end(self._record.pid, self._record.start_time)  # the SoC ends when its VMM does
        registry.forget(self._record.name)

    def _ask(self, message: dict[str, Any], timeout: float = 60.0, door: str = "vmm") -> dict[str, Any]:
        path = self._folder / door
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(timeout)
                connection.connect(str(path))
                answer = wire.ask(connection, message)
        except TimeoutError as error:
            raise DeadlineError(f"the mock guest {self.name} did not answer within {timeout:g} s") from error
        except OSError as error:
            raise GuestError(f"the mock guest {self.name} is gone: {error.strerror}") from error
        if answer is None:
            raise GuestError(f"the mock guest {self.name} ended while it answered")
        if "error" in answer:
            raise GuestError(f"the mock guest {self.name}: {answer['error']}")
        return answer


class MockHypervisor:
    """Runs guests in the software model. The same ``seed`` gives the same keys and the same ciphertext."""

    name = "mock"

    def __init__(self, seed: int = 1) -> None:
        self.seed = seed

    def availability(self, mode: Mode) -> Availability:
        """Every mode, on any Linux."""
        able = sys.platform == "linux"
        return Availability(mode, able, "the software model runs every mode" if able else "needs Linux")

    def command_line(self, spec: GuestSpec) -> Sequence[str]:
        """The command line of the VMM process; raises UsageError for what the mock lacks, as a launch does."""
        _refuse_what_it_lacks(spec)
        options = {"name": spec.name, "mode": str(spec.mode), "memory": str(_memory(spec))}
        return ["python3", "-m", "sevkit.hypervisor.mock.vmm", *_options(options)]

    def launch(self, spec: GuestSpec, *, detach: bool = False, timeout: float = 120.0) -> MockGuest:
        """Start the two processes and wait until the guest answers."""
        command = list(self.command_line(spec))
        folder = registry.claim(spec.name)
        children: list[Any] = []
        try:
            with contextlib.ExitStack() as stack:
                children = self._start(spec, folder, detach, stack)
            record = _record(spec, children[0].pid, command, detach)
            registry.write(record)
            guest = MockGuest(record, spec, children)
            _wait_ready(guest, children, folder, timeout)
        except BaseException:
            for process in children:
                processes.stop(process)
            registry.forget(spec.name)
            raise
        return guest

    def launch_many(
        self, specs: Sequence[GuestSpec], *, detach: bool = False, timeout: float = 120.0
    ) -> list[MockGuest]:
        """Start several guests; when one fails, all that were started are stopped."""
        guests: list[MockGuest] = []
        try:
            for spec in specs:
                guests.append(self.launch(spec, detach=detach, timeout=timeout))  # noqa: PERF401 - those before a failure count
        except BaseException:
            for guest in guests:
                guest.stop()
            raise
        return guests

    def _start(self, spec: GuestSpec, folder: Path, detach: bool, stack: contextlib.ExitStack) -> list[Any]:
        memory = _memory(spec)
        ram = os.memfd_create(f"sevkit-mock-{spec.name}", os.MFD_CLOEXEC)
        stack.callback(os.close, ram)
        os.ftruncate(ram, memory << 20)
        to_soc, to_vmm = (stack.enter_context(end) for end in socket.socketpair())
        doors = {door: stack.enter_context(_listen(folder / door)).fileno() for door in ("vmm", "soc")}
        seed_out, seed_in = os.pipe()
        stack.callback(os.close, seed_out)
        os.write(seed_in, hashlib.sha256(f"sevkit-mock:{self.seed}:{spec.name}:{spec.mode}".encode()).digest())
        os.close(seed_in)
        vmm = {"ram-fd": ram, "listen-fd": doors["vmm"], "soc-fd": to_soc.fileno()}
        soc = {"ram-fd": ram, "listen-fd": doors["soc"], "vmm-fd": to_vmm.fileno(), "seed-fd": seed_out}
        policy = {} if spec.policy is None else {"policy": spec.policy}
        common = {"mode": str(spec.mode), "memory": memory}
        log = stack.enter_context((folder / "mock.log").open("wb"))
        commands = (
            (_python("vmm", {"name": spec.name, **common, **vmm}), vmm),
            (_python("soc", {**common, "vcpus": spec.vcpus, **policy, **soc}), soc),
        )
        marks = (registry.mark(folder), None)  # the SoC ends when its VMM does
        return [
            processes.start(command, pass_fds=list(descriptors.values()), stderr=log, detach=detach, mark=mark)
            for (command, descriptors), mark in zip(commands, marks, strict=True)
        ]


def attach(record: registry.Record) -> MockGuest:
    """A guest that another process has started, from its record."""
    return MockGuest(record, spec_module.from_dict(record.spec))


def _memory(spec: GuestSpec) -> int:
    """Guest RAM in MiB: a whole number of 2 MiB pages, with room for what the mock guest keeps."""
    if spec.memory_mib < 32:
        raise BadInputError(f"{spec.memory_mib} MiB is too little for a mock guest", hint="give at least 32 MiB")
    return -(-(spec.memory_mib << 20) // _SPREAD) * _SPREAD >> 20


def _options(values: dict[str, Any]) -> list[str]:
    return [text for name, value in values.items() for text in (f"--{name}", str(value))]


def _python(module: str, values: dict[str, Any]) -> list[str]:
    return [sys.executable, "-m", f"sevkit.hypervisor.mock.{module}", *_options(values)]


def _listen(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(str(path))
    except OSError as error:
        listener.close()
        raise UsageError(
            f"cannot make the socket {path}: {error}",
            hint="choose a shorter --name, or point SEVKIT_STATE_DIR at a shorter directory",
        ) from error
    listener.listen(16)
    return listener


def _record(spec: GuestSpec, pid: int, command: list[str], detach: bool) -> registry.Record:
    return registry.Record(
        name=spec.name,
        hypervisor="mock",
        mode=str(spec.mode),
        provenance=str(Provenance.MOCK),
        accel=_ACCEL,
        pid=pid,
        start_time=procfs.process_start_time(pid) or 0,
        detached=detach,
        command_line=command,
        spec=spec_module.to_dict(spec),
        notes=["a software model: no hardware and no emulator is involved, and no image or firmware boots"],
    )


def _wait_ready(guest: MockGuest, processes: Sequence[Any], folder: Path, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while True:
        try:
            guest._ask({"op": "status"}, max(0.1, deadline - time.monotonic()))  # noqa: SLF001 - our own class
        except GuestError:
            if all(process.poll() is None for process in processes) and time.monotonic() < deadline:
                time.sleep(0.01)
                continue
            words = (folder / "mock.log").read_text(errors="replace")
            raise HypervisorError("the mock's processes ended while the guest started", detail=words) from None
        return


def _refuse_what_it_lacks(spec: GuestSpec) -> None:
    """Raise for what only a real guest has: the mock boots nothing, and has no QEMU, no disks and no network."""
    asked = {
        "--image": spec.image != GuestSpec().image,
        "--firmware": spec.firmware is not None,
        "--storage": spec.storage.kind is not StorageKind.NONE,
        "--accel": spec.accel is not Accel.AUTO,
        "--cpu": spec.cpu,
        "--machine": spec.qemu_machine,
        "--cmdline": spec.cmdline,
        "--sev-options": spec.sev_options,
        "--platform-seed": spec.platform_seed,
        "--kernel-hashes": spec.kernel_hashes,
        "--kernel": spec.kernel,
        "--initrd": spec.initrd,
        "--cdrom": spec.cdrom,
        "--share": spec.shares,
        "--publish": spec.ports,
        "--outgoing": spec.outgoing,
        "--ssh-key": spec.ssh_keys,
    }
    given = [option for option, value in asked.items() if value]
    if given:
        raise UsageError(f"the mock has no {', '.join(given)}", hint="leave it out, or launch a real guest")
