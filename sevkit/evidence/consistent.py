"""Whether a result says the same everywhere: verdicts follow from observations, the summary from the verdicts."""

from collections.abc import Iterator, Mapping
from typing import Any

from sevkit.evidence.payload import Finding

_OUTCOMES = {"leaked": "works", "protected": "stopped", "inconclusive": "inconclusive"}


def findings(result: Mapping[str, Any]) -> Iterator[Finding]:
    """The experiments one by one, then their summary."""
    experiments = result.get("experiments")
    rows = [row for row in experiments if isinstance(row, dict)] if isinstance(experiments, list) else []
    for row in rows:
        wrong = list(contradictions(row))
        what = f"the experiment {row.get('attack', '')} in {row.get('mode', '')}"
        detail = "; ".join(wrong) or f"{row.get('verdict', row.get('observed'))}: nothing in it contradicts that"
        yield {"what": what, "state": "wrong" if wrong else "confirmed", "detail": detail}
    yield _summary(result, rows)


def _summary(result: Mapping[str, Any], rows: list[dict[str, Any]]) -> Finding:
    what = "the summary of the experiments"
    each = [row.get("as_expected", row.get("as_predicted")) for row in rows]
    if "as_predicted" not in result or not each or any(value is None for value in each):
        return {"what": what, "state": "open", "detail": "this kind of result has none"}
    follows = all(each) == result["as_predicted"]
    detail = f"{sum(map(bool, each))} of {len(each)} experiments as predicted"
    return {"what": what, "state": "confirmed" if follows else "wrong", "detail": detail}


def contradictions(row: Mapping[str, Any]) -> Iterator[str]:
    """What one experiment says in two ways."""
    observed, expected = row.get("observed"), row.get("expected")
    if row.get("as_expected") is True and observed != expected:
        yield f"{observed} is not the expected {expected}"
    if row.get("as_expected") is False and observed == expected:
        yield f"{observed} is what was expected"
    verdict = row.get("verdict")
    if verdict is None:
        return
    if _OUTCOMES.get(str(verdict)) != observed:
        yield f"{verdict} is not {observed}"
    if verdict == "leaked" and not row.get("hits"):
        yield "leaked without a hit"
    if verdict == "protected":
        yield from _against_protection(row)


def _against_protection(row: Mapping[str, Any]) -> Iterator[str]:
    if row.get("hits"):
        yield f"protected, and the secret was found {len(row['hits'])} times"
    controls, coverage = row.get("controls"), row.get("coverage")
    for name, passed in (controls if isinstance(controls, dict) else {"none": False}).items():
        if passed is not True:
            yield f"protected, and the control {name} did not pass"
    if not isinstance(coverage, dict) or coverage.get("unreadable_bytes") != 0:
        yield "protected, and a part of guest RAM was not read"
