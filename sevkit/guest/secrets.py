"""Secrets created inside a guest: the host sends a public nonce, and the guest derives the secret and keeps it.

The host derives the same values independently, so no plaintext passes through the VMM: any secret that is found in a
dump of the VMM comes from the guest's memory.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from sevkit.errors import GuestError
from sevkit.guest.result import CommandResult

# The places in the guest where a secret is kept. Each place has a different secret, so a hit identifies its place.
PLACES = ("file", "anonymous", "environment", "kernel-log")


class Runs(Protocol):
    """Something that runs commands in a guest."""

    def run(
        self, command: str | Sequence[str], *, stdin: bytes = b"", timeout: float = 60.0, private: bool = False
    ) -> CommandResult:
        """Run a command in the guest."""
        ...


def secret(nonce: bytes, place: str) -> bytes:
    """The secret that a guest given ``nonce`` keeps in ``place``: ASCII, different for every nonce and place."""
    digest = hashlib.sha256(f"sevkit-leak:{nonce.hex()}:{place}".encode()).hexdigest()
    return f"SEVKIT-{place}-{digest}".encode()


# Markers pass through the guest's shared buffers before and after the secrets are planted. If one of them is not found,
# a part of guest memory was lost.
MARKERS = ("before", "after")


def shared_marker(nonce: bytes, when: str) -> bytes:
    """The positive control: a text put into guest memory that is shared with the host by design."""
    digest = hashlib.sha256(f"sevkit-shared:{nonce.hex()}:{when}".encode()).hexdigest()
    return f"SEVKIT-shared-{when}-{digest}".encode()


@dataclass(frozen=True)
class GuestWord:
    """What a guest reports about its memory: the number of pages it uses, and the addresses of pages with secrets.

    0 and none if it cannot tell: without /proc, or without the permission to see page frames (CAP_SYS_ADMIN).
    """

    used_pages: int = 0
    secret_pages: tuple[int, ...] = ()


# Derives a secret like `secret`. It is written to the kernel log at debug level, which the console does not print: the
# console is a device of the VMM.
_DERIVE = """
nonce={nonce}
derive() {{
    printf 'SEVKIT-%s-' "$1"
    printf 'sevkit-leak:%s:%s' "$nonce" "$1" | sha256sum | cut -c1-64 | tr -d '\\n'
}}
"""

_PLANT = """
umask 077
mkdir -p /run/sevkit
derive file >/root/sevkit-secret
cat /root/sevkit-secret >/dev/null
(
    kept=$(derive anonymous)
    answer() { printf %s "$kept" | sha256sum >/run/sevkit/new; mv /run/sevkit/new /run/sevkit/anonymous; }
    trap answer USR1
    : >/run/sevkit/ready
    while :; do sleep 3600 & wait $!; done
) </dev/null >/dev/null 2>&1 &
echo $! >/run/sevkit/anonymous.pid
SEVKIT_SECRET=$(derive environment) sleep 1000000 </dev/null >/dev/null 2>&1 &
echo $! >/run/sevkit/environment.pid
printf '<7>%s\\n' "$(derive kernel-log)" >/dev/kmsg
while [ ! -e /run/sevkit/ready ]; do sleep 0.01; done
"""

_HOLDS = """
[ "$(cat /root/sevkit-secret)" = "$(derive file)" ] && echo file
rm -f /run/sevkit/anonymous
kill -USR1 "$(cat /run/sevkit/anonymous.pid)"
for i in $(seq 50); do [ -e /run/sevkit/anonymous ] && break; sleep 0.010; done
[ "$(cat /run/sevkit/anonymous)" = "$(derive anonymous | sha256sum)" ] && echo anonymous
environ=/proc/$(cat /run/sevkit/environment.pid)/environ
tr '\\0' '\\n' <"$environ" | grep -qF "$(derive environment)" && echo environment
dmesg | grep -qF "$(derive kernel-log)" && echo kernel-log
true
"""


def plant(guest: Runs, nonce: bytes) -> None:
    """Let the guest derive its secrets and keep one in every place; raises GuestError if it fails."""
    done = guest.run(_DERIVE.format(nonce=nonce.hex()) + _PLANT, timeout=60)
    if done.status != 0:
        raise GuestError("the guest could not plant its secrets", detail=done.stderr.decode(errors="replace"))


# The pages of the process whose environment holds a secret: those of its environment (fields 50 and 51 of proc(5) stat)
# from its page map: 8 bytes per page, little-endian, bit 63 present, bits 0 to 54 the page frame.
_PAGES = """
awk '/^MemTotal:/ {{ total = $2 }} /^MemFree:/ {{ print "used", int((total - $2) / 4) }}' /proc/meminfo
pid=$(cat /run/sevkit/environment.pid)
first=$(($(cut -d' ' -f50 /proc/$pid/stat) / 4096))
last=$(($(cut -d' ' -f51 /proc/$pid/stat) / 4096))
while [ "$first" -le "$last" ]; do
    echo page $(dd if=/proc/$pid/pagemap bs=8 skip=$first count=1 2>/dev/null | od -An -tx1)
    first=$((first + 1))
done
"""


_MOST_PAGES = 64  # an environment has one or two pages; a hostile guest may report any number


def guest_word(guest: Runs) -> GuestWord:
    """Ask the guest which of its pages hold a secret, and how many it uses."""
    done = guest.run(_PAGES.format(), timeout=60)
    lines = [line.split() for line in done.text.splitlines()]
    used = [words[1] for words in lines if words[:1] == ["used"] and len(words) == 2]
    pages = [_page_frame(words[1:]) for words in lines if words[:1] == ["page"]][:_MOST_PAGES]
    count = int(used[0]) if used and used[0].isascii() and used[0].isdecimal() and len(used[0]) < 16 else 0
    return GuestWord(count, tuple(page * 4096 for page in pages if page))


def _page_frame(words: Sequence[str]) -> int:
    """The page frame in an entry of a page map, given its bytes as printed by od(1); 0 if there is none."""
    try:
        entry = int.from_bytes(bytes.fromhex("".join(words)), "little")
    except ValueError:
        return 0
    return entry & ((1 << 55) - 1) if entry >> 63 else 0


def mark_shared(guest: Runs, nonce: bytes, when: str) -> None:
    """Pass a positive control through the guest's shared buffers, as the plain input of a command."""
    guest.run("cat >/dev/null", stdin=shared_marker(nonce, when) + b"\n", timeout=30)


def holds(guest: Runs, nonce: bytes) -> dict[str, bool]:
    """For every place, whether the guest still has its secret there. The guest compares, and returns yes or no."""
    done = guest.run(_DERIVE.format(nonce=nonce.hex()) + _HOLDS, timeout=60)
    found = done.text.split()
    return {place: place in found for place in PLACES}
