"""Each #VC, each GHCB event, each outcome of PVALIDATE and RMPADJUST, tried by guests that are nothing else."""

import base64
import os
import shutil
from pathlib import Path

import pytest

from sevkit.hypervisor.qemu.emulated import emulated, find
from sevkit.vocabulary import Mode

from . import bare_guest

pytestmark = [pytest.mark.guest, pytest.mark.timeout(900)]

# Thousands of malformed exits for each mode; SEVKIT_TEST_FUZZ=100 is the long form.
FUZZ = int(os.environ.get("SEVKIT_TEST_FUZZ", "5"))
# What emulator/tests/guest/main.c does by the first byte of guest-visible-workarounds.
ALL, MALFORMED = 0, 1


@pytest.fixture(scope="module")
def binary() -> Path:
    offer = emulated().availability(Mode.SEV_SNP)
    path = find()
    if not offer.available or path is None:
        pytest.skip(offer.reason)
    if any(shutil.which(tool) is None for tool in ("gcc", "ld", "objcopy", "make")):
        pytest.skip("gcc, binutils and make are needed")
    return path


@pytest.fixture(scope="module")
def snp_image(binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bare_guest.build_snp(tmp_path_factory.mktemp("snp"))


def workarounds(what: int, thousands: int = 0) -> str:
    """The property that tells the SEV-SNP image what to do."""
    data = bytes([what]) + thousands.to_bytes(2, "little")
    return f"guest-visible-workarounds={base64.b64encode(data.ljust(16, bytes(1))).decode()}"


def test_sev_es_events(binary: Path, tmp_path: Path) -> None:
    said = bare_guest.run(binary, bare_guest.build("events", tmp_path), Mode.SEV_ES)
    wrong = [line for line in said.lines if line.startswith("WRONG")]
    assert not wrong, "\n".join(wrong)
    assert said.lines, said.log
    assert said.lines[-1].startswith("done "), f"{said.text[-500:]}\n{said.log}"
    assert int(said.lines[-1].split()[1], 16) == sum(line.startswith("ok ") for line in said.lines) >= 45
    assert "string" in said.lines


def test_sev_snp_events(binary: Path, snp_image: Path) -> None:
    said = bare_guest.run(binary, snp_image, Mode.SEV_SNP, options=workarounds(ALL), until="^end: ")
    wrong = [line for line in said.lines if line.startswith("FAILED")]
    assert not wrong, "\n".join(wrong)
    assert said.lines, said.log
    assert said.lines[-1] == "end: all ok", f"{said.text[-500:]}\n{said.log}"
    assert sum(line.startswith("ok ") for line in said.lines) >= 80


@pytest.mark.parametrize(
    ("what", "check"),
    [(2, "RMP_VMPL"), (3, "RMP_VMSA"), (4, "GHCB"), (6, "GHCB")],
    ids=["VMPL1 writes what it may only read", "a save area is written", "a private GHCB", "a GHCB not registered"],
)
def test_what_the_host_has_to_stop(binary: Path, snp_image: Path, what: int, check: str) -> None:
    stopped = "the host stops the guest"
    said = bare_guest.run(binary, snp_image, Mode.SEV_SNP, options=workarounds(what), until=stopped)
    assert f"({check}): {stopped}" in said.log, f"{said.text[-500:]}\n{said.log}"
    assert said.vmm_lived
    assert "FAILED" not in said.text


def test_the_end_that_a_guest_asks_for(binary: Path, snp_image: Path) -> None:
    said = bare_guest.run(binary, snp_image, Mode.SEV_SNP, options=workarounds(5), until="asks for its end")
    assert "asks for its end: 1:0x42" in said.log


def test_malformed_exits_never_end_the_vmm_es(binary: Path, tmp_path: Path) -> None:
    image = bare_guest.build("fuzz", tmp_path, f"ROUNDS={1000 * FUZZ}", "SEED=4711")
    said = bare_guest.run(binary, image, Mode.SEV_ES)
    assert said.vmm_lived, f"{said.text[-300:]}\n{said.log[-1000:]}"
    assert said.lines[-1] == f"done {1000 * FUZZ:#x}", f"{said.text[-300:]}\n{said.log[-1000:]}"


def test_malformed_exits_never_end_the_vmm_snp(binary: Path, snp_image: Path) -> None:
    said = bare_guest.run(
        binary, snp_image, Mode.SEV_SNP, options=workarounds(MALFORMED, FUZZ), until="^end: ", timeout=600
    )
    assert "ok the VMM has survived\nend: all ok" in said.text, f"{said.text[-300:]}\n{said.log[-1000:]}"
