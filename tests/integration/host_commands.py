"""Random commands of a hostile host: addresses out of range, misaligned, huge; the law is that the VMM answers each."""

import asyncio
import base64
import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sevkit.qemu import qmp

Command = tuple[str, dict[str, Any]]

_PLACES = (0, 0xA0000, 0x80000000, 0xFEE00000, 0xFEC00000, 0xFFE00000, 0xFFFFF000, 1 << 32, 1 << 51, 1 << 52, 1 << 63)
_NUMBERS = (0, 1, 2, -1, 1 << 31, 1 << 32, (1 << 32) + 1, -(1 << 63))
_LINES = (
    *("info registers -a", "info tlb", "info mem", "info sev", "info lapic", "print $rip", "log cpu", "log none"),
    *("x /8xg {0}", "xp /8xg {0}", "gva2gpa {0}", "gpa2hva {0}", "gpa2hpa {0}", "sum {0} 4096"),
)


class Draw:
    """Commands, always the same ones for a seed. ``ram`` is the guest's memory in bytes."""

    def __init__(self, seed: int, ram: int) -> None:
        self.random = random.Random(seed)  # noqa: S311 - test data
        self.ram = ram

    def gpa(self) -> int:
        """Often in RAM, aligned or not; else at a border, or anywhere in 64 bits."""
        draw = self.random
        place = draw.choice((draw.randrange(self.ram), self.ram, *_PLACES, draw.getrandbits(64), (1 << 64) - 1))
        inside = draw.randrange(self.ram) & -(1 << draw.choice((0, 12, 21)))
        return inside if draw.random() < 0.5 else min(place + draw.choice((0, 0, 1, 0xFFF)), (1 << 64) - 1)

    def command(self) -> Command:
        """One command with its arguments."""
        kinds: tuple[Callable[[], Command], ...] = (self.pair, self.page, self.update, self.data, self.vcpu, self.rest)
        return self.random.choice(kinds)()

    def pair(self) -> Command:
        name = self.random.choice(("remap", "alias", "swap"))
        return f"x-sev-host-{name}", {"gpa": self.gpa(), "to-gpa": self.gpa()}

    def page(self) -> Command:
        name = self.random.choice(("replace", "unassign", "psmash", "rmp"))
        return f"x-sev-host-{name}", {"gpa": self.gpa()}

    def update(self) -> Command:
        draw = self.random
        given = {
            "assigned": draw.random() < 0.5,
            "asid": draw.choice((0, 1, 2, 1023, 1024, 1025, 65535)),
            "entry-gpa": self.gpa(),
            "immutable": draw.random() < 0.5,
            "large": draw.random() < 0.5,
        }
        kept = {name: value for name, value in given.items() if draw.random() < 0.5}
        return "x-sev-host-rmpupdate", {"gpa": self.gpa(), **kept}

    def data(self) -> Command:
        draw = self.random
        if draw.random() < 0.5:
            return "x-sev-host-read", {"gpa": self.gpa(), "size": draw.choice((0, 1, 16, 4096, 4097, 1 << 31))}
        text = base64.b64encode(bytes(draw.choice((0, 1, 16, 4096, 5000)))).decode()
        return "x-sev-host-write", {"gpa": self.gpa(), "data": draw.choice((text, "!!", "A"))}

    def abuse(self) -> Command:
        """What the host asks of the firmware and of the processor, and what it answers in the processor's place."""
        draw = self.random
        leaf = draw.choice((0, 7, 0xD, 0x8000001F, 0xFFFFFFFF))
        values = {name: draw.getrandbits(32) for name in ("index", "eax", "ebx", "ecx", "edx") if draw.random() < 0.5}
        size = draw.choice((0, 1, 16, 4096, 4097, 1 << 31))
        commands: tuple[Command, ...] = (
            ("x-sev-host-debug-decrypt", {"gpa": self.gpa(), "size": size}),
            ("x-sev-host-asid-walk", {"gpa": self.gpa() & -draw.choice((1, 8)), "asid": draw.choice((0, 0, 1, 65535))}),
            ("x-sev-host-cpuid", {"function": leaf, **values}),
            ("x-sev-host-cpuid-restore", {}),
        )
        return draw.choice(commands)

    def vcpu(self) -> Command:
        draw = self.random
        if draw.random() < 0.5:
            return "x-sev-host-vmsa", {"vcpu": draw.choice(_NUMBERS)}
        return "x-sev-host-inject", {"vector": draw.randrange(256), "vcpu": draw.choice(_NUMBERS)}

    def rest(self) -> Command:
        draw = self.random
        line = draw.choice(_LINES).format(self.gpa())
        of_cache = {"path": "/objects/sev0", "property": "cache-op", "value": draw.choice(("wbinvd", "wbnoinvd", "x"))}
        fixed = {"path": "/objects/sev0", "property": draw.choice(("policy", "cbitpos", "cache-pages")), "value": 1}
        commands: tuple[Command, ...] = (
            ("x-sev-host-restore", {}),
            ("x-sev-host-statistics", {}),
            ("x-sev-host-page-trace", {"enable": draw.random() < 0.5}),
            ("qom-set", draw.choice((of_cache, fixed))),
            ("human-monitor-command", {"command-line": line}),
        )
        return draw.choice(commands)


def _some(draw: Draw, count: int) -> Iterator[Command]:
    """So many commands, and after every fourth one more that leaves the guest's memory as it is."""
    other = Draw(count, draw.ram)
    for number in range(count):
        yield draw.command()
        if number % 4 == 0:
            yield other.abuse()


def throw(socket: Path, draw: Draw, count: int) -> Counter[str]:
    """Send them one by one; how many of each were accepted, or refused (a minus sign). A guest that stops goes on."""
    from qemu.qmp import ExecuteError

    seen: Counter[str] = Counter()

    async def all_of_them() -> None:
        async with qmp.connected(socket) as client:
            for number, (name, arguments) in enumerate(_some(draw, count)):
                try:
                    await asyncio.wait_for(client.execute(name, arguments), 120)
                    seen[name] += 1
                except ExecuteError:
                    seen[f"-{name}"] += 1
                if number % 50 == 0 and (await client.execute("query-status"))["status"] != "running":
                    try:
                        await client.execute("cont")
                    except ExecuteError:
                        seen["-cont"] += 1

    asyncio.run(all_of_them())
    return seen
