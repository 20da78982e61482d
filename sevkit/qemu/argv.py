"""Build the command line from a guest's spec and the capabilities of the QEMU binary. Pure: no files, no processes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sevkit.errors import UnsupportedModeError, UsageError
from sevkit.guest import policy
from sevkit.guest.spec import Accel, Firmware, GuestSpec, StorageKind
from sevkit.vocabulary import Mode

SEV_OBJECT = {Mode.SEV: "sev-guest", Mode.SEV_ES: "sev-guest", Mode.SEV_SNP: "sev-snp-guest"}
HARDWARE_OBJECTS = frozenset(SEV_OBJECT.values())
# The engine of emulator/ has the same objects under other names.
EMULATED_OBJECT = {Mode.SEV: "sev-tcg-guest", Mode.SEV_ES: "sev-tcg-guest", Mode.SEV_SNP: "sev-snp-tcg-guest"}
EMULATED_OBJECTS = frozenset(EMULATED_OBJECT.values())
# CPU features that TCG must not offer to a guest that gets #VC on exits, and so, for fair pairs, to no guest. MONITOR:
# OVMF's idle vCPUs would wait with MWAIT, which exits, while no #VC handler is installed. LA57: Linux clears its CPU
# features briefly in identify_cpu(); an MMIO #VC during that time walks five-level page tables as if they had four.
TCG_CPU = "max,monitor=off,la57=off"


@dataclass(frozen=True)
class Capabilities:
    """What a QEMU binary reports about itself (``-object help``, ``-accel help``)."""

    binary: str
    version: str
    objects: frozenset[str]

    @property
    def emulates_sev(self) -> bool:
        """Whether this QEMU has the memory-encryption engine of emulator/."""
        return EMULATED_OBJECT[Mode.SEV] in self.objects

    @property
    def emulated_modes(self) -> tuple[Mode, ...]:
        """The modes that the engine supports: SEV-ES was added to it together with SEV-SNP."""
        if not self.emulates_sev:
            return ()
        return (Mode.SEV, Mode.SEV_ES, Mode.SEV_SNP) if EMULATED_OBJECT[Mode.SEV_SNP] in self.objects else (Mode.SEV,)


@dataclass(frozen=True)
class Encryption:
    """What the host adds for an encrypted guest: the C-bit position and the bits of physical address the guest loses.

    From CPUID 0x8000001F and QEMU's query-sev-capabilities; never a constant in our code.
    """

    c_bit_position: int | str
    reduced_phys_bits: int | str


# Placeholders in a dry run's command line, for values that this host cannot determine.
UNKNOWN_ENCRYPTION = Encryption("C_BIT_POSITION", "REDUCED_PHYS_BITS")


@dataclass(frozen=True)
class LaunchFiles:
    """The files and sockets of one launch."""

    kernel: Path | None  # None: the root disk boots by itself
    initrd: Path | None
    firmware: Path | None  # OVMF; None for SeaBIOS
    qmp: Path
    agent: Path
    console: Path
    console_log: Path
    root_disk: Path | None = None
    root_format: str = "raw"
    seed: Path | None = None  # cloud-init's NoCloud seed
    data_disk: Path | None = None
    cdrom: Path | None = None
    shares: tuple[Path, ...] = ()  # disks that hold shared folders
    firmware_search: tuple[Path, ...] = ()
    firmware_model: Path | None = None  # the socket of the process that signs reports of an emulated SEV-SNP guest


def firmware_of(spec: GuestSpec) -> Firmware:
    """The firmware a spec boots with: encrypted guests need OVMF, plain ones start faster without."""
    if spec.firmware is Firmware.SEABIOS and spec.mode is not Mode.NOSEV:
        raise UsageError(f"mode {spec.mode} needs OVMF: SeaBIOS cannot start an encrypted guest")
    return spec.firmware or (Firmware.SEABIOS if spec.mode is Mode.NOSEV else Firmware.OVMF)


def cpu_model(spec: GuestSpec, accel: Accel) -> str:
    """The CPU model: the same for all modes, so that pairs differ only in the mode.

    Under KVM a named model (`host` is refused by SEV-SNP before QEMU 9.1, and differs between machines); under TCG all
    features that it offers, except those that encrypted guests cannot use (TCG_CPU).
    """
    return spec.cpu or ("EPYC-v4" if accel is Accel.KVM else TCG_CPU)


def forced_differences(spec: GuestSpec, *, emulated: bool = False) -> list[str]:
    """The differences, besides encryption, that this guest must have from the plain guest of the same spec.

    ``emulated``: it runs with the engine of emulator/.
    """
    found = []
    if spec.mode is not Mode.NOSEV:
        if firmware_of(spec) is not firmware_of(spec.with_mode(Mode.NOSEV)):
            found.append(f"firmware: {firmware_of(spec)}, the plain guest {firmware_of(spec.with_mode(Mode.NOSEV))}")
        found.append("DMA goes through bounce buffers (swiotlb)")
    if spec.mode is Mode.SEV_SNP:
        own = "sealed memory of the engine's" if emulated else "guest_memfd"
        found.append(f"memory backing: private pages in {own}, the plain guest's in a memfd")
    if by_bios(spec) and not by_bios(spec.with_mode(Mode.NOSEV)):
        found.append("firmware is mapped by -bios, the plain guest's as pflash")
    return found


def build(
    spec: GuestSpec, capabilities: Capabilities, accel: Accel, place: LaunchFiles, encryption: Encryption | None
) -> list[str]:
    """The command line of QEMU for ``spec``.

    ``encryption`` is required for every mode except nosev. Raises UnsupportedModeError if this QEMU lacks the object
    that the mode needs, UsageError for a policy that the firmware would refuse.
    """
    argv = [capabilities.binary, "-name", f"sevkit-{spec.name}", "-nodefaults", "-no-user-config"]
    argv += ["-display", "none", "-vga", "none", "-no-reboot"]
    argv += _machine(spec, accel)
    argv += ["-cpu", cpu_model(spec, accel), "-smp", str(spec.vcpus), "-m", f"{spec.memory_mib}M"]
    argv += ["-object", f"memory-backend-memfd,id=ram0,size={spec.memory_mib}M,share=on"]
    if spec.mode is not Mode.NOSEV:
        argv += ["-object", _encryption_object(spec, capabilities, place, encryption)]
    argv += _boot(spec, place, flash=not by_bios(spec))
    argv += [] if place.kernel is None else _kernel(spec, place, accel)
    argv += _control(place)
    argv += _disks(spec, place)
    if spec.network:
        argv += ["-netdev", _network(spec)]
        argv += ["-device", _pci("virtio-net-pci", "netdev=net0", "romfile=")]
    argv += ["-object", "rng-random,id=rng0,filename=/dev/urandom"]
    argv += ["-device", _pci("virtio-rng-pci", "rng=rng0")]
    return argv


def _network(spec: GuestSpec) -> str:
    """User networking: ssh and requested ports are forwarded from the host's loopback; outgoing only on request."""
    options = ["user", "id=net0", *([] if spec.outgoing else ["restrict=on"]), "hostfwd=tcp:127.0.0.1:0-:22"]
    return ",".join([*options, *(f"hostfwd=tcp:127.0.0.1:{host}-:{guest}" for host, guest in spec.ports)])


def _machine(spec: GuestSpec, accel: Accel) -> list[str]:
    options = ["q35", "memory-backend=ram0", "vmport=off", "smm=off"]
    if spec.mode is not Mode.NOSEV:
        options.append("confidential-guest-support=sev0")
    if spec.qemu_machine:
        options.append(spec.qemu_machine)
    # The default of 1 GiB for translated code is more than a small guest's whole memory, and all of it would be dumped.
    accelerator = "kvm" if accel is Accel.KVM else "tcg,thread=multi,tb-size=256"
    return ["-machine", ",".join(options), "-accel", accelerator]


def _object_name(spec: GuestSpec, capabilities: Capabilities) -> str:
    """The QEMU object that encrypts; raises UnsupportedModeError if this QEMU lacks it."""
    if capabilities.emulates_sev:
        if spec.mode not in capabilities.emulated_modes:
            raise UnsupportedModeError(
                f"this build of the emulator does not do {spec.mode}: it has no {EMULATED_OBJECT[Mode.SEV_SNP]}",
                hint="make emulator builds the present one; --hypervisor mock runs the model",
            )
        return EMULATED_OBJECT[spec.mode]
    kind = SEV_OBJECT[spec.mode]
    if kind not in capabilities.objects:
        raise UnsupportedModeError(
            f"QEMU {capabilities.version} has no object {kind}, which mode {spec.mode} needs",
            hint="sev-snp-guest is in QEMU 9.1 and later" if spec.mode is Mode.SEV_SNP else None,
        )
    return kind


def _encryption_object(
    spec: GuestSpec, capabilities: Capabilities, place: LaunchFiles, encryption: Encryption | None
) -> str:
    kind = _object_name(spec, capabilities)
    if encryption is None:
        raise UnsupportedModeError(f"the C-bit position for mode {spec.mode} is not known on this host")
    value = spec.policy if spec.policy is not None else policy.DEFAULTS[spec.mode]
    policy.check(value, spec.mode)
    parts = [
        kind,
        "id=sev0",
        f"policy={value:#x}",
        f"cbitpos={encryption.c_bit_position}",
        f"reduced-phys-bits={encryption.reduced_phys_bits}",
    ]
    if spec.kernel_hashes:
        parts.append("kernel-hashes=on")
    if place.firmware_model is not None:
        parts.append(f"firmware-socket={_escaped(place.firmware_model)}")
    if spec.sev_options:
        parts.append(spec.sev_options)
    return ",".join(parts)


def by_bios(spec: GuestSpec) -> bool:
    """Whether to map firmware with -bios and not as flash: QEMU refuses flash for SEV-SNP, and SEV-ES cannot use ours.

    Our flash contains only code, and OVMF reads the missing variable store as MMIO, with an instruction that its #VC
    handler does not support. That is the guest's code, so hardware does not differ: an access to an address without
    memory is a non-automatic exit there too (APM volume 2, 15.35.5). The image with code and variables has no such gap.
    """
    return spec.mode in (Mode.SEV_ES, Mode.SEV_SNP) or spec.firmware is Firmware.OVMF_SNP


def _boot(spec: GuestSpec, place: LaunchFiles, *, flash: bool) -> list[str]:
    argv = []
    for folder in place.firmware_search:
        argv += ["-L", str(folder)]
    if firmware_of(spec).uefi:
        assert place.firmware is not None
        if not flash:
            argv += ["-bios", str(place.firmware)]
        else:
            argv += ["-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={_escaped(place.firmware)}"]
    return argv


def _kernel(spec: GuestSpec, place: LaunchFiles, accel: Accel) -> list[str]:
    argv = ["-kernel", str(place.kernel)]
    argv += [] if place.initrd is None else ["-initrd", str(place.initrd)]
    return [*argv, "-append", kernel_words(spec, place, accel)]


def kernel_words(spec: GuestSpec, place: LaunchFiles, accel: Accel) -> str:
    """The kernel's command line."""
    words = ["console=ttyS0", "panic=-1", "quiet", "loglevel=6", f"sevkit.name={spec.name}"]
    if accel is Accel.TCG:  # at boot Linux waits for ten timer ticks; on a busy host a vCPU misses some of them
        words.append("no_timer_check")
    if place.root_disk is not None:
        words.append("sevkit.root=LABEL=sevkit-root")
    return " ".join([*words, *spec.cmdline.split()])


def _control(place: LaunchFiles) -> list[str]:
    return [
        *("-chardev", f"socket,id=qmp,path={_escaped(place.qmp)},server=on,wait=off"),
        *("-mon", "chardev=qmp,mode=control"),
        *(
            "-chardev",
            f"socket,id=console,path={_escaped(place.console)},server=on,wait=off,logfile={_escaped(place.console_log)}",
        ),
        *("-serial", "chardev:console"),
        *("-device", "virtio-serial-pci,disable-legacy=on,iommu_platform=on"),
        *("-chardev", f"socket,id=agent,path={_escaped(place.agent)},server=on,wait=off"),
        *("-device", "virtserialport,chardev=agent,name=sevkit.agent"),
    ]


def _disks(spec: GuestSpec, place: LaunchFiles) -> list[str]:
    argv = []
    if place.root_disk is not None:
        file = f"file={_escaped(place.root_disk)},format={place.root_format}"
        argv += ["-drive", f"if=none,id=root0,{file},snapshot=on,cache=unsafe"]
        argv += ["-device", _pci("virtio-blk-pci", "drive=root0", "serial=sevkit-root")]
    if place.seed is not None:
        argv += ["-drive", f"if=none,id=seed0,file={_escaped(place.seed)},format=raw,readonly=on"]
        argv += ["-device", _pci("virtio-blk-pci", "drive=seed0", "serial=sevkit-seed")]
    if place.cdrom is not None:
        argv += ["-drive", f"if=none,id=cd0,media=cdrom,readonly=on,format=raw,file={_escaped(place.cdrom)}"]
        argv += ["-device", "ide-cd,drive=cd0,bootindex=0"]
    for number, share in enumerate(place.shares):
        argv += ["-drive", f"if=none,id=share{number},file={_escaped(share)},format=raw,readonly=on"]
        argv += ["-device", _pci("virtio-blk-pci", f"drive=share{number}", f"serial=sevkit-share{number}")]
    storage = spec.storage
    if storage.kind is StorageKind.NONE:
        return argv
    assert place.data_disk is not None
    drive = f"if=none,id=data0,file={_escaped(place.data_disk)},format=raw,cache={storage.cache},aio={storage.aio}"
    argv += ["-drive", drive]
    thread = []
    if storage.iothread:
        argv += ["-object", "iothread,id=io0"]
        thread = ["iothread=io0"]
    queues = [] if storage.queues is None else [f"num-queues={storage.queues}"]
    if storage.kind is StorageKind.VIRTIO_BLK:
        argv += ["-device", _pci("virtio-blk-pci", "drive=data0", "serial=sevkit-data", *thread, *queues)]
    elif storage.kind is StorageKind.VIRTIO_SCSI:
        argv += [
            "-device",
            _pci("virtio-scsi-pci", "id=scsi0", *thread, *[q.replace("num-", "num_") for q in queues]),
        ]
        argv += ["-device", "scsi-hd,drive=data0,bus=scsi0.0,serial=sevkit-data"]
    else:
        if storage.iothread:
            raise UsageError("QEMU's NVMe device takes no iothread", hint="leave --iothread out for nvme")
        extra = [] if storage.queues is None else [f"max_ioqpairs={storage.queues}"]
        argv += ["-device", ",".join(["nvme", "drive=data0", "serial=sevkit-data", *extra])]
    return argv


def _pci(device: str, *options: str) -> str:
    """A virtio device with the same transport in every mode: modern, and with the DMA API, as encryption requires."""
    return ",".join([device, "disable-legacy=on", "iommu_platform=on", *options])


def _escaped(path: Path) -> str:
    """A path as QEMU's option parser wants it: a comma is doubled."""
    return str(path).replace(",", ",,")


def differing_words(first: Sequence[str], second: Sequence[str]) -> list[tuple[str, str]]:
    """The words in which two command lines differ: (only in first, only in second). A fair pair has few."""
    import difflib

    matcher = difflib.SequenceMatcher(a=list(first), b=list(second), autojunk=False)
    return [
        (" ".join(first[a:b]), " ".join(second[c:d])) for kind, a, b, c, d in matcher.get_opcodes() if kind != "equal"
    ]
