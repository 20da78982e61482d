"""TCB rollback: the host loads an old, vulnerable firmware, steals its keys, and claims to run the newest one."""

import secrets as randomness
from dataclasses import replace

from sevkit.attacks.experiment import Aim, Attack, Expectation, Notebook, Observation, Outcome, Source
from sevkit.attacks.flaws import CHIP_KEY
from sevkit.attacks.labs import model_lab
from sevkit.attacks.labs.guest_lab import GuestLab
from sevkit.errors import InconclusiveError
from sevkit.hypervisor.qemu import firmware_model
from sevkit.model import report
from sevkit.model.endorsement import Endorser
from sevkit.model.launch import Launched
from sevkit.model.measure import sev_measurement
from sevkit.model.psp_sev import API
from sevkit.vocabulary import Level, Mode

_NEWEST = report.Tcb()
_OLD_SVN = 3


def model(note: Notebook) -> Observation:
    """Run a guest on an old firmware, and make it attest to the newest."""
    note.setup("The host loads a firmware of last year: correctly signed, with a hole through which its keys are read.")
    platform = model_lab.machine(note, firmware_svn=_OLD_SVN)
    guest = model_lab.guest(note, platform)
    note.predict("If the attestation key does not depend on the firmware's version, the old one can vouch for the new.")
    return _legacy(note, guest) if note.mode is not Mode.SEV_SNP else _snp(note, guest)


def _legacy(note: Notebook, guest: Launched) -> Observation:
    context = guest.platform.sev.guests[guest.handle]
    assert context.measured is not None
    newest = (API[0], API[1] + 1, 0)
    wanted = sev_measurement(context.tik, newest, context.policy, context.measured.digest(), context.nonce)
    note.guest("The guest's owner computes the measurement that the newest firmware would give.", wanted[:16])
    note.host("The old firmware's own answer names its version, and does not fit.", guest.digest[:16])
    forged = sev_measurement(context.tik, newest, context.policy, context.measured.digest(), context.nonce)
    note.host("It reads the guest's integrity key and makes a measurement that names the newest version.", forged[:16])
    if forged == wanted and guest.digest != wanted:
        return note.works("unversioned-key", "They are equal: nothing in the key tells an old firmware from a new one.")
    return note.stopped("unknown", "The forgery does not fit.")


def _snp(note: Notebook, guest: Launched) -> Observation:
    firmware = guest.platform.snp
    newest = report.KeyChain(guest.platform.entropy.fork("keys"), _NEWEST)
    stolen, version = firmware.keys, _OLD_SVN
    if CHIP_KEY in note.disabled_checks:  # a flaw of the platform gives the keys of all versions away
        stolen, version = newest, _NEWEST.snp
    firmware.tcb = _NEWEST
    firmware.use_keys(stolen)
    forged = firmware.attest(guest.handle, b"nonce")
    note.host(
        f"It reads the chip key of version {version} and signs a report that claims version {_NEWEST.snp}.",
        forged[:16],
    )
    claimed = report.parse(forged)["reported_tcb"] == _NEWEST.pack()
    accepted = report.verify(forged, newest.certificates())
    note.guest(
        "The verifier takes the certificate of the claimed version.", f"claims it: {claimed}, accepted: {accepted}"
    )
    assert report.verify(forged, stolen.certificates())
    if claimed and accepted:
        weak = "chip-keys-known" if version == _NEWEST.snp else "unversioned-key"
        return note.works(weak, "The old firmware vouches for the new one.")
    return note.stopped("versioned-chip-key", "Each version has a chip key of its own; older ones cannot compute it.")


# Linux Documentation/ABI/testing/configfs-tsm: write inblob, read outblob.
_ASK = """
[ -d /sys/kernel/config/tsm ] || mount -t configfs none /sys/kernel/config
d=/sys/kernel/config/tsm/report/rollback
mkdir $d && cat >$d/inblob && cat $d/outblob; rmdir $d
"""


def guest(lab: GuestLab, note: Notebook) -> Observation:
    """Sign what a real guest's report says with the chip key of an older firmware, in the emulator's firmware model."""
    note.setup(f"A real Linux guest ({lab.guest.spec.mode}) asks its firmware for a report, by configfs-tsm.")
    note.predict("If the attestation key does not depend on the firmware's version, the old one can vouch for the new.")
    nonce = randomness.token_bytes(64)
    genuine = lab.guest.run(_ASK, stdin=nonce).stdout
    chip = lab.qemu.folder / firmware_model.SEED
    if len(genuine) != report.SIZE or not chip.exists():
        raise InconclusiveError("the guest got no report: its kernel has no driver for it, or it has no firmware model")
    newest = Endorser(chip.read_text())
    old = Endorser(chip.read_text(), replace(newest.keys.tcb, snp=_OLD_SVN))
    fields = report.parse(genuine)
    if fields["report_data"] != nonce or not report.verify(genuine, newest.keys.certificates()):
        raise InconclusiveError("the report that the guest got is not the firmware's own")
    note.guest("It gets a report that claims this version, and the verifier accepts it.", f"{newest.keys.tcb}")
    body = genuine[: report.SIGNED]
    forged = (body + report.sign(old.keys.chip, body)).ljust(report.SIZE, b"\0")
    note.host(
        f"The host runs version {_OLD_SVN}, whose key it has read, and signs the same claims with it.", forged[:16]
    )
    accepted = report.verify(forged, newest.keys.certificates())
    note.guest("The verifier takes the certificate of the claimed version.", f"accepted: {accepted}")
    if accepted:
        return note.works("unversioned-key", "The old firmware vouches for the new one.")
    if not report.verify(forged, old.keys.certificates()):
        raise InconclusiveError("the forged report does not fit the old key either")
    return note.stopped("versioned-chip-key", "Each version has a chip key of its own; older ones cannot compute it.")


_WORKS = Expectation(Outcome.WORKS, "attestation keys do not depend on the version")
ATTACK = Attack(
    name="tcb-rollback",
    title="Rollback of the firmware",
    aim=Aim.INTEGRITY,
    summary="The host runs an old, vulnerable firmware and makes it attest to being the newest.",
    preconditions=("a hole in some older firmware that the part still loads",),
    generations="EPYC 7001 (SEV, SEV-ES); on EPYC 7003 the seed of the versioned keys is reported extracted (2026)",
    sources=(
        Source(
            "Buhren, Werling and Seifert, Insecure Until Proven Updated, CCS 2019", "https://arxiv.org/abs/1908.11680"
        ),
        Source("Insecure Despite Proven Updated (Milan's root seed), AMD-SB-3045", "https://arxiv.org/abs/2605.12990"),
    ),
    expected={
        Mode.NOSEV: Expectation(Outcome.NOT_APPLICABLE, "nothing attests"),
        Mode.SEV: _WORKS,
        Mode.SEV_ES: _WORKS,
        Mode.SEV_SNP: Expectation(Outcome.STOPPED, "versioned-chip-key: an old firmware has an old key"),
    },
    mitigations=(),
    mitigated=None,
    falls_with="versioned-chip-key",
    claim="tcb-rollback",
    model=model,
    guest=guest,
    guest_levels=frozenset({Level.EMULATOR}),
    guest_modes=(Mode.SEV_SNP,),
    image="mini-6.12",
)
