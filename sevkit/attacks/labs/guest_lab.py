"""The attacks that need nothing but memory, on a real guest: replay, corruption and block move of ciphertext.

The host does what a hostile host can do and no more: it reads and writes DRAM. It does not even know where its target
lies: it finds the page by its ciphertext, which comes back when the same text comes back (encryption is
deterministic for a key and an address; Li et al., CipherLeaks, USENIX Security 2021).
"""

import secrets as randomness
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sevkit.attacks.experiment import Notebook, Observation, Outcome
from sevkit.errors import InconclusiveError
from sevkit.hypervisor.qemu.guest import QemuGuest
from sevkit.memory.guest_ram.layout import GuestMap
from sevkit.memory.sources import poke
from sevkit.memory.sources.base import PAGE, State, intersect, normalise
from sevkit.memory.sources.process import LiveMemory
from sevkit.vocabulary import Mode

_BLOCK = 16  # bytes of one AES block
_RECORD = 64  # bytes of one record of the account: a page holds 64 of them
_ROUNDS = 8
_WINDOW = 8 << 20


@dataclass
class Ground:
    """A running guest that keeps an account in its page cache, and the host's view of its RAM."""

    guest: QemuGuest
    token: str

    def set_balance(self, coins: int) -> None:
        """Have the guest write its account: one page, in place, so that it stays where it is."""
        record = f"account {self.token} balance {coins:04d}"
        page = f"for n in $(seq {PAGE // _RECORD}); do printf '%-{_RECORD - 1}s\\n' '{record}'; done >/tmp/account"
        self.guest.run(f"{page}; dd if=/tmp/account of=/root/account conv=notrunc bs={PAGE} status=none")

    def balance(self) -> str:
        """What the guest reads of its account: the first record, as text."""
        return self.guest.run(f"head -c {_RECORD} /root/account").stdout.decode("latin-1").strip()

    def page(self) -> bytes:
        """The whole page as the guest reads it."""
        return self.guest.run("cat /root/account").stdout

    @contextmanager
    def held(self) -> Iterator[None]:
        """The guest stands still and its caches are written back: what DRAM holds is all there is."""
        self.guest.pause()
        try:
            self.guest.write_back()
            yield
        finally:
            self.guest.resume()

    def fingerprints(self) -> dict[int, int]:
        """A number for each populated page of guest RAM as DRAM holds it: host address -> fingerprint."""
        import numpy as np

        factors = np.random.default_rng(1).integers(1, 2**63, PAGE // 8, dtype=np.uint64) | np.uint64(1)
        found: dict[int, int] = {}
        with self.held(), LiveMemory(self.guest.pid) as memory:
            ranges = normalise(GuestMap(self.guest.ram_blocks()).host_ranges())
            buffer = bytearray(_WINDOW)
            for stretch in intersect(memory.stretches(), ranges):
                if stretch.state != State.DATA:
                    continue
                for at in range(stretch.start, stretch.end, _WINDOW):
                    view = memoryview(buffer)[: min(_WINDOW, stretch.end - at)]
                    read = memory.readinto(at, view) // PAGE * PAGE
                    words = np.frombuffer(view[:read], dtype=np.uint64).reshape(-1, PAGE // 8)
                    sums = (words * factors).sum(axis=1, dtype=np.uint64)
                    found.update(zip(range(at, at + read, PAGE), sums.tolist(), strict=True))
        return found

    def read(self, address: int, size: int) -> bytes:
        """What DRAM holds there."""
        with LiveMemory(self.guest.pid) as memory:
            return memory.read(address, size)

    def write(self, address: int, data: bytes) -> None:
        """Change what DRAM holds there."""
        poke.write(self.guest.pid, address, data)


def find_page(ground: Ground, note: Notebook) -> int:
    """The host address of the account's page: the one that changes with it, and comes back with it."""
    candidates: set[int] | None = None
    seen: dict[int, dict[int, int]] = {}
    for turn in range(_ROUNDS):
        coins = 100 if turn % 2 == 0 else 0
        ground.set_balance(coins)
        now = ground.fingerprints()
        if coins in seen:
            same = {page for page, mark in seen[coins].items() if now.get(page) == mark}
            candidates = same if candidates is None else candidates & same
        other = seen.get(100 - coins)
        if candidates is not None and other is not None:
            candidates = {page for page in candidates if other.get(page) != now.get(page)}
            if len(candidates) == 1:
                note.host(
                    f"After {turn + 1} looks at all of DRAM one page is left that changes and comes back with it."
                )
                return candidates.pop()
        seen[coins] = now
    raise InconclusiveError(f"the account's page was not found: {len(candidates or ())} candidates are left")


def replay(ground: Ground, note: Notebook) -> Observation:
    """Write back the page's older bytes after the guest has paid."""
    page = find_page(ground, note)
    ground.set_balance(100)
    with ground.held():
        old = ground.read(page, PAGE)
    note.host("The host copies the page as it lies in DRAM.", old[:32])
    ground.set_balance(0)
    note.guest(f"The guest pays, and reads: {ground.balance()}")
    with ground.held():
        ground.write(page, old)
    note.host("The host writes the old bytes back.")
    seen = ground.balance()
    note.guest(f"The guest reads: {seen}")
    if seen.endswith("balance 0100"):
        return note.works("no-integrity", "The old state is back and the guest believes it.", balance=seen)
    return note.stopped("unknown", "The guest did not accept the old state.", balance=seen)


def corruption(ground: Ground, note: Notebook) -> Observation:
    """Flip one bit of the page in DRAM."""
    page = find_page(ground, note)
    ground.set_balance(100)
    before = ground.page()
    with ground.held():
        ground.write(page + 3 * _BLOCK, bytes([ground.read(page + 3 * _BLOCK, 1)[0] ^ 1]))
    note.host("The host flips one bit of one byte in DRAM.")
    after = ground.page()
    blocks = [i for i in range(PAGE // _BLOCK) if _part(before, i) != _part(after, i)]
    changed = sum(a != b for a, b in zip(before, after, strict=False))
    note.guest(f"The guest reads: {changed} bytes differ, in blocks {blocks} of 16 bytes.", _part(after, 3))
    if blocks == [3]:
        text = "The guest computes on with what the host has spoiled, and no fault is raised"
        detail = "." if changed == 1 else ": one flipped bit makes a whole block random."
        return note.works("no-integrity", text + detail, bytes_changed=changed)
    return note.stopped("unknown", "The change did not reach the guest as expected.", blocks=blocks)


def block_move(ground: Ground, note: Notebook) -> Observation:
    """Copy one block's bytes over another block of the same page."""
    page = find_page(ground, note)
    ground.set_balance(100)
    before = ground.page()
    source, target = 0, 5  # two blocks with different text
    with ground.held():
        ground.write(page + target * _BLOCK, ground.read(page + source * _BLOCK, _BLOCK))
    note.host(f"The host copies block {source} of the page over block {target}.")
    after = ground.page()
    note.guest("The guest reads block 5.", _part(after, target))
    if _part(after, target) == _part(before, source):
        return note.works("no-tweak", "The text has moved to where the host wanted it.")
    if _part(after, target) != _part(before, target):
        return note.stopped(
            "address-tweak", "The block decrypts to noise at another address: the host spoils it, but chooses nothing."
        )
    return note.stopped("unknown", "The write did not reach the guest.")


def _part(page: bytes, block: int) -> bytes:
    return page[block * _BLOCK : (block + 1) * _BLOCK]


EXPERIMENTS: dict[str, Callable[[Ground, Notebook], Observation]] = {
    "replay": replay,
    "corruption": corruption,
    "block-move": block_move,
}


_WORKS, _STOPPED = Outcome.WORKS, Outcome.STOPPED
# SEV-SNP is not here: the host's write faults (RMP), which ends the VMM and not the experiment.
EXPECTED: dict[str, dict[Mode, Outcome]] = {
    "replay": {Mode.NOSEV: _WORKS, Mode.SEV: _WORKS, Mode.SEV_ES: _WORKS},
    "corruption": {Mode.NOSEV: _WORKS, Mode.SEV: _WORKS, Mode.SEV_ES: _WORKS},
    "block-move": {Mode.NOSEV: _WORKS, Mode.SEV: _STOPPED, Mode.SEV_ES: _STOPPED},
}


def perform(name: str, guest: QemuGuest, note: Notebook) -> Observation:
    """Run one of the experiments on a running guest; an inconclusive one says why."""
    ground = Ground(guest, randomness.token_hex(8))
    note.setup(f"A real Linux guest ({guest.spec.mode}, {guest.provenance}) keeps an account in a file: 100 coins.")
    note.predict("Encryption hides the account; nothing in SEV and SEV-ES keeps the host from writing to it.")
    try:
        return EXPERIMENTS[name](ground, note)
    except InconclusiveError as error:
        note.verdict(error.message)
        return Observation(Outcome.INCONCLUSIVE, "not-found")
