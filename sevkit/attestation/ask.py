"""Ask a guest for its report, through either interface of Linux: configfs-tsm, or the device /dev/sev-guest.

Sources: Linux Documentation/ABI/testing/configfs-tsm and include/uapi/linux/sev-guest.h. The device exists since Linux
5.19, configfs-tsm since 6.7. Both give the extended report: the report, and the host's certificate table.
"""

import struct
from collections.abc import Callable
from dataclasses import replace
from enum import StrEnum

from sevkit.attestation.report import certtable
from sevkit.attestation.report.evidence import Evidence, read
from sevkit.errors import BadInputError, GuestError, UsageError
from sevkit.guest import ioctl
from sevkit.hypervisor.protocols import Guest

NONCE = 64
TIMEOUT = 120.0
DEVICE = "/dev/sev-guest"
_HINT = "it needs SEV-SNP, and Linux with the sev-guest driver: `modprobe sev-guest` in the guest"
# Write inblob, read outblob and auxblob as lines of hex. privlevel is the VMPL.
_SCRIPT = r"""
[ -d /sys/kernel/config/tsm ] || mount -t configfs none /sys/kernel/config 2>/dev/null
[ -d /sys/kernel/config/tsm/report ] || exit 77
set -e
d=/sys/kernel/config/tsm/report/sevkit-$$
mkdir $d
trap 'rmdir $d' EXIT
[ -z "$2" ] || echo "$2" > $d/privlevel
printf "$1" > $d/inblob
for blob in outblob auxblob; do hex=$(od -An -v -tx1 < $d/$blob); echo $hex; done
"""
_NO_CONFIGFS = 77
_VMPL = ["sh", "-c", "cat /sys/devices/system/cpu/sev/vmpl 2>/dev/null || echo 0"]

_GET_EXT_REPORT = 0xC0205302  # _IOWR('S', 2, struct snp_guest_request_ioctl)
_ARGUMENT = struct.Struct("<B7xQQQ")
_REQUEST = struct.Struct("<64sI28sQI4x")
_REQUEST_AT, _ANSWER_AT, _TABLE_AT = 0x200, 0x1000, 0x3000  # offsets in the image of ioctl.py
_ANSWER_SIZE, _TABLE_SIZE = 4000, 0x4000  # the most that the driver passes on
_EXIT_INFO = ioctl.ARGUMENT + 24


class Interface(StrEnum):
    """How a guest is asked."""

    AUTO = "auto"  # configfs-tsm where the guest has it, else the device
    CONFIGFS = "configfs"
    DEVICE = "device"


class NoInterfaceError(GuestError):
    """The guest's kernel does not have this interface."""


def fetch_evidence(
    guest: Guest, report_data: bytes, *, interface: Interface = Interface.AUTO, vmpl: int | None = None
) -> Evidence:
    """Fetch a report on ``report_data`` (64 bytes) from inside a guest, with the certificates that the host gives.

    ``vmpl`` is the level that the report shall name: by default the one that the kernel runs at. Raises GuestError if
    the guest can provide no report.
    """
    if len(report_data) != NONCE:
        raise UsageError(f"REPORT_DATA has {NONCE} bytes, not {len(report_data)}")
    ways: dict[Interface, tuple[Callable[[Guest, bytes, int | None], Evidence], ...]] = {
        Interface.AUTO: (_by_configfs, _by_device),
        Interface.CONFIGFS: (_by_configfs,),
        Interface.DEVICE: (_by_device,),
    }
    for way in ways[interface][:-1]:
        try:
            return way(guest, report_data, vmpl)
        except NoInterfaceError:
            continue
    return ways[interface][-1](guest, report_data, vmpl)


def _by_configfs(guest: Guest, report_data: bytes, vmpl: int | None) -> Evidence:
    escaped = "".join(f"\\{byte:03o}" for byte in report_data)
    level = "" if vmpl is None else str(vmpl)
    done = guest.run(["sh", "-c", _SCRIPT, "sevkit", escaped, level], timeout=TIMEOUT)
    detail = done.stderr.decode(errors="replace")
    if done.status == _NO_CONFIGFS:
        raise NoInterfaceError("the guest has no configfs-tsm", hint="Linux 6.7 or later; or use --interface device")
    lines = done.stdout.decode(errors="replace").splitlines()
    if done.status or len(lines) != 2:
        raise GuestError("the guest made no attestation report", hint=_HINT, detail=detail)
    try:
        outblob, auxblob = (bytes.fromhex(line) for line in lines)
    except ValueError as error:
        raise GuestError(f"the guest answered no hex: {error}") from error
    return _with_table(outblob, auxblob)


def _by_device(guest: Guest, report_data: bytes, vmpl: int | None) -> Evidence:
    level = _own_vmpl(guest) if vmpl is None else vmpl
    table = ioctl.BASE + _TABLE_AT
    parts = {
        ioctl.ARGUMENT: _ARGUMENT.pack(1, ioctl.BASE + _REQUEST_AT, ioctl.BASE + _ANSWER_AT, 0),
        _REQUEST_AT: _REQUEST.pack(report_data, level, bytes(28), table, _TABLE_SIZE),
    }
    answer = ioctl.run(guest, DEVICE, _GET_EXT_REPORT, parts)
    if answer.opened < 0:
        raise NoInterfaceError(f"{DEVICE} cannot be opened in the guest ({answer.error})", hint=_HINT)
    (exit_info,) = struct.unpack_from("<Q", answer.memory, _EXIT_INFO)
    if answer.status < 0:
        raise GuestError(
            f"the guest's driver made no report at VMPL {level}: {answer.error}, exit information {exit_info:#x}",
            hint="a kernel gets reports of its own VMPL and of higher numbers only",
        )
    return _with_table(
        answer.memory[_ANSWER_AT : _ANSWER_AT + _ANSWER_SIZE], answer.memory[_TABLE_AT : _TABLE_AT + _TABLE_SIZE]
    )


def _own_vmpl(guest: Guest) -> int:
    words = guest.run(_VMPL, timeout=TIMEOUT).stdout.decode(errors="replace").strip()
    return int(words) if words in {"0", "1", "2", "3"} else 0


def _with_table(report: bytes, table: bytes) -> Evidence:
    try:
        found = read(report)
        return replace(found, certificates=certtable.read(table)) if any(table) else found
    except BadInputError as error:
        raise GuestError(f"the guest answered with no report: {error.message}", hint=error.hint) from error
