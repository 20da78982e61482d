"""fio's terse output (``--minimal``), versions 3 to 5. Fields as in fio's documentation, section "Terse output"."""

import re
from pathlib import Path

from sevkit.bench.imports.fio import FioRun, Job, Side, agree, finite
from sevkit.errors import BadInputError

_LINE = re.compile(r"^(\d);(fio-[^;]{1,40});", re.MULTILINE)
_OLD = re.compile(r"^2;[^;\n]{0,200};\d+;\d+;\d+;", re.MULTILINE)
_HEAD = 5  # version, fio's version, job's name, group, error
_BLOCK = {3: 41, 4: 41, 5: 47}  # fields per direction; version 5 adds numbers of samples and IOPS statistics
_SIDES = {3: ("read", "write"), 4: ("read", "write", "trim"), 5: ("read", "write", "trim")}
_PERCENT = re.compile(r"(\d{1,3}\.\d+)%=(\d+)")


def looks_like(text: str) -> bool:
    """Whether a text contains fio's terse lines."""
    return bool(_LINE.search(text) or _OLD.search(text))


def parse(text: str, path: Path) -> FioRun:
    """Read terse output; raises BadInputError for unknown versions and lines."""
    jobs: list[Job] = []
    fio_version = ""
    for number, line in enumerate(text.splitlines(), 1):
        found = _LINE.match(line)
        if not found:
            continue
        version, fio_version = int(found[1]), found[2]
        if version not in _BLOCK:
            break
        try:
            jobs.append(_job(line.split(";"), version))
        except (ValueError, IndexError, OverflowError) as error:
            raise BadInputError(
                f"{path}, line {number}: fio's terse output, but damaged: {error}; use --output-format=json"
            ) from error
    if len({(job.name, job.group) for job in jobs}) < len(jobs):
        raise BadInputError(
            f"{path}: fio's terse output of several runs, or of several jobs of one name: which, it does not say",
            hint="one run per file with --group_reporting, or --output-format=json",
        )
    if not jobs:
        raise BadInputError(
            f"{path}: fio's terse output of a version that is not read", hint="use --output-format=json"
        )
    return FioRun(path, fio_version, 0.0, tuple(jobs), {}, options_known=False)


def _job(fields: list[str], version: int) -> Job:
    sides = []
    for place, name in enumerate(_SIDES[version]):
        start = _HEAD + place * _BLOCK[version]
        block = fields[start : start + _BLOCK[version]]
        if name != "trim" and len(block) < _BLOCK[version]:
            raise ValueError("too few fields")
        if len(block) == _BLOCK[version] and float(block[0]) > 0:
            sides.append(_side(name, block))
    return Job(fields[2], int(fields[3]), int(fields[4]), {}, tuple(sides), {}, 0.0)


def _side(name: str, block: list[str]) -> Side:
    """Bandwidth in KiB/s, runtime in ms, latencies in microseconds."""
    iops, runtime = finite(block[2]), finite(block[3]) / 1000
    agree(f"{name} bandwidth in KiB", finite(block[1]), finite(block[0]), runtime)
    percentiles = {float(m[1]): finite(m[2]) * 1000 for m in map(_PERCENT.fullmatch, block[12:32]) if m and float(m[1])}
    return Side(
        name,
        iops,
        finite(block[1]) * 1024,
        max(1, round(iops * runtime)),
        runtime,
        finite(block[10]) * 1000,
        finite(block[11]) * 1000,
        percentiles,
    )
