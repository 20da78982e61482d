"""Real guests for tests, with honest skips where there can be none."""

import shutil
from collections.abc import Iterator

import pytest

from sevkit.errors import SevkitError
from sevkit.guest import image
from sevkit.guest.spec import GuestSpec, Storage, StorageKind
from sevkit.hypervisor.qemu.guest import QemuGuest
from sevkit.hypervisor.qemu.hypervisor import QemuHypervisor
from tests.integration.sandbox import box
from tests.integration.table import row

__all__ = ["box", "row"]


@pytest.fixture(scope="session")
def qemu() -> QemuHypervisor:
    """QEMU with the mini image ready."""
    if shutil.which("qemu-system-x86_64") is None:
        pytest.skip("QEMU is not installed")
    try:
        image.get("mini")
    except SevkitError as error:
        pytest.skip(f"the mini image cannot be built: {error.message}")
    return QemuHypervisor()


@pytest.fixture
def guest(qemu: QemuHypervisor, _own_state: None) -> Iterator[QemuGuest]:
    """A running plain guest with an NVMe disk."""
    running = qemu.launch(GuestSpec(name="it", storage=Storage(StorageKind.NVME, size_mib=64)))
    yield running
    running.stop()
