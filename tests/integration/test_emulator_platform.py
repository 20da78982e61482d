"""The emulated SEV-SNP platform from below: each exit, the reverse map table, VMPLs, the launch digest, a hostile host."""

import base64
import contextlib
import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from sevkit import processes
from sevkit.attestation.measure.cpus import signature_of
from sevkit.attestation.measure.idblock import IdBlock, sign
from sevkit.errors import HypervisorError
from sevkit.hypervisor.qemu import firmware_model
from sevkit.model.digest import LaunchInputs, launch_digest
from sevkit.vocabulary import Mode
from tests.support.waiting import until

from . import snp_machine
from .emulator_guest import PAGE, engine
from .host_commands import Draw, throw
from .snp_machine import FIRST, SECOND, Machine, build_firmware

pytestmark = [pytest.mark.guest, pytest.mark.timeout(300)]

Start = Callable[..., Machine]
HOST_COMMANDS = int(os.environ.get("SEVKIT_TEST_HOST_COMMANDS", "400"))


@pytest.fixture(scope="module")
def binary() -> Path:
    return engine()


@pytest.fixture(scope="module")
def firmware(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("gcc") is None or shutil.which("make") is None:
        pytest.skip("gcc and make are needed")
    return build_firmware(tmp_path_factory.mktemp("firmware"))


@pytest.fixture
def start(binary: Path, firmware: Path, tmp_path: Path) -> Iterator[Start]:
    """Starts machines, and ends them after the test."""
    running: list[Machine] = []
    numbers = itertools.count()

    def machine(**options: object) -> Machine:
        made = Machine(binary, firmware, tmp_path / str(next(numbers)), **options)  # type: ignore[arg-type]
        running.append(made)
        return made

    yield machine
    for made in running:
        made.stop()


@pytest.fixture
def victim(start: Start) -> Machine:
    """A machine that reads one page in a loop and tells when that changes."""
    machine = start(run=snp_machine.VICTIM)
    machine.wait_for_text("ready")
    return machine


# ---- what the guest sees ----


def test_every_exit_and_instruction(start: Start) -> None:
    lines = start().wait_end().splitlines()
    assert [line for line in lines if line.startswith("FAILED")] == []
    assert lines[-1] == "end: all ok"
    assert len(lines) > 100


def test_malformed_ghcbs_do_not_harm_the_vmm(start: Start) -> None:
    machine = start(run=snp_machine.FUZZ, thousands=20)
    assert machine.wait_end().splitlines()[-1] == "end: all ok", machine.log()
    assert machine.process.returncode == 0


@pytest.mark.parametrize(
    ("run", "vcpus", "check"),
    [
        (snp_machine.VMPL_WRITE, 2, "RMP_VMPL"),
        (snp_machine.VMSA_WRITE, 1, "RMP_VMSA"),
        (snp_machine.PRIVATE_GHCB, 1, "GHCB"),
        (snp_machine.UNREGISTERED_GHCB, 1, "GHCB"),
        (snp_machine.UNSUPPORTED, 1, "GHCB"),
        (snp_machine.UNKNOWN_REQUEST, 1, "GHCB"),
    ],
)
def test_what_the_host_cannot_resolve_stops_the_machine(start: Start, run: int, vcpus: int, check: str) -> None:
    machine = start(run=run, vcpus=vcpus)
    machine.wait_for_log(f"({check})")
    assert machine.ask("query-status")["status"] == "internal-error"


# ---- launch ----


@pytest.mark.parametrize(
    ("kind", "options", "mode", "vcpus"),
    [
        ("sev-snp-tcg-guest", "", Mode.SEV_SNP, 1),
        ("sev-snp-tcg-guest", "", Mode.SEV_SNP, 7),
        ("sev-tcg-guest", ",policy=0x5", Mode.SEV_ES, 1),
        ("sev-tcg-guest", ",policy=0x5", Mode.SEV_ES, 3),
        ("sev-tcg-guest", "", Mode.SEV, 2),
    ],
)
def test_the_launch_digest_is_the_hardwares(
    start: Start, firmware: Path, kind: str, options: str, mode: Mode, vcpus: int
) -> None:
    machine = start(kind=kind, options=options, vcpus=vcpus, extra=["-S"])
    cpu = machine.ask("query-cpus-fast")[0]["qom-path"]
    family, model, stepping = (
        machine.ask("qom-get", path=cpu, property=name) for name in ("family", "model", "stepping")
    )
    signature = min(family, 15) << 8 | max(0, family - 15) << 20 | (model & 15) << 4 | model >> 4 << 16 | stepping
    expected = launch_digest(LaunchInputs(mode, firmware.read_bytes(), vcpus=vcpus, signature=signature))
    assert machine.read("launch-digest") == expected.hex()


@pytest.mark.parametrize(("options", "seen"), [(",policy=0x1", False), (",policy=0x5", False), ("", True)])
def test_exchanged_launch_pages_are_seen_if_addresses_are_measured(start: Start, options: str, seen: bool) -> None:
    kind = "sev-tcg-guest" if options else "sev-snp-tcg-guest"
    swap = f"{options},x-launch-swap=0xffffe000/0xfffff000"
    digests = [start(kind=kind, options=each, extra=["-S"]).read("launch-digest") for each in (options, swap)]
    assert (digests[0] != digests[1]) is seen


def test_query_sev_answers_as_for_hardware(start: Start) -> None:
    machine = start(options=",policy=0xb0000", extra=["-S"])
    answer = machine.ask("query-sev")
    assert (answer["sev-type"], answer["snp-policy"]) == ("sev-snp", 0xB0000)


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        ("sev-snp-tcg-guest", ",policy=0x10000", "POLICY_FAILURE"),
        ("sev-snp-tcg-guest", ",policy=0x1030000", "POLICY_FAILURE"),
        ("sev-snp-tcg-guest", ",host-data=AAAA", "32 bytes"),
        ("sev-snp-tcg-guest", ",private-memory=open", "ciphertext or hole"),
        ("sev-snp-tcg-guest", ",firmware-socket=/nonexistent", "cannot connect"),
        ("sev-snp-tcg-guest", ",id-block=" + "A" * 128, "BAD_MEASUREMENT"),
        ("sev-tcg-guest", ",policy=0x45", "reserved"),
        ("sev-tcg-guest", ",debug-swap=on", "save area of SEV-ES and SEV-SNP"),
        ("sev-snp-tcg-guest", ",secure-tsc=on", "times have no meaning"),
        ("sev-snp-tcg-guest", ",x-launch-swap=0x1000", "two addresses of pages"),
        ("sev-snp-tcg-guest", ",x-launch-swap=0xfffff800/0xfffff000", "two addresses of pages"),
        ("sev-tcg-guest", ",x-launch-swap=0/0xfffff000", "no page of the firmware image at 0"),
    ],
)
def test_bad_settings_are_refused_with_the_reason(start: Start, kind: str, options: str, words: str) -> None:
    machine = start(kind=kind, options=options, extra=["-S"])
    machine.wait_end()
    assert machine.process.returncode == 1
    assert words in machine.log()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (None, None),
        ("block", "BAD_MEASUREMENT"),
        ("policy", "POLICY_FAILURE"),
        ("signature", "BAD_SIGNATURE"),
        ("author", "BAD_SIGNATURE"),
    ],
)
def test_the_firmware_model_checks_an_identity_block(
    start: Start, firmware: Path, tmp_path: Path, damage: str | None, words: str | None
) -> None:
    keys = [ec.generate_private_key(ec.SECP384R1()) for _ in range(2)]
    digest = launch_digest(LaunchInputs(Mode.SEV_SNP, firmware.read_bytes(), signature=signature_of("EPYC-v4")))
    if damage == "block":
        digest = digest[:-1] + bytes([digest[-1] ^ 1])
    signed = sign(IdBlock(digest, policy=0xB0000 if damage == "policy" else 0x30000), keys[0], keys[1])
    auth = bytearray(signed.auth)
    auth[{"signature": 0x40, "author": 0x680}.get(damage or "", 0xFFF)] ^= 1
    options = ",".join(
        [
            f",firmware-socket={tmp_path / firmware_model.SOCKET},author-key-enabled=on",
            f"id-block={base64.b64encode(signed.block).decode()},id-auth={base64.b64encode(auth).decode()}",
        ]
    )
    model = firmware_model.start(tmp_path, "a seed", detach=False)
    try:
        machine = start(cpu="EPYC-v4", options=options, extra=["-S"])
        if words is None:
            assert machine.read("launch-digest") == digest.hex()
        else:
            machine.wait_end()
            assert words in machine.log()
    finally:
        processes.stop(model)


def test_an_object_that_the_machine_does_not_use_is_refused(binary: Path) -> None:
    command = [str(binary), "-accel", "tcg", "-machine", "q35", "-object", "sev-tcg-guest,id=sev0", "-S"]
    command += [word for folder in snp_machine.FOLDERS for word in ("-L", folder)]
    done = processes.run([*command, "-display", "none", "-nodefaults", "-vga", "none"], timeout=60)
    assert done.status == 1
    assert "confidential-guest-support=sev0" in done.error_text


def test_a_reset_ends_the_machine(victim: Machine) -> None:
    with contextlib.suppress(HypervisorError):  # it may end before it answers
        victim.ask("system_reset")
    victim.wait_end()
    assert "not resettable" in victim.log()


def test_the_guests_own_reset_ends_the_machine(start: Start) -> None:
    machine = start(run=snp_machine.RESET)
    machine.wait_end()
    assert "not resettable" in machine.log()


# ---- the hostile host ----


@pytest.mark.parametrize("command", ["x-sev-host-remap", "x-sev-host-swap"])
def test_another_page_of_the_guests_is_not_served(victim: Machine, command: str) -> None:
    victim.ask(command, gpa=FIRST, to_gpa=SECOND)
    victim.wait_for_log("(RMP_GPA)")
    assert victim.ask("query-status")["status"] == "internal-error"
    assert "value" not in victim.out()


def test_a_page_at_a_second_address_is_not_served(victim: Machine) -> None:
    victim.ask("x-sev-host-alias", gpa=SECOND, to_gpa=FIRST)
    victim.wait_for_log("(RMP_GPA)")


@pytest.mark.parametrize("command", ["x-sev-host-replace", "x-sev-host-unassign"])
def test_a_fresh_page_is_not_validated(victim: Machine, command: str) -> None:
    victim.ask(command, gpa=FIRST)
    victim.wait_for_text("exit code 0x404")


@pytest.mark.parametrize(
    ("arguments", "check"),
    [
        ({"asid": 2}, "RMP_ASID"),
        ({"entry_gpa": SECOND}, "RMP_GPA"),
        ({"immutable": True}, "RMP_IMMUTABLE"),
    ],
)
def test_a_forged_entry_is_noticed(victim: Machine, arguments: dict[str, int], check: str) -> None:
    victim.ask("x-sev-host-rmpupdate", gpa=FIRST, **arguments)
    victim.wait_for_log(f"({check})")


def test_strict_stops_where_kvm_would_convert(start: Start) -> None:
    machine = start(run=snp_machine.VICTIM, options=",strict=on")
    machine.wait_for_text("ready")
    machine.ask("x-sev-host-unassign", gpa=FIRST)
    machine.wait_for_log("(RMP_ASSIGNED)")


def test_the_hosts_store_is_refused_and_counted(victim: Machine) -> None:
    text = victim.refusal("x-sev-host-write", gpa=FIRST, data=base64.b64encode(b"x" * 16).decode())
    assert "RMP_ASSIGNED" in text
    assert "RMPUPDATE: FAIL_OVERLAP" in victim.refusal("x-sev-host-rmpupdate", gpa=0x800000, large=True)
    assert "PSMASH: FAIL_INPUT" in victim.refusal("x-sev-host-psmash", gpa=FIRST)
    counters = {entry["name"]: entry["value"] for entry in victim.ask("x-sev-host-statistics")}
    assert counters["refused-writes"] == 1
    assert counters["pvalidate"] == 2


def test_the_host_reads_ciphertext_of_private_pages_and_plaintext_of_shared_ones(victim: Machine) -> None:
    private = victim.ask("x-sev-host-read", gpa=FIRST, size=64)
    data = base64.b64decode(private["data"])
    assert private["private"]
    assert b"\x11" * 8 not in data
    assert bytes(16) != data[:16]
    assert not victim.ask("x-sev-host-read", gpa=0x200000, size=16)["private"]
    entry = victim.ask("x-sev-host-rmp", gpa=FIRST)
    assert (entry["state"], entry["entry-gpa"], entry["perms"]) == ("guest-valid", FIRST, [15, 0, 0, 0])


def test_the_firmware_decrypts_for_the_host_only_if_the_policy_allows_it(start: Start, victim: Machine) -> None:
    refusal = victim.refusal("x-sev-host-debug-decrypt", gpa=FIRST, size=16)
    assert "SNP_DBG_DECRYPT: POLICY_FAILURE" in refusal
    debuggable = start(run=snp_machine.VICTIM, options=",policy=0xb0000")
    debuggable.wait_for_text("ready")
    data = debuggable.ask("x-sev-host-debug-decrypt", gpa=FIRST, size=8)["data"]
    assert base64.b64decode(data) == b"\x11" * 8
    shared = debuggable.refusal("x-sev-host-debug-decrypt", gpa=0x200000, size=16)
    assert "INVALID_PAGE_STATE" in shared
    assert "within a page" in debuggable.refusal("x-sev-host-debug-decrypt", gpa=FIRST, size=4097)


def test_a_walk_under_the_guests_asid_is_refused(victim: Machine) -> None:
    assert "RMP_GPA" in victim.refusal("x-sev-host-asid-walk", gpa=FIRST, asid=1)
    assert "the ASIDs are 0" in victim.refusal("x-sev-host-asid-walk", gpa=FIRST, asid=2)
    assert "divisible by 8" in victim.refusal("x-sev-host-asid-walk", gpa=FIRST + 4, asid=1)
    entry = base64.b64decode(victim.ask("x-sev-host-read", gpa=FIRST, size=8)["data"])
    step = victim.ask("x-sev-host-asid-walk", gpa=FIRST, asid=0)  # no key: the ciphertext
    assert step["present"] is bool(entry[0] & 1)


def test_the_registers_are_sealed(victim: Machine, firmware: Path) -> None:
    """The secret that the firmware keeps in a register is nowhere in what a dump shows; it prints it as text."""
    secret = int(victim.out().split()[1], 16).to_bytes(8, "little")
    for vmsa in [base64.b64decode(victim.ask("x-sev-host-vmsa", vcpu=0)["data"]) for _ in range(2)]:
        assert secret not in vmsa
        assert bytes(16) not in vmsa
    victim.ask("stop")
    memory = readable_memory(victim)
    assert secret not in memory
    # Positive control: what is not sealed is found.
    assert str(firmware).encode() in memory


def readable_memory(machine: Machine) -> bytes:
    """All that ptrace can read of the process's writable mappings, as a dump would."""
    found = []
    maps = Path(f"/proc/{machine.process.pid}/maps").read_text().splitlines()
    with open(machine.memory(), "rb", buffering=0) as memory:
        for line in maps:
            span, rights, *_ = line.split()
            first, end = (int(part, 16) for part in span.split("-"))
            if rights.startswith("rw") and end - first < 1 << 26:
                try:
                    memory.seek(first)
                    found.append(memory.read(end - first))
                except (OSError, ValueError, OverflowError):
                    continue
    return b"".join(found)


def test_stores_around_qemu_have_no_effect(victim: Machine) -> None:
    """The kernel refuses the private mapping; the shared one is not what the guest reads."""
    memory = victim.memory()
    try:
        with pytest.raises(OSError, match="Input/output error"):
            os.pwrite(memory, b"x" * 16, victim.read("private-address") + FIRST)
        assert os.pwrite(memory, b"x" * 16, victim.read("dram-address") + FIRST) == 16
    finally:
        os.close(memory)
    victim.ask("qom-set", path="/objects/sev0", property="cache-op", value="wbinvd")
    assert victim.ask("query-status")["status"] == "running"
    assert "value" not in victim.out()


def test_changed_ciphertext_is_noticed(victim: Machine) -> None:
    """Root writes through the VMM's own descriptor: the page is not served."""
    folder = Path(f"/proc/{victim.process.pid}/fd")
    private = next(path for path in folder.iterdir() if "sev-private" in os.readlink(path))
    victim.ask("stop")
    victim.ask("qom-set", path="/objects/sev0", property="cache-op", value="wbinvd")
    descriptor = os.open(private, os.O_RDWR)
    try:
        os.pwrite(descriptor, bytes(16), FIRST)
    finally:
        os.close(descriptor)
    victim.ask("cont")
    victim.wait_for_log("(INTEGRITY)")
    assert "value" not in victim.out()


def test_holes_are_not_mapped(start: Start) -> None:
    machine = start(run=snp_machine.VICTIM, options=",private-memory=hole")
    machine.wait_for_text("ready")
    assert machine.read("private-address") == 0
    assert "sev-private" not in Path(f"/proc/{machine.process.pid}/maps").read_text()
    machine.ask("qom-set", path="/objects/sev0", property="cache-op", value="wbinvd")
    assert machine.ask("query-status")["status"] == "running"


def test_the_host_sees_which_pages_are_touched(victim: Machine) -> None:
    victim.ask("x-sev-host-page-trace", enable=True)
    until(
        lambda: FIRST in {touch["gpa"] for touch in victim.ask("x-sev-host-page-trace", enable=True)},
        "nobody touches the first page",
    )


def test_the_vmm_answers_whatever_the_host_asks(victim: Machine) -> None:
    """``SEVKIT_TEST_HOST_COMMANDS=10000`` is the long form."""
    seen = throw(victim.home / "qmp", Draw(HOST_COMMANDS, 64 << 20), HOST_COMMANDS)
    assert victim.process.poll() is None, victim.log()[-2000:]
    names = {name.removeprefix("-") for name in seen if "x-sev-host" in name}
    never = {"x-sev-host-debug-decrypt"}  # the policy does not allow it
    assert {name for name in names if name in seen} == names - never  # each was accepted at least once
    assert {name for name in names if f"-{name}" in seen} >= {
        f"x-sev-host-{each}" for each in ("remap", "read", "vmsa")
    }


@pytest.mark.parametrize(("argument", "value"), [("asid", 1025), ("entry_gpa", 1 << 51)])
def test_an_entry_has_no_bits_for_it(victim: Machine, argument: str, value: int) -> None:
    before = victim.ask("x-sev-host-rmp", gpa=FIRST)
    assert "FAIL_INPUT" in victim.refusal("x-sev-host-rmpupdate", gpa=FIRST, **{argument: value})
    assert victim.ask("x-sev-host-rmp", gpa=FIRST) == before


def test_there_is_no_vcpu_with_a_large_number(victim: Machine) -> None:
    assert "no vCPU" in victim.refusal("x-sev-host-vmsa", vcpu=1 << 32)


def test_the_object_of_a_running_guest_stays(victim: Machine) -> None:
    assert "in use" in victim.refusal("object-del", id="sev0")
    assert victim.ask("query-sev")["enabled"]


def test_loading_device_state_is_refused(victim: Machine, tmp_path: Path) -> None:
    victim.ask("stop")
    (tmp_path / "state").write_bytes(b"no state")
    assert "does not leave" in victim.refusal("xen-load-devices-state", filename=str(tmp_path / "state"))
    victim.ask("cont")


def test_loading_a_snapshot_is_refused_before_it_resets_the_machine(victim: Machine) -> None:
    for command in ("loadvm x", "savevm x"):
        assert "does not leave" in victim.ask("human-monitor-command", command_line=command)
    victim.ask("cont")  # a snapshot that could not be loaded leaves any machine stopped
    assert victim.ask("query-status")["status"] == "running"


@pytest.mark.parametrize("kind", ["sev-tcg-guest", "sev-snp-tcg-guest"])
def test_no_guest_comes_from_another_machine(start: Start, kind: str) -> None:
    machine = start(kind=kind, extra=["-incoming", "defer"])
    machine.wait_end()
    assert "without -incoming" in machine.log()


def test_what_a_reset_loads_again_is_not_encrypted_for_the_guest(start: Start, tmp_path: Path) -> None:
    """Launch data is: the host's store before the launch. Afterwards the host has no key, and the guest reads noise."""
    data = b"from the host's file, " * 100
    (tmp_path / "data").write_bytes(data)
    loader = f"loader,file={tmp_path / 'data'},addr=0x2000000,force-raw=on"
    machine = start(kind="sev-tcg-guest", extra=["-S", "-device", loader, "-action", "reboot=shutdown,shutdown=pause"])

    def read() -> bytes:
        return base64.b64decode(machine.ask("x-sev-host-read", gpa=0x2000000, size=64)["data"])

    assert read() != data[:64]
    machine.ask("cont")
    until(lambda: machine.ask("query-status")["status"] == "shutdown", "the firmware of SEV-SNP guests does not fail")
    machine.ask("set-action", reboot="reset")
    machine.ask("system_reset")
    until(lambda: read() == data[:64], "the reset did not load the data")


@pytest.mark.parametrize("end", ["0x2100000", "0x20ff000"])
def test_low_memory_ends_within_a_large_page(start: Start, end: str) -> None:
    """Memory goes on above 4 GiB: no entry of the reverse map table covers pages on both sides."""
    machine = start(extra=["-S", "-machine", f"max-ram-below-4g={end}"])
    low = int(end, 16)
    for gpa in (low - PAGE, low & ~0x1FFFFF, 1 << 32, (1 << 32) + 0x300000, (1 << 32) + (64 << 20) - low - PAGE):
        entry = machine.ask("x-sev-host-rmp", gpa=gpa)
        assert (entry["assigned"], entry["entry-gpa"]) == (True, gpa), hex(gpa)
    assert "no memory" in machine.refusal("x-sev-host-rmp", gpa=low)
    assert "no memory" in machine.refusal("x-sev-host-rmp", gpa=(1 << 32) + (64 << 20) - low)


@pytest.fixture
def huge_pages() -> Iterator[None]:
    """Huge pages of the host for a machine of 64 MiB."""
    pool = Path("/proc/sys/vm/nr_hugepages")
    before = int(pool.read_text())
    try:
        pool.write_text(str(before + 32))
    except OSError as error:
        pytest.skip(f"no huge pages can be reserved: {error}")
    try:
        if int(pool.read_text()) < before + 32:
            pytest.skip("no memory for huge pages")
        yield
    finally:
        pool.write_text(str(before))


@pytest.mark.parametrize("kind", ["sev-tcg-guest", "sev-snp-tcg-guest"])
def test_memory_of_huge_pages(start: Start, huge_pages: None, kind: str) -> None:
    backing = ["-object", "memory-backend-memfd,id=huge,size=64M,hugetlb=on", "-machine", "memory-backend=huge"]
    if kind == "sev-tcg-guest":
        machine = start(kind=kind, options=",policy=1", extra=["-S", *backing])
        assert machine.read("launch-digest")
    else:
        machine = start(extra=backing)
        assert machine.wait_end().splitlines()[-1] == "end: all ok"
    assert "Unaligned" not in machine.log()


def test_no_vcpu_is_added_after_the_launch(start: Start) -> None:
    machine = start(options="", extra=["-S", "-smp", "1,maxcpus=2"])
    slots = machine.ask("query-hotpluggable-cpus")
    free = next(slot for slot in slots if "qom-path" not in slot)
    said = machine.refusal("device_add", driver=free["type"], id="new", **free["props"])
    assert "no vCPU can be added" in said
