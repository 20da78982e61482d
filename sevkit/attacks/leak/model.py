"""Memory dump: the host reads the memory of the VMM, as gcore does, and searches it for a secret of the guest.

This is the experiment in the software model; leak/guest.py performs it on real guests.
"""

from sevkit.attacks.labs import model_lab
from sevkit.attacks.notebook import Notebook, Observation, Outcome
from sevkit.model.launch import Launched
from sevkit.vocabulary import Mode


def model(note: Notebook) -> Observation:
    """Read all of a guest's memory as the host and search it for the guest's secret."""
    note.setup("A guest starts with 12 pages of memory; page 0x4000 is shared with the host by design.")
    platform = model_lab.machine(note)
    guest = model_lab.guest(note, platform)
    guest.vm.write(model_lab.DATA, model_lab.SECRET)
    marker = b"shared by design"
    guest.vm.write(model_lab.SHARED, marker, private=False)
    note.guest("It writes a secret into private memory and a marker into the shared page.", model_lab.SECRET)

    note.predict(
        "Without encryption the dump contains the secret; with it, ciphertext or nothing. The marker is always found."
    )

    note.host("The host reads every page that the VMM maps.")
    view = {gpa: _vmm_sees(note, guest, gpa) for gpa in range(0, 12 * 4096, 4096)}
    dump = b"".join(view.values())
    note.host("At the place of the secret it finds:", view[model_lab.DATA][:16])

    kept = guest.vm.read(model_lab.DATA, 16)
    note.guest("The guest still reads its secret.", kept)
    if marker not in dump or kept != model_lab.SECRET:
        note.verdict("A control failed: nothing can be said.")
        return Observation(Outcome.INCONCLUSIVE, "controls")
    if model_lab.SECRET in dump:
        return note.works("no-encryption", "The secret stands in the dump.", evidence="plaintext")
    if note.mode is Mode.SEV_SNP:
        return note.stopped("guest-memfd", "Private pages are not in the VMM's mapping at all.", evidence="hole")
    return note.stopped("memory-encryption", "The dump has ciphertext in place of the secret.", evidence="ciphertext")


def _vmm_sees(note: Notebook, guest: Launched, gpa: int) -> bytes:
    """A page as the VMM process maps it: under SEV-SNP private pages are in guest_memfd, which it does not map."""
    if note.mode is Mode.SEV_SNP and gpa not in guest.shared:
        return bytes(4096)
    return guest.platform.host_read(guest.spa(gpa), 4096)
