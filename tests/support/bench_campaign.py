"""A results directory as `bench run` writes it, with values and facts of a test's own."""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sevkit.bench import facts, suite
from sevkit.bench import store as stores
from sevkit.bench.campaign import block, directory, run
from sevkit.bench.imports import parse
from sevkit.bench.model import AGAIN, Boot, Sample, SlotId
from sevkit.bench.records import SlotEnd, Stop
from sevkit.bench.suite import Profile
from sevkit.vocabulary import Mode, Provenance

FACTS = {"host": "h", "cache": "none", **{key: f"the {key}" for key in facts.OF_GUESTS}}
WORKLOADS = ("exit-cpuid", "sha256")  # one with a raw output to parse, one that is a duration
ARMS = (("nosev", Mode.NOSEV), (f"nosev{AGAIN}", Mode.NOSEV), ("sev", Mode.SEV))


def profile(rounds: int, **changes: Any) -> Profile:
    """A campaign of that many rounds."""
    return Profile("t", "t", WORKLOADS, modes=(Mode.NOSEV, Mode.SEV), boots=3, most_boots=rounds, **changes)


def campaign(
    path: Path,
    rounds: int = 6,
    ratio: float = 1.3,
    *,
    noise: float = 0.005,
    of: Callable[[str, int], Mapping[str, str]] = lambda arm, boot: FACTS,
    skip: Callable[[str, str, int], bool] = lambda workload, arm, boot: False,
    stop: bool = True,
    first: int = 0,
    **changes: Any,
) -> Path:
    """Two samples per boot and workload; mode sev takes ``ratio`` times as long. Goes on where ``first`` says."""
    plan = directory.prepare(directory.Wish(profile(rounds, **changes), where="mock")).plan
    store, old = run.open_store(path, plan, {"title": path.name})
    known, random = suite.workloads(), np.random.default_rng(7 + first)
    with store:
        recorder = run.Recorder(store, old)
        recorder.begin(plan)
        for boot in range(first, rounds):
            for arm, mode in ARMS:
                slot = SlotId(0, boot, arm)
                at = Boot(str(slot.attempted(0)), Provenance.EMULATED, of(arm, boot))
                recorder.append(at.record())
                for name in WORKLOADS:
                    for i in range(2 * (not skip(name, arm, boot))):
                        seconds = (ratio if mode is Mode.SEV else 1) * math.exp(random.normal(0, noise))
                        output = f"value {1000 * seconds:.6f}\n" if name == "exit-cpuid" else ""
                        [(metric, value)] = parse.read(known[name], output.encode(), seconds)
                        extra = {"seconds": seconds}
                        made = Sample(name, "", metric, mode, value, arm, boot, i, time=1 + boot, at=at, extra=extra)
                        recorder.append(made.record() | ({block.RAW: output} if output else {}))
                recorder.append(SlotEnd(str(slot), True, 1.0).record())
        if stop:
            recorder.append(Stop("boots", rounds).record())
    return path


def rewritten(path: Path, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]] | None]) -> None:
    """Change the records and write the whole chain anew, as a careful forger would."""
    lines = [json.loads(line) for line in (path / stores.RECORDS).read_text().splitlines()]
    records = [{key: value for key, value in line.items() if key != "chain"} for line in lines]
    changed = change(records)
    (path / stores.RECORDS).unlink()
    with stores.Store.resume(path) as store:
        store.append(*(records if changed is None else changed))
    assert stores.load(path).damage == []


def unchained(path: Path) -> None:
    """Strip the chain, as who wants to edit values would."""
    header = json.loads((path / stores.HEADER).read_text())
    records = (path / stores.RECORDS).read_text().splitlines()
    (path / stores.HEADER).write_text(json.dumps({k: v for k, v in header.items() if k != "chained"}))
    (path / stores.RECORDS).write_text("".join(line[: line.rindex(',"chain"')] + "}\n" for line in records))
