"""The results linter: errors in how something was measured.

It reads fio's JSON, the study's tables, the scripts beside them, and sevkit's own results.
"""

from collections.abc import Sequence
from pathlib import Path

from sevkit import textfile
from sevkit.bench import store
from sevkit.bench.analysis.comparison import Comparison, Table
from sevkit.bench.lint import own, sets, text
from sevkit.bench.lint.rules import Report
from sevkit.bench.store import Campaign
from sevkit.errors import BadInputError, UsageError

SCRIPTS = {".sh", ".bash", ".fio", ".py", ".txt", ".log", ".md", ".cfg", ".service", ".nix", ".toml"}
_LARGEST_SCRIPT = 1 << 20


def lint(folder: Path) -> Report:
    """Lint every result below a directory; raises UsageError or BadInputError when there is none."""
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a directory")
    report = Report()
    if store.is_campaign(folder):
        own.check(folder, report)
        return report.in_order()
    loaded = sets.Loaded(folder)
    loaded.read(report)
    _scripts(folder, report, loaded)
    if not loaded.usable and not report.findings:
        raise BadInputError(f"{folder} holds no results", hint="give a directory with fio JSON, CSV or sevkit results")
    sets.check(loaded, report)
    return report.in_order()


def of_campaign(campaign: Campaign, comparisons: Sequence[Comparison], table: Table) -> Report:
    """Lint a results directory that has been read and compared already; ``table`` has its primary metrics."""
    report = Report()
    own.check_loaded(campaign, comparisons, table, report)
    return report.in_order()


def _scripts(folder: Path, report: Report, loaded: sets.Loaded) -> None:
    texts: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in SCRIPTS or path.is_symlink() or not path.is_file():
            continue
        try:
            if path.stat().st_size <= _LARGEST_SCRIPT:
                data, name = textfile.read_bytes(str(path))
                texts[str(path.relative_to(folder))] = textfile.text(data, name)
        except (OSError, BadInputError):
            continue
    report.files += len(texts)
    report.findings += text.check(texts, guests=loaded.has_guests)
