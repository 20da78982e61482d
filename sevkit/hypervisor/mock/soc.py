"""The SoC process of the mock: keys, plaintext, the guest itself, and what a host cannot map.

The process is not dumpable: other processes of the same user cannot trace it, it leaves no core, and /proc/PID/mem
belongs to root. Seed, keys and plaintext are in its ordinary memory, so root can read them: this models the boundary of
the hardware, and does not enforce it. Started as ``python -m sevkit.hypervisor.mock.soc``.
"""

import argparse
import contextlib
import ctypes
import itertools
import mmap
import os
import resource
import selectors
import socket
import sys
from typing import Any

from sevkit.hypervisor.mock import wire
from sevkit.hypervisor.mock.guest import MockGuestKernel
from sevkit.hypervisor.mock.layout import SHARED_OUTPUT, SHARED_SIZE, Ring
from sevkit.hypervisor.mock.machine import build
from sevkit.hypervisor.mock.shell import MockShell
from sevkit.model.cipher import PAGE
from sevkit.model.faults import Fault
from sevkit.vocabulary import Mode

_PR_SET_DUMPABLE = 4


def harden() -> None:
    """Make this process not dumpable (prctl(2), PR_SET_DUMPABLE) and let it write no core."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


class Soc:
    """The guest, and the requests to it."""

    def __init__(self, kernel: MockGuestKernel) -> None:
        self.kernel = kernel
        self.shell = MockShell(kernel)
        self._output = Ring((0, SHARED_OUTPUT[1]))

    def answer(self, message: dict[str, Any]) -> dict[str, Any]:
        """Answer one request."""
        operation = getattr(self, f"_{message['op']}", None)
        if operation is None:
            return {"error": f"unknown request {message['op']!r}"}
        try:
            answer: dict[str, Any] = operation(message)
        except (Fault, MemoryError, ValueError) as error:
            return {"error": str(error)}
        return answer

    def _status(self, message: dict[str, Any]) -> dict[str, Any]:
        del message
        return {"ready": True}

    def _console(self, message: dict[str, Any]) -> dict[str, Any]:
        del message
        return {"text": self.kernel.console_text()}

    def _plant(self, message: dict[str, Any]) -> dict[str, Any]:
        self.kernel.plant(bytes.fromhex(message["nonce"]))
        return {}

    def _holds(self, message: dict[str, Any]) -> dict[str, Any]:
        return {"places": self.kernel.holds(bytes.fromhex(message["nonce"]))}

    def _word(self, message: dict[str, Any]) -> dict[str, Any]:
        del message
        return {"used_pages": self.kernel.used // PAGE, "secret_pages": self.kernel.secret_pages()}

    def _put(self, message: dict[str, Any]) -> dict[str, Any]:
        self.kernel.write_file(message["path"], wire.unpack(message["data"]))
        return {}

    def _get(self, message: dict[str, Any]) -> dict[str, Any]:
        try:
            return {"data": wire.pack(self.kernel.read_file(message["path"]))}
        except FileNotFoundError:
            return {"error": f"the guest has no file {message['path']}"}

    def _run(self, message: dict[str, Any]) -> dict[str, Any]:
        """Run a command: from the VMM through shared buffers, from a private client with the data in the message."""
        if "input" in message:
            place, size = message["input"]
            stdin = self.kernel.vm.read(place, size, private=False)
        else:
            stdin = wire.unpack(message["stdin"])
        done = self.shell.run(message["command"], stdin)
        if "input" not in message:
            return {"status": done.status, "stdout": wire.pack(done.stdout), "stderr": wire.pack(done.stderr)}
        at = self._output.take(len(done.stdout) + len(done.stderr))
        base = self.kernel.ram - SHARED_SIZE + SHARED_OUTPUT[0] + at
        self.kernel.vm.write(base, done.stdout + done.stderr, private=False)
        return {"status": done.status, "output": [at, len(done.stdout), len(done.stderr)]}


def serve(soc: Soc, vmm: socket.socket, listener: socket.socket) -> None:
    """Answer the VMM and private clients until the VMM ends."""
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    selector.register(vmm, selectors.EVENT_READ)
    requests = wire.messages(vmm)
    while True:
        for key, _ in selector.select():
            if key.fileobj is vmm:
                message = next(requests, None)
                if message is None:
                    return
                wire.send(vmm, soc.answer(message))
                continue
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                connection.settimeout(600)
                for request in wire.messages(connection):
                    wire.send(connection, soc.answer(request))


def main(arguments: list[str]) -> int:
    """Run the SoC with the descriptors that it inherited. The seed is read from one of them, never from an argument."""
    parser = argparse.ArgumentParser(prog="sevkit mock SoC")
    parser.add_argument("--mode", type=Mode, required=True)
    parser.add_argument("--memory", type=int, required=True, help="MiB")
    parser.add_argument("--vcpus", type=int, required=True)
    parser.add_argument("--policy", type=int)
    parser.add_argument("--ram-fd", type=int, required=True)
    parser.add_argument("--listen-fd", type=int, required=True)
    parser.add_argument("--vmm-fd", type=int, required=True)
    parser.add_argument("--seed-fd", type=int, required=True)
    options = parser.parse_args(arguments)
    with os.fdopen(options.seed_fd, "rb") as stream:
        seed = stream.read(32)
    harden()
    ram = mmap.mmap(options.ram_fd, options.memory << 20)
    os.close(options.ram_fd)
    vm = build(memoryview(ram), options.mode, int.from_bytes(seed, "little"), options.policy)
    ticks = itertools.count(1)  # the guest's clock: one millisecond per reading, so the same seed gives the same RAM
    kernel = MockGuestKernel(vm, len(ram), seed=seed[0], vcpus=options.vcpus, clock=lambda: next(ticks) / 1000)
    soc = Soc(kernel)
    serve(soc, socket.socket(fileno=options.vmm_fd), socket.socket(fileno=options.listen_fd))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
