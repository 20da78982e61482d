"""Memory dump: the host reads the memory of the VMM, as gcore does, and looks for a secret of the guest's.

The experiment in the software model; attacks/leak.py performs it on real guests.
"""

from sevkit.attacks import lab
from sevkit.attacks.base import Aim, Attack, Expectation, Notebook, Observation, Outcome, Source
from sevkit.model.launch import Launched
from sevkit.words import Mode


def experiment(note: Notebook) -> Observation:
    """Read all of a guest's memory as the host and search it for the guest's secret."""
    note.setup("A guest starts with 12 pages of memory; page 0x4000 is shared with the host by design.")
    platform = lab.machine(note)
    guest = lab.guest(note, platform)
    guest.vm.write(lab.DATA, lab.SECRET)
    marker = b"shared by design"
    guest.vm.write(lab.SHARED, marker, private=False)
    note.guest("It writes a secret into private memory and a marker into the shared page.", lab.SECRET)

    note.predict(
        "Without encryption the dump contains the secret; with it, ciphertext or nothing. The marker is always found."
    )

    note.host("The host reads every page that the VMM maps.")
    view = {gpa: _vmm_sees(note, guest, gpa) for gpa in range(0, 12 * 4096, 4096)}
    dump = b"".join(view.values())
    note.host("At the place of the secret it finds:", view[lab.DATA][:16])

    kept = guest.vm.read(lab.DATA, 16)
    note.guest("The guest still reads its secret.", kept)
    if marker not in dump or kept != lab.SECRET:
        note.verdict("A control failed: nothing can be said.")
        return Observation(Outcome.INCONCLUSIVE, "controls")
    if lab.SECRET in dump:
        return note.works("no-encryption", "The secret stands in the dump.", evidence="plaintext")
    if note.mode is Mode.SEV_SNP:
        return note.stopped("guest-memfd", "Private pages are not in the VMM's mapping at all.", evidence="hole")
    return note.stopped("memory-encryption", "The dump has ciphertext in place of the secret.", evidence="ciphertext")


def _vmm_sees(note: Notebook, guest: Launched, gpa: int) -> bytes:
    """A page as the VMM process maps it: under SEV-SNP private pages lie in guest_memfd, outside of its mapping."""
    if note.mode is Mode.SEV_SNP and gpa not in guest.shared:
        return bytes(4096)
    return guest.platform.host_read(guest.spa(gpa), 4096)


ATTACK = Attack(
    name="leak",
    title="Memory dump",
    aim=Aim.CONFIDENTIALITY,
    summary="The host dumps the VMM's memory and searches it for a secret that the guest holds.",
    preconditions=("root on the host, or the VMM's user",),
    generations="every part without memory encryption",
    sources=(Source("The published experiment: gcore of the VMM, then grep"), Source(lab.WHITEPAPER)),
    expected={
        Mode.NOSEV: Expectation(Outcome.WORKS, "memory is plaintext"),
        Mode.SEV: Expectation(Outcome.STOPPED, "ciphertext"),
        Mode.SEV_ES: Expectation(Outcome.STOPPED, "ciphertext"),
        Mode.SEV_SNP: Expectation(Outcome.STOPPED, "private pages are not mapped by the VMM (guest_memfd)"),
    },
    mitigations=(),
    mitigated=None,
    claim="vm-memory",
    experiment=experiment,
)
