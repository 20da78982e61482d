"""What a kernel log says about memory encryption. Pure: lines in, judgement out.

The wordings are those of Linux 4.14 to 6.18, from arch/x86/mm/mem_encrypt*.c, arch/x86/coco/sev, arch/x86/kernel/sev.c,
arch/x86/virt/svm/sev.c, arch/x86/kvm/svm/sev.c, drivers/crypto/ccp/sev-dev.c and drivers/iommu/amd/init.c. Every pattern
is anchored at the beginning of the kernel's own message: host names, kernel versions, command lines and what user space
writes may hold the same words and prove nothing.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from sevkit import textfile
from sevkit.errors import BadInputError
from sevkit.probe.collect.kernel import LOG_WORDS
from sevkit.probe.shape import clean_text

HOST_FEATURES = ("sev", "sev_es", "sev_snp")
_MODES = {"SME": "sme", "SEV": "sev", "SEV-ES": "sev-es", "SEV-SNP": "sev-snp"}
_WORDS = (*(word.decode() for word in LOG_WORDS), " active", "AMD ")
_TEXT_LIMIT = 300


class Evidence(NamedTuple):
    """One line that says something: where, its words, what they mean, and the effects (see `_combine`)."""

    line: int
    text: str
    means: str
    effects: tuple[str, ...]


_ALL_UNUSABLE = ("host:sev:unusable", "host:sev_es:unusable", "host:sev_snp:unusable", "role:host")
_FIRMWARE_FAILED = ("host:sev:unusable", "host:sev_es:unusable", "host:sev_snp:doubt", "role:host")
_NO_SNP = ("host:sev_snp:unusable", "role:host")
_HOST, _GUEST, _WEAK_HOST = ("role:host",), ("role:guest",), ("role:weak-host",)
_IN_SNP = ("active:sev", "active:sev-es", "active:sev-snp", "role:guest")

# (beginnings of a message, a pattern it must match as well or None, what it means, effects). The first row that fits a
# line counts. Beginnings are compared before any pattern is compiled: compiling all of them would take 15 ms.
_RULES: tuple[tuple[tuple[str, ...], str | None, str, tuple[str, ...]], ...] = (
    (("SEV: memory encryption not enabled by BIOS",), None, "the BIOS has not enabled memory encryption", _ALL_UNUSABLE),
    (("SEV: failed to INIT", "SEV: INIT failed", "SEV: INIT_EX failed", "SEV: failed to get status", "SEV: failed to SHUTDOWN"), None, "the SEV firmware was not initialised", _FIRMWARE_FAILED),
    (("sev command 0x",), r".*timed out", "the secure processor stopped answering", _ALL_UNUSABLE),
    (("sev initialization failed", "psp initialization failed"), None, "the driver of the secure processor did not start", _ALL_UNUSABLE),
    (("unable to access the device: you might be running a broken BIOS",), None, "the secure processor cannot be reached", _ALL_UNUSABLE),
    (("SEV: TMR allocation failed",), None, "no trusted memory region, so no SEV-ES", ("host:sev_es:unusable", "role:host")),
    (("SEV-SNP: failed to INIT", "SEV-SNP: SNP_INIT failed", "SEV-SNP: SNP_INIT_EX failed", "SEV-SNP: SNP_DF_FLUSH failed"), None, "SNP_INIT failed in the firmware", _NO_SNP),
    (("SEV-SNP: Memory for the RMP table has not been reserved by BIOS",), None, "the BIOS reserved no reverse map table", _NO_SNP),
    (("SEV-SNP: RMP configuration not valid", "SEV-SNP: Invalid RMP", "SEV-SNP: Memory reserved for the RMP table does not cover", "SEV-SNP: Failed to map RMP"), None, "the reverse map table cannot be used", _NO_SNP),
    (("SNP: ",), r".*(?:SNP cannot be supported|Too late to enable SNP)", "the IOMMU's configuration rules SNP out", _NO_SNP),
    (("IOMMU not currently supported when SME is active",), None, "the IOMMU is off because SME is active", _NO_SNP),
    (("SEV API:",), None, "the SEV firmware answered; that it can be used is not said", _HOST),
    (("SEV-SNP API:",), None, "the firmware knows SNP; hosts that cannot run it print this too", _HOST),
    (("SEV-SNP: RMP table physical", "SEV-SNP: Segmented RMP", "SEV-SNP: RMP segment", "SEV-SNP: Reserving start/end of RMP"), None, "a reverse map table was found; hosts that cannot run SNP print this too", _HOST),
    (("IOMMU SNP support enabled", "SNP enabled"), None, "the IOMMU supports SNP; nothing is said of the firmware", _HOST),
    (("sev enabled",), None, "a secure processor with SEV was found; nothing is said of its state", _HOST),
    (("Hypervisor detected: ",), None, "a hypervisor runs this kernel", _GUEST),
    (("Booting paravirtualized kernel on bare hardware",), None, "no hypervisor", _HOST),
    (("Booting paravirtualized kernel on ",), None, "a hypervisor runs this kernel", _GUEST),
    (("DMI: QEMU", "DMI: Google Google Compute Engine", "DMI: Microsoft Corporation Virtual Machine", "DMI: VMware"), None, "the machine is a virtual one", _GUEST),
    (("DMI: Amazon EC2 ",), r"(?!.*metal)", "the machine is a virtual one", _GUEST),
    (("SEV: Using SNP CPUID table", "SEV: SNP running at VMPL", "SEV: SNP guest platform device"), None, "the guest kernel runs with SEV-SNP", _IN_SNP),
    (("Hyper-V: Isolation Config: Group A 0x",), r".*Group B 0x[0-9a-f]*2\b", "Hyper-V runs this guest isolated by SEV-SNP", ("active:sev-snp", "role:guest")),
    (("sev-guest sev-guest: Initialized SEV guest driver",), None, "the guest has a channel to the SNP firmware", _GUEST),
    (("AMD Secure Memory Encryption (SME) active",), None, "SME is active", ("active:sme", "role:weak-host")),
    (("AMD Secure Encrypted Virtualization (SEV) active",), None, "SEV is active in this guest", ("active:sev", "role:guest")),
    (("Found IOMMU", "Interrupt remapping enabled", "Virtual APIC enabled", "X2APIC enabled"), None, "an AMD IOMMU is in use", _WEAK_HOST),
)  # fmt: skip

_ACTIVE = ("Memory Encryption Features active:", "AMD Memory Encryption Features active:")
_STATUS = "SEV: Status: "
_RANGE = r"SEV(-ES|-SNP)? (enabled|disabled|unusable)(?: \(ASIDs (\d{1,12}) - (\d{1,12})\))?\s*$"
_COUNT = r"SEV(-ES|-SNP)? supported(?:: (\d{1,12}) ASIDs)?\s*$"
# What drivers put before their messages. Linux up to 6.8 printed some of them without.
_DRIVERS = r"(?:ccp [0-9a-fA-F:.]{7,20}|psp|SVM|kvm_amd|kvm-amd|kvm|AMD-Vi): "

# What dmesg, journalctl and syslog put before a message.
_RAW = r"(\d{1,4}),\d+,\d+,[^;]{0,40};"
_PRIORITY = r"<(\d{1,4})>"
_FACILITY = r"(kern|user|daemon|auth|syslog|local\d|\w{2,8}) *:\w{3,6} *: "
_SYSLOG = (
    r"(?:[A-Z][a-z]{2} +\d{1,2} (?:\d{4} )?[\d:.]{5,18}|\d{4}-\d\d-\d\d[T ][\d:.,+Z-]{5,30})"
    r" +\S{1,255} ([^\s:\[]{1,64})(?:\[\d+\])?: ?"
)
_MONOTONIC = r"\S{1,255} kernel: "
_STAMP = r"\[[^\]]{1,40}\][ :]?"


def message_of(line: str) -> str | None:
    """The kernel's message without what dmesg, journalctl or syslog put before it; None for a line of user space."""
    rest = line.rstrip("\r\n")
    raw = re.match(_RAW, rest) or re.match(_PRIORITY, rest)
    if raw:
        if int(raw[1]) >= 8:
            return None
        rest = rest[raw.end() :]
    facility = re.match(_FACILITY, rest)
    if facility:
        if facility[1] != "kern":
            return None
        rest = rest[facility.end() :]
    syslog = re.match(_SYSLOG, rest)
    if syslog:
        if syslog[1] != "kernel":
            return None
        rest = rest[syslog.end() :]
    for _ in range(3):
        stamp = re.match(_STAMP, rest)
        if not stamp:
            break
        rest = rest[stamp.end() :].lstrip(" ")
    named = re.match(_MONOTONIC, rest)
    return rest[named.end() :] if named else rest


def judge(lines: Iterable[str], *, bare: bool = False) -> dict[str, Any]:
    """The judgement on a log: role, active features, what the host can do, and the lines that say so.

    Only the last boot counts where a log holds several. Line numbers count from 1. ``bare`` says that the lines are the
    kernel's own, without anything before them.
    """
    found: list[Evidence] = []
    open_list = False
    complete = False
    for number, line in enumerate(lines, 1):
        if not open_list and not any(word in line for word in _WORDS):
            continue
        message = line if bare else message_of(line)
        if message is None:
            continue
        if message.startswith("Linux version "):
            found.clear()
            complete = True
            continue
        if open_list:  # the list of features was printed in pieces and cut by a line break
            message, open_list = f"{_ACTIVE[0]} {message.strip()}", False
        elif message.rstrip() in _ACTIVE:
            open_list = True
            continue
        found.extend(_read(number, message))
    return _combine(found, complete)


def _read(number: int, message: str) -> list[Evidence]:
    driver = re.match(_DRIVERS, message)
    own = message[driver.end() :] if driver else message
    if driver and own.startswith("psp: "):
        own = own[5:]
    means, effects = _listed(message) or _kvm(own) or _ruled(own) or ("", ())
    if not means:
        return []
    return [Evidence(number, clean_text(message.strip()[:_TEXT_LIMIT]), means, effects)]


def _ruled(message: str) -> tuple[str, tuple[str, ...]] | None:
    for beginnings, pattern, means, effects in _RULES:
        if message.startswith(beginnings) and (pattern is None or re.match(pattern, message)):
            return means, effects
    return None


def _listed(message: str) -> tuple[str, tuple[str, ...]] | None:
    """The list of active features (5.10 and later) and the guest's SEV_STATUS in words (6.11 and later)."""
    if not message.startswith((*_ACTIVE, _STATUS)):
        return None
    words = message.partition("active:")[2].split() or message.removeprefix(_STATUS).split()
    if "Intel" in words:
        return "Intel TDX is active, nothing of AMD", _GUEST
    modes = [_MODES[word] for word in words if word in _MODES]
    if not modes:
        return None
    role = "role:weak-host" if modes == ["sme"] else "role:guest"
    return f"active: {', '.join(modes)}", (*(f"active:{mode}" for mode in modes), role)


def _kvm(message: str) -> tuple[str, tuple[str, ...]] | None:
    """KVM's own lines: "supported: N ASIDs" up to 5.19, "enabled (ASIDs a - b)" since 6.0."""
    if not message.startswith("SEV"):
        return None
    ranged, counted = re.match(_RANGE, message), re.match(_COUNT, message)
    if ranged:
        suffix, state, first, last = ranged.groups()
        usable = state == "enabled" and (first is None or 1 <= int(first) <= int(last) < 1 << 24)
        room = f" with ASIDs {first} to {last}" if first else ""
    elif counted:
        suffix, count = counted.groups()
        usable = count is None or 0 < int(count) < 1 << 24
        room = f" with {count} ASIDs" if count else ""
    else:
        return None
    feature = {None: "sev", "-ES": "sev_es", "-SNP": "sev_snp"}[suffix]
    words = "can run" if usable else "cannot run"
    mode = feature.replace("_", "-")
    return f"KVM {words} {mode} guests{room}", (
        f"host:{feature}:{'usable' if usable else 'unusable'}",
        "role:weak-host",
    )


def _combine(found: Sequence[Evidence], complete: bool) -> dict[str, Any]:
    effects = {effect for item in found for effect in item.effects}
    if "role:guest" in effects:
        role = "guest"
    elif effects & {"role:host", "role:weak-host"}:
        role = "host"
    else:
        role = "unknown"
    return {
        "role": role,
        "active": [mode for mode in _MODES.values() if f"active:{mode}" in effects],
        "host": {feature: _usable(feature, effects, role) for feature in HOST_FEATURES},
        "evidence": [{"line": item.line, "text": item.text, "means": item.means} for item in found],
        "complete": complete,
    }


def _usable(feature: str, effects: set[str], role: str) -> str:
    """A failure outweighs what KVM says: KVM of several versions says "enabled" although the firmware's INIT failed.

    In a guest KVM's words rest on a leaf that leaked from the host: there they prove nothing.
    """
    if f"host:{feature}:unusable" in effects:
        return "unusable"
    if f"host:{feature}:doubt" in effects or role == "guest":
        return "unknown"
    return "usable" if f"host:{feature}:usable" in effects else "unknown"


def read_log(data: bytes, name: str) -> list[str]:
    """The lines of a saved kernel log; raises BadInputError for what is no text."""
    if not data.strip():
        raise BadInputError(f"{name}: the file is empty", hint="save a log with `dmesg > FILE`")
    return textfile.text(data, name).split("\n")
