"""JSON results of hyperfine, pyperf, pytest-benchmark, iperf3 and the Phoronix Test Suite."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import PurePath
from typing import Any

from sevkit.bench import names
from sevkit.bench.imports.given import BITS, Given, Value, numbers, proportioned, samples_of, settle
from sevkit.bench.model import TIME, Boot, Sample
from sevkit.errors import BadInputError

_PYPERF_UNITS = {
    "second": TIME,
    "byte": replace(TIME, name="memory", unit="B"),
    "integer": replace(TIME, name="count", unit="1"),
}
Reader = Callable[[Any, PurePath, Given], list[Sample]]


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


def hyperfine(document: Any, name: PurePath, given: Given) -> list[Sample]:
    """Read hyperfine --export-json. A document with failed runs is refused: their times are not measurements."""
    failed = failed_runs(document)
    if failed:
        command, bad, runs, code = failed[0]
        raise BadInputError(
            f"{bad} of {runs} runs of {command[:80]!r} failed (exit code {code}): a run that failed is no measurement"
        )
    samples: list[Sample] = []
    many = len(document["results"]) > 1
    for entry in document["results"]:
        command = str(entry.get("command", ""))
        parameters = {str(k): str(v) for k, v in (entry.get("parameters") or {}).items()}
        words = names.from_command(command)
        named = names.from_path(name)
        mode = names.from_name(parameters.get("mode", "")).mode or named.mode or words.mode
        settled = replace(named, mode=mode, workload=words.workload if many else named.workload)
        workload, storage, mode = settle(settled, given, words.workload or "command")
        at = Boot(str(name), given.provenance, {})
        extra = {"command": command}
        samples += [
            Sample(workload, storage, TIME, mode, value, iteration=i, at=at, boot=named.boot, extra=extra)
            for i, value in enumerate(numbers(entry.get("times") or [entry["mean"]]))
        ]
    return samples


def pyperf(document: Any, name: PurePath, given: Given) -> list[Sample]:
    """Read pyperf: the values of all its processes. Processes of one boot are no boots."""
    samples: list[Sample] = []
    shared = document.get("metadata", {})
    for benchmark in document["benchmarks"]:
        metadata = {**shared, **benchmark.get("metadata", {})}
        named = names.from_path(name)
        if metadata.get("name"):
            named = replace(named, workload=str(metadata["name"]))
        workload, storage, mode = settle(named, given, "benchmark")
        at = Boot(str(name), given.provenance, {"python": str(metadata.get("python_version", ""))})
        unit = _PYPERF_UNITS[metadata.get("unit", "second")]
        values = [value for run in benchmark.get("runs", []) for value in numbers(run.get("values", []))]
        samples += [
            Sample(workload, storage, unit, mode, v, iteration=i, at=at, boot=named.boot) for i, v in enumerate(values)
        ]
    return samples


def pytest_benchmark(document: Any, name: PurePath, given: Given) -> list[Sample]:
    """Read pytest --benchmark-json: the rounds where they were kept (--benchmark-save-data), else their mean (s)."""
    values = []
    for entry in document["benchmarks"]:
        stats = entry["stats"]
        rounds = stats.get("data") or [stats["mean"]]
        values.append(Value(names.from_command(str(entry["name"])).workload, TIME, numbers(rounds)))
    return samples_of(values, name, given)


def iperf3(document: Any, name: PurePath, given: Given) -> list[Sample]:
    """Read iperf3 --json: the receiver's rate; a run that ended with an error is refused."""
    if document.get("error"):
        raise BadInputError(f"iperf3 reports: {document['error']}: a run that failed is no measurement")
    end = document["end"]
    total = end.get("sum_received") or end.get("sum") or end["sum_sent"]
    named = names.from_path(name)
    return samples_of([Value(named.workload or "iperf3", BITS, numbers([total["bits_per_second"]]))], name, given)


def phoronix(document: Any, name: PurePath, given: Given) -> list[Sample]:
    """Read phoronix-test-suite result-file-to-json."""
    values = []
    for result in document["results"].values():
        title = " ".join(str(result.get(key) or "") for key in ("title", "arguments", "description")).strip()
        unit = proportioned(str(result.get("scale", "")), result.get("proportion"))
        for system, entry in result.get("results", {}).items():
            runs = entry.get("all_results") or entry.get("raw_values") or [entry["value"]]
            values.append(Value(title, unit, numbers(runs), str(system)))
    return samples_of(values, name, given)


def is_hyperfine(document: Any) -> bool:
    """Whether a document is hyperfine's."""
    return isinstance(document, dict) and _list_of(document.get("results"), "command")


def _is_pyperf(document: Any) -> bool:
    return isinstance(document, dict) and _list_of(document.get("benchmarks"), "runs")


def _is_pytest(document: Any) -> bool:
    return isinstance(document, dict) and _list_of(document.get("benchmarks"), "stats")


def _is_iperf3(document: Any) -> bool:
    return isinstance(document, dict) and "start" in document and ("end" in document or "error" in document)


def _is_phoronix(document: Any) -> bool:
    results = document.get("results") if isinstance(document, dict) else None
    return isinstance(results, Mapping) and all(isinstance(r, Mapping) and "results" in r for r in results.values())


def _list_of(value: Any, key: str) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], Mapping) and key in value[0]


READERS: tuple[tuple[Callable[[Any], bool], Reader], ...] = (
    (is_hyperfine, hyperfine),
    (_is_pyperf, pyperf),
    (_is_pytest, pytest_benchmark),
    (_is_iperf3, iperf3),
    (_is_phoronix, phoronix),
)
