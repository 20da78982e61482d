"""Debug decrypt: the host asks the firmware for plaintext; the launch policy decides whether the firmware complies."""

from sevkit.attacks.experiment import Aim, Attack, Expectation, Mitigation, Notebook, Observation, Outcome, Source
from sevkit.attacks.labs import model_lab
from sevkit.attacks.labs.account import RECORD, open_account
from sevkit.attacks.labs.guest_lab import GuestLab
from sevkit.attacks.labs.host import RefusedError
from sevkit.errors import InconclusiveError
from sevkit.guest import policy as guest_policy
from sevkit.guest.spec import GuestSpec
from sevkit.model import report
from sevkit.model.launch import Launched
from sevkit.model.psp import Refused
from sevkit.model.snp_commands import POLICY_DEBUG, POLICY_DEFAULT
from sevkit.vocabulary import Level, Mode

_ANYWHERE = 0x100000  # RAM of every guest
_DEBUGGABLE = {Mode.SEV: "", Mode.SEV_ES: "es", Mode.SEV_SNP: "smt,debug"}


def model(note: Notebook) -> Observation:
    """Launch with a policy that allows debugging, or forbids it, and call the firmware's debug command."""
    policy = _policy(note)
    note.setup("The guest's owner launched it with this policy.", f"policy = {policy:#x}")
    platform = model_lab.machine(note)
    guest = model_lab.guest(note, platform, policy=policy)
    guest.vm.write(model_lab.DATA, model_lab.SECRET)
    note.predict("The firmware decrypts for the host if the policy says so. The bit has opposite senses: NODBG, DEBUG.")

    try:
        plain = _decrypt(note, guest)
    except Refused as refusal:
        note.host("The host calls the debug command.", f"{refusal.command}: {refusal.status.name}")
        return note.stopped(refusal.check, "The policy forbids it, and the policy is part of what is attested.")
    note.host("The host calls the debug command and gets:", plain)
    _show_report(note, guest)
    return note.works(
        "policy-allows-debug", "The policy allowed it; a verifier that reads the policy would have refused."
    )


def _policy(note: Notebook) -> int:
    forbidden = note.has(Mitigation.DEBUG_FORBIDDEN)
    if note.mode is Mode.SEV_SNP:
        return POLICY_DEFAULT if forbidden else POLICY_DEFAULT | POLICY_DEBUG
    return {Mode.SEV: 0x0, Mode.SEV_ES: 0x4}[note.mode] | (1 if forbidden else 0)


def _decrypt(note: Notebook, guest: Launched) -> bytes:
    if note.mode is Mode.SEV_SNP:
        return guest.platform.snp.dbg_decrypt(guest.handle, guest.spa(model_lab.DATA))[:16]
    return guest.platform.sev.dbg_decrypt(guest.handle, guest.spa(model_lab.DATA), 16)


def _show_report(note: Notebook, guest: Launched) -> None:
    if note.mode is Mode.SEV_SNP:
        fields = report.parse(guest.platform.snp.attest(guest.handle, b"nonce"))
        note.guest("The attestation report shows the bit to whoever verifies it.", f"policy = {fields['policy']:#x}")


def guest(lab: GuestLab, note: Notebook) -> Observation:
    """Call the emulated firmware's debug command on a real guest whose policy forbids it, and on one that allows it."""
    mode, policy = lab.guest.spec.mode, lab.guest.spec.policy
    try:
        lab.host.debug_decrypt(_ANYWHERE, 16)
    except RefusedError as refusal:
        note.setup(f"A real Linux guest ({mode}) was launched with a policy that forbids debugging.")
        note.host("The host calls the debug command.", str(refusal))
        if policy is not None:
            return note.stopped("policy-debug", "The policy forbids it, and the policy is part of what is attested.")
        note.setup("A second guest is launched with a policy that allows debugging.")
        with lab.another(policy=guest_policy.parse(_DEBUGGABLE[mode], mode)) as debuggable:
            return _decrypted(debuggable, note)
    return _decrypted(lab, note)


def _decrypted(lab: GuestLab, note: Notebook) -> Observation:
    """Let the firmware decrypt the account of a guest that allows debugging."""
    account, page = open_account(lab, note, "The policy allows debugging: the firmware decrypts for the host.")
    with lab.host.held():
        note.host("What the host reads of the page in DRAM:", lab.host.read(page, 32))
    plain = lab.host.debug_decrypt(lab.host.gpa(page), RECORD)
    note.host("What the firmware gives it:", plain)
    if plain.decode("latin-1").strip() == account.balance():
        return note.works(
            "policy-allows-debug", "The policy allowed it; a verifier that reads the policy would have refused."
        )
    raise InconclusiveError("the firmware's answer is not what the guest has in this page")


def forbidden(spec: GuestSpec) -> frozenset[Mitigation]:
    """The mitigation that a policy given for the launch is; the experiment chooses the policy if none was given."""
    if spec.policy is None:
        return frozenset()
    snp = spec.mode is Mode.SEV_SNP
    bit = guest_policy.SNP_BITS["debug"] if snp else guest_policy.SEV_BITS["nodbg"]
    return frozenset({Mitigation.DEBUG_FORBIDDEN}) if (spec.policy >> bit & 1) != snp else frozenset()


_WORKS = Expectation(Outcome.WORKS, "the policy allows debugging")
ATTACK = Attack(
    name="debug-decrypt",
    title="Debug decrypt under policy",
    aim=Aim.CONFIDENTIALITY,
    summary="The host has the firmware decrypt guest memory, where the guest's policy allows debugging.",
    preconditions=("a launch policy that allows debugging",),
    generations="all",
    sources=(
        Source("SEV API (55766), DBG_DECRYPT and guest policy bit 0 (NODBG)"),
        Source("SEV-SNP firmware ABI (56860), SNP_DBG_DECRYPT and guest policy bit 19 (DEBUG)"),
    ),
    expected=dict.fromkeys(Mode, _WORKS)
    | {Mode.NOSEV: Expectation(Outcome.NOT_APPLICABLE, "there is nothing to decrypt")},
    mitigations=(Mitigation.DEBUG_FORBIDDEN,),
    mitigated=Expectation(Outcome.STOPPED, "policy-debug: the firmware refuses"),
    claim="vm-memory",
    model=model,
    guest=guest,
    guest_levels=frozenset({Level.EMULATOR}),
    mitigations_of=forbidden,
    breaks_claim=Source("by design: the owner's policy allowed it (SEV-SNP firmware ABI, guest policy)"),
)
