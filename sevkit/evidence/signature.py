"""Detached signatures of reports: Ed25519 (RFC 8032) as Base64, or as `ssh-keygen -Y sign` makes them."""

import base64
import hashlib
import struct
from pathlib import Path
from typing import TYPE_CHECKING

from sevkit import textfile
from sevkit.errors import NotPermittedError, UsageError
from sevkit.evidence.payload import Finding

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_LARGEST = 256 << 20  # bytes of a report
SIGNATURE = ".sig"  # beside the report: Base64 of the 64 bytes, or an SSH signature
_SSH = b"-----BEGIN SSH SIGNATURE-----"
# What the signature is for (OpenSSH: PROTOCOL.sshsig). "file" is what its manual uses.
_NAMESPACES = (b"file", b"sevkit")
_HASHES = {b"sha256": hashlib.sha256, b"sha512": hashlib.sha512}


def signing_key(key: Path) -> "Ed25519PrivateKey":
    """A private key from a file in PEM or OpenSSH form, without a passphrase; raises UsageError for any other."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_ssh_private_key

    raw = read(key)
    load = load_ssh_private_key if b"OPENSSH" in raw else load_pem_private_key
    try:
        private = load(raw, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        why = "it has a passphrase" if "password" in str(error).lower() else "PEM or OpenSSH form is read"
        raise UsageError(
            f"{key} is no private key that can be read here: {why}", hint="ssh-keygen -t ed25519"
        ) from error
    if not isinstance(private, Ed25519PrivateKey):
        raise UsageError(f"{key} is not an Ed25519 key", hint="ssh-keygen -t ed25519, or openssl genpkey")
    return private


def sign(path: Path, private: "Ed25519PrivateKey") -> Path:
    """Write a detached Ed25519 signature of a file beside it."""
    made = path.with_name(path.name + SIGNATURE)
    made.write_text(base64.b64encode(private.sign(path.read_bytes())).decode() + "\n")
    return made


def check(path: Path, public: Path | None) -> Finding:
    """Whether the signature beside a file is that key's."""
    from cryptography.exceptions import InvalidSignature

    what = "the signature"
    beside = path.with_name(path.name + SIGNATURE)
    if not beside.exists() and public is None:
        return {"what": what, "state": "open", "detail": "there is none: anybody could have written the whole report"}
    if public is None:
        return {"what": what, "state": "open", "detail": "is not checked: give --key"}
    key = _public_key(public)
    try:
        kind = _verify(key, read(beside), read(path))
    except (InvalidSignature, ValueError, struct.error):
        return {"what": what, "state": "wrong", "detail": f"{beside.name} is not this key's for this report"}
    return {"what": what, "state": "confirmed", "detail": f"{kind}, by the key in {public}"}


def _public_key(path: Path) -> "Ed25519PublicKey":
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key, load_ssh_public_key

    raw = read(path)
    try:
        key = (load_pem_public_key if raw.startswith(b"-----") else load_ssh_public_key)(raw)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UsageError(f"{path} is no public key that can be read: {error}") from error
    if not isinstance(key, Ed25519PublicKey):
        raise UsageError(f"{path} is not an Ed25519 key")
    return key


def _verify(key: "Ed25519PublicKey", signature: bytes, message: bytes) -> str:
    """The kind of a valid signature; raises InvalidSignature or ValueError."""
    if not signature.startswith(_SSH):
        key.verify(base64.b64decode(signature, validate=False), message)
        return "Ed25519"
    blob = base64.b64decode(b"".join(signature.strip().splitlines()[1:-1]), validate=True)
    if blob[:10] != b"SSHSIG\0\0\0\1":
        raise ValueError("not an SSH signature of version 1")
    _, namespace, reserved, name, packed = _strings(blob[10:], 5)
    if name not in _HASHES or namespace not in _NAMESPACES:
        raise ValueError("a hash or namespace that is not for files")
    kind, made = _strings(packed, 2)
    if kind != b"ssh-ed25519":
        raise ValueError("not an Ed25519 signature")
    digest = _HASHES[name](message).digest()
    key.verify(made, b"SSHSIG" + b"".join(map(_string, (namespace, reserved, name, digest))))
    return f"Ed25519 (SSH signature, namespace {namespace.decode()})"


def _strings(data: bytes, count: int) -> list[bytes]:
    """Strings of the SSH protocol: 4 bytes of length, then the content (RFC 4251, section 5)."""
    found = []
    for _ in range(count):
        (size,) = struct.unpack_from(">I", data)
        if size > len(data) - 4:
            raise ValueError("cut off")
        found.append(data[4 : 4 + size])
        data = data[4 + size :]
    return found


def _string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def read(path: Path) -> bytes:
    """The bytes of a file; raises UsageError or NotPermittedError. A pipe or a device must not hold the check up."""
    try:
        with open(path, "rb", opener=textfile.at_once) as file:
            data = file.read(_LARGEST + 1) or b""
    except PermissionError as error:
        raise NotPermittedError(f"cannot read {path}: {error.strerror}") from error
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    if len(data) > _LARGEST:
        raise UsageError(f"{path} is larger than {_LARGEST >> 20} MiB")
    return data
