"""SEV-ES guests that are a firmware image of the tests' own (emulator/tests/bare): at ring 0, up in a moment."""

import re
import time
from dataclasses import dataclass
from pathlib import Path

from sevkit import processes

from .emulator_guest import FIRMWARE_FOLDERS, SOURCES

BARE = SOURCES / "bare"
_CFLAGS = (
    *("-O1", "-Wall", "-Werror", "-ffreestanding", "-fno-pic", "-fno-pie", "-mno-red-zone", "-mgeneral-regs-only"),
    *("-fno-stack-protector", "-fcf-protection=none", "-nostdlib", "-no-pie", "-static"),
    *("-Wl,--build-id=none", "-Wl,--no-warn-rwx-segments"),
)
_PORT = 0x402


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


@dataclass(frozen=True)
class Said:
    """What a bare guest printed, and what QEMU did: the VMM must have survived whatever the guest did."""

    text: str
    log: str
    vmm_lived: bool

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()


def run(binary: Path, image: Path, *, timeout: float = 120.0) -> Said:
    """Run an image until its line ``done``, or until it is silent for ``timeout`` seconds."""
    console = image.parent / f"console-{time.monotonic_ns()}"
    command = [
        *(str(binary), "-nodefaults", "-no-user-config", "-display", "none", "-vga", "none", "-m", "64", "-smp", "2"),
        *("-accel", "tcg", "-cpu", "max,monitor=off,la57=off", "-bios", str(image)),
        *("-machine", "q35,smm=off,vmport=off,confidential-guest-support=sev0"),
        *("-object", "sev-tcg-guest,id=sev0,policy=5,cbitpos=51,reduced-phys-bits=1"),
        *("-chardev", f"file,id=con,path={console}", "-device", f"isa-debugcon,iobase={_PORT},chardev=con"),
        *(word for folder in FIRMWARE_FOLDERS for word in ("-L", str(folder))),
    ]
    log = console.with_suffix(".log")
    with log.open("wb") as stream, processes.running(command, stdout=stream, stderr=stream) as process:
        deadline, size = time.monotonic() + timeout, 0
        while time.monotonic() < deadline and process.poll() is None:
            text = _text(console)
            if re.search(r"^done .*\n", text, re.MULTILINE):
                break
            if len(text) != size:
                deadline, size = time.monotonic() + timeout, len(text)
            time.sleep(0.05)
        lived = process.poll() is None
    return Said(_text(console), _text(log), lived)


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""
