"""Decisions and checks before QEMU is started: firmware by the image's content, memory, sockets, scratch disks."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

from sevkit import processes
from sevkit.errors import MissingToolError, NoSpaceError, UsageError
from sevkit.guest import ext4, media
from sevkit.guest import image as images
from sevkit.guest import kernel as kernels
from sevkit.guest.spec import Firmware, GuestSpec
from sevkit.model import ovmf
from sevkit.qemu import argv as argv_builder
from sevkit.qemu.argv import LaunchFiles
from sevkit.vocabulary import Mode

_SOCKET_PATH_LIMIT = 107  # sun_path in unix(7)


def share_disk(folder: Path, disk: Path) -> None:
    """Pack a folder into a disk with its own file system, of 1.5 times its size. It works in every mode.

    A live share would not: QEMU's vhost-user-fs-pci refuses iommu_platform, which encrypted guests need, and Debian's
    cloud kernels have no 9p.
    """
    size = sum(entry.lstat().st_size for entry in folder.rglob("*") if entry.is_file())
    count = sum(1 for _ in folder.rglob("*"))
    mib = (size * 3 // 2 + count * 4096 >> 20) + 8
    if shutil.disk_usage(disk.parent).free < mib << 20:
        raise NoSpaceError(f"a copy of {folder} ({mib} MiB) does not fit at {disk.parent}")
    tool = processes.find_tool("mke2fs", package="e2fsprogs")
    inodes = str(count + 64)
    argv = [tool, "-q", "-t", "ext4", "-m", "0", "-N", inodes, "-d", str(folder), str(disk), f"{mib}M"]
    processes.run(argv, timeout=600, check=UsageError)
    ext4.check_count(disk, folder)


def settled(spec: GuestSpec, image: images.Image, *, emulated: bool = False) -> GuestSpec:
    """The spec with a firmware that can boot the image; raises UsageError if the requested one cannot.

    ``emulated``: it will run with the engine of emulator/. There an SEV-ES guest that its firmware has to boot from a
    disk gets the build of SEV-SNP: Debian 12's OVMF (2022.11) comes up in it without having enumerated any PCI device,
    so that it finds neither disk nor console, and waits for a key for ever.
    """
    by_firmware = spec.cdrom is not None or (image.kernel is None and spec.kernel is None)
    if emulated and spec.mode is Mode.SEV_ES and by_firmware and spec.firmware is None:
        spec = replace(spec, firmware=Firmware.OVMF_SNP)
    if spec.kernel is not None:
        media.kernel(spec.kernel)
    if spec.initrd is not None:
        media.initrd(spec.initrd)
    if spec.cdrom is not None:
        media.cdrom(spec.cdrom)
        return spec
    for folder in spec.shares:
        if not folder.is_dir():
            raise UsageError(f"{folder} is not a directory", hint="--share takes a directory of this host")
    if spec.firmware is None and spec.mode is Mode.NOSEV and image.uefi and not image.bios:
        return replace(spec, firmware=Firmware.OVMF)
    wanted = argv_builder.firmware_of(spec)
    if not (image.uefi if wanted.uefi else image.bios):
        lacks = "EFI system partition" if wanted.uefi else "boot code for a BIOS"
        raise UsageError(
            f"{spec.image} has no {lacks}: {wanted} cannot boot it",
            hint="encrypted guests need UEFI" if spec.mode is not Mode.NOSEV else "leave --firmware out",
        )
    return spec


def check_memory(spec: GuestSpec) -> None:
    """Refuse too little memory for the guest to boot, and more than this host has."""
    check_least(spec)
    here = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20
    if spec.memory_mib > here:
        raise NoSpaceError(
            f"a guest of {spec.memory_mib} MiB does not fit this host, which has {here} MiB",
            hint=f"give --memory {max(1, here // 2048)}G or less",
        )


def check_least(spec: GuestSpec) -> None:
    """Refuse too little memory for the guest to boot, on any host."""
    if not spec.has_agent or spec.kernel is not None:
        least = 32  # how much the user's own kernel and initrd need is not known
    else:
        least = images.least_memory(spec.image, ovmf=argv_builder.firmware_of(spec).uefi)
    if spec.memory_mib < least:
        raise UsageError(
            f"{spec.memory_mib} MiB are too little for {spec.image} with {argv_builder.firmware_of(spec)}",
            hint=f"give --memory {least}M or more",
        )


def initrd_of(spec: GuestSpec, image: images.Image, folder: Path) -> Path | None:
    """The initrd of a guest; with a kernel of the user's own it is made in ``folder``, with that kernel's modules."""
    if spec.initrd is not None or spec.kernel is None or image.initrd is None:
        return spec.initrd or image.initrd
    return folder / "initrd.img"


def write_initrd(spec: GuestSpec, image: images.Image, place: LaunchFiles) -> None:
    """Make the initrd with the modules of the user's own kernel."""
    if spec.kernel is None or place.initrd is None or image.initrd is None or place.initrd == spec.initrd:
        return
    found = kernels.modules(spec.kernel)
    place.initrd.write_bytes(kernels.initrd(image.initrd.read_bytes(), images.MODULES, found))


def check_sockets(place: LaunchFiles) -> None:
    """Refuse a folder whose path is too long for sockets in it; raises UsageError."""
    longest = max((place.qmp, place.agent, place.console), key=lambda path: len(str(path)))
    if len(str(longest)) > _SOCKET_PATH_LIMIT:
        raise UsageError(
            f"{longest} is longer than a socket's path may be ({_SOCKET_PATH_LIMIT} bytes)",
            hint="choose a shorter --name, or point SEVKIT_STATE_DIR at a shorter directory",
        )


def check_hashes(spec: GuestSpec, place: LaunchFiles) -> None:
    """Refuse measured direct boot with firmware that has no place for the hashes; raises MissingToolError."""
    if not spec.kernel_hashes or place.firmware is None:
        return
    area = ovmf.parse(place.firmware.read_bytes()).table.get(ovmf.HASH_TABLE, b"")
    if not any(area[:4]):
        raise MissingToolError(
            f"--kernel-hashes: {place.firmware} has no place for the hashes of kernel, initrd and command line",
            hint="point SEVKIT_OVMF at edk2's OvmfPkg/AmdSev build (OVMF.amdsev.fd); Debian has none",
        )


def scratch_disk(path: Path, size_mib: int) -> None:
    """Create a sparse disk of zeros; raises NoSpaceError if it would not fit."""
    free = shutil.disk_usage(path.parent).free
    if free < size_mib << 20:
        raise NoSpaceError(
            f"a scratch disk of {size_mib} MiB does not fit: {free >> 20} MiB are free at {path.parent}",
            hint="give a smaller --disk-size, or set SEVKIT_STATE_DIR to a larger disk",
        )
    with path.open("wb") as stream:
        stream.truncate(size_mib << 20)
