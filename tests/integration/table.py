"""The table of faults in docs/reliability.md: each test checks its own row, or writes it with ``--regenerate``."""

from collections.abc import Callable
from pathlib import Path

import pytest

DOC = Path(__file__).resolve().parents[2] / "docs/reliability.md"
BEGIN, END = "<!-- faults: written by `make faults ARGS=--regenerate` -->", "<!-- end of faults -->"
Row = Callable[[str, str, str, str], None]


@pytest.fixture
def row(request: pytest.FixtureRequest) -> Row:
    """``row(fault, where, outcome, left)`` is one line of the table."""

    def check(fault: str, where: str, outcome: str, left: str) -> None:
        key, line = f"| {fault} | {where} |", f"| {fault} | {where} | {outcome} | {left} |"
        text = DOC.read_text()
        head, _, rest = text.partition(BEGIN)
        table, _, tail = rest.partition(END)
        if request.config.getoption("--regenerate"):
            rows = {_key(one): one for one in table.strip().splitlines()[2:]} | {key: line}
            body = "\n".join(["| fault | where | what the user gets | what is left |", "|---|---|---|---|"])
            DOC.write_text(f"{head}{BEGIN}\n{body}\n" + "\n".join(sorted(rows.values())) + f"\n{END}{tail}")
        else:
            assert line in table.splitlines(), f"not in the table: {line} (make faults ARGS=--regenerate)"

    return check


def _key(line: str) -> str:
    return "|".join(line.split("|")[:3]) + "|"
