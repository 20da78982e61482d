"""``sevkit report``: show and verify attestation reports."""

import datetime as dt
from pathlib import Path
from typing import Any

import click

from sevkit.attestation.payload import ShownReport, VerifiedReport
from sevkit.attestation.report.certificates import Certificate, Store
from sevkit.attestation.report.evidence import Evidence
from sevkit.cli.attestation import files
from sevkit.cli.attestation.vectors import vectors
from sevkit.cli.output import reporting
from sevkit.errors import BadInputError, ExitCode, UsageError
from sevkit.render import attestation as text
from sevkit.result import Result

_MOST_REPORT, _MOST_CERTIFICATE = 4 << 20, 1 << 20
_CODES = {"accepted": ExitCode.DONE, "rejected": ExitCode.NO, "inconclusive": ExitCode.INCONCLUSIVE}
_PLACE = click.Path(exists=True, path_type=Path)


@click.group("report")
def command() -> None:
    """Show and verify attestation reports of SEV-SNP guests."""


@command.command("show")
@click.argument("file", type=_PLACE)
@reporting
def show(file: Path) -> Result[ShownReport]:
    """Show every field of a report. Nothing is verified."""
    from sevkit.attestation.report import kds
    from sevkit.attestation.report.parse import parse

    evidence = _evidence(file)
    report = parse(evidence.report)
    data: ShownReport = {
        "form": evidence.form,
        "certificates": sorted(evidence.certificates),
        "kds_url": kds.url(report),
        "report": report.as_dict(),
        "runtime_data_bound": evidence.runtime_bound(),
    }
    return Result("report show", data, human=text.fields)


@command.command("verify")
@click.argument("file", type=_PLACE)
@click.option("--certs", multiple=True, type=_PLACE, help="Certificates and revocation lists: files or folders.")
@click.option(
    "--policy",
    "policy_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A policy: what the report must contain (TOML or JSON).",
)
@click.option("--root", "roots", multiple=True, type=_PLACE, help="Trust this root certificate, too, besides AMD's.")
@click.option("--only-root", is_flag=True, help="Trust only the root certificates of --root, not AMD's.")
@click.option("--report-data", metavar="HEX", help="REPORT_DATA that the report must have; zeros follow if short.")
@click.option("--at", metavar="TIME", help="Judge as of this time (ISO 8601), not of now.")
@click.option("--fetch", is_flag=True, help="Fetch missing certificates from AMD's key distribution service.")
@click.option("--kds", default=None, metavar="URL", help="The service's address, with --fetch.")
@reporting
def verify(file: Path, **options: Any) -> Result[VerifiedReport]:
    """Judge a report: accepted (exit 0), rejected (1) or inconclusive (3), with every reason.

    AMD's root and intermediate certificates are built in; the chip's own certificate comes with the report, from
    --certs, or, when asked, from AMD's service. Nothing is fetched without --fetch.
    """
    from sevkit.attestation.report import verify as verifier

    if options["kds"] is not None and not options["fetch"]:
        raise UsageError("--kds needs --fetch")
    evidence = _evidence(file)
    store = _store(options["certs"])
    roots = _roots(options["roots"])
    if options["only_root"] and not roots:
        raise UsageError("--only-root needs --root")
    policy = _policy(options["policy_file"], options["report_data"])
    fetched = _fetch(evidence, store, options["kds"]) if options["fetch"] else []
    result = verifier.verify(
        evidence,
        store,
        policy=policy,
        extra_roots=roots,
        now=_time(options["at"]),
        amd=not options["only_root"],
    )
    data: VerifiedReport = {
        **result.as_dict(),
        "form": evidence.form,
        "fetched": fetched,
        "unreadable": store.unreadable | store.passed_over,
        "not_demanded": policy.not_demanded,
    }
    return Result("report verify", data, _CODES[data["verdict"]], human=text.verdict)


def _evidence(path: Path) -> Evidence:
    """A report's file, or a folder with configfs-tsm's outblob and auxblob."""
    from sevkit.attestation.report import certtable
    from sevkit.attestation.report.evidence import read

    if not path.is_dir():
        return read(files.read(path, _MOST_REPORT))
    outblob, auxblob = path / "outblob", path / "auxblob"
    if not outblob.is_file():
        raise BadInputError(f"{path} holds no outblob", hint="give a report's file, or a configfs-tsm report folder")
    evidence = read(files.read(outblob, _MOST_REPORT))
    table = files.read(auxblob, _MOST_CERTIFICATE) if auxblob.is_file() else b""
    return Evidence(evidence.report, "configfs-tsm", certtable.read(table)) if any(table) else evidence


def _store(paths: tuple[Path, ...]) -> Store:
    from sevkit.attestation.report.certificates import Store, may_be_list, may_hold_certificates

    store = Store()
    for path in paths:
        named = not path.is_dir()
        for name, data in files.files_under(path, _MOST_CERTIFICATE):
            if named or may_hold_certificates(data) or may_be_list(name, data):
                store.add(name, data, named=named)
    return store


def _roots(paths: tuple[Path, ...]) -> list[Certificate]:
    store = _store(paths)
    for name, why in (store.unreadable | store.passed_over).items():
        raise BadInputError(f"{name}: {why}")
    return [item for item in store.certificates if item.x509.issuer == item.x509.subject]


def _policy(path: Path | None, report_data: str | None) -> Any:
    from dataclasses import replace

    from sevkit.attestation.report.policy import Policy, read

    policy = read(files.read(path, _MOST_CERTIFICATE), str(path)) if path is not None else Policy()
    if report_data is None:
        return policy
    try:
        raw = bytes.fromhex(report_data.removeprefix("0x"))
    except ValueError as error:
        raise UsageError(f"--report-data: {report_data!r} is no hex string") from error
    if not 0 < len(raw) <= 64:
        raise UsageError("--report-data takes 1 to 64 bytes in hex")
    wanted = raw.ljust(64, b"\0")
    if policy.report_data and wanted not in policy.report_data:
        raise UsageError("--report-data is none of the policy's report_data", hint="a report has one of them")
    return replace(policy, report_data=frozenset({wanted}))


def _time(value: str | None) -> dt.datetime | None:
    if value is None:
        return None
    try:
        moment = dt.datetime.fromisoformat(value)
    except ValueError as error:
        raise UsageError(f"{value!r} is no time", hint="such as 2026-01-31 or 2026-01-31T12:00:00Z") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)


def _fetch(evidence: Evidence, store: Store, base: str | None) -> list[str]:
    from sevkit.attestation.report import fetch

    return fetch.missing(evidence, store, base)


command.add_command(vectors)
