"""The definition of a guest: an immutable value."""

import re
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from sevkit.errors import BadInputError, UsageError
from sevkit.vocabulary import Mode

_PATHS = ("kernel", "initrd", "cdrom")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\Z")


# QEMU's values of -drive cache= and aio= (qemu(1), "Block device options").
CACHE_MODES = ("none", "writeback", "writethrough", "directsync", "unsafe")
AIO = ("threads", "native", "io_uring")


class Accel(StrEnum):
    """What executes the guest's instructions."""

    AUTO = "auto"
    KVM = "kvm"
    TCG = "tcg"


class StorageKind(StrEnum):
    """The controller that a guest's disk hangs on."""

    NONE = "none"
    VIRTIO_BLK = "virtio-blk"
    VIRTIO_SCSI = "virtio-scsi"
    NVME = "nvme"


class Firmware(StrEnum):
    """What starts a guest: SeaBIOS with a direct kernel boot, the mode's own OVMF, or that of emulated SEV-SNP guests.

    The last boots in every mode: guests that are compared start with the same bytes.
    """

    SEABIOS = "seabios"
    OVMF = "ovmf"
    OVMF_SNP = "ovmf-snp"

    @property
    def uefi(self) -> bool:
        """Whether it starts what UEFI can start."""
        return self is not Firmware.SEABIOS


@dataclass(frozen=True)
class Storage:
    """A guest's disk and how it is attached.

    ``path`` is a raw or qcow2 image; None with a kind other than none asks for a scratch disk of ``size_mib`` that
    lives as long as the guest. ``cache`` and ``aio`` are QEMU's words (qemu-options, -drive).
    """

    kind: StorageKind = StorageKind.NONE
    path: Path | None = None
    size_mib: int = 256
    cache: str = "none"
    aio: str = "threads"
    iothread: bool = False
    queues: int | None = None

    def __post_init__(self) -> None:
        """Refuse values unknown to QEMU: they become part of a list of options, where a comma starts another option."""
        for what, word, known in (("cache mode", self.cache, CACHE_MODES), ("kind of aio", self.aio, AIO)):
            if word not in known:
                raise UsageError(f"{word!r} is not a {what} of QEMU's", hint=f"one of {', '.join(known)}")


@dataclass(frozen=True)
class GuestSpec:
    """Everything that decides how a guest is launched, except what the host adds (paths, C-bit position).

    ``memory_mib`` is the guest's RAM; ``cmdline`` is added to the kernel command line; ``policy`` is the launch
    policy as a number, None for the default of the mode (see guest/policy.py). ``sev_options`` are added to QEMU's
    encryption object (``host-data=…``); ``platform_seed`` decides the keys of an emulated platform that signs reports,
    empty for those of this user's own. ``kernel`` and ``initrd`` replace the image's; ``cdrom`` is an ISO image to boot
    instead. The guest sees each folder of ``shares`` as it is at launch, read-only. ``ports`` are pairs (port on the
    host's loopback, port in the guest); ``outgoing`` lets the guest reach other machines; ``ssh_keys`` are public keys
    that may log in.
    """

    name: str = "guest"
    mode: Mode = Mode.NOSEV
    image: str = "mini"
    memory_mib: int = 512
    vcpus: int = 1
    accel: Accel = Accel.AUTO
    cpu: str | None = None
    firmware: Firmware | None = None
    storage: Storage = field(default_factory=Storage)
    network: bool = True
    policy: int | None = None
    kernel_hashes: bool = False
    cmdline: str = ""
    qemu_machine: str = ""
    sev_options: str = ""
    platform_seed: str = ""
    kernel: Path | None = None
    initrd: Path | None = None
    cdrom: Path | None = None
    shares: tuple[Path, ...] = ()
    ports: tuple[tuple[int, int], ...] = ()
    outgoing: bool = False
    ssh_keys: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse values that no guest can have, and names that could be options or paths."""
        check_name(self.name)
        if not 32 <= self.memory_mib <= 16 * 1024 * 1024:
            raise UsageError(f"guest memory of {self.memory_mib} MiB is out of range", hint="give 32 MiB to 16 TiB")
        if not 1 <= self.vcpus <= 1024:
            raise UsageError(f"{self.vcpus} vCPUs is out of range", hint="give 1 to 1024")
        if not re.fullmatch(r"[A-Za-z0-9=,._-]*", self.qemu_machine):
            raise UsageError(f"machine options {self.qemu_machine!r} contain characters that QEMU options do not have")
        if not re.fullmatch(r"[A-Za-z0-9=,._+/-]*", self.sev_options):
            raise UsageError(f"options {self.sev_options!r} contain characters that QEMU options do not have")
        if self.sev_options and self.mode is Mode.NOSEV:
            raise UsageError("a guest without SEV has no encryption object", hint="leave --sev-options out")
        if self.cpu is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9=,+._-]*", self.cpu):
            raise UsageError(f"{self.cpu!r} is not a CPU model of QEMU's", hint="such as EPYC-v4, or max,-sse4a")

        for port in (number for pair in self.ports for number in pair):
            if not 1 <= port <= 65535:
                raise UsageError(f"{port} is not a port", hint="give 1 to 65535")
        if self.ports and not self.network:
            raise UsageError("a guest without network has no ports")

    @property
    def has_agent(self) -> bool:
        """Whether sevkit's agent runs in the guest: not in an initrd or ISO image of the user's own."""
        return self.initrd is None and self.cdrom is None

    def with_mode(self, mode: Mode) -> "GuestSpec":
        """The same guest in another mode; a plain one without the options of an encryption object."""
        return replace(self, mode=mode, sev_options="" if mode is Mode.NOSEV else self.sev_options)


def check_name(name: str) -> str:
    """Return ``name`` if it can be a guest's name; raises UsageError otherwise."""
    if not _NAME.match(name):
        raise UsageError(
            f"{name!r} cannot be a guest's name",
            hint="use letters, digits, '_', '.', '-', at most 64, starting with a letter or digit",
        )
    return name


def to_dict(spec: GuestSpec) -> dict[str, Any]:
    """The spec as JSON values."""
    plain = asdict(spec)
    plain["storage"]["path"] = None if spec.storage.path is None else str(spec.storage.path)
    for name in _PATHS:
        plain[name] = None if plain[name] is None else str(plain[name])
    plain["shares"] = [str(path) for path in spec.shares]
    return plain


def from_dict(plain: dict[str, Any]) -> GuestSpec:
    """The spec that ``to_dict`` wrote; raises BadInputError when it is damaged."""
    try:
        return _from_dict(plain)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadInputError(f"the description of a guest is damaged: {error!r}") from error


def _from_dict(plain: dict[str, Any]) -> GuestSpec:
    storage = dict(plain["storage"])
    storage["kind"] = StorageKind(storage["kind"])
    storage["path"] = None if storage["path"] is None else Path(storage["path"])
    firmware = plain["firmware"]
    return GuestSpec(
        **{
            **plain,
            "mode": Mode(plain["mode"]),
            "accel": Accel(plain["accel"]),
            "firmware": None if firmware is None else Firmware(firmware),
            "storage": Storage(**storage),
            **{name: None if plain[name] is None else Path(plain[name]) for name in _PATHS},
            "shares": tuple(Path(path) for path in plain["shares"]),
            "ports": tuple((int(host), int(guest)) for host, guest in plain["ports"]),
            "ssh_keys": tuple(map(str, plain["ssh_keys"])),
        }
    )
