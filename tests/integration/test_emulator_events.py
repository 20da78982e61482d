"""Each #VC and each GHCB event of SEV-ES, tried by guests that are nothing else (SEV-SNP: test_emulator_platform.py)."""

import os
import shutil
from pathlib import Path

import pytest

from sevkit.hypervisor.qemu.emulated import emulated, find
from sevkit.vocabulary import Mode

from . import bare_guest

pytestmark = [pytest.mark.guest, pytest.mark.timeout(900)]

# Thousands of malformed exits; SEVKIT_TEST_FUZZ=100 is the long form.
FUZZ = int(os.environ.get("SEVKIT_TEST_FUZZ", "5"))


@pytest.fixture(scope="module")
def binary() -> Path:
    offer = emulated().availability(Mode.SEV_ES)
    path = find()
    if not offer.available or path is None:
        pytest.skip(offer.reason)
    if any(shutil.which(tool) is None for tool in ("gcc", "ld", "objcopy")):
        pytest.skip("gcc and binutils are needed")
    return path


def test_each_event_has_its_outcome(binary: Path, tmp_path: Path) -> None:
    said = bare_guest.run(binary, bare_guest.build("events", tmp_path))
    wrong = [line for line in said.lines if line.startswith("WRONG")]
    assert not wrong, "\n".join(wrong)
    assert said.lines, said.log
    assert said.lines[-1].startswith("done "), f"{said.text[-500:]}\n{said.log}"
    assert int(said.lines[-1].split()[1], 16) == sum(line.startswith("ok ") for line in said.lines) >= 45
    assert "string" in said.lines


def test_malformed_exits_never_end_the_vmm(binary: Path, tmp_path: Path) -> None:
    image = bare_guest.build("fuzz", tmp_path, f"ROUNDS={1000 * FUZZ}", "SEED=4711")
    said = bare_guest.run(binary, image)
    assert said.vmm_lived, f"{said.text[-300:]}\n{said.log[-1000:]}"
    assert said.lines[-1] == f"done {1000 * FUZZ:#x}", f"{said.text[-300:]}\n{said.log[-1000:]}"
