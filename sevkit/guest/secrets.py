"""Secrets that are born in a guest: the host sends a public nonce, the guest derives the secret and keeps it.

The host derives the same values by itself, so no plaintext ever crosses the VMM: what a dump of the VMM shows of them
is the guest's memory.
"""

import hashlib
from collections.abc import Sequence
from typing import Protocol

from sevkit.errors import GuestError
from sevkit.guest.result import CommandResult

# Where in the guest a secret is kept. Each place has a secret of its own, so that a hit names its place.
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


def shared_marker(nonce: bytes) -> bytes:
    """What is put into guest memory that is shared with the host by design: the positive control."""
    return b"SEVKIT-shared-" + hashlib.sha256(b"sevkit-shared:" + nonce.hex().encode()).hexdigest().encode()


# Derives a secret as `secret` does. The kernel log gets it at debug level, which the console does not print: a console
# is a device of the VMM's.
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
    """Have the guest derive its secrets and keep one in every place; raises GuestError when it cannot."""
    done = guest.run(_DERIVE.format(nonce=nonce.hex()) + _PLANT, timeout=60)
    if done.status != 0:
        raise GuestError("the guest could not plant its secrets", detail=done.stderr.decode(errors="replace"))


def mark_shared(guest: Runs, nonce: bytes) -> None:
    """Pass the positive control through the guest's shared buffers: it goes in as plain input of a command."""
    guest.run("cat >/dev/null", stdin=shared_marker(nonce) + b"\n", timeout=30)


def holds(guest: Runs, nonce: bytes) -> dict[str, bool]:
    """For every place, whether the guest still holds its secret there; compared inside, only the answer leaves."""
    done = guest.run(_DERIVE.format(nonce=nonce.hex()) + _HOLDS, timeout=60)
    found = done.text.split()
    return {place: place in found for place in PLACES}
