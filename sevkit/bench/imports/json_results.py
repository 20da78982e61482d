"""JSON results of hyperfine, pyperf, pytest-benchmark, iperf3 and the Phoronix Test Suite."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import PurePath
from typing import Any

from sevkit.bench import names
from sevkit.bench.imports import phoronix
from sevkit.bench.imports.given import BITS, Given, Reading, Value, numbers, samples_of
from sevkit.bench.model import TIME, number
from sevkit.errors import BadInputError

_PYPERF_UNITS = {
    "second": TIME,
    "byte": replace(TIME, name="memory", unit="B"),
    "integer": replace(TIME, name="count", unit="1"),
}
_PYPERF_FACTS = ("python_version", "python_implementation", "platform", "cpu_model_name")
_IPERF_FACTS = ("protocol", "num_streams", "blksize", "duration", "reverse", "bidir")
Reader = Callable[[Any, PurePath, Given], Reading]


def failed_runs(document: Any) -> list[tuple[str, int, int, int]]:
    """The commands of a hyperfine document with failed runs: command, failed runs, runs, first exit code.

    With --ignore-failure hyperfine also times failed runs; an exit code of null is a command that a signal ended.
    """
    found = []
    for entry in document["results"]:
        codes = entry.get("exit_codes") or []
        bad = [code for code in codes if code != 0]
        if bad:
            found.append(
                (str(entry.get("command", "")), len(bad), len(codes), bad[0] if isinstance(bad[0], int) else -1)
            )
    return found


def hyperfine(document: Any, name: PurePath, given: Given) -> Reading:
    """Read hyperfine --export-json. A document with failed runs is refused: their times are not measurements."""
    failed = failed_runs(document)
    if failed:
        command, bad, runs, code = failed[0]
        raise BadInputError(
            f"{bad} of {runs} runs of {command[:80]!r} failed (exit code {code}): a run that failed is no measurement"
        )
    values: list[Value] = []
    named = names.from_path(name)
    many = len(document["results"]) > 1
    for entry in document["results"]:
        command = str(entry.get("command", ""))
        parameters = {str(k): str(v) for k, v in (entry.get("parameters") or {}).items()}
        words = names.from_command(command)
        workload = (words.workload if many else named.workload or words.workload) or "command"
        times = numbers(entry.get("times") or [entry["mean"]])
        system, facts = parameters.get("mode") or command, {"command": words.workload}
        values.append(Value(workload, TIME, times, system, facts, command="mode" not in parameters))
    return samples_of(values, name, given)


def pyperf(document: Any, name: PurePath, given: Given) -> Reading:
    """Read pyperf: the values of all its processes. Processes of one boot are no boots."""
    found = []
    named = names.from_path(name)
    shared = document.get("metadata", {})
    for benchmark in document["benchmarks"]:
        metadata = {**shared, **benchmark.get("metadata", {})}
        unit = _PYPERF_UNITS[metadata.get("unit", "second")]
        values = [value for run in benchmark.get("runs", []) for value in numbers(run.get("values", []))]
        title = str(metadata.get("name") or named.workload or "benchmark")
        facts = {f"pyperf {key}": str(metadata[key]) for key in _PYPERF_FACTS if key in metadata}
        found.append(Value(title, unit, tuple(values), facts=facts))
    return samples_of(found, name, given)


def pytest_benchmark(document: Any, name: PurePath, given: Given) -> Reading:
    """Read pytest --benchmark-json: the rounds where they were kept (--benchmark-save-data), else their mean (s)."""
    values = []
    machine = document.get("machine_info") or {}
    facts = {f"pytest {key}": str(machine[key]) for key in ("python_version", "release", "machine") if key in machine}
    for entry in document["benchmarks"]:
        stats = entry["stats"]
        rounds = numbers(stats.get("data") or [stats["mean"]])
        title = str(entry["name"])
        # Only a parameter can be the mode that was measured: `test_sev_es_launch` is a test like any other.
        test, bracket, parameters = title.partition("[")
        said = names.from_command(parameters.removesuffix("]"))
        if bracket and (said.mode or said.unclear):
            title = f"{test}[{said.workload}]" if said.workload else test
            values.append(Value(title, TIME, rounds, parameters.removesuffix("]"), facts))
        else:
            values.append(Value(title, TIME, rounds, facts=facts))
    return samples_of(values, name, given)


def iperf3(document: Any, name: PurePath, given: Given) -> Reading:
    """Read iperf3 --json: the receiver's rate; a run that ended with an error is refused."""
    if document.get("error"):
        raise BadInputError(f"iperf3 reports: {document['error']}: a run that failed is no measurement")
    end = document["end"]
    total = end.get("sum_received") or end.get("sum") or end["sum_sent"]
    started = document["start"].get("test_start") or {}
    facts = {f"iperf3 {key}": str(started[key]) for key in _IPERF_FACTS if key in started}
    stamp = document["start"].get("timestamp") or {}
    title = names.from_path(name).workload or "iperf3"
    rate = numbers([total["bits_per_second"]])
    return samples_of([Value(title, BITS, rate, facts=facts, time=number(stamp.get("timesecs") or 0))], name, given)


def is_hyperfine(document: Any) -> bool:
    """Whether a document is hyperfine's."""
    return isinstance(document, dict) and _list_of(document.get("results"), "command")


def _is_pyperf(document: Any) -> bool:
    return isinstance(document, dict) and _list_of(document.get("benchmarks"), "runs")


def _is_pytest(document: Any) -> bool:
    return isinstance(document, dict) and _list_of(document.get("benchmarks"), "stats")


def _is_iperf3(document: Any) -> bool:
    return isinstance(document, dict) and "start" in document and ("end" in document or "error" in document)


def _list_of(value: Any, key: str) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], Mapping) and key in value[0]


READERS: tuple[tuple[Callable[[Any], bool], Reader], ...] = (
    (is_hyperfine, hyperfine),
    (_is_pyperf, pyperf),
    (_is_pytest, pytest_benchmark),
    (_is_iperf3, iperf3),
    (phoronix.is_json, phoronix.from_json),
)
