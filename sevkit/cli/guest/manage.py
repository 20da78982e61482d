"""``sevkit guest list``, ``verify`` and ``stop``."""

from collections.abc import Iterator, Sequence

import click

from sevkit.cli.guest.launch import describe
from sevkit.cli.output import reporting
from sevkit.errors import ExitCode, SevkitError, UsageError
from sevkit.hypervisor.payload import GuestList, ListedGuest, Stopped, UnlistedGuest, Verified
from sevkit.result import Result


@click.command("list")
@reporting
def list_guests() -> Result[GuestList]:
    """List the running guests that this user has launched."""
    from sevkit.hypervisor import registry
    from sevkit.hypervisor.unlisted import unlisted

    records = registry.running()
    guests: list[ListedGuest] = [
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
    data: GuestList = {"guests": guests, "unlisted": unlisted({record.pid for record in records})}
    return Result("guest list", data, human=_show_list)


def _show_list(data: GuestList) -> Iterator[str]:
    if not data["guests"]:
        yield NONE
        yield from not_listed(data["unlisted"])
        return
    yield f"{'NAME':<20} {'MODE':<8} {'PROVENANCE':<10} {'HYPERVISOR':<10} {'ACCEL':<6} {'PID':>8}"
    for g in data["guests"]:
        line = (
            f"{g['name']:<20} {g['mode']:<8} {g['provenance']:<10} {g['hypervisor']:<10} {g['accel']:<6} {g['pid']:>8}"
        )
        yield line + ("" if g["detached"] else "  (dies with its owner)")
    yield from not_listed(data["unlisted"])


NONE = "no guests of this user are running"


def not_listed(found: Sequence[UnlistedGuest]) -> Iterator[str]:
    """One line for each guest that a list has no row for."""
    for each in found:
        who = "" if each["pid"] is None else f" (PID {each['pid']}, user {each['user'] or 'unknown'})"
        yield f"not listed: {each['name']}{who}: {each['reason']}"


@click.command()
@click.argument("names", nargs=-1, metavar="NAME...")
@click.option("--all", "everything", is_flag=True, help="Stop every guest.")
@reporting
def stop(names: tuple[str, ...], everything: bool) -> Result[Stopped]:
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
    return Result("guest stop", {"stopped": stopped}, code, errors, human=_show_stopped)


def _show_stopped(data: Stopped) -> Iterator[str]:
    for name in data["stopped"]:
        yield f"stopped {name}"


@click.command()
@click.argument("name")
@reporting
def verify(name: str) -> Result[Verified]:
    """Show which protection the guest itself sees, and on what evidence.

    Exits 1 when a source contradicts what was asked for, 3 when the one that counts, SEV_STATUS, cannot be read.
    """
    from sevkit.guest import verify as verifier
    from sevkit.hypervisor import select

    guest = select.attach(name)
    facts = verifier.collect(guest)
    findings = verifier.judge(facts, guest.spec.mode)
    agrees = None if findings[0].agrees is None else all(finding.agrees is not False for finding in findings)
    data: Verified = {
        "guest": describe(guest),
        "active": facts.active,
        "as_asked": agrees,
        "findings": [{"source": f.source, "agrees": f.agrees, "seen": f.seen} for f in findings],
        "evidence": {
            "sev_status_msr": facts.sev_status,
            "leaf_8000001f": None if facts.leaf is None else list(facts.leaf),
            "kernel_log": facts.log_lines,
            "cpuid_table_entries": facts.cpuid_entries,
        },
    }
    code = {True: ExitCode.DONE, False: ExitCode.NO, None: ExitCode.INCONCLUSIVE}[agrees]
    return Result("guest verify", data, code, human=_show_verify)


def _show_verify(data: Verified) -> Iterator[str]:
    guest, evidence = data["guest"], data["evidence"]
    active = ", ".join(data["active"]) or "none"
    yield f"{guest['name']}: asked for {guest['mode']}, active in the guest: {active} [{guest['provenance']}]"
    msr = evidence["sev_status_msr"]
    yield f"  SEV_STATUS (MSR 0xc0010131): {'cannot be read' if msr is None else hex(msr)}"
    leaf = evidence["leaf_8000001f"]
    yield f"  CPUID 0x8000001f: {'not there' if leaf is None else ' '.join(f'{word:08x}' for word in leaf)}"
    for line in evidence["kernel_log"]:
        yield f"  kernel log: {line}"
    for finding in data["findings"]:
        if finding["agrees"] is not True:
            words = "could not be judged" if finding["agrees"] is None else "is not what was asked for"
            yield f"  {finding['source']} ({finding['seen']}) {words}"
