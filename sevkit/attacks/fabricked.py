"""Fabricked: a hostile UEFI configures the Data Fabric so that it drops the firmware's writes to the RMP."""

from sevkit.attacks.experiment import Aim, Attack, Expectation, Mitigation, Notebook, Observation, Outcome, Source
from sevkit.attacks.labs import forged_rmp, model_lab
from sevkit.vocabulary import Mode


def model(note: Notebook) -> Observation:
    """Drop the firmware's writes at initialisation, so that the host keeps control of the whole table."""
    note.setup("The host's UEFI leaves the routing of the Data Fabric open after boot.")
    platform = model_lab.machine(note)
    note.predict("If the firmware's writes to the RMP do not arrive, the table stays what the host has made of it.")
    _, check = model_lab.attempt(platform.host_misroute_rmp_writes)
    note.host("The host routes the secure processor's writes to the RMP into nowhere.", check or "done")
    guest = model_lab.guest(note, platform)
    note.setup("A guest starts and keeps an account in private memory.")
    if check:
        return note.stopped(check, "The firmware finds the routing open and refuses to go on.")
    return forged_rmp.replay(note, guest, "rmp-writes-dropped")


ATTACK = Attack(
    name="fabricked",
    title="Dropped writes to the RMP (Fabricked)",
    aim=Aim.INTEGRITY,
    summary="The host's Data Fabric drops the firmware's writes to the RMP, which so stays the host's to forge.",
    preconditions=("the host's UEFI is the attacker's",),
    generations="shown on EPYC 9005; sources disagree on EPYC 7003 and 9004",
    sources=(Source("Fabricked, USENIX Security 2026 (secondary)"), Source("AMD-SB-3034, CVE-2025-54510 (secondary)")),
    expected=dict.fromkeys(Mode, Expectation(Outcome.NOT_APPLICABLE, "there is no RMP"))
    | {Mode.SEV_SNP: Expectation(Outcome.WORKS, "rmp-writes-dropped: the table stays the host's")},
    mitigations=(Mitigation.FABRIC_LOCK,),
    mitigated=Expectation(Outcome.STOPPED, "fabric-lock: the firmware checks the routing"),
    claim="data-corruption",
    breaks_claim=Source("CVE-2025-54510, AMD-SB-3034 (secondary)"),
    model=model,
)
