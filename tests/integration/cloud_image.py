"""A cloud image as distributions make them, small: systemd, cloud-init, and a kernel that UEFI boots by itself."""

import fcntl
import hashlib
import tempfile
from pathlib import Path

from sevkit import processes
from sevkit.errors import MissingToolError
from sevkit.guest.image import _release
from sevkit.paths import cache_dir

PACKAGES = "linux-image-cloud-amd64,initramfs-tools,systemd-sysv,systemd-resolved,udev,cloud-init,openssh-server,systemd-boot,dbus,iproute2"
_ESP_MIB, _ROOT_MIB = 128, 1600

# One unified kernel image (systemd's stub with kernel, initrd and command line in it) as the default loader.
_HOOK = r"""
set -e
root=$1 out={out}
printf 'root=LABEL=cloudroot rw console=ttyS0' >"$out/cmdline"
objcopy \
    --add-section .osrel="$root/usr/lib/os-release" --change-section-vma .osrel=0x20000 \
    --add-section .cmdline="$out/cmdline" --change-section-vma .cmdline=0x30000 \
    --add-section .linux="$(ls "$root"/boot/vmlinuz-*)" --change-section-vma .linux=0x2000000 \
    --add-section .initrd="$(ls "$root"/boot/initrd.img-*)" --change-section-vma .initrd=0x4000000 \
    "$root/usr/lib/systemd/boot/efi/linuxx64.efi.stub" "$out/BOOTX64.EFI"
# Configures the network card by DHCP, as distributions' images do.
printf '[Match]\nName=e*\n[Network]\nDHCP=yes\n' >"$root/etc/systemd/network/80-dhcp.network"
chroot "$root" systemctl enable systemd-networkd >/dev/null 2>&1
rm -rf "$root"/var/cache/apt/*
t=$(mktemp -d)
tar --one-file-system -C "$root" -cf - . | tar -C "$t" -xf -
mke2fs -q -t ext4 -L cloudroot -d "$t" "$out/root.img" {size}M
rm -rf "$t"
"""


def cached() -> Path:
    """The image, built once for each state of this file and release of Debian; raises MissingToolError."""
    recipe = Path(__file__).read_bytes() + _release().encode()
    place = cache_dir("test-images")
    disk = place / f"cloud-{hashlib.sha256(recipe).hexdigest()[:16]}.img"
    with (place / "cloud.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not disk.exists():
            with tempfile.TemporaryDirectory(dir=place) as scratch:
                for old in place.glob("cloud-*.img"):
                    old.unlink()
                _build(Path(scratch)).rename(disk)
    return disk


def _build(folder: Path) -> Path:
    hook = folder / "hook"
    hook.write_text("#!/bin/sh" + _HOOK.format(out=folder, size=_ROOT_MIB))
    hook.chmod(0o755)
    argv = ["mmdebstrap", "--quiet", "--variant=minbase", "--format=null", f"--include={PACKAGES}"]
    processes.run([*argv, f"--customize-hook={hook}", _release(), "/dev/null"], timeout=900, check=MissingToolError)
    disk = folder / "cloud.img"
    with disk.open("wb") as stream:
        stream.truncate((_ESP_MIB + _ROOT_MIB + 2) << 20)
    table = f"label: gpt\nstart=2048, size={_ESP_MIB}MiB, type=uefi\nsize={_ROOT_MIB}MiB, type=linux\n"
    processes.run(["sfdisk", "-q", str(disk)], stdin=table.encode(), timeout=60, check=MissingToolError)
    esp = folder / "esp.img"
    with esp.open("wb") as stream:
        stream.truncate(_ESP_MIB << 20)
    for words in (
        ["mkfs.vfat", "-F", "32", str(esp)],
        ["mmd", "-i", str(esp), "::/EFI", "::/EFI/BOOT"],
        ["mcopy", "-i", str(esp), str(folder / "BOOTX64.EFI"), "::/EFI/BOOT/"],
        ["dd", f"if={esp}", f"of={disk}", "bs=1M", "seek=1", "conv=notrunc,sparse"],
        ["dd", f"if={folder / 'root.img'}", f"of={disk}", "bs=1M", f"seek={1 + _ESP_MIB}", "conv=notrunc,sparse"],
    ):
        processes.run(words, timeout=120, check=MissingToolError)
    return disk
