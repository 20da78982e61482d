"""What the commands of `sevkit guest` and `sevkit emulator` print as ``data``, as types."""

from typing import Any, NotRequired, TypedDict


class GuestRow(TypedDict):
    """A guest that runs."""

    name: str
    mode: str
    provenance: str
    accel: str
    pid: int
    image: str
    storage: str
    memory_mib: int
    vcpus: int
    confounds: list[str]
    notes: list[str]
    command_line: list[str]


class Chosen(TypedDict):
    """The hypervisor that was chosen, why, and why not the ones before it."""

    name: str
    reason: str
    passed_over: list[str]


class Launched(TypedDict):
    """Guests that came up."""

    guests: list[GuestRow]
    hypervisor: Chosen
    seconds: float


class LaunchPlan(TypedDict):
    """What a launch would run."""

    command_lines: list[list[str]]
    dry_run: bool
    hypervisor: str
    runs_here: bool
    reason: str
    domains: NotRequired[list[str]]  # with --emit libvirt-xml


class ListedGuest(TypedDict):
    """A guest in the list; one that is not detached ends with the process that launched it."""

    name: str
    mode: str
    provenance: str
    hypervisor: str
    accel: str
    pid: int
    detached: bool


class UnlistedGuest(TypedDict):
    """A guest that runs, or may run, without being in the registry of this user and state directory."""

    name: str
    pid: int | None
    user: str | None
    reason: str


class GuestList(TypedDict):
    """The guests that run, and what is known of others."""

    guests: list[ListedGuest]
    unlisted: list[UnlistedGuest]


class GuestGlance(TypedDict):
    """A running guest at a glance; ``pages`` counts its pages by what they look like to the host."""

    name: str
    mode: str
    provenance: str
    accel: str
    pid: int
    cpu_percent: float | None
    pages: dict[str, int] | None
    problem: str | None


class Glance(TypedDict):
    """All running guests at a glance, and what is known of others."""

    guests: list[GuestGlance]
    unlisted: list[UnlistedGuest]


class Stopped(TypedDict):
    """The guests that were stopped."""

    stopped: list[str]


class GuestEvidence(TypedDict):
    """What the guest itself sees of its protection."""

    sev_status_msr: int | None
    leaf_8000001f: list[int] | None
    kernel_log: list[str]
    cpuid_table_entries: int | None


class VerifyFinding(TypedDict):
    """Whether one source agrees with the mode that was asked for; None: it could not be read."""

    source: str
    agrees: bool | None
    seen: str


class Verified(TypedDict):
    """Which protection is active in a guest, and on what evidence. ``as_asked`` None: SEV_STATUS cannot be read."""

    guest: GuestRow
    active: list[str]
    as_asked: bool | None
    findings: list[VerifyFinding]
    evidence: GuestEvidence


class GuestCertificates(TypedDict):
    """The certificates of an emulated platform, and the files that hold them: ``vcek``, ``ask``, ``ark``."""

    guest: str
    provenance: str
    chip_id: str
    files: dict[str, str]


class Outputs(TypedDict):
    """The output of a command. ``…_base64`` has the bytes where they are no UTF-8: then ``…`` shows U+FFFD for some."""

    stdout: str
    stderr: str
    stdout_base64: NotRequired[str]
    stderr_base64: NotRequired[str]


class Executed(Outputs):
    """A command that ran in a guest."""

    status: int


class RanInGuest(Outputs):
    """A command that ran in a guest of its own."""

    mode: str
    hypervisor: str
    provenance: str
    status: int


class GuestState(TypedDict):
    """A guest that was suspended or resumed."""

    guest: str
    state: str


class Rebooted(TypedDict):
    """A guest that was launched again."""

    guest: GuestRow


class SavedGuest(TypedDict):
    """A guest that was saved to a file."""

    guest: str
    file: str
    bytes: int


class Copied(TypedDict):
    """What was copied."""

    guest: str
    guest_path: str
    host_path: str
    bytes: int


class GuestLog(TypedDict):
    """What a guest printed on its console."""

    console: str


class EmulatorStatus(TypedDict):
    """Whether the emulator is built, and of what."""

    built: bool
    binary: str | None
    modes: list[str]
    build: dict[str, Any] | None


class LintedLaunch(TypedDict):
    """A launch that was judged, and the mode that it is for."""

    origin: str
    mode: str


class LaunchLint(TypedDict):
    """What is wrong with launches: ``findings`` have rule, kind, origin, message and fix.

    ``errors_explained`` have line, text, means and fix. ``c_bit_position`` is the CPU's, None where it is not known.
    """

    launches: list[LintedLaunch]
    findings: list[dict[str, str]]
    errors_explained: list[dict[str, Any]]
    c_bit_position: int | None
