"""The order of test files: the longest first, so that no worker is left with a long file when the others have ended.

`pytest --dist loadfile` gives one file to one worker. What a file takes is in tests/data/seconds.json, which
`pytest --record-seconds` writes anew; a file that is not in it is taken for a short one.
"""

import json
from collections import Counter
from pathlib import Path

import pytest

SECONDS = Path(__file__).parents[1] / "data/seconds.json"
_SHORT = 2.0  # seconds; files that take less are not listed: their order does not matter


def recorded() -> dict[str, float]:
    """Seconds per file, by its path in the repository."""
    return json.loads(SECONDS.read_text())


def longest_first(items: list[pytest.Item]) -> None:
    """Sort tests by the time of their file; the order within a file stays."""
    known = recorded()
    items.sort(key=lambda item: -known.get(_file(item.nodeid), 0.0))


def _file(nodeid: str) -> str:
    return nodeid.partition("::")[0]


class Recorder:
    """A plugin that sums up what each file takes and writes the table at the end."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[_file(report.nodeid)] += report.duration

    def pytest_sessionfinish(self) -> None:
        long = {name: round(taken, 1) for name, taken in self.seconds.most_common() if taken >= _SHORT}
        SECONDS.write_text(json.dumps(long, indent=1) + "\n")
