"""Import results of other programs as samples: find the files of a folder, and the reader for each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePath

from sevkit.bench import names, twins
from sevkit.bench.analysis import tables
from sevkit.bench.imports import documents, fio, fio_text, json_results, terse, text_results, unsure
from sevkit.bench.imports.given import Given, Reading, own_name, settle
from sevkit.bench.model import BANDWIDTH, IOPS, LATENCY, Boot, Metric, Sample
from sevkit.errors import BadInputError, UsageError

__all__ = ["Given", "Imported", "NoResultsError", "read_folder", "result_files", "suffix_of"]

MOST_FILES = 20_000
ALWAYS = {".json", ".csv", ".xml"}  # expected to hold results
MAYBE = {".txt", ".log", ".out"}  # may also be notes
_MEAN = "mean of percentiles"  # marks a sample that is none
NO_PERCENTILE = (
    "its latency percentiles are left out, the rest is imported: fio printed one per job or direction, and those have "
    "no common one; use --output-format=json+, or --group_reporting with --unified_rw_reporting=both"
)
KNOWN = "fio, hyperfine, pyperf, pytest-benchmark, iperf3, Phoronix Test Suite, sysbench, mbw, tinymembench, perf kvm"

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


@dataclass
class Imported:
    """What was found: the samples in the order of measurement, and the files left out with the reason.

    ``means`` are what older versions took for percentiles of fio's: no results, but `verify` must know them.
    """

    samples: list[Sample] = field(default_factory=list)
    means: list[Sample] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)


def read_folder(folder: Path, given: Given) -> Imported:
    """Read every result below a folder; raises BadInputError when there is none."""
    found = Imported()
    readings = _readings(folder, given, found)
    for name, why in (*unsure.borrowed_modes(readings, given), *unsure.copies(readings, folder)):
        readings.pop(name, None)
        found.skipped.append((name, why))
    for name, reading in readings.items():
        found.skipped += [(name, why) for why in reading.left_out]
        if not reading.derived:
            _add(found, name, [s for s in reading.samples if not s.extra.get(_MEAN)])
            if means := [s for s in reading.samples if s.extra.get(_MEAN)]:
                found.means += means
                found.skipped.append((name, NO_PERCENTILE))
    for name, reading in readings.items():
        if reading.derived:
            _add_derived(found, name, reading.samples)
    if not found.samples:
        raise BadInputError(
            f"{folder} holds no benchmark results that can be read",
            hint="name files like iops_randread-nvme-sev.json, or give --mode, --storage and --workload; "
            f"read are {KNOWN}",
            detail="\n".join(f"{name}: {why}" for name, why in found.skipped[:20]),
        )
    found.samples = _in_order(found.samples)
    return found


def _readings(folder: Path, given: Given, found: Imported) -> dict[str, Reading]:
    """What each file holds, by its name below the folder; files without results are listed in ``found``."""
    readings: dict[str, Reading] = {}
    for path in result_files(folder):
        name = str(path.relative_to(folder))
        try:
            readings[name] = _read(path, PurePath(name), given)
        except NoResultsError as error:
            if suffix_of(path) in ALWAYS:
                found.skipped.append((name, error.message))
        except BadInputError as error:
            found.skipped.append((name, error.message))
    return readings


def result_files(folder: Path) -> list[Path]:
    """The files below a folder that may hold results, in order of name, without links and sevkit's own files."""
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a directory")
    paths = (p for p in sorted(folder.rglob("*")) if suffix_of(p) in {*ALWAYS, *MAYBE} and p.is_file())
    chosen = [p for p in paths if not p.name.startswith(".") and not p.is_symlink()]
    if len(chosen) > MOST_FILES:
        raise UsageError(f"{folder} holds {len(chosen)} files", hint=f"at most {MOST_FILES} are read at a time")
    return chosen


def suffix_of(path: PurePath) -> str:
    """The suffix that tells a file's format, without that of a compression."""
    return own_name(path).suffix.lower()


class NoResultsError(BadInputError):
    """The file contains no result of a known program."""


def _read(path: Path, name: PurePath, given: Given) -> Reading:
    """The samples of one file."""
    text = documents.read_text(path)
    own = own_name(name)
    for matches, reader in text_results.READERS:
        if matches(text):
            return _guarded(path, partial(reader, text, own, given))
    if terse.looks_like(text):
        return Reading(_from_fio(terse.parse(text, path), own, given))
    if fio_text.looks_like(text):
        return Reading(_from_runs(fio_text.parse(text, path), own, given))
    if suffix_of(path) == ".csv":
        rows = tables.parse(text, Path(own_name(path)))
        return Reading(_from_table(rows, own, given), derived=rows.derived)
    if suffix_of(path) in MAYBE and "{" not in text:
        raise NoResultsError(f"no results of a program that is known here ({KNOWN})")
    return _guarded(path, partial(_from_json, path, text, own, given))


def _from_json(path: Path, text: str, name: PurePath, given: Given) -> Reading:
    ended = fio.ended(documents.split(text, path), path)
    document = ended[-1]
    if fio.looks_like_fio(document):
        return Reading(_from_runs([fio.parse(each, path) for each in ended], name, given))
    for matches, reader in json_results.READERS:
        if matches(document):
            return reader(document, name, given)
    raise NoResultsError(f"JSON of no program that is known here ({KNOWN})")


def _guarded(path: Path, read: Callable[[], Reading]) -> Reading:
    """Run a reader; errors of unexpected data become BadInputError."""
    try:
        return read()
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise BadInputError(f"{path} is damaged: {type(error).__name__}: {error}") from error


def _add(found: Imported, name: str, samples: list[Sample]) -> None:
    found.samples.extend(samples)
    found.files.append(name)


def _add_derived(found: Imported, name: str, samples: list[Sample]) -> None:
    """Add a table's values only if the raw files do not have them, so that no value is counted twice."""
    have = {(s.workload, s.storage, s.mode, s.boot) for s in found.samples}
    fresh = [s for s in samples if (s.workload, s.storage, s.mode, s.boot) not in have]
    if fresh:
        _add(found, name, fresh)
    if len(fresh) < len(samples):
        found.skipped.append((name, f"{len(samples) - len(fresh)} values are already there from the raw files"))


def _in_order(samples: list[Sample]) -> list[Sample]:
    """By wall clock where it is known; the order of the files otherwise."""
    timed = sorted(samples, key=lambda s: s.time) if all(s.time for s in samples) else samples
    return [replace(sample, order=index) for index, sample in enumerate(timed)]


def _from_runs(runs: Sequence[fio.FioRun], name: PurePath, given: Given) -> list[Sample]:
    """Several runs in one file are repetitions, each with an identity of its own; one that stands twice counts once."""
    if len(runs) == 1:
        return _from_fio(runs[0], name, given)
    found: list[Sample] = []
    seen = set()
    for number, run in enumerate(runs, 1):
        samples = _from_fio(run, name, given)
        figures = twins.figures(samples)
        if figures in seen and twins.unique(samples):
            continue
        seen.add(figures)
        for sample in samples:
            at = sample.at and replace(sample.at, identity=f"{sample.at.identity} run {number}")
            found.append(replace(sample, at=at, iteration=number - 1))
    return found


def _from_fio(run: fio.FioRun, name: PurePath, given: Given) -> list[Sample]:
    if run.failure:
        raise BadInputError(run.failure)
    named = names.from_path(name)
    by_name = _by_name(run.jobs)
    workload, storage, mode = settle(named, given, next(iter(by_name), "fio"))
    samples: list[Sample] = []
    for job_name, jobs in by_name.items():
        part = run.part(jobs)
        title = workload if len(by_name) == 1 else f"{workload}/{job_name}"
        main = names.metric_of(title) or names.metric_of(job_name) or _by_shape(jobs[0])
        at = Boot(str(name) if len(by_name) == 1 else f"{name}#{job_name}", given.provenance, _fio_facts(run, jobs[0]))
        extra = {"source": str(name), "seconds": part.seconds, "jobs": len(jobs)}
        if run.unfinished:
            extra["unfinished"] = True
        found = [(metric, value, extra) for metric, value in part.metrics()]
        found += [(metric, value, {**extra, _MEAN: True}) for metric, value in part.mean_percentiles()]
        for metric, value, more in found:
            chosen = replace(metric, primary=metric.name == main.name)
            samples.append(
                Sample(title, storage, chosen, mode, value, boot=named.boot, time=run.time, at=at, extra=more)
            )
    if not samples:
        raise BadInputError("fio moved no data in this run")
    return samples


def _by_name(jobs: Sequence[fio.Job]) -> dict[str, list[fio.Job]]:
    """The jobs whose rates add up: those of one name that ran at once. After a stonewall fio begins a new group."""
    groups: dict[str, set[int]] = {}
    for job in jobs:
        groups.setdefault(job.name, set()).add(job.group)
    found: dict[str, list[fio.Job]] = {}
    for job in jobs:
        label = job.name if len(groups[job.name]) == 1 else f"{job.name} (group {job.group})"
        found.setdefault(label, []).append(job)
    return found


def _by_shape(job: fio.Job) -> Metric:
    if job.number("bs", 4096) >= 65536:
        return BANDWIDTH
    return LATENCY if job.number("iodepth", 1) * job.number("numjobs", 1) == 1 else IOPS


def _fio_facts(run: fio.FioRun, job: fio.Job) -> dict[str, str]:
    facts = {f"fio {key}": job.option(key) for key in COMPARED_OPTIONS if key in job.options}
    return {"fio version": run.version, **facts}


def _from_table(rows: tables.Table, name: PurePath, given: Given) -> list[Sample]:
    at = Boot(str(name), given.provenance)
    samples = []
    named = names.from_path(name)
    for row in rows.rows:
        said = replace(named, mode=row.mode or named.mode, storage=row.storage or named.storage)
        _, storage, mode = settle(said, given, row.workload)
        extra = {"source": str(name)}
        samples.append(Sample(row.workload, storage, row.metric, mode, row.value, time=row.time, at=at, extra=extra))
    return samples
