"""The facts without which two boots of a campaign cannot be called alike. One that no boot has counts too."""

from sevkit.bench.model import Boot, SlotId
from sevkit.vocabulary import Provenance

OF_GUESTS = ("accel", "firmware", "memory", "guest kernel", "guest CPU", "guest clock")
OF_HOST = ("host", "host kernel")
WORK_SCALE = "work scale"  # only boots that stand for the host itself have it


def required(boot: Boot) -> tuple[str, ...]:
    """The facts that a boot of one of our campaigns must have.

    Imported boots have what their files say, and get no verdict without known boots; the mock's facts are invented.
    """
    if SlotId.parse(boot.identity) is None or boot.provenance not in {Provenance.HARDWARE, Provenance.EMULATED}:
        return ()
    return OF_HOST if WORK_SCALE in boot.facts else OF_GUESTS


def known(boot: Boot, key: str) -> str | None:
    """A fact of a boot; None where it was not recorded. A required fact that is empty says nothing."""
    value = boot.facts.get(key)
    return None if value == "" and key in required(boot) else value
