"""The root seed of a chip: an attacker who has read it can compute the chip key of every firmware version."""

from sevkit.attacks.experiment import Aim, Attack, Expectation, Notebook, Observation, Outcome, Source
from sevkit.attacks.labs import model_lab
from sevkit.model import report
from sevkit.model.launch import Launched
from sevkit.vocabulary import Mode

_OLD_SVN = 3


def model(note: Notebook) -> Observation:
    """Run a guest on an old firmware and sign its report with the newest version's key."""
    note.setup("The host has read the seed out of its chip, once; it runs an old firmware with a known hole.")
    platform = model_lab.machine(note, firmware_svn=_OLD_SVN)
    guest = model_lab.guest(note, platform)
    note.predict("The key of each version is computed from the seed: the newest one too.")
    newest = report.Tcb()
    keys = report.KeyChain(platform.entropy.fork("keys"), newest)
    forged = _signed(guest, newest, keys)
    note.host(f"It computes the chip key of version {newest.snp} and signs a report with it.", forged[:16])
    genuine = report.KeyChain(platform.entropy.fork("keys"), newest).certificates()
    claimed = report.parse(forged)["reported_tcb"] == newest.pack()
    accepted = report.verify(forged, genuine)
    note.guest(
        "The verifier takes AMD's certificate of the claimed version.", f"claims it: {claimed}, accepted: {accepted}"
    )
    if claimed and accepted:
        return note.works("seed-known", "The old firmware vouches for the newest; nothing in the report can tell.")
    return note.stopped("unknown", "The verifier does not accept the report.")


def _signed(guest: Launched, tcb: report.Tcb, keys: report.KeyChain) -> bytes:
    """The report of a guest as a firmware of that version with those keys would create it."""
    firmware = guest.platform.snp
    firmware.tcb = tcb
    firmware.use_keys(keys)
    return firmware.attest(guest.handle, b"nonce")


ATTACK = Attack(
    name="root-seed",
    title="Attestation keys from a chip's root seed",
    aim=Aim.INTEGRITY,
    summary="The host computes the chip key of any firmware version from the seed that it has read out of the chip.",
    preconditions=("code execution in the secure processor, and its fuse controller",),
    generations="EPYC 7003; shipped silicon has no fix that a report shows",
    sources=(
        Source("Insecure Despite Proven Updated (abstract read), AMD-SB-3045", "https://arxiv.org/abs/2605.12990"),
    ),
    expected=dict.fromkeys(Mode, Expectation(Outcome.NOT_APPLICABLE, "no versioned chip key attests"))
    | {Mode.SEV_SNP: Expectation(Outcome.WORKS, "seed-known: every version's key follows from the seed")},
    claim="tcb-rollback",
    breaks_claim=Source("Insecure Despite Proven Updated (abstract read)", "https://arxiv.org/abs/2605.12990"),
    model=model,
)
