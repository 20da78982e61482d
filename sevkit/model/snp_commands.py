"""The commands of the SEV-SNP firmware as data: states, checks in their order, status codes.

Source: SEV-SNP firmware ABI (56860), platform and guest state tables; the order of checks of LAUNCH_UPDATE and the
treatment of POLICY.ABI_MAJOR follow AMD's published firmware for Genoa.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from sevkit.model.cipher import PAGE
from sevkit.model.machine import ABI_PAGE_SWAP, Machine
from sevkit.model.measure import PageType, SnpDigest
from sevkit.model.psp import Command, Rule, Status
from sevkit.model.rmp import Rmp
from sevkit.model.rmp_entry import LARGE_PAGES, PageState, RmpEntry

POLICY_SMT, POLICY_MUST_BE_ONE, POLICY_MIGRATE_MA, POLICY_DEBUG = 1 << 16, 1 << 17, 1 << 18, 1 << 19
POLICY_SINGLE_SOCKET, POLICY_HIDING = 1 << 20, 1 << 24
POLICY_PAGE_SWAP_DISABLE = 1 << 25
POLICY_DEFAULT = 0x30000
LARGE = LARGE_PAGES * PAGE


class SnpPlatformState(StrEnum):
    """States of the platform."""

    UNINIT = "UNINIT"
    INIT = "INIT"


class SnpGuestState(StrEnum):
    """States of a guest context."""

    INIT = "INIT"
    LAUNCH = "LAUNCH"
    RUNNING = "RUNNING"


@dataclass
class GuestContext:
    """What the firmware keeps in a context page."""

    spa: int
    state: SnpGuestState = SnpGuestState.INIT
    policy: int = 0
    vek: bytes = b""
    asid: int | None = None
    digest: SnpDigest = field(default_factory=SnpDigest)
    host_data: bytes = bytes(32)
    id_key_digest: bytes = bytes(48)
    author_key_digest: bytes = bytes(48)
    family_id: bytes = bytes(16)
    image_id: bytes = bytes(16)
    guest_svn: int = 0
    report_id: bytes = bytes(32)
    vmpcks: tuple[bytes, ...] = ()
    counts: list[int] = field(default_factory=lambda: [0, 0, 0, 0])  # number of messages received and sent, per VMPCK


class FirmwareState(Protocol):
    """What the checks of a command ask of the firmware (psp_snp.py)."""

    platform: Machine
    state: SnpPlatformState

    @property
    def table(self) -> Rmp:
        """The RMP."""
        ...

    def entry(self, spa: int) -> RmpEntry:
        """The RMP entry of a page."""
        ...

    def legacy_initialised(self) -> bool:
        """Whether the SEV firmware runs."""
        ...

    def asid_fits(self, asid: int) -> bool:
        """Whether an SEV-SNP guest may have this ASID."""
        ...

    def alias_found(self) -> bool:
        """Whether two addresses reach one DRAM cell, where the firmware checks for it."""
        ...


@dataclass
class SnpCall:
    """A command with the values that its checks examine."""

    firmware: FirmwareState
    command: Command
    context: GuestContext | None = None
    spa: int = 0
    large: bool = False
    page_type: PageType = PageType.NORMAL
    asid: int = 0
    policy: int = POLICY_DEFAULT
    target: int = 0

    @property
    def guest(self) -> GuestContext:
        """The guest, once ``guest-context`` has passed."""
        assert self.context is not None
        return self.context

    @property
    def abi(self) -> tuple[int, int]:
        """Major and minor version of the ABI that the firmware speaks."""
        return self.firmware.platform.config.firmware_abi

    @property
    def policy_bits(self) -> int:
        """How many bits of the guest policy the firmware knows; the others must be zero."""
        return 26 if self.abi >= ABI_PAGE_SWAP else 25

    @property
    def entry(self) -> RmpEntry:
        """The RMP entry of the page that the command is about."""
        return self.firmware.entry(self.spa)

    @property
    def state(self) -> PageState | None:
        """The state of that page."""
        return self.firmware.table.state(self.spa)


P, G = SnpPlatformState, SnpGuestState
_INIT = frozenset({P.INIT})
_ANY_PLATFORM = frozenset(P)
_ALL = frozenset(G)

_PLATFORM = Rule("platform-state", lambda c: c.firmware.state not in c.command.platform, Status.INVALID_PLATFORM_STATE)
_CONTEXT = Rule("guest-context", lambda c: c.context is None, Status.INVALID_GUEST)
_STATE = Rule("guest-state", lambda c: c.guest.state not in c.command.guest, Status.INVALID_GUEST_STATE)
_ADDRESS = Rule("address-aligned", lambda c: bool(c.spa % PAGE), Status.INVALID_ADDRESS)
_RANGE = Rule("address-range", lambda c: not c.firmware.table.covers(c.spa), Status.INVALID_ADDRESS)
_TABLE = Rule("page-of-table", lambda c: c.firmware.table.guards(c.spa), Status.INVALID_ADDRESS)
_SMALL = Rule("page-small", lambda c: c.entry.large, Status.INVALID_PAGE_SIZE)
_WHOLE = Rule("page-whole", lambda c: c.entry.large and bool(c.spa % LARGE), Status.INVALID_ADDRESS)
_SIZE = Rule("page-size", lambda c: c.large != c.entry.large, Status.INVALID_PAGE_SIZE)
_LARGE_ALIGNED = Rule("large-aligned", lambda c: c.large and bool(c.spa % LARGE), Status.INVALID_ADDRESS)
_TYPE_SMALL = Rule(
    "type-small",
    lambda c: c.large and c.page_type in (PageType.VMSA, PageType.SECRETS, PageType.CPUID),
    Status.INVALID_PAGE_SIZE,
)
_ACTIVE = Rule("guest-active", lambda c: c.guest.asid is None, Status.INACTIVE)
_OWNER = Rule("page-owner", lambda c: c.entry.asid != c.guest.asid, Status.INVALID_PAGE_OWNER)
_SWAP = Rule("policy-page-swap", lambda c: bool(c.guest.policy & POLICY_PAGE_SWAP_DISABLE), Status.POLICY_FAILURE)
_DEBUG = Rule("policy-debug", lambda c: not c.guest.policy & POLICY_DEBUG, Status.POLICY_FAILURE)
_POLICY = (
    Rule("policy-reserved", lambda c: bool(c.policy >> c.policy_bits), Status.POLICY_FAILURE),
    Rule("policy-must-be-one", lambda c: not c.policy & POLICY_MUST_BE_ONE, Status.POLICY_FAILURE),
    # The ABI says "must equal"; the firmware refuses only what is newer than itself (QEMU's default has major 0).
    Rule("policy-abi", lambda c: (c.policy >> 8 & 0xFF, c.policy & 0xFF) > c.abi, Status.POLICY_FAILURE),
    Rule(
        "policy-hiding",
        lambda c: bool(c.policy & POLICY_HIDING) and not c.firmware.platform.config.ciphertext_hiding,
        Status.POLICY_FAILURE,
    ),
)
_ASID = (
    Rule("guest-inactive", lambda c: c.guest.asid is not None, Status.ACTIVE),
    Rule("asid-range", lambda c: not c.firmware.asid_fits(c.asid), Status.INVALID_ASID),
    Rule("asid-free", lambda c: c.asid in c.firmware.platform.controller.keys, Status.ASID_OWNED),
    Rule("asid-flushed", lambda c: c.asid in c.firmware.platform.dirty_asids, Status.DF_FLUSH_REQUIRED),
    Rule("asid-no-pages", lambda c: c.firmware.table.pages_of(c.asid) > 0, Status.INVALID_CONFIG),
)


def _page(name: str, *states: PageState) -> Rule:
    return Rule(name, lambda c: c.state not in states, Status.INVALID_PAGE_STATE)


_PRE_GUEST = _page("page-pre-guest", PageState.PRE_GUEST)
_RECLAIMABLE = _page(
    "page-reclaimable", PageState.FIRMWARE, PageState.METADATA, PageState.PRE_GUEST, PageState.PRE_SWAP
)


def _page_command(code: int, name: str, *rules: Rule) -> Command:
    return Command(code, name, _INIT, rules=(_PLATFORM, _ADDRESS, _RANGE, _TABLE, *rules))


COMMANDS: dict[str, Command] = {
    command.name: command
    for command in (
        Command(
            0x81,
            "SNP_INIT",
            frozenset({P.UNINIT}),
            rules=(
                _PLATFORM,
                Rule("legacy-uninit", lambda c: c.firmware.legacy_initialised(), Status.INVALID_PLATFORM_STATE),
                Rule("rmp-present", lambda c: c.firmware.platform.rmp is None, Status.INVALID_CONFIG),
                Rule("alias-check", lambda c: c.firmware.alias_found(), Status.INVALID_CONFIG),
            ),
        ),
        Command(0x82, "SNP_SHUTDOWN", _ANY_PLATFORM, rules=(_PLATFORM,)),
        Command(0x83, "SNP_PLATFORM_STATUS", _ANY_PLATFORM, rules=(_PLATFORM,)),
        Command(
            0x84,
            "SNP_DF_FLUSH",
            _INIT,
            rules=(
                _PLATFORM,
                Rule("wbinvd", lambda c: not c.firmware.platform.wbinvd_done, Status.WBINVD_REQUIRED),
            ),
        ),
        Command(0x90, "SNP_DECOMMISSION", _INIT, _ALL, G.INIT, (_PLATFORM, _CONTEXT)),
        Command(
            0x91, "SNP_ACTIVATE", _INIT, frozenset({G.LAUNCH, G.RUNNING}), None, (_PLATFORM, _CONTEXT, _STATE, *_ASID)
        ),
        Command(0x92, "SNP_GUEST_STATUS", _INIT, _ALL, None, (_PLATFORM, _CONTEXT)),
        _page_command(0x93, "SNP_GCTX_CREATE", _page("page-firmware", PageState.FIRMWARE), _SMALL),
        Command(
            0x94,
            "SNP_GUEST_REQUEST",
            _INIT,
            frozenset({G.RUNNING}),
            None,
            (_PLATFORM, _CONTEXT, _STATE),
        ),
        Command(
            0xA0, "SNP_LAUNCH_START", _INIT, frozenset({G.INIT}), G.LAUNCH, (_PLATFORM, _CONTEXT, _STATE, *_POLICY)
        ),
        Command(
            0xA1,
            "SNP_LAUNCH_UPDATE",
            _INIT,
            frozenset({G.LAUNCH}),
            None,
            (
                _PLATFORM,
                _CONTEXT,
                _ADDRESS,
                _RANGE,
                _PRE_GUEST,
                _SIZE,
                _LARGE_ALIGNED,
                _TYPE_SMALL,
                _STATE,
                _ACTIVE,
                _OWNER,
            ),
        ),
        Command(0xA2, "SNP_LAUNCH_FINISH", _INIT, frozenset({G.LAUNCH}), G.RUNNING, (_PLATFORM, _CONTEXT, _STATE)),
        Command(
            0xB0,
            "SNP_DBG_DECRYPT",
            _INIT,
            frozenset({G.RUNNING}),
            None,
            (_PLATFORM, _CONTEXT, _STATE, _DEBUG, _ACTIVE, _ADDRESS, _RANGE, _OWNER),
        ),
        Command(
            0xC2,
            "SNP_PAGE_MOVE",
            _INIT,
            _ALL,
            None,
            (
                _PLATFORM,
                _CONTEXT,
                _SWAP,
                _ADDRESS,
                _RANGE,
                Rule("target-aligned", lambda c: bool(c.target % PAGE), Status.INVALID_ADDRESS),
                _ACTIVE,
                _page("source-state", PageState.GUEST_VALID, PageState.PRE_SWAP),
                _SMALL,
                _OWNER,
                Rule(
                    "target-state",
                    lambda c: c.firmware.table.state(c.target) is not PageState.PRE_GUEST,
                    Status.INVALID_PAGE_STATE,
                ),
                Rule("target-small", lambda c: c.firmware.entry(c.target).large, Status.INVALID_PAGE_SIZE),
                Rule(
                    "target-owner",
                    lambda c: c.firmware.entry(c.target).asid != c.guest.asid,
                    Status.INVALID_PAGE_OWNER,
                ),
                Rule("target-gpa", lambda c: c.firmware.entry(c.target).gpa != c.entry.gpa, Status.INVALID_PAGE_STATE),
            ),
        ),
        _page_command(0xC3, "SNP_PAGE_MD_INIT", _page("page-firmware", PageState.FIRMWARE), _SMALL),
        _page_command(0xC6, "SNP_PAGE_SET_STATE", _page("page-firmware", PageState.FIRMWARE), _SMALL),
        _page_command(0xC7, "SNP_PAGE_RECLAIM", _RECLAIMABLE, _WHOLE),
    )
}
