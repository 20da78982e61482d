"""Find the pipelines of the tree in which the failure of a stage would be lost.

The status of a pipeline is that of its last stage. So `read-it | work-on-it` succeeds when nothing could be read, unless
the shell has `pipefail` (bash), or one of these holds:

* the stage cannot fail (`printf`, `echo`, `seq`);
* it leaves a file as its last act, which the line removes: ``{ a && : >$F; } | b && rm $F``;
* the last stage is a `grep` that must find something: it does not in the output of nothing.
"""

import ast
import functools
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

SURE = frozenset({"printf", "echo", "seq", "yes", ":"})
_COMMANDS = (
    r"awk|base64|cat|cpio|cut|dd|gcc|grep|gzip|head|jq|lz4|od|paste|python3|sed"
    r"|sh|sha256sum|sort|tail|tar|tee|tr|uniq|wc|while|xargs|zcat|zstd"
)
_PIPE = re.compile(rf"\|\s*(?:{_COMMANDS})\b(?![|)\]])")
_LEAVES_A_FILE = re.compile(r": >(\S+); \}$")
_SEPARATOR = re.compile(r";|&&|\|\||\n|\$\((?!\()|`|\bthen\b|\bdo\b|(?<!\S)[{(!](?=\s)")


def lost(text: str) -> Iterator[tuple[str, str]]:
    """The stages of shell text whose failure is lost, each with the rest of its pipeline."""
    for stages, behind in pipelines(text):
        last = stages[-1].split()
        if last[:1] == ["grep"] and not any(re.match(r"-\w*[vc]", word) for word in last):
            continue
        rest = " | ".join(stages[1:])
        for stage in stages[:-1]:
            file = _LEAVES_A_FILE.search(stage)
            if file and re.match(rf"\s*&& rm {re.escape(file[1])}(?!\S)", behind):
                continue
            if stage.split()[0] not in SURE:
                yield stage, rest


def pipelines(text: str) -> Iterator[tuple[list[str], str]]:
    """The pipelines of shell text: their stages, and what follows them on the line."""
    text = re.sub(r"(?m)(?:^|(?<=\s))#.*$", "", text.replace("\\\n", " "))
    at = 0
    while (pipe := _next_pipe(text, at)) is not None:
        first, end = _first_stage(text, pipe), pipe
        stages = [first]
        while end < len(text) and text[end] == "|":
            stop = _end_of_stage(text, end + 1)
            stages.append(text[end + 1 : stop].strip())
            end = stop
        yield stages, text[end:].partition("\n")[0]
        at = end


def _next_pipe(text: str, at: int) -> int | None:
    """The next `|` that is no `||`, outside of quotes; a command substitution within double quotes is not quoted."""
    for index, quoted in _quoted(text).items():
        if (
            index >= at
            and not quoted
            and text[index] == "|"
            and "|" not in text[max(0, index - 1) : index + 2].replace("|", "", 1)
            and text[index - 1] not in ">\\&"
            and _PIPE.match(text, index)
        ):
            return index
    return None


@functools.lru_cache(maxsize=1)
def _quoted(text: str) -> dict[int, bool]:
    return dict(_walk(text))


def _walk(text: str) -> Iterator[tuple[int, bool]]:
    """Each character's index, and whether it is quoted."""
    open_: list[str] = []
    index = 0
    while index < len(text):
        here, inside = text[index], open_[-1] if open_ else ""
        if inside == "'":
            if here == "'":
                open_.pop()
        elif here == "\\":
            yield index, True
            index += 1
        elif text.startswith("$(", index) and not text.startswith("$((", index):
            open_.append(")")
            yield index, False
            index += 1
        elif here == ")" and inside == ")":
            open_.pop()
        elif here == '"':
            if inside == '"':
                open_.pop()
            else:
                open_.append('"')
        elif here == "'" and inside != '"':
            open_.append("'")
        if index < len(text):
            yield index, bool(open_) and open_[-1] in "'\""
        index += 1


def _first_stage(text: str, pipe: int) -> str:
    """What stands before a pipe, back to where its command begins; a whole group if it is one."""
    before = text[:pipe].rstrip()
    if before.endswith("}") and re.search(r"(?<!\S)\{ [^{}]*(?:\$\{\w+\}[^{}]*)*\}$", before):
        return before[before.rindex("{ ") :]
    quoted = _quoted(text)
    start = 0
    for found in _SEPARATOR.finditer(before):
        if not quoted.get(found.start(), False):
            start = found.end()
    return before[start:].strip() or before.strip()


def _end_of_stage(text: str, at: int) -> int:
    quoted = _quoted(text)
    depth = 0
    for index in range(at, len(text)):
        if quoted.get(index, True):
            continue
        depth += text[index] == "("
        if text[index] == ")":
            if not depth:
                return index
            depth -= 1
        elif text[index] in ";\n|" or text.startswith("&&", index):
            return index
    return len(text)


def of_tree(root: Path, files: list[str]) -> Iterator[tuple[str, str, str]]:
    """The pipelines of the repository's files in which a failure is lost: (file, stage, rest)."""
    for name in files:
        for text in _shell_of(root / name):
            yield from ((name, stage, rest) for stage, rest in lost(text))


def _shell_of(path: Path) -> list[str]:
    """The shell code in a file that runs without `pipefail`."""
    if (
        path.is_symlink()
        or not path.is_file()
        or path.suffix in (".md", ".patch", ".gz", ".lock", ".png", ".json", ".bin")
    ):
        return []
    text = path.read_text(errors="replace")
    if not _PIPE.search(text):
        return []
    if path.suffix == ".py":
        return [each for each in _constants(path) if _PIPE.search(each)]
    if path.suffix == ".toml":
        return [each for each in _values(tomllib.loads(text)) if _PIPE.search(each)]
    first = text.partition("\n")[0]
    if re.match(r"#!.*\b(?:ba|da)?sh\b", first) or path.suffix == ".sh" or path.name in ("Makefile", "rules"):
        text = re.sub(r"\$\((\w+)\)", r"$\1", text) if path.name in ("Makefile", "rules") else text
        return [] if re.search(r"(?m)^(?:\s*set|.SHELLFLAGS :=) -\w*o pipefail", text) else [text]
    if path.suffix in (".yml", ".yaml") or path.name == "Dockerfile":
        return [] if re.search(r"pipefail|shell: bash", text) else [text]
    return []


def _values(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _values(each)


def _constants(path: Path) -> Iterator[str]:
    """The strings of a Python file but its docstrings; what an f-string inserts is X."""
    tree = ast.parse(path.read_text())
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    within = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(p.value) if isinstance(p, ast.Constant) else "X" for p in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings | within:
            yield node.value
