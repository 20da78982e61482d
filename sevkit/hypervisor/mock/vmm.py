"""The VMM process of the mock: what a host can dump.

It maps guest RAM (the model's DRAM as the host sees it) and forwards commands to the process that represents the SoC.
Input and output of commands go through buffers in shared guest memory, as with virtio. Started as
``python -m sevkit.hypervisor.mock.vmm``; it has no keys and sees no plaintext of private memory.
"""

import argparse
import contextlib
import ctypes
import mmap
import os
import selectors
import socket
import sys
from typing import Any

from sevkit.hypervisor.mock import wire
from sevkit.hypervisor.mock.layout import SHARED_INPUT, SHARED_OUTPUT, SHARED_SIZE, Ring


class Vmm:
    """Guest RAM, the sockets of clients, and the connection to the SoC."""

    def __init__(self, ram: mmap.mmap, soc: socket.socket) -> None:
        self.ram = ram
        self.soc = soc
        self.answers = wire.messages(soc)
        self.shared = len(ram) - SHARED_SIZE
        self._input = Ring(SHARED_INPUT)

    def answer(self, message: dict[str, Any]) -> dict[str, Any]:
        """Answer one request of a client."""
        if message["op"] == "ram":
            address = ctypes.addressof(ctypes.c_char.from_buffer(self.ram))
            return {"blocks": [{"name": "mock.ram", "gpa": 0, "size": len(self.ram), "host_address": address}]}
        if message["op"] == "run":
            return self._run(message)
        return self._forward(message)

    def _run(self, message: dict[str, Any]) -> dict[str, Any]:
        """Write the input to the shared buffer, let the guest run, read the output from the shared buffer."""
        data = wire.unpack(message["stdin"])
        if len(data) > SHARED_INPUT[1]:
            return {"error": f"input of {len(data)} bytes is too large for the mock's channel"}
        at = self.shared + self._input.take(len(data))
        self.ram[at : at + len(data)] = data
        answer = self._forward({**message, "stdin": None, "input": [at, len(data)]})
        if "output" in answer:
            place, out, err = answer.pop("output")
            start = self.shared + SHARED_OUTPUT[0] + place
            answer["stdout"] = wire.pack(self.ram[start : start + out])
            answer["stderr"] = wire.pack(self.ram[start + out : start + out + err])
        return answer

    def _forward(self, message: dict[str, Any]) -> dict[str, Any]:
        wire.send(self.soc, message)
        answer = next(self.answers, None)
        if answer is None:
            raise EOFError("the SoC process has ended")
        return answer


def serve(vmm: Vmm, listener: socket.socket) -> None:
    """Answer clients until the SoC ends."""
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    selector.register(vmm.soc, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj is vmm.soc:  # the SoC only sends answers, so data here means that it has ended
                return
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                connection.settimeout(600)
                for message in wire.messages(connection):
                    wire.send(connection, vmm.answer(message))


def main(arguments: list[str]) -> int:
    """Run the VMM with descriptors that it inherited."""
    parser = argparse.ArgumentParser(prog="sevkit mock VMM")
    parser.add_argument("--name", required=True)
    parser.add_argument("--mode", required=True)
    parser.add_argument("--memory", type=int, required=True, help="MiB")
    parser.add_argument("--ram-fd", type=int, required=True)
    parser.add_argument("--listen-fd", type=int, required=True)
    parser.add_argument("--soc-fd", type=int, required=True)
    options = parser.parse_args(arguments)
    ram = mmap.mmap(options.ram_fd, options.memory << 20)
    os.close(options.ram_fd)
    vmm = Vmm(ram, socket.socket(fileno=options.soc_fd))
    with contextlib.suppress(EOFError):
        serve(vmm, socket.socket(fileno=options.listen_fd))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
