"""A launch in the form that the rules check, independent of its source format. Pure."""

import re
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
_CODE_ALONE = re.compile(r"(?i)code")  # of a file's name: OVMF_CODE.fd, edk2-x86_64-code.fd
_VARIABLE = re.compile(r"\$[\w({@*]|\{\{|%\w+%|<[A-Za-z][\w -]*>")


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
    unknown: tuple[str, ...] = ()  # words that may be any options
    variables: tuple[str, ...] = ()  # words of which only a value is not known

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
    def unclear(self) -> str:
        """Why the mode is not known, or ""."""
        found, used = self.encryption, self.protected_by
        if found is None and used:
            other = next((part.kind for part in self.objects if part.options.get("id") == used), "")
            if other:
                return f"{other} is none of SEV's objects"
            return self.unknown[0] if self.unknown else ""
        if found is None:
            return next((word for word in self.unknown if is_variable(word)), "")
        policy = found.options.get("policy", "0")
        return f"policy={policy}" if SEV_OBJECTS[found.kind] is Mode.SEV and number(policy) is None else ""

    @property
    def igvm(self) -> bool:
        """Whether an IGVM file brings the firmware and the policy."""
        return "igvm-cfg" in self.machine or "igvm-file" in (self.encryption or Part("")).options

    @property
    def pflash(self) -> bool:
        """Whether firmware is mapped as flash memory."""
        return any(drive.options.get("if") == "pflash" for drive in self.drives) or any(
            name in self.machine for name in ("pflash0", "pflash1")
        )

    @property
    def flash_without_store(self) -> bool | None:
        """Whether the firmware's code is mapped as the only flash memory; None if its file is not known.

        What the file holds is told by its name: only the code alone is called so, not code and variables in one.
        """
        files = [drive.options.get("file", "") for drive in self.drives if drive.options.get("if") == "pflash"]
        if not self.pflash or "pflash1" in self.machine or len(files) > 1:
            return False
        if not files or not files[0] or is_variable(files[0]):
            return None
        return bool(_CODE_ALONE.search(files[0].rpartition("/")[2]))


def number(text: str) -> int | None:
    """A number in QEMU's notation; None if it is not a number (a variable)."""
    try:
        return int(text.strip(), 0)
    except ValueError:
        return None


def is_variable(text: str) -> bool:
    """Whether a text holds a variable of a script or of a template."""
    return bool(_VARIABLE.search(text))


def switched(value: str | None) -> bool | None:
    """Whether a boolean option is on; None if it is not given or a variable."""
    if value is None or is_variable(value):
        return None
    return value.lower() in ("on", "yes", "true", "1", "")
