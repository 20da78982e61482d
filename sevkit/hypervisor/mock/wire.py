"""The protocol between the processes of the mock: one JSON document per line over a Unix socket, bytes in base64."""

import base64
import json
import socket
from collections.abc import Iterator
from typing import Any

_LIMIT = 64 << 20  # no message of ours is longer; a longer one is damage


def send(connection: socket.socket, message: dict[str, Any]) -> None:
    """Send one message."""
    connection.sendall(json.dumps(message).encode() + b"\n")


def messages(connection: socket.socket) -> Iterator[dict[str, Any]]:
    """The messages that arrive, until the other side closes."""
    buffer = bytearray()
    seen = 0  # bytes of the buffer that are known to contain no end of line
    while True:
        end = buffer.find(b"\n", seen)
        if end >= 0:
            line = bytes(buffer[:end])
            del buffer[: end + 1]
            seen = 0
            yield json.loads(line)
            continue
        seen = len(buffer)
        piece = connection.recv(1 << 20)
        if not piece or len(buffer) > _LIMIT:
            return
        buffer += piece


def ask(connection: socket.socket, message: dict[str, Any]) -> dict[str, Any] | None:
    """Send a message and wait for the answer; None if the other side has closed the connection."""
    send(connection, message)
    return next(messages(connection), None)


def pack(data: bytes) -> str:
    """Bytes as text."""
    return base64.b64encode(data).decode()


def unpack(text: str) -> bytes:
    """Bytes from text."""
    return base64.b64decode(text, validate=True)
