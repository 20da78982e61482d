"""The SEV-SNP firmware: platform, guest context and page commands, as data.

Source: SEV-SNP firmware ABI (56860), platform and guest state tables; the order of checks of LAUNCH_UPDATE and the
treatment of POLICY.ABI_MAJOR follow AMD's published firmware for Genoa.
"""

import struct
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from sevkit.model import message, report, vmsa
from sevkit.model.cipher import PAGE
from sevkit.model.measure import PageType, SnpDigest, VmplPerms
from sevkit.model.psp import Command, Refused, Rule, Status, enforce
from sevkit.model.psp_sev import SevPlatformState
from sevkit.model.rmp_entry import FULL, LARGE_PAGES, PageState, RmpEntry

if TYPE_CHECKING:
    from sevkit.model.platform import Platform
    from sevkit.model.rmp import Rmp

FIRMWARE_ABI = (1, 57)
POLICY_SMT, POLICY_MUST_BE_ONE, POLICY_MIGRATE_MA, POLICY_DEBUG = 1 << 16, 1 << 17, 1 << 18, 1 << 19
POLICY_SINGLE_SOCKET, POLICY_HIDING = 1 << 20, 1 << 24
POLICY_RESERVED = ~((1 << 25) - 1)
POLICY_DEFAULT = 0x30000
LARGE = LARGE_PAGES * PAGE
_REPORT_REQUEST = struct.Struct("<64sI28x")
_REPORT_RESPONSE = struct.Struct("<II24x")


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
    counts: list[int] = field(default_factory=lambda: [0, 0, 0, 0])  # messages seen and sent, for each VMPCK


@dataclass
class SnpCall:
    """A command with what its checks look at."""

    firmware: "SnpFirmware"
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
_SIZE = Rule("page-size", lambda c: c.large != c.entry.large, Status.INVALID_PAGE_SIZE)
_LARGE_ALIGNED = Rule("large-aligned", lambda c: c.large and bool(c.spa % LARGE), Status.INVALID_ADDRESS)
_TYPE_SMALL = Rule(
    "type-small",
    lambda c: c.large and c.page_type in (PageType.VMSA, PageType.SECRETS, PageType.CPUID),
    Status.INVALID_PAGE_SIZE,
)
_ACTIVE = Rule("guest-active", lambda c: c.guest.asid is None, Status.INACTIVE)
_OWNER = Rule("page-owner", lambda c: c.entry.asid != c.guest.asid, Status.INVALID_PAGE_OWNER)
_DEBUG = Rule("policy-debug", lambda c: not c.guest.policy & POLICY_DEBUG, Status.POLICY_FAILURE)
_POLICY = (
    Rule("policy-reserved", lambda c: bool(c.policy & POLICY_RESERVED), Status.POLICY_FAILURE),
    Rule("policy-must-be-one", lambda c: not c.policy & POLICY_MUST_BE_ONE, Status.POLICY_FAILURE),
    # The ABI says "must equal"; the firmware refuses only what is newer than itself (QEMU's default has major 0).
    Rule("policy-abi", lambda c: (c.policy >> 8 & 0xFF, c.policy & 0xFF) > FIRMWARE_ABI, Status.POLICY_FAILURE),
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
    return Command(code, name, _INIT, rules=(_PLATFORM, _ADDRESS, _RANGE, *rules))


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
        _page_command(0x93, "SNP_GCTX_CREATE", _page("page-firmware", PageState.FIRMWARE)),
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
            (_PLATFORM, _CONTEXT, _RANGE, _PRE_GUEST, _SIZE, _LARGE_ALIGNED, _TYPE_SMALL, _STATE, _ACTIVE, _OWNER),
        ),
        Command(0xA2, "SNP_LAUNCH_FINISH", _INIT, frozenset({G.LAUNCH}), G.RUNNING, (_PLATFORM, _CONTEXT, _STATE)),
        Command(
            0xB0,
            "SNP_DBG_DECRYPT",
            _INIT,
            frozenset({G.RUNNING}),
            None,
            (_PLATFORM, _CONTEXT, _STATE, _DEBUG, _ACTIVE, _RANGE, _OWNER),
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
                _RANGE,
                _ACTIVE,
                _page("source-state", PageState.GUEST_VALID, PageState.PRE_SWAP),
                _OWNER,
                Rule(
                    "target-state",
                    lambda c: c.firmware.table.state(c.target) is not PageState.PRE_GUEST,
                    Status.INVALID_PAGE_STATE,
                ),
                Rule(
                    "target-owner",
                    lambda c: c.firmware.entry(c.target).asid != c.guest.asid,
                    Status.INVALID_PAGE_OWNER,
                ),
                Rule("target-gpa", lambda c: c.firmware.entry(c.target).gpa != c.entry.gpa, Status.INVALID_PAGE_STATE),
            ),
        ),
        _page_command(0xC3, "SNP_PAGE_MD_INIT", _page("page-firmware", PageState.FIRMWARE)),
        _page_command(0xC6, "SNP_PAGE_SET_STATE", _page("page-firmware", PageState.FIRMWARE)),
        _page_command(0xC7, "SNP_PAGE_RECLAIM", _RECLAIMABLE),
    )
}


class SnpFirmware:
    """The secure processor's SEV-SNP firmware. Each method is one command; a refused one raises Refused."""

    def __init__(self, platform: "Platform", legacy: Any) -> None:
        self.platform = platform
        self.state = SnpPlatformState.UNINIT
        self.contexts: dict[int, GuestContext] = {}
        self._legacy = legacy
        self._entropy = platform.entropy.fork("snp-firmware")
        self._keys: report.KeyChain | None = None
        self.tcb = report.Tcb(snp=platform.config.firmware_svn)
        self.alias_check_complete = False

    # --- what the rules ask

    @property
    def table(self) -> "Rmp":
        """The RMP."""
        assert self.platform.rmp is not None
        return self.platform.rmp

    @property
    def keys(self) -> report.KeyChain:
        """The machine's key chain, made when first asked for."""
        if self._keys is None:
            self._keys = report.KeyChain(self.platform.entropy.fork("keys"), self.tcb)
        return self._keys

    def entry(self, spa: int) -> RmpEntry:
        """The entry that rules a page."""
        return self.table.lookup(spa)[0]

    def legacy_initialised(self) -> bool:
        """SNP_INIT wants the legacy machine uninitialised."""
        return bool(self._legacy.state is not SevPlatformState.UNINIT)

    def asid_fits(self, asid: int) -> bool:
        """SNP guests have ASIDs 1 to min-1; with ciphertext hiding only up to MAX_SNP_ASID."""
        config = self.platform.config
        top = min(config.min_sev_asid - 1, config.max_snp_asid) if config.ciphertext_hiding else config.min_sev_asid - 1
        return 1 <= asid <= top

    def alias_found(self) -> bool:
        """The alias check of AMD-SB-3015: write at one address, look whether it shows at another."""
        if not self.platform.config.alias_check:
            return False
        dram, step = self.platform.dram, self.platform.dram.size // 2
        before = dram.read(0, 16), dram.read(step, 16)
        dram.write(0, b"alias-check-mark")
        found = dram.read(step, 16) == b"alias-check-mark"
        dram.write(0, before[0])
        if not found:
            self.alias_check_complete = True
        return found

    # --- platform

    def init(self) -> None:
        """SNP_INIT: from now on the RMP is checked and the firmware answers guests."""
        self._enter("SNP_INIT")
        self.state = SnpPlatformState.INIT

    def shutdown(self) -> None:
        """SNP_SHUTDOWN: forget all guests; their pages stay theirs until reclaimed."""
        self._enter("SNP_SHUTDOWN")
        for spa in list(self.contexts):
            self._drop(spa)
        self.state = SnpPlatformState.UNINIT

    def platform_status(self) -> dict[str, Any]:
        """SNP_PLATFORM_STATUS."""
        self._enter("SNP_PLATFORM_STATUS")
        return {
            "abi": FIRMWARE_ABI,
            "state": str(self.state),
            "rmp_init": self.state is SnpPlatformState.INIT,
            "alias_check_complete": self.alias_check_complete,
            "guests": len(self.contexts),
        }

    def df_flush(self) -> None:
        """SNP_DF_FLUSH."""
        self._enter("SNP_DF_FLUSH")
        self.platform.dirty_asids.clear()

    # --- guests

    def gctx_create(self, spa: int) -> int:
        """SNP_GCTX_CREATE: turn a firmware page into a guest context; its address is the guest's handle."""
        self._enter("SNP_GCTX_CREATE", spa=spa)
        self._set(spa, RmpEntry(assigned=True, immutable=True, vmsa=True), "SNP_GCTX_CREATE")
        context = GuestContext(spa, vek=self._entropy.bytes(16), report_id=self._entropy.bytes(32))
        context.vmpcks = tuple(self._entropy.bytes(32) for _ in range(4))
        self.contexts[spa] = context
        return spa

    def launch_start(self, handle: int, policy: int = POLICY_DEFAULT) -> None:
        """SNP_LAUNCH_START."""
        self._enter("SNP_LAUNCH_START", handle, policy=policy).policy = policy

    def activate(self, handle: int, asid: int) -> None:
        """SNP_ACTIVATE: put the guest's key into the slot of an ASID."""
        context = self._enter("SNP_ACTIVATE", handle, asid=asid)
        context.asid = asid
        self.platform.install_key(asid, context.vek)

    def launch_update(
        self,
        handle: int,
        spa: int,
        page_type: PageType = PageType.NORMAL,
        *,
        large: bool = False,
        perms: VmplPerms | None = None,
        measured_gpa: int | None = None,
    ) -> None:
        """SNP_LAUNCH_UPDATE: measure a Pre-Guest page and make it the guest's, encrypted and validated.

        ``measured_gpa`` is for VMSA pages, which QEMU measures under a fixed address of their own.
        """
        context = self._enter("SNP_LAUNCH_UPDATE", handle, spa=spa, large=large, page_type=page_type)
        rights = perms or VmplPerms()
        entry = self.entry(spa)
        for offset in range(0, LARGE if large else PAGE, PAGE):
            data = self.platform.controller.read(spa + offset, PAGE, None)
            gpa = entry.gpa + offset if measured_gpa is None else measured_gpa
            context.digest.update(page_type, gpa, data, perms=rights)
            self._place(context, spa + offset, page_type, data)
        levels = [FULL, rights.vmpl1, rights.vmpl2, rights.vmpl3]
        done = replace(
            entry, immutable=False, validated=True, perms=levels, vmsa=page_type is PageType.VMSA, lock=False
        )
        self._set(spa, done, "SNP_LAUNCH_UPDATE")

    def launch_finish(
        self, handle: int, *, id_block: report.IdBlock | None = None, host_data: bytes = bytes(32)
    ) -> None:
        """SNP_LAUNCH_FINISH: with an ID block, digest, policy and signature must fit."""
        command = COMMANDS["SNP_LAUNCH_FINISH"]
        context = self.contexts.get(handle)
        enforce(command, SnpCall(self, command, context))
        assert context is not None
        if id_block is not None:
            self._identify(context, id_block)
        context.host_data = host_data
        context.state = SnpGuestState.RUNNING

    def decommission(self, handle: int) -> None:
        """SNP_DECOMMISSION: forget the guest; its context page becomes a firmware page."""
        self._enter("SNP_DECOMMISSION", handle)
        self._drop(handle)

    def guest_status(self, handle: int) -> dict[str, Any]:
        """SNP_GUEST_STATUS."""
        context = self._enter("SNP_GUEST_STATUS", handle)
        return {"policy": context.policy, "asid": context.asid, "state": str(context.state)}

    def guest_request(self, handle: int, sealed: bytes) -> bytes:
        """SNP_GUEST_REQUEST: answer a sealed message; the one known is a request for an attestation report."""
        name = "SNP_GUEST_REQUEST"
        context = self._enter(name, handle)
        try:
            number = message.vmpck_of(sealed)
            request = message.unseal(context.vmpcks[number], sealed, context.counts[number] + 1)
        except message.MessageError as error:
            raise Refused(name, Status.BAD_MEASUREMENT, "guest-message") from error
        if request.kind is not message.MessageType.REPORT_REQUEST or len(request.payload) != _REPORT_REQUEST.size:
            raise Refused(name, Status.INVALID_PARAM, "guest-message-type")
        report_data, vmpl = _REPORT_REQUEST.unpack(request.payload)
        if number > vmpl or vmpl > 3:  # a key speaks for its own VMPL and those below
            raise Refused(name, Status.INVALID_PARAM, "guest-message-vmpl")
        made = report.make(self, context, report_data, vmpl)
        context.counts[number] += 2
        answer = _REPORT_RESPONSE.pack(0, len(made)) + made
        kind = message.MessageType.REPORT_RESPONSE
        return message.seal(context.vmpcks[number], message.Message(kind, context.counts[number], number, answer))

    def attest(self, handle: int, report_data: bytes, *, vmpl: int = 0) -> bytes:
        """The report of a guest without the envelope of messages: 64 bytes of the guest's choice, signed."""
        return report.make(self, self._enter("SNP_GUEST_REQUEST", handle), report_data, vmpl)

    def dbg_decrypt(self, handle: int, spa: int) -> bytes:
        """SNP_DBG_DECRYPT: plaintext of a guest page, if the policy allows debugging."""
        context = self._enter("SNP_DBG_DECRYPT", handle, spa=spa)
        return self.platform.controller.read(spa, PAGE, context.asid)

    # --- pages

    def page_reclaim(self, spa: int) -> None:
        """SNP_PAGE_RECLAIM: give a page back that the firmware holds as immutable."""
        self._enter("SNP_PAGE_RECLAIM", spa=spa)
        entry = self.entry(spa)
        self._set(spa, replace(entry, immutable=False, gpa=entry.gpa if entry.asid else 0), "SNP_PAGE_RECLAIM")

    def page_move(self, handle: int, source: int, target: int) -> None:
        """SNP_PAGE_MOVE: move a guest page to another system page, under the new address's tweak."""
        context = self._enter("SNP_PAGE_MOVE", handle, spa=source, target=target)
        entry = self.entry(source)
        data = self.platform.controller.read(source, PAGE, context.asid)
        self.platform.controller.write(target, data, context.asid)
        swapped = entry.state is PageState.PRE_SWAP
        moved = replace(entry, immutable=False, validated=swapped, perms=list(entry.perms) if swapped else [0] * 4)
        self._set(target, moved, "SNP_PAGE_MOVE")
        self._set(source, replace(entry, immutable=False, validated=False, perms=[0] * 4), "SNP_PAGE_MOVE")

    def page_md_init(self, spa: int) -> None:
        """SNP_PAGE_MD_INIT: make a firmware page a metadata page (for swapping)."""
        self._enter("SNP_PAGE_MD_INIT", spa=spa)
        self._set(spa, RmpEntry(assigned=True, immutable=True, gpa=spa or PAGE), "SNP_PAGE_MD_INIT")

    def page_set_state(self, spa: int) -> None:
        """SNP_PAGE_SET_STATE: make a firmware page HV-fixed."""
        self._enter("SNP_PAGE_SET_STATE", spa=spa)
        self._set(spa, RmpEntry(immutable=True), "SNP_PAGE_SET_STATE")

    # --- inside

    def _enter(self, name: str, handle: int | None = None, **arguments: Any) -> GuestContext:
        command = COMMANDS[name]
        context = self.contexts.get(handle) if handle is not None else None
        enforce(command, SnpCall(self, command, context, **arguments))
        if context is None:
            return GuestContext(0)
        if command.to is not None:
            context.state = command.to
        return context

    def _place(self, context: GuestContext, spa: int, page_type: PageType, data: bytes) -> None:
        if page_type is PageType.VMSA and self.platform.config.vmsa_reg_prot:
            data = vmsa.protect(data, self._entropy.bytes(8))
        if page_type is PageType.ZERO:
            data = bytes(PAGE)
        if page_type is PageType.SECRETS:
            data = b"".join(context.vmpcks).ljust(PAGE, b"\0")
        self.platform.controller.write(spa, data, context.asid)

    def _identify(self, context: GuestContext, block: report.IdBlock) -> None:
        name = "SNP_LAUNCH_FINISH"
        if not block.signature_fits():
            raise Refused(name, Status.BAD_SIGNATURE, "id-block-signature")
        if block.launch_digest != context.digest.value:
            raise Refused(name, Status.BAD_MEASUREMENT, "id-block-digest")
        if block.policy != context.policy:
            raise Refused(name, Status.POLICY_FAILURE, "id-block-policy")
        context.family_id, context.image_id, context.guest_svn = block.family_id, block.image_id, block.guest_svn
        context.id_key_digest = block.key_digest()

    def _drop(self, handle: int) -> None:
        context = self.contexts.pop(handle)
        if context.asid is not None:
            self.platform.remove_key(context.asid)
        self._set(handle, RmpEntry(assigned=True, immutable=True), "SNP_DECOMMISSION")

    def _set(self, spa: int, entry: RmpEntry, by: str) -> None:
        self.table.store(spa, entry, by)
