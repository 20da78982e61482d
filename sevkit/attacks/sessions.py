"""The guests that an attack is performed on: started in parallel, and always stopped at the end.

A guest that ran before is left running, without what the attack has put into it.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from sevkit.attacks import running
from sevkit.attacks.plan import Planned
from sevkit.hypervisor.protocols import Guest
from sevkit.vocabulary import Mode


@dataclass
class Session:
    """A running guest for a planned mode, its boot time in seconds, and the pages found in it so far.

    ``boot_seconds`` becomes 0 when the first attack has been performed: only its time includes the boot.
    """

    planned: Planned
    guest: Guest
    boot_seconds: float
    pages: dict[str, int] = field(default_factory=dict)

    def end(self) -> None:
        """Stop the guest if it was launched for the attack. Calling it twice is harmless."""
        if self.planned.guest is None:
            self.guest.stop()
        else:
            running.leave(self.guest)


@contextmanager
def opened(
    planned: Sequence[Planned], timeout: float, progress: Callable[[str], None]
) -> Iterator[dict[Mode, Session]]:
    """A running guest for each mode that needs one. The guests of one hypervisor boot in parallel."""
    groups: dict[str, list[Planned]] = {}
    for each in planned:
        if each.spec is not None and each.guest is None:
            groups.setdefault(each.hypervisor.name, []).append(each)
    sessions = {each.mode: Session(each, each.guest, 0.0) for each in planned if each.guest is not None}
    try:
        for name, group in groups.items():
            progress(f"{', '.join(each.mode for each in group)}: starting on {name}")
            began = time.monotonic()
            specs = [each.spec for each in group if each.spec is not None]
            guests = group[0].hypervisor.launch_many(specs, timeout=timeout)
            seconds = time.monotonic() - began
            sessions |= {each.mode: Session(each, guest, seconds) for each, guest in zip(group, guests, strict=True)}
        yield sessions
    finally:
        for session in sessions.values():
            session.end()
