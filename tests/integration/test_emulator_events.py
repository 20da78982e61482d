"""Each #VC and each GHCB event of SEV-ES, tried by guests that are nothing else (SEV-SNP: test_emulator_platform.py)."""

import base64
import os
import shutil
from pathlib import Path

import pytest

from sevkit.errors import HypervisorError

from . import bare_guest
from .bare_guest import BareGuest
from .emulator_guest import PAGE, engine

pytestmark = [pytest.mark.guest, pytest.mark.timeout(900)]

# Thousands of malformed exits; SEVKIT_TEST_FUZZ=100 is the long form.
FUZZ = int(os.environ.get("SEVKIT_TEST_FUZZ", "20"))

VICTIM = 0x1C0000  # bare/victim.c


@pytest.fixture(scope="module")
def binary() -> Path:
    if any(shutil.which(tool) is None for tool in ("gcc", "ld", "objcopy")):
        pytest.skip("gcc and binutils are needed")
    return engine()


@pytest.mark.parametrize("debug_swap", [False, True])
def test_each_event_has_its_outcome(binary: Path, tmp_path: Path, debug_swap: bool) -> None:
    image = bare_guest.build("events", tmp_path, f"DEBUG_SWAP={debug_swap:d}")
    options = ",debug-swap=on" if debug_swap else ""
    guest = BareGuest(binary, image, options=options, extra=("-device", "megasas,addr=5"))
    try:
        guest.wait_done()
    finally:
        guest.stop()
    lines = guest.lines()
    assert [line for line in lines if line.startswith("WRONG")] == []
    assert lines, guest.log()
    assert lines[-1].startswith("done "), f"{lines[-5:]}\n{guest.log()}"
    assert int(lines[-1].split()[1], 16) == sum(line.startswith("ok ") for line in lines) >= 55
    assert "string" in lines


def test_malformed_exits_never_end_the_vmm(binary: Path, tmp_path: Path) -> None:
    guest = BareGuest(binary, bare_guest.build("fuzz", tmp_path, f"ROUNDS={1000 * FUZZ}", "SEED=4711"))
    try:
        lived = guest.wait_done()
    finally:
        guest.stop()
    assert lived, f"{guest.lines()[-3:]}\n{guest.log()[-1000:]}"
    assert guest.lines()[-1] == f"done {1000 * FUZZ:#x}", guest.log()[-1000:]


def test_the_guests_own_reset_ends_the_machine(binary: Path, tmp_path: Path) -> None:
    guest = BareGuest(binary, bare_guest.build("reset", tmp_path))
    try:
        guest.wait_end()
    finally:
        guest.stop()
    assert guest.lines() == ["up"]
    assert "not resettable" in guest.log()


@pytest.mark.parametrize("command", ["x-sev-host-remap", "x-sev-host-swap"])
def test_a_remapped_page_is_served(binary: Path, tmp_path: Path, command: str) -> None:
    """No reverse map table: the guest reads another of its pages, decrypted (SEVered)."""
    guest = BareGuest(binary, bare_guest.build("victim", tmp_path))
    try:
        guest.wait_for_text("ready")
        guest.ask(command, gpa=VICTIM, to_gpa=VICTIM + PAGE)
        assert guest.wait_done()
    finally:
        guest.stop()
    assert guest.lines() == ["ready", "done 0x2222222222222222"]


def test_without_rmp_the_guests_asid_decrypts_for_whoever_has_it(binary: Path, tmp_path: Path) -> None:
    """The walk of another machine with the ASID shows the entry's address bits (CROSSLINE)."""
    guest = BareGuest(binary, bare_guest.build("victim", tmp_path))
    try:
        guest.wait_for_text("ready")
        known = guest.ask("x-sev-host-asid-walk", gpa=VICTIM, asid=1)
        none = guest.ask("x-sev-host-asid-walk", gpa=VICTIM + PAGE, asid=1)
    finally:
        guest.stop()
    assert known == {"present": True, "fault-gpa": 0x1111111111111111 & 0x7FFFFFFFFF000}
    assert none == {"present": False, "fault-gpa": 0}  # 0x2222222222222222: bit 0 is clear


@pytest.mark.parametrize("policy", [0x5, 0x4])
def test_debugging_is_a_bit_of_the_policy(binary: Path, tmp_path: Path, policy: int) -> None:
    guest = BareGuest(binary, bare_guest.build("victim", tmp_path), options=f",policy={policy:#x}")
    try:
        guest.wait_for_text("ready")
        if policy & 1:
            with pytest.raises(HypervisorError) as refusal:
                guest.ask("x-sev-host-debug-decrypt", gpa=VICTIM, size=8)
            assert "DBG_DECRYPT: POLICY_FAILURE" in (refusal.value.detail or "")
        else:
            data = guest.ask("x-sev-host-debug-decrypt", gpa=VICTIM, size=8)["data"]
            assert base64.b64decode(data) == b"\x11" * 8
    finally:
        guest.stop()
