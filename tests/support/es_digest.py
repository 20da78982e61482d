"""The launch digest of a SEV-ES guest with SEV_FEATURES, from the parts of sev-snp-measure: its own function has none."""

import hashlib

from sevsnpmeasure.ovmf import OVMF
from sevsnpmeasure.sev_hashes import SevHashes
from sevsnpmeasure.sev_mode import SevMode
from sevsnpmeasure.vmsa import VMSA

DEBUG_SWAP = 1 << 5  # APM volume 2, table B-4: SEV_FEATURES


def es_digest(vcpus: int, signature: int, firmware: str, files: tuple[str, str, str], features: int) -> bytes:
    """``files``: kernel, initrd, command line; without a kernel no hashes."""
    ovmf = OVMF(firmware)
    digest = hashlib.sha256(ovmf.data())
    if files[0]:
        digest.update(SevHashes(*files).construct_table())
    for page in VMSA(SevMode.SEV_ES, ovmf.sev_es_reset_eip(), signature, features).pages(vcpus):
        digest.update(page)
    return digest.digest()
