"""Lists of passed and failed tests: snphost ok, sevctl ok, snpguest ok, virt-host-validate, fwupd's report. Pure.

The names of the tests are those of snphost 0.1.1 to 0.7 and the versions after it (default, --verbose and JSON output),
sevctl 0.1 to 0.6, snpguest, libvirt 6.5 to 9, and fwupd 1.5 to 2. A failed test counts only if it names a value.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from sevkit.probe.undress import uncoloured, unquoted

C_BIT = "c_bit_position"  # several programs report it: it is compared, not taken as a reading
_UNLIMITED = (1 << 64) - 1  # RLIM_INFINITY
_FEW = 3  # rows of a list; fewer may be anything
_LIST, _GUEST = "snphost ok or sevctl ok", "snpguest ok"


class Said(NamedTuple):
    """The content of a text: its kind, its readings by name, and its values for fields of the leaf."""

    what: str
    readings: dict[str, Any]
    fields: dict[str, int] = {}  # noqa: RUF012 - never changed


class _Row(NamedTuple):
    """One test: whether it passed (None: skipped), its name, and its message or ""."""

    passed: bool | None
    name: str
    message: str


_LINE = re.compile(r"\s*\[ *(PASS|FAIL|SKIP) *\]\s*(?:- *)?(\S.*?)\s*", re.IGNORECASE)
_VERDICTS = {"pass": True, "fail": False, "skip": None}
_PARAMETERS = {
    "SEV enabled in KVM": "kvm_amd.sev", "SEV-ES enabled in KVM": "kvm_amd.sev_es",
    "SEV-SNP enabled in KVM": "kvm_amd.sev_snp",
}  # fmt: skip
_NUMBERS = {
    "C-bit location": C_BIT,
    "Physical address bit reduction": "phys_addr_reduction",
    "Number of VMPLs": "num_vmpl",
    "Number of encrypted guests supported simultaneously": "num_encrypted_guests",
    "Minimum ASID value for SEV-enabled, SEV-ES disabled guest": "min_sev_no_es_asid",
}
_DEVICE = {
    "/dev/sev readable": "readable", "/dev/sev writable": "writable",
    "Reading /dev/sev": "readable", "Writing /dev/sev": "writable",
}  # fmt: skip
_CONTENTS = re.compile(r"Error - contents read from /sys/module/kvm_amd/parameters/\w+: (\S{1,8})")
_LIMITS = re.compile(r"Soft: (\d{1,20}) \| Hard: (\d{1,20})")
_GUEST_NAMES = {"SEV": "sev", "SEV-ES": "sev-es", "SNP": "sev-snp"}
# virt-host-validate, with and without its lower-case words of old versions
_VALIDATE = re.compile(r"checking (?:for|if) [^:]{3,80}: *(?:PASS|WARN|FAIL)", re.IGNORECASE)
_IN_KERNEL = "AMD Secure Encrypted Virtualization appears to be disabled in kernel"
_IN_FIRMWARE = "AMD Secure Encrypted Virtualization appears to be disabled in firmware"
# fwupd: a row of `fwupdmgr security`; "not supported" and others say nothing of SEV
_FWUPD = re.compile(r"Host Security ID:|org\.fwupd\.hsi\.")
_RAM = re.compile(r"[✔✘xX√-]? *Encrypted RAM: +([A-Z][A-Za-z -]{2,30}?)(?::? http\S*)?\s*", re.IGNORECASE)

_RAM_JSON = re.compile(r'"AppstreamId"\s*:\s*"org\.fwupd\.hsi\.EncryptedRam"[^{}]{0,400}?"HsiResult"\s*:\s*"([\w-]+)"')


def read(text: str) -> Said | None:
    """The content of a list of tests; None for another text."""
    rows = list(_rows(text))
    if len(rows) >= _FEW:
        return _guest(rows) or _host(rows)
    return _validated(text) or _fwupd(text)


def _rows(text: str) -> Iterator[_Row]:
    if '"tests"' in text and '"status"' in text:
        yield from _rows_of_json(text)
        return
    for line in text.split("\n"):
        found = _LINE.fullmatch(unquoted(uncoloured(line))) if "[" in line else None
        if found:
            name, _, message = found[2].partition(": ")
            yield _Row(_VERDICTS[found[1].lower()], name, message.strip())


def _rows_of_json(text: str) -> Iterator[_Row]:
    try:
        tests = json.loads(text[text.index("{") :]).get("tests")
    except (ValueError, RecursionError, AttributeError):
        return
    for test in tests if isinstance(tests, list) else ():
        if not isinstance(test, dict):
            continue
        name, status, message = (test.get(key) for key in ("name", "status", "message"))
        if isinstance(name, str) and isinstance(status, str) and status in _VERDICTS:
            yield _Row(_VERDICTS[status], name, message if isinstance(message, str) else "")


def _guest(rows: list[_Row]) -> Said | None:
    """The modes by SEV_STATUS, which snpguest reads; with an MSR that cannot be read it lists no state."""
    states = {_GUEST_NAMES[row.name]: row.message == "ENABLED" for row in rows if _is_state(row)}
    if not states or any(row.name == "AMD CPU" for row in rows):
        return None
    for row in rows:  # skipped: the feature below which it stands is off
        if row.passed is None and row.name in _GUEST_NAMES:
            states.setdefault(_GUEST_NAMES[row.name], False)
    return Said(_GUEST, {"guest.modes": states} if len(states) == len(_GUEST_NAMES) else {})


def _is_state(row: _Row) -> bool:
    return row.name in _GUEST_NAMES and row.message in ("ENABLED", "DISABLED")


def _host(rows: list[_Row]) -> Said | None:
    names = {row.name for row in rows}
    known = names & {"AMD CPU", "Microcode support", "KVM supported", *_PARAMETERS, *_NUMBERS, *_DEVICE}
    if len(known) < _FEW:
        return None
    readings: dict[str, Any] = {}
    fields: dict[str, int] = {}
    for row in rows:
        _take(row, readings, fields)
    device = {_DEVICE[row.name]: _access(row) for row in rows if row.name in _DEVICE and row.passed is not None}
    if len(device) == 2:
        readings["sev.device"] = device
    return Said(_LIST, readings, fields)


def _take(row: _Row, readings: dict[str, Any], fields: dict[str, int]) -> None:
    if row.name in _PARAMETERS:
        value = _CONTENTS.match(row.message)
        if row.passed:
            readings[_PARAMETERS[row.name]] = "Y"
        elif value:
            readings[_PARAMETERS[row.name]] = value[1]
    elif not row.passed:
        return
    elif row.name in _NUMBERS and row.message.isascii() and row.message.isdecimal():
        fields[_NUMBERS[row.name]] = int(row.message[:10])
    elif row.name == "KVM supported" and (version := re.fullmatch(r"API version: (\d{1,9})", row.message)):
        readings["kvm.api_version"] = int(version[1])
    elif row.name == "Memlock resource limit" and (limits := _LIMITS.fullmatch(row.message)):
        soft, hard = (None if int(digits) >= _UNLIMITED else int(digits) for digits in limits.groups())
        readings["limits.memlock"] = {"soft": soft, "hard": hard}


def _access(row: _Row) -> str:
    return "yes" if row.passed else row.message.rpartition(": ")[2].partition(" (os error")[0].lower() or "no"


def _validated(text: str) -> Said | None:
    """virt-host-validate: PASS may be for another vendor's technology, so only words about AMD count."""
    if len(_VALIDATE.findall(text)) < _FEW:
        return None
    if _IN_KERNEL in text:
        return Said("virt-host-validate", {"kvm_amd.sev": "N"})
    return Said("virt-host-validate", {"kvm_amd.sev": "Y"} if _IN_FIRMWARE in text else {})


def _fwupd(text: str) -> Said | None:
    """What fwupd tells of SME and TSME: what encrypts the host's memory, not what its guests can have."""
    if not _FWUPD.search(text):
        return None
    state = _ram_in_json(text) if '"AppstreamId"' in text else _ram_in_text(text)
    return Said("fwupd's security report: " + (f"memory {state}" if state else "nothing of memory encryption"), {})


def _ram_in_text(text: str) -> str:
    lines = (unquoted(uncoloured(line)).strip() for line in text.split("\n"))
    return next((found[1].lower() for line in lines if (found := _RAM.fullmatch(line))), "")


def _ram_in_json(text: str) -> str:
    found = _RAM_JSON.search(text)
    return found[1].replace("-", " ") if found else ""
