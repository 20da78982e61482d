"""A guest's spec as a libvirt domain (formatdomain), with the same devices as the command line of `argv`. Pure.

SEV and SEV-ES need libvirt 4.5 or later, ``sev-snp`` 10.5. Libvirt itself creates sockets and the monitor.
"""

from xml.etree import ElementTree as ET

from sevkit.errors import UsageError
from sevkit.guest import policy
from sevkit.guest.spec import Accel, GuestSpec, StorageKind
from sevkit.qemu.argv import Encryption, LaunchFiles, by_bios, cpu_model, firmware_of, kernel_words
from sevkit.vocabulary import Mode


def build(spec: GuestSpec, binary: str, accel: Accel, place: LaunchFiles, encryption: Encryption | None) -> str:
    """The domain, for ``virsh define``; raises UsageError for options that libvirt cannot express.

    If this host cannot determine the C-bit and the reduced bits, they are left out: libvirt asks QEMU.
    """
    _check(spec)
    domain = ET.Element("domain", {"type": "kvm" if accel is Accel.KVM else "qemu"})
    _text(domain, "name", spec.name)
    _text(domain, "memory", str(spec.memory_mib), unit="MiB")
    backing = ET.SubElement(domain, "memoryBacking")
    ET.SubElement(backing, "source", {"type": "memfd"})
    ET.SubElement(backing, "access", {"mode": "shared"})
    _text(domain, "vcpu", str(spec.vcpus))
    _boot(domain, spec, place, accel)
    features = ET.SubElement(domain, "features")
    for name in ("acpi", "apic"):
        ET.SubElement(features, name)
    ET.SubElement(features, "vmport", {"state": "off"})
    ET.SubElement(features, "smm", {"state": "off"})
    _cpu(domain, cpu_model(spec, accel))
    _text(domain, "on_reboot", "destroy")
    _devices(domain, spec, binary, place)
    if spec.mode is not Mode.NOSEV:
        _security(domain, spec, encryption)
    ET.indent(domain)
    return ET.tostring(domain, encoding="unicode") + "\n"


def _check(spec: GuestSpec) -> None:
    refused = [
        ("--qemu-machine", spec.qemu_machine),
        ("--sev-options", spec.sev_options),
        ("shared folders", spec.shares),
        ("--cdrom", spec.cdrom),
        ("forwarded ports", spec.ports),
        ("storage nvme", spec.storage.kind is StorageKind.NVME),
    ]
    for what, given in refused:
        if given:
            raise UsageError(f"libvirt's domain has no words for {what}", hint="leave it out, or use --dry-run")


def _text(parent: ET.Element, name: str, text: str, **attributes: str) -> ET.Element:
    child = ET.SubElement(parent, name, attributes)
    child.text = text
    return child


def _boot(domain: ET.Element, spec: GuestSpec, place: LaunchFiles, accel: Accel) -> None:
    system = ET.SubElement(domain, "os")
    _text(system, "type", "hvm", arch="x86_64", machine="q35")
    if firmware_of(spec).uefi:
        kind = {"type": "rom", "stateless": "yes"} if by_bios(spec) else {"readonly": "yes", "type": "pflash"}
        _text(system, "loader", str(place.firmware), **kind)
    if place.kernel is not None:
        _text(system, "kernel", str(place.kernel))
        if place.initrd is not None:
            _text(system, "initrd", str(place.initrd))
        _text(system, "cmdline", kernel_words(spec, place, accel))


def _cpu(domain: ET.Element, model: str) -> None:
    name, *features = model.split(",")
    if name in ("host", "max"):
        cpu = ET.SubElement(domain, "cpu", {"mode": "host-passthrough" if name == "host" else "maximum"})
    else:
        cpu = ET.SubElement(domain, "cpu", {"mode": "custom", "match": "exact", "check": "none"})
        _text(cpu, "model", name, fallback="forbid")
    for feature in features:
        word, _, value = feature.partition("=")
        off = value == "off" or word.startswith("-")
        ET.SubElement(cpu, "feature", {"policy": "disable" if off else "require", "name": word.lstrip("+-")})


def _devices(domain: ET.Element, spec: GuestSpec, binary: str, place: LaunchFiles) -> None:
    devices = ET.SubElement(domain, "devices")
    _text(devices, "emulator", binary)
    if place.root_disk is not None:
        _disk(
            devices,
            str(place.root_disk),
            "vda",
            "virtio",
            {"type": place.root_format, "cache": "unsafe"},
            "sevkit-root",
        )
    if place.seed is not None:
        _disk(devices, str(place.seed), "vdb", "virtio", {"type": "raw"}, "sevkit-seed", readonly=True)
    storage = spec.storage
    if place.data_disk is not None and storage.kind is not StorageKind.NONE:
        scsi = storage.kind is StorageKind.VIRTIO_SCSI
        driver = {"type": "raw", "cache": str(storage.cache), "io": str(storage.aio)}
        _disk(
            devices, str(place.data_disk), "sda" if scsi else "vdc", "scsi" if scsi else "virtio", driver, "sevkit-data"
        )
        if scsi:
            _driven(ET.SubElement(devices, "controller", {"type": "scsi", "model": "virtio-scsi"}))
    _driven(ET.SubElement(devices, "controller", {"type": "virtio-serial"}))
    if spec.network:
        net = ET.SubElement(devices, "interface", {"type": "user"})
        ET.SubElement(net, "model", {"type": "virtio"})
        _driven(net)
    ET.SubElement(ET.SubElement(devices, "serial", {"type": "pty"}), "target", {"port": "0"})
    channel = ET.SubElement(devices, "channel", {"type": "unix"})
    ET.SubElement(channel, "target", {"type": "virtio", "name": "sevkit.agent"})
    ET.SubElement(devices, "memballoon", {"model": "none"})
    rng = ET.SubElement(devices, "rng", {"model": "virtio"})
    _text(rng, "backend", "/dev/urandom", model="random")
    _driven(rng)


def _disk(
    devices: ET.Element,
    file: str,
    target: str,
    bus: str,
    driver: dict[str, str],
    serial: str,
    *,
    readonly: bool = False,
) -> None:
    disk = ET.SubElement(devices, "disk", {"type": "file", "device": "disk"})
    iommu = {} if bus == "scsi" else {"iommu": "on"}  # a SCSI disk's transport is its controller
    ET.SubElement(disk, "driver", {"name": "qemu", **driver, **iommu})
    ET.SubElement(disk, "source", {"file": file})
    ET.SubElement(disk, "target", {"dev": target, "bus": bus})
    _text(disk, "serial", serial)
    if readonly:
        ET.SubElement(disk, "readonly")


def _driven(device: ET.Element) -> None:
    """Use the DMA API, as encryption requires; in every mode, so that pairs are fair."""
    ET.SubElement(device, "driver", {"iommu": "on"})


def _security(domain: ET.Element, spec: GuestSpec, encryption: Encryption | None) -> None:
    snp = spec.mode is Mode.SEV_SNP
    hashes = {"kernelHashes": "yes"} if spec.kernel_hashes else {}
    security = ET.SubElement(domain, "launchSecurity", {"type": "sev-snp" if snp else "sev", **hashes})
    if encryption is not None and isinstance(encryption.c_bit_position, int):
        _text(security, "cbitpos", str(encryption.c_bit_position))
        _text(security, "reducedPhysBits", str(encryption.reduced_phys_bits))
    value = spec.policy if spec.policy is not None else policy.DEFAULTS[spec.mode]
    policy.check(value, spec.mode)
    _text(security, "policy", f"{value:#06x}")
