"""The firmware of an emulated SEV-SNP platform: a process beside QEMU that holds the keys and signs.

QEMU connects to a Unix socket in the guest's folder. Frames: u32 length of what follows (little-endian), u8 kind,
payload; an answer has its question's kind, or 0xff and an error text (emulator/README.md, firmware-socket). Started as
``python -m sevkit.hypervisor.qemu.firmware_model``; it ends with QEMU's connection, or when the guest's folder is gone.
"""

import argparse
import os
import select
import socket
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from sevkit import processes
from sevkit.model import endorsement
from sevkit.paths import state_dir, write_private

if TYPE_CHECKING:
    import subprocess

SOCKET = "psp"
SEED = "platform-seed"
_HEAD = struct.Struct("<IB")
_LIMIT = 1 << 16  # bytes of a request; the longest one from QEMU has about 4 KiB
_SIGN, _CERTIFICATES, _DERIVE, _PLATFORM, _CHECK_ID, _ERROR = 1, 2, 3, 4, 5, 0xFF
_PATIENCE = 2.0  # seconds between checks whether the guest still exists, until QEMU has connected


def start(folder: Path, seed: str, *, detach: bool) -> "subprocess.Popen[bytes]":
    """Start the firmware of a guest with its files in ``folder``; on return its socket accepts connections.

    ``seed`` determines all keys; if empty, they are those of this user's emulated platform, created at first use.
    """
    write_private(folder / SEED, seed or platform_seed())
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener, (folder / "psp.log").open("wb") as log:
        listener.bind(str(folder / SOCKET))
        listener.listen(1)
        command = [sys.executable, "-m", __name__, "--listener", str(listener.fileno()), "--folder", str(folder)]
        return processes.start(command, pass_fds=[listener.fileno()], stderr=log, detach=detach)


def platform_seed() -> str:
    """The seed of this user's emulated platform: one chip for all guests, as on a real host."""
    path = state_dir("platform") / "seed"
    if not path.exists():
        fresh = path.with_name(f".seed.{os.getpid()}")
        write_private(fresh, os.urandom(32).hex())
        try:
            os.link(fresh, path)  # atomic: if several processes create a seed, the first one wins
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    return path.read_text()


def endorser(folder: Path) -> endorsement.Endorser | None:
    """The keys of a guest's platform, from the guest's folder; None for a guest without firmware model."""
    path = folder / SEED
    return endorsement.Endorser(path.read_text()) if path.exists() else None


def answer(keys: endorsement.Endorser, kind: int, payload: bytes) -> bytes:
    """The payload of the answer to a request; raises ValueError with the reason for an invalid request."""
    answers: dict[int, Callable[[bytes], bytes]] = {
        _SIGN: keys.sign,
        _CERTIFICATES: lambda _: keys.certificate_table(),
        _DERIVE: lambda question: _derived(keys, question),
        _PLATFORM: lambda _: keys.info.pack(),
        _CHECK_ID: _identified,
    }
    if kind not in answers:
        raise ValueError(f"no question has kind {kind}")
    return answers[kind](payload)


def _derived(keys: endorsement.Endorser, question: bytes) -> bytes:
    status, key = keys.derive(question)
    return struct.pack("<I", status) + key


def _identified(question: bytes) -> bytes:
    if len(question) != endorsement.CHECK_ID_SIZE:
        raise ValueError(f"an ID block with its authentication has {endorsement.CHECK_ID_SIZE} bytes")
    fits = endorsement.id_block_fits(question[:96], question[96:-1], author_key=bool(question[-1]))
    return struct.pack("<I", not fits)


def serve(connection: socket.socket, keys: endorsement.Endorser) -> None:
    """Answer requests until the other side closes the connection, or sends an invalid frame."""
    while (head := _receive(connection, _HEAD.size)) is not None:
        length, kind = _HEAD.unpack(head)
        if not 1 <= length <= _LIMIT:
            return
        payload = _receive(connection, length - 1)
        if payload is None:
            return
        try:
            reply = answer(keys, kind, payload)
        except ValueError as error:
            kind, reply = _ERROR, str(error).encode()
        connection.sendall(_HEAD.pack(len(reply) + 1, kind) + reply)


def _receive(connection: socket.socket, size: int) -> bytes | None:
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            return None
        data += part
    return data


def _accept(listener: socket.socket, folder: Path) -> socket.socket | None:
    """QEMU's connection; None if the guest's folder was removed before QEMU connected."""
    while folder.exists():
        if select.select([listener], [], [], _PATIENCE)[0]:
            return listener.accept()[0]
    return None


def main() -> int:
    """Serve one guest."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--listener", type=int, required=True, help="descriptor of the listening socket")
    parser.add_argument("--folder", type=Path, required=True, help="the guest's folder")
    given = parser.parse_args()
    keys = endorsement.Endorser((given.folder / SEED).read_text())
    with socket.socket(fileno=given.listener) as listener:
        connection = _accept(listener, given.folder)
    if connection is not None:
        with connection:
            serve(connection, keys)
    return 0


if __name__ == "__main__":
    sys.exit(main())
