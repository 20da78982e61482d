"""Parse QEMU command lines from a script, a log of libvirt, or a running process. Pure except `of_process`."""

import json
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from sevkit.errors import BadInputError, UsageError
from sevkit.hypervisor.lint.model import Launch, Part, is_variable

_PROGRAM = re.compile(r"(?:^|/)(?:qemu-system-\w+|qemu-kvm|qemu|kvm)$")
_IMPLICIT = {"machine": "type", "object": "qom-type", "device": "driver", "accel": "accel", "drive": "file"}
_CONTINUED = re.compile(r"\\\r?\n[ \t]*")
_BROAD = ("object", "device", "machine", "M", "drive")  # options whose value may be anything
_FLAGS = (
    "enable-kvm", "nographic", "no-reboot", "no-shutdown", "nodefaults", "no-user-config", "daemonize", "snapshot", "S",
    "no-acpi", "no-hpet", "full-screen", "usb", "sdl",
)  # fmt: skip
_COMMENT = re.compile(r"^\s*#.*$", re.MULTILINE)
_ARRAY = re.compile(r"^[ \t]*(?:declare -a |local -a )?(\w+)\+?=\(([^()]*)\)", re.MULTILINE)
_BLANKS = re.compile(r"\{\{[^{}\n]{0,200}\}\}|\$\([^()\n]{0,200}\)|\$\{[^{}\n]{0,200}\}")
_KATA = re.compile(r"(\S*qemu[\w-]*) with: \[([^\]\n]*)\]")
_SECTION = re.compile(r"\[(\w[\w-]*)(?: \"([^\"]*)\")?\]\s*$")
_SETTING = re.compile(r"([\w.-]+) = \"(.*)\"\s*$")
_CONFIG = {"memory": "m", "smp-opts": "smp"}
_CONFIG_FIRST = {"memory": "size", "smp-opts": "cpus"}
_MORE = ("$OTHER_OPTIONS",)  # a configuration file is never all of a command line
_LONG = re.compile(r"^--?([a-zA-Z][\w-]*)$")


def launches(text: str, origin: str) -> list[Launch]:
    """The command lines of QEMU in a text; raises BadInputError if there is none."""
    return [launch(words, origin) for words in arguments(text, origin)]


def arguments(text: str, origin: str) -> list[list[str]]:
    """The arguments of each QEMU in a text, without the program; raises BadInputError if there is none."""
    joined = _CONTINUED.sub(" ", _COMMENT.sub("", _expanded(text)))
    found = []
    for words in [_argv_in_json(text), *map(_words, joined.split("\n"))]:
        start = next((n for n, word in enumerate(words) if _PROGRAM.search(word) or _variable(word)), None)
        if start is not None and len(words) > start + 2 and any(word.startswith("-") for word in words[start + 1 :]):
            found.append(words[start + 1 :])
    if not found:
        built = "-object" in text and "sev" in text
        raise BadInputError(
            f"{origin}: no command line of QEMU",
            hint="the script puts it together: lint what it prints, or the running process (--pid)"
            if built
            else "give a script, a log of libvirt, or a domain's XML",
        )
    return found


def _expanded(text: str) -> str:
    """The text with each variable as one word, and with bash arrays and Kata's log lines written out as commands."""
    text = _BLANKS.sub(lambda found: "".join(found[0].split()), text)
    arrays: dict[str, str] = {}
    for name, body in _ARRAY.findall(_COMMENT.sub("", text)) if "=(" in text else ():
        arrays[name] = f"{arrays.get(name, '')} {' '.join(body.split(chr(10)))}"
    for name, body in arrays.items():
        for use in (f'"${{{name}[@]}}"', f"${{{name}[@]}}", f"${{{name}[*]}}"):
            text = text.replace(use, body)
    return _KATA.sub(r"\n\1 \2\n", text) if " with: [" in text else text


def _argv_in_json(text: str) -> list[str]:
    if not text.lstrip().startswith("["):
        return []
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return []
    return found if isinstance(found, list) and all(isinstance(word, str) for word in found) else []


def is_config(text: str) -> bool:
    """Whether a text is a file for -readconfig, as Incus and others write it."""
    return any(_SECTION.match(line) for line in text.split("\n")[:50]) and "qom-type" in text + "[machine]"


def of_config(text: str, origin: str) -> Launch:
    """The launch that a file for -readconfig describes; other options may be given beside it."""
    argv: list[str] = []
    kind, options = "", ""
    for line in [*text.split("\n"), "[end]"]:
        section, setting = _SECTION.match(line.strip()), _SETTING.match(line.strip())
        if section:
            argv += [f"-{_CONFIG.get(kind, kind)}", options.lstrip(",")] if options else []
            kind, options = section[1], f",id={section[2]}" if section[2] else ""
        elif setting:
            name = "" if setting[1] == _CONFIG_FIRST.get(kind) else f"{setting[1]}="
            options += f",{name}{setting[2].replace(',', ',,')}"
    return launch([*argv, *_MORE], origin)


def _variable(word: str) -> bool:
    return bool(re.fullmatch(r"\$\{?\w*QEMU\w*\}?|\{\{ ?\w*QEMU\w* ?\}\}", word, re.IGNORECASE))


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
    unknown: list[str] = []
    for name, value in _pairs(argv):
        if name in ("machine", "M"):
            machine |= _options(value, "machine")
        elif not name or (name in _BROAD and value.startswith(("$", "{{"))):
            unknown.append(value)
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
        tuple(unknown),
        tuple(word for word in argv if is_variable(word) and word not in unknown),
    )


def _pairs(argv: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Options with their values; ("", word) for a word that may be any options."""
    words = iter(range(len(argv)))
    for at in words:
        word = argv[at]
        found = _LONG.match(word)
        if not found or word == "-readconfig":
            if found or is_variable(word):
                yield "", word
            continue
        follows = at + 1 < len(argv) and not _LONG.match(argv[at + 1]) and found[1] not in _FLAGS
        yield found[1], argv[next(words)] if follows else ""


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
