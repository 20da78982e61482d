"""SEV-ES guests that are a firmware image of the tests' own (emulator/tests/bare): at ring 0, up in a moment."""

import re
import time
from pathlib import Path

from sevkit import processes

from .emulator_guest import SOURCES
from .snp_machine import Machine

BARE = SOURCES / "bare"
_CFLAGS = (
    *("-O1", "-Wall", "-Werror", "-ffreestanding", "-fno-pic", "-fno-pie", "-mno-red-zone", "-mgeneral-regs-only"),
    *("-fno-stack-protector", "-fcf-protection=none", "-nostdlib", "-no-pie", "-static"),
    *("-Wl,--build-id=none", "-Wl,--no-warn-rwx-segments"),
)


def build(program: str, folder: Path, *defines: str) -> Path:
    """The image of a SEV-ES program of emulator/tests/bare."""
    elf, binary, image = folder / f"{program}.elf", folder / "program.bin", folder / f"{program}.fd"
    sources = [str(BARE / f"{program}.c"), str(BARE / "machine.c")]
    defined = [f"-D{each}" for each in defines]
    _run("gcc", *_CFLAGS, *defined, f"-Wl,-T,{BARE}/program.ld", "-o", str(elf), *sources)
    _run("objcopy", "-O", "binary", "-j", ".program", str(elf), str(binary))
    _run("gcc", "-c", f"-Wa,-I{folder}", "-o", str(folder / "start.o"), str(BARE / "start.S"))
    _run("ld", "-T", str(BARE / "image.ld"), "-o", str(folder / "image.elf"), str(folder / "start.o"))
    _run("objcopy", "-O", "binary", "-j", ".image", str(folder / "image.elf"), str(image))
    assert image.stat().st_size == 1 << 16
    return image


def _run(*command: str) -> None:
    done = processes.run([processes.find_tool(command[0]), *command[1:]], timeout=120)
    assert done.status == 0, f"{command}\n{done.error_text}"


class BareGuest(Machine):
    """A SEV-ES machine with two vCPUs and a bare program's image for firmware."""

    def __init__(self, binary: Path, image: Path, *, options: str = "", extra: tuple[str, ...] = ()) -> None:
        home = image.parent / f"run-{time.monotonic_ns()}"
        options = f",policy=5,cbitpos=51,reduced-phys-bits=1{options}"
        super().__init__(binary, image, home, kind="sev-tcg-guest", options=options, vcpus=2, extra=extra)

    def lines(self) -> list[str]:
        """What the program has printed."""
        return self.out().splitlines()

    def wait_done(self, *, silence: float = 120.0) -> bool:
        """Wait for the line ``done``, until the guest is silent for so many seconds; whether the VMM is still there."""
        deadline, size = time.monotonic() + silence, 0
        while time.monotonic() < deadline and self.process.poll() is None:
            text = self.out()
            if re.search(r"^done .*\n", text, re.MULTILINE):
                break
            if len(text) != size:
                deadline, size = time.monotonic() + silence, len(text)
            time.sleep(0.05)
        return self.process.poll() is None
