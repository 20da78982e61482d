"""A launch in the form that the rules check, independent of its source format. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from sevkit.vocabulary import Mode

SEV_OBJECTS = {
    "sev-guest": Mode.SEV,
    "sev-snp-guest": Mode.SEV_SNP,
    "sev-tcg-guest": Mode.SEV,
    "sev-snp-tcg-guest": Mode.SEV_SNP,
}
Options = Mapping[str, str]


@dataclass(frozen=True)
class Part:
    """An object, device or drive: its type and its options. ``iommu`` devices of libvirt use QEMU's words."""

    kind: str
    options: Options = field(default_factory=dict)


@dataclass(frozen=True)
class Launch:
    """The options given to a VMM. A value with a ``$`` is a variable of a script, and unknown."""

    origin: str
    machine: Options = field(default_factory=dict)
    accel: str = ""
    cpu: str = ""
    smp: str = ""
    memory: str = ""
    objects: tuple[Part, ...] = ()
    devices: tuple[Part, ...] = ()
    drives: tuple[Part, ...] = ()
    bios: str = ""
    kernel: str = ""
    unknown: tuple[str, ...] = ()

    @property
    def encryption(self) -> Part | None:
        """The object that encrypts, used or not."""
        return next((part for part in self.objects if part.kind in SEV_OBJECTS), None)

    @property
    def protected_by(self) -> str:
        """The object that the machine names, or ""."""
        return self.machine.get("confidential-guest-support") or self.machine.get("memory-encryption") or ""

    @property
    def mode(self) -> Mode:
        """The mode that the guest should run in."""
        found = self.encryption
        if found is None:
            return Mode.NOSEV
        mode = SEV_OBJECTS[found.kind]
        policy = number(found.options.get("policy", ""))
        return Mode.SEV_ES if mode is Mode.SEV and policy is not None and policy & 4 else mode

    @property
    def pflash(self) -> bool:
        """Whether firmware is mapped as flash memory."""
        return any(drive.options.get("if") == "pflash" for drive in self.drives) or any(
            name in self.machine for name in ("pflash0", "pflash1")
        )


def number(text: str) -> int | None:
    """A number in QEMU's notation; None if it is not a number (a variable)."""
    try:
        return int(text.strip(), 0)
    except ValueError:
        return None


def is_on(value: str) -> bool:
    """Whether a boolean option is on."""
    return value.lower() in ("on", "yes", "true", "1", "")
