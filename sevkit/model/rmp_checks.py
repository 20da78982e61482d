"""The checks of the RMP as data, in the order in which they are made.

Sources: "AMD SEV-SNP: Strengthening VM Isolation with Integrity Protection and More" (January 2020) pages 8 to 12, and
APM volume 2 section 15.36. Host reads are not checked; all writes are; private accesses of an SNP guest are.
"""

from dataclasses import dataclass
from typing import Any

from sevkit.model.faults import Check, FaultKind
from sevkit.model.rmp_entry import EXECUTE_SUPERVISOR, GPA_MASK, MAX_ASID, READ, WRITE, PageState, RmpEntry

WHITEPAPER = "SEV-SNP whitepaper, RMP checks"
APM = "APM vol. 2 section 15.36"

# Results of RMPUPDATE, PVALIDATE, RMPADJUST and PSMASH (EAX).
SUCCESS, FAIL_INPUT, FAIL_PERMISSION, FAIL_INUSE, FAIL_OVERLAP, FAIL_SIZEMISMATCH = 0, 1, 2, 3, 4, 6
LARGE = 2 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Access:
    """An access to a page: who, the guest address, the kind of access; ``entry`` is the page's RMP entry.

    ``entry_gpa`` is the GPA that the entry gives for this 4 KiB page (in a 2 MiB entry: its GPA plus the offset).
    ``mapping_large`` says that the nested (or host) page table maps the page as a part of a 2 MiB page.
    """

    entry: RmpEntry
    entry_gpa: int
    asid: int
    gpa: int
    write: bool
    execute: bool
    vmpl: int
    mapping_large: bool


def _wants(access: Access) -> int:
    return WRITE if access.write else EXECUTE_SUPERVISOR if access.execute else READ


HOST_WRITE: tuple[Check[Access], ...] = (
    Check("rmp-host-write-assigned", lambda a: a.entry.assigned, FaultKind.PF_RMP, WHITEPAPER),
    Check(
        "rmp-host-write-size",
        lambda a: a.mapping_large and not a.entry.large and a.entry.subpages > 0,
        FaultKind.PF_RMP,
        f"{APM}: a 2 MiB host mapping over assigned 4 KiB pages",
    ),
)

GUEST_PRIVATE: tuple[Check[Access], ...] = (
    Check("rmp-assigned", lambda a: not a.entry.assigned, FaultKind.NPF, WHITEPAPER),
    Check("rmp-asid", lambda a: a.entry.asid != a.asid, FaultKind.NPF, WHITEPAPER),
    Check("rmp-size", lambda a: a.mapping_large and not a.entry.large, FaultKind.NPF, f"{APM}: SIZEM"),
    Check("rmp-gpa", lambda a: a.entry_gpa != a.gpa, FaultKind.NPF, WHITEPAPER),
    Check("rmp-immutable", lambda a: a.entry.immutable, FaultKind.NPF, f"{APM}: pages in the hands of the firmware"),
    Check("rmp-validated", lambda a: not a.entry.validated, FaultKind.VC, f"{WHITEPAPER}; #VC exit code 0x404"),
    Check("rmp-vmsa-write", lambda a: a.write and a.entry.vmsa, FaultKind.NPF, f"{APM}: a VMSA page in use"),
    Check("rmp-vmpl", lambda a: not a.entry.perms[a.vmpl] & _wants(a), FaultKind.NPF, f"{WHITEPAPER}, VMPL"),
)

GUEST_SHARED_WRITE: tuple[Check[Access], ...] = (
    Check("rmp-shared-write-assigned", lambda a: a.entry.assigned, FaultKind.NPF, WHITEPAPER),
)


@dataclass(frozen=True, slots=True)
class Update:
    """An RMPUPDATE: the present entry, the requested entry, and the other entries of the same 2 MiB.

    The pages of the table itself need no check of their own: they are immutable.
    """

    spa: int
    old: RmpEntry
    new: RmpEntry
    under_large: bool
    base_subpages: int


RMPUPDATE: tuple[Check[Update], ...] = (
    Check(
        "rmpupdate-input",
        lambda u: not (0 <= u.new.asid <= MAX_ASID and 0 <= u.new.gpa <= GPA_MASK << 12 and not u.new.gpa % 4096),
        FAIL_INPUT,
        f"{APM}: the entry has 10 bits for an ASID and 39 for the number of a guest page",
    ),
    Check("rmpupdate-gpa-aligned", lambda u: u.new.large and bool(u.new.gpa % LARGE), FAIL_INPUT, APM),
    Check("rmpupdate-aligned", lambda u: bool(u.spa % (LARGE if u.new.large else 4096)), FAIL_INPUT, APM),
    Check(
        "rmpupdate-state",
        lambda u: (
            u.new.state
            not in (
                PageState.HYPERVISOR,
                PageState.GUEST_INVALID,
                PageState.PRE_GUEST,
                PageState.FIRMWARE,
            )
        ),
        FAIL_INPUT,
        "SEV-SNP ABI, Page States: what RMPUPDATE can ask for",
    ),
    Check("rmpupdate-gpa", lambda u: not u.new.asid and bool(u.new.gpa), FAIL_INPUT, APM),
    Check("rmpupdate-immutable", lambda u: u.old.immutable, FAIL_PERMISSION, APM),
    Check("rmpupdate-overlap-large", lambda u: u.under_large, FAIL_OVERLAP, APM),
    Check("rmpupdate-overlap-small", lambda u: u.new.large and u.base_subpages > 0, FAIL_OVERLAP, APM),
)


@dataclass(frozen=True, slots=True)
class Validate:
    """A PVALIDATE: the caller, the guest page, and its size."""

    access: Access
    large: bool
    vmpl: int


PVALIDATE: tuple[Check[Validate], ...] = (
    Check("pvalidate-vmpl", lambda v: v.vmpl != 0, FAIL_PERMISSION, APM),
    Check("pvalidate-aligned", lambda v: v.large and bool(v.access.gpa % LARGE), FAIL_INPUT, APM),
    Check("pvalidate-assigned", lambda v: not v.access.entry.assigned, FaultKind.NPF, APM),
    Check("pvalidate-asid", lambda v: v.access.entry.asid != v.access.asid, FaultKind.NPF, APM),
    Check("pvalidate-gpa", lambda v: v.access.entry_gpa != v.access.gpa, FaultKind.NPF, APM),
    Check("pvalidate-immutable", lambda v: v.access.entry.immutable, FaultKind.NPF, APM),
    Check("pvalidate-size", lambda v: v.large and not v.access.entry.large, FAIL_SIZEMISMATCH, APM),
    Check("pvalidate-smash", lambda v: v.access.entry.large and not v.large, FaultKind.NPF, f"{APM}: SIZEM"),
)


@dataclass(frozen=True, slots=True)
class Adjust:
    """An RMPADJUST: the rights requested for another VMPL."""

    access: Access
    large: bool
    target: int
    perms: int
    vmsa: bool


RMPADJUST: tuple[Check[Adjust], ...] = (
    Check("rmpadjust-input", lambda r: r.target > 3 or bool(r.perms >> 5), FAIL_INPUT, APM),
    Check("rmpadjust-aligned", lambda r: r.large and bool(r.access.gpa % LARGE), FAIL_INPUT, APM),
    Check("rmpadjust-target", lambda r: r.target <= r.access.vmpl, FAIL_PERMISSION, APM),
    Check("rmpadjust-assigned", lambda r: not r.access.entry.assigned, FaultKind.NPF, APM),
    Check("rmpadjust-asid", lambda r: r.access.entry.asid != r.access.asid, FaultKind.NPF, APM),
    Check("rmpadjust-gpa", lambda r: r.access.entry_gpa != r.access.gpa, FaultKind.NPF, APM),
    Check("rmpadjust-immutable", lambda r: r.access.entry.immutable, FaultKind.NPF, APM),
    Check("rmpadjust-validated", lambda r: not r.access.entry.validated, FaultKind.VC, APM),
    Check("rmpadjust-size", lambda r: r.large != r.access.entry.large, FAIL_SIZEMISMATCH, APM),
    Check(
        "rmpadjust-own-rights",
        lambda r: bool(r.perms & ~r.access.entry.perms[r.access.vmpl]),
        FAIL_PERMISSION,
        f"{APM}: nobody gives what he has not",
    ),
    Check("rmpadjust-vmsa", lambda r: r.vmsa and r.access.vmpl != 0, FAIL_PERMISSION, APM),
)


@dataclass(frozen=True, slots=True)
class Smash:
    """A PSMASH of a 2 MiB entry into 512 of 4 KiB."""

    spa: int
    entry: RmpEntry


PSMASH: tuple[Check[Smash], ...] = (
    Check("psmash-aligned", lambda s: bool(s.spa % LARGE), FAIL_INPUT, APM),
    Check("psmash-large", lambda s: not (s.entry.assigned and s.entry.large), FAIL_INPUT, APM),
    Check("psmash-immutable", lambda s: s.entry.immutable, FAIL_PERMISSION, APM),
)

STAGES: dict[str, tuple[Check[Any], ...]] = {
    "host-write": HOST_WRITE,
    "guest-private": GUEST_PRIVATE,
    "guest-shared-write": GUEST_SHARED_WRITE,
    "rmpupdate": RMPUPDATE,
    "pvalidate": PVALIDATE,
    "rmpadjust": RMPADJUST,
    "psmash": PSMASH,
}

# The name of every check: mutation tests disable them one by one.
ALL_CHECKS: tuple[str, ...] = tuple(check.name for checks in STAGES.values() for check in checks)
