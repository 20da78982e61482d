"""The log formats of dmesg, journalctl, syslog and others around the kernel's lines. Pure: from text to records.

A line of user space is never taken for one of the kernel, even if it contains the same words. Timestamps serve only
to decide whether a line belongs to a later boot than the line before it.
"""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from sevkit.errors import BadInputError
from sevkit.probe.undress import uncoloured, unnumbered, unquoted

_LINE_LIMIT = 20_000

_RAW = re.compile(r"(\d{1,4}),\d+,\d+,[^;]{0,40};")
_PRIORITY = re.compile(r"<(\d{1,4})>(?:1 (?=\d{4}-))?")
_FACILITY = re.compile(r"(?:\S{1,100}: )?(kern|user|daemon|auth|syslog|local\d|mail|news|cron|lpr) *: *\w{3,7} *: ")
_ISO = r"(?P<iso>\d{4}-\d\d-\d\d)[T ](?P<clock>\d\d:\d\d:\d\d)[.,]?\d*(?:Z|[+-]\d\d:?\d\d)?"
_DATED = re.compile(
    rf"(?:(?:1 |\S{{1,12}} )?{_ISO}(?: [A-Z][A-Za-z]{{1,5}}| [+-]\d\d(?:\d\d)?)?"
    r"|(?P<month>[^\s\d\[\]:<>=\"']{1,12}\.?|\d{1,2}[月월]|[Tt]hg \d{1,2}) +(?P<day>\d{1,2}) (?:\d{4} )?"
    r"(?P<time>\d\d:\d\d:\d\d)[\d:.]*"
    r"|(?P<unix>\d{9,11}\.\d{3,9})|(?P<android>\d\d-\d\d \d\d:\d\d:\d\d\.\d{3})) +"
)
_TAG = re.compile(r"(?P<host>\S{1,255}) (?:(?:kern)\.\w{3,7} )?(?P<program>[^\s:\[]{1,64})(?:\[\d+\])?: ?")
_RFC_5424 = re.compile(r"(?P<host>\S{1,255}) (?P<program>\S{1,48}) \S{1,128} \S{1,32} (?:-|(?:\[[^\]]{0,400}\])+) ?")
_CONTAINER = re.compile(r"std(?:out|err) [FP] ")
_ANDROID = re.compile(r"(?:root +)?0 +0 [VDIWEF] ")
_COMPOSE = re.compile(r"[\w./-]{1,100} +\| ")
# Only before a stamp: the host's name that pdsh, clush and ansible add, and the prompt of a serial console.
_HOST = re.compile(r"(?P<host>[\w.-]{1,100})(?: login)?: (?=\[ *\d{1,9}\.\d)")
_STAMP = re.compile(r"\[[^\]]{1,40}\][ :]{0,2}")
_SECONDS = re.compile(r"\[ *(\d{1,9}\.\d{1,9})[\] <,]")
_KERNEL = re.compile(r"kernel(?:\[\d+\])?: ")
_NAMED = re.compile(r"(?:\S{0,255}[^\s:\]] )?kernel(?:\[\d+\])?: ")
_BOOT = re.compile(r"\s*--.{0,40}\b(?:re)?boot\b.{0,80}--\s*$", re.IGNORECASE)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_JSON_BEGIN = re.compile(r"\{\s*(?:\"|$)|\[\s*\{|\"dmesg\"")
# One line of a log as a string of JSON or YAML: "msg": "…",
_STRING = re.compile(r"(?:\[\s*|\"?(?:msg|message|stdout|line)\"?: )?\"(.*)\"(?:,|\s*\],?)?$")
_AFTER_DATE = re.compile(r"\| |\{[^{}]{0,200}\} ")
_LEVEL = re.compile(r"(?:emerg|alert|crit|err|error|warn|warning|notice|info|debug): (?=\[)")
_JSON_GAP = re.compile(r"[\s,\[\]]*")
_FIELD = re.compile(r"\s*([A-Z_][A-Z0-9_]{0,63})=(.*)")


class Record(NamedTuple):
    """One line: the kernel's message, or None for a line of user space; ``boot`` marks that a new boot begins.

    ``seconds`` since boot, and ``wall`` (comparable within a log), are None if the line does not contain them.
    """

    number: int
    message: str | None
    seconds: float | None = None
    wall: tuple[Any, ...] | None = None
    boot: bool = False
    host: str = ""


def records(lines: Iterable[str], words: Iterable[str], name: str) -> Iterator[Record]:
    """The records of a log in any form. Lines with none of the words are not parsed: their message is "".

    Raises BadInputError for damaged JSON.
    """
    kept = list(lines)
    first = "".join(unquoted(uncoloured(line)).strip() for line in [x for x in kept[:50] if x.strip()][:2])
    if _JSON_BEGIN.match(first):
        yield from _from_json(kept, name)
    elif any("__REALTIME_TIMESTAMP=" in line or "_TRANSPORT=" in line for line in kept[:200]):
        yield from _from_fields(kept)
    else:
        wanted = re.compile("|".join(re.escape(word) for word in words))
        for number, line in enumerate(kept, 1):
            mark = "--" in line and "oot" in line  # -- Boot …, -- Reboot --
            yield record(number, line) if mark or wanted.search(line) else Record(number, "")


def record(number: int, line: str) -> Record:
    """One line of text."""
    if _BOOT.match(line):
        return Record(number, "", boot=True)
    plain = uncoloured(line[:_LINE_LIMIT])
    quoted = unquoted(plain) if not _PRIORITY.match(plain) else plain
    if _BOOT.match(quoted):
        return Record(number, "", boot=True)
    inner = unnumbered(quoted)
    string = _STRING.match(inner)
    return _Taken(string[1] if string else inner).record(number)


class _Taken:
    """A line that is parsed from left to right."""

    def __init__(self, line: str) -> None:
        self.rest = line
        self.user = False
        self.host = ""
        self.seconds: float | None = None
        self.wall: tuple[Any, ...] | None = None

    def record(self, number: int) -> Record:
        self._before()
        if not self.user:
            self._dated()
        if self.user:
            return Record(number, None)
        self._stamps()
        named = _NAMED.match(self.rest)
        if named:
            self.rest = self.rest[named.end() :]
            self._cut(_LEVEL)
            self._stamps()
        return Record(number, self.rest.lstrip(" \t\ufeff"), self.seconds, self.wall, host=self.host)

    def _cut(self, pattern: re.Pattern[str]) -> "re.Match[str] | None":
        found = pattern.match(self.rest)
        if found:
            self.rest = self.rest[found.end() :]
        return found

    def _before(self) -> None:
        """The raw ring buffer, priorities, dmesg -x, talosctl, and names of containers."""
        if not self.rest.startswith("["):
            named = self._cut(_COMPOSE) or self._cut(_HOST)
            self.host = named["host"] if named and named.re is _HOST else ""
        level = self._cut(_RAW) or self._cut(_PRIORITY)
        facility = self._cut(_FACILITY)
        self.user = bool((level and int(level[1]) >= 8) or (facility and facility[1] != "kern"))

    def _dated(self) -> None:
        rfc = bool(re.match(r"(?:1 )?\d{4}-\d\d-\d\dT\S+ ", self.rest))
        found = self._cut(_DATED)
        if found is None:
            return
        self.wall = _wall(found)
        if self._cut(_CONTAINER):
            self._dated()
        elif self._cut(_AFTER_DATE) or _KERNEL.match(self.rest):  # the latter: journalctl --no-hostname
            return
        elif found["android"]:
            self._cut(_ANDROID)
        else:
            name = (rfc and self._cut(_RFC_5424)) or self._cut(_TAG)
            self.user = bool(name and name["program"] != "kernel")
            self.host = name["host"] if name else self.host

    def _stamps(self) -> None:
        self.rest = self.rest.lstrip(" \t\ufeff")
        for _ in range(3):
            seconds = _SECONDS.match(self.rest)
            if not self._cut(_STAMP):
                break
            if seconds and self.seconds is None:
                self.seconds = float(seconds[1])
            self.rest = self.rest.lstrip(" ")


def _wall(found: "re.Match[str]") -> tuple[Any, ...] | None:
    if found["iso"]:
        return found["iso"], found["clock"]
    if found["unix"]:
        return ("", found["unix"].zfill(24))
    month = (found["month"] or "").lower()
    number = int(month[:-1]) if month[:-1].isdigit() else _MONTHS.index(month[:3]) + 1 if month[:3] in _MONTHS else 0
    return (number, int(found["day"]), found["time"]) if number else None


def _from_json(lines: list[str], name: str) -> Iterator[Record]:
    """The document of dmesg -J, or those of journalctl -o json, json-pretty, json-seq: one per line of the log."""
    text = "\n".join(unquoted(uncoloured(line)).lstrip("\x1e") for line in lines)
    decoder = json.JSONDecoder()
    at, boot_id = 0, None
    while True:
        at = _JSON_GAP.match(text, at).end()  # type: ignore[union-attr]
        if at >= len(text):
            return
        try:
            found, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            raise BadInputError(
                f"{name}, line {_line(text, at)}: damaged JSON", hint="is the file cut off or edited?"
            ) from error
        if not isinstance(found, dict):
            raise BadInputError(
                f"{name}, line {_line(text, at)}: no entry of a log", hint="give dmesg -J or journalctl"
            )
        number, at = _line(text, at), end
        if isinstance(found.get("dmesg"), list):
            yield from _dmesg(found["dmesg"], number)
        else:
            new = found.get("_BOOT_ID")
            yield Record(number, "", boot=boot_id is not None and new != boot_id)
            boot_id = new or boot_id
            yield _journal(number, found)


def _line(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1


def _dmesg(rows: list[Any], number: int) -> Iterator[Record]:
    for place, row in enumerate(rows, 1):
        if isinstance(row, dict) and isinstance(row.get("msg"), str):
            seconds = row.get("time")
            facility = row.get("fac", "kern")
            priority = row.get("pri", 6)
            kernel = facility == "kern" and isinstance(priority, int) and priority < 8
            time = float(seconds) if isinstance(seconds, int | float) and abs(seconds) < 1e12 else None
            yield Record(number + place, row["msg"] if kernel else None, time)


def _journal(number: int, entry: dict[str, Any]) -> Record:
    message = entry.get("MESSAGE")
    if isinstance(message, list):  # not UTF-8: a list of bytes
        message = bytes(b for b in message if isinstance(b, int) and 0 <= b < 256).decode("utf-8", "replace")
    if not isinstance(message, str):
        return _of_container(number, entry)
    kernel = entry.get("_TRANSPORT", "kernel") == "kernel" and entry.get("SYSLOG_IDENTIFIER", "kernel") == "kernel"
    return Record(number, message if kernel else None, host=str(entry.get("_HOSTNAME") or ""))


def _of_container(number: int, entry: dict[str, Any]) -> Record:
    """The JSON of container runtimes and talosctl: a line of a log under "log", "msg" or "message"."""
    line = next((entry[key] for key in ("log", "msg", "message") if isinstance(entry.get(key), str)), "")
    facility = entry.get("facility", "kern")
    return record(number, line.rstrip("\n")) if facility in ("kern", "kernel", 0) else Record(number, None)


def _from_fields(lines: list[str]) -> Iterator[Record]:
    """The output of journalctl -o export and -o verbose: NAME=value lines; an entry ends where the next begins."""
    entry: dict[str, str] = {}
    start = boot = None
    for number, line in enumerate([*lines, ""], 1):
        field = _FIELD.match(unquoted(uncoloured(line)))
        name = field[1] if field else ""
        ended = not line.strip() or not field or name in entry
        if ended and "MESSAGE" in entry:
            new = entry.get("_BOOT_ID")
            yield Record(start or number, "", boot=boot is not None and new != boot)
            boot = new or boot
            yield _journal(start or number, entry)
        if ended:
            entry, start = {}, number
        if field:
            entry[name] = field[2]
