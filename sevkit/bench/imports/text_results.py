"""Results that programs print as text: sysbench, mbw, tinymembench; hyperfine's CSV; the Phoronix Test Suite's XML."""

import csv
import re
from collections.abc import Callable
from pathlib import PurePath
from xml.etree import ElementTree as ET

from sevkit.bench import names
from sevkit.bench.imports.given import Given, Value, metric, numbers, samples_of
from sevkit.bench.model import TIME, Sample
from sevkit.errors import BadInputError

_SYSBENCH = re.compile(r"^sysbench \d", re.MULTILINE)
_SYSBENCH_RATES: tuple[tuple[str, str, str], ...] = (
    ("events", r"events per second:\s*([\d.]+)", "1/s"),
    ("transactions", r"transactions:\s*\d+\s*\(([\d.]+) per sec\.\)", "1/s"),
    ("memory", r"transferred \(([\d.]+) MiB/sec\)", "MiB/s"),
    ("read", r"read, MiB/s:\s*([\d.]+)", "MiB/s"),
    ("written", r"written, MiB/s:\s*([\d.]+)", "MiB/s"),
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
    """Read one or more runs of sysbench in a file: the first rate of each run is one repetition."""
    if re.search(r"^(?:FATAL|ALERT):", text, re.MULTILINE):
        raise BadInputError("sysbench reports an error: a run that failed is no measurement")
    named = names.from_path(name)
    for what, pattern, unit in _SYSBENCH_RATES:
        found = re.findall(pattern, text)
        if found:
            workload = named.workload or f"sysbench_{what}"
            return samples_of([Value(workload, metric(what, unit, higher=True), numbers(found))], name, given)
    raise BadInputError("sysbench's output, but without a rate: was the run stopped?")


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
            command = names.from_name(str(row["command"])[:80])
            mode = row.get("parameter_mode") or ""
            values.append(Value(command.workload or "command", TIME, numbers([row["mean"]]), mode))
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
        lower = (result.findtext("Proportion") or "").strip().upper() == "LIB"
        unit = metric("result", (result.findtext("Scale") or "").strip(), higher=not lower)
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
)
