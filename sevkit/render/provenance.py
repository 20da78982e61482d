"""The meaning of each provenance: one text for every table, story and page."""

from collections.abc import Iterable

WORDS = {
    "hardware": "measured on this machine's own processor",
    "emulated": "a real guest whose instructions (and encryption, if any) QEMU emulates:"
    " it shows that the method works, and proves nothing about a particular machine's hardware",
    "mock": "a software model, not a virtual machine: it shows the logic, and proves nothing about hardware",
    "published": "taken from a publication",
}


def lines(provenances: Iterable[str]) -> list[str]:
    """One line per provenance, and a warning when results of different provenances are shown together."""
    kinds = list(dict.fromkeys(provenances))
    shown = [f"{kind}: {WORDS[kind]}" for kind in kinds]
    return [*shown, "Results of different provenance stand here: read them one by one."] if len(kinds) > 1 else shown
