"""``sevkit guest lint``: problems in the launch of guests, before or while they run."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from sevkit.cli.output import reporting
from sevkit.errors import ExitCode, UsageError
from sevkit.hypervisor.payload import LaunchLint
from sevkit.result import Result

if TYPE_CHECKING:
    from sevkit.hypervisor.lint.rules import Host


@click.command()
@click.argument("files", nargs=-1, metavar="[FILE]...")
@click.option("--pid", "pids", multiple=True, type=click.IntRange(1), help="A running QEMU; repeatable.")
@click.option("--log", metavar="FILE", help="Explain the errors in what QEMU or libvirt printed.")
@click.option("--cpu", metavar="FILE", help="Judge for the CPU of a CPUID dump or a saved host, not for this one.")
@reporting
def lint(files: tuple[str, ...], pids: tuple[int, ...], log: str | None, cpu: str | None) -> Result[LaunchLint]:
    """Report what will fail in a launch, what weakens its protection, and why two launches cannot be compared.

    FILE is a script with a command line of QEMU, libvirt's log of a guest, or a domain's XML (virsh dumpxml); '-' is
    standard input. Exit status: 0 nothing fails and nothing weakens, 1 something does.
    """
    from sevkit import textfile
    from sevkit.hypervisor.lint import answer

    if not files and not pids and log is None:
        raise UsageError("which launch?", hint="give a script, a domain's XML, --pid or --log")
    texts = [(name, textfile.text(data, name)) for data, name in map(textfile.read_bytes, files)]
    said = textfile.text(*textfile.read_bytes(log)) if log is not None else ""
    data = answer.lint(texts, pids, said, _host(cpu))
    bad = any(row["kind"] in ("fails", "weakens") for row in data["findings"]) or bool(data["errors_explained"])
    return Result("guest lint", data, ExitCode.NO if bad else ExitCode.DONE, human=_show)


def _host(cpu: str | None) -> "Host":
    from sevkit.hypervisor.lint.rules import Host
    from sevkit.probe.leaf import decode

    if cpu is not None:
        from sevkit.probe.sources import read_source

        registers = read_source(cpu).leaf
    else:
        from sevkit.probe.facts import live

        registers = live().leaf
    known = registers is not None and registers.eax & 2
    return Host(int(decode(registers)["c_bit_position"]) if known and registers else None)


def _show(data: LaunchLint) -> Iterator[str]:
    for launch in data["launches"]:
        yield f"{launch['origin']}: {launch['mode']}"
    for row in data["findings"]:
        yield f"{row['kind']}: {row['origin']}: {row['message']} ({row['rule']})"
        yield f"    {row['fix']}"
    for cause in data["errors_explained"]:
        yield f"line {cause['line']}: {cause['text']}"
        yield f"    {cause['means']}"
        yield f"    {cause['fix']}"
    if not data["findings"] and not data["errors_explained"]:
        yield "nothing to say"
