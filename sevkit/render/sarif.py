"""Bulletins that apply as SARIF 2.1.0, for code-scanning services (OASIS sarif-v2.1.0)."""

from typing import Any

from sevkit import __version__
from sevkit.attestation.payload import BulletinRow, BulletinTable

_PRECISION = {"confirmed": "very-high", "authors": "high", "secondary": "medium"}
_LEVELS = {"yes": "error", "unknown": "note"}
_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def document(data: BulletinTable) -> dict[str, Any]:
    """The document: one rule per bulletin, one result per bulletin that applies or is unknown."""
    rows = data["bulletins"]
    driver = {
        "name": "sevkit tcb",
        "version": __version__,
        "informationUri": "https://www.amd.com/en/resources/product-security.html",
        "rules": [_rule(item) for item in rows],
    }
    results = [_result(number, item, data) for number, item in enumerate(rows) if item["applies"] in _LEVELS]
    run: dict[str, Any] = {"tool": {"driver": driver}, "results": results}
    if data["verified"] is False:
        words = "The attestation report was not verified: `sevkit report verify` says whether to believe it."
        notice = {"level": "warning", "message": {"text": words}}
        run["invocations"] = [{"executionSuccessful": True, "toolExecutionNotifications": [notice]}]
    return {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}


def _rule(item: BulletinRow) -> dict[str, Any]:
    help_text = "; or ".join(item["fixed_by"]) or "no fix is known"
    return {
        "id": item["id"],
        "name": item["name"],
        "shortDescription": {"text": item["what"]},
        "help": {"text": f"Fixed by: {help_text}. Sources: {'; '.join(item['sources'])}"},
        "properties": {"tags": ["security", *item["cves"]], "precision": _PRECISION[item["how_sure"]]},
    }


def _result(number: int, item: BulletinRow, data: BulletinTable) -> dict[str, Any]:
    place = {
        "physicalLocation": {"artifactLocation": {"uri": data["source"].replace(" ", "-")}},  # some services need one
        "logicalLocations": [{"name": f"{data['product'] or 'unknown processor'} ({data['mode']})"}],
    }
    result: dict[str, Any] = {
        "ruleId": item["id"],
        "ruleIndex": number,
        "level": _LEVELS[item["applies"]],
        "message": {"text": f"{item['name']}: {item['why']}"},
        "locations": [place],
    }
    if set(data["ignored"]) & {item["id"], *item["cves"]}:
        result["suppressions"] = [{"kind": "external"}]
    return result
