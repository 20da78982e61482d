"""Bulletins as OpenVEX 0.2.0 statements, for programs that track vulnerabilities (openvex/spec)."""

import datetime as dt
import hashlib
import json
from typing import Any

from sevkit import __version__
from sevkit.attestation.payload import BulletinRow, BulletinTable

_CONTEXT = "https://openvex.dev/ns/v0.2.0"
UNVERIFIED = "by an attestation report that was not verified: sevkit report verify"
_STATUS = {"yes": "affected", "unknown": "under_investigation"}


def document(data: BulletinTable, now: dt.datetime) -> dict[str, Any]:
    """The document: one statement per CVE, or per bulletin without one."""
    place = f"mode={data['mode']}&product={data['product'] or 'unknown'}"  # what holds for one mode is not said of all
    product = {"@id": f"pkg:generic/amd-epyc-sev-firmware@{_version(data)}?{place}"}
    doubt = f"; {UNVERIFIED}" if data["verified"] is False else ""
    statements = [
        _statement(item, name, product, doubt) for item in data["bulletins"] for name in (item["cves"] or [item["id"]])
    ]
    digest = hashlib.sha256(json.dumps(statements, sort_keys=True).encode()).hexdigest()
    return {
        "@context": _CONTEXT,
        "@id": f"https://openvex.dev/docs/public/vex-{digest}",
        "author": "sevkit",
        "timestamp": now.isoformat(timespec="seconds"),
        "version": 1,
        "tooling": f"sevkit {__version__}",
        "statements": statements,
    }


def _version(data: BulletinTable) -> str:
    return ".".join(f"{name}{value}" for name, value in (data["tcb"] or {}).items()) or "unknown"


def _statement(item: BulletinRow, name: str, product: dict[str, str], doubt: str) -> dict[str, Any]:
    statement: dict[str, Any] = {
        "vulnerability": {"name": name, "description": item["what"], "aliases": [item["id"]]},
        "products": [product],
        "status": _STATUS.get(item["applies"]) or ("fixed" if item["fixed_by"] else "not_affected"),
        "status_notes": f"{item['why']} ({item['how_sure']}){doubt}",
    }
    if statement["status"] == "affected":
        statement["action_statement"] = "; or ".join(item["fixed_by"]) or "no fix is known"
    elif statement["status"] == "not_affected":
        statement["justification"] = "vulnerable_code_not_present"
    return statement
