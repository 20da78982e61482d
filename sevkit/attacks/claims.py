"""What AMD claims: table 1 ("Threat Model") of the SEV-SNP whitepaper of January 2020, as data.

It is the oracle of the matrix: if an experiment contradicts the table, the attack cites a CVE or paper as the reason.
"""

from dataclasses import dataclass
from enum import StrEnum

from sevkit.vocabulary import Mode


class Claim(StrEnum):
    """What the table says about a threat and a technology."""

    MITIGATED = "mitigated"
    OPTIONAL = "optional"
    NONE = "no claim"


@dataclass(frozen=True)
class Threat:
    """A row of the table."""

    title: str
    category: str
    sev: Claim
    sev_es: Claim
    sev_snp: Claim

    def claim(self, mode: Mode) -> Claim:
        """What AMD claims for a mode; nothing for a plain guest."""
        return {Mode.SEV: self.sev, Mode.SEV_ES: self.sev_es, Mode.SEV_SNP: self.sev_snp}.get(mode, Claim.NONE)


_YES, _MAY, _NO = Claim.MITIGATED, Claim.OPTIONAL, Claim.NONE

THREATS: dict[str, Threat] = {
    "vm-memory": Threat("VM memory", "confidentiality", _YES, _YES, _YES),
    "vm-register-state": Threat("VM register state", "confidentiality", _NO, _YES, _YES),
    "dma": Threat("DMA protection", "confidentiality", _YES, _YES, _YES),
    "replay": Threat("Replay protection", "integrity", _NO, _NO, _YES),
    "data-corruption": Threat("Data corruption", "integrity", _NO, _NO, _YES),
    "memory-aliasing": Threat("Memory aliasing", "integrity", _NO, _NO, _YES),
    "memory-remapping": Threat("Memory re-mapping", "integrity", _NO, _NO, _YES),
    "guest-to-host-dos": Threat("Guest to host denial of service", "availability", _YES, _YES, _YES),
    "host-to-guest-dos": Threat("Host to guest denial of service", "availability", _NO, _NO, _NO),
    "offline-dram": Threat("Offline DRAM analysis", "physical access", _YES, _YES, _YES),
    "active-dram": Threat("Active DRAM corruption", "physical access", _NO, _NO, _NO),
    "tcb-rollback": Threat("TCB rollback", "miscellaneous", _NO, _NO, _YES),
    "injection": Threat("Malicious interrupt or exception injection", "miscellaneous", _NO, _NO, _MAY),
    "branch-predictor": Threat("Indirect branch predictor poisoning", "miscellaneous", _NO, _NO, _MAY),
    "debug-registers": Threat("Secure hardware debug registers", "miscellaneous", _NO, _NO, _MAY),
    "cpuid": Threat("Trusted CPUID information", "miscellaneous", _NO, _NO, _MAY),
    "architectural-channels": Threat("Architectural side channels", "miscellaneous", _NO, _NO, _NO),
    "page-channels": Threat("Page-level side channels", "miscellaneous", _NO, _NO, _NO),
    "performance-counters": Threat("Performance counter tracking", "miscellaneous", _NO, _NO, _NO),
}
