"""BadAML: the host's ACPI tables hold code, and the guest's kernel runs it with all of its own rights."""

from sevkit.attacks.experiment import Aim, Attack, Expectation, Mitigation, Notebook, Observation, Outcome, Source
from sevkit.attacks.labs import aml, model_lab
from sevkit.model.vm import GuestAbortError
from sevkit.vocabulary import Mode

_PORT = 0x402
_FORGED = int.from_bytes(b"retreat!", "little")


def model(note: Notebook) -> Observation:
    """Hand the guest a table whose code copies a secret to a port, and overwrites it."""
    sandbox = note.has(Mitigation.AML_SANDBOX)
    note.setup("A guest keeps a secret in private memory; its kernel loads the ACPI tables that the host provides.")
    guest = model_lab.guest(note, model_lab.machine(note))
    guest.vm.write(model_lab.DATA, model_lab.SECRET)
    note.predict("AML may name any address of memory. The kernel runs it, so the C-bit is set and every check passes.")

    code = aml.region(b"SECR", aml.SYSTEM_MEMORY, model_lab.DATA) + aml.region(b"PORT", aml.SYSTEM_IO, _PORT)
    code += aml.store(aml.field(b"SECR"), aml.field(b"PORT")) + aml.store(_FORGED, aml.field(b"SECR"))
    table = aml.table(code)
    note.host("The host provides a table with this code.", table[36:])
    seen: list[bytes] = []

    def read(gpa: int, size: int) -> bytes:
        return guest.vm.read(gpa, size, private=_reached(gpa, sandbox=sandbox))

    def write(gpa: int, data: bytes) -> None:
        guest.vm.write(gpa, data, private=_reached(gpa, sandbox=sandbox))

    machine = aml.Machine(read, write, lambda _, data: seen.append(data))
    _, check = model_lab.attempt(lambda: aml.run(table, machine))
    if check:
        note.guest("The kernel's interpreter refuses an access of the code.", check)
        return note.stopped(check, "Code of the host reaches only memory that the host may see in any case.")
    note.host(f"The guest writes to port {_PORT:#x}; the host reads:", seen[0])
    after = guest.vm.read(model_lab.DATA, 8)
    note.guest("The guest reads its secret.", after)
    if seen[0] == model_lab.SECRET[:8] and after == _FORGED.to_bytes(8, "little"):
        return note.works("host-code-in-guest", "The guest's own kernel read and replaced its private memory.")
    return note.stopped("unknown", "The code ran, but it did not reach the secret.")


def _reached(gpa: int, *, sandbox: bool) -> bool:
    """Whether an access of the interpreter is private; raises GuestAbortError where the sandbox forbids that."""
    if sandbox and gpa != model_lab.SHARED:
        raise GuestAbortError("aml-sandbox")
    return gpa != model_lab.SHARED


_WORKS = Expectation(Outcome.WORKS, "the guest's kernel runs the host's code")
ATTACK = Attack(
    name="badaml",
    title="Code in ACPI tables (BadAML)",
    aim=Aim.CONFIDENTIALITY,
    summary="The host's ACPI tables hold code that the guest's kernel runs: it reads and writes private memory.",
    preconditions=("the guest loads ACPI tables that are not measured",),
    generations="all; the mechanism is the guest kernel's, not the processor's",
    sources=(Source("Takekoshi et al., BadAML, CCS 2025 (secondary)"),),
    expected=dict.fromkeys(Mode, _WORKS),
    mitigations=(Mitigation.AML_SANDBOX,),
    mitigated=Expectation(Outcome.STOPPED, "aml-sandbox: AML reaches shared memory only"),
    claim=None,
    model=model,
)
