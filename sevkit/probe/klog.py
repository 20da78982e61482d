"""What a kernel log says about memory encryption. Pure: from lines to a judgement.

Every pattern (`logtable`) is anchored at the beginning of the kernel's own message: host names, kernel versions,
command lines and lines of user space may contain the same words and prove nothing. A message of success counts only
if nothing else in the last boot contradicts it.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from sevkit import cleantext as safe
from sevkit import textfile
from sevkit.errors import BadInputError
from sevkit.probe.collect.kernel import LOG_WORDS
from sevkit.probe.logforms import Record, record, records
from sevkit.probe.logtable import COUNT, DRIVERS, FEATURES, LISTS, LOADED, PROBED, RANGE, RULES, SILENT, STATUS
from sevkit.vocabulary import ENCRYPTED, MODE_FACTS

HOST_FEATURES = ("sev", "sev_es", "sev_snp")
_MODES = {"SME": "sme"} | {MODE_FACTS[mode].label: str(mode) for mode in ENCRYPTED}
_WORDS = (*(word.decode() for word in LOG_WORDS), " active", "AMD ", "CSV")
_ENCRYPTION = re.compile(r"\b(?:SEV|SNP|T?SME|CSV[23]?|RMP)\b")
_FAILURE = re.compile(
    r"\b(?:fail\w*|cannot|can't|unable|unsupported|disabl\w+|timed out|invalid)\b"
    r"|\bnot (?:supported|available|enabled|reserved)\b",
    re.IGNORECASE,
)
_TEXT_LIMIT = 300
_BACK = 0.1  # seconds by which timestamps may go back within a boot
_SHOWN = 5
_EARLY = 1.0  # seconds; the first lines of each boot have the same stamps
_NO_NAMES = ("", "-", "(none)", "localhost")  # a host has these names until it knows its own
_GO_BACK = "the stamps go back: a new boot, or several logs in one"


class Evidence(NamedTuple):
    """One relevant line: its number, its text, the meaning, the effects, and whether it is from KVM."""

    line: int
    text: str
    means: str
    effects: tuple[str, ...]
    kvm: bool = False


def message_of(line: str) -> str | None:
    """The kernel's message without the prefix of dmesg, journalctl or syslog; None for a line of user space."""
    return record(1, line.rstrip("\r\n")).message


def judge(lines: Iterable[str], *, bare: bool = False, name: str = "the log") -> dict[str, Any]:
    """Judge a log: role, active features, the host's capabilities, and the lines that prove them.

    If a log contains several boots, only the last one counts. Line numbers count from 1. ``bare`` says that the lines
    have no prefix before the kernel's message. Raises BadInputError for a damaged log in JSON.
    """
    log = _Log()
    found = (Record(n, line) for n, line in enumerate(lines, 1)) if bare else records(lines, _WORDS, name)
    for item in found:
        log.take(item)
    return log.verdict()


class _Log:
    """Reads a log from top to bottom, and drops the messages of earlier boots."""

    def __init__(self) -> None:
        self.found: list[Evidence] = []
        self.unknown: list[int] = []
        self.notes: list[str] = []
        self.lines = 0
        self.complete = False
        self._open_list = False
        self._last: Record | None = None
        self._hosts: dict[str, None] = {}
        self._former: set[str] = set()
        self._seen: set[tuple[float, str]] = set()
        self._certain: list[Evidence] | None = None

    def take(self, item: Record) -> None:
        self.lines += 1
        if item.boot:
            self._new_boot()
        message = item.message
        if not message:
            self._open_list = self._open_list and message == ""
            return
        self._name_host(item)
        self._compare_times(item)
        if message.startswith("Linux version "):
            self._new_boot()
            self.complete = True
        elif message.rstrip() in LISTS:
            self._open_list = True
        else:
            self._read(item.number, message)

    def _name_host(self, item: Record) -> None:
        """Note the host's name. In syslog, a new name with later stamps is the same host, which got it during the boot.

        The names that pdsh and others put before a line have no date beside them.
        """
        name = item.host.partition(".")[0].lower()
        if name in _NO_NAMES or name in self._hosts:
            return
        last = self._last.seconds if self._last and item.wall else None
        if name not in self._former and last is not None and item.seconds is not None and item.seconds >= last:
            self._former |= set(self._hosts)
            self._hosts.clear()
        self._hosts[name] = None
        if name in self._former:
            self._hosts |= dict.fromkeys(self._former)

    def _read(self, number: int, message: str) -> None:
        """Read one message. A list of features may be printed in parts, one per line."""
        pieces = _Listed.pieces(message) if self._open_list else None
        if pieces:
            message = f"{LISTS[0]} {message.strip()}"
        own = _own(message)
        if own != message and own.startswith(LOADED) and any(item.kvm for item in self.found):
            self.found = [item for item in self.found if not item.kvm]
        if own in PROBED and any(item.text == message for item in self.found):
            device = message.removesuffix(own)
            self.found = [item for item in self.found if not item.text.startswith(device)]
        evidence = understand(number, message, own)
        if evidence:
            self.found.append(evidence)
        elif _ENCRYPTION.search(message) and not own.startswith(SILENT) and not message.startswith(SILENT):
            self.unknown.append(number)
            if _FAILURE.search(message):
                self.found.append(_unknown_failure(number, message))

    def _new_boot(self) -> None:
        self.found.clear()
        self.unknown.clear()
        self.notes.clear()
        self.complete = self._open_list = False
        self._last = self._certain = None
        self._seen.clear()
        self._hosts.clear()
        self._former.clear()

    def _compare_times(self, item: Record) -> None:
        """Timestamps that go back mean a new boot if the date advances; otherwise they may be two logs in one file.

        A line that stands in the file twice with the same microsecond shows that both are parts of one boot's log.
        """
        last = self._last
        if item.seconds is not None:
            self._last = item
            self._same_boot(item.seconds, item.message or "")
        if last is None or item.seconds is None or last.seconds is None or item.seconds >= last.seconds - _BACK:
            return
        if item.wall and last.wall and item.wall >= last.wall:
            self._new_boot()
            self._last = item
        elif self.found:
            self._certain = self._certain or list(self.found)
            self.found = [_doubted(old) for old in self.found]
            self.notes.append(f"line {item.number}: {_GO_BACK}")

    def _same_boot(self, seconds: float, message: str) -> None:
        if self._certain and seconds > _EARLY and (seconds, message) in self._seen:
            certain = {old.line: old for old in self._certain}
            self.found = [certain.get(item.line, item) for item in self.found]
            self.notes = [note for note in self.notes if not note.endswith(_GO_BACK)]
            self._certain = None
        self._seen.add((seconds, message))

    def verdict(self) -> dict[str, Any]:
        notes = list(self.notes)
        if len(self._hosts) > 1:
            names = ", ".join(safe.text(name[:60]) for name in list(self._hosts)[:3])
            notes.append(f"lines of {len(self._hosts)} hosts ({names}): nothing is said of any of them")
            self.found = [_doubted(item) for item in self.found]
        if not self.found and self.lines:
            notes.append(f"no line was understood: {self.lines} lines read, {len(self.unknown)} with words of SEV")
        return {
            **_combine(self.found),
            "complete": self.complete,
            "lines": self.lines,
            "not_understood": {"count": len(self.unknown), "first": self.unknown[:_SHOWN]},
            "notes": notes,
        }


def _doubted(item: Evidence) -> Evidence:
    """Mark a message that may be of an earlier boot: its success or failure may not be that of the last boot."""
    effects = tuple(re.sub(r"^(host:\w+:).*", r"\1doubt", effect) for effect in item.effects)
    return item._replace(effects=effects, kvm=item.kvm)


def _unknown_failure(number: int, message: str) -> Evidence:
    """A failure that the table does not know, of another kernel perhaps: what it names is not known to be usable."""
    snp_alone = "SNP" in message or "RMP" in message
    effects = tuple(f"host:{feature}:doubt" for feature in (HOST_FEATURES[2:] if snp_alone else HOST_FEATURES))
    return Evidence(number, safe.text(message.strip()[:_TEXT_LIMIT]), "a failure that is not known here", effects)


def _own(message: str) -> str:
    """The message without the driver's name at its beginning."""
    driver = re.match(DRIVERS, message)
    if not driver:
        return message
    own = message[driver.end() :]
    return own.removeprefix("psp: ")


def understand(number: int, message: str, own: str | None = None) -> Evidence | None:
    """Interpret one message of the kernel; None for an unknown message."""
    own = _own(message) if own is None else own
    text = safe.text(message.strip()[:_TEXT_LIMIT])
    kvm = _kvm(own)
    if kvm:
        return Evidence(number, text, *kvm, True)
    means = _Listed.read(message) or _ruled(own.strip()) or _ruled(message.strip())
    return Evidence(number, text, *means) if means else None


def _ruled(message: str) -> tuple[str, tuple[str, ...]] | None:
    for rule in RULES:
        if message.startswith(rule.begins) and (rule.pattern is None or re.match(rule.pattern, message)):
            return rule.means, rule.effects
    return None


class _Listed:
    """The list of active features (5.10 and later) and the guest's SEV_STATUS in words (6.11 and later)."""

    @staticmethod
    def pieces(message: str) -> bool:
        words = message.split()
        return bool(words) and words[0] in ("AMD", "Intel") and len(words) < 6

    @staticmethod
    def read(message: str) -> tuple[str, tuple[str, ...]] | None:
        if not message.startswith((*LISTS, STATUS)):
            return None
        words = message.partition("active:")[2].split() or message.removeprefix(STATUS).split()
        if "Intel" in words:
            return "Intel TDX is active, nothing of AMD", ("role:guest",)
        modes = [_MODES[word] for word in words if word in _MODES]
        if not modes:
            return None
        role = "role:weak-host" if modes == ["sme"] else "role:guest"
        return f"active: {', '.join(modes)}", (*(f"active:{mode}" for mode in modes), role)


def _kvm(message: str) -> tuple[str, tuple[str, ...]] | None:
    """KVM's own lines on what it can run."""
    if not message.startswith(("SEV", "CSV")):
        return None
    ranged, counted = re.match(RANGE, message), re.match(COUNT, message)
    if ranged:
        name, state, first, last = ranged.groups()
        usable = state == "enabled" and (first is None or 1 <= int(first) <= int(last) < 1 << 24)
        room = f" with ASIDs {first} to {last}" if first else ""
    elif counted:
        name, count = counted.groups()
        usable = count is None or 0 < int(count) < 1 << 24
        room = f" with {count} ASIDs" if count else ""
    else:
        return None
    modes = " and ".join(feature.replace("_", "-") for feature in FEATURES[name])
    word = "usable" if usable else "unusable"
    return f"KVM {'can run' if usable else 'cannot run'} {modes} guests{room}", (
        *(f"host:{feature}:{word}" for feature in FEATURES[name]),
        "role:weak-host",
    )


def _combine(found: Sequence[Evidence]) -> dict[str, Any]:
    effects = {effect for item in found if not item.kvm for effect in item.effects}
    roles = effects | {effect for item in found for effect in item.effects if effect.startswith("role:")}
    if "role:guest" in roles:
        role = "guest"
    elif roles & {"role:host", "role:weak-host"}:
        role = "host"
    else:
        role = "unknown"
    return {
        "role": role,
        "active": [mode for mode in _MODES.values() if f"active:{mode}" in effects],
        "host": {feature: _usable(feature, effects, _last_word(feature, found), role) for feature in HOST_FEATURES},
        "evidence": [{"line": item.line, "text": item.text, "means": item.means} for item in found],
    }


def _last_word(feature: str, found: Sequence[Evidence]) -> str:
    """KVM's last statement on a feature: a module may be unloaded and loaded with other parameters."""
    said = [effect for item in found if item.kvm for effect in item.effects if effect.startswith(f"host:{feature}:")]
    return said[-1].rpartition(":")[2] if said else "unknown"


def _usable(feature: str, effects: set[str], kvm: str, role: str) -> str:
    """A failure overrides KVM's message: several versions of KVM say "enabled" although the firmware's INIT failed.

    In a guest, KVM's messages are based on a leaf that the host exposes: there they prove nothing.
    """
    if f"host:{feature}:unusable" in effects or kvm == "unusable":
        return "unusable"
    if f"host:{feature}:doubt" in effects or role == "guest" or kvm == "doubt":
        return "unknown"
    return kvm


def read_log(data: bytes, name: str) -> list[str]:
    """The lines of a saved kernel log; raises BadInputError if it is not text."""
    if not data.strip():
        raise BadInputError(f"{name}: the file is empty", hint="save a log with `dmesg > FILE`")
    return textfile.text(data, name).split("\n")
