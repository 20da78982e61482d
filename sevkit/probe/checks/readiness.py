"""Run all checks over the facts of a host, and conclude which modes are ready. Pure."""

from sevkit.probe.checks import cpu, platform, system
from sevkit.probe.checks.frame import ADVICE, ALL, FAIL, REQUIRED, SKIP, UNKNOWN, Case, Check, Conclusion
from sevkit.probe.payload import CheckRow, Readiness


def table() -> tuple[Check, ...]:
    """Return all checks, parents before children, in the order in which a host has to be set up."""
    return (*cpu.CHECKS, *platform.CHECKS, *system.CHECKS)


def advice() -> frozenset[str]:
    """The checks that are only advice, by their ids: they change no verdict."""
    return frozenset(check.id for check in table() if check.weight == ADVICE)


def run_checks(case: Case) -> list[CheckRow]:
    """Run the whole table. A check whose parent failed or was skipped is skipped, and its outcome names the parent."""
    results: dict[str, Conclusion] = {}
    rows: list[CheckRow] = []
    for check in table():
        blocked = next((p for p in check.depends_on if results[p].status in (FAIL, SKIP)), None)
        outcome = Conclusion(SKIP, f"{blocked} did not pass") if blocked else check.run(case)
        results[check.id] = outcome
        rows.append(
            {
                "id": check.id,
                "category": check.category,
                "generation": check.generation,
                "modes": list(check.modes),
                "weight": check.weight,
                "status": outcome.status,
                "message": outcome.message,
                "description": check.description,
                "reads": check.reads,
                "hint": check.hint,
                "depends_on": list(check.depends_on),
            }
        )
    return rows


def readiness(rows: list[CheckRow]) -> dict[str, Readiness]:
    """The verdict for each mode: ``ready``, ``not_ready`` or ``unknown``, with the checks that prevent it."""
    verdicts: dict[str, Readiness] = {}
    for mode in ALL:
        mine = [row for row in rows if mode in row["modes"]]
        failing = [row["id"] for row in mine if row["status"] == FAIL and row["weight"] != ADVICE]
        open_ones = [row["id"] for row in mine if row["status"] == UNKNOWN and row["weight"] == REQUIRED]
        verdict = "not_ready" if failing else "unknown" if open_ones else "ready"
        verdicts[mode] = {"verdict": verdict, "blocking": failing, "unknown": open_ones}
    return verdicts
