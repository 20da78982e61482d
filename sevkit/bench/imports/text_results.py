"""Results that programs print as text: sysbench, mbw, tinymembench; hyperfine's CSV; the Phoronix Test Suite's XML."""

import csv
import itertools
import re
from collections.abc import Callable
from pathlib import PurePath
from xml.etree import ElementTree as ET

from sevkit.bench import names
from sevkit.bench.imports.given import BITS, Given, Value, metric, numbers, proportioned, samples_of
from sevkit.bench.model import TIME, Direction, Metric, Sample
from sevkit.errors import BadInputError

_SYSBENCH = re.compile(r"^sysbench \d", re.MULTILINE)
_SYSBENCH_RATES: tuple[tuple[str, str, str], ...] = (
    ("events", r"events per second:\s*([\d.]+)", "1/s"),
    ("transactions", r"transactions:\s*\d+\s*\(([\d.]+) per sec\.\)", "1/s"),
    ("memory", r"transferred \(([\d.]+) MiB/sec\)", "MiB/s"),
    ("read", r"read, MiB/s:\s*([\d.]+)", "MiB/s"),
    ("written", r"written, MiB/s:\s*([\d.]+)", "MiB/s"),
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
    r"^(\d+)\s+Method:\s*(\w+)\s+Elapsed:\s*[\d.]+\s+MiB:\s*[\d.]+\s+Copy:\s*([\d.]+) MiB/s", re.MULTILINE
)
_TINY = re.compile(r"^ (.{3,80}?)\s+:\s+([\d.]+) MB/s", re.MULTILINE)
_TINY_HEAD = "tinymembench"
_XML_START = re.compile(
    r"\s*(?:<\?xml[^>]{0,200}\?>\s*)?(?:<\?[^>]{0,400}\?>\s*|<!--.{0,4000}?-->\s*)*<PhoronixTestSuite", re.DOTALL
)

Reader = Callable[[str, PurePath, Given], list[Sample]]


def sysbench(text: str, name: PurePath, given: Given) -> list[Sample]:
    """Read one or more runs of sysbench in a file: the rate of each run, of file I/O those of reads and of writes."""
    if re.search(r"^(?:FATAL|ALERT):", text, re.MULTILINE):
        raise BadInputError("sysbench reports an error: a run that failed is no measurement")
    named = names.from_path(name)
    starts = [match.start() for match in _SYSBENCH.finditer(text)]
    runs = [text[start:end] for start, end in itertools.pairwise([*starts, len(text)])]
    several = len({_threads(run) for run in runs}) > 1
    found: dict[tuple[str, Metric], list[str]] = {}
    for run in runs:
        for what, rate, unit in _sysbench_rates(run):
            title = named.workload or f"sysbench_{what}"
            title += f", {_threads(run) or 'unknown'} threads" if several else ""
            found.setdefault((title, metric(what, unit, higher=True)), []).append(rate)
    return samples_of([Value(title, kind, numbers(rates)) for (title, kind), rates in found.items()], name, given)


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


def iperf3_text(text: str, name: PurePath, given: Given) -> list[Sample]:
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


def perf_kvm(text: str, name: PurePath, given: Given) -> list[Sample]:
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


def fio_log(text: str, name: PurePath, given: Given) -> list[Sample]:
    """Refuse fio's log of single requests: its sums are in the JSON."""
    del text, name, given
    raise BadInputError("fio's log of single requests (--write_lat_log and the like): the JSON has their sums")


def mbw(text: str, name: PurePath, given: Given) -> list[Sample]:
    """Read mbw: MiB/s of each repetition, by method; its averages are left out."""
    by_method: dict[str, list[str]] = {}
    for _, method, rate in _MBW.findall(text):
        by_method.setdefault(method.lower(), []).append(rate)
    unit = metric("copy_rate", "MiB/s", higher=True)
    return samples_of(
        [Value(f"mbw_{method}", unit, numbers(rates)) for method, rates in by_method.items()], name, given
    )


def tinymembench(text: str, name: PurePath, given: Given) -> list[Sample]:
    """Read tinymembench: MB/s of each method to copy or fill memory."""
    unit = metric("copy_rate", "MB/s", higher=True)
    found = [Value(f"tinymembench_{_word(what)}", unit, numbers([rate])) for what, rate in _TINY.findall(text)]
    if not found:
        raise BadInputError("tinymembench's output, but without a rate: was the run stopped?")
    return samples_of(found, name, given)


def _word(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")


def hyperfine_csv(text: str, name: PurePath, given: Given) -> list[Sample]:
    """Read hyperfine --export-csv: the mean of each command. It does not say whether runs failed."""
    values = []
    for number, row in enumerate(csv.DictReader(text.splitlines()), 2):
        try:
            command = names.from_command(str(row["command"]))
            system = row.get("parameter_mode") or str(row["command"])
            values.append(Value(command.workload or "command", TIME, numbers([row["mean"]]), system))
        except (KeyError, BadInputError) as error:
            raise BadInputError(f"line {number}: {error}") from error
    return samples_of(values, name, given)


def phoronix_xml(text: str, name: PurePath, given: Given) -> list[Sample]:
    """Read composite.xml of the Phoronix Test Suite: the runs (RawString) if present, else the value."""
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise BadInputError("XML with declarations of its own is not read")
    try:
        root = ET.fromstring(text)  # noqa: S314 - entities are refused above
    except ET.ParseError as error:
        raise BadInputError(f"damaged XML: {error}") from error
    values = []
    for result in root.iter("Result"):
        parts = [result.findtext(key) or "" for key in ("Title", "Arguments", "Description")]
        unit = proportioned((result.findtext("Scale") or "").strip(), result.findtext("Proportion"))
        for entry in result.iter("Entry"):
            runs = [run for run in (entry.findtext("RawString") or "").split(":") if run.strip()]
            runs = runs or [entry.findtext("Value") or ""]
            values.append(Value(" ".join(filter(None, parts)), unit, numbers(runs), entry.findtext("Identifier") or ""))
    return samples_of(values, name, given)


READERS: tuple[tuple[Callable[[str], object], Reader], ...] = (
    (_SYSBENCH.search, sysbench),
    (_MBW.search, mbw),
    (lambda text: text.lstrip().startswith(_TINY_HEAD), tinymembench),
    (lambda text: text.startswith("command,mean,stddev,median,"), hyperfine_csv),
    (_XML_START.match, phoronix_xml),
    (_IPERF_HEAD.search, iperf3_text),
    (_FIO_LOG.match, fio_log),
    (_PERF_HEAD.search, perf_kvm),
)
