"""Mitigations that stop an attack in addition to the mode itself: each with a description and a source."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from sevkit.vocabulary import Mode


class Mitigation(StrEnum):
    """Something that stops an attack in addition to the mode itself."""

    CIPHERTEXT_HIDING = "ciphertext-hiding"
    VMSA_REG_PROT = "vmsa-reg-prot"
    ALIAS_CHECK = "alias-check"
    RESTRICTED_INJECTION = "restricted-injection"
    INVD_MICROCODE = "invd-microcode"
    DEBUG_FORBIDDEN = "debug-forbidden"
    VALIDATE_ONCE = "validate-once"
    ENCRYPTED_IO = "encrypted-io"
    CPUID_PAGE = "cpuid-page"
    RMP_INIT_LOCK = "rmp-init-lock"
    FABRIC_LOCK = "fabric-lock"
    CHANNEL_BINDING = "channel-binding"
    PAGE_SWAP_DISABLE = "page-swap-disable"
    VC_OPCODE_CHECK = "vc-opcode-check"
    AML_SANDBOX = "aml-sandbox"


@dataclass(frozen=True)
class Measure:
    """A mitigation as data. ``bulletins`` are AMD's; ``before_snp``: it works without SEV-SNP too."""

    what: str
    bulletins: Sequence[str] = ()
    before_snp: bool = False


MEASURES: dict[Mitigation, Measure] = {
    Mitigation.CIPHERTEXT_HIDING: Measure(
        "the host reads a constant in place of guest ciphertext (EPYC 9005; policy bit 24)", ("AMD-SB-3021",)
    ),
    Mitigation.VMSA_REG_PROT: Measure(
        "SEV_FEATURES bit 14: the save area changes at every exit even if the registers do not", ("AMD-SB-1013",)
    ),
    Mitigation.ALIAS_CHECK: Measure(
        "firmware looks for memory that answers at two addresses; reports show ALIAS_CHECK_COMPLETE", ("AMD-SB-3015",)
    ),
    Mitigation.RESTRICTED_INJECTION: Measure("SEV_FEATURES bit 3: the host can inject only #HV", ("AMD-SB-3008",)),
    Mitigation.INVD_MICROCODE: Measure("microcode: INVD writes back", ("AMD-SB-3005",), before_snp=True),
    Mitigation.DEBUG_FORBIDDEN: Measure(
        "the launch policy forbids debugging: SEV bit 0 set, SEV-SNP bit 19 clear", before_snp=True
    ),
    Mitigation.VALIDATE_ONCE: Measure("the guest never validates one address twice"),
    Mitigation.ENCRYPTED_IO: Measure("the guest encrypts what it hands to devices", before_snp=True),
    Mitigation.RMP_INIT_LOCK: Measure(
        "firmware keeps the cores off the RMP while it initialises the table", ("AMD-SB-3020",)
    ),
    Mitigation.FABRIC_LOCK: Measure(
        "firmware checks that the Data Fabric routes its writes to the RMP", ("AMD-SB-3034",)
    ),
    Mitigation.CHANNEL_BINDING: Measure("the report's data cover the key of the channel that it comes through"),
    Mitigation.PAGE_SWAP_DISABLE: Measure(
        "policy bit 25 (ABI 1.58): the firmware does not move or swap the guest's pages", ("AMD-SB-3021",)
    ),
    Mitigation.VC_OPCODE_CHECK: Measure(
        "the guest's #VC handler compares the exit code with the instruction", ("AMD-SB-3008",), before_snp=True
    ),
    Mitigation.AML_SANDBOX: Measure("the guest's kernel lets AML reach shared memory only", before_snp=True),
    Mitigation.CPUID_PAGE: Measure("the guest believes only CPUID values that the firmware has compared"),
}


def effective(mode: Mode, mitigations: frozenset[Mitigation]) -> frozenset[Mitigation]:
    """Those of the mitigations that are possible in a mode."""
    return frozenset(each for each in mitigations if mode is Mode.SEV_SNP or MEASURES[each].before_snp)
