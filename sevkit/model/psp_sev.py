"""The SEV firmware (legacy SEV and SEV-ES): platform and guest state machines, commands as data.

Source: SEV API (55766), platform and guest state tables; the order of checks follows AMD's published firmware.
"""

import hashlib
import hmac
import struct
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from sevkit.model import vmsa
from sevkit.model.cipher import BLOCK, PAGE
from sevkit.model.machine import Machine
from sevkit.model.measure import sev_measurement
from sevkit.model.psp import Command, Refused, Rule, Status, enforce


class SevPlatformState(StrEnum):
    """States of the platform."""

    UNINIT = "UNINIT"
    INIT = "INIT"
    WORKING = "WORKING"


class SevGuestState(StrEnum):
    """States of a guest. UNINIT is a handle that does not exist."""

    UNINIT = "UNINIT"
    LUPDATE = "LUPDATE"
    LSECRET = "LSECRET"
    RUNNING = "RUNNING"
    SUPDATE = "SUPDATE"
    RUPDATE = "RUPDATE"
    SENT = "SENT"


NODBG, NOKS, ES, NOSEND, DOMAIN, SEV = (1 << bit for bit in range(6))
API = (1, 55, 24)


@dataclass
class SevGuest:
    """What the firmware keeps of a guest."""

    handle: int
    policy: int
    vek: bytes
    tek: bytes
    tik: bytes
    state: SevGuestState
    asid: int | None = None
    measured: "hashlib._Hash | None" = None
    nonce: bytes = b""
    measurement: bytes = b""


@dataclass
class SevCall:
    """A command with what its checks look at."""

    firmware: "SevFirmware"
    command: Command
    guest: SevGuest | None
    spa: int = 0
    length: int = BLOCK
    asid: int = 0
    policy: int = 0

    @property
    def owner(self) -> SevGuest:
        """The guest, once ``guest-handle`` has passed."""
        assert self.guest is not None
        return self.guest


P, G = SevPlatformState, SevGuestState
_READY = frozenset({P.INIT, P.WORKING})
_WORKING = frozenset({P.WORKING})
_ANY_GUEST = frozenset(G) - {G.UNINIT}

_PLATFORM = Rule("platform-state", lambda c: c.firmware.state not in c.command.platform, Status.INVALID_PLATFORM_STATE)
_HANDLE = Rule("guest-handle", lambda c: c.guest is None, Status.INVALID_GUEST)
_STATE = Rule("guest-state", lambda c: c.owner.state not in c.command.guest, Status.INVALID_GUEST_STATE)
_ACTIVE = Rule("guest-active", lambda c: c.owner.asid is None, Status.INACTIVE)
_ALIGN = Rule("address-aligned", lambda c: bool(c.spa % BLOCK), Status.INVALID_ADDRESS)
_LENGTH = Rule("length", lambda c: c.length <= 0 or bool(c.length % BLOCK), Status.INVALID_LENGTH)
_RANGE = Rule("address-range", lambda c: c.spa + c.length > c.firmware.platform.dram.size, Status.INVALID_ADDRESS)
_HOST_PAGE = Rule("page-state", lambda c: c.firmware.assigned(c.spa, c.length), Status.INVALID_PAGE_STATE)
_POLICY_ES = Rule("policy-es", lambda c: not c.owner.policy & ES, Status.UNSUPPORTED)
_VMSA_LENGTH = Rule("vmsa-length", lambda c: c.length != PAGE or bool(c.spa % PAGE), Status.INVALID_LENGTH)
_NODBG = Rule("policy-nodbg", lambda c: bool(c.owner.policy & NODBG), Status.POLICY_FAILURE)
_NOSEND = Rule("policy-nosend", lambda c: bool(c.owner.policy & NOSEND), Status.POLICY_FAILURE)
_RESERVED = Rule("policy-reserved", lambda c: bool(c.policy & 0xFFC0), Status.POLICY_FAILURE)
_API = Rule("policy-api", lambda c: (c.policy >> 16 & 0xFF, c.policy >> 24) > API[:2], Status.POLICY_FAILURE)
_INPLACE = (_ALIGN, _LENGTH, _RANGE, _HOST_PAGE)
_ASID_RULES = (
    Rule("guest-inactive", lambda c: c.owner.asid is not None, Status.ACTIVE),
    Rule("asid-range", lambda c: not c.firmware.asid_fits(c.owner.policy, c.asid), Status.INVALID_ASID),
    Rule("asid-free", lambda c: c.firmware.asid_owned(c.asid), Status.ASID_OWNED),
    Rule("asid-flushed", lambda c: c.asid in c.firmware.platform.dirty_asids, Status.DF_FLUSH_REQUIRED),
)


def _guest(
    code: int, name: str, states: frozenset[SevGuestState], *rules: Rule, to: SevGuestState | None = None
) -> Command:
    return Command(code, name, _WORKING, states, to, (_PLATFORM, _HANDLE, _STATE, *rules))


def _start(code: int, name: str, to: SevGuestState) -> Command:
    return Command(code, name, _READY, frozenset({G.UNINIT}), to, (_PLATFORM, _RESERVED, _API))


COMMANDS: dict[str, Command] = {
    command.name: command
    for command in (
        Command(0x01, "INIT", frozenset({P.UNINIT}), rules=(_PLATFORM,)),
        Command(0x02, "SHUTDOWN", frozenset(P), rules=(_PLATFORM,)),
        Command(0x04, "PLATFORM_STATUS", frozenset(P), rules=(_PLATFORM,)),
        Command(
            0x0A,
            "DF_FLUSH",
            _READY,
            rules=(
                _PLATFORM,
                Rule("wbinvd", lambda c: not c.firmware.platform.wbinvd_done, Status.WBINVD_REQUIRED),
            ),
        ),
        Command(
            0x20,
            "DECOMMISSION",
            _WORKING,
            _ANY_GUEST,
            G.UNINIT,
            (_PLATFORM, _HANDLE, Rule("guest-inactive", lambda c: c.owner.asid is not None, Status.ACTIVE)),
        ),
        _guest(0x21, "ACTIVATE", _ANY_GUEST, *_ASID_RULES),
        _guest(0x22, "DEACTIVATE", _ANY_GUEST, _ACTIVE),
        Command(0x23, "GUEST_STATUS", _WORKING, _ANY_GUEST, None, (_PLATFORM, _HANDLE)),
        _start(0x30, "LAUNCH_START", G.LUPDATE),
        _guest(0x31, "LAUNCH_UPDATE_DATA", frozenset({G.LUPDATE}), _ACTIVE, *_INPLACE),
        _guest(0x32, "LAUNCH_UPDATE_VMSA", frozenset({G.LUPDATE}), _POLICY_ES, _ACTIVE, _VMSA_LENGTH, *_INPLACE),
        _guest(0x33, "LAUNCH_MEASURE", frozenset({G.LUPDATE}), to=G.LSECRET),
        _guest(0x34, "LAUNCH_UPDATE_SECRET", frozenset({G.LSECRET}), _ACTIVE, *_INPLACE),
        _guest(0x35, "LAUNCH_FINISH", frozenset({G.LSECRET}), to=G.RUNNING),
        _guest(0x40, "SEND_START", frozenset({G.RUNNING}), _NOSEND, to=G.SUPDATE),
        _guest(0x41, "SEND_UPDATE_DATA", frozenset({G.SUPDATE}), _ACTIVE, *_INPLACE),
        _guest(0x43, "SEND_FINISH", frozenset({G.SUPDATE}), to=G.SENT),
        _guest(0x44, "SEND_CANCEL", frozenset({G.SUPDATE}), to=G.RUNNING),
        _start(0x50, "RECEIVE_START", G.RUPDATE),
        _guest(0x51, "RECEIVE_UPDATE_DATA", frozenset({G.RUPDATE}), _ACTIVE, *_INPLACE),
        _guest(0x53, "RECEIVE_FINISH", frozenset({G.RUPDATE}), to=G.RUNNING),
        _guest(0x60, "DBG_DECRYPT", frozenset({G.RUNNING}), _NODBG, _ACTIVE, *_INPLACE),
        _guest(0x61, "DBG_ENCRYPT", frozenset({G.RUNNING}), _NODBG, _ACTIVE, *_INPLACE),
    )
}


@dataclass(frozen=True)
class Packet:
    """Guest data on its way between the firmware and the owner or another platform."""

    flags: int
    iv: bytes
    mac: bytes
    data: bytes


class SevFirmware:
    """The secure processor's SEV firmware. Each method is one command; a refused one raises Refused."""

    def __init__(self, platform: Machine) -> None:
        self.platform = platform
        self.state = SevPlatformState.UNINIT
        self.guests: dict[int, SevGuest] = {}
        self._next_handle = 1
        self._entropy = platform.entropy.fork("sev-firmware")

    # --- what the rules ask

    def assigned(self, spa: int, length: int) -> bool:
        """Whether any page of the range belongs to an SNP guest or the firmware."""
        rmp = self.platform.rmp
        if rmp is None:
            return False
        pages = range(spa // PAGE, (spa + max(length, 1) - 1) // PAGE + 1)
        return any(rmp.covers(page * PAGE) and rmp.lookup(page * PAGE)[0].assigned for page in pages)

    def asid_fits(self, policy: int, asid: int) -> bool:
        """ASIDs 1 to min-1 are for SEV-ES, min to max for SEV (CPUID 8000_001F EDX and ECX)."""
        config = self.platform.config
        if policy & ES:
            return 1 <= asid < config.min_sev_asid
        return config.min_sev_asid <= asid <= config.max_asid

    def asid_owned(self, asid: int) -> bool:
        """Whether a key is installed for this ASID, by this machine or the SNP one."""
        return asid in self.platform.controller.keys

    # --- platform commands

    def init(self) -> None:
        """INIT."""
        self._enter("INIT")
        self.state = SevPlatformState.INIT

    def shutdown(self) -> None:
        """SHUTDOWN: forget all guests."""
        self._enter("SHUTDOWN")
        for guest in self.guests.values():
            if guest.asid is not None:
                self.platform.remove_key(guest.asid)
        self.guests.clear()
        self.state = SevPlatformState.UNINIT

    def platform_status(self) -> dict[str, Any]:
        """PLATFORM_STATUS."""
        self._enter("PLATFORM_STATUS")
        return {"api": API, "state": str(self.state), "guests": len(self.guests)}

    def df_flush(self) -> None:
        """DF_FLUSH: after WBINVD on all cores, ASIDs may be used again."""
        self._enter("DF_FLUSH")
        self.platform.dirty_asids.clear()

    # --- launch

    def launch_start(self, policy: int = 0) -> int:
        """LAUNCH_START: make a guest with fresh keys; returns its handle."""
        self._enter("LAUNCH_START", policy=policy)
        return self._make(policy, SevGuestState.LUPDATE, self._entropy.bytes(16), self._entropy.bytes(16))

    def launch_update_data(self, handle: int, spa: int, length: int) -> None:
        """LAUNCH_UPDATE_DATA: measure and encrypt in place. The digest takes the bytes, not where they lie."""
        guest = self._enter("LAUNCH_UPDATE_DATA", handle, spa=spa, length=length)
        data = self.platform.controller.read(spa, length, None)
        self._measured(guest).update(data)
        self._store(guest, spa, data)

    def launch_update_vmsa(self, handle: int, spa: int, length: int = PAGE) -> None:
        """LAUNCH_UPDATE_VMSA: measure and encrypt a vCPU's state, and keep its check value."""
        guest = self._enter("LAUNCH_UPDATE_VMSA", handle, spa=spa, length=length)
        data = self.platform.controller.read(spa, length, None)
        self._measured(guest).update(data)
        self.platform.tmr[spa] = vmsa.check_value(data)
        self._store(guest, spa, data)

    def launch_measure(self, handle: int) -> tuple[bytes, bytes]:
        """LAUNCH_MEASURE: returns the measurement and its nonce."""
        guest = self._enter("LAUNCH_MEASURE", handle)
        guest.nonce = self._entropy.bytes(16)
        guest.measurement = sev_measurement(guest.tik, API, guest.policy, self._measured(guest).digest(), guest.nonce)
        return guest.measurement, guest.nonce

    def launch_secret(self, handle: int, spa: int, packet: Packet) -> None:
        """LAUNCH_UPDATE_SECRET: check and place a secret that the guest's owner made for this measurement."""
        guest = self._enter("LAUNCH_UPDATE_SECRET", handle, spa=spa, length=len(packet.data))
        mac = secret_mac(guest.tik, packet, guest.measurement)
        if not hmac.compare_digest(mac, packet.mac):
            raise Refused("LAUNCH_UPDATE_SECRET", Status.BAD_MEASUREMENT, "secret-mac")
        self._store(guest, spa, _ctr(guest.tek, packet.iv, packet.data))

    def launch_finish(self, handle: int) -> None:
        """LAUNCH_FINISH: the guest may run."""
        self._enter("LAUNCH_FINISH", handle)

    # --- ASIDs and life

    def activate(self, handle: int, asid: int) -> None:
        """ACTIVATE: put the guest's key into the slot of an ASID."""
        guest = self._enter("ACTIVATE", handle, asid=asid)
        guest.asid = asid
        self.platform.install_key(asid, guest.vek)

    def deactivate(self, handle: int) -> None:
        """DEACTIVATE: take the key away. WBINVD and DF_FLUSH come before the ASID is used again."""
        guest = self._enter("DEACTIVATE", handle)
        assert guest.asid is not None
        self.platform.remove_key(guest.asid)
        guest.asid = None

    def decommission(self, handle: int) -> None:
        """DECOMMISSION: forget the guest."""
        self._enter("DECOMMISSION", handle)
        del self.guests[handle]
        if not self.guests:
            self.state = SevPlatformState.INIT

    def guest_status(self, handle: int) -> dict[str, Any]:
        """GUEST_STATUS."""
        guest = self._enter("GUEST_STATUS", handle)
        return {"policy": guest.policy, "asid": guest.asid, "state": str(guest.state)}

    # --- migration

    def send_start(self, handle: int) -> tuple[bytes, bytes]:
        """SEND_START: returns the transport keys TEK and TIK (the key exchange around them is not modelled)."""
        guest = self._enter("SEND_START", handle)
        return guest.tek, guest.tik

    def send_update_data(self, handle: int, spa: int, length: int) -> Packet:
        """SEND_UPDATE_DATA: guest memory under the transport keys."""
        guest = self._enter("SEND_UPDATE_DATA", handle, spa=spa, length=length)
        iv = self._entropy.bytes(16)
        data = _ctr(guest.tek, iv, self.platform.controller.read(spa, length, guest.asid))
        packet = Packet(0, iv, b"", data)
        return Packet(0, iv, secret_mac(guest.tik, packet, b""), data)

    def send_finish(self, handle: int) -> None:
        """SEND_FINISH."""
        self._enter("SEND_FINISH", handle)

    def send_cancel(self, handle: int) -> None:
        """SEND_CANCEL."""
        self._enter("SEND_CANCEL", handle)

    def receive_start(self, policy: int, tek: bytes, tik: bytes) -> int:
        """RECEIVE_START: make a guest from a session; returns its handle."""
        self._enter("RECEIVE_START", policy=policy)
        return self._make(policy, SevGuestState.RUPDATE, tek, tik)

    def receive_update_data(self, handle: int, spa: int, packet: Packet) -> None:
        """RECEIVE_UPDATE_DATA: check and place guest memory."""
        guest = self._enter("RECEIVE_UPDATE_DATA", handle, spa=spa, length=len(packet.data))
        if not hmac.compare_digest(secret_mac(guest.tik, packet, b""), packet.mac):
            raise Refused("RECEIVE_UPDATE_DATA", Status.BAD_MEASUREMENT, "packet-mac")
        self._store(guest, spa, _ctr(guest.tek, packet.iv, packet.data))

    def receive_finish(self, handle: int) -> None:
        """RECEIVE_FINISH."""
        self._enter("RECEIVE_FINISH", handle)

    # --- debugging

    def dbg_decrypt(self, handle: int, spa: int, length: int) -> bytes:
        """DBG_DECRYPT: plaintext of guest memory, if the policy allows debugging."""
        guest = self._enter("DBG_DECRYPT", handle, spa=spa, length=length)
        return self.platform.controller.read(spa, length, guest.asid)

    def dbg_encrypt(self, handle: int, spa: int, data: bytes) -> None:
        """DBG_ENCRYPT: write guest memory, if the policy allows debugging."""
        guest = self._enter("DBG_ENCRYPT", handle, spa=spa, length=len(data))
        self._store(guest, spa, data)

    # --- inside

    def _enter(self, name: str, handle: int | None = None, **arguments: int) -> SevGuest:
        """Check a command in the order of its rules, then move the guest on. Without a guest it returns a blank."""
        command = COMMANDS[name]
        guest = self.guests.get(handle) if handle is not None else None
        enforce(command, SevCall(self, command, guest, **arguments))
        if guest is None:
            return SevGuest(0, 0, b"", b"", b"", SevGuestState.UNINIT)
        if command.to is not None:
            guest.state = command.to
        return guest

    def _make(self, policy: int, state: SevGuestState, tek: bytes, tik: bytes) -> int:
        handle, self._next_handle = self._next_handle, self._next_handle + 1
        self.guests[handle] = SevGuest(
            handle, policy, self._entropy.bytes(16), tek, tik, state, measured=hashlib.sha256()
        )
        self.state = SevPlatformState.WORKING
        return handle

    @staticmethod
    def _measured(guest: SevGuest) -> "hashlib._Hash":
        assert guest.measured is not None
        return guest.measured

    def _store(self, guest: SevGuest, spa: int, data: bytes) -> None:
        self.platform.controller.write(spa, data, guest.asid)


def _ctr(key: bytes, iv: bytes, data: bytes) -> bytes:
    return Cipher(algorithms.AES(key), modes.CTR(iv)).encryptor().update(data)


def secret_mac(tik: bytes, packet: Packet, measurement: bytes) -> bytes:
    """The authentication of a secret: HMAC over header fields, lengths, ciphertext and launch measurement."""
    size = len(packet.data)
    message = b"\x01" + struct.pack("<I", packet.flags) + packet.iv + struct.pack("<II", size, size)
    return hmac.new(tik, message + packet.data + measurement, hashlib.sha256).digest()


def make_secret(tek: bytes, tik: bytes, measurement: bytes, secret: bytes, iv: bytes) -> Packet:
    """What the guest's owner prepares for LAUNCH_UPDATE_SECRET."""
    packet = Packet(0, iv, b"", _ctr(tek, iv, secret))
    return Packet(0, iv, secret_mac(tik, packet, measurement), packet.data)
