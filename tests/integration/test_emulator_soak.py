"""Many boots at once: what fails once in thirty boots, and only on a busy machine, shows here.

``SEVKIT_TEST_SOAK=50 pytest tests/integration/test_emulator_soak.py`` is the long form; without it a few boots are tried.
"""

import itertools
import os

import pytest

from sevkit.errors import SevkitError
from sevkit.guest import firmware, image, verify
from sevkit.guest.spec import GuestSpec
from sevkit.hypervisor.qemu.emulated import emulated
from sevkit.hypervisor.qemu.hypervisor import QemuHypervisor
from sevkit.vocabulary import Mode

BOOTS = int(os.environ.get("SEVKIT_TEST_SOAK", "4"))
BATCH = 8
PATIENCE = 1200.0  # seconds for a batch: eight boots on two busy cores
SHAPES = list(itertools.product(("mini", "mini-6.12"), (1, 2)))

pytestmark = [pytest.mark.guest, pytest.mark.timeout(300 + 200 * BOOTS)]


@pytest.fixture(scope="module")
def hypervisor() -> QemuHypervisor:
    able = emulated()
    if not (offer := able.availability(Mode.SEV_SNP)).available:
        pytest.skip(offer.reason)
    try:
        firmware.find(Mode.SEV_SNP, emulated=True)
        for name, _ in SHAPES:
            image.get(name)
    except SevkitError as error:
        pytest.skip(f"{error.message}: {error.detail}")
    return able


@pytest.mark.parametrize("batch", range((BOOTS + BATCH - 1) // BATCH))
def test_boots_in_parallel(hypervisor: QemuHypervisor, batch: int) -> None:
    numbers = range(batch * BATCH, min(BOOTS, (batch + 1) * BATCH))
    shapes = [SHAPES[number % len(SHAPES)] for number in numbers]
    specs = [
        GuestSpec(name=f"soak-{number}", mode=Mode.SEV_SNP, image=name, vcpus=vcpus, memory_mib=384)
        for number, (name, vcpus) in zip(numbers, shapes, strict=True)
    ]
    guests = hypervisor.launch_many(specs, timeout=PATIENCE)
    try:
        for guest in guests:
            facts = verify.collect(guest)
            wrong = [finding for finding in verify.judge(facts, Mode.SEV_SNP) if finding.agrees is not True]
            assert not wrong, f"{guest.name} ({guest.spec.image}): {wrong}"
            assert int(guest.run("nproc", timeout=120).text) == guest.spec.vcpus
            assert "Oops" not in facts.kernel_log
    finally:
        for guest in guests:
            guest.stop()
