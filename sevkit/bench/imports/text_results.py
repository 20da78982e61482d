"""Results that programs print as text: sysbench, mbw, tinymembench; hyperfine's CSV; the Phoronix Test Suite's XML."""

import csv
import itertools
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import PurePath

from sevkit.bench import names
from sevkit.bench.imports import phoronix
from sevkit.bench.imports.given import BITS, Given, Reading, Value, metric, numbers, samples_of
from sevkit.bench.model import TIME, Direction, Metric
from sevkit.errors import BadInputError

_SYSBENCH = re.compile(r"^sysbench \d", re.MULTILINE)
_SYSBENCH_RATES: tuple[tuple[str, str, str], ...] = (
    ("events", r"events per second:\s*([\d.]+)", "1/s"),
    ("transactions", r"transactions:\s*\d+\s*\(([\d.]+) per sec\.\)", "1/s"),
    ("memory", r"transferred \(([\d.]+) MiB/sec\)", "MiB/s"),
    ("read", r"read, MiB/s:\s*([\d.]+)", "MiB/s"),
    ("written", r"written, MiB/s:\s*([\d.]+)", "MiB/s"),
)
# The options of a run that its rate depends on, as sysbench prints them.
_SYSBENCH_OPTION = re.compile(
    r"^\s*(Number of threads|Prime numbers limit|[Bb]lock size|total size|operation|scope)(?::\s*| )(\S.*?)\s*$",
    re.MULTILINE,
)
_SYSBENCH_COUNT = re.compile(r"total time:\s*([\d.]+)s\s+total number of events:\s*(\d+)")
_IPERF_HEAD = re.compile(r"^\[ ?ID\]\s+Interval\s+Transfer\s+(?:Bitrate|Bandwidth)", re.MULTILINE)
_IPERF = re.compile(
    r"^\[\s*(\d+|SUM)\]\s+[\d.]+-[\d.]+\s+sec\s+[\d.]+ \w*Bytes\s+([\d.]+) ([KMGT]?)bits/sec.*receiver\s*$",
    re.MULTILINE,
)
_IPERF_UNITS = {"": 1.0, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
_FIO_LOG = re.compile(r"(?:\d+, \d+, [0-2], \d+(?:, \d+){0,3}\n){1,3}")
_PERF_HEAD = re.compile(r"^\s*(?:VM-EXIT|IO Port Access|MMIO Access|MSR Access)\s+Samples\s+Samples%\s", re.MULTILINE)
_PERF = re.compile(
    r"^\s*(\S{1,60})\s+(\d+)\s+[\d.]+%\s+[\d.]+%\s+([\d.]+)us\s+([\d.]+)us\s+([\d.]+)us\s+\(\s*\+-", re.MULTILINE
)
_MBW = re.compile(
    r"^(\d+)\s+Method:\s*(\w+)\s+Elapsed:\s*[\d.]+\s+MiB:\s*([\d.]+)\s+Copy:\s*([\d.]+) MiB/s", re.MULTILINE
)
_TINY = re.compile(r"^ (.{3,80}?)\s+:\s+([\d.]+) MB/s", re.MULTILINE)
_TINY_HEAD = re.compile(r"^tinymembench v", re.MULTILINE)
_HYPERFINE = re.compile(r"^command,mean,stddev,median,", re.MULTILINE)

Reader = Callable[[str, PurePath, Given], Reading]


def sysbench(text: str, name: PurePath, given: Given) -> Reading:
    """Read one or more runs of sysbench in a file: the rate of each run, of file I/O those of reads and of writes."""
    if re.search(r"^(?:FATAL|ALERT):", text, re.MULTILINE):
        raise BadInputError("sysbench reports an error: a run that failed is no measurement")
    named = names.from_path(name)
    starts = [match.start() for match in _SYSBENCH.finditer(text)]
    runs = [text[start:end] for start, end in itertools.pairwise([*starts, len(text)])]
    several = len({_threads(run) for run in runs}) > 1
    found: dict[tuple[str, Metric], list[str]] = {}
    settings: dict[str, dict[str, dict[str, None]]] = {}
    for run in runs:
        for what, rate, unit in _sysbench_rates(run):
            title = named.workload or f"sysbench_{what}"
            title += f", {_threads(run) or 'unknown'} threads" if several else ""
            found.setdefault((title, metric(what, unit, higher=True)), []).append(rate)
            for key, value in _SYSBENCH_OPTION.findall(run):
                settings.setdefault(title, {}).setdefault(f"sysbench {key.lower()}", {})[value] = None
    facts = {title: {key: " and ".join(values) for key, values in known.items()} for title, known in settings.items()}
    values = [Value(title, kind, numbers(rates), facts=facts.get(title, {})) for (title, kind), rates in found.items()]
    return samples_of(values, name, given)


def _sysbench_rates(run: str) -> list[tuple[str, str, str]]:
    """What one run measured: name, rate, unit. A test that only writes prints a rate of 0 for reads."""
    found = [(what, match[1], unit) for what, pattern, unit in _SYSBENCH_RATES if (match := re.search(pattern, run))]
    files = [entry for entry in found if entry[0] in {"read", "written"} and float(entry[1]) > 0]
    if files or found[:1]:
        return files or found[:1]
    counted = _SYSBENCH_COUNT.search(run)
    if counted is None or not float(counted[1]):
        raise BadInputError("sysbench's output, but without a rate: was the run stopped?")
    return [("events", repr(float(counted[2]) / float(counted[1])), "1/s")]


def _threads(run: str) -> str:
    match = re.search(r"^Number of threads:\s*(\d{1,9})", run, re.MULTILINE)
    return match[1] if match else ""


def iperf3_text(text: str, name: PurePath, given: Given) -> Reading:
    """Read what iperf3 prints without --json: the receiver's rate over the whole run, the sum of parallel streams."""
    if failed := re.search(r"^iperf3: (?:error|interrupt) - (.*)$", text, re.MULTILINE):
        raise BadInputError(f"iperf3 reports: {failed[1]}: a run that failed is no measurement")
    found = _IPERF.findall(text)
    if not found:
        raise BadInputError("iperf3's output, but without the receiver's rate: was the run stopped?")
    sums = [entry for entry in found if entry[0] == "SUM"]
    rates = [float(rate) * _IPERF_UNITS[unit] for _, rate, unit in sums or found]
    if len(rates) > 1:
        raise BadInputError("several rates of receivers in one file of iperf3's")
    named = names.from_path(name)
    return samples_of([Value(named.workload or "iperf3", BITS, numbers(rates))], name, given)


def perf_kvm(text: str, name: PurePath, given: Given) -> Reading:
    """Read ``perf kvm stat report``: the mean time of each exit reason, with least, most, and how often it came."""
    found = []
    for reason, count, least, most, mean in _PERF.findall(text):
        workload = f"exit-{reason.lower()}"
        for part, unit, value in (("", "us", mean), ("_min", "us", least), ("_max", "us", most), ("s", "1", count)):
            name_of = "exits" if part == "s" else f"exit_cost{part}"
            kind = Metric(name_of, unit, Direction.LOWER, primary=not part)
            found.append(Value(workload, kind, numbers([value])))
    if not found:
        raise BadInputError("perf kvm stat's output, but without an exit")
    return samples_of(found, name, given)


def fio_log(text: str, name: PurePath, given: Given) -> Reading:
    """Refuse fio's log of single requests: its sums are in the JSON."""
    del text, name, given
    raise BadInputError("fio's log of single requests (--write_lat_log and the like): the JSON has their sums")


def mbw(text: str, name: PurePath, given: Given) -> Reading:
    """Read mbw: MiB/s of each repetition, by method; its averages are left out."""
    by_method: dict[str, list[str]] = {}
    sizes: dict[str, None] = {}
    for _, method, size, rate in _MBW.findall(text):
        by_method.setdefault(method.lower(), []).append(rate)
        sizes[f"{float(size):g} MiB"] = None
    facts = {"mbw array": ", ".join(sizes)}
    unit = metric("copy_rate", "MiB/s", higher=True)
    return samples_of(
        [Value(f"mbw_{method}", unit, numbers(rates), facts=facts) for method, rates in by_method.items()], name, given
    )


def tinymembench(text: str, name: PurePath, given: Given) -> Reading:
    """Read tinymembench: MB/s of each method to copy or fill memory."""
    unit = metric("copy_rate", "MB/s", higher=True)
    found = [Value(f"tinymembench_{_word(what)}", unit, numbers([rate])) for what, rate in _TINY.findall(text)]
    if not found:
        raise BadInputError("tinymembench's output, but without a rate: was the run stopped?")
    return samples_of(found, name, given)


def _word(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")


def hyperfine_csv(text: str, name: PurePath, given: Given) -> Reading:
    """Read hyperfine --export-csv: the mean of each command. It does not say whether runs failed."""
    values = []
    begin = _HYPERFINE.search(text)
    for number, row in enumerate(csv.DictReader(text[begin.start() if begin else 0 :].splitlines()), 2):
        try:
            command = names.from_command(str(row["command"]))
            parameter = row.get("parameter_mode")
            mean, facts = numbers([row["mean"]]), {"command": command.workload}
            system = parameter or str(row["command"])
            values.append(Value(command.workload or "command", TIME, mean, system, facts, command=not parameter))
        except (KeyError, BadInputError) as error:
            raise BadInputError(f"line {number} of the table: {error}") from error
    return replace(samples_of(values, name, given), derived=True)


READERS: tuple[tuple[Callable[[str], object], Reader], ...] = (
    (_SYSBENCH.search, sysbench),
    (_MBW.search, mbw),
    (_TINY_HEAD.search, tinymembench),
    (_HYPERFINE.search, hyperfine_csv),
    (phoronix.XML_START.search, phoronix.from_xml),
    (_IPERF_HEAD.search, iperf3_text),
    (_FIO_LOG.match, fio_log),
    (_PERF_HEAD.search, perf_kvm),
)
