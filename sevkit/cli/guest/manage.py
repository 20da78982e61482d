"""``sevkit guest list``, ``verify`` and ``stop``."""

from dataclasses import asdict
from typing import Any

import click

from sevkit.cli.guest.launch import describe
from sevkit.cli.output import finish, json_option
from sevkit.errors import ExitCode, SevkitError, UsageError
from sevkit.result import Result


@click.command("list")
@json_option
def list_guests(as_json: bool) -> None:
    """List the guests that run, whoever of this user's processes launched them."""
    from sevkit.hypervisor import registry

    records = registry.running()
    guests = [
        {
            "name": record.name,
            "mode": record.mode,
            "provenance": record.provenance,
            "hypervisor": record.hypervisor,
            "accel": record.accel,
            "pid": record.pid,
            "detached": record.detached,
        }
        for record in records
    ]
    finish(Result("guest list", {"guests": guests}), as_json=as_json, human=_show_list)


def _show_list(data: dict[str, Any]) -> None:
    if not data["guests"]:
        click.echo("no guests are running")
        return
    click.echo(f"{'NAME':<20} {'MODE':<8} {'PROVENANCE':<10} {'HYPERVISOR':<10} {'ACCEL':<6} {'PID':>8}")
    for g in data["guests"]:
        line = (
            f"{g['name']:<20} {g['mode']:<8} {g['provenance']:<10} {g['hypervisor']:<10} {g['accel']:<6} {g['pid']:>8}"
        )
        click.echo(line + ("" if g["detached"] else "  (dies with its owner)"))


@click.command()
@click.argument("names", nargs=-1, metavar="NAME...")
@click.option("--all", "everything", is_flag=True, help="Stop every guest.")
@json_option
def stop(names: tuple[str, ...], everything: bool, as_json: bool) -> None:
    """Stop guests and remove what belongs to them."""
    from sevkit.hypervisor import registry, select

    if everything == bool(names):
        raise UsageError("which guests?", hint="name them, or give --all")
    stopped: list[str] = []
    errors: list[SevkitError] = []
    for name in [record.name for record in registry.running()] if everything else names:
        try:
            select.attach(name).stop()
            stopped.append(name)
        except SevkitError as error:
            errors.append(error)
    code = errors[0].exit_code if errors else ExitCode.DONE
    result = Result("guest stop", {"stopped": stopped}, code, errors)
    finish(
        result, as_json=as_json, human=lambda data: click.echo("\n".join(f"stopped {name}" for name in data["stopped"]))
    )


@click.command()
@click.argument("name")
@json_option
def verify(name: str, as_json: bool) -> None:
    """Show which protection the guest itself sees, and on what evidence.

    Exits 1 when a source contradicts what was asked for, 3 when the one that counts, SEV_STATUS, cannot be read.
    """
    from sevkit.guest import verify as verifier
    from sevkit.hypervisor import select

    guest = select.attach(name)
    facts = verifier.collect(guest)
    findings = verifier.judge(facts, guest.spec.mode)
    agrees = None if findings[0].agrees is None else all(finding.agrees is not False for finding in findings)
    data = {
        "guest": describe(guest),
        "active": facts.active,
        "as_asked": agrees,
        "findings": [asdict(finding) for finding in findings],
        "evidence": {
            "sev_status_msr": facts.sev_status,
            "leaf_8000001f": facts.leaf,
            "kernel_log": facts.log_lines,
            "cpuid_table_entries": facts.cpuid_entries,
        },
    }
    code = {True: ExitCode.DONE, False: ExitCode.NO, None: ExitCode.INCONCLUSIVE}[agrees]
    finish(Result("guest verify", data, code), as_json=as_json, human=_show_verify)


def _show_verify(data: dict[str, Any]) -> None:
    guest, evidence = data["guest"], data["evidence"]
    active = ", ".join(data["active"]) or "none"
    click.echo(f"{guest['name']}: asked for {guest['mode']}, active in the guest: {active} [{guest['provenance']}]")
    msr = evidence["sev_status_msr"]
    click.echo(f"  SEV_STATUS (MSR 0xc0010131): {'cannot be read' if msr is None else hex(msr)}")
    leaf = evidence["leaf_8000001f"]
    click.echo(f"  CPUID 0x8000001f: {'not there' if leaf is None else ' '.join(f'{word:08x}' for word in leaf)}")
    for line in evidence["kernel_log"]:
        click.echo(f"  kernel log: {line}")
    for finding in data["findings"]:
        if finding["agrees"] is not True:
            words = "could not be judged" if finding["agrees"] is None else "is not what was asked for"
            click.echo(f"  {finding['source']} ({finding['seen']}) {words}")
