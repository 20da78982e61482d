"""Facts: the readings of a host, without conclusions. Save, load, validate and replay them."""

import json
import os
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from sevkit.errors import BadInputError
from sevkit.probe.collect import FACTS_VERSION
from sevkit.probe.collect.cpuid import key
from sevkit.probe.cpu import HYPERVISOR_LEAVES, WANTED, Identity, Leaves, identify
from sevkit.probe.leaf import LEAF, Registers

NOT_RECORDED = "not_recorded"
MAX_BYTES = 64 << 20
_MISSING = ("absent", "denied", "failed", NOT_RECORDED)
_MAX_CPUS = 8192


class Reading(NamedTuple):
    """One reading: ``value``, or None with the class of the failure in ``missing`` and its message in ``why``."""

    origin: str
    value: Any
    missing: str | None
    why: str

    @property
    def known(self) -> bool:
        """Whether there is a value."""
        return self.missing is None


class Facts:
    """Facts of one host, with the accessors that checks use. Created from validated JSON."""

    def __init__(self, raw: dict[str, Any], *, replayed: bool = False) -> None:
        self.raw = raw
        self.replayed = replayed
        self.cpus: list[tuple[int, Leaves]] = [(row["cpu"], _leaves(row["leaves"])) for row in raw["cpuid"]["cpus"]]
        self.identity: Identity = identify(self.cpus[0][1] if self.cpus else {})
        self._readings: Mapping[str, Any] = raw["readings"]

    def reading(self, name: str) -> Reading:
        """A reading by name; one that the source does not have is ``not_recorded``."""
        found = self._readings.get(name)
        if found is None:
            source = "a CPUID dump" if self.raw["cpuid"]["method"] == "dump" else "what was recorded"
            return Reading(name, None, NOT_RECORDED, f"not part of {source}")
        if "missing" in found:
            return Reading(found["from"], None, found["missing"], found["why"])
        return Reading(found["from"], found["value"], None, "")

    def leaf_values(self) -> Iterator[tuple[int, Registers | None]]:
        """Leaf 0x8000001F of each CPU."""
        for cpu, leaves in self.cpus:
            yield cpu, leaves.get((LEAF, 0))

    @property
    def leaf(self) -> Registers | None:
        """Leaf 0x8000001F of the first CPU."""
        return self.cpus[0][1].get((LEAF, 0)) if self.cpus else None


_WANTED = {key(*where): where for where in (*WANTED, *HYPERVISOR_LEAVES)}


def _leaves(row: Mapping[str, list[int]]) -> dict[tuple[int, int], Registers]:
    """The leaves that reports and checks use; a dump contains many more."""
    return {where: Registers(*row[name]) for name, where in _WANTED.items() if name in row}


def live() -> Facts:
    """Read this machine."""
    from sevkit.probe.collect import collect

    return Facts(collect(run=_run, native=_native))


def _native(cpus: list[int]) -> dict[int, Any]:
    from sevkit.probe.native import run_child

    return run_child(cpus)


def _run(argv: list[str], timeout: float) -> tuple[int, str]:
    from sevkit import processes
    from sevkit.errors import SevkitError

    try:
        done = processes.run(argv, timeout=timeout)
    except SevkitError as error:
        raise OSError(0, error.message) from error
    return done.status, done.text


def save(facts: Facts, path: str) -> None:
    """Write facts as JSON, readable by this user only, because they describe a machine."""
    text = json.dumps(facts.raw, indent=1, sort_keys=True) + "\n"
    temporary = f"{path}.{os.getpid()}.new"
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(temporary, path)
    except OSError as error:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise BadInputError(
            f"cannot write {path}: {error.strerror}", hint="give a file in a directory you own"
        ) from error


def parse(data: bytes, name: str) -> Facts:
    """Facts from the bytes of a saved host; raises BadInputError for anything that sevkit does not write itself."""
    if len(data) > MAX_BYTES:
        raise BadInputError(f"{name}: larger than {MAX_BYTES >> 20} MiB", hint="a saved host is about 100 kilobytes")
    try:
        raw = json.loads(data)
    except json.JSONDecodeError as error:
        raise BadInputError(
            f"{name}, line {error.lineno}: not valid JSON: {error.msg}", hint="is the file cut off or edited?"
        ) from error
    except (UnicodeDecodeError, RecursionError, ValueError) as error:
        raise BadInputError(f"{name}, line 1: not valid JSON: {type(error).__name__}", hint=_SAVE_AGAIN) from error
    return Facts(checked(raw, name), replayed=True)


_SAVE_AGAIN = "save a host with `sevkit probe --save FILE`"


def checked(raw: Any, name: str) -> dict[str, Any]:
    """Validate the facts' shape, on which the checks rely, and replace terminal control characters."""
    if not isinstance(raw, dict) or "sevkit_facts_version" not in raw:
        result = isinstance(raw, dict) and "sevkit_result_version" in raw
        what = "the result of `sevkit probe --json`, not a saved host" if result else "not a host saved by sevkit"
        raise BadInputError(f"{name}, line 1: {what}", hint=_SAVE_AGAIN)
    if raw["sevkit_facts_version"] != FACTS_VERSION or isinstance(raw["sevkit_facts_version"], bool):
        raise BadInputError(f"{name}, line 1: saved by another version of sevkit", hint=_SAVE_AGAIN)
    from sevkit.probe.shape import clean, problem

    found = problem(raw)
    if found:
        raise BadInputError(f"{name}, line {_line_of(raw, found[0])}: {found[0]}: {found[1]}", hint=_SAVE_AGAIN)
    cleaned = clean(raw)
    assert isinstance(cleaned, dict)
    return cleaned


def _line_of(raw: Any, path: str) -> int:
    """Estimate the line of a value in the file, from the layout of `save`: it tells the user where to look."""
    key = path.rpartition("/")[2]
    for number, line in enumerate(json.dumps(raw, indent=1, sort_keys=True, default=str).split("\n"), 1):
        if line.lstrip().startswith(json.dumps(key) + ":"):
            return number
    return 1


def from_dump(data: bytes, name: str) -> Facts:
    """Facts from a text dump: CPUID only."""
    from sevkit.probe.dumps import read_dump

    dump = read_dump(data, name)
    rows = [
        {"cpu": cpu.cpu, "leaves": {key(leaf, sub): list(values) for (leaf, sub), values in cpu.leaves.items()}}
        for cpu in dump.cpus
    ]
    return Facts(
        {
            "sevkit_facts_version": FACTS_VERSION,
            "taken": None,
            "source": {"kind": dump.style, "host": None},
            "cpuid": {"method": "dump", "cpus": rows, "unreadable": []},
            "readings": {},
        }
    )
