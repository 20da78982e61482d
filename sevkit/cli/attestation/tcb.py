"""``sevkit tcb``: which published attacks apply to a host, a guest and its policy."""

import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from sevkit.attestation.payload import BulletinTable
from sevkit.cli.attestation import files
from sevkit.cli.output import json_wanted, reporting, want_json
from sevkit.errors import BadInputError, UsageError
from sevkit.render import attestation as text
from sevkit.result import Result
from sevkit.vocabulary import Mode

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_MODES = [mode.value for mode in Mode if mode is not Mode.NOSEV]


@click.command("tcb")
@click.option("--from", "host_file", type=_FILE, help="A host saved with `sevkit probe --save`.")
@click.option("--report", "report_file", type=_FILE, help="An attestation report; verify it first.")
@click.option("--mode", type=click.Choice(_MODES), default="sev-snp", show_default=True, help="Kind of guest.")
@click.option("--ignore", multiple=True, metavar="ID", help="A bulletin or CVE that does not count for the exit code.")
@click.option("--physical", is_flag=True, help="Attacks that need physical access count for the exit code, too.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "sarif", "openvex"]),
    default="text",
    show_default=True,
    help="sarif and openvex are documents of their own, for other programs.",
)
@reporting
def command(**options: Any) -> Result[BulletinTable]:
    """Say which published attacks apply: yes, no or unknown, with what fixes each and where that is written.

    Exits 1 when one applies, 3 when one cannot be told, 0 when all are fixed or do not concern this machine. What a
    report says counts as it stands: `sevkit report verify` says whether to believe it.
    """
    from sevkit.attestation.tcb import judge

    if options["form"] in _DOCUMENTS and json_wanted():
        raise UsageError("--json and --format exclude each other")
    if options["form"] == "json":
        want_json()
    known = _known(options)
    mode = Mode(options["mode"])
    judgements = judge.judge_all(known, mode)
    ignored = _ignored(options["ignore"], judgements)
    code = judge.exit_code(judgements, ignored, physical=options["physical"])
    data: BulletinTable = {
        "source": known.origin,
        "product": known.line,
        "tcb": dict(known.tcb) if known.tcb is not None else None,
        "mode": mode.value,
        "verified": False if options["report_file"] is not None else None,
        "ignored": sorted(ignored),
        "bulletins": [item.as_dict() for item in judgements],
    }
    human = _DOCUMENTS.get(options["form"], text.bulletins)
    return Result("tcb", data, code, human=human)


def _known(options: dict[str, Any]) -> Any:
    from sevkit.attestation.tcb import known

    if options["host_file"] is None and options["report_file"] is None:
        raise UsageError("give --from HOST.json, --report FILE, or both")
    report = _report(options["report_file"]) if options["report_file"] is not None else None
    host = _host(options["host_file"]) if options["host_file"] is not None else None
    if report is None or host is None:
        return report or host
    if report.line and host.line and report.line != host.line:
        raise BadInputError(f"the report is from {report.line}, the host is {host.line}: not the same machine")
    return known.merged(report, host)


def _report(path: Path) -> Any:
    from sevkit.attestation.report.certificates import Role, Store
    from sevkit.attestation.report.evidence import read
    from sevkit.attestation.report.parse import parse
    from sevkit.attestation.tcb import known

    evidence = read(files.read(path, 4 << 20))
    report = parse(evidence.report)
    if report.product is None:
        store = Store()
        for name, data in evidence.certificates.items():
            store.add(name, data)
        products = [item.endorsement.product for item in store.role(Role.VCEK, Role.VLEK)]
        report = parse(evidence.report, products[0] if products else None)
    return known.of_report(report)


def _host(path: Path) -> Any:
    from sevkit.attestation.tcb import known
    from sevkit.probe.sources import facts_from

    facts = facts_from(files.read(path, 64 << 20), str(path))
    names = ("sev.snp_platform_status", "cpu.smt", "cpu.microcode")
    readings = {name: facts.reading(name).value for name in names if facts.reading(name).known}
    identity = facts.identity
    return known.of_host(identity.family, identity.model, identity.stepping, readings)


def _ignored(names: tuple[str, ...], judgements: list[Any]) -> frozenset[str]:
    """Names that no bulletin has are mistakes: a misspelt one would silence nothing."""
    known = {name for item in judgements for name in item.bulletin.ids}
    for name in names:
        if name not in known:
            raise UsageError(f"no bulletin is called {name!r}", hint=f"known: {', '.join(sorted(known))}")
    return frozenset(names)


def _sarif(data: BulletinTable) -> Iterator[str]:
    from sevkit.render import sarif

    yield json.dumps(sarif.document(data), indent=2)


def _openvex(data: BulletinTable) -> Iterator[str]:
    from sevkit.render import openvex

    yield json.dumps(openvex.document(data, dt.datetime.now(dt.UTC)), indent=2)


_DOCUMENTS = {"sarif": _sarif, "openvex": _openvex}
