"""What a report leaves for somebody who was not there: the host, the files by hash, the result itself, a signature.

A record is embedded in a report as JSON. `check` recomputes from a report what can be recomputed: the hash of the
embedded result and of the page around it, its own summary, the files that are still on this host, and a detached
signature. Hashes show accidents and hasty edits; only a signature shows that nobody has made all of it anew.
"""

import hashlib
import html
import itertools
import json
import os
import platform
import re
import stat
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sevkit import strictjson, textfile
from sevkit.errors import BadInputError
from sevkit.evidence import consistent, signature
from sevkit.evidence.payload import Checked, Finding, HashedFile, Host, Record
from sevkit.evidence.signature import SIGNATURE, sign, signing_key

__all__ = ["END", "SIGNATURE", "check", "digest", "embedded", "record", "sealed", "sign", "signing_key", "this_host"]

_MARK = '<template id="sevkit-evidence">'  # not shown, and not a script
END = "\n</main>"  # what stands behind the record
_LARGEST = 4 << 30  # bytes of a file that is still hashed
_DMI = Path("/sys/class/dmi/id")


def record(result: Mapping[str, Any], *, operator: str | None = None, ticket: str | None = None) -> Record:
    """The record of a result on this host, with the hashes of the files that its guests were started from."""
    from sevkit import __version__

    plain: dict[str, Any] = json.loads(json.dumps(result))
    return {
        "sevkit": __version__,
        "host": this_host(),
        "operator": operator,
        "ticket": ticket,
        "files": [_hashed(role, path) for role, path in sorted(set(_files_of(plain)))],
        "result": plain,
        "result_sha256": digest(plain),
        "page_sha256": "",
        "record_sha256": "",
    }


def sealed(found: Record, page: str) -> Record:
    """The record with the hash of the page that it will be embedded in, and of itself."""
    whole: Record = {**found, "page_sha256": _sha256(page), "record_sha256": ""}
    whole["record_sha256"] = digest(whole)
    return whole


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def digest(result: Mapping[str, Any]) -> str:
    """SHA-256 of a result as canonical JSON: sorted keys, no spaces, ASCII."""
    text = json.dumps(result, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return _sha256(text)


def this_host() -> Host:
    """Who this machine is, as far as its user may read."""
    cpu = _first_cpu()
    numbers = [cpu.get(name) for name in ("cpu family", "model", "stepping")]
    bios = [_line(_DMI / name) for name in ("bios_vendor", "bios_version", "bios_date")]
    product = [_line(_DMI / name) for name in ("sys_vendor", "product_name")]
    release = re.search(r'^PRETTY_NAME="?([^"\n]*)', _text(Path("/etc/os-release")), re.MULTILINE)
    return {
        "name": platform.node(),
        "cpu": cpu.get("model name"),
        "cpu_signature": "/".join(map(str, numbers)) if all(numbers) else None,
        "microcode": cpu.get("microcode"),
        "cpus": os.cpu_count() or 0,
        "bios": " ".join(filter(None, bios)) or None,
        "product": " ".join(filter(None, product)) or None,
        "kernel": f"{platform.release()} {platform.version()}",
        "system": release[1] if release else None,
    }


def embedded(found: Record) -> str:
    """The record as an element of an HTML page; no text in it can end the element."""
    return f"{_MARK}{html.escape(json.dumps(found, sort_keys=True), quote=False)}</template>"


def check(path: Path, public: Path | None = None) -> Checked:
    """Recompute what a report says, as far as that is possible here. Raises BadInputError where there is no record."""
    found, page, as_written = _extract(path)
    findings = [_page(found, page), _record(found, as_written), _result(found)]
    findings += consistent.findings(found["result"])
    findings += [*(_file(each) for each in found["files"]), signature.check(path, public)]
    return {
        "report": str(path),
        "sound": all(each["state"] != "wrong" for each in findings),
        "host": found["host"],
        "operator": found["operator"],
        "ticket": found["ticket"],
        "findings": findings,
    }


def _extract(path: Path) -> tuple[Record, str, bool]:
    """The record in a page, the page without it, and whether the record's place and spelling are as written.

    No hash covers these two. A browser may show more than was written where the record stands elsewhere (inside of a
    tag or of the style), or where a `<` in it is no longer escaped.
    """
    text = signature.read(path).decode(errors="surrogateescape")
    before, mark, rest = text.rpartition(_MARK)
    if not mark:
        raise BadInputError(
            f"{path} holds no record of sevkit's", hint="reports of `attack run --report` do, unless they are cut off"
        )
    try:
        inside, _, after = rest.partition("</template>")
        found: Record = strictjson.loads(html.unescape(inside))
        if not (isinstance(found["result"], dict) and isinstance(found["files"], list)):
            raise TypeError("not a record")
        texts = [found["result_sha256"], found["host"]["name"], found["page_sha256"]]
        texts += [each[name] for each in found["files"] for name in ("path", "role")]
        maybe = [found["operator"], found["ticket"], *(each["sha256"] for each in found["files"])]
        if not all(isinstance(text, str) for text in (*texts, *(text for text in maybe if text is not None))):
            raise TypeError("a name or a hash in it is no text")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadInputError(f"the record in {path} is damaged: {error}") from error
    as_written = f"{mark}{inside}</template>" == embedded(found) and after.startswith(END) and after.count(END) == 1
    return found, before + after, as_written


def _page(found: Record, page: str) -> Finding:
    same = _sha256(page) == found["page_sha256"]
    detail = "SHA-256 as recorded" if same else "what the page shows is not what was written: it was edited"
    return {"what": "the page", "state": "confirmed" if same else "wrong", "detail": detail}


def _record(found: Record, as_written: bool) -> Finding:
    whole = {**found, "record_sha256": ""}
    same = digest(whole) == found.get("record_sha256")
    detail = "SHA-256 as recorded" if same else "host, operator, ticket or files were edited"
    if same and not as_written:
        detail = "it was moved within the page, or is spelt otherwise than it was written: the page was edited"
    return {"what": "the record", "state": "confirmed" if same and as_written else "wrong", "detail": detail}


def _result(found: Record) -> Finding:
    same = digest(found["result"]) == found["result_sha256"]
    detail = "SHA-256 as recorded" if same else "the embedded result is not the one whose hash was recorded"
    return {"what": "the embedded result", "state": "confirmed" if same else "wrong", "detail": detail}


def _file(each: HashedFile) -> Finding:
    what = f"{each['role']} {each['path']}"
    if each["sha256"] is None:
        return {"what": what, "state": "open", "detail": each.get("note") or "was not hashed"}
    here = _hashed(each["role"], each["path"])
    if here["sha256"] is None:
        return {"what": what, "state": "open", "detail": f"cannot be compared here: {here['note']}"}
    same = here["sha256"] == each["sha256"]
    return {"what": what, "state": "confirmed" if same else "open", "detail": "same here" if same else "another here"}


def _files_of(value: object) -> Iterable[tuple[str, str]]:
    """The files that the command lines of VMMs in a result name, with their roles."""
    if isinstance(value, dict):
        line = value.get("command_line")
        if isinstance(line, list) and line and all(isinstance(word, str) for word in line):
            yield from _files_of_line(line)
        for each in value.values():
            yield from _files_of(each)
    elif isinstance(value, list):
        for each in value:
            yield from _files_of(each)


def _files_of_line(line: Sequence[str]) -> Iterable[tuple[str, str]]:
    if line[0].startswith("/"):
        yield "VMM", line[0]
    roles = {"-kernel": "kernel", "-initrd": "initrd", "-bios": "firmware"}
    for option, value in itertools.pairwise(line):
        if option in roles:
            yield roles[option], value
        elif option == "-drive" and "if=pflash" in value and (file := re.search(r"file=([^,]+)", value)):
            yield "firmware", file[1]


def _hashed(role: str, path: str) -> HashedFile:
    size, value, note = None, None, None
    try:
        with open(path, "rb", opener=textfile.at_once) as stream:  # a report may name a pipe or /dev/zero
            about = os.fstat(stream.fileno())
            size = about.st_size
            if not stat.S_ISREG(about.st_mode):
                note = "not a regular file"
            elif size <= _LARGEST:
                value = hashlib.file_digest(stream, "sha256").hexdigest()
            else:
                note = "too large to be hashed"
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        note = getattr(error, "strerror", None) or str(error)
    return {"role": role, "path": path, "bytes": size, "sha256": value, "note": note}


def _first_cpu() -> dict[str, str]:
    block = _text(Path("/proc/cpuinfo")).partition("\n\n")[0]
    pairs = (line.partition(":") for line in block.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _line(path: Path) -> str | None:
    return _text(path).strip() or None


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
