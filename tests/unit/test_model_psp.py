"""The two firmware machines: legal transitions, order of checks, status codes, and what they produce."""

import hashlib
import hmac
import struct
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from sevkit.model import message, report, vmsa
from sevkit.model.cipher import PAGE
from sevkit.model.machine import ABI_PAGE_SWAP, FIRMWARE_ABI, PlatformConfig
from sevkit.model.measure import PageType, SnpDigest, VmplPerms
from sevkit.model.platform import Platform
from sevkit.model.psp import Refused, Status
from sevkit.model.psp_sev import API, COMMANDS, ES, NODBG, NOSEND, SevGuestState, make_secret
from sevkit.model.rmp_entry import PageState
from sevkit.model.snp_commands import COMMANDS as SNP_COMMANDS
from sevkit.model.snp_commands import (
    POLICY_DEBUG,
    POLICY_DEFAULT,
    POLICY_PAGE_SWAP_DISABLE,
    POLICY_SMT,
    SnpGuestState,
)

S = SevGuestState
DATA = 0x10000  # a page of system memory that the tests use

# SEV API, guest states: what is legal where, and where it leads. Written down here a second time, by hand.
LEGAL: dict[SevGuestState, dict[str, SevGuestState]] = {
    S.LUPDATE: {"launch_update_data": S.LUPDATE, "launch_update_vmsa": S.LUPDATE, "launch_measure": S.LSECRET},
    S.LSECRET: {"launch_secret": S.LSECRET, "launch_finish": S.RUNNING},
    S.RUNNING: {"send_start": S.SUPDATE, "dbg_decrypt": S.RUNNING, "dbg_encrypt": S.RUNNING},
    S.SUPDATE: {"send_update_data": S.SUPDATE, "send_finish": S.SENT, "send_cancel": S.RUNNING},
    S.RUPDATE: {"receive_update_data": S.RUPDATE, "receive_finish": S.RUNNING},
    S.SENT: {},
}
ROUTES: dict[SevGuestState, list[str]] = {
    S.LUPDATE: [],
    S.LSECRET: ["launch_measure"],
    S.RUNNING: ["launch_measure", "launch_finish"],
    S.SUPDATE: ["launch_measure", "launch_finish", "send_start"],
    S.SENT: ["launch_measure", "launch_finish", "send_start", "send_finish"],
}


def legacy(policy: int = ES) -> tuple[Platform, int]:
    platform = Platform(PlatformConfig(snp=False, memory=16 << 20))
    platform.sev.init()
    handle = platform.sev.launch_start(policy)
    platform.sev.activate(handle, 1 if policy & ES else 128)
    return platform, handle


def guest_in(state: SevGuestState) -> tuple[Platform, int]:
    if state is S.RUPDATE:
        platform = Platform(PlatformConfig(snp=False, memory=16 << 20))
        platform.sev.init()
        handle = platform.sev.receive_start(ES, bytes(16), bytes(16))
        platform.sev.activate(handle, 1)
        return platform, handle
    platform, handle = legacy()
    for name in ROUTES[state]:
        getattr(platform.sev, name)(handle)
    assert platform.sev.guests[handle].state is state
    return platform, handle


def call(platform: Platform, handle: int, name: str) -> None:
    firmware = platform.sev
    guest = firmware.guests[handle]
    packet = make_secret(guest.tek, guest.tik, guest.measurement, b"sixteen byte key", bytes(16))
    transport = make_secret(guest.tek, guest.tik, b"", b"sixteen byte key", bytes(16))
    extra = {
        "launch_update_data": (DATA, 32),
        "launch_update_vmsa": (DATA,),
        "launch_secret": (DATA, packet),
        "send_update_data": (DATA, 32),
        "receive_update_data": (DATA, transport),
        "dbg_decrypt": (DATA, 16),
        "dbg_encrypt": (DATA, bytes(16)),
    }
    getattr(firmware, name)(handle, *extra.get(name, ()))


@pytest.mark.parametrize("state", list(LEGAL))
def test_legacy_transitions_are_those_of_the_specification(state: SevGuestState) -> None:
    for name in sorted({name for legal in LEGAL.values() for name in legal}):
        platform, handle = guest_in(state)
        if name in LEGAL[state]:
            call(platform, handle, name)
            assert platform.sev.guests[handle].state is LEGAL[state][name], name
        else:
            with pytest.raises(Refused) as refused:
                call(platform, handle, name)
            assert refused.value.status is Status.INVALID_GUEST_STATE, name
            assert platform.sev.guests[handle].state is state


def status_of(action: Callable[[], object]) -> Status:
    with pytest.raises(Refused) as refused:
        action()
    return refused.value.status


def test_legacy_status_codes() -> None:
    platform = Platform(PlatformConfig(snp=False, memory=16 << 20))
    f = platform.sev
    assert status_of(lambda: f.launch_start(0)) is Status.INVALID_PLATFORM_STATE
    f.init()
    assert status_of(f.init) is Status.INVALID_PLATFORM_STATE
    assert status_of(lambda: f.guest_status(9)) is Status.INVALID_PLATFORM_STATE
    assert status_of(lambda: f.launch_start(0x40)) is Status.POLICY_FAILURE
    assert status_of(lambda: f.launch_start((API[0] + 1) << 16)) is Status.POLICY_FAILURE
    handle = f.launch_start(NODBG)
    assert status_of(lambda: f.launch_update_data(99, DATA, 16)) is Status.INVALID_GUEST
    assert status_of(lambda: f.launch_update_data(handle, DATA, 16)) is Status.INACTIVE
    assert status_of(lambda: f.activate(handle, 127)) is Status.INVALID_ASID
    assert status_of(lambda: f.activate(handle, 510)) is Status.INVALID_ASID
    f.activate(handle, 128)
    assert status_of(lambda: f.activate(handle, 129)) is Status.ACTIVE
    assert status_of(lambda: f.launch_update_data(handle, DATA + 8, 16)) is Status.INVALID_ADDRESS
    assert status_of(lambda: f.launch_update_data(handle, DATA, 17)) is Status.INVALID_LENGTH
    assert status_of(lambda: f.launch_update_data(handle, 16 << 20, 16)) is Status.INVALID_ADDRESS
    assert status_of(lambda: f.launch_update_vmsa(handle, DATA)) is Status.UNSUPPORTED
    other = f.launch_start(ES)
    assert status_of(lambda: f.activate(other, 128)) is Status.INVALID_ASID
    third = f.launch_start(0)
    assert status_of(lambda: f.activate(third, 128)) is Status.ASID_OWNED
    assert status_of(lambda: f.decommission(handle)) is Status.ACTIVE


def test_the_policy_of_a_legacy_guest_is_heeded() -> None:
    platform, handle = legacy(NODBG | NOSEND)
    f = platform.sev
    f.launch_measure(handle)
    f.launch_finish(handle)
    for action in (
        lambda: f.dbg_decrypt(handle, DATA, 16),
        lambda: f.dbg_encrypt(handle, DATA, bytes(16)),
        lambda: f.send_start(handle),
    ):
        assert status_of(action) is Status.POLICY_FAILURE
    for bit in range(6, 16):
        assert status_of(partial(f.launch_start, 1 << bit)) is Status.POLICY_FAILURE
    assert status_of(lambda: f.launch_start(API[0] << 16 | (API[1] + 1) << 24)) is Status.POLICY_FAILURE


def test_the_legacy_firmware_writes_no_page_of_an_snp_guest() -> None:
    platform = snp()
    f, update = platform.sev, platform.snp.table.rmpupdate
    f.init()
    handle = f.launch_start(0)
    f.activate(handle, 128)
    assert update(DATA + PAGE, assigned=True, asid=1, gpa=0x1000) == 0
    f.launch_update_data(handle, DATA, PAGE)
    for spa, length in ((DATA + PAGE, 16), (DATA + PAGE - 16, 32), (DATA, 3 * PAGE)):
        assert status_of(partial(f.launch_update_data, handle, spa, length)) is Status.INVALID_PAGE_STATE
    end = platform.dram.size
    assert status_of(lambda: f.launch_update_data(handle, end - 16, 32)) is Status.INVALID_ADDRESS


def test_a_save_area_is_a_whole_page_and_a_shutdown_removes_the_keys() -> None:
    platform, handle = legacy(ES)
    for spa, length in ((DATA + 16, PAGE), (DATA, PAGE - 16)):
        assert status_of(partial(platform.sev.launch_update_vmsa, handle, spa, length)) is Status.INVALID_LENGTH
    other = platform.sev.launch_start(ES)
    assert status_of(lambda: platform.sev.activate(other, 0)) is Status.INVALID_ASID
    platform.sev.shutdown()
    assert 1 not in platform.controller.keys
    assert 1 in platform.dirty_asids


def test_two_addresses_of_one_cell_stop_the_initialisation() -> None:
    for checked in (True, False):
        platform = Platform(PlatformConfig(memory=64 << 20, alias_check=checked))
        dram: Any = platform.dram
        dram.alias = lambda spa: spa % (32 << 20)
        if checked:
            assert status_of(platform.snp.init) is Status.INVALID_CONFIG
        else:
            platform.snp.init()


def test_asids_are_used_again_only_after_flushing() -> None:
    platform, handle = legacy(0)
    f = platform.sev
    f.deactivate(handle)
    f.decommission(handle)
    again = f.launch_start(0)
    assert status_of(lambda: f.activate(again, 128)) is Status.DF_FLUSH_REQUIRED
    assert status_of(f.df_flush) is Status.WBINVD_REQUIRED
    platform.host_wbinvd()
    f.df_flush()
    f.activate(again, 128)


def test_legacy_measurement_and_secret() -> None:
    platform, handle = legacy(0)
    f = platform.sev
    platform.host_write(DATA, b"firmware" * 4)
    f.launch_update_data(handle, DATA, 32)
    measurement, nonce = f.launch_measure(handle)
    tik, tek = f.guests[handle].tik, f.guests[handle].tek
    digest = hashlib.sha256(b"firmware" * 4).digest()
    message = bytes([4, *API]) + struct.pack("<I", 0) + digest + nonce
    assert measurement == hmac.new(tik, message, hashlib.sha256).digest()
    wrong = make_secret(tek, tik, bytes(32), b"sixteen byte key", bytes(16))
    assert status_of(lambda: f.launch_secret(handle, DATA, wrong)) is Status.BAD_MEASUREMENT
    right = make_secret(tek, tik, measurement, b"sixteen byte key", bytes(16))
    for change in ({"flags": 1}, {"iv": b"\1" * 16}, {"data": bytes(16)}, {"data": right.data * 2}, {"mac": bytes(32)}):
        forged = replace(right, **change)  # type: ignore[arg-type]
        assert status_of(partial(f.launch_secret, handle, DATA, forged)) is Status.BAD_MEASUREMENT
    f.launch_secret(handle, DATA, right)
    f.launch_finish(handle)
    assert platform.controller.read(DATA, 16, 128) == b"sixteen byte key"
    assert platform.host_read(DATA, 16) != b"sixteen byte key"


def test_a_guest_moves_between_platforms() -> None:
    source, handle = guest_in(S.RUNNING)
    source.controller.write(DATA, b"state to move...", 1)
    tek, tik = source.sev.send_start(handle)
    packet = source.sev.send_update_data(handle, DATA, 16)
    target = Platform(PlatformConfig(snp=False, memory=16 << 20, seed=2))
    target.sev.init()
    other = target.sev.receive_start(ES, tek, tik)
    target.sev.activate(other, 5)
    target.sev.receive_update_data(other, DATA * 2, packet)
    assert target.controller.read(DATA * 2, 16, 5) == b"state to move..."
    forged = make_secret(tek, bytes(16), b"", b"x" * 16, bytes(16))
    assert status_of(lambda: target.sev.receive_update_data(other, DATA, forged)) is Status.BAD_MEASUREMENT


def test_vmsa_is_measured_and_its_check_value_kept() -> None:
    platform, handle = legacy(ES)
    page = vmsa.reset_page(0xFFFFFFF0)
    platform.host_write(DATA, page)
    platform.sev.launch_update_vmsa(handle, DATA)
    assert platform.tmr[DATA] == vmsa.check_value(page)
    measured = platform.sev.guests[handle].measured
    assert measured is not None
    assert measured.digest() == hashlib.sha256(page).digest()


# --- SEV-SNP

GCTX, PAGE_A, PAGE_B, BIG = 8 << 20, (8 << 20) + PAGE, (8 << 20) + 2 * PAGE, 10 << 20


def snp(**config: Any) -> Platform:
    platform = Platform(PlatformConfig(memory=64 << 20, **config))
    platform.snp.init()
    return platform


def launching(platform: Platform, *, asid: int = 1) -> int:
    platform.snp.table.rmpupdate(GCTX, assigned=True, immutable=True)
    handle = platform.snp.gctx_create(GCTX)
    platform.snp.launch_start(handle)
    platform.snp.activate(handle, asid)
    return handle


def test_snp_launch_update_checks_in_the_order_of_the_firmware() -> None:
    """Each call violates one check more than the next; so the first in order must answer."""
    platform = Platform(PlatformConfig(memory=64 << 20))
    f, rmp = platform.snp, platform.snp.table
    assert status_of(lambda: f.launch_update(GCTX, PAGE_A)) is Status.INVALID_PLATFORM_STATE
    f.init()
    assert status_of(lambda: f.launch_update(GCTX, PAGE_A)) is Status.INVALID_GUEST
    rmp.rmpupdate(GCTX, assigned=True, immutable=True)
    handle = f.gctx_create(GCTX)
    assert status_of(lambda: f.launch_update(handle, PAGE_A, large=True)) is Status.INVALID_PAGE_STATE
    rmp.rmpupdate(PAGE_A, assigned=True, asid=2, gpa=0x1000, immutable=True)
    assert status_of(lambda: f.launch_update(handle, PAGE_A, large=True)) is Status.INVALID_PAGE_SIZE
    rmp.rmpupdate(BIG, assigned=True, asid=2, gpa=0x200000, large=True, immutable=True)
    assert status_of(lambda: f.launch_update(handle, BIG + PAGE, large=True)) is Status.INVALID_ADDRESS
    assert status_of(lambda: f.launch_update(handle, BIG, PageType.VMSA, large=True)) is Status.INVALID_PAGE_SIZE
    assert status_of(lambda: f.launch_update(handle, PAGE_A)) is Status.INVALID_GUEST_STATE
    f.launch_start(handle)
    assert status_of(lambda: f.launch_update(handle, PAGE_A)) is Status.INACTIVE
    assert status_of(lambda: f.activate(handle, 2)) is Status.INVALID_CONFIG  # pages are already assigned to it
    f.activate(handle, 1)
    assert status_of(lambda: f.launch_update(handle, PAGE_A)) is Status.INVALID_PAGE_OWNER
    assert status_of(lambda: f.launch_update(handle, PAGE_A + 16)) is Status.INVALID_ADDRESS
    assert rmp.rmpupdate(PAGE_A, assigned=False) == 2
    f.page_reclaim(PAGE_A)
    assert rmp.state(PAGE_A) is PageState.GUEST_INVALID
    rmp.rmpupdate(PAGE_A, assigned=True, asid=1, gpa=0x1000, immutable=True)
    f.launch_update(handle, PAGE_A)
    assert rmp.state(PAGE_A) is PageState.GUEST_VALID


def test_snp_status_codes() -> None:
    platform = Platform(PlatformConfig(memory=64 << 20))
    f, rmp = platform.snp, platform.snp.table
    platform.sev.init()
    assert status_of(f.init) is Status.INVALID_PLATFORM_STATE
    platform.sev.shutdown()
    f.init()
    assert status_of(f.init) is Status.INVALID_PLATFORM_STATE
    assert status_of(lambda: f.gctx_create(GCTX)) is Status.INVALID_PAGE_STATE
    assert status_of(lambda: f.gctx_create(GCTX + 8)) is Status.INVALID_ADDRESS
    rmp.rmpupdate(GCTX, assigned=True, immutable=True)
    handle = f.gctx_create(GCTX)
    for policy in (0x10000, POLICY_DEFAULT | 1 << 25, POLICY_DEFAULT | 0x200, POLICY_DEFAULT | 1 << 24):
        assert status_of(partial(f.launch_start, handle, policy)) is Status.POLICY_FAILURE
    assert status_of(lambda: f.activate(handle, 1)) is Status.INVALID_GUEST_STATE
    f.launch_start(handle)
    assert status_of(lambda: f.activate(handle, 128)) is Status.INVALID_ASID
    f.activate(handle, 1)
    assert status_of(lambda: f.attest(handle, b"")) is Status.INVALID_GUEST_STATE
    f.launch_finish(handle)
    assert status_of(lambda: f.launch_start(handle)) is Status.INVALID_GUEST_STATE
    assert status_of(lambda: f.dbg_decrypt(handle, PAGE_A)) is Status.POLICY_FAILURE
    assert status_of(lambda: f.page_reclaim(PAGE_A)) is Status.INVALID_PAGE_STATE
    f.decommission(handle)
    assert rmp.state(GCTX) is PageState.FIRMWARE
    assert status_of(lambda: f.guest_status(handle)) is Status.INVALID_GUEST
    f.shutdown()
    assert Platform(PlatformConfig(memory=64 << 20, snp=False)).snp.platform_status()["rmp_init"] is False
    assert status_of(Platform(PlatformConfig(snp=False)).snp.init) is Status.INVALID_CONFIG


@pytest.mark.parametrize("command", ["gctx_create", "page_reclaim", "page_md_init", "page_set_state"])
def test_the_table_itself_is_never_handed_out(command: str) -> None:
    platform = Platform(PlatformConfig(memory=64 << 20))
    platform.snp.init()
    table = platform.snp.table
    for spa in (table.base, table.end - PAGE):
        assert status_of(partial(getattr(platform.snp, command), spa)) is Status.INVALID_ADDRESS
        assert table.rmpupdate(spa, assigned=False) == 2
    assert not platform.snp.contexts


def test_a_part_of_a_2_mib_page_is_no_page_of_its_own() -> None:
    platform = Platform(PlatformConfig(memory=64 << 20))
    f, rmp = platform.snp, platform.snp.table
    f.init()
    assert rmp.rmpupdate(BIG, assigned=True, immutable=True, large=True) == 0
    for command in (f.gctx_create, f.page_md_init, f.page_set_state):
        for spa in (BIG, BIG + PAGE):
            assert status_of(partial(command, spa)) is Status.INVALID_PAGE_SIZE
    assert status_of(lambda: f.page_reclaim(BIG + PAGE)) is Status.INVALID_ADDRESS
    f.page_reclaim(BIG)
    assert rmp.state(BIG + PAGE) is PageState.RECLAIM
    handle = launching(platform)
    for spa, gpa, size in ((PAGE_A, 0, False), (BIG, 0x200000, True)):
        assert rmp.rmpupdate(spa, assigned=True, asid=1, gpa=gpa, immutable=True, large=size) == 0
        f.launch_update(handle, spa, large=size)
    assert status_of(lambda: f.page_move(handle, BIG + PAGE, PAGE_A)) is Status.INVALID_PAGE_SIZE
    assert status_of(lambda: f.page_move(handle, PAGE_A, PAGE_A + 1)) is Status.INVALID_ADDRESS


def test_snp_states_follow_the_specification() -> None:
    platform = snp()
    handle = launching(platform)
    assert platform.snp.contexts[handle].state is SnpGuestState.LAUNCH
    platform.snp.launch_finish(handle)
    assert platform.snp.contexts[handle].state is SnpGuestState.RUNNING


def test_ciphertext_hiding_narrows_the_asids() -> None:
    platform = snp(ciphertext_hiding=True)
    handle = None
    platform.snp.table.rmpupdate(GCTX, assigned=True, immutable=True)
    handle = platform.snp.gctx_create(GCTX)
    platform.snp.launch_start(handle, POLICY_DEFAULT | 1 << 24)
    assert status_of(lambda: platform.snp.activate(handle, 100)) is Status.INVALID_ASID
    platform.snp.activate(handle, 99)


def test_page_move_keeps_the_content_under_the_new_address() -> None:
    platform = snp()
    handle = launching(platform)
    platform.host_write(PAGE_A, b"moves with tweak")
    platform.snp.table.rmpupdate(PAGE_A, assigned=True, asid=1, gpa=0x1000, immutable=True)
    platform.snp.launch_update(handle, PAGE_A)
    before = platform.host_read(PAGE_A, 16)
    platform.snp.table.rmpupdate(PAGE_A, assigned=True, asid=1, gpa=0x1000, immutable=True)
    assert platform.snp.table.state(PAGE_A) is PageState.PRE_SWAP
    platform.snp.table.rmpupdate(PAGE_B, assigned=True, asid=1, gpa=0x1000, immutable=True)
    platform.snp.page_move(handle, PAGE_A, PAGE_B)
    assert platform.snp.table.state(PAGE_B) is PageState.GUEST_VALID
    assert platform.snp.table.state(PAGE_A) is PageState.GUEST_INVALID
    assert platform.controller.read(PAGE_B, 16, 1) == b"moves with tweak"
    assert platform.host_read(PAGE_B, 16) != before


def test_the_policy_bits_that_are_reserved_depend_on_the_abi() -> None:
    for abi, first_reserved in ((FIRMWARE_ABI, 25), (ABI_PAGE_SWAP, 26)):
        platform = snp(firmware_abi=abi)
        platform.snp.table.rmpupdate(GCTX, assigned=True, immutable=True)
        handle = platform.snp.gctx_create(GCTX)
        for bit in range(first_reserved, 64):
            start = partial(platform.snp.launch_start, handle, POLICY_DEFAULT | 1 << bit)
            assert status_of(start) is Status.POLICY_FAILURE
    platform.snp.launch_start(handle, POLICY_DEFAULT | POLICY_PAGE_SWAP_DISABLE)


def test_page_move_asks_the_policy_first() -> None:
    platform = snp(firmware_abi=ABI_PAGE_SWAP)
    handle = launching(platform)
    platform.snp.contexts[handle].policy |= POLICY_PAGE_SWAP_DISABLE
    assert status_of(lambda: platform.snp.page_move(handle, PAGE_A, PAGE_B)) is Status.POLICY_FAILURE


def test_id_block_binds_digest_policy_and_signature() -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    changes: tuple[tuple[dict[str, Any], Status | None], ...] = (
        ({}, None),
        ({"launch_digest": b"x" * 48}, Status.BAD_MEASUREMENT),
        ({"policy": POLICY_DEFAULT | POLICY_DEBUG}, Status.POLICY_FAILURE),
        ({"policy": POLICY_DEFAULT & ~POLICY_SMT}, Status.POLICY_FAILURE),
        ({"signature": b"unsigned"}, Status.BAD_SIGNATURE),
    )
    for change, expected in changes:
        platform = snp()
        handle = launching(platform)
        digest = platform.snp.contexts[handle].digest.value
        fields: dict[str, Any] = {
            "launch_digest": digest,
            "policy": POLICY_DEFAULT,
            "image_id": b"image".ljust(16, b"\0"),
        }
        signature = change.pop("signature", None)
        block = report.IdBlock(**{**fields, **change}).signed(key)
        if signature is not None:
            block = report.IdBlock(**fields, signature=bytes(144), key=key.public_key())
        if expected is None:
            platform.snp.launch_finish(handle, id_block=block)
            answer = report.parse(platform.snp.attest(handle, b"n"))
            assert answer["image_id"] == b"image".ljust(16, b"\0")
            assert answer["id_key_digest"] == block.key_digest()
        else:
            assert status_of(partial(platform.snp.launch_finish, handle, id_block=block)) is expected


def test_reports_are_signed_by_a_chain_that_holds() -> None:
    platform = snp(ciphertext_hiding=True)
    handle = launching(platform)
    platform.snp.launch_finish(handle, host_data=b"h" * 32)
    data = platform.snp.attest(handle, b"nonce", vmpl=2)
    chain = platform.snp.keys.certificates()
    assert report.verify(data, chain)
    fields = report.parse(data)
    assert fields["measurement"] == platform.snp.contexts[handle].digest.value
    assert (fields["policy"], fields["vmpl"], fields["host_data"]) == (POLICY_DEFAULT, 2, b"h" * 32)
    assert fields["report_data"] == b"nonce".ljust(64, b"\0")
    assert fields["platform_info"] >> 4 & 1
    for at in (0, 0x50, 0x90, 0x29F, 0x2A0, 0x2A0 + 72):
        assert not report.verify(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :], chain)
    foreign = Platform(PlatformConfig(seed=9)).snp.keys.certificates()
    assert not report.verify(data, foreign)
    assert not report.verify(data, [chain[0], foreign[1], foreign[2]])
    assert "not AMD" in chain[0].subject.rfc4514_string()
    assert data == _again().snp.attest(GCTX, b"nonce", vmpl=2), "same seed, same report"
    with pytest.raises(ValueError, match="1184"):
        report.parse(data[:-1])


def _again() -> Platform:
    platform = snp(ciphertext_hiding=True)
    launching(platform)
    platform.snp.launch_finish(GCTX, host_data=b"h" * 32)
    return platform


def test_the_firmwares_digest_is_the_calculated_one() -> None:
    platform = snp()
    handle = launching(platform)
    own = SnpDigest()
    for page, (kind, gpa) in enumerate(
        [(PageType.NORMAL, 0x1000), (PageType.SECRETS, 0x2000), (PageType.ZERO, 0x3000)]
    ):
        spa = PAGE_A + page * PAGE
        platform.host_write(spa, b"content")
        platform.snp.table.rmpupdate(spa, assigned=True, asid=1, gpa=gpa, immutable=True)
        platform.snp.launch_update(handle, spa, kind)
        own.update(kind, gpa, b"content".ljust(PAGE, b"\0"))
    assert platform.snp.contexts[handle].digest.value == own.value
    assert platform.controller.read(PAGE_A + 2 * PAGE, 16, 1) == bytes(16)
    assert platform.controller.read(PAGE_A + PAGE, 32, 1) == platform.snp.contexts[handle].vmpcks[0]


def test_every_command_has_a_code_of_its_own() -> None:
    for table in (COMMANDS, SNP_COMMANDS):
        codes = [command.code for command in table.values()]
        assert len(codes) == len(set(codes))
        assert all(command.rules for command in table.values())


def two_guests(policy: int = POLICY_DEFAULT) -> tuple[Platform, list[int]]:
    """Two guests in their launch, with ASIDs 1 and 2."""
    platform = snp()
    handles = []
    for asid in (1, 2):
        spa = platform.allocate()
        platform.snp.table.rmpupdate(spa, assigned=True, immutable=True)
        handles.append(platform.snp.gctx_create(spa))
        platform.snp.launch_start(handles[-1], policy)
        platform.snp.activate(handles[-1], asid)
    return platform, handles


def test_debugging_reaches_the_guests_own_pages_alone() -> None:
    platform, (one, two) = two_guests(POLICY_DEFAULT | POLICY_DEBUG)
    f = platform.snp
    f.table.rmpupdate(PAGE_A, assigned=True, asid=2, gpa=0x1000, immutable=True)
    f.launch_update(two, PAGE_A)
    for handle in (one, two):
        f.launch_finish(handle)
    assert f.dbg_decrypt(two, PAGE_A) == bytes(PAGE)
    assert status_of(lambda: f.dbg_decrypt(one, PAGE_A)) is Status.INVALID_PAGE_OWNER
    assert status_of(lambda: f.dbg_decrypt(one, GCTX + 5 * PAGE)) is Status.INVALID_PAGE_OWNER
    assert status_of(lambda: f.dbg_decrypt(two, PAGE_A + 16)) is Status.INVALID_ADDRESS
    assert status_of(lambda: f.dbg_decrypt(two, 1 << 40)) is Status.INVALID_ADDRESS


def test_a_guest_without_an_asid_is_not_debugged() -> None:
    platform = snp()
    platform.snp.table.rmpupdate(GCTX, assigned=True, immutable=True)
    handle = platform.snp.gctx_create(GCTX)
    platform.snp.launch_start(handle, POLICY_DEFAULT | POLICY_DEBUG)
    platform.snp.launch_finish(handle)
    assert status_of(lambda: platform.snp.dbg_decrypt(handle, PAGE_A)) is Status.INACTIVE


def test_an_asid_belongs_to_one_guest_until_it_is_flushed() -> None:
    platform, (one, two) = two_guests()
    f = platform.snp
    assert status_of(lambda: f.activate(one, 3)) is Status.ACTIVE
    spa = platform.allocate()
    f.table.rmpupdate(spa, assigned=True, immutable=True)
    third = f.gctx_create(spa)
    f.launch_start(third)
    assert status_of(lambda: f.activate(third, 0)) is Status.INVALID_ASID
    assert status_of(lambda: f.activate(third, 1)) is Status.ASID_OWNED
    f.decommission(one)
    assert 1 not in platform.controller.keys
    assert status_of(lambda: f.activate(third, 1)) is Status.DF_FLUSH_REQUIRED
    assert status_of(f.df_flush) is Status.WBINVD_REQUIRED
    platform.host_wbinvd()
    f.df_flush()
    f.activate(third, 1)
    f.shutdown()
    assert not platform.controller.keys.keys() & {1, 2}
    assert {f.table.state(handle) for handle in (one, two, third)} == {PageState.FIRMWARE}


def test_page_move_checks_both_pages() -> None:
    platform, (one, two) = two_guests()
    f, update = platform.snp, platform.snp.table.rmpupdate
    update(PAGE_A, assigned=True, asid=1, gpa=0x1000, immutable=True)
    f.launch_update(one, PAGE_A)
    target: dict[str, Any] = {"assigned": True, "asid": 1, "gpa": 0x1000, "immutable": True}
    for wrong, status in (
        ({"immutable": False}, Status.INVALID_PAGE_STATE),
        ({"asid": 2}, Status.INVALID_PAGE_OWNER),
        ({"gpa": 0x2000}, Status.INVALID_PAGE_STATE),
    ):
        spa = platform.allocate()
        assert update(spa, **{**target, **wrong}) == 0
        assert status_of(partial(f.page_move, one, PAGE_A, spa)) is status
    assert update(PAGE_B, **target) == 0
    assert status_of(lambda: f.page_move(two, PAGE_A, PAGE_B)) is Status.INVALID_PAGE_OWNER
    own = platform.allocate()
    assert update(own, **{**target, "asid": 2}) == 0  # the second guest may not take the page into its own either
    assert status_of(lambda: f.page_move(two, PAGE_A, own)) is Status.INVALID_PAGE_OWNER
    assert update(BIG, **{**target, "gpa": 0x200000, "large": True}) == 0
    assert status_of(lambda: f.page_move(one, PAGE_A, BIG)) is Status.INVALID_PAGE_SIZE
    assert status_of(lambda: f.page_move(one, BIG, PAGE_B)) is Status.INVALID_PAGE_STATE
    f.page_move(one, PAGE_A, PAGE_B)  # a valid page arrives as one that the guest has to accept again
    assert f.table.state(PAGE_B) is PageState.GUEST_INVALID
    assert f.table.raw(PAGE_B).perms == [0, 0, 0, 0]
    assert f.table.state(PAGE_A) is PageState.GUEST_INVALID
    spa = platform.allocate()
    assert update(spa, **target) == 0
    assert status_of(lambda: f.page_move(one, PAGE_A, spa)) is Status.INVALID_PAGE_STATE


@pytest.mark.parametrize("state", [PageState.CONTEXT, PageState.PRE_GUEST, PageState.GUEST_INVALID, PageState.METADATA])
@pytest.mark.parametrize("command", ["gctx_create", "page_md_init", "page_set_state"])
def test_only_a_firmware_page_becomes_another_page_of_the_firmware(command: str, state: PageState) -> None:
    platform, (one, _) = two_guests()
    f = platform.snp
    spa = one if state is PageState.CONTEXT else PAGE_A
    if state is PageState.METADATA:
        f.table.rmpupdate(spa, assigned=True, immutable=True)
        f.page_md_init(spa)
    elif state is not PageState.CONTEXT:
        f.table.rmpupdate(spa, assigned=True, asid=1, gpa=0x1000, immutable=state is PageState.PRE_GUEST)
    assert f.table.state(spa) is state
    assert status_of(lambda: getattr(f, command)(spa)) is Status.INVALID_PAGE_STATE
    if state in (PageState.CONTEXT, PageState.GUEST_INVALID):
        assert status_of(lambda: f.page_reclaim(spa)) is Status.INVALID_PAGE_STATE


@pytest.mark.parametrize("kind", [PageType.VMSA, PageType.SECRETS, PageType.CPUID])
def test_pages_of_one_kind_are_small(kind: PageType) -> None:
    platform = snp()
    handle = launching(platform)
    platform.snp.table.rmpupdate(BIG, assigned=True, asid=1, gpa=0x200000, immutable=True, large=True)
    assert status_of(lambda: platform.snp.launch_update(handle, BIG, kind, large=True)) is Status.INVALID_PAGE_SIZE


def test_rights_and_addresses_of_launch_pages_are_measured_and_set() -> None:
    platform = snp()
    handle = launching(platform)
    own, rights = SnpDigest(), VmplPerms(1, 3, 7)
    f = platform.snp
    f.table.rmpupdate(PAGE_A, assigned=True, asid=1, gpa=0x1000, immutable=True)
    f.launch_update(handle, PAGE_A, perms=rights)
    own.update(PageType.NORMAL, 0x1000, bytes(PAGE), perms=rights)
    assert f.table.raw(PAGE_A).perms == [15, 1, 3, 7]
    f.table.rmpupdate(BIG, assigned=True, asid=1, gpa=0x200000, immutable=True, large=True)
    platform.controller.write(BIG + PAGE, b"second page", None)
    f.launch_update(handle, BIG, large=True)
    own.update_pages(PageType.NORMAL, 0x200000, (bytes(PAGE) + b"second page").ljust(512 * PAGE, b"\0"))
    assert f.contexts[handle].digest.value == own.value


# --- guest messages


def _request(key: bytes, sequence: int, *, vmpck: int = 0, vmpl: int = 0) -> bytes:
    payload = struct.pack("<64sI28x", b"nonce", vmpl)
    return message.seal(key, message.Message(message.MessageType.REPORT_REQUEST, sequence, vmpck, payload))


def test_guest_messages_are_answered_once_and_in_order() -> None:
    platform = snp()
    handle = launching(platform)
    platform.snp.launch_finish(handle)
    f, keys = platform.snp, platform.snp.contexts[handle].vmpcks
    first = _request(keys[0], 1)
    answer = message.unseal(keys[0], f.guest_request(handle, first), 2)
    made = answer.payload[32:]
    assert report.verify(made, f.keys.certificates())
    assert made == f.attest(handle, b"nonce")
    assert status_of(lambda: f.guest_request(handle, first)) is Status.BAD_MEASUREMENT, "a replayed request"
    assert status_of(lambda: f.guest_request(handle, _request(keys[0], 4))) is Status.BAD_MEASUREMENT
    f.guest_request(handle, _request(keys[0], 3))
    f.guest_request(handle, _request(keys[2], 1, vmpck=2, vmpl=3))
    assert status_of(lambda: f.guest_request(handle, _request(keys[2], 3, vmpck=2, vmpl=4))) is Status.INVALID_PARAM
    assert status_of(lambda: f.guest_request(handle, _request(keys[2], 1, vmpck=2, vmpl=3))) is Status.BAD_MEASUREMENT
    assert status_of(lambda: f.guest_request(handle, _request(keys[2], 3, vmpck=2, vmpl=1))) is Status.INVALID_PARAM
    assert status_of(lambda: f.guest_request(handle, b"short")) is Status.BAD_MEASUREMENT
    good = _request(keys[0], 5)
    for at in (0, 0x20, 0x34, 0x3C, 0x60, len(good) - 1):
        changed = good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :]
        assert status_of(partial(f.guest_request, handle, changed)) is Status.BAD_MEASUREMENT
    f.guest_request(handle, good)


def test_an_older_firmware_has_another_chip_key() -> None:
    old, new = snp(firmware_svn=3), snp()
    assert old.snp.keys.certificates()[2] == new.snp.keys.certificates()[2]
    assert old.snp.keys.certificates()[0] != new.snp.keys.certificates()[0]
