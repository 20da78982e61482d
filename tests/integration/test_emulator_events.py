"""Each #VC, each GHCB event, each outcome of PVALIDATE and RMPADJUST, tried by guests that are nothing else."""

import shutil
from pathlib import Path

import pytest

from sevkit.hypervisor.qemu.emulated import emulated, find
from sevkit.vocabulary import Mode

from . import bare_guest

pytestmark = [pytest.mark.guest, pytest.mark.timeout(600)]

MODES = (Mode.SEV_ES, Mode.SEV_SNP)
# Lines that each mode must at least have: a guest that says little proves little.
CHECKS = {Mode.SEV_ES: 40, Mode.SEV_SNP: 80}


@pytest.fixture(scope="module")
def binary() -> Path:
    offer = emulated().availability(Mode.SEV_SNP)
    path = find()
    if not offer.available or path is None:
        pytest.skip(offer.reason)
    if shutil.which("gcc") is None or shutil.which("ld") is None:
        pytest.skip("gcc and binutils are needed")
    return path


@pytest.mark.parametrize("mode", MODES)
def test_each_event_has_its_outcome(binary: Path, mode: Mode, tmp_path: Path) -> None:
    said = bare_guest.run(binary, bare_guest.build("events", tmp_path), mode)
    wrong = [line for line in said.lines if line.startswith("WRONG")]
    assert not wrong, "\n".join(wrong)
    assert said.lines[-1].startswith("done "), f"{said.text[-500:]}\n{said.log}"
    assert int(said.lines[-1].split()[1], 16) == sum(line.startswith("ok ") for line in said.lines) >= CHECKS[mode]
    assert "string" in said.lines


@pytest.mark.parametrize("mode", MODES)
def test_malformed_exits_never_end_the_vmm(binary: Path, mode: Mode, tmp_path: Path) -> None:
    image = bare_guest.build("fuzz", tmp_path, "ROUNDS=100000", "SEED=4711")
    said = bare_guest.run(binary, image, mode)
    assert said.vmm_lived, f"{said.text[-300:]}\n{said.log[-1000:]}"
    assert said.lines[-1] == "done 0x186a0", f"{said.text[-300:]}\n{said.log[-1000:]}"
