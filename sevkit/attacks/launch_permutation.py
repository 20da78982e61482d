"""Permutation of launch pages: the legacy launch digest covers the bytes in their order, but not their addresses."""

from pathlib import Path

from sevkit.attacks.experiment import Aim, Attack, Expectation, Notebook, Observation, Outcome, Source
from sevkit.attacks.labs import model_lab
from sevkit.attacks.labs.guest_lab import GuestLab
from sevkit.errors import InconclusiveError
from sevkit.guest.spec import Firmware
from sevkit.memory.sources.base import PAGE
from sevkit.model.measure import PageType
from sevkit.model.platform import Platform
from sevkit.vocabulary import Level, Mode

_FIRST = b"check password; "
_SECOND = b"open the door;  "


def model(note: Notebook) -> Observation:
    """Launch the same bytes twice, at swapped addresses, and compare the measurements."""
    note.setup("Two blocks of firmware: one checks a password, the next opens the door.")
    note.predict("If the digest names no addresses, swapping the two leaves it as it is: the owner cannot tell.")
    measure = _measure_snp if note.mode is Mode.SEV_SNP else _measure_sev
    honest = measure(model_lab.machine(note), {0: _FIRST, 4096: _SECOND})
    note.host("The host launches them in order; the digest:", honest[:16])
    swapped = measure(model_lab.machine(note), {4096: _FIRST, 0: _SECOND})
    note.host("The host hands over the same bytes in the same order, for swapped addresses; the digest:", swapped[:16])
    if honest == swapped:
        return note.works("digest-without-address", "Both launches measure alike: the guest opens the door first.")
    return note.stopped("page-info-gpa", "The digest chains each page's guest address: the swap shows.")


def _measure_sev(platform: Platform, blocks: dict[int, bytes]) -> bytes:
    firmware = platform.sev
    firmware.init()
    handle = firmware.launch_start(0)
    firmware.activate(handle, platform.config.min_sev_asid)
    base = platform.allocate(2)
    for offset, data in blocks.items():
        platform.host_write(base + offset, data)
        firmware.launch_update_data(handle, base + offset, 16)
    measured = firmware.guests[handle].measured
    assert measured is not None
    return measured.digest()


def _measure_snp(platform: Platform, blocks: dict[int, bytes]) -> bytes:
    firmware, rmp = platform.snp, platform.rmp
    assert rmp is not None
    firmware.init()
    context = platform.allocate()
    rmp.rmpupdate(context, assigned=True, immutable=True)
    handle = firmware.gctx_create(context)
    firmware.launch_start(handle)
    firmware.activate(handle, 1)
    for gpa, data in blocks.items():
        page = platform.allocate()
        platform.host_write(page, data)
        rmp.rmpupdate(page, assigned=True, asid=1, gpa=gpa, immutable=True)
        firmware.launch_update(handle, page, PageType.NORMAL)
    return firmware.contexts[handle].digest.value


def guest(lab: GuestLab, note: Notebook) -> Observation:
    """Launch a second real guest with two pages of its firmware exchanged, and compare the measurements."""
    note.setup(f"A real Linux guest ({lab.guest.spec.mode}) runs; its owner knows the measurement of its launch.")
    note.predict("If the digest names no addresses, exchanging two pages leaves it as it is: the owner cannot tell.")
    if "-bios" in lab.guest.command_line:
        return _compared(lab, note)
    note.setup("Its firmware is flash, of which the variable store is not measured. So it is launched with one image.")
    with lab.another(firmware=Firmware.OVMF_SNP) as whole:
        return _compared(whole, note)


def _compared(lab: GuestLab, note: Notebook) -> Observation:
    honest = lab.host.launch_digest()
    note.host("The host launches the guest as it should; the digest:", honest)
    first, content = _page_to_move(lab)
    with lab.another(sev_options=f"x-launch-swap={first:#x}/{first + PAGE:#x}") as moved:
        swapped = moved.host.launch_digest()
        note.host(f"A second launch, the pages at {first:#x} and behind it exchanged; the digest:", swapped)
        seen = _word(moved, first + PAGE)
        note.guest(f"The guest is up; it reads {first + PAGE:#x}.", "not readable" if seen is None else f"{seen:#x}")
        if honest != swapped:
            return note.stopped("page-info-gpa", "The digest chains each page's guest address: the swap shows.")
        if seen != int.from_bytes(content[:4], "little"):
            raise InconclusiveError("the digests are equal, but the guest does not see the exchanged pages")
    return note.works(
        "digest-without-address", "Both launches measure alike; the guest has its pages where the host put them."
    )


def _page_to_move(lab: GuestLab) -> tuple[int, bytes]:
    """Address and content of a page of the firmware before an erased one: there the variable store keeps its state.

    The firmware makes this state anew when it is missing, so that the guest still boots.
    """
    words = list(lab.guest.command_line)
    image = Path(words[words.index("-bios") + 1]).read_bytes()
    erased = b"\xff" * PAGE
    for at in range(PAGE, len(image) - PAGE, PAGE):
        if image[at : at + PAGE] != erased and image[at + PAGE : at + 2 * PAGE] == erased:
            return (1 << 32) - len(image) + at, image[at : at + PAGE]
    raise InconclusiveError("the firmware image has no page before an erased one")


def _word(lab: GuestLab, address: int) -> int | None:
    """Four bytes of the guest's physical memory, as the guest reads them; None if it cannot."""
    done = lab.guest.run(f"devmem {address:#x} 32")
    return int(done.text.strip(), 16) if done.status == 0 else None


_WORKS = Expectation(Outcome.WORKS, "the digest is over bytes only")
ATTACK = Attack(
    name="launch-permutation",
    title="Permutation of launch pages",
    aim=Aim.INTEGRITY,
    summary="The host loads measured blocks at other addresses; the legacy measurement does not change.",
    preconditions=("the host drives the launch",),
    generations="SEV and SEV-ES on every part",
    sources=(
        Source(
            "Wilke et al., undeSErVed trust: Exploiting Permutation-Agnostic Remote Attestation, WOOT 2021",
            "https://arxiv.org/abs/2106.15387",
        ),
    ),
    expected={
        Mode.NOSEV: Expectation(Outcome.NOT_APPLICABLE, "nothing is measured"),
        Mode.SEV: _WORKS,
        Mode.SEV_ES: _WORKS,
        Mode.SEV_SNP: Expectation(Outcome.STOPPED, "page-info-gpa: each page's address is measured"),
    },
    mitigations=(),
    mitigated=None,
    claim=None,
    model=model,
    guest=guest,
    guest_levels=frozenset({Level.EMULATOR}),
)
