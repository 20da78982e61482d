"""The other end of the network workloads: a server on the host's loopback, which guests reach as 10.0.2.2.

A request is 16 bytes: ``s``, ``r`` or ``l``, and a decimal number: bytes that the client sends or receives, or round
trips of one byte. A byte after the last one says that all arrived.
"""

import contextlib
import socket
import threading

HOST_IN_GUEST = "10.0.2.2"  # the host, in QEMU's user networking
_REQUEST = 16
_PIECE = 1 << 16
_PATIENCE = 120.0


class Traffic:
    """Listens as long as it is open. Each connection is served by a thread of its own."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True, name="traffic").start()

    def close(self) -> None:
        """Stop listening; connections end with their clients."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:  # closed
                return
            threading.Thread(target=_serve, args=(connection,), daemon=True, name="traffic").start()


def _serve(connection: socket.socket) -> None:
    connection.settimeout(_PATIENCE)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with connection, contextlib.suppress(OSError, ValueError):
        request = _exactly(connection, _REQUEST)
        kind, count = request[:1], int(request[1:])
        if kind == b"s":
            _exactly(connection, count, keep=False)
            connection.sendall(b"s")
        elif kind == b"r":
            _send(connection, count)
            _exactly(connection, 1)
        elif kind == b"l":
            for _ in range(count):
                connection.sendall(_exactly(connection, 1))


def _exactly(connection: socket.socket, count: int, *, keep: bool = True) -> bytes:
    """Read ``count`` bytes; raises ConnectionError when the client leaves before."""
    found, left = b"", count
    while left:
        piece = connection.recv(min(left, _PIECE))
        if not piece:
            raise ConnectionError("the client left")
        left -= len(piece)
        found = found + piece if keep else b""
    return found


def _send(connection: socket.socket, count: int) -> None:
    piece = bytes(_PIECE)
    while count > 0:
        connection.sendall(piece[:count])
        count -= _PIECE
