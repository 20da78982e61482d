"""A real cloud image, booted by its own boot loader and brought up by cloud-init, in every mode: minutes, so only on request."""

import os
import shutil
from pathlib import Path

import pytest

from sevkit import processes
from sevkit.guest.spec import GuestSpec
from sevkit.hypervisor.qemu.emulated import emulated, find
from sevkit.vocabulary import Mode
from tests.integration import cloud_image

pytestmark = [
    pytest.mark.guest,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not os.environ.get("SEVKIT_TEST_CLOUD"), reason="takes minutes: set SEVKIT_TEST_CLOUD=1"),
    pytest.mark.skipif(find() is None, reason="needs the emulator: make emulator"),
    pytest.mark.skipif(
        not all(map(shutil.which, ("mmdebstrap", "sfdisk", "mkfs.vfat", "mcopy", "objcopy", "ssh-keygen"))),
        reason="needs mmdebstrap fdisk dosfstools mtools binutils openssh-client",
    ),
]


@pytest.mark.parametrize("mode", list(Mode))
def test_cloud_init_brings_a_guest_up(mode: Mode, tmp_path: Path) -> None:
    disk = cloud_image.cached()
    before = disk.stat().st_mtime_ns
    key = tmp_path / "key"
    processes.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], timeout=30)
    public = key.with_suffix(".pub").read_text().strip()
    spec = GuestSpec(name=f"cloud-{mode}", mode=mode, image=str(disk), memory_mib=1024, ssh_keys=(public,))
    guest = emulated().launch(spec, timeout=900)
    try:
        assert guest.run("hostname").text.strip() == f"cloud-{mode}"
        assert "ID=debian" in guest.run("cat /etc/os-release").text
        assert guest.run("findmnt -no LABEL /").text.strip() == "cloudroot"
        assert guest.run("id -un", private=True, timeout=240).text == "root\n"
        assert public in guest.run("cat /root/.ssh/authorized_keys").text
        log = guest.run("dmesg", timeout=60).text
        assert ("Memory Encryption Features active: AMD SEV" in log) == (mode is not Mode.NOSEV)
    finally:
        guest.stop()
    assert disk.stat().st_mtime_ns == before, "the user's image is not changed"
