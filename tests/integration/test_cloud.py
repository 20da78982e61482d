"""A real cloud image, booted by its own boot loader and brought up by cloud-init: minutes, so only when asked for."""

import os
import shutil
from pathlib import Path

import pytest

from sevkit.guest.spec import Firmware, GuestSpec
from sevkit.hypervisor.qemu.hypervisor import QemuHypervisor
from tests.integration import cloud_image

pytestmark = [
    pytest.mark.guest,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not os.environ.get("SEVKIT_TEST_CLOUD"), reason="takes minutes: set SEVKIT_TEST_CLOUD=1"),
    pytest.mark.skipif(
        not all(map(shutil.which, ("mmdebstrap", "sfdisk", "mkfs.vfat", "mcopy", "objcopy"))),
        reason="needs mmdebstrap fdisk dosfstools mtools binutils",
    ),
]


def test_cloud_init_starts_the_agent(qemu: QemuHypervisor, tmp_path: Path) -> None:
    disk = cloud_image.build(tmp_path)
    guest = qemu.launch(GuestSpec(name="cloud", image=str(disk), memory_mib=1024, firmware=Firmware.OVMF), timeout=600)
    try:
        assert guest.run("hostname").text.strip() == "cloud"
        assert "ID=debian" in guest.run("cat /etc/os-release").text
        # This small image has no network manager; distributions' images have one.
        up = "i=$(ls /sys/class/net | grep ^e); ip link set $i up; ip addr add 10.0.2.15/24 dev $i"
        guest.run(up)
        assert guest.run("id -un", private=True, timeout=120).text == "root\n"
    finally:
        guest.stop()
