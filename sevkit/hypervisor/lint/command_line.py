"""Parse QEMU command lines from a script, a log of libvirt, or a running process. Pure except `of_process`."""

import json
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from sevkit.errors import BadInputError, UsageError
from sevkit.hypervisor.lint.model import Launch, Part

_PROGRAM = re.compile(r"(?:^|/)(?:qemu-system-\w+|qemu-kvm|qemu|kvm)$")
_IMPLICIT = {"machine": "type", "object": "qom-type", "device": "driver", "accel": "accel", "drive": "file"}
_CONTINUED = re.compile(r"\\\r?\n[ \t]*")
_COMMENT = re.compile(r"^\s*#.*$", re.MULTILINE)
_LONG = re.compile(r"^--?([a-zA-Z][\w-]*)$")


def launches(text: str, origin: str) -> list[Launch]:
    """The command lines of QEMU in a text; raises BadInputError if there is none."""
    return [launch(words, origin) for words in arguments(text, origin)]


def arguments(text: str, origin: str) -> list[list[str]]:
    """The arguments of each QEMU in a text, without the program; raises BadInputError if there is none."""
    joined = _CONTINUED.sub(" ", _COMMENT.sub("", text))
    found = []
    for line in joined.split("\n"):
        words = _words(line)
        start = next((n for n, word in enumerate(words) if _PROGRAM.search(word) or _variable(word)), None)
        if start is not None and len(words) > start + 2 and any(word.startswith("-") for word in words[start + 1 :]):
            found.append(words[start + 1 :])
    if not found:
        raise BadInputError(
            f"{origin}: no command line of QEMU", hint="give a script, a log of libvirt, or a domain's XML"
        )
    return found


def _variable(word: str) -> bool:
    return bool(re.fullmatch(r"\$\{?\w*QEMU\w*\}?", word, re.IGNORECASE))


def _words(line: str) -> list[str]:
    if "-" not in line:
        return []
    try:
        return shlex.split(line)
    except ValueError:
        return line.split()


def of_process(pid: int) -> Launch:
    """The launch of a running VMM; raises UsageError if the process is not a VMM."""
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError as error:
        raise UsageError(f"process {pid} cannot be read: {(error.strerror or str(error)).lower()}") from error
    words = [word.decode("utf-8", "replace") for word in raw.split(b"\0")[:-1]]
    if not words or not _PROGRAM.search(words[0]):
        raise UsageError(f"process {pid} is no QEMU", hint="give the PID of a QEMU process")
    return launch(words[1:], f"process {pid}")


def launch(argv: Sequence[str], origin: str) -> Launch:
    """A launch from the arguments of the program."""
    machine: dict[str, str] = {}
    parts: dict[str, list[Part]] = {"object": [], "device": [], "drive": []}
    single: dict[str, str] = {}
    for name, value in _pairs(argv):
        if name in ("machine", "M"):
            machine |= _options(value, "machine")
        elif name in parts:
            options = _options(value, name)
            kind = "drive" if name == "drive" else options.pop(_IMPLICIT[name], "")
            parts[name].append(Part(kind, options))
        else:
            single[name] = value
    accel = _options(single["accel"], "accel").get("accel", "") if "accel" in single else machine.get("accel", "")
    return Launch(
        origin,
        machine,
        accel.split(":")[0] or ("kvm" if "enable-kvm" in single else ""),
        single.get("cpu", ""),
        single.get("smp", ""),
        single.get("m", ""),
        tuple(parts["object"]),
        tuple(parts["device"]),
        tuple(parts["drive"]),
        single.get("bios", ""),
        single.get("kernel", ""),
        tuple(word for word in argv if re.match(r"\$|-readconfig", word)),
    )


def _pairs(argv: Sequence[str]) -> Iterator[tuple[str, str]]:
    at = 0
    while at < len(argv):
        found = _LONG.match(argv[at])
        at += 1
        if not found:
            continue
        value = argv[at] if at < len(argv) and not _LONG.match(argv[at]) else ""
        yield found[1], value


def _options(text: str, option: str) -> dict[str, str]:
    """Parse ``a,b=c,d`` with doubled commas, or JSON; a first word without "=" is the value of the implicit option."""
    if text.lstrip().startswith("{"):
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            return {}
        return {str(k): _word(v) for k, v in found.items()} if isinstance(found, dict) else {}
    options: dict[str, str] = {}
    for place, piece in enumerate(re.split(r"(?<!,),(?!,)", text)):
        name, equals, value = piece.replace(",,", ",").partition("=")
        if not equals and place == 0:
            options[_IMPLICIT[option]] = name
        elif name:
            options[name] = value if equals else "on"
    return options


def _word(value: object) -> str:
    return ("on" if value else "off") if isinstance(value, bool) else str(value)
