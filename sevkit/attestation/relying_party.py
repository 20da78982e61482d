"""A relying party: it releases a secret to a guest with an accepted report, over a channel bound to that report.

The guest makes a key on X25519 for this one exchange and puts its hash, with the relying party's nonce, into
REPORT_DATA. The secret is encrypted to that key. A report that was made for another channel is rejected: a host
in the middle that relays a genuine report with its own key gets nothing (CVE-2026-33697: no such binding).
"""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from sevkit.attestation.report.case import Setting
from sevkit.attestation.report.evidence import Evidence, read
from sevkit.attestation.report.finding import Trust
from sevkit.attestation.report.verify import Verification, Verifier
from sevkit.errors import BadInputError, SevkitError

NONCE, KEY = 32, 32
_LABEL = b"sevkit attested channel 1"

Attest = Callable[[bytes], bytes]  # REPORT_DATA -> a report, or a report with its certificates


class NotTrustedError(SevkitError):
    """The report was not accepted; nothing was released."""

    exit_code = 1


@dataclass(frozen=True)
class Offer:
    """What a guest sends: its key for this exchange, and the report that is bound to it."""

    public_key: bytes
    evidence: bytes


@dataclass(frozen=True)
class Sealed:
    """A secret encrypted to one key: the relying party's key, and the ciphertext."""

    public_key: bytes
    nonce: bytes
    ciphertext: bytes


def binding(nonce: bytes, public_key: bytes) -> bytes:
    """REPORT_DATA of an exchange: 64 bytes that name the nonce and the guest's key."""
    return hashlib.sha512(_LABEL + nonce + public_key).digest()


class Guest:
    """The guest's side of one exchange: ``attest`` requests a report from its firmware."""

    def __init__(self, attest: Attest) -> None:
        self._attest = attest
        self._key = X25519PrivateKey.generate()

    def offer(self, nonce: bytes) -> Offer:
        """Answer a nonce."""
        public = self._key.public_key().public_bytes_raw()
        return Offer(public, self._attest(binding(nonce, public)))

    def open(self, sealed: Sealed) -> bytes:
        """The secret; raises BadInputError when it was not sealed for this guest's key."""
        try:
            shared = self._key.exchange(X25519PublicKey.from_public_bytes(sealed.public_key))
            own = self._key.public_key().public_bytes_raw()
            return AESGCM(_derive(shared, own, sealed.public_key)).decrypt(sealed.nonce, sealed.ciphertext, _LABEL)
        except (InvalidTag, ValueError) as error:
            raise BadInputError("the secret is not for this guest's key") from error


class RelyingParty:
    """The owner's side: one nonce per exchange, used once."""

    def __init__(self, setting: Setting, secret: bytes) -> None:
        self._setting = setting
        self._secret = secret
        self._open: set[bytes] = set()

    def challenge(self) -> bytes:
        """A fresh nonce."""
        nonce = os.urandom(NONCE)
        self._open.add(nonce)
        return nonce

    def release(self, nonce: bytes, offer: Offer) -> Sealed:
        """Encrypt the secret to the guest's key; raises NotTrustedError with the reasons if it is not released."""
        if nonce not in self._open:
            raise NotTrustedError("this nonce was not given out, or was used before")
        self._open.remove(nonce)
        found = self.judge(nonce, offer)
        if found.verdict is not Trust.ACCEPTED:
            raise NotTrustedError(f"the report is {found.verdict}", detail="\n".join(found.reasons))
        key = X25519PrivateKey.generate()
        try:
            shared = key.exchange(X25519PublicKey.from_public_bytes(offer.public_key))
        except ValueError as error:
            raise NotTrustedError("the guest's key is none") from error
        public, iv = key.public_key().public_bytes_raw(), os.urandom(12)
        ciphertext = AESGCM(_derive(shared, offer.public_key, public)).encrypt(iv, self._secret, _LABEL)
        return Sealed(public, iv, ciphertext)

    def judge(self, nonce: bytes, offer: Offer) -> Verification:
        """Judge an offer by the setting's policy; REPORT_DATA must be bound to this exchange."""
        evidence: Evidence = read(offer.evidence)
        bound = frozenset({binding(nonce, offer.public_key)})
        policy = replace(self._setting.policy, report_data=bound)
        return Verifier(replace(self._setting, policy=policy)).verify(evidence)


def _derive(shared: bytes, guest: bytes, owner: bytes) -> bytes:
    return HKDF(hashes.SHA256(), KEY, None, _LABEL + guest + owner).derive(shared)
