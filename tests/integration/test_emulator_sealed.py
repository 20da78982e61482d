"""What QEMU's own tools see and set of a vCPU: everything of plain and SEV guests, nothing of SEV-ES and SEV-SNP guests."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sevkit.attacks.labs.registers import opened
from sevkit.errors import HypervisorError
from sevkit.guest.spec import GuestSpec
from sevkit.hypervisor.qemu.guest import QemuGuest
from sevkit.hypervisor.qemu.hypervisor import QemuHypervisor
from sevkit.vocabulary import Mode
from tests.support.firmware_image import SECTIONS, firmware_image
from tests.support.waiting import until

from .emulator_guest import SOURCES, compile_static, engine
from .snp_machine import Machine
from .test_emulator_snp import hypervisor, run, state  # noqa: F401 - fixtures
from .test_emulator_whole_vmm import SEED, registers

pytestmark = [pytest.mark.guest, pytest.mark.timeout(600)]

OPEN = (Mode.NOSEV, Mode.SEV)
QUADWORDS = ["r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"]


@pytest.fixture(scope="module", params=[Mode.NOSEV, Mode.SEV, Mode.SEV_ES, Mode.SEV_SNP], ids=str)
def guest(
    request: pytest.FixtureRequest,
    hypervisor: QemuHypervisor,  # noqa: F811
    state: None,  # noqa: F811
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[QemuGuest]:
    """A guest of each mode that spins with known values in its registers."""
    program = tmp_path_factory.mktemp("p") / "registers"
    compile_static(SOURCES / "registers.c", program)
    spec = GuestSpec(name=f"g-{request.param}", mode=request.param, memory_mib=256)
    running = hypervisor.launch(spec, timeout=400)
    try:
        running.put(program, "/bin/registers")
        run(running, f"chmod 755 /bin/registers; registers {SEED} >/dev/null 2>&1 </dev/null & sleep 1")
        yield running
    finally:
        running.stop()


def seen(text: str | bytes) -> bool:
    """Whether the first of the program's values is there: in bytes, or in digits as a number or as bytes."""
    value = registers()[0][0]
    if isinstance(text, bytes):
        return value in text
    low = text.lower()
    return value.hex() in low or f"{int.from_bytes(value, 'little'):x}" in low


def by_gdb(guest: QemuGuest, folder: Path) -> str:
    with opened(guest) as stub:
        return stub.ask("g") + stub.ask("p8")


def by_monitor(guest: QemuGuest, folder: Path) -> str:
    guest.pause()
    text = guest.monitor("info registers -a") + "".join(guest.monitor(f"print /x ${name}") for name in QUADWORDS)
    guest.resume()
    return text


def by_dump(guest: QemuGuest, folder: Path) -> bytes:
    return dump(guest, folder, paging=False, begin=0, length=4096)


def dump(guest: QemuGuest, folder: Path, **form: object) -> bytes:
    """All of a dump of QEMU's own."""
    target = folder / "dump"
    target.unlink(missing_ok=True)
    guest.ask("dump-guest-memory", protocol=f"file:{target}", **form)
    until(lambda: guest.ask("query-dump")["status"] in ("none", "completed"), "the dump does not end")
    data = target.read_bytes()
    target.unlink()
    return data


def by_device_state(guest: QemuGuest, folder: Path) -> bytes:
    target = folder / "devices"
    with contextlib.suppress(HypervisorError):
        guest.ask("xen-save-devices-state", filename=str(target))
    return target.read_bytes()[::-1]  # there the first byte of a register is the highest


def by_log(guest: QemuGuest, folder: Path) -> str:
    target = folder / "log"
    guest.monitor(f"logfile {target}")
    said = guest.monitor("log cpu,nochain")
    time.sleep(0.05)
    guest.monitor("log none")
    if guest.spec.mode not in OPEN:
        assert "encrypted" in said
    return target.read_text(errors="replace") if target.exists() else ""


@pytest.mark.parametrize("way", [by_monitor, by_gdb, by_dump, by_device_state, by_log], ids=lambda way: way.__name__)
def test_what_is_seen_of_registers(guest: QemuGuest, tmp_path: Path, way: object) -> None:
    assert callable(way)
    if guest.spec.mode in OPEN:
        until(lambda: seen(way(guest, tmp_path)), "the program's values are never seen")
        return
    for _ in range(10):
        assert not seen(way(guest, tmp_path))
        time.sleep(0.02)


@pytest.mark.parametrize(
    "form",
    [
        {"paging": True},
        {"paging": False, "detach": True},
        {"paging": False, "format": "kdump-zlib"},
        {"paging": False, "format": "kdump-raw-zlib"},
    ],
    ids=str,
)
def test_a_dump_of_any_form_shows_no_more(guest: QemuGuest, tmp_path: Path, form: dict[str, object]) -> None:
    """All of memory, and the registers: the kernel's words, and the values that the program keeps, are in open ones."""
    if "paging" in form and form["paging"] and guest.spec.mode is Mode.SEV:
        pytest.skip("QEMU walks the guest's page tables as the host reads them: encrypted")
    data = dump(guest, tmp_path, **form)
    if "format" not in form:  # the pages of these are compressed
        assert (b"Linux version 6." in data) == (guest.spec.mode is Mode.NOSEV)
    if guest.spec.mode in OPEN:
        # The program runs most of the time, not at each moment.
        until(lambda: seen(dump(guest, tmp_path, **form)), "the program's values are in no dump")
    else:
        assert not seen(data)


def test_there_is_no_windows_dump_of_sealed_guests(guest: QemuGuest, tmp_path: Path) -> None:
    """QEMU would write the registers into it, taken from the vCPU itself."""
    offered = "win-dmp" in guest.ask("query-dump-guest-memory-capability")["formats"]
    assert offered == (guest.spec.mode in OPEN)
    with pytest.raises(HypervisorError) as refused:
        guest.ask("dump-guest-memory", protocol=f"file:{tmp_path / 'dump'}", paging=False, format="win-dmp")
    said = "invalid vmcoreinfo note size" if offered else "registers of the vCPUs, which are encrypted"
    assert said in (refused.value.detail or refused.value.message)
    run(guest, "true")


def test_what_can_be_set(guest: QemuGuest, tmp_path: Path) -> None:
    is_open = guest.spec.mode in OPEN
    with opened(guest) as stub:
        assert stub.ask("?").startswith("T05")
        kept = stub.ask("pf")  # r15
        assert (stub.ask(f"Pf={kept}") == "OK") == is_open
        assert (stub.ask("G" + stub.ask("g")) == "OK") == is_open
        for kind in range(5):  # breakpoints, and watchpoints
            assert (stub.ask(f"Z{kind},ffffffff81000000,1") == "OK") == is_open
            stub.ask(f"z{kind},ffffffff81000000,1")
    run(guest, "true")


def test_logs_of_code_are_refused_where_memory_is_encrypted(guest: QemuGuest, tmp_path: Path) -> None:
    guest.monitor(f"logfile {tmp_path / 'log'}")
    for items in ("in_asm", "op", "out_asm", "unimp"):
        said = guest.monitor(f"log {items}")
        guest.monitor("log none")
        assert ("encrypted" in said) == (guest.spec.mode is not Mode.NOSEV), said


def test_the_monitor_knows_no_page_tables_of_sealed_guests(guest: QemuGuest) -> None:
    if guest.spec.mode in OPEN:
        pytest.skip("the page tables of these are known by CR3")
    guest.pause()
    try:
        for what in ("info tlb", "info mem"):
            assert "PG disabled" in guest.monitor(what)
    finally:
        guest.resume()


@pytest.mark.parametrize(
    ("policy", "items", "refused"),
    [(1, "in_asm", True), (5, "int", True), (1, "int", False), (5, "guest_errors", False)],
)
@pytest.mark.parametrize("key", ["", f",debug-key={'0123456789abcdef' * 4}"])
def test_a_launch_with_such_a_log_is_refused(tmp_path: Path, policy: int, items: str, refused: bool, key: str) -> None:
    """But not if the key is on the command line: then nothing is secret, and the engine's authors see what it does."""
    firmware = tmp_path / "firmware"
    firmware.write_bytes(firmware_image(b"", SECTIONS))
    options = f",policy={policy}{key}"
    log = str(tmp_path / "items")
    machine = Machine(
        engine(), firmware, tmp_path, kind="sev-tcg-guest", options=options, extra=["-S", "-d", items, "-D", log]
    )
    try:
        if refused and not key:
            machine.wait_end()
            assert "would show what is encrypted" in machine.log()
        else:
            assert machine.read("launch-digest")
    finally:
        machine.stop()


def test_vmport_is_refused_where_registers_are_sealed(tmp_path: Path) -> None:
    firmware = tmp_path / "firmware"
    firmware.write_bytes(firmware_image(b"", SECTIONS))
    extra = ["-S", "-machine", "vmport=on"]
    machine = Machine(engine(), firmware, tmp_path, kind="sev-tcg-guest", options=",policy=5", extra=extra)
    try:
        machine.wait_end()
        assert "use vmport=off" in machine.log()
    finally:
        machine.stop()


@pytest.mark.parametrize("mode", [Mode.SEV, Mode.SEV_ES], ids=str)
def test_suspend_to_ram(hypervisor: QemuHypervisor, mode: Mode) -> None:  # noqa: F811
    """Waking up resets the vCPUs: nobody can reset those whose registers are encrypted, so that such a guest ends."""
    guest = hypervisor.launch(GuestSpec(name=f"s3-{mode}", mode=mode, memory_mib=256), timeout=400)
    try:
        run(guest, "echo kept >/tmp/word; echo deep >/sys/power/mem_sleep")
        guest.run("(sleep 0.5; echo mem >/sys/power/state) >/dev/null 2>&1 </dev/null &", timeout=10)
        until(lambda: guest.ask("query-status")["status"] == "suspended", "the guest does not suspend")
        with contextlib.suppress(HypervisorError):  # it may end before it answers
            guest.ask("system_wakeup")
        if mode in OPEN:
            assert run(guest, "cat /tmp/word") == "kept\n"
        else:
            until(lambda: not guest.alive(), "QEMU does not end")
            assert "cannot wake up" in (guest.folder / "qemu.log").read_text()
    finally:
        guest.stop()
