"""Accounts that a real guest keeps, each in one page of its page cache, and how the host finds these pages.

The host does only what a hostile host can do. It does not know the address of its target: it finds the page by its
ciphertext, which repeats when the text repeats (encryption is deterministic for a key and an address; Li et al.,
CipherLeaks, USENIX Security 2021). Example: the guest writes the balances 100, 200, 100. The host looks for the page
whose DRAM content was A, B, A, with A different from B.
"""

import secrets as randomness
from collections.abc import Sequence

from sevkit.attacks.labs.guest_lab import GuestLab
from sevkit.attacks.notebook import Notebook
from sevkit.errors import GuestError, InconclusiveError
from sevkit.memory.sources.base import PAGE

BLOCK = 16  # bytes that the memory controller encrypts at once
RECORD = 64  # bytes of one record of the account: a page holds 64 of them
BALANCES = (100, 0)
PATIENCE = 90.0  # seconds for an answer that may never come
DRAFT = "/root/sevkit-draft"  # in the guest: the text that the page is overwritten with
_LOOKS = 40
_ENOUGH = 5  # observations at least: fewer could match by chance
# Other pages would change together with the account: the file that it was made from, freed buffers, the shell's copy of
# this script. So the guest overwrites the file, reuses freed buffers for a large one, and adds a comment of random
# length, which makes everything else different each time.
_BEGIN = """
# {noise}
"""
_SET = """
for n in $(seq {count}); do printf '%-{width}s\\n' '{record}'; done >{draft}
[ -e {path} ] || cp {draft} {path}
dd if={draft} of={path} conv=notrunc bs={page} status=none
dd if=/dev/urandom of={draft} conv=notrunc bs={page} count=1 status=none
"""
_END = """
for n in $(seq {forks}); do (:); done
dd if=/dev/zero of=/dev/null bs=8M count=1 status=none
"""


class Account:
    """One page of text, `NAME TOKEN balance NNNN` again and again, that the guest rewrites in place."""

    def __init__(self, lab: GuestLab, name: str = "account") -> None:
        self._lab = lab
        self._token = randomness.token_hex(8)
        self.name = name
        self.path = f"/root/sevkit-{name}"

    def record(self, coins: int) -> str:
        """The text of one record."""
        return f"{self.name} {self._token} balance {coins:04d}"

    def script(self, coins: int) -> str:
        """Shell commands that write the account."""
        size = {"count": PAGE // RECORD, "width": RECORD - 1, "page": PAGE}
        return _SET.format(**size, record=self.record(coins), path=self.path, draft=DRAFT)

    def set_balance(self, coins: int) -> None:
        """Let the guest write its account; raises GuestError if it cannot."""
        write(self._lab, {self: coins})

    def balance(self, *, timeout: float = 60.0) -> str:
        """The first record of the account as the guest reads it, as text; raises DeadlineError."""
        return self._lab.guest.run(f"head -c {RECORD} {self.path}", timeout=timeout).stdout.decode("latin-1").strip()

    def page(self) -> bytes:
        """The whole page as the guest reads it."""
        return self._lab.guest.run(f"cat {self.path}").stdout


def write(lab: GuestLab, balances: dict[Account, int], *, timeout: float = 60.0) -> None:
    """Let the guest write several accounts; raises GuestError if it fails, DeadlineError if it does not answer."""
    noise = randomness.token_hex(200 + randomness.randbelow(1500))
    middle = "".join(account.script(coins) for account, coins in balances.items())
    script = _BEGIN.format(noise=noise) + middle + _END.format(forks=1 + randomness.randbelow(4))
    done = lab.guest.run(script, timeout=timeout)
    if done.status != 0:
        raise GuestError("the guest could not write its account", detail=done.stderr.decode(errors="replace"))


class _Search:
    """The pages that may hold one account: those whose fingerprint is a function of its balance."""

    def __init__(self) -> None:
        self.first: dict[int, dict[int, int]] = {}
        self.candidates: set[int] = set()
        self.looks = 0

    def next_balance(self) -> int:
        """Each balance once, then in random order, so that a page that merely alternates between two contents fails."""
        return BALANCES[self.looks] if self.looks < 2 else randomness.choice(BALANCES)

    def take(self, coins: int, now: dict[int, int]) -> None:
        self.looks += 1
        if self.looks <= 2:
            self.first[coins] = now
            self.candidates = {page for page, mark in now.items() if self.first[BALANCES[0]].get(page) != mark}
            return
        before = self.first[coins]
        self.candidates = {page for page in self.candidates if before.get(page) == now.get(page)}
        if not self.candidates:  # the guest has moved the page: start again
            self.looks = 0

    @property
    def found(self) -> bool:
        return len(self.candidates) == 1 and self.looks >= _ENOUGH


def find(lab: GuestLab, note: Notebook, accounts: Sequence[Account]) -> list[int]:
    """The host address of the page of each account.

    Repeats until one candidate per account is left; otherwise raises InconclusiveError with the number of candidates.
    """
    if _remembered(lab, accounts):
        note.host("The host knows the page from an earlier attack on this guest, and sees that it still follows.")
        return [lab.pages[account.name] for account in accounts]
    lab.say("looking for the guest's page in all of DRAM")
    searches = {account: _Search() for account in accounts}
    for look in range(1, _LOOKS + 1):
        balances = {account: search.next_balance() for account, search in searches.items()}
        write(lab, balances)
        now = lab.host.fingerprints()
        for account, search in searches.items():
            search.take(balances[account], now)
        if all(search.found for search in searches.values()):
            what = "one page is left that comes back with it" if len(accounts) == 1 else "one page is left for each"
            note.host(f"After {look} looks at all of DRAM {what}.")
            lab.pages |= {account.name: search.candidates.pop() for account, search in searches.items()}
            return [lab.pages[account.name] for account in accounts]
    raise InconclusiveError(_not_found([len(search.candidates) for search in searches.values()]))


def _remembered(lab: GuestLab, accounts: Sequence[Account]) -> bool:
    """Whether the pages of all accounts were found before, and their ciphertext still follows the balance."""
    if not all(account.name in lab.pages for account in accounts):
        return False
    marks = []
    for coins in (*BALANCES, BALANCES[0]):
        write(lab, dict.fromkeys(accounts, coins))
        with lab.host.held():
            marks.append([lab.host.read(lab.pages[account.name], PAGE) for account in accounts])
    return all(a == c and a != b for a, b, c in zip(*marks, strict=True))


def open_account(lab: GuestLab, note: Notebook, prediction: str) -> tuple[Account, int]:
    """An account of 100 coins, and the host address of its page, which the host found without help of the guest."""
    note.setup(f"A real Linux guest ({lab.guest.spec.mode}, {lab.guest.provenance}) keeps an account: 100 coins.")
    note.predict(prediction)
    account = Account(lab)
    (page,) = find(lab, note, [account])
    account.set_balance(100)
    return account, page


def _not_found(left: Sequence[int]) -> str:
    counts = " and ".join(map(str, left))
    words = "candidate is" if list(left) == [1] else "candidates are"
    return f"the account's page was not found in {_LOOKS} looks at all of DRAM: {counts} {words} left"
