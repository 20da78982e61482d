"""The options that describe a guest, shared by every command that launches one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from sevkit.cli.refuse import given
from sevkit.cli.sizes import SIZE
from sevkit.errors import UsageError
from sevkit.guest import media, policy
from sevkit.guest.spec import Accel, Firmware, GuestSpec, Storage, StorageKind
from sevkit.vocabulary import Mode

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
HYPERVISORS = ("auto", "qemu", "emulated", "mock")

_OPTIONS = [
    click.option(
        "--image",
        default="mini",
        show_default=True,
        help="mini, bench, with a kernel series as in mini-6.12; or a cloud image's path.",
    ),
    click.option("--memory", "memory_mib", type=SIZE, default="512M", show_default=True, help="Guest RAM: 512M, 16G."),
    click.option("--vcpus", default=1, show_default=True, help="Number of virtual CPUs."),
    click.option("--accel", type=click.Choice(list(map(str, Accel))), default="auto", show_default=True),
    click.option("--cpu", help="QEMU CPU model; the default is the same for all modes."),
    click.option(
        "--firmware",
        type=click.Choice(list(map(str, Firmware))),
        help="Default: seabios for nosev, ovmf otherwise; ovmf-snp is SEV-SNP's build for any mode.",
    ),
    click.option("--machine", "qemu_machine", default="", metavar="OPTS", help="More -machine options for QEMU."),
    click.option("--cmdline", "--append", "cmdline", default="", help="Added to the kernel's command line."),
    click.option("--kernel", type=_FILE, help="A kernel of your own: bzImage, virtio built in."),
    click.option("--initrd", type=_FILE, help="An initrd of your own; there is no agent in it: see `guest console`."),
    click.option("--policy", "policy_text", help="Launch policy: a number, or names such as nodbg,noks."),
    click.option("--sev-options", default="", metavar="OPTS", help="More options for QEMU's encryption object."),
    click.option(
        "--platform-seed", default="", metavar="TEXT", help="Keys of the emulated SNP platform: same text, same keys."
    ),
    click.option("--kernel-hashes", is_flag=True, help="Measure kernel, initrd and command line at launch."),
]

_STORAGE_OPTIONS = [
    click.option("--storage", type=click.Choice(list(map(str, StorageKind))), default="none", show_default=True),
    click.option(
        "--disk",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="Image of the disk. Default: scratch.",
    ),
    click.option("--disk-size", type=SIZE, default="256M", show_default=True, help="Size of a scratch disk: 256M, 4G."),
    click.option("--cache", default="none", show_default=True, help="QEMU cache mode of the disk."),
    click.option("--aio", default="threads", show_default=True, type=click.Choice(["threads", "native", "io_uring"])),
    click.option("--iothread", is_flag=True, help="Serve the disk from a thread of its own."),
    click.option("--queues", type=click.IntRange(min=1), help="Number of I/O queues."),
]


_MEDIA_OPTIONS = [
    click.option("--cdrom", type=_FILE, help="Boot this ISO image (no agent: see `guest console`)."),
    click.option(
        "--share",
        "shares",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        multiple=True,
        help="Copy a folder into the guest, read-only, at /mnt/NAME. The host can read it.",
    ),
    click.option(
        "-p",
        "--publish",
        "ports",
        metavar="HOST:GUEST",
        multiple=True,
        help="Forward a port of 127.0.0.1 to the guest.",
    ),
    click.option("--outgoing", is_flag=True, help="Let the guest reach other machines."),
    click.option("--ssh-key", "ssh_keys", type=_FILE, multiple=True, help="A public key that may log in as root."),
]


def media_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that connect a guest with this host: media, folders, ports, keys."""
    for option in reversed(_MEDIA_OPTIONS):
        function = option(function)
    return function


def guest_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that describe a guest, but for its mode, name and disk."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def storage_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that describe a guest's disk."""
    for option in reversed(_STORAGE_OPTIONS):
        function = option(function)
    return function


def hypervisor_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--hypervisor``, where a result says its provenance."""
    return _hypervisor("auto: hardware, else the emulator, else the mock.")(function)


def real_hypervisor_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--hypervisor`` for commands that give the user a guest."""
    return _hypervisor("auto: hardware, else the emulator; the mock only by name.")(function)


def _hypervisor(words: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return click.option("--hypervisor", type=click.Choice(HYPERVISORS), default="auto", show_default=True, help=words)


def refuse_idle(mode: Mode, options: dict[str, Any]) -> None:
    """Raise UsageError for options without effect: on a disk that the guest does not have, on what is not measured."""
    names = {each.name for each in given(click.get_current_context())}
    of_disk = [name for name in ("disk", "disk_size", "cache", "aio", "iothread", "queues") if name in names]
    if options["storage"] == StorageKind.NONE and of_disk:
        option = f"--{of_disk[0].replace('_', '-')}"
        kinds = ", ".join(kind for kind in StorageKind if kind is not StorageKind.NONE)
        raise UsageError(f"{option} has no effect without --storage", hint=f"--storage is one of {kinds}")
    if options["disk"] is not None and "disk_size" in names:
        raise UsageError("--disk-size is for a scratch disk, not for --disk")
    if mode is Mode.NOSEV and options["kernel_hashes"]:
        raise UsageError("--kernel-hashes has no effect in mode nosev", hint="nothing is measured there")


def make_spec(name: str, mode: Mode, options: dict[str, Any]) -> GuestSpec:
    """The spec that the options describe; raises UsageError for what makes no sense together."""
    text = options["policy_text"]
    storage = Storage(
        kind=StorageKind(options.get("storage", "none")),
        path=options["disk"].resolve() if options.get("disk") else None,
        size_mib=options.get("disk_size", 256),
        cache=options.get("cache", "none"),
        aio=options.get("aio", "threads"),
        iothread=options.get("iothread", False),
        queues=options.get("queues"),
    )
    firmware = options["firmware"]
    return GuestSpec(
        name=name,
        mode=mode,
        image=options["image"],
        memory_mib=options["memory_mib"],
        vcpus=options["vcpus"],
        accel=Accel(options["accel"]),
        cpu=options["cpu"],
        firmware=Firmware(firmware) if firmware else None,
        storage=storage,
        policy=policy.parse(text, mode) if text else None,
        kernel_hashes=options["kernel_hashes"],
        cmdline=options["cmdline"],
        qemu_machine=options["qemu_machine"],
        kernel=_resolved(options.get("kernel")),
        initrd=_resolved(options.get("initrd")),
        cdrom=_resolved(options.get("cdrom")),
        shares=tuple(path.resolve() for path in options.get("shares", ())),
        ports=tuple(map(_ports, options.get("ports", ()))),
        outgoing=options.get("outgoing", False),
        ssh_keys=tuple(map(media.public_key, options.get("ssh_keys", ()))),
        sev_options=options["sev_options"],
        platform_seed=options["platform_seed"],
    )


def _resolved(path: Path | None) -> Path | None:
    return None if path is None else path.resolve()


def _ports(text: str) -> tuple[int, int]:
    host, _, guest = text.partition(":")
    if not (host.isascii() and host.isdecimal() and guest.isascii() and guest.isdecimal()):
        raise UsageError(f"{text!r} is not HOST:GUEST", hint="such as -p 8080:80")
    return int(host), int(guest)
