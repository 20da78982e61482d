"""Relay of a report: evidence that is not bound to the channel says nothing about who is at its other end."""

import hashlib

from sevkit.attacks.experiment import Aim, Attack, Expectation, Mitigation, Notebook, Observation, Outcome, Source
from sevkit.attacks.labs import model_lab
from sevkit.model import report
from sevkit.vocabulary import Mode


def model(note: Notebook) -> Observation:
    """Forward a verifier's nonce to a genuine guest, and return the guest's report through the host's own channel."""
    note.setup("A client wants to talk to a guest and sends a nonce; the host ends the client's channel itself.")
    platform = model_lab.machine(note)
    guest = model_lab.guest(note, platform)
    bound = note.has(Mitigation.CHANNEL_BINDING)
    note.predict("A genuine report of a genuine guest is accepted, whoever brings it, if only the nonce is in it.")
    nonce = platform.entropy.fork("nonce").bytes(32)
    of_host, of_guest = b"the host's channel key", b"the guest's channel key"
    made = platform.snp.attest(guest.handle, _report_data(nonce, of_guest if bound else b""))
    note.host("The host asks its genuine guest for a report with the client's nonce, and hands it on.", made[:16])

    seen = report.parse(made)["report_data"][:64]
    genuine = report.verify(made, platform.snp.keys.certificates())
    fits = seen == _report_data(nonce, of_host if bound else b"")
    note.guest("The client checks signature and data.", f"signature: {genuine}, data: {fits}")
    if genuine and fits:
        return note.works("unbound-evidence", "The client sends its secrets to the host, attested.")
    return note.stopped("channel-binding", "The report names another channel key than the client sees.")


def _report_data(nonce: bytes, channel: bytes) -> bytes:
    """The 64 bytes of a report that the guest chooses (REPORT_DATA)."""
    return hashlib.sha512(nonce + channel).digest()


ATTACK = Attack(
    name="attestation-relay",
    title="Relay of an attestation report",
    aim=Aim.CONFIDENTIALITY,
    summary="The host answers for a genuine guest with that guest's own report, through a channel of its own.",
    preconditions=("the client does not compare the channel's key with the report",),
    generations="all: a matter of the protocol around the report",
    sources=(Source("CVE-2026-33697 (secondary)"),),
    expected=dict.fromkeys(Mode, Expectation(Outcome.NOT_APPLICABLE, "no guest asks for reports"))
    | {Mode.SEV_SNP: Expectation(Outcome.WORKS, "unbound-evidence: the report does not name the channel")},
    mitigations=(Mitigation.CHANNEL_BINDING,),
    mitigated=Expectation(Outcome.STOPPED, "channel-binding: the report names another key"),
    model=model,
)
