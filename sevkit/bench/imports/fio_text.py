"""fio's output for people (--output-format=normal), of fio 2 and 3.

Fields as in fio's documentation, section "Interpreting the output".

Rates are computed from the exact totals where the output has them, since fio rounds the printed rates to three digits.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from sevkit.bench.imports.fio import ALL_CLIENTS, SIDES, FioRun, Job, Side, agree, apart, finite
from sevkit.errors import BadInputError

_HEAD = re.compile(
    r"^(?:<[^>\n]{1,100}> )?(\S.{0,200}?): \(groupid=(\d+), jobs=\d+\): err= *(\d+)(?:\D.*?pid=(\d+))?", re.MULTILINE
)
_SIDE = re.compile(r"^ +(read|write|trim|mixed) *: (?:IOPS=|io=)", re.MULTILINE)
_RATE = re.compile(r"IOPS=([\d.]+)([kMG]?), BW=([\d.]+)([kKMGT]?i?B)/s .*?/(\d+)msec\)")  # fio 3
_RATE_2 = re.compile(r"bw=([\d.]+)([KMGT]?B)/s, iops=(\d+)([kMG]?), runtime= *(\d+)msec")
_LATENCY = re.compile(
    r"^ +(?:<\S+> )?clat \((nsec|usec|msec)\): min= *\S+, max= *\S+, avg= *([\d.]+), stdev= *([\d.]+)", re.MULTILINE
)
_PERCENTILES = re.compile(r"^ +clat percentiles \((nsec|usec|msec)\):\n((?: +\|.*\n?)+)", re.MULTILINE)
_PERCENTILE = re.compile(r"([\d.]+)th=\[ *(\d+)\]")
_TOTALS = re.compile(r"issued rwts?: total=(\d+),(\d+),(\d+)[,\d]* short=([\d,]+) dropped=([\d,]+)")
_TOTALS_2 = re.compile(r"issued +: total=r=(\d+)/w=(\d+)/d=(\d+), short=r=(\d+)/w=(\d+)/d=(\d+)")
_VERSION = re.compile(r"^(fio-\d[\w.+-]*)\s*$", re.MULTILINE)
_NS = {"nsec": 1.0, "usec": 1e3, "msec": 1e6}
_THOUSANDS = {"": 1, "k": 1e3, "M": 1e6, "G": 1e9}
_BYTES_2 = {"B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}  # fio 2 writes KB for 1024 bytes
# fio 3 begins with MB for 10^6 bytes where kb_base=1000 was given, else with MiB.
_BYTES = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_BYTES |= {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_START = re.compile(r"^\S.{0,200}?: \(g=0\): (?:rw|ioengine)=", re.MULTILINE)
_END = re.compile(r"^(?:Run status group|All clients:|Disk stats)", re.MULTILINE)


def looks_like(text: str) -> bool:
    """Whether a text is fio's output for people, without the JSON that may stand beside it."""
    return '"fio version"' not in text and bool(_HEAD.search(text) and _SIDE.search(text))


def parse(text: str, path: Path) -> list[FioRun]:
    """Read the runs in a text, of which each begins with the list of its jobs. Raises BadInputError."""
    return [_run(part, path) for part in _runs(text)]


def _runs(text: str) -> Iterator[str]:
    begin = 0
    for start in _START.finditer(text):
        if _HEAD.search(text, begin, start.start()):
            yield text[begin : start.start()]
            begin = start.start()
    yield text[begin:]


def _run(text: str, path: Path) -> FioRun:
    """Read the jobs of a run; of several reports on one (--status-interval) the last."""
    jobs: dict[tuple[str, str, str], Job] = {}
    try:
        for head, block in _blocks(text):
            jobs[head[1], head[2], head[4] or ""] = _job(head, block)
    except (ValueError, KeyError, OverflowError) as error:
        raise BadInputError(
            f"{path}: fio's output for people, but damaged: {error}", hint="use --output-format=json"
        ) from error
    own = [job for job in jobs.values() if job.name != ALL_CLIENTS] or list(jobs.values())
    sums = [job for job in jobs.values() if job not in own]
    known = version[1] if (version := _VERSION.search(text)) else "fio"
    return FioRun(path, known, 0.0, tuple(own), {}, options_known=False, everything=sums[0] if sums else None)


def _blocks(text: str) -> Iterator[tuple[re.Match[str], str]]:
    heads = list(_HEAD.finditer(text))
    for place, head in enumerate(heads):
        end = heads[place + 1].start() if place + 1 < len(heads) else len(text)
        stop = _END.search(text, head.end(), end)
        yield head, text[head.end() : stop.start() if stop else end]


def _job(head: re.Match[str], block: str) -> Job:
    starts = [*_SIDE.finditer(block)]
    ends = [match.start() for match in starts[1:]] + [len(block)]
    issued, short = _issued(block)
    sides = []
    for start, end in zip(starts, ends, strict=True):
        side = _side(start[1], block[start.start() : end], issued)
        sides += [side] if side is not None else []
    if short and sides:
        sides[0] = replace(sides[0], short_ios=short)
    directions, mixed = apart(sides)
    return Job(head[1], int(head[2]), int(head[3]), {}, directions, {}, 0.0, mixed)


def _issued(block: str) -> tuple[dict[str, int], int]:
    """The transfers of each side, and how many of all were short or dropped."""
    found = _TOTALS.search(block)
    if found:
        counts, bad = found.groups()[:3], [int(n) for part in found.groups()[3:] for n in part.split(",") if n]
    elif old := _TOTALS_2.search(block):
        counts, bad = old.groups()[:3], [int(n) for n in old.groups()[3:]]
    else:
        return {}, 0
    totals = dict(zip(SIDES, map(int, counts), strict=False))
    return totals | {"mixed": sum(totals.values())}, sum(bad)


def _side(name: str, text: str, issued: dict[str, int]) -> Side | None:
    first = text.partition("\n")[0]
    if new := _RATE.search(first):
        rate, bandwidth = finite(new[1]) * _THOUSANDS[new[2]], finite(new[3]) * _BYTES[new[4]]
        runtime = finite(new[5]) / 1000
    elif old := _RATE_2.search(first):
        rate, bandwidth = finite(old[3]) * _THOUSANDS[old[4]], finite(old[1]) * _BYTES_2[old[2][0]]
        runtime = finite(old[5]) / 1000
    elif name == "mixed":  # beside the directions (unified_rw_reporting=both) fio prints it without rates
        rate = bandwidth = runtime = 0.0
    else:
        raise ValueError(f"no rates in {first.strip()[:60]!r}")
    ios = issued.get(name, round(rate * runtime))
    if not ios:
        return None
    if name in issued and (runtime or name != "mixed"):
        agree(f"{name} IOPS", rate, ios, runtime)
    latency = _LATENCY.search(text)
    scale = _NS[latency[1]] if latency else 0.0
    return Side(
        name,
        ios / runtime if runtime and name in issued else rate,
        bandwidth,
        ios,
        runtime,
        finite(latency[2]) * scale if latency else 0.0,
        finite(latency[3]) * scale if latency else 0.0,
        dict(_percentiles(_PERCENTILES.findall(text))),
    )


def _percentiles(found: Iterable[Sequence[str]]) -> Iterator[tuple[float, float]]:
    for unit, rows in found:
        for which, value in _PERCENTILE.findall(rows):
            yield finite(which), finite(value) * _NS[unit]
