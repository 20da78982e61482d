"""The test of each need: the smallest real use that shows that it works."""

import ctypes
import os
import resource
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sevkit import processes
from sevkit.errors import SevkitError

_MEMFD_SECRET = 447  # memfd_secret(2), the same number on every architecture that has it
_KVM_CREATE_VM = 0xAE01  # linux/kvm.h
_ROOM = 4 << 30  # bytes that a core of a 2 GiB guest and its VMM need


@dataclass(frozen=True)
class Found:
    """Whether a need is met, what was seen, and what to do if it is not."""

    works: bool
    words: str
    hint: str | None = None


def in_container() -> bool:
    """Whether this seems to be a container."""
    return Path("/.dockerenv").exists() or Path("/run/.containerenv").exists()


def python() -> Found:
    """The Python version that runs this."""
    return Found(sys.version_info >= (3, 11), sys.version.split()[0], "install Python 3.11 or newer")


def directories() -> Found:
    """Create sevkit's directories; the functions that create them check the owner."""
    from sevkit.paths import cache_dir, state_dir

    state, cache = state_dir("guests"), cache_dir()
    if not os.access(state, os.W_OK | os.X_OK):
        return Found(False, f"{state} cannot be written", "point SEVKIT_STATE_DIR elsewhere")
    if not os.access(cache, os.W_OK | os.X_OK):
        return Found(True, f"{state.parent}; {cache} is read-only: nothing new can be built into it")
    return Found(True, f"{state.parent}, {cache}")


def temporary() -> Found:
    """Create a file without a name in the temporary directory, and check the free space."""
    place = tempfile.gettempdir()
    free = shutil.disk_usage(place).free
    hint = (
        "point TMPDIR at a larger disk that has files without a name (ext4, xfs, btrfs, tmpfs), or use --capture live"
    )
    try:
        os.close(os.open(place, os.O_TMPFILE | os.O_RDWR, 0o600))
    except OSError as error:
        return Found(False, f"{place}: {error.strerror}: a core would have a name while it is written", hint)
    return Found(free >= _ROOM, f"{free >> 30} GiB free in {place}", hint)


@contextmanager
def _patient() -> Iterator[int]:
    """A child process that waits, as a target of this user for the tests."""
    with processes.running(["sleep", "60"]) as child:
        yield child.pid


def read_memory() -> Found:
    """Read a page of a child."""
    from sevkit.memory.sources.base import State
    from sevkit.memory.sources.process import LiveMemory

    with _patient() as pid, LiveMemory(pid) as memory:
        first = next(part for part in memory.stretches() if part.state is State.DATA)
        got = len(memory.read(first.start, 16))
    return Found(got == 16, "read a child's memory" if got else "a child's memory reads as empty", _ptrace_hint())


def attach() -> Found:
    """Stop a child as a debugger does, and let it continue."""
    from sevkit.memory.sources.hold import Held

    with _patient() as pid:
        Held(pid).release()
    scope = _yama()
    if scope and os.geteuid() != 0:
        return Found(True, f"children only (yama.ptrace_scope is {scope}): detached guests need root")
    return Found(True, "attached to a child")


def _yama() -> int:
    try:
        return int(Path("/proc/sys/kernel/yama/ptrace_scope").read_text())
    except (OSError, ValueError):
        return 0


def _ptrace_hint() -> str:
    from sevkit.procfs import ptrace_hint

    return ptrace_hint(os.getpid())


def gdb() -> Found:
    """Ask it for its version."""
    done = processes.run([processes.find_tool("gdb"), "--nx", "--batch", "-ex", "show version"], timeout=20)
    return Found(done.status == 0, done.text.split("\n")[0], "apt-get install gdb")


def qemu() -> Found:
    """Ask it what it has."""
    from sevkit.qemu import capabilities

    able = capabilities.of_binary(capabilities.find_qemu())
    return Found(True, f"{able.binary} {able.version}")


def image() -> Found:
    """A built image is enough; otherwise test what the build needs."""
    from sevkit.guest import debian
    from sevkit.guest import image as images

    if images.is_built("mini"):
        return Found(True, "built")
    for name in ("apt-get", "dpkg-deb"):
        processes.find_tool(name, package="apt dpkg")
    return Found(True, f"can be built from {debian.kernel_packages()[0]}")


def ssh() -> Found:
    """Both programs."""
    processes.find_tool("ssh-keygen", package="openssh-client")
    return Found(True, processes.find_tool("ssh", package="openssh-client"))


def ovmf() -> Found:
    """A firmware file in a directory where distributions install it."""
    from sevkit.guest import firmware
    from sevkit.vocabulary import Mode

    return Found(True, str(firmware.find(Mode.SEV)))


def snp_firmware() -> Found:
    """The pinned file in the cache, or apt's transport to fetch it."""
    from sevkit.guest import firmware
    from sevkit.vocabulary import Mode

    path = firmware.find(Mode.SEV_SNP, emulated=True, fetch=False)
    if path.exists():
        return Found(True, str(path))
    processes.find_tool("apt-get", package="apt")
    return Found(True, f"can be fetched from Debian's {firmware.SNP_PINS[0].package.rpartition('/')[2]}")


def emulator() -> Found:
    """Ask it what it has."""
    from sevkit.hypervisor.qemu import emulated
    from sevkit.qemu import capabilities

    path = emulated.find()
    if path is None:
        return Found(False, "not built", "make emulator")
    able = capabilities.of_binary(str(path))
    modes = ", ".join(able.emulated_modes) or "no mode"
    return Found(able.emulates_sev, f"{path} {able.version}, runs {modes}", "make emulator")


def emulator_snp() -> Found:
    """Ask it for its objects."""
    from sevkit.hypervisor.qemu import emulated
    from sevkit.qemu import capabilities
    from sevkit.vocabulary import Mode

    path = emulated.find()
    if path is None:
        return Found(False, "not built", "make emulator")
    able = capabilities.of_binary(str(path))
    works = Mode.SEV_SNP in able.emulated_modes
    return Found(works, f"{path}" if works else f"{path} is an older build", "make emulator")


def search() -> Found:
    """find.c, compiled when sevkit was installed."""
    from sevkit.memory.search import native

    why, hint = native.missing()
    return Found(
        native.built, f"{why}: Python's own engine searches, many times slower" if why else "built", hint or None
    )


def compiler() -> Found:
    """Any C compiler."""
    return Found(True, processes.find_tool("cc", package="gcc libc6-dev"))


def kvm() -> Found:
    """Create a VM, and check the record of guests that ran under KVM: on some hosts only the first works."""
    import fcntl

    from sevkit.errors import MissingToolError
    from sevkit.qemu import capabilities

    try:
        descriptor = os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return Found(False, "/dev/kvm does not exist", "enable virtualisation in the firmware; modprobe kvm_amd")
    except PermissionError:
        return Found(False, "/dev/kvm may not be opened", "add this user to the group of /dev/kvm (usermod -aG kvm)")
    try:
        os.close(fcntl.ioctl(descriptor, _KVM_CREATE_VM, 0))
    finally:
        os.close(descriptor)
    try:
        tried = capabilities.kvm_verdict(capabilities.find_qemu())
    except (MissingToolError, OSError):
        tried = None
    if tried is False:
        return Found(False, "VMs can be made, but no guest has run in one", "is this nested virtualisation?")
    return Found(True, "a guest has run" if tried else "a VM can be made; no guest has been tried yet")


def sev() -> Found:
    """Open the device."""
    try:
        os.close(os.open("/dev/sev", os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        return Found(False, "/dev/sev does not exist", "`sevkit probe` says what is missing, from the CPU up")
    except PermissionError:
        return Found(False, "/dev/sev may not be opened", "run as root, or change the group of /dev/sev by a udev rule")
    return Found(True, "/dev/sev opens")


def snp() -> Found:
    """QEMU's object for SEV-SNP guests."""
    from sevkit.qemu import capabilities

    able = capabilities.of_binary(capabilities.find_qemu())
    return Found("sev-snp-guest" in able.objects, f"QEMU {able.version}", "QEMU 9.1 or later has sev-snp-guest")


def cpuid() -> Found:
    """Read leaf 0."""
    return _device("cpuid", 16, 0)


def msr() -> Found:
    """Read SYSCFG, which every AMD processor has."""
    return _device("msr", 8, 0xC0010010)


def _device(name: str, size: int, offset: int) -> Found:
    path = f"/dev/cpu/0/{name}"
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return Found(False, f"{path} does not exist", f"modprobe {name} (in a container: pass the device)")
    except OSError as error:
        return Found(False, f"{path}: {error.strerror}", "run as root")
    try:
        return Found(len(os.pread(descriptor, size, offset)) == size, f"{path} answers", "run as root")
    finally:
        os.close(descriptor)


def kernel_log() -> Found:
    """Open it."""
    try:
        os.close(os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError as error:
        return Found(False, f"/dev/kmsg: {error.strerror}", "run as root, or pass a log: sevkit probe --log FILE")
    return Found(True, "/dev/kmsg opens")


def memfd_secret() -> Found:
    """Make one."""
    descriptor = ctypes.CDLL(None, use_errno=True).syscall(_MEMFD_SECRET, 0)
    if descriptor < 0:
        words = os.strerror(ctypes.get_errno())
        return Found(False, words, "boot with secretmem.enable=1 (Linux 5.14 and later)")
    os.close(descriptor)
    return Found(True, "can be made")


def memlock() -> Found:
    """The limit, which does not bind root."""
    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    words = "unlimited" if limit == resource.RLIM_INFINITY else f"{limit >> 20} MiB"
    enough = limit == resource.RLIM_INFINITY or limit >= 512 << 20 or os.geteuid() == 0
    return Found(enough, words, "raise `ulimit -l` above the memory of the guests")


def engine() -> Found:
    """Ask the engine for its version."""
    from sevkit.container.engine import find

    try:
        with find() as client:
            return Found(True, f"{client.where}: {client.version}")
    except SevkitError as error:
        return Found(False, error.message, error.hint)
