"""ID blocks: the owner's signature that gives an identity only to the launch that the owner expects. Pure.

Source: SEV-SNP firmware ABI (56860), ID Block and ID Authentication Information structures; the formats of ECDSA
signatures and public keys are in its appendix.
"""

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from sevkit.errors import BadInputError, UsageError

BLOCK_SIZE, AUTH_SIZE = 0x60, 0x1000
KEY_SIZE, SIGNATURE_SIZE, SCALAR = 0x404, 0x200, 72
_P384 = 2
_ECDSA_P384 = 1
_SHA384 = ec.ECDSA(hashes.SHA384())
_BLOCK = struct.Struct("<48s16s16sIIQ")
# Offsets in the ID authentication page.
_BLOCK_SIGNATURE, _ID_KEY, _KEY_SIGNATURE, _AUTHOR_KEY = 0x040, 0x240, 0x680, 0x880


@dataclass(frozen=True)
class IdBlock:
    """The 96 bytes that are signed."""

    launch_digest: bytes
    policy: int = 0x30000
    family_id: bytes = bytes(16)
    image_id: bytes = bytes(16)
    guest_svn: int = 0

    def pack(self) -> bytes:
        """The block as the firmware reads it; raises UsageError for values that do not fit."""
        sizes = {
            "launch digest": (self.launch_digest, 48),
            "family id": (self.family_id, 16),
            "image id": (self.image_id, 16),
        }
        for name, (value, size) in sizes.items():
            if len(value) != size:
                raise UsageError(f"the {name} of an ID block has {size} bytes, not {len(value)}")
        if not 0 <= self.guest_svn < 1 << 32 or not 0 <= self.policy < 1 << 64:
            raise UsageError("a guest SVN has 32 bits, a policy has 64")
        return _BLOCK.pack(self.launch_digest, self.family_id, self.image_id, 1, self.guest_svn, self.policy)


@dataclass(frozen=True)
class Signed:
    """An ID block with its authentication page, and the digests of the keys as reports have them."""

    block: bytes
    auth: bytes
    id_key_digest: bytes
    author_key_digest: bytes | None


def load_key(pem: bytes, what: str = "key") -> ec.EllipticCurvePrivateKey:
    """A private key on P-384 from PEM; raises BadInputError for anything else."""
    try:
        key = serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        hint = "openssl ecparam -name secp384r1 -genkey -noout -out key.pem"
        raise BadInputError(f"the {what} is no private key in PEM without a password: {error}", hint=hint) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP384R1):
        raise BadInputError(f"the {what} is not on the curve P-384", hint="openssl ecparam -name secp384r1 -genkey")
    return key


def pack_key(key: ec.EllipticCurvePublicKey) -> bytes:
    """A public key in the ABI's structure of 404h bytes."""
    numbers = key.public_numbers()
    body = struct.pack("<I", _P384) + numbers.x.to_bytes(SCALAR, "little") + numbers.y.to_bytes(SCALAR, "little")
    return body.ljust(KEY_SIZE, b"\0")


def unpack_key(raw: bytes) -> ec.EllipticCurvePublicKey:
    """The key of an ABI structure; raises BadInputError."""
    curve, x, y = struct.unpack_from("<I72s72s", raw)
    if len(raw) != KEY_SIZE or curve != _P384 or any(raw[4 + 2 * SCALAR :]):
        raise BadInputError("this is no public key on P-384 as the firmware reads it")
    try:
        numbers = ec.EllipticCurvePublicNumbers(
            int.from_bytes(x, "little"), int.from_bytes(y, "little"), ec.SECP384R1()
        )
        return numbers.public_key()
    except ValueError as error:
        raise BadInputError(f"the point is not on the curve: {error}") from error


def key_digest(key: ec.EllipticCurvePublicKey) -> bytes:
    """SHA-384 over the ABI's structure: ID_KEY_DIGEST or AUTHOR_KEY_DIGEST of a report."""
    return hashlib.sha384(pack_key(key)).digest()


def _sign(key: ec.EllipticCurvePrivateKey, message: bytes) -> bytes:
    r, s = decode_dss_signature(key.sign(message, _SHA384))
    return (r.to_bytes(SCALAR, "little") + s.to_bytes(SCALAR, "little")).ljust(SIGNATURE_SIZE, b"\0")


def _fits(key: ec.EllipticCurvePublicKey, message: bytes, raw: bytes) -> bool:
    r, s = (int.from_bytes(raw[start : start + SCALAR], "little") for start in (0, SCALAR))
    try:
        key.verify(encode_dss_signature(r, s), message, _SHA384)
    except (InvalidSignature, ValueError):
        return False
    return True


def sign(
    block: IdBlock, id_key: ec.EllipticCurvePrivateKey, author_key: ec.EllipticCurvePrivateKey | None = None
) -> Signed:
    """Sign the block with the ID key; the author key, if given, signs the public ID key."""
    packed, public = block.pack(), pack_key(id_key.public_key())
    auth = bytearray(AUTH_SIZE)
    struct.pack_into("<II", auth, 0, _ECDSA_P384, _ECDSA_P384 if author_key else 0)
    parts = {_BLOCK_SIGNATURE: _sign(id_key, packed), _ID_KEY: public}
    if author_key is not None:
        parts |= {_KEY_SIGNATURE: _sign(author_key, public), _AUTHOR_KEY: pack_key(author_key.public_key())}
    for start, value in parts.items():
        auth[start : start + len(value)] = value
    author_digest = key_digest(author_key.public_key()) if author_key else None
    return Signed(packed, bytes(auth), key_digest(id_key.public_key()), author_digest)


def _form(block: bytes, auth: bytes) -> Iterator[str]:
    """Errors of the fields that name versions and algorithms."""
    version = _BLOCK.unpack(block)[3]
    id_algorithm, author_algorithm = struct.unpack_from("<II", auth)
    if version != 1:
        yield f"the block has version {version}, not 1"
    if id_algorithm != _ECDSA_P384:
        yield f"the ID key's algorithm is {id_algorithm}, not ECDSA P-384 (1)"
    if any(auth[_AUTHOR_KEY : _AUTHOR_KEY + KEY_SIZE]) and author_algorithm != _ECDSA_P384:
        yield f"the author key's algorithm is {author_algorithm}, not ECDSA P-384 (1)"


def verify(block: bytes, auth: bytes) -> list[str]:
    """Check a signed ID block as the firmware would: return all errors, empty if it is valid."""
    if len(block) != BLOCK_SIZE or len(auth) != AUTH_SIZE:
        return [f"an ID block has {BLOCK_SIZE} bytes and its authentication {AUTH_SIZE}"]
    faults = list(_form(block, auth))
    public = auth[_ID_KEY : _ID_KEY + KEY_SIZE]
    if not _fits(unpack_key(public), block, auth[_BLOCK_SIGNATURE : _BLOCK_SIGNATURE + SIGNATURE_SIZE]):
        faults.append("the block is not signed by the ID key")
    author = auth[_AUTHOR_KEY : _AUTHOR_KEY + KEY_SIZE]
    if any(author) and not _fits(unpack_key(author), public, auth[_KEY_SIGNATURE : _KEY_SIGNATURE + SIGNATURE_SIZE]):
        faults.append("the ID key is not signed by the author key")
    return faults
