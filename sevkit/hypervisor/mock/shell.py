"""The mock guest's shell: a small part of sh and of the usual commands, enough for experiments. Pure.

Understood: quotes, ``$NAME`` and ``$?``, ``NAME=value``, ``;`` and newline, ``&&``, ``||``, ``|``, ``<``, ``>``,
``>>``, ``2>&1``, comments. Anything else answers as a shell does that lacks a command: status 127.
"""

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sevkit.guest.result import CommandResult
from sevkit.model.faults import Fault
from sevkit.vocabulary import sev_status

if TYPE_CHECKING:
    from sevkit.hypervisor.mock.guest import MockGuestKernel

_TOKEN = re.compile(
    r"""(?P<space>[ \t]+|\\\n) | (?P<comment>\#[^\n]*) | (?P<op>2>&1|2>|&&|\|\||>>|[;|<>\n&])
      | (?P<word>(?:[^\s;|<>&'"\\#]|\\.|'[^']*'|"(?:[^"\\]|\\.)*")(?:[^\s;|<>&'"\\]|\\.|'[^']*'|"(?:[^"\\]|\\.)*")*)""",
    re.VERBOSE | re.DOTALL,
)
_PIECE = re.compile(r"""'([^']*)'|"((?:[^"\\]|\\.)*)"|\\(.)|([^'"\\]+)""", re.DOTALL)
_VARIABLE = re.compile(r"\$(\?|\w+|\{\w+\})")
_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
_SEPARATORS = {";", "\n", "&&", "||", "&"}


class ShellSyntaxError(Exception):
    """The command line cannot be read."""


@dataclass
class Stage:
    """One command of a pipeline with its redirections."""

    words: list[str] = field(default_factory=list)
    source: str | None = None
    target: str | None = None
    append: bool = False
    drop_errors: bool = False
    join_errors: bool = False


@dataclass
class _State:
    variables: dict[str, str]
    status: int = 0
    stop: bool = False


class MockShell:
    """Runs command lines against a guest's files and memory."""

    def __init__(self, kernel: "MockGuestKernel") -> None:
        self.kernel = kernel
        self._commands: dict[str, Callable[[Sequence[str], bytes], tuple[int, bytes, bytes]]] = {
            name.removeprefix("_do_").replace("_", "-"): getattr(self, name) for name in dir(self) if name[:4] == "_do_"
        }

    def run(self, command: str | Sequence[str], stdin: bytes = b"") -> CommandResult:
        """Run a command line (text: by the shell; a sequence: one command as it is)."""
        state = _State({"HOME": "/root", "PATH": "/bin", "SHELL": "/bin/sh"})
        if not isinstance(command, str):
            return CommandResult(*self._call(list(command), stdin, state))
        try:
            return self._script(command, stdin, state)
        except ShellSyntaxError as error:
            return CommandResult(2, b"", f"sh: syntax error: {error}\n".encode())

    # --- the shell

    def _script(self, text: str, stdin: bytes, state: _State) -> CommandResult:
        out, err = b"", b""
        skip = False
        for pipeline, ending in _pipelines(_tokens(text)):
            if pipeline and not skip:
                more_out, more_err = self._pipeline(pipeline, stdin, state)
                out, err = out + more_out, err + more_err
                if state.stop:
                    break
            skip = (ending == "&&" and state.status != 0) or (ending == "||" and state.status == 0)
        return CommandResult(state.status, out, err)

    def _pipeline(self, stages: Sequence[Stage], stdin: bytes, state: _State) -> tuple[bytes, bytes]:
        errors = b""
        data = stdin
        for stage in stages:
            words = [_expand(word, state) for word in stage.words]
            while words and (match := _ASSIGNMENT.fullmatch(words[0])):
                state.variables[match[1]] = match[2]
                words.pop(0)
            if stage.source is not None:
                data = self._file(_expand(stage.source, state))
            state.status, out, err = self._call(words, data, state) if words else (0, b"", b"")
            if stage.join_errors:
                out, err = out + err, b""
            if stage.target is not None:
                self._redirect(_expand(stage.target, state), out, stage.append)
                out = b""
            errors += b"" if stage.drop_errors else err
            data = out
        return data, errors

    def _redirect(self, path: str, data: bytes, append: bool) -> None:
        if path == "/dev/kmsg":
            self.kernel.print_kernel(re.sub(r"^<\d>", "", data.decode(errors="replace").rstrip("\n")), console=False)
        elif path == "/dev/console":
            self.kernel.print_console(data)
        elif path != "/dev/null":
            self.kernel.write_file(path, data, append=append)

    def _file(self, path: str) -> bytes:
        try:
            return self.kernel.read_file(path)
        except FileNotFoundError:
            return b""

    def _call(self, words: list[str], stdin: bytes, state: _State) -> tuple[int, bytes, bytes]:
        name, *arguments = words
        name = name.rpartition("/")[2] or name
        if name == "exit":
            state.stop = True
            return int(arguments[0]) if arguments and arguments[0].isdigit() else state.status, b"", b""
        if name == "sh" and len(arguments) >= 2 and arguments[0] == "-c":
            done = self.run(arguments[1], stdin)
            return done.status, done.stdout, done.stderr
        command = self._commands.get("test" if name == "[" else name)
        if command is None:
            return 127, b"", f"sh: {name}: not found\n".encode()
        try:
            return command(arguments, stdin)
        except FileNotFoundError as error:
            return 1, b"", f"{name}: {error}: No such file or directory\n".encode()
        except (ValueError, IndexError) as error:
            return 2, b"", f"{name}: {error}\n".encode()
        except Fault as fault:
            return 135, b"", f"{name}: bus error: {fault}\n".encode()

    # --- commands

    def _do_true(self, arguments: Sequence[str], stdin: bytes) -> tuple[int, bytes, bytes]:
        del arguments, stdin
        return 0, b"", b""

    _do_sleep = _do_sync = _do_true

    def _do_false(self, arguments: Sequence[str], stdin: bytes) -> tuple[int, bytes, bytes]:
        del arguments, stdin
        return 1, b"", b""

    def _do_echo(self, arguments: Sequence[str], stdin: bytes) -> tuple[int, bytes, bytes]:
        del stdin
        quiet = bool(arguments) and arguments[0] == "-n"
        return 0, " ".join(arguments[quiet:]).encode() + (b"" if quiet else b"\n"), b""

    def _do_printf(self, arguments: Sequence[str], stdin: bytes) -> tuple[int, bytes, bytes]:
        del stdin
        text = arguments[0].replace("\\n", "\n").replace("%%", "%")
        for value in arguments[1:]:
            text = re.sub(r"%[sd]", lambda _, value=value: value, text, count=1)  # type: ignore[misc]
        return 0, text.encode(), b""

    def _do_cat(self, arguments: Sequence[str], stdin: bytes) -> tuple[int, bytes, bytes]:
        return 0, b"".join(self.kernel.read_file(path) for path in arguments) if arguments else stdin, b""

    def _do_tee(self, arguments: Sequence[str], stdin: bytes) -> tuple[int, bytes, bytes]:
        for path in arguments:
            self._redirect(path, stdin, append=False)
        return 0, stdin, b""

    def _do_wc(self, arguments: Sequence[str], stdin: bytes) -> tuple[int, bytes, bytes]:
        data = self.kernel.read_file(arguments[-1]) if arguments and arguments[-1][0] != "-" else stdin
        counts = {"-c": len(data), "-l": data.count(b"\n")}
        chosen = [str(counts[word]) for word in arguments if word in counts] or [str(n) for n in counts.values()]
        return 0, " ".join(chosen).encode() + b"\n", b""

    def _do_grep(self, arguments: Sequence[str], stdin: bytes) -> tuple[int, bytes, bytes]:
        options = "".join(word[1:] for word in arguments if word[:1] == "-")
        pattern, *paths = [word for word in arguments if word[:1] != "-"]
        data = b"".join(self.kernel.read_file(path) for path in paths) if paths else stdin
        fold = bytes.lower if "i" in options else bytes
        wanted = fold(pattern.encode())
        hits = [line for line in data.splitlines(keepends=True) if wanted in fold(line)]
        if "c" in options:
            return int(not hits), f"{len(hits)}\n".encode(), b""
        return int(not hits), b"" if "q" in options else b"".join(hits), b""

    def _do_sha256sum(self, arguments: Sequence[str], stdin: bytes) -> tuple[int, bytes, bytes]:
        named = [(self.kernel.read_file(path), path) for path in arguments] or [(stdin, "-")]
        return 0, "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for data, name in named).encode(), b""

    def _do_ls(self, arguments: Sequence[str], stdin: bytes) -> tuple[int, bytes, bytes]:
        del stdin
        paths = [word.rstrip("/") for word in arguments if word[:1] != "-"] or ["/root"]
        names = sorted(path for path in self.kernel.files if path in paths or path.rpartition("/")[0] in paths)
        if not names and not any(path.startswith(tuple(f"{p}/" for p in paths)) for path in self.kernel.files):
            raise FileNotFoundError(paths[0])
        return 0, "".join(f"{path.rpartition('/')[2]}\n" for path in names).encode(), b""

    def _do_rm(self, arguments: Sequence[str], stdin: bytes) -> tuple[int, bytes, bytes]:
        del stdin
        for path in (word for word in arguments if word[:1] != "-"):
            if self.kernel.files.pop(path, None) is None and "-f" not in arguments:
                raise FileNotFoundError(path)
        return 0, b"", b""

    def _do_mkdir(self, arguments: Sequence[str], stdin: bytes) -> tuple[int, bytes, bytes]:
        del arguments, stdin  # folders are the prefixes of files
        return 0, b"", b""

    def _do_test(self, arguments: Sequence[str], stdin: bytes) -> tuple[int, bytes, bytes]:
        del stdin
        words = [word for word in arguments if word != "]"]
        if words[:1] in (["-e"], ["-f"], ["-s"]):
            return int(words[1] not in self.kernel.files), b"", b""
        if words[:1] in (["-n"], ["-z"]):
            return int(bool(words[1]) != (words[0] == "-n")), b"", b""
        return int((words[0] == words[2]) != (words[1] in ("=", "=="))), b"", b""

    def _do_uname(self, arguments: Sequence[str], stdin: bytes) -> tuple[int, bytes, bytes]:
        del stdin
        parts = {"s": "Linux", "n": "mock", "r": "6.1.0-sevkit-model", "m": "x86_64"}
        letters = "".join(word[1:] for word in arguments) or "s"
        chosen = parts.values() if "a" in letters else [parts[letter] for letter in letters if letter in parts]
        return 0, " ".join(chosen).encode() + b"\n", b""

    def _do_hostname(self, arguments: Sequence[str], stdin: bytes) -> tuple[int, bytes, bytes]:
        del arguments, stdin
        return 0, self.kernel.read_file("/etc/hostname"), b""

    def _do_nproc(self, arguments: Sequence[str], stdin: bytes) -> tuple[int, bytes, bytes]:
        del arguments, stdin
        return 0, f"{self.kernel.vcpus}\n".encode(), b""

    def _do_whoami(self, arguments: Sequence[str], stdin: bytes) -> tuple[int, bytes, bytes]:
        del arguments, stdin
        return 0, b"root\n", b""

    def _do_command(self, arguments: Sequence[str], stdin: bytes) -> tuple[int, bytes, bytes]:
        """``command -v NAME``: where a command is, as testinfra asks."""
        del stdin
        name = arguments[-1]
        return (0, f"/bin/{name}\n".encode(), b"") if name in self._commands else (127, b"", b"")

    def _do_which(self, arguments: Sequence[str], stdin: bytes) -> tuple[int, bytes, bytes]:
        return self._do_command(arguments, stdin)

    def _do_lsblk(self, arguments: Sequence[str], stdin: bytes) -> tuple[int, bytes, bytes]:
        del arguments, stdin
        return 0, b"NAME MAJ:MIN RM SIZE RO TYPE MOUNTPOINTS\nram0   1:0    0  16M  0 disk /\n", b""

    def _do_free(self, arguments: Sequence[str], stdin: bytes) -> tuple[int, bytes, bytes]:
        del arguments, stdin
        total, used = self.kernel.ram >> 10, self.kernel.used >> 10
        return 0, f"       total  used  free\nMem: {total} {used} {total - used}\n".encode(), b""

    def _do_dmesg(self, arguments: Sequence[str], stdin: bytes) -> tuple[int, bytes, bytes]:
        del arguments, stdin
        return 0, self.kernel.kernel_log(), b""

    def _do_rdmsr(self, arguments: Sequence[str], stdin: bytes) -> tuple[int, bytes, bytes]:
        """SEV_STATUS is the one proof inside a guest that the host cannot forge (APM volume 2, 15.34.10)."""
        del stdin
        if int(arguments[-1], 0) != 0xC0010131:
            raise ValueError("this CPU has only SEV_STATUS (0xc0010131)")
        return 0, f"{sev_status(self.kernel.vm.mode):x}\n".encode(), b""


def _tokens(text: str) -> list[tuple[str, str]]:
    found, at = [], 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise ShellSyntaxError(f"unexpected {text[at]!r}")
        if match.lastgroup in ("op", "word"):
            found.append((match.lastgroup, match[0]))
        at = match.end()
    return found


def _pipelines(tokens: list[tuple[str, str]]) -> list[tuple[list[Stage], str]]:
    """Pipelines, each with the separator that follows it."""
    found: list[tuple[list[Stage], str]] = []
    stages = [Stage()]
    words = iter(tokens)
    for kind, text in words:
        if kind == "word":
            stages[-1].words.append(text)
        elif text in _SEPARATORS:
            found.append(([stage for stage in stages if _filled(stage)], text))
            stages = [Stage()]
        elif text == "|":
            stages.append(Stage())
        elif text == "2>&1":
            stages[-1].join_errors = True
        else:
            _redirection(stages[-1], text, next(words, ("op", "")))
    found.append(([stage for stage in stages if _filled(stage)], ";"))
    return found


def _redirection(stage: Stage, operator: str, target: tuple[str, str]) -> None:
    if target[0] != "word":
        raise ShellSyntaxError(f"{operator} needs a file")
    if operator == "<":
        stage.source = target[1]
    elif operator == "2>":
        stage.drop_errors = True
    else:
        stage.target, stage.append = target[1], operator == ">>"


def _filled(stage: Stage) -> bool:
    return bool(stage.words) or stage.target is not None


def _expand(word: str, state: _State) -> str:
    """A word with its quotes taken away and its variables filled in."""

    def value(match: re.Match[str]) -> str:
        name = match[1].strip("{}")
        return str(state.status) if name == "?" else state.variables.get(name, "")

    out = ""
    for single, double, escaped, plain in _PIECE.findall(word):
        if double:
            out += re.sub(r'\\(["\\$])', r"\1", _VARIABLE.sub(value, double))
        else:
            out += single + escaped + _VARIABLE.sub(value, plain)
    return out
