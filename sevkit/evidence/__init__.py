"""What a report leaves for somebody who was not there: the host, the files by hash, the result itself, a signature.

A record is embedded in a report as JSON. `check` recomputes from a report what can be recomputed: the hash of the
embedded result, its own summary, the files that are still on this host, and a detached signature (Ed25519, RFC 8032).
"""

import base64
import hashlib
import html
import itertools
import json
import os
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sevkit.errors import BadInputError, NotPermittedError, UsageError
from sevkit.evidence.payload import Checked, Finding, HashedFile, Host, Record

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_MARK = '<template id="sevkit-evidence">'  # not shown, and not a script
_LARGEST = 4 << 30  # bytes of a file that is still hashed
_DMI = Path("/sys/class/dmi/id")
SIGNATURE = ".sig"  # beside the report: Base64 of the 64 bytes


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
    }


def digest(result: Mapping[str, Any]) -> str:
    """SHA-256 of a result as canonical JSON: sorted keys, no spaces, ASCII."""
    text = json.dumps(result, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


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


def signing_key(key: Path) -> "Ed25519PrivateKey":
    """A private key from a file in PEM or OpenSSH form, without a passphrase; raises UsageError for any other."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_ssh_private_key

    raw = _read(key)
    load = load_ssh_private_key if b"OPENSSH" in raw else load_pem_private_key
    try:
        private = load(raw, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        why = "it has a passphrase" if "password" in str(error).lower() else "PEM or OpenSSH form is read"
        raise UsageError(
            f"{key} is no private key that can be read here: {why}", hint="ssh-keygen -t ed25519"
        ) from error
    if not isinstance(private, Ed25519PrivateKey):
        raise UsageError(f"{key} is not an Ed25519 key", hint="ssh-keygen -t ed25519, or openssl genpkey")
    return private


def sign(path: Path, private: "Ed25519PrivateKey") -> Path:
    """Write a detached Ed25519 signature of a file beside it."""
    made = path.with_name(path.name + SIGNATURE)
    made.write_text(base64.b64encode(private.sign(path.read_bytes())).decode() + "\n")
    return made


def check(path: Path, public: Path | None = None) -> Checked:
    """Recompute what a report says, as far as that is possible here. Raises BadInputError where there is no record."""
    found = _extract(path)
    findings = [_result(found), _summary(found["result"]), *(_file(each) for each in found["files"])]
    findings.append(_signature(path, public))
    return {
        "report": str(path),
        "sound": all(each["state"] != "wrong" for each in findings),
        "host": found["host"],
        "operator": found["operator"],
        "ticket": found["ticket"],
        "findings": findings,
    }


def _extract(path: Path) -> Record:
    text = _read(path).decode(errors="replace")
    _, mark, rest = text.rpartition(_MARK)
    if not mark:
        raise BadInputError(f"{path} holds no record of sevkit's", hint="reports of `attack run --report` do")
    try:
        found: Record = json.loads(html.unescape(rest.partition("</template>")[0]))
        if not (isinstance(found["result"], dict) and isinstance(found["files"], list)):
            raise TypeError("not a record")
        _ = (found["result_sha256"], found["host"]["name"], found["operator"], found["ticket"])
        _ = [(each["path"], each["role"], each["sha256"]) for each in found["files"]]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadInputError(f"the record in {path} is damaged: {error}") from error
    return found


def _result(found: Record) -> Finding:
    same = digest(found["result"]) == found["result_sha256"]
    detail = "SHA-256 as recorded" if same else "the embedded result is not the one whose hash was recorded"
    return {"what": "the embedded result", "state": "confirmed" if same else "wrong", "detail": detail}


def _summary(result: Mapping[str, Any]) -> Finding:
    """Whether the summary of a run of attacks follows from its experiments."""
    what = "the summary of the experiments"
    experiments = result.get("experiments")
    if not isinstance(experiments, list) or "as_predicted" not in result:
        return {"what": what, "state": "open", "detail": "this kind of result has none"}
    each = [row.get("as_expected", row.get("as_predicted")) for row in experiments if isinstance(row, dict)]
    if not each or any(value is None for value in each):
        return {"what": what, "state": "open", "detail": "the experiments do not say whether they went as predicted"}
    follows = all(each) == result["as_predicted"]
    return {
        "what": what,
        "state": "confirmed" if follows else "wrong",
        "detail": f"{sum(map(bool, each))} of {len(each)} experiments as predicted",
    }


def _file(each: HashedFile) -> Finding:
    what = f"{each['role']} {each['path']}"
    if each["sha256"] is None:
        return {"what": what, "state": "open", "detail": each.get("note") or "was not hashed"}
    here = _hashed(each["role"], each["path"])
    if here["sha256"] is None:
        return {"what": what, "state": "open", "detail": f"cannot be compared here: {here['note']}"}
    same = here["sha256"] == each["sha256"]
    return {"what": what, "state": "confirmed" if same else "open", "detail": "same here" if same else "another here"}


def _signature(path: Path, public: Path | None) -> Finding:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key, load_ssh_public_key

    beside = path.with_name(path.name + SIGNATURE)
    if public is None:
        there = "is not checked: give --key" if beside.exists() else "there is none"
        return {"what": "the signature", "state": "open", "detail": there}
    raw = _read(public)
    try:
        key = (load_pem_public_key if raw.startswith(b"-----") else load_ssh_public_key)(raw)
    except ValueError as error:
        raise UsageError(f"{public} is no public key that can be read: {error}") from error
    if not isinstance(key, Ed25519PublicKey):
        raise UsageError(f"{public} is not an Ed25519 key")
    try:
        key.verify(base64.b64decode(_read(beside)), path.read_bytes())
    except (InvalidSignature, ValueError):
        return {"what": "the signature", "state": "wrong", "detail": f"{beside.name} is not this key's for this report"}
    return {"what": "the signature", "state": "confirmed", "detail": f"Ed25519, by the key in {public}"}


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
        with Path(path).open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            if size <= _LARGEST:
                value = hashlib.file_digest(stream, "sha256").hexdigest()
            else:
                note = "too large to be hashed"
    except OSError as error:
        note = error.strerror
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


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except PermissionError as error:
        raise NotPermittedError(f"cannot read {path}: {error.strerror}") from error
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
