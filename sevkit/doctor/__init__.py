"""Report what works here as this user, and what is missing for the rest: every need is tried, not guessed."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass

from sevkit.doctor import looks
from sevkit.doctor.payload import AbilityRow, Examination, NeedRow


@dataclass(frozen=True)
class Need:
    """Something that commands need. ``look`` tries it."""

    name: str
    what: str
    look: Callable[[], looks.Found]


@dataclass(frozen=True)
class Ability:
    """Something that a user may want to do, and its needs. ``core``: without it sevkit is useless."""

    what: str
    command: str
    needs: tuple[str, ...]
    core: bool = False


NEEDS = (
    Need("python", "Python 3.11 or newer", looks.python),
    Need("directories", "state and cache directories that only this user can write", looks.directories),
    Need("temporary", "a disk for cores: files without a name, and room", looks.temporary),
    Need("memory", "reading the memory of a process of this user (process_vm_readv)", looks.read_memory),
    Need("search", "the compiled search for literals", looks.search),
    Need("ptrace", "attaching to a process of this user (ptrace)", looks.attach),
    Need("gdb", "gdb, whose gcore the published experiment uses", looks.gdb),
    Need("qemu", "QEMU for x86_64 guests", looks.qemu),
    Need("image", "a guest image: built, or apt and dpkg-deb to build it from packages", looks.image),
    Need("ssh", "ssh and ssh-keygen, for what the VMM must not see in clear", looks.ssh),
    Need("ovmf", "OVMF, the firmware of encrypted guests", looks.ovmf),
    Need("emulator", "the memory-encrypting QEMU", looks.emulator),
    Need("emulator-snp", "SEV-ES and SEV-SNP in the memory-encrypting QEMU", looks.emulator_snp),
    Need("snp-firmware", "the OVMF that SEV-SNP guests boot with", looks.snp_firmware),
    Need("compiler", "a C compiler, to build the emulator and the fast memory search", looks.compiler),
    Need("kvm", "KVM that runs guests", looks.kvm),
    Need("sev", "the SEV firmware driver (/dev/sev)", looks.sev),
    Need("snp", "an SEV-SNP object in QEMU", looks.snp),
    Need("cpuid", "CPUID of every CPU (/dev/cpu/N/cpuid)", looks.cpuid),
    Need("msr", "model-specific registers (/dev/cpu/N/msr)", looks.msr),
    Need("dmesg", "the kernel's log", looks.kernel_log),
    Need("memfd_secret", "memory that no dump shows (memfd_secret)", looks.memfd_secret),
    Need("memlock", "locking memory, as pinned encrypted guests need it", looks.memlock),
    Need("engine", "a container engine's socket", looks.engine),
)

ABILITIES = (
    Ability("probe this host", "sevkit probe", ("python",), core=True),
    Ability("probe this host with every fact", "sevkit probe", ("python", "cpuid", "msr", "dmesg")),
    Ability(
        "the leak experiment in the software model",
        "sevkit attack run leak --hypervisor mock --capture live",
        ("python", "directories", "memory"),
        core=True,
    ),
    Ability(
        "the same with gcore, as published",
        "sevkit attack run leak --hypervisor mock",
        ("python", "directories", "temporary", "ptrace", "gdb"),
    ),
    Ability("search the memory of processes", "sevkit scan --pid", ("python", "memory"), core=True),
    Ability("the same at the speed of memory", "sevkit scan --pid", ("python", "memory", "search")),
    Ability("hold a process while it is read", "sevkit scan --pid --hold", ("python", "memory", "ptrace")),
    Ability(
        "plain guests in QEMU", "sevkit guest launch --hypervisor qemu", ("python", "directories", "qemu", "image")
    ),
    Ability("commands in guests that the VMM does not see", "sevkit guest exec --private", ("qemu", "image", "ssh")),
    Ability("plain guests at full speed", "sevkit guest launch --accel kvm", ("qemu", "image", "kvm")),
    Ability(
        "the leak experiment on real guests, emulated",
        "sevkit attack run leak --modes nosev,sev",
        ("directories", "temporary", "ptrace", "gdb", "image", "ovmf", "emulator"),
    ),
    Ability(
        "emulated SEV-ES guests",
        "sevkit guest launch --hypervisor emulated --mode sev-es",
        ("directories", "image", "ovmf", "emulator", "emulator-snp"),
    ),
    Ability(
        "emulated SEV-SNP guests",
        "sevkit guest launch --hypervisor emulated --mode sev-snp",
        ("directories", "image", "snp-firmware", "emulator", "emulator-snp"),
    ),
    Ability("keys that no dump shows, in the emulator", "sevkit attack run leak", ("memfd_secret",)),
    Ability("build the emulator", "make emulator", ("python", "compiler")),
    Ability(
        "SEV and SEV-ES guests on hardware",
        "sevkit guest launch --mode sev",
        ("qemu", "image", "ovmf", "kvm", "sev", "memlock"),
    ),
    Ability(
        "SEV-SNP guests on hardware",
        "sevkit guest launch --mode sev-snp",
        ("qemu", "image", "snp-firmware", "kvm", "sev", "snp", "memlock"),
    ),
    Ability("sevkit in a container", "sevkit container run", ("python", "engine")),
)


def examine() -> Examination:
    """Try every need; returns the outcome as JSON values."""
    found = {need.name: _tried(need) for need in NEEDS}
    needs: list[NeedRow] = [
        {
            "name": need.name,
            "what": need.what,
            "works": found[need.name].works,
            "found": found[need.name].words,
            "hint": found[need.name].hint,
            "needed_for": [ability.what for ability in ABILITIES if need.name in ability.needs],
        }
        for need in NEEDS
    ]
    abilities: list[AbilityRow] = [
        {
            "what": ability.what,
            "command": ability.command,
            "core": ability.core,
            "works": all(found[name].works for name in ability.needs),
            "missing": [name for name in ability.needs if not found[name].works],
        }
        for ability in ABILITIES
    ]
    return {
        "user": {"uid": os.geteuid(), "root": os.geteuid() == 0, "container": looks.in_container()},
        "python": sys.version.split()[0],
        "core_works": all(ability["works"] for ability in abilities if ability["core"]),
        "abilities": abilities,
        "needs": needs,
    }


def _tried(need: Need) -> looks.Found:
    from sevkit.errors import SevkitError

    try:
        return need.look()
    except SevkitError as error:
        return looks.Found(False, error.message, error.hint)
    except OSError as error:
        return looks.Found(False, f"{error.strerror}: {error.filename}" if error.filename else str(error))
