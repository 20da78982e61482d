"""Denial of service: the host does not run the guest. No mode promises that it will."""

from sevkit.attacks.experiment import Aim, Attack, Expectation, Notebook, Observation, Outcome, Source
from sevkit.attacks.labs import model_lab
from sevkit.model.vcpu import Vcpu
from sevkit.vocabulary import Mode


def model(note: Notebook) -> Observation:
    """Take a page of the guest's away and see whether it can go on."""
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
)
