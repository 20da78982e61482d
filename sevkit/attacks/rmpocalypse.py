"""RMPocalypse: while the firmware initialises the RMP, the host's cores can write to it, and their writes remain."""

from sevkit.attacks.experiment import Aim, Attack, Expectation, Mitigation, Notebook, Observation, Outcome, Source
from sevkit.attacks.labs import forged_rmp, model_lab
from sevkit.model.cipher import PAGE
from sevkit.vocabulary import Mode


def model(note: Notebook) -> Observation:
    """Write into the RMP page with the entries of a guest's memory while the table is initialised."""
    note.setup("A machine starts SEV-SNP: the firmware fills the RMP and makes the table's own pages its own.")
    platform = model_lab.machine(note)
    assert platform.rmp is not None
    note.predict("A write at the right moment leaves one page of the table to the host, for good.")
    page = platform.rmp.entry_address(0) // PAGE * PAGE
    _, check = model_lab.attempt(lambda: platform.host_race_rmp_init(page))
    note.host("A core of the host writes 8 bytes into the table meanwhile.", check or f"page {page:#x} of the RMP")
    guest = model_lab.guest(note, platform)
    note.setup("A guest starts and keeps an account in private memory.")
    if check:
        return note.stopped(check, "The write is refused for as long as the firmware works on the table.")
    return forged_rmp.replay(note, guest, "rmp-unguarded-at-init")


ATTACK = Attack(
    name="rmpocalypse",
    title="Race with the initialisation of the RMP (RMPocalypse)",
    aim=Aim.INTEGRITY,
    summary="The host writes to the RMP while the firmware initialises it, and forges entries from then on.",
    preconditions=("root on the host before SEV-SNP is initialised",),
    generations="EPYC 7003 to 9005 before the firmware of AMD-SB-3020",
    sources=(Source("RMPocalypse, CCS 2025 (secondary)"), Source("AMD-SB-3020, CVE-2025-0033 (secondary)")),
    expected=dict.fromkeys(Mode, Expectation(Outcome.NOT_APPLICABLE, "there is no RMP"))
    | {Mode.SEV_SNP: Expectation(Outcome.WORKS, "rmp-unguarded-at-init: the host owns a page of the table")},
    mitigations=(Mitigation.RMP_INIT_LOCK,),
    mitigated=Expectation(Outcome.STOPPED, "rmp-init-lock: the cores are kept off the table"),
    claim="data-corruption",
    breaks_claim=Source("CVE-2025-0033, AMD-SB-3020 (secondary)"),
    model=model,
)
