"""Results of other programs, taken over as samples: fio, hyperfine, pyperf, and the tables of the published study."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Any

from sevkit.bench import names
from sevkit.bench.analysis import tables
from sevkit.bench.imports import fio
from sevkit.bench.model import BANDWIDTH, IOPS, LATENCY, TIME, Boot, Metric, Sample, checked
from sevkit.errors import BadInputError, UsageError
from sevkit.vocabulary import Mode, Provenance

MOST_FILES = 20_000

# The options that must be the same in two arms for their ratio to mean anything.
COMPARED_OPTIONS = (
    "rw",
    "bs",
    "iodepth",
    "numjobs",
    "size",
    "direct",
    "ioengine",
    "runtime",
    "rwmixread",
    "rwmixwrite",
)


@dataclass(frozen=True)
class Given:
    """What the user says about files whose names do not."""

    mode: Mode | None = None
    storage: str | None = None
    workload: str | None = None
    provenance: Provenance = Provenance.PUBLISHED


@dataclass
class Imported:
    """What was found: the samples in the order of measurement, and the files left out with the reason."""

    samples: list[Sample] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)


def read_folder(folder: Path, given: Given) -> Imported:
    """Read every result below a folder; raises BadInputError when there is none."""
    found = Imported()
    derived: list[tuple[str, list[Sample]]] = []
    for path in result_files(folder):
        name = str(path.relative_to(folder))
        try:
            samples, is_derived = _read(path, PurePath(name), given)
        except BadInputError as error:
            found.skipped.append((name, error.message))
            continue
        if is_derived:
            derived.append((name, samples))
        else:
            _add(found, name, samples)
    for name, samples in derived:
        _add_derived(found, name, samples)
    if not found.samples:
        raise BadInputError(
            f"{folder} holds no benchmark results that can be read",
            hint="name fio files like iops_randread-nvme-sev.json, or give --mode, --storage and --workload",
            detail="\n".join(f"{name}: {why}" for name, why in found.skipped[:20]),
        )
    found.samples = _in_order(found.samples)
    return found


def result_files(folder: Path) -> list[Path]:
    """The JSON and CSV files below a folder, in order of name; links and our own bookkeeping left out."""
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a directory")
    paths = (p for p in sorted(folder.rglob("*")) if p.suffix.lower() in {".json", ".csv"} and p.is_file())
    chosen = [p for p in paths if not p.name.startswith(".") and not p.is_symlink()]
    if len(chosen) > MOST_FILES:
        raise UsageError(f"{folder} holds {len(chosen)} files", hint=f"at most {MOST_FILES} are read at a time")
    return chosen


def _read(path: Path, name: PurePath, given: Given) -> tuple[list[Sample], bool]:
    """The samples of one file, and whether they are sums of other files (a table) rather than raw."""
    if path.suffix.lower() == ".csv":
        rows = tables.read(path)
        return _from_table(rows, name, given), rows.derived
    document = fio.read_json(path)
    for matches, reader in _JSON_READERS:
        if matches(document):
            return reader(document, path, name, given), False
    raise BadInputError("JSON of no program that is known here")


def _add(found: Imported, name: str, samples: list[Sample]) -> None:
    found.samples.extend(samples)
    found.files.append(name)


def _add_derived(found: Imported, name: str, samples: list[Sample]) -> None:
    """Take a table only where it says something that the raw files do not: the same value is not counted twice."""
    have = {(s.workload, s.storage, s.mode) for s in found.samples}
    fresh = [s for s in samples if (s.workload, s.storage, s.mode) not in have]
    if fresh:
        _add(found, name, fresh)
    if len(fresh) < len(samples):
        found.skipped.append((name, f"{len(samples) - len(fresh)} values are already there from the raw files"))


def _in_order(samples: list[Sample]) -> list[Sample]:
    """By wall clock where it is known; the order of the files otherwise."""
    timed = sorted(samples, key=lambda s: s.time) if all(s.time for s in samples) else samples
    return [replace(sample, order=index) for index, sample in enumerate(timed)]


def _settle(named: names.Named, given: Given, fallback: str) -> tuple[str, str, Mode]:
    """Workload, storage and mode: as given, else as named; raises BadInputError when the mode is not known."""
    mode = given.mode or named.mode
    if mode is None:
        raise BadInputError("its name does not say the mode (nosev, sev, sev-es, sev-snp); give --mode")
    storage = given.storage if given.storage is not None else named.storage
    return given.workload or named.workload or fallback, storage, mode


def _from_fio(document: Any, path: Path, name: PurePath, given: Given) -> list[Sample]:
    run = fio.parse(document, path)
    named = names.from_path(name)
    by_name: dict[str, list[fio.Job]] = {}
    for job in run.jobs:
        by_name.setdefault(job.name, []).append(job)
    workload, storage, mode = _settle(named, given, next(iter(by_name), "fio"))
    samples: list[Sample] = []
    for job_name, jobs in by_name.items():
        part = replace(run, jobs=tuple(jobs))
        title = workload if len(by_name) == 1 else f"{workload}/{job_name}"
        main = names.metric_of(title) or names.metric_of(job_name) or _by_shape(jobs[0])
        at = Boot(str(name) if len(by_name) == 1 else f"{name}#{job_name}", given.provenance, _fio_facts(run, jobs[0]))
        extra = {"source": str(name), "seconds": part.seconds, "jobs": len(jobs)}
        for metric, value in part.metrics():
            chosen = replace(metric, primary=metric.name == main.name)
            samples.append(
                Sample(title, storage, chosen, mode, value, boot=named.boot, time=run.time, at=at, extra=extra)
            )
    if not samples:
        raise BadInputError("fio moved no data in this run")
    return samples


def _by_shape(job: fio.Job) -> Metric:
    if job.number("bs", 4096) >= 65536:
        return BANDWIDTH
    return LATENCY if job.number("iodepth", 1) * job.number("numjobs", 1) == 1 else IOPS


def _fio_facts(run: fio.FioRun, job: fio.Job) -> dict[str, str]:
    facts = {f"fio {key}": job.option(key) for key in COMPARED_OPTIONS if key in job.options}
    return {"fio version": run.version, **facts}


def _from_hyperfine(document: Any, path: Path, name: PurePath, given: Given) -> list[Sample]:
    samples: list[Sample] = []
    for entry in document["results"]:
        command = str(entry.get("command", ""))
        parameters = {str(k): str(v) for k, v in (entry.get("parameters") or {}).items()}
        words = names.from_name(command) if len(command) < 80 else names.Named("")
        named = names.from_path(name)
        mode = names.from_name(parameters.get("mode", "")).mode or named.mode or words.mode
        many = len(document["results"]) > 1
        settled = replace(named, mode=mode, workload=words.workload if many else named.workload)
        workload, storage, mode = _settle(settled, given, words.workload or "command")
        at = Boot(str(name), given.provenance, {})
        samples += [
            Sample(
                workload, storage, TIME, mode, value, iteration=i, at=at, boot=named.boot, extra={"command": command}
            )
            for i, value in enumerate(_numbers(entry.get("times") or [entry["mean"]], path))
        ]
    return samples


def _from_pyperf(document: Any, path: Path, name: PurePath, given: Given) -> list[Sample]:
    samples: list[Sample] = []
    shared = document.get("metadata", {})
    for benchmark in document["benchmarks"]:
        metadata = {**shared, **benchmark.get("metadata", {})}
        named = names.from_path(name)
        if metadata.get("name"):
            named = replace(named, workload=str(metadata["name"]))
        workload, storage, mode = _settle(named, given, "benchmark")
        at = Boot(str(name), given.provenance, {"python": str(metadata.get("python_version", ""))})
        metric = replace(TIME, unit={"second": "s", "byte": "B"}.get(metadata.get("unit", "second"), "s"))
        for process, run in enumerate(benchmark.get("runs", [])):
            values = _numbers(run.get("values", []), path)
            samples += [
                Sample(workload, storage, metric, mode, v, iteration=i, at=at, boot=process)
                for i, v in enumerate(values)
            ]
    return samples


def _numbers(values: Iterable[Any], path: Path) -> list[float]:
    try:
        return [checked(value) for value in values]
    except ValueError as error:
        raise BadInputError(f"{path}: {error}") from error


def _from_table(rows: tables.Table, name: PurePath, given: Given) -> list[Sample]:
    at = Boot(str(name), given.provenance)
    samples = []
    for row in rows.rows:
        named = names.from_path(name)
        mode = row.mode or given.mode or named.mode
        if mode is None:
            raise BadInputError("neither its name nor a column says the mode; give --mode")
        storage = given.storage or row.storage or named.storage
        extra = {"source": str(name)}
        samples.append(Sample(row.workload, storage, row.metric, mode, row.value, time=row.time, at=at, extra=extra))
    return samples


_Reader = Callable[[Any, Path, PurePath, Given], list[Sample]]


def _guarded(reader: _Reader) -> _Reader:
    """A reader that answers foreign shapes with BadInputError."""

    def read(document: Any, path: Path, name: PurePath, given: Given) -> list[Sample]:
        try:
            return reader(document, path, name, given)
        except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
            raise BadInputError(f"{path} is damaged: {type(error).__name__}: {error}") from error

    return read


def _is_hyperfine(document: Any) -> bool:
    return isinstance(document, dict) and _list_of(document.get("results"), "command")


def _is_pyperf(document: Any) -> bool:
    return isinstance(document, dict) and _list_of(document.get("benchmarks"), "runs")


def _list_of(value: Any, key: str) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], Mapping) and key in value[0]


_JSON_READERS: tuple[tuple[Callable[[Any], bool], _Reader], ...] = (
    (fio.looks_like_fio, _guarded(_from_fio)),
    (_is_hyperfine, _guarded(_from_hyperfine)),
    (_is_pyperf, _guarded(_from_pyperf)),
)
