"""Launch digests, reports, verdicts and bulletins for people."""

import base64 as encoding
from collections.abc import Iterator, Sequence
from typing import Any

from sevkit import cleantext as clean
from sevkit.attestation.payload import (
    AttestedGuest,
    BulletinTable,
    CheckRow,
    Explanation,
    IgvmMeasurement,
    Measurement,
    ShownReport,
    SignedBlock,
    TraceLine,
    VectorSet,
    VerifiedReport,
)


def measurement(data: Measurement, *, base64: bool = False) -> Iterator[str]:
    """The digest alone, for use in scripts; before it the trace, if there is one."""
    yield from _trace(data.get("trace", ()))
    yield from (f"wrote {name}" for name in data.get("vmsa_files", ()))
    yield _digest(data["launch_digest"], base64=base64)


def igvm(data: IgvmMeasurement, *, base64: bool = False) -> Iterator[str]:
    """The digest of an IGVM file alone; before it the trace if there is one."""
    yield from _trace(data.get("trace", ()))
    yield _digest(data["launch_digest"], base64=base64)


def _digest(value: str, *, base64: bool) -> str:
    return encoding.b64encode(bytes.fromhex(value)).decode() if base64 else value


def _trace(lines: Sequence[TraceLine]) -> Iterator[str]:
    for line in lines:
        where = f"{line['gpa']:#014x}" if line["gpa"] is not None else f"{line['size']:>8} bytes"
        yield f"{where} {line['kind']:<10} {line['what']:<14} {line['contents'][:16]} -> {line['digest']}"


def explanation(data: Explanation) -> Iterator[str]:
    """The smallest change and others of the same size, or the inputs that were ruled out."""
    if data["equal"]:
        yield f"equal: {data['launch_digest']}"
        return
    yield f"computed: {data['launch_digest']}"
    yield f"reported: {data['expected']}"
    if data["found"] is None:
        yield f"nothing explains it among {data['tried']} candidates. Ruled out:"
        yield from (f"  {line}" for line in data["ruled_out"])
        if not data["complete"]:
            yield "  the search was cut short: give fewer --also files, or fewer --changes"
        return
    for number, changes in enumerate([data["found"], *data["others"]]):
        yield "or by:" if number else "explained by:"
        for change in changes:
            yield f"  {change['input']}: {change['given']} -> {change['actual']}"


def id_block(data: SignedBlock) -> Iterator[str]:
    """The options of QEMU's sev-snp-guest object, and the digests that the report will have."""
    yield f"id-block={data['id_block']},id-auth={data['id_auth']}"
    yield f"id_key_digest: {data['id_key_digest']}"
    if data["author_key_digest"]:
        yield f"author_key_digest: {data['author_key_digest']}"


def fields(data: ShownReport) -> Iterator[str]:
    """Every field of a report, one per line, bit fields by their names."""
    yield f"form: {data['form']}"
    if data["certificates"]:
        yield f"with certificates: {clean.line(', '.join(data['certificates']))}"
    if data["runtime_data_bound"] is not None:
        yield f"REPORT_DATA is {'' if data['runtime_data_bound'] else 'NOT '}the hash of the runtime data"
    for name, value in data["report"].items():
        yield from _field(name, value)
    yield f"KDS: {data['kds_url'] or 'no address: VLEK, masked chip id or unknown product'}"


def _field(name: str, value: Any) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{name:<20} {'not known' if value is None else value}"
        return
    yield f"{name:<20} {value['value']}" if "value" in value else name
    yield from (f"  {key:<22} {_word(part)}" for key, part in value.items() if key != "value")


def _word(value: Any) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


_OPEN = {
    "guest": "a measurement: the report may be any guest's (policy: measurements, or id_key_digests)",
    "freshness": "report data: the report may be an old one (--report-data with a nonce, or the policy's report_data)",
}


def verdict(data: VerifiedReport) -> Iterator[str]:
    """The verdict, every reason, and the address of the missing certificate."""
    yield data["verdict"]
    yield from _reasons(data["checks"], data["chain"])
    passed = sum(item["status"] == "pass" for item in data["checks"])
    yield f"  {passed} of {len(data['checks'])} checks passed"
    told = {item["text"] for item in data["checks"]}
    for name, why in data["unreadable"].items():
        if f"{name} was not read: {why}" in told:
            continue
        yield f"  not read: {clean.line(name)}: {clean.line(why)}"
    if data["verdict"] == "accepted":
        yield from (f"  not demanded: {_OPEN[name]}" for name in data["not_demanded"])
    missing = any(item["check"] == "certificate.present" and item["status"] == "unknown" for item in data["checks"])
    if missing and data["kds_url"]:
        yield f"  the certificate is at {data['kds_url']} (or use --fetch)"


def attested(data: AttestedGuest) -> Iterator[str]:
    """The verdict on a guest, its provenance, and the two digests if they differ."""
    yield f"{data['guest']} ({data['provenance']}): {data['verdict']}"
    yield f"  measured {data['measurement']}"
    if data["equal"]:
        yield "  equal to the digest of its launch"
    else:
        yield f"  expected {data['launch_digest']}: `sevkit measure explain` looks for the reason"
    yield from _reasons(data["checks"], data["chain"])


def _reasons(checks: Sequence[CheckRow], chain: Sequence[str]) -> Iterator[str]:
    """What did not pass, and the chain; names in certificates are anybody's text, and must not begin a line."""
    for item in checks:
        if item["status"] != "pass":
            yield f"  {item['status']}: {item['check']}: {clean.line(item['text'])}"
    if chain:
        yield f"  chain: {clean.line(' <- '.join(chain))}"


_ORDER = ("yes", "unknown", "no")


def bulletins(data: BulletinTable) -> Iterator[str]:
    """Bulletins that apply first, then the unknown ones, then the others."""
    tcb = " ".join(f"{name} {value}" for name, value in (data["tcb"] or {}).items()) or "not known"
    yield f"{data['product'] or 'unknown processor'}, TCB {tcb}, {data['mode']} guests, from {data['source']}"
    for item in sorted(data["bulletins"], key=lambda item: _ORDER.index(item["applies"])):
        mark = " (ignored)" if set(data["ignored"]) & {item["id"], *item["cves"]} else ""
        yield f"{item['applies']:<8} {item['id']:<18} {item['name']} [{item['severity']}, {item['how_sure']}]{mark}"
        yield f"         {item['why']}"
        if item["applies"] != "no" and item["fixed_by"]:
            yield f"         fixed by: {'; or '.join(item['fixed_by'])}"
        if item["applies"] != "no" and item["note"]:
            yield f"         note: {item['note']}"
    if data["verified"] is False:
        yield "The report was taken at its word: `sevkit report verify` says whether to believe it."


def vectors(data: VectorSet) -> Iterator[str]:
    """The number of vectors, and their place."""
    counts = ", ".join(f"{count} {name}" for name, count in data["verdicts"].items())
    yield f"{data['count']} vectors in {data['folder']}: {counts}"
    if data["url"]:
        yield f"key distribution service at {data['url']}"
