"""Messages between an SNP guest and the firmware, encrypted with a key that the host does not have.

Layout: SEV-SNP firmware ABI (56860), Guest Messages: a header of 60h bytes, then the payload, AES-256-GCM with the
sequence number as IV and the header from 30h on as additional data. Each number is used once, so the host cannot
read, change or replay a message.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

HEADER = 0x60
_FIELDS = struct.Struct("<Q8xBBHBBHIB35x")  # from 20h on: sequence number, then what is authenticated
_AAD_START = 0x30
_TAG = 16
_AES_256_GCM = 1


class MessageType(IntEnum):
    """Messages that the model's firmware knows."""

    REPORT_REQUEST = 5
    REPORT_RESPONSE = 6


class MessageError(Exception):
    """A message that is not authentic, or not the next one."""


@dataclass(frozen=True)
class Message:
    """A message in plaintext."""

    kind: MessageType
    sequence: int
    vmpck: int
    payload: bytes


def seal(key: bytes, message: Message) -> bytes:
    """Encrypt the message: the result is what the host can see."""
    size = len(message.payload)
    fields = _FIELDS.pack(message.sequence, _AES_256_GCM, 1, HEADER, message.kind, 1, size, 0, message.vmpck)
    sealed = AESGCM(key).encrypt(_iv(message.sequence), message.payload, fields[_AAD_START - 0x20 :])
    return sealed[-_TAG:].ljust(0x20, b"\0") + fields + sealed[:-_TAG]


def vmpck_of(data: bytes) -> int:
    """Return the number of the key that a sealed message names; raises MessageError if it is not a message."""
    if len(data) < HEADER:
        raise MessageError("shorter than its header")
    number = int(_FIELDS.unpack_from(data, 0x20)[8])
    if number > 3:
        raise MessageError("no such key")
    return number


def unseal(key: bytes, data: bytes, sequence: int) -> Message:
    """Authenticate and decrypt the message; raises MessageError unless it has this sequence number."""
    vmpck = vmpck_of(data)
    number, algorithm, version, header, kind, _, size, _, _ = _FIELDS.unpack_from(data, 0x20)
    if (algorithm, version, header) != (_AES_256_GCM, 1, HEADER) or len(data) != HEADER + size:
        raise MessageError("a header that the firmware does not know")
    if number != sequence:
        raise MessageError(f"sequence number {number}, expected {sequence}")
    try:
        payload = AESGCM(key).decrypt(_iv(number), data[HEADER:] + data[:_TAG], data[_AAD_START:HEADER])
        return Message(MessageType(kind), number, vmpck, payload)
    except (InvalidTag, ValueError) as error:
        raise MessageError("not authentic") from error


def _iv(sequence: int) -> bytes:
    return sequence.to_bytes(12, "little")
