"""The laws of the model under a hostile host: state machines driven by hypothesis, and longer random histories.

``SEVKIT_LAW_STEPS`` sets the number of steps of the random histories (at least 100,000 in CI).
"""

import contextlib
import os
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from sevkit.model.cipher import BLOCK, PAGE, UNIT, MemoryKey, Scheme, gf_multiply, xe_tweak
from sevkit.model.entropy import Entropy
from sevkit.model.launch import launch
from sevkit.model.machine import PlatformConfig
from sevkit.model.memory import MemoryController, SparseDram, WriteBackCache
from sevkit.model.platform import Platform
from sevkit.model.psp import Refused
from sevkit.model.psp_sev import ES, Packet, SevGuestState, SevPlatformState, make_secret
from sevkit.model.rmp_entry import GPA_MASK, RmpEntry
from sevkit.vocabulary import Mode
from tests.model_world import World, drive

STEPS = int(os.environ.get("SEVKIT_LAW_STEPS", "100000"))
HISTORY = 250  # steps of one history: long enough to build up state, short enough not to get stuck
small = st.integers(0, 59)


class HostileHost(RuleBasedStateMachine):
    """Whatever a hostile host and two guests do, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()

    @rule(operation=st.integers(0, len(World.OPERATIONS) - 1), page=small, kind=small, owner=small, gpa=small)
    def step(self, operation: int, page: int, kind: int, owner: int, gpa: int) -> None:
        self.world.step(operation, page, kind, owner, gpa)

    @invariant()
    def laws(self) -> None:
        self.world.check()


HostileHost.TestCase.settings = settings(
    max_examples=60, stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck)
)
TestHostileHost = HostileHost.TestCase


@pytest.mark.timeout(1800)
def test_laws_hold_through_long_histories() -> None:
    equal = seen = 0
    for seed in range(-(-STEPS // HISTORY)):
        world = drive(World(seed), seed, HISTORY)
        equal, seen = equal + world.equal_bytes, seen + world.seen_bytes
    # Equal bytes by chance: 1 in 256. Six standard deviations, so that a sound cipher fails once in a billion runs.
    mean = seen / 256
    assert seen > STEPS // 4, "the histories hardly wrote anything"
    assert abs(equal - mean) < 6 * (mean * 255 / 256) ** 0.5 + 1


def test_same_seed_same_history() -> None:
    one, other = (drive(World(7), 7, 400) for _ in range(2))
    assert one.history == other.history
    assert one.digest() == other.digest()
    assert drive(World(8), 7, 400).digest() != one.digest()


# --- the legacy command machine


class SevWorld:
    """Any sequence of legacy commands."""

    def __init__(self) -> None:
        self.platform = Platform(PlatformConfig(memory=16 << 20, snp=False))
        self.firmware = self.platform.sev

    def step(self, number: int, handle: int, asid: int, spa: int, policy: int) -> None:
        f, at = self.firmware, spa * BLOCK
        actions = (
            f.init,
            lambda: f.launch_start(policy),
            lambda: f.activate(handle, asid),
            lambda: f.launch_update_data(handle, at, 32),
            lambda: f.launch_update_vmsa(handle, at // PAGE * PAGE),
            lambda: f.launch_measure(handle),
            lambda: f.launch_finish(handle),
            lambda: f.launch_secret(handle, at, self._secret(handle)),
            lambda: f.send_start(handle),
            lambda: f.send_update_data(handle, at, 32),
            lambda: f.send_finish(handle),
            lambda: f.send_cancel(handle),
            lambda: f.receive_start(policy, bytes(16), bytes(16)),
            lambda: f.receive_finish(handle),
            lambda: f.dbg_decrypt(handle, at, 16),
            lambda: f.deactivate(handle),
            lambda: f.decommission(handle),
            self.platform.host_wbinvd,
            f.df_flush,
            f.shutdown,
            f.platform_status,
            lambda: f.guest_status(handle),
        )
        with contextlib.suppress(Refused):
            actions[number % len(actions)]()
        self.check()

    def _secret(self, handle: int) -> Packet:
        guest = self.firmware.guests.get(handle)
        keys = (guest.tek, guest.tik, guest.measurement) if guest else (bytes(16), bytes(16), bytes(32))
        return make_secret(*keys, b"sixteen byte key", bytes(16))

    def check(self) -> None:
        firmware = self.firmware
        assert firmware.state in SevPlatformState
        assert (firmware.state is SevPlatformState.WORKING) == bool(firmware.guests)
        asids = [guest.asid for guest in firmware.guests.values() if guest.asid is not None]
        assert len(asids) == len(set(asids)), "two guests share an ASID"
        assert set(self.platform.controller.keys) == {0, *asids}, "a key without a guest, or a guest without its key"
        for guest in firmware.guests.values():
            assert guest.state in SevGuestState
            assert guest.state is not SevGuestState.UNINIT
            if guest.asid is not None:
                assert (guest.asid < 128) == bool(guest.policy & ES)


class SevCommands(RuleBasedStateMachine):
    """Whatever is asked of the legacy firmware."""

    def __init__(self) -> None:
        super().__init__()
        self.world = SevWorld()

    @rule(
        number=st.integers(0, 21),
        handle=st.integers(0, 3),
        asid=st.sampled_from([0, 1, 2, 127, 128, 129, 509, 510]),
        spa=st.integers(0, 4096),
        policy=st.sampled_from([0, 1, 4, 5, 8, 12, 0x40, 0x02000000]),
    )
    def command(self, number: int, handle: int, asid: int, spa: int, policy: int) -> None:
        self.world.step(number, handle, asid, spa, policy)


SevCommands.TestCase.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
TestSevCommands = SevCommands.TestCase


def test_legacy_commands_through_long_histories() -> None:
    random = Random(5)
    for _ in range(60):
        world = SevWorld()
        for _ in range(200):
            world.step(
                random.randrange(22),
                random.randrange(1, 4),
                random.choice([1, 2, 128, 129]),
                random.randrange(4096),
                random.choice([0, 1, 4, 5, 8]),
            )


# --- memory encryption

keys = st.binary(min_size=16, max_size=16)


@settings(max_examples=60, deadline=None)
@given(
    key=keys, scheme=st.sampled_from(Scheme), block=st.integers(0, 1 << 40), data=st.binary(min_size=1, max_size=600)
)
def test_decryption_undoes_encryption(key: bytes, scheme: Scheme, block: int, data: bytes) -> None:
    data = data.ljust(-(-len(data) // BLOCK) * BLOCK, b"\0")
    cipher = MemoryKey(key, scheme)
    sealed = cipher.encrypt(block * BLOCK, data)
    assert cipher.decrypt(block * BLOCK, sealed) == data
    assert sealed != data


@settings(max_examples=25, deadline=None)
@given(
    key=keys,
    scheme=st.sampled_from(Scheme),
    page=st.integers(510, 514),
    pages=st.integers(1, 3),
    cut=st.integers(1, 255),
)
def test_any_split_gives_the_same_ciphertext(key: bytes, scheme: Scheme, page: int, pages: int, cut: int) -> None:
    """Whole pages go another way than single blocks (OpenSSL's XTS): both must agree, across units of 2 MiB too."""
    cipher, data = MemoryKey(key, scheme), Entropy(key).bytes(pages * PAGE)
    whole = cipher.encrypt(page * PAGE, data)
    at = cut * BLOCK
    assert cipher.encrypt(page * PAGE, data[:at]) + cipher.encrypt(page * PAGE + at, data[at:]) == whole


@settings(max_examples=30, deadline=None)
@given(key=keys, block=st.integers(0, UNIT // BLOCK - 1))
def test_xex_is_as_the_standard_defines_it(key: bytes, block: int) -> None:
    """C = E(P ^ T) ^ T with T = E(K2, unit) * a^j, computed here from the definition."""
    cipher = MemoryKey(key)
    start = int.from_bytes(cipher.tweak(0), "little")
    power, base, exponent = 1, 2, block
    while exponent:
        if exponent & 1:
            power = gf_multiply(power, base)
        base, exponent = gf_multiply(base, base), exponent >> 1
    tweak = gf_multiply(start, power)
    assert cipher.tweak(block * BLOCK) == tweak.to_bytes(16, "little")
    plain = int.from_bytes(key, "little") ^ tweak
    middle = int.from_bytes(cipher._encrypt(plain.to_bytes(16, "little")), "little")
    assert cipher.encrypt(block * BLOCK, key) == (middle ^ tweak).to_bytes(16, "little")


@given(st.integers(0, (1 << 48) - 1), st.integers(0, (1 << 48) - 1))
def test_the_old_tweak_is_linear(a: int, b: int) -> None:
    assert xe_tweak(a & ~15) ^ xe_tweak(b & ~15) == xe_tweak((a ^ b) & ~15)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 9000), st.binary(min_size=1, max_size=5000), st.sampled_from([None, 1, 2]), st.booleans()
        ),
        max_size=12,
    )
)
def test_reads_return_what_was_written_last(writes: list[tuple[int, bytes, int | None, bool]]) -> None:
    """Any mix of unaligned writes, with and without a cache that is written back at times."""
    for cached in (False, True):
        controller = MemoryController(SparseDram(1 << 20))
        controller.keys.update({1: MemoryKey(b"a" * 16), 2: MemoryKey(b"b" * 16, Scheme.XE)})
        memory = WriteBackCache(controller) if cached else controller
        spaces = {None: 0, 1: 0x10000, 2: 0x20000}
        shadow: dict[int | None, dict[int, int]] = {asid: {} for asid in spaces}
        for at, data, asid, flush in writes:
            memory.write(spaces[asid] + at, data, asid)
            shadow[asid].update(enumerate(data, at))
            if isinstance(memory, WriteBackCache) and flush:
                memory.wbinvd()
        for asid, cells in shadow.items():
            for at, value in list(cells.items())[::97]:
                assert memory.read(spaces[asid] + at, 1, asid) == bytes([value])


@pytest.mark.parametrize("mode", [Mode.SEV, Mode.SEV_ES, Mode.SEV_SNP])
def test_no_host_visible_byte_equals_its_plaintext_beyond_chance(mode: Mode) -> None:
    platform = Platform(PlatformConfig(memory=64 << 20, snp=mode is Mode.SEV_SNP))
    guest = launch(platform, mode, pages=64)
    equal = total = 0
    for page in range(64):
        for fill in (bytes(PAGE), b"\xff" * PAGE, Entropy(page).bytes(PAGE)):
            guest.vm.write(page * PAGE, fill)
            seen = platform.host_read(guest.spa(page * PAGE), PAGE)
            equal += sum(a == b for a, b in zip(seen, fill, strict=True))
            total += PAGE
            assert all(seen[n : n + 16] != fill[n : n + 16] for n in range(0, PAGE, 16))
    mean = total / 256
    assert abs(equal - mean) < 6 * (mean * 255 / 256) ** 0.5


@given(st.integers(0, (1 << 64) - 1), st.integers(0, (1 << 32) - 1))
def test_rmp_entries_survive_their_encoding(low: int, high: int) -> None:
    data = low.to_bytes(8, "little") + high.to_bytes(8, "little")
    entry = RmpEntry.unpack(data)
    assert entry.pack() == data
    assert entry.gpa >> 12 <= GPA_MASK
