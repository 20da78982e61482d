"""Where workloads run: the protocols, and what guests and the host have in common."""

import contextlib
import re
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sevkit.bench.campaign.plan import Config, Slot
from sevkit.bench.imports import parse
from sevkit.bench.imports.parse import Measured
from sevkit.bench.model import Boot, SlotId
from sevkit.bench.suite import Workload
from sevkit.errors import BadInputError, DeadlineError, GuestError, SevkitError
from sevkit.guest.result import CommandResult
from sevkit.vocabulary import Mode


@dataclass(frozen=True)
class Clock:
    """How a place tells the time: shell words that expand to seconds, a fraction and its unit, and their shell."""

    words: str
    shell: str = ""  # empty: the shell that the place has anyway

    @property
    def stamp(self) -> str:
        """The command that prints a time stamp."""
        return f"echo {_MARK} {self.words} >&2"

    def script(self, text: str) -> str:
        """A command that runs a script in the clock's shell."""
        return f"exec {self.shell} -c {shlex.quote(text)}" if self.shell else text


# All tell the time to a hundredth of a second or better; the first that works is used. bash needs no process for it:
# to start `date` takes 3 ms on hardware and 100 ms under TCG, and that is in each sample. The shell of a busybox guest
# has no fractions of a second.
CLOCKS = {
    "bash": Clock("${EPOCHREALTIME/[.,]/ } us", "bash"),
    "date": Clock("$(date +'%s %N ns')"),
    "adjtimex": Clock("$(adjtimex | awk '/time.tv_sec/{s=$NF} /time.tv_usec/{u=$NF} END{print s, u, \"us\"}')"),
    "uptime": Clock('$(awk \'{split($1,a,"."); print a[1], a[2] "0000", "us"}\' /proc/uptime)'),
}
_MARK = "sevkit-clock"
_STAMP = re.compile(rf"^{_MARK} (\d+) (\d+) (ns|us)$", re.MULTILINE)
_UNTIMED = 120.0
EMPTY_COMMANDS = 3
LONGEST_RAMP = 1.0  # seconds that fio runs before it measures; as long as it measures, where that is shorter
SCALE = 64  # times as much work as under TCG, where everything takes longer
_CLOCK_SLACK = 3.0  # seconds that a command may take on its way into a guest and back on a busy host


class UnsteadyBootError(GuestError):
    """A boot's state differs from its neighbours', such as another clock: the boot is repeated."""


class ClockError(GuestError):
    """A clock jumped during a sample: the sample is dropped and repeated."""


@dataclass(frozen=True)
class Launch:
    """A place's start: seconds until it answered, its phases, and the host memory it took, as far as known (bytes)."""

    seconds: float
    phases: Mapping[str, float]
    footprint: float | None = None


class Place(Protocol):
    """An environment in which workloads run: guests of one boot, the host, or the mock."""

    boot: Boot
    launch: Launch | None

    def lacks(self, workload: Workload) -> str | None:
        """Why the workload cannot run here, or None."""
        ...

    def prepare(self, workload: Workload, slot: Slot, seconds: float) -> None:
        """Prepare a workload, once before its samples."""
        ...

    def measure(self, workload: Workload, slot: Slot, iteration: int) -> list[Measured]:
        """Take one sample of each guest of the place; raises SevkitError when the workload fails."""
        ...

    def others(self) -> tuple[float, float] | None:
        """The CPU time of other programs since the last call, and how long ago that was, both in seconds; or None.

        Asked before and after each sample, never within one.
        """
        ...

    def finish(self, workload: Workload) -> None:
        """End what the workload started; never raises."""
        ...

    def alive(self) -> bool:
        """Whether the place can still be measured."""
        ...

    def close(self) -> None:
        """End it."""
        ...


class Executor(Protocol):
    """Something that opens places."""

    name: str

    @property
    def emulated(self) -> bool:
        """Whether guests run without KVM, and so take longer."""
        ...

    def modes(self, wanted: Sequence[Mode]) -> tuple[list[Mode], dict[str, str]]:
        """The modes that can run, and the reasons for the others."""
        ...

    def tried(self) -> bool | None:
        """Whether guests run with KVM; None if nobody has tried it since this machine booted."""
        ...

    def settle(self) -> None:
        """Find out whether guests run with KVM, by booting a small one if nobody has tried."""
        ...

    def ready(self, configs: Sequence[Config]) -> None:
        """Build what boots need, so that no boot is slowed by it."""
        ...

    def open(self, slot: Slot, identity: SlotId, *, steady: bool) -> Place:
        """Boot what a slot needs; raises SevkitError; with ``steady``, UnsteadyBootError for a boot to be repeated."""
        ...

    def environment(self) -> dict[str, Any]:
        """The environment that all boots share: the host and its programs."""
        ...


class Shell(Protocol):
    """Runs shell commands."""

    def __call__(self, command: str, timeout: float) -> CommandResult:
        """Run a command; raises SevkitError when it cannot be run."""
        ...


def find_clock(shell: Shell) -> Clock:
    """The best clock of a place; raises GuestError when it has none."""
    for clock in CLOCKS.values():
        result = shell(clock.script(f"echo {clock.words}"), 10)
        words = result.text.split()
        if result.status == 0 and len(words) == 3 and words[0].isdigit() and words[1].isdigit():
            return clock
    raise GuestError("no clock was found that tells fractions of a second")


def variables(slot: Slot, *, disk: str, work: str, seconds: float, scale: int) -> str:
    """The shell words that set the variables of commands.

    ``scale`` multiplies the work of short commands: on hardware, the start of a shell (3 ms) was a tenth of the time
    of some commands.
    """
    values = {
        "DISK": disk,
        "WORK": work,
        "VCPUS": str(slot.config.vcpus),
        "MEMORY_MIB": str(slot.config.memory_mib),
        # In milliseconds: fio reads 0.5 as 0, which is no limit at all.
        "SECONDS_EACH": f"{round(seconds * 1000)}ms",
        "RAMP_EACH": f"{round(min(seconds, LONGEST_RAMP) * 1000)}ms",
        "SCALE": str(scale),
    }
    return "export " + " ".join(f"{key}={shlex.quote(value)}" for key, value in values.items()) + "; "


def command_seconds(shell: Shell, clock: Clock) -> float:
    """The duration of a command that does nothing: the overhead in each timed sample."""
    times = []
    for _ in range(EMPTY_COMMANDS):
        result = shell(clock.script(f"{clock.stamp}; (\n:\n); {clock.stamp}"), 20)
        times.append(_between(result.stderr.decode(errors="replace"), "an empty command"))
    return max(0.0, sorted(times)[1])


def run_untimed(shell: Shell, setup: str, what: str, command: str, timeout: float = 0.0) -> None:
    """Run a command that prepares something, two minutes at least; raises GuestError with its output if it fails."""
    result = _ended(shell, setup + command, max(timeout, _UNTIMED), what)
    if result.status != 0:
        raise GuestError(f"{what} failed with status {result.status}", detail=_words(result))


def run_after(shell: Shell, setup: str, workload: Workload) -> None:
    """End what a workload started, whether or not it still runs."""
    if workload.after:
        with contextlib.suppress(SevkitError):
            shell(setup + workload.after, _UNTIMED)


def run_timed(shell: Shell, clock: Clock, setup: str, workload: Workload) -> Measured:
    """Run a workload between two readings of the place's own clock.

    The host's monotonic clock is read as well: if the guest's clock jumps, the two durations differ.
    """
    script = f"{setup}{clock.stamp}; (\n{workload.command}\n); status=$?; {clock.stamp}; exit $status"
    started = time.monotonic()
    result = _ended(shell, clock.script(script), workload.timeout, f"a sample of {workload.name}")
    host_seconds = time.monotonic() - started
    if result.status != 0:
        raise GuestError(f"{workload.name} failed with status {result.status}", detail=_words(result))
    seconds = _between(result.stderr.decode(errors="replace"), workload.name)
    if abs(host_seconds - seconds) > max(_CLOCK_SLACK, 0.5 * host_seconds):
        raise ClockError(
            f"{workload.name}: the clocks disagree: {seconds:.2f} s by its own, {host_seconds:.2f} s by the host's",
            hint="a clock jumped; the sample is not used",
        )
    values = parse.read(workload, result.stdout, seconds)
    return Measured(tuple(values), seconds, result.stdout, host_seconds)


def _ended(shell: Shell, command: str, timeout: float, what: str) -> CommandResult:
    """Run a command; a limit that ends it is told with the workload's name, not with shell words."""
    try:
        return shell(command, timeout)
    except DeadlineError as error:
        told = f"{what} did not end within {timeout:g} s; --timeout gives it longer"
        raise DeadlineError(told, detail=error.detail) from error


def _between(errors: str, name: str) -> float:
    stamps = _STAMP.findall(errors)
    if len(stamps) != 2:
        raise BadInputError(f"{name}: no time stamps came back", detail=errors[-300:])
    first, last = (int(s) + int(f) / (1e9 if unit == "ns" else 1e6) for s, f, unit in stamps)
    return last - first


def _words(result: CommandResult) -> str:
    text = result.stderr.decode(errors="replace") or result.text
    return "\n".join(line for line in text.strip().splitlines() if not line.startswith(_MARK))[-1500:]
