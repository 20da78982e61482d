"""A results directory: a header and an append-only list of records. The writer may be killed at any byte.

``campaign.json`` says what to measure. ``samples.jsonl`` has one record per line, and each is on the disk before the
next measurement starts. A last line without a newline is an interrupted write: readers ignore it, and the next
writer removes it.

Each line ends with a link of a hash chain over all lines before it, so that a reader detects a line that was changed,
removed or inserted; the chain begins with the header's digest. This protects against accidents and unnoticed edits,
not against an author who rewrites the whole file with a new chain.
"""

import errno
import fcntl
import gc
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import msgspec

from sevkit.bench.model import FORMAT, FORMAT_VERSION, Boot, Metric, Sample, SampleLine, boot_from, sample_from
from sevkit.bench.records import Event, event_from
from sevkit.errors import BadInputError, NoSpaceError, SevkitError, UsageError

HEADER = "campaign.json"
RECORDS = "samples.jsonl"
LOCK = "lock"
RAW = "raw"
MOST_COMPLAINTS = 20
_CHAIN = b',"chain":"'
_SAMPLE = b'{"kind":"sample",'  # how the writer begins these lines; others are read in two steps
_DECODER = msgspec.json.Decoder(SampleLine)
_FROM_HEADER = "from the header"  # the chain's start; true in directories of older versions: from nothing
_LINK = 16  # hexadecimal digits of a link
_TAIL = len(_CHAIN) + _LINK + 3
_MOST_BOOTS = 10**9
E = TypeVar("E", bound=Event)
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass
class Campaign:
    """A results directory as read: the header, the samples, their boots, and what happened beside them.

    ``damage`` lists the unreadable lines, as text with line numbers; the rest of the directory is valid.
    ``changed_raw`` has the raw outputs that `verify` found missing or changed, ``notes`` what else it told.
    """

    path: Path
    header: Mapping[str, Any]
    samples: list[Sample] = field(default_factory=list)
    boots: dict[str, Boot] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    damage: list[str] = field(default_factory=list)
    changed_raw: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def of_kind(self, kind: type[E]) -> list[E]:
        """The events of one kind: ``Failure``, ``ClockJump``, ``Stop`` and so on."""
        return [event for event in self.events if isinstance(event, kind)]


def is_campaign(path: Path) -> bool:
    """Whether a directory is a results directory of sevkit's."""
    return (path / HEADER).is_file()


def read_header(path: Path) -> dict[str, Any]:
    """The header of a results directory; raises BadInputError when there is none, or it is not ours."""
    try:
        header = json.loads((path / HEADER).read_text())
    except FileNotFoundError as error:
        raise BadInputError(
            f"{path} is not a results directory: it has no {HEADER}",
            hint="`sevkit bench import DIR --output R` makes one from fio, hyperfine, pyperf or CSV files",
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise BadInputError(f"{path / HEADER} cannot be read: {error}") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise BadInputError(f"{path / HEADER} is not a sevkit results header")
    if header.get("format_version") != FORMAT_VERSION:
        raise BadInputError(
            f"{path} has format version {header.get('format_version')}, this sevkit reads {FORMAT_VERSION}",
            hint="use the sevkit that wrote it, or a newer one",
        )
    return header


def load(path: Path) -> Campaign:
    """Read a results directory. Damaged lines are listed in ``damage``; an incomplete last line is not damage."""
    with without_collection():
        return _load(path)


@contextmanager
def without_collection() -> Iterator[None]:
    """Keep the garbage collector from looking again and again through records of which none is garbage."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _load(path: Path) -> Campaign:
    campaign = Campaign(path, read_header(path))
    metrics: dict[Any, Metric] = {}
    link: bytes | None = _seed(path, campaign.header)  # None: not known, the next line sets it
    chained, changed = campaign.header.get("chained"), False
    for number, line in _lines(path / RECORDS):
        body, found = _unchained(line)
        whole = found == _link(link, body) if link is not None else bool(chained) or not found
        changed = changed or not whole
        # Continue from the link in the line itself, so that one changed line is reported once and not for all after it.
        if chained:
            link = found or None
        try:
            if body.startswith(_SAMPLE):
                campaign.samples.append(sample_from(_DECODER.decode(body), campaign.boots, metrics))
            else:
                _take(campaign, msgspec.json.decode(body), metrics)
        except (msgspec.DecodeError, ValueError, AttributeError, RecursionError, BadInputError) as error:
            _complain(campaign, f"{RECORDS} line {number}: {error}")
            continue
        if not whole:
            _complain(campaign, f"{RECORDS} line {number}: it, or what is before it, was changed after it was written")
    if changed:  # where a line was changed, others may have been removed
        doubted(campaign, f"records of {path.name} were changed after they were written")
    elif not chained:
        doubted(campaign, f"records of {path.name} are not chained, so that an edit would not show: measure again")
    return campaign


def doubted(campaign: Campaign, why: str) -> None:
    """Note in every boot why no verdict may rest on the directory; the first reason stays."""
    for boot in campaign.boots.values():
        boot.standing.doubt = boot.standing.doubt or why


def renumbered(samples: list[Sample], source: int) -> list[Sample]:
    """The samples of results directory number ``source`` of several; their boots are distinct from the others'."""
    if source == 0:
        return samples
    shift = source * _MOST_BOOTS
    boots = {s.at.identity: s.at for s in samples}
    boots = {identity: replace(at, identity=f"{source}/{identity}") for identity, at in boots.items()}
    return [
        replace(s, at=boots[s.at.identity], boot=None if s.boot is None else s.boot + shift, order=s.order + shift)
        for s in samples
    ]


def _take(campaign: Campaign, record: Any, metrics: dict[Any, Metric]) -> None:
    kind = record.get("kind")
    if kind == "sample":
        campaign.samples.append(sample_from(record, campaign.boots, metrics))
    elif kind == "boot":
        boot = boot_from(record)
        if boot.identity in campaign.boots:
            raise BadInputError(f"boot {boot.identity} is there already: a boot is recorded once")
        campaign.boots[boot.identity] = boot
    elif (event := event_from(record)) is not None:
        campaign.events.append(event)


def _complain(campaign: Campaign, text: str) -> None:
    if len(campaign.damage) < MOST_COMPLAINTS:
        campaign.damage.append(text)
    elif len(campaign.damage) == MOST_COMPLAINTS:
        campaign.damage.append("… and more")


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The complete lines of a file; the text after the last newline is an interrupted write."""
    try:
        with path.open("rb") as stream:
            for number, line in enumerate(stream, 1):
                if line.endswith(b"\n"):
                    yield number, line
    except FileNotFoundError:
        return
    except OSError as error:
        raise BadInputError(f"{path} cannot be read: {error.strerror}") from error


class Store:
    """A results directory being written. One writer at a time; use it as a context manager."""

    def __init__(self, path: Path, header: Mapping[str, Any]) -> None:
        self.path = path
        self.header = header
        self._lock = _lock(path)
        self._chained = bool(header.get("chained"))
        self._link = b""
        try:
            self._file = os.open(path / RECORDS, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            self._cut_torn_line()
            self._link = self._last_link() or _seed(path, header) or b""
        except BaseException:
            os.close(self._lock)
            raise

    @classmethod
    def create(cls, path: Path, header: Mapping[str, Any]) -> "Store":
        """Start a results directory; raises UsageError when there is already one."""
        if is_campaign(path):
            raise UsageError(f"{path} already holds results", hint="give another --output, or remove it")
        full = {"format": FORMAT, "format_version": FORMAT_VERSION, "chained": _FROM_HEADER, **header}
        try:
            path.mkdir(parents=True, exist_ok=True)
            write_durably(path / HEADER, json.dumps(full, indent=2).encode() + b"\n")
        except OSError as error:
            raise _disk_error(path, error) from error
        return cls(path, full)

    @classmethod
    def resume(cls, path: Path) -> "Store":
        """Continue a results directory."""
        return cls(path, read_header(path))

    def append(self, *records: Mapping[str, Any]) -> None:
        """Write records so that they survive a crash: either all records of this call, or none."""
        link, lines = self._link, []
        for record in records:
            line = _encode(record)
            if self._chained:
                link = _link(link, line)
                line = _chained(line, link)
            lines.append(line)
        data = b"".join(lines)
        before = os.lseek(self._file, 0, os.SEEK_END)
        try:
            _write_all(self._file, data)
            os.fsync(self._file)
        except OSError as error:
            os.ftruncate(self._file, before)
            raise _disk_error(self.path / RECORDS, error) from error
        self._link = link

    def keep_raw(self, name: str, data: bytes) -> str:
        """Save a program's output; returns its path relative to the directory."""
        path = self.path / RAW / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_durably(path, data)
        except OSError as error:
            raise _disk_error(path, error) from error
        return f"{RAW}/{name}"

    def close(self) -> None:
        """Close the file and release the lock on the directory."""
        os.close(self._file)
        os.close(self._lock)

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _last_link(self) -> bytes:
        """The link of the last line."""
        end = os.lseek(self._file, 0, os.SEEK_END)
        return _unchained(os.pread(self._file, _TAIL, max(0, end - _TAIL)))[1]

    def _cut_torn_line(self) -> None:
        end = os.lseek(self._file, 0, os.SEEK_END)
        position = end
        while position > 0:
            start = max(0, position - 65536)
            block = os.pread(self._file, position - start, start)
            newline = block.rfind(b"\n")
            if newline >= 0:
                position = start + newline + 1
                break
            position = start
        if position != end:
            os.ftruncate(self._file, position)


def digest(data: bytes) -> str:
    """The digest of a raw output in its sample, so that an edit of that file is detected."""
    return hashlib.sha256(data).hexdigest()


def read_raw(path: Path, name: str) -> bytes:
    """A kept output; raises OSError unless it is a file below ``raw``: not a device, and no link out of it."""
    folder = (path / RAW).resolve()
    target = (folder / name).resolve()
    if not target.is_relative_to(folder) or not target.is_file():
        raise FileNotFoundError(errno.ENOENT, "no such output", name)
    return target.read_bytes()


def changed_raw(campaign: Campaign) -> list[str]:
    """The raw outputs that are missing, or whose digest differs from the sample's record."""
    found = []
    for sample in campaign.samples:
        name, expected = sample.extra.get("raw"), sample.extra.get("raw_sha256")
        if not isinstance(name, str) or not expected:
            continue
        try:
            if digest(read_raw(campaign.path, Path(name).name)) != expected:
                found.append(name)
        except OSError:
            found.append(name)
    return found


def write_durably(path: Path, data: bytes) -> None:
    """Write a file atomically, also with respect to a crash: it is complete or it does not exist."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with scratch.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def _lock(path: Path) -> int:
    handle = os.open(path / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        owner = os.read(handle, 32).decode(errors="replace").strip()
        os.close(handle)
        raise UsageError(
            f"another sevkit (process {owner or 'unknown'}) is writing to {path}",
            hint="wait for it, or give another --output",
        ) from error
    os.ftruncate(handle, 0)
    os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
    return handle


def _encode(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode() + b"\n"


def _seed(path: Path, header: Mapping[str, Any]) -> bytes | None:
    """What the first line is linked to; None where lines are not chained."""
    chained = header.get("chained")
    if chained != _FROM_HEADER:
        return b"" if chained else None
    try:
        return digest((path / HEADER).read_bytes())[:_LINK].encode()
    except OSError as error:
        raise BadInputError(f"{path / HEADER} cannot be read: {error.strerror}") from error


def _link(before: bytes, line: bytes) -> bytes:
    """The link of a line, from the link before it."""
    return hashlib.sha256(before + line).hexdigest()[:_LINK].encode()


def _chained(line: bytes, link: bytes) -> bytes:
    return line[:-2] + _CHAIN + link + b'"}\n'


def _unchained(line: bytes) -> tuple[bytes, bytes]:
    """Split a line into its text without the link, and the link (none if it has no link)."""
    _, found, link = line[-_TAIL:].rpartition(_CHAIN)
    if not found or len(link) != _LINK + 3:
        return line, b""
    return line[: len(line) - len(found) - len(link)] + b"}\n", link[:_LINK]


def _write_all(handle: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


def _disk_error(path: Path, error: OSError) -> SevkitError:
    if error.errno in _FULL:
        return NoSpaceError(
            f"the disk is full: {path} could not be written",
            hint="free some space and give the same command again: it goes on where it stopped",
        )
    return SevkitError(f"{path} could not be written: {error.strerror or error}")
