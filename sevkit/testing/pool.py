"""The guests of a test session: one per wish, launched at its first use."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from sevkit.errors import SevkitError, UsageError

if TYPE_CHECKING:
    from sevkit.guest.spec import GuestSpec
    from sevkit.hypervisor.protocols import Guest
    from sevkit.vocabulary import Mode


@dataclass(frozen=True)
class Wish:
    """The guest that a test requests. Equal wishes share a guest, unless they are ``fresh``."""

    hypervisor: str
    spec: "GuestSpec"
    fresh: bool = False

    @classmethod
    def of(cls, words: Sequence[Any], asked: dict[str, Any], *, default_hypervisor: str) -> "Wish":
        """Make a wish from the marker's arguments, ``words`` and named; raises UsageError for what cannot be."""
        from sevkit.guest.spec import GuestSpec

        rest = dict(asked)
        if len(words) > 1 or (words and "mode" in rest):
            raise UsageError("the marker sev_guest takes one mode", hint="name the other fields: vcpus=2")
        mode = _mode(rest.pop("mode", words[0] if words else "nosev"))
        fresh = rest.pop("fresh", False)
        if not isinstance(fresh, bool):
            raise UsageError(f"fresh={fresh!r} is neither True nor False")
        hypervisor = rest.pop("hypervisor", None) or default_hypervisor
        known = {each.name for each in fields(GuestSpec)} - {"name"}
        wrong = sorted(set(rest) - known)
        if wrong:
            raise UsageError(f"a guest has no {', '.join(wrong)}", hint=f"known: {', '.join(sorted(known))}")
        try:
            return cls(str(hypervisor), GuestSpec(mode=mode, **rest), fresh)
        except TypeError as error:  # a text where a number must be
            raise UsageError(f"no guest can have {rest}: {error}") from error


def _mode(value: object) -> "Mode":
    from sevkit.vocabulary import Mode

    try:
        return Mode(str(value))
    except ValueError as error:
        raise UsageError(f"there is no mode {value!r}", hint=f"modes: {', '.join(Mode)}") from error


@dataclass
class Pool:
    """Running guests by wish. ``timeout`` is the number of seconds for a guest to start."""

    timeout: float
    _shared: "dict[Wish, Guest]" = field(default_factory=dict)
    _all: "list[Guest]" = field(default_factory=list)
    _failed: dict[Wish, SevkitError] = field(default_factory=dict)

    def get(self, wish: Wish) -> "Guest":
        """A running guest for a wish. A wish that failed once fails again at once, with the same error."""
        if wish in self._failed:
            raise self._failed[wish]
        found = None if wish.fresh else self._shared.get(wish)
        if found is None or not found.alive():
            found = self._launch(wish)
            if not wish.fresh:
                self._shared[wish] = found
        return found

    def end(self, guest: "Guest") -> None:
        """End one guest."""
        guest.stop()
        self._all.remove(guest)

    def close(self) -> None:
        """End all guests."""
        while self._all:
            self._all.pop().stop()

    def _launch(self, wish: Wish) -> "Guest":
        from dataclasses import replace

        from sevkit.hypervisor import select

        spec = replace(wish.spec, name=f"pytest-{os.getpid()}-{len(self._all)}-{os.urandom(2).hex()}")
        try:
            choice = select.choose(wish.hypervisor, spec.mode, real=True)
            guest = choice.hypervisor.launch(spec, timeout=self.timeout)
        except SevkitError as error:
            self._failed[wish] = error
            raise
        self._all.append(guest)
        return guest
