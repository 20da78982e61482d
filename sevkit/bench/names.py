"""Parse file names: ``iops_randread-nvme-sev-2.json`` is the second run of iops_randread on nvme in mode sev."""

import hashlib
import re
from dataclasses import dataclass, replace
from pathlib import PurePath

from sevkit.bench.model import BANDWIDTH, IOPS, LATENCY, Metric
from sevkit.vocabulary import Mode, mode_from_word

_EDGE = r"(?<![A-Za-z0-9])", r"(?![A-Za-z0-9])"
# A mode, perhaps negated: "no_sev", "non-SEV", "without SEV", "SEV off", "SEV=0".
_MODE = re.compile(
    _EDGE[0]
    + r"((?:(no|non|not|without)[-_ ]?)?(sev[-_ ]?snp|sev[-_ ]?es|snp|sev)"
    + r"([-_ ]?(?:off|disabled)|=(?:0|off|no|false))?)"
    + _EDGE[1],
    re.IGNORECASE,
)
_STORAGE = re.compile(_EDGE[0] + r"(virtio[-_]blk|virtio[-_]scsi|blk|scsi|nvme)" + _EDGE[1], re.IGNORECASE)
_BOOT = re.compile(_EDGE[0] + r"boot[-_]?(\d{1,6})" + _EDGE[1], re.IGNORECASE)
_RUN = re.compile(r"(?:^|[-_.])(?:run|rep|iter|r|i)?[-_]?(\d{1,6})$", re.IGNORECASE)
_LONGEST = 60
_PREFIXES: dict[str, Metric] = {
    "bw": BANDWIDTH,
    "bandwidth": BANDWIDTH,
    "iops": IOPS,
    "al": LATENCY,
    "lat": LATENCY,
    "latency": LATENCY,
}


@dataclass(frozen=True)
class Named:
    """The information in a name; empty or None if it is missing. ``unclear`` is why a mode in it cannot be believed."""

    workload: str
    storage: str = ""
    mode: Mode | None = None
    boot: int | None = None
    run: int | None = None
    unclear: str = ""


def from_name(text: str) -> Named:
    """Read a name without its folder and suffix."""
    named = _without_a_run(text)
    run = _RUN.search(named.workload.rstrip("-_. "))
    rest = named.workload if run is None else named.workload[: run.start()]
    return replace(named, workload=rest.strip("-_. "), run=int(run.group(1)) if run else None)


def from_command(text: str) -> Named:
    """Read a command or the name of a test: a number at its end is part of it (``lz4 -9``), and no run."""
    named = _without_a_run(text)
    title = named.workload.strip("-_. ")
    if len(title) > _LONGEST:  # two long commands may begin alike
        title = f"{title[:_LONGEST]}… {hashlib.sha256(title.encode()).hexdigest()[:8]}"
    return replace(named, workload=title)


def _without_a_run(text: str) -> Named:
    """The mode, storage and boot in a text; ``workload`` is all that is left of it."""
    mode, unclear = _mode(text)
    rest, _ = _take(text, _MODE)
    rest, storage = _take(rest, _STORAGE)
    rest, boot = _take(rest, _BOOT)
    return Named(rest, storage.lower().replace("_", "-"), mode, int(boot) if boot else None, unclear=unclear)


def from_path(path: PurePath) -> Named:
    """Read a path below the results folder; its folders may supply what the name lacks (``tb-sev/x.csv``)."""
    own = from_name(path.stem)
    for folder in reversed(path.parts[:-1]):
        outer = from_name(folder)
        own = Named(
            workload=own.workload,
            storage=own.storage or outer.storage,
            mode=own.mode if own.mode or own.unclear else outer.mode,
            boot=own.boot if own.boot is not None else outer.boot,
            run=own.run if own.run is not None else outer.run,
            unclear=own.unclear or ("" if own.mode else outer.unclear),
        )
    return own


def place_of_mode(path: PurePath) -> int | None:
    """The index of the part of a path that says the mode: the last one that does; None if none does."""
    parts = (*path.parts[:-1], path.stem)
    return next((i for i in reversed(range(len(parts))) if any(_mode(parts[i]))), None)


def metric_of(workload: str) -> Metric | None:
    """The main metric of a fio workload, by its first word (``bw_read``), or None."""
    return _PREFIXES.get(re.split(r"[-_.]", workload, maxsplit=1)[0].lower())


def _mode(text: str) -> tuple[Mode | None, str]:
    """The mode that a text says, else why that is not clear (empty where it says nothing of a mode)."""
    found: dict[Mode, None] = {}
    for match in _MODE.finditer(text):
        word, no, kind, off = match.groups()
        mode = mode_from_word(kind.replace(" ", "-"))
        if no or off:
            if mode is not Mode.SEV:  # without SEV-SNP there may still be SEV
                return None, f"{word!r}, which may be any other mode"
            mode = Mode.NOSEV
        if mode is not None:
            found[mode] = None
    if len(found) > 1:
        return None, f"several modes ({', '.join(found)})"
    return next(iter(found), None), ""


def _take(text: str, pattern: re.Pattern[str]) -> tuple[str, str]:
    """Remove the last match of a pattern and one separator beside it; returns what is left and the match's group."""
    matches = list(pattern.finditer(text))
    if not matches:
        return text, ""
    last = matches[-1]
    before, after = text[: last.start()], text[last.end() :]
    joined = before.rstrip("-_.") + after if after[:1] in "-_." else before + after
    return joined, last.group(1)
