"""Rules that look at one fio run."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from sevkit.bench.imports.fio import FioRun, Job
from sevkit.bench.lint.rules import Finding, Severity

SHORTEST = 10.0  # seconds: below this, one flush of a cache decides the number
UNEVEN = 0.15

# fio documentation, "I/O engine": engines with one request in flight, regardless of iodepth.
SYNCHRONOUS = {"psync", "sync", "vsync", "pvsync", "pvsync2", "mmap", "splice", "null-sync", "ftruncate"}


def check(run: FioRun, name: str) -> Iterator[Finding]:
    """All findings on one run; ``name`` is the file's name for the user."""
    for rule in _RULES:
        yield from rule(run, name)


def _asked(job: Job, run: FioRun) -> int:
    """The requested depth of one entry of ``jobs``; with group_reporting it is the sum over all clones."""
    clones = job.number("numjobs", 1) if len(run.jobs) == 1 else 1
    return job.number("iodepth", 1) * clones


def _engine(run: FioRun, name: str) -> Iterator[Finding]:
    job = run.jobs[0] if run.jobs and run.options_known else None
    if job is None:
        return
    engine, depth = job.option("ioengine", "psync"), job.number("iodepth", 1)
    if depth <= 1 or engine not in SYNCHRONOUS:
        return
    said = "ioengine is not set, and fio's default is psync" if "ioengine" not in job.options else f"ioengine={engine}"
    yield Finding(
        "engine-without-depth",
        Severity.ERROR,
        name,
        f"iodepth={depth} has no effect: {said}, which has one request under way",
        "--ioengine=libaio --direct=1 (or io_uring)",
        {
            "ioengine": job.options.get("ioengine"),
            "iodepth": depth,
            "iodepth_level_1_percent": job.depth_levels.get("1"),
        },
    )


def _little(run: FioRun, name: str) -> Iterator[Finding]:
    """Little's law: the mean number of requests in flight is their rate times their mean latency.

    Example: 10,000 IOPS at 0.1 ms mean latency are 1 request in flight, even if the job says iodepth=32.
    """
    for job in run.jobs[:1]:
        asked = _asked(job, run)
        effective = sum(s.iops * s.latency_mean / 1e9 for s in job.sides)
        if asked < 2 or effective == 0 or effective >= 0.5 * asked:
            continue
        yield Finding(
            "queue-depth",
            Severity.ERROR,
            name,
            f"the effective queue depth is {effective:.2f}, not {asked}",
            "--ioengine=libaio (or io_uring) with --direct=1, and check iodepth_level in the output",
            {
                "effective_queue_depth": round(effective, 3),
                "asked": asked,
                "iops": sum(s.iops for s in job.sides),
                "latency_ns": [s.latency_mean for s in job.sides],
                "iodepth_level_1_percent": job.depth_levels.get("1"),
            },
        )


def _duration(run: FioRun, name: str) -> Iterator[Finding]:
    job = run.jobs[0] if run.jobs else None
    if job is None or not job.sides:
        return
    timed = _time_based(job, run.seconds)
    evidence = {
        "seconds": round(run.seconds, 3),
        "runtime_option": job.options.get("runtime"),
        "time_based": timed,
        "size": job.options.get("size"),
    }
    if run.seconds < SHORTEST:
        capped = "; runtime only caps a run, it does not lengthen it" if "runtime" in job.options and not timed else ""
        message = f"the run lasted {run.seconds:.2f} s, less than {SHORTEST:.0f} s{capped}"
        yield Finding("short-run", Severity.ERROR, name, message, "--time_based --runtime=60 --ramp_time=5", evidence)
    elif not timed and run.options_known:
        message = f"the run ended with its data after {run.seconds:.1f} s"
        yield Finding("not-time-based", Severity.NOTE, name, message, "--time_based --runtime=60", evidence)
    if "ramp_time" not in job.options and run.options_known:
        message = "no ramp_time: the start of the run, with cold caches and queues, is in the number"
        yield Finding("no-ramp", Severity.NOTE, name, message, "--ramp_time=5")


def _time_based(job: Job, seconds: float) -> bool:
    """Whether the run was time-based. fio omits flags without a value from its JSON, so the duration decides."""
    if job.option("time_based", "0") not in {"0", ""}:
        return True
    asked = duration(job.option("runtime"))
    return asked is not None and seconds >= 0.97 * asked


def duration(text: str) -> float | None:
    """Parse a time as fio writes it (``60``, ``90s``, ``2m``, ``500ms``): seconds, or None."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(us|ms|s|m|h|d)?", text.strip().lower())
    if match is None:
        return None
    factor = {"us": 1e-6, "ms": 1e-3, "s": 1, None: 1, "m": 60, "h": 3600, "d": 86400}[match.group(2)]
    return float(match.group(1)) * factor


def _mix(run: FioRun, name: str) -> Iterator[Finding]:
    for job in run.jobs[:1]:
        asked = [key for key in ("rwmixread", "rwmixwrite") if key in job.options]
        pattern = job.option("rw", job.option("readwrite", "read")).split(":")[0]
        mixed_name = "mix" in name.lower().rsplit("/", 1)[-1] or "mix" in job.name.lower()
        done = {s.name: sum(t.ios for j in run.jobs for t in j.sides if t.name == s.name) for s in job.sides}
        if not (asked or mixed_name) or "mixed" in done or len(set(done) & {"read", "write"}) == 2:
            continue
        option = f"{asked[0]}={job.option(asked[0])}" if asked else "the name says mixed"
        only = ", ".join(f"{count} {side}s" for side, count in done.items())
        yield Finding(
            "not-mixed",
            Severity.ERROR,
            name,
            f"{option}, but rw={pattern} is not mixed: {only} and nothing else; this is a second run of the pure test",
            "--rw=randrw --rwmixread=70 (rwmixread works with rw=rw and rw=randrw only)",
            {"rw": pattern, "requests": done, **{key: job.option(key) for key in asked}},
        )


def _jobs(run: FioRun, name: str) -> Iterator[Finding]:
    clones = [job for job in run.jobs if job.name == run.jobs[0].name and job.sides]
    if len(clones) < 2:
        return
    rates = [sum(s.iops for s in job.sides) for job in clones]
    yield Finding(
        "jobs-dropped",
        Severity.WARNING,
        name,
        f"{len(clones)} jobs without group_reporting: jobs[0] has {rates[0]:.0f} IOPS, all of them {sum(rates):.0f}; "
        f"whoever reads jobs[0] publishes {rates[0] / sum(rates):.0%} of the result",
        "--group_reporting, or sum over all jobs (sevkit bench import does)",
        {"jobs": len(clones), "iops_first_job": rates[0], "iops_all_jobs": sum(rates)},
    )
    times = [max(s.runtime for s in job.sides) for job in clones]
    if min(times) < (1 - UNEVEN) * max(times):
        yield Finding(
            "uneven-jobs",
            Severity.WARNING,
            name,
            f"the jobs ran from {min(times):.1f} to {max(times):.1f} s: for the rest of the time fewer were at work",
            "--time_based --runtime=60, so that all jobs end together",
            {"seconds": times},
        )


def _cache(run: FioRun, name: str) -> Iterator[Finding]:
    for job in run.jobs[:1]:
        unbuffered = job.option("direct", "0") not in {"0", ""} or job.option("buffered", "1") == "0"
        if job.sides and run.options_known and not unbuffered:
            yield Finding(
                "page-cache",
                Severity.ERROR,
                name,
                "direct is not set: the guest's page cache was measured, not the disk",
                "--direct=1, and cache=none for the disk on the host",
                {"direct": job.options.get("direct"), "size": job.options.get("size")},
            )
    moved = sum(s.ios for job in run.jobs for s in job.sides)
    seen = sum(_device_requests(disk) for disk in run.disks.values())
    if run.disks and moved > 1000 and seen < 0.1 * moved:
        yield Finding(
            "no-device-io",
            Severity.ERROR,
            name,
            f"fio made {moved} requests, the device saw {seen}: a cache answered",
            "--direct=1 --invalidate=1, and a file larger than the guest's memory",
            {"requests": moved, "device_requests": seen},
        )


def _device_requests(disk: Mapping[str, Any]) -> int:
    """Requests that reached a device, counted before the block layer merged them."""
    return sum(int(disk.get(f"{side}_{kind}") or 0) for side in ("read", "write") for kind in ("ios", "merges"))


def _command(run: FioRun, name: str) -> Iterator[Finding]:
    for job in run.jobs[:1]:
        for key, value in job.options.items():
            if "--" in value:
                yield Finding(
                    "missing-space",
                    Severity.ERROR,
                    name,
                    f"the option {key} swallowed the next one: {key}={value}",
                    f'put a space before each "--" that follows {key}',
                    {key: value},
                )


def _health(run: FioRun, name: str) -> Iterator[Finding]:
    failed = [job.error for job in run.jobs if job.error]
    if failed or run.short:
        yield Finding(
            "job-error",
            Severity.ERROR,
            name,
            f"{len(failed)} jobs failed, {run.short} transfers were short or dropped",
            "look at fio's messages, and measure again",
            {"errors": failed, "short_or_dropped": run.short},
        )
    if run.unfinished:
        yield Finding(
            "unfinished-run",
            Severity.WARNING,
            name,
            "the last report in the file is one of a run that went on (--status-interval)",
            "keep the report that fio writes at its end",
        )
    for job in run.jobs[:1]:
        for side in job.sides:
            if side.latency_mean and side.latency_deviation > side.latency_mean:
                times = side.latency_deviation / side.latency_mean
                yield Finding(
                    "ruled-by-tail",
                    Severity.NOTE,
                    name,
                    f"the standard deviation of the {side.name} latency is {times:.1f} times its mean",
                    "report p50 and p99 beside the mean",
                    {
                        "mean_ns": side.latency_mean,
                        "deviation_ns": side.latency_deviation,
                        "p50_ns": side.percentiles.get(50.0),
                        "p99_ns": side.percentiles.get(99.0),
                    },
                )


_RULES: tuple[Callable[[FioRun, str], Iterator[Finding]], ...] = (
    _engine,
    _little,
    _duration,
    _mix,
    _jobs,
    _cache,
    _command,
    _health,
)
