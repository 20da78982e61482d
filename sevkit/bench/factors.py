"""Factors of a mode's cost that a campaign switches one at a time, all else as in the reference guest.

Encrypted guests cannot do without bounce buffers, so that the plain guest is given them instead: what it loses is
what the buffers cost, and what is left of the mode's cost is not theirs.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from sevkit.errors import UsageError
from sevkit.guest.spec import AIO, CACHE_MODES, GuestSpec

CONDITION = "factor"  # the key in the conditions of a sample
_SLABS_PER_MIB = 512  # a slab is 2 KiB (Linux: kernel-parameters.txt, "swiotlb=")


@dataclass(frozen=True)
class Factor:
    """One thing that is switched.

    ``cmdline`` is added to the guest's kernel command line. ``values`` are those that NAME=VALUE may have, None for a
    factor without a value; ``plain_only``: only the baseline can be switched; ``disk``: only workloads with a disk
    feel it; ``changes`` are the facts of a boot that differ because of it, and so are no confounds.
    """

    name: str
    title: str
    cmdline: str = ""
    values: tuple[str, ...] | None = None
    numbers: range = range(0)
    plain_only: bool = False
    disk: bool = False
    changes: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """How the factor is given on the command line."""
        if self.numbers:
            return f"{self.name}=N"
        return self.name if self.values is None else f"{self.name}={'|'.join(self.values)}"


_ALL = (
    Factor("bounce", "DMA of the plain guest through bounce buffers", "swiotlb=force", plain_only=True),
    Factor("bounce-mib", "the size of the bounce buffers", "swiotlb={slabs}", numbers=range(16, 4097)),
    Factor("no-huge-pages", "no transparent huge pages in the guest", "transparent_hugepage=never",
           changes=("guest huge pages",)),
    Factor("iothread", "a thread of its own for the disk's requests", disk=True),
    Factor("cache", "the cache mode of the disk", values=CACHE_MODES, disk=True, changes=("cache",)),
    Factor("aio", "how QEMU reads and writes the disk", values=AIO, disk=True),
    Factor("queues", "the number of the disk's queues", numbers=range(1, 65), disk=True),
)  # fmt: skip
BY_NAME: Mapping[str, Factor] = {factor.name: factor for factor in _ALL}
# Why something that people look for is not there.
_NOT_HERE = {
    "vhost": "vhost needs a tap device of the host's; guests here have user networking",
    "swiotlb": "the factor is called bounce, and bounce-mib=N for the size",
    "hugepages": "no-huge-pages switches the guest's; those of the host are a setting of the whole host",
    "mode": "modes are given by --mode: each step from one to the next is part of the attribution",
}


@dataclass(frozen=True)
class Switch:
    """A factor in one position: ``iothread``, or ``cache=writeback``."""

    factor: Factor
    value: str = ""

    def __str__(self) -> str:
        return f"{self.factor.name}={self.value}" if self.value else self.factor.name

    @property
    def cmdline(self) -> str:
        """The words for the guest's kernel."""
        slabs = int(self.value) * _SLABS_PER_MIB if self.factor.name == "bounce-mib" else 0
        return self.factor.cmdline.format(slabs=slabs)

    @property
    def title(self) -> str:
        """In words."""
        return f"{self.factor.title}: {self.value}" if self.value else self.factor.title


def parse(text: str) -> Switch:
    """Read ``bounce`` or ``cache=writeback``; raises UsageError."""
    name, equals, value = text.partition("=")
    factor = BY_NAME.get(name)
    if factor is None:
        known = ", ".join(factor.words for factor in _ALL)
        raise UsageError(f"there is no factor {name!r}", hint=_NOT_HERE.get(name, f"factors: {known}"))
    allowed = tuple(map(str, factor.numbers)) if factor.numbers else factor.values
    if (allowed is None) is bool(equals) or (allowed is not None and value not in allowed):
        if factor.numbers:
            hint = f"give {name}=N, N from {factor.numbers[0]} to {factor.numbers[-1]}"
        else:
            hint = f"give {factor.words}"
        raise UsageError(f"the factor {text!r} makes no sense", hint=hint)
    return Switch(factor, value)


_STORAGE: Mapping[str, Callable[[str], dict[str, object]]] = {
    "iothread": lambda _: {"iothread": True},
    "aio": lambda value: {"aio": value},
    "queues": lambda value: {"queues": int(value)},
}


def applied(spec: GuestSpec, switch: Switch) -> GuestSpec:
    """The guest with a factor switched."""
    changes = _STORAGE.get(switch.factor.name)
    storage = spec.storage if changes is None else replace(spec.storage, **changes(switch.value))  # type: ignore[arg-type]
    return replace(spec, storage=storage, cmdline=f"{spec.cmdline} {switch.cmdline}".strip())


def unseen(switch: Switch, seen: Mapping[str, str]) -> str | None:
    """Why the guest's answers to the probe do not show that the factor was switched; None if they do."""
    for word in switch.cmdline.split():
        if word not in seen.get("guest command line", "").split():
            return f"the guest's kernel was not given {word}"
    used = seen.get("guest bounce slabs", "")
    if switch.factor.name == "bounce" and used.isdecimal() and not int(used):
        return "no data went through the guest's bounce buffers"
    return None
