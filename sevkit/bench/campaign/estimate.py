"""Estimate a plan's duration before the measurement: rough, but enough to refuse plans beyond their budget."""

import os
import re

from sevkit.bench.analysis.comparison import FEWEST_BOOTS
from sevkit.bench.campaign.place import LONGEST_RAMP
from sevkit.bench.campaign.plan import Config, Plan, Slot
from sevkit.bench.suite import Workload, workloads
from sevkit.errors import UsageError

# Seconds from the start of a guest until it answers; the images without and with benchmark programs. Without KVM all
# durations here and in the suites are those of campaigns on two CPUs that had them to themselves:
# the mean of two guests of mode nosev and one of sev-snp, which takes 1.3 times as long.
_BOOT = {"mini": 5.0}
_LARGER_BOOT = 10.0
_LARGER_BOOT_EMULATED = 16.0  # with 2 s of questions to the guest, and its end
_EMULATED = 7.0  # slowdown factor of the larger image's programs without KVM
_EMULATED_COMPILER = 15.0  # the same for compilers, by CPU time: 14 for ImageMagick's first 36 files, 16 for 76
_FIO_START = 0.4
_FIO_START_EMULATED = 0.9
_FIO_FIRST_EMULATED = 2.0  # the first start of fio in a boot
_OTHERS = 1.0  # workloads that print their own value and have no known duration
_FILL_MIB = 500.0  # of random data per second
_CAUTION = 1.5  # a limit that somebody sets must hold although the estimate is rough
_JOBS = re.compile(r" -j ?(\d+)\b")  # of make, ninja and scons
_BETWEEN = 0.1  # time to send commands to the guest and get the answers
_BETWEEN_EMULATED = 0.2
_SHORTENED = (
    "`sevkit bench run --profile paper-small` and `sevkit bench reproduce study --small` measure shortened variants; "
    "this one needs a machine with KVM and more CPUs"
)


def slots(plan: Plan, rounds: int) -> list[Slot]:
    """The slots of the first rounds, in the order in which they run: all configurations of a round, then the next."""
    return [slot for boot in range(rounds) for config in plan.round(boot) for slot in plan.block(config, boot)]


def seconds(plan: Plan, rounds: int) -> float:
    """The duration of that many rounds."""
    return rounds * sum(len(plan.arms_of(config)) * _slot_seconds(plan, config) for config in plan.configs)


def check_budget(plan: Plan) -> None:
    """Refuse a plan whose minimum number of rounds exceeds its budget; raises UsageError with what would fit."""
    check_limits(plan)
    profile = plan.profile
    wanted = seconds(plan, profile.boots)
    if wanted <= profile.budget:
        return
    one = seconds(plan, 1)
    fitting = int(profile.budget // one)
    raise UsageError(
        f"{profile.boots} boots of {len(plan.arms)} arms in {len(plan.configs)} configurations take about "
        f"{span(wanted)}, the budget is {span(profile.budget)}",
        hint=f"give --budget {_round_up(wanted)}, fewer --mode or --workload, a smaller --seconds"
        + (f", or --boots {fitting}" if fitting else "")
        + (f" (a verdict needs {FEWEST_BOOTS})" if 0 < fitting < FEWEST_BOOTS else ""),
    )


def span(value: float) -> str:
    """A duration for people."""
    if value < 120:
        return f"{value:.0f} s"
    return f"{value / 60:.0f} minutes" if value < 7200 else f"{value / 3600:.1f} hours"


def _round_up(value: float) -> int:
    return int(value * 1.1 // 60 + 1) * 60


def _slot_seconds(plan: Plan, config: Config) -> float:
    profile = plan.profile
    each = sum(_workload_seconds(w, plan, config) for w in config.workloads)
    if plan.where == "mock":
        return each
    larger = _LARGER_BOOT_EMULATED if plan.emulated else _LARGER_BOOT
    boot = _BOOT.get(config.image, larger) if plan.where == "guest" else 0.0
    if plan.emulated and any(_is_fio(w) for w in config.workloads):
        boot += _FIO_FIRST_EMULATED
    disk = profile.disk_mib / _FILL_MIB if any(w.disk for w in config.workloads) else 0.0
    return boot + each + config.guests * disk


def _workload_seconds(workload: Workload, plan: Plan, config: Config) -> float:
    samples = plan.profile.iterations + plan.warmups(workload)
    if plan.where == "mock":
        return samples * plan.mock_delay
    once, between = (workload.emulated_once, _BETWEEN_EMULATED) if plan.emulated else (0.0, _BETWEEN)
    return once + samples * (sample_seconds(workload, plan, config) + between)


def _is_fio(workload: Workload) -> bool:
    return "$SECONDS_EACH" in workload.command


def sample_seconds(workload: Workload, plan: Plan, config: Config) -> float:
    """The duration of one sample in a guest of this configuration, from the known one."""
    if _is_fio(workload):
        seconds = plan.profile.seconds
        return seconds + min(seconds, LONGEST_RAMP) + (_FIO_START_EMULATED if plan.emulated else _FIO_START)
    if plan.emulated and workload.emulated:
        return workload.emulated
    one = workload.seconds or (workload.mock_value if workload.parse == "time" else _OTHERS)
    one *= workload.jobs / min(config.vcpus, len(os.sched_getaffinity(0)), jobs(workload, config))
    one *= memory_share(workload, config)
    # Without KVM everything takes longer, except for workloads that do less there.
    same = workload.image == "mini" or does_less(workload)
    return one if same or not plan.emulated else one * _slowdown(workload)


def _slowdown(workload: Workload) -> float:
    return _EMULATED_COMPILER if workload.family == "compilation" else _EMULATED


def does_less(workload: Workload) -> bool:
    """Whether a workload does less without KVM."""
    return "SCALE" in workload.command + workload.prepare


def memory_share(workload: Workload, config: Config) -> float:
    """The part of a workload's most work that it does with this guest's memory."""
    return min(1.0, config.memory_mib / workload.memory_mib) if workload.memory_mib else 1.0


def jobs(workload: Workload, config: Config) -> int:
    """The number of jobs that a workload runs at the same time: one per vCPU, or the number in its command."""
    if "VCPUS" in workload.command:
        return config.vcpus
    given = _JOBS.search(workload.command)
    return int(given[1]) if given else workload.jobs


def check_limits(plan: Plan) -> None:
    """Refuse a plan with a sample that cannot end within its time limit; raises UsageError."""
    if plan.where == "mock":
        return
    for config in plan.configs:
        for workload in config.workloads:
            one = sample_seconds(workload, plan, config)
            if one > workload.timeout:
                limit, small = span(workload.timeout), f"{workload.name}-small" in workloads()
                raise UsageError(
                    f"one sample of {workload.name} takes about {span(one)} here; its limit is {limit}",
                    hint=(_SHORTENED if small else "use a machine with KVM and more CPUs, or --workload others")
                    + f", or wait for it: --timeout {_round_up(_CAUTION * one)}",
                )
