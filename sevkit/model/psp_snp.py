"""The SEV-SNP firmware: platform, guest context and page commands (their table: snp_commands.py)."""

import struct
from dataclasses import replace
from typing import Any

from sevkit.model import message, report, vmsa
from sevkit.model.cipher import PAGE
from sevkit.model.machine import Machine
from sevkit.model.measure import PageType, VmplPerms
from sevkit.model.psp import Refused, Status, enforce
from sevkit.model.psp_sev import SevPlatformState
from sevkit.model.rmp import Rmp
from sevkit.model.rmp_entry import FULL, PageState, RmpEntry
from sevkit.model.snp_commands import (
    COMMANDS,
    LARGE,
    POLICY_DEFAULT,
    GuestContext,
    SnpCall,
    SnpGuestState,
    SnpPlatformState,
)

_REPORT_REQUEST = struct.Struct("<64sI28x")
_REPORT_RESPONSE = struct.Struct("<II24x")


class SnpFirmware:
    """The secure processor's SEV-SNP firmware. Each method is one command; a refused one raises Refused."""

    def __init__(self, platform: Machine, legacy: Any) -> None:
        self.platform = platform
        self.state = SnpPlatformState.UNINIT
        self.contexts: dict[int, GuestContext] = {}
        self._legacy = legacy
        self._entropy = platform.entropy.fork("snp-firmware")
        self._keys: report.KeyChain | None = None
        self.tcb = report.Tcb(snp=platform.config.firmware_svn)
        self.alias_check_complete = False

    # --- conditions of the rules

    @property
    def table(self) -> Rmp:
        """The RMP."""
        assert self.platform.rmp is not None
        return self.platform.rmp

    @property
    def keys(self) -> report.KeyChain:
        """The machine's key chain, created at its first use."""
        if self._keys is None:
            self._keys = report.KeyChain(self.platform.entropy.fork("keys"), self.tcb)
        return self._keys

    def use_keys(self, keys: report.KeyChain) -> None:
        """Sign with these keys from now on, as an attacker who has a chip's secrets can."""
        self._keys = keys

    def entry(self, spa: int) -> RmpEntry:
        """The RMP entry that applies to a page."""
        return self.table.lookup(spa)[0]

    def legacy_initialised(self) -> bool:
        """Whether the legacy firmware is initialised: SNP_INIT requires that it is not."""
        return bool(self._legacy.state is not SevPlatformState.UNINIT)

    def asid_fits(self, asid: int) -> bool:
        """SNP guests have ASIDs 1 to min-1; with ciphertext hiding only up to MAX_SNP_ASID."""
        config = self.platform.config
        top = min(config.min_sev_asid - 1, config.max_snp_asid) if config.ciphertext_hiding else config.min_sev_asid - 1
        return 1 <= asid <= top

    def alias_found(self) -> bool:
        """The alias check of AMD-SB-3015: write at one address, check whether the data appears at another."""
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
        """SNP_SHUTDOWN: forget all guests; their pages stay assigned to them until they are reclaimed."""
        self._enter("SNP_SHUTDOWN")
        for spa in list(self.contexts):
            self._drop(spa)
        self.state = SnpPlatformState.UNINIT

    def platform_status(self) -> dict[str, Any]:
        """SNP_PLATFORM_STATUS."""
        self._enter("SNP_PLATFORM_STATUS")
        return {
            "abi": self.platform.config.firmware_abi,
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
    ) -> None:
        """SNP_LAUNCH_UPDATE: measure a Pre-Guest page at its RMP entry's GPA; make it the guest's, validated."""
        context = self._enter("SNP_LAUNCH_UPDATE", handle, spa=spa, large=large, page_type=page_type)
        rights = perms or VmplPerms()
        entry = self.entry(spa)
        for offset in range(0, LARGE if large else PAGE, PAGE):
            data = self.platform.controller.read(spa + offset, PAGE, None)
            context.digest.update(page_type, entry.gpa + offset, data, perms=rights)
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
        """SNP_GUEST_REQUEST: answer a sealed message; the model knows only the request for an attestation report."""
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
        if number > vmpl or vmpl > 3:  # a key may request reports of its own VMPL and less privileged ones
            raise Refused(name, Status.INVALID_PARAM, "guest-message-vmpl")
        made = report.make(self, context, report_data, vmpl)
        context.counts[number] += 2
        answer = _REPORT_RESPONSE.pack(0, len(made)) + made
        kind = message.MessageType.REPORT_RESPONSE
        return message.seal(context.vmpcks[number], message.Message(kind, context.counts[number], number, answer))

    def attest(self, handle: int, report_data: bytes, *, vmpl: int = 0) -> bytes:
        """Sign a report of a guest, with 64 bytes of the guest's choice, without the message protocol around it."""
        return report.make(self, self._enter("SNP_GUEST_REQUEST", handle), report_data, vmpl)

    def dbg_decrypt(self, handle: int, spa: int) -> bytes:
        """SNP_DBG_DECRYPT: plaintext of a guest page, if the policy allows debugging."""
        context = self._enter("SNP_DBG_DECRYPT", handle, spa=spa)
        return self.platform.controller.read(spa, PAGE, context.asid)

    # --- pages

    def page_reclaim(self, spa: int) -> None:
        """SNP_PAGE_RECLAIM: return an immutable page of the firmware to the host."""
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

    # --- internal

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
