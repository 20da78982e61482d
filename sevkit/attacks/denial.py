"""Denial of service: the host does not run the guest. No mode promises that it will."""

from sevkit.attacks.experiment import Aim, Attack, Expectation, Notebook, Observation, Outcome, Source
from sevkit.attacks.labs import model_lab
from sevkit.attacks.labs.guest_lab import GuestLab
from sevkit.errors import DeadlineError
from sevkit.model.vcpu import Vcpu
from sevkit.vocabulary import Mode


def model(note: Notebook) -> Observation:
    """Unmap a page of the guest and see whether the guest can continue."""
    note.setup("A guest that counts in memory.")
    platform = model_lab.machine(note)
    guest = model_lab.guest(note, platform, program="movi rbx, 0x2000\nturn:\nstore [rbx], rax\naddi rax, 1\njmp turn")
    cpu = Vcpu(guest)
    cpu.run(limit=10)
    note.predict("Who owns the schedule and the nested tables can stop the guest at any time.")
    guest.vm.npt.unmap(model_lab.DATA)
    guest.vm.flush_tlb()
    note.host("The host unmaps a page and does not bring it back.")
    ending = cpu.run()
    note.guest("The guest cannot go on.", f"{ending.reason} by {ending.check}")
    if ending.reason == "#NPF":
        return note.works("host-schedules", "The guest stands still. Its secrets are safe, its service is not.")
    return note.stopped("unknown", "The guest went on.")


def guest(lab: GuestLab, note: Notebook) -> Observation:
    """Stop running the processors of a real guest."""
    note.setup(f"A real Linux guest ({lab.guest.spec.mode}) serves requests.")
    note.predict("The host schedules: nothing can make it run a guest.")
    lab.qemu.pause()
    note.host("The host stops the guest's processors.")
    try:
        lab.guest.run("true", timeout=3)
        answered = True
    except DeadlineError:
        answered = False
    finally:
        lab.qemu.resume()
    note.guest("The guest answers." if answered else "The guest does not answer.")
    if answered:
        return note.stopped("unknown", "The guest goes on.")
    return note.works("host-schedules", "The guest is gone for as long as the host likes; its secrets stay its own.")


_WORKS = Expectation(Outcome.WORKS, "the host schedules")
ATTACK = Attack(
    name="denial",
    title="Denial of service by the host",
    aim=Aim.AVAILABILITY,
    summary="The host stops the guest, or takes its memory away.",
    preconditions=(),
    generations="all",
    sources=(Source(model_lab.WHITEPAPER),),
    expected=dict.fromkeys(Mode, _WORKS),
    mitigations=(),
    mitigated=None,
    claim="host-to-guest-dos",
    model=model,
    guest=guest,
)
