"""Probing other hosts through testinfra's backends: ssh, docker, podman, kubectl, ansible inventories, local.

If the host has Python 3.9 or later, the collector of this package is sent there as text and runs there. Otherwise a
shell script reads the relevant files. The answer is validated like any file: the host may be hostile.
"""

import base64
import json
import threading
import time
import zlib
from collections.abc import Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from sevkit import cleantext as safe
from sevkit.errors import BadInputError, DeadlineError, SevkitError, UsageError
from sevkit.extras import extra
from sevkit.probe.facts import Facts, checked
from sevkit.probe.payload import Fleet, HostRow, Odd, Report, StandsOut
from sevkit.probe.report import report
from sevkit.probe.shell import SCRIPT, facts_of

if TYPE_CHECKING:
    from psutil import Process

DEADLINE = 90.0
_MAX_OUTPUT = 16 << 20
_MODULES = (
    "leaf", "cpu", "collect.reading", "collect.cpuid", "collect.firmware", "collect.kernel", "collect.msr",
    "collect.tools", "collect",
)  # fmt: skip

# Runs on the remote host: creates modules from the texts, in order, and prints the facts.
_BOOTSTRAP = """
import base64,json,subprocess,sys,types,zlib
texts=json.loads(zlib.decompress(base64.b64decode(PAYLOAD)))
for name in ("sevkit","sevkit.probe","sevkit.probe.collect"):
    package=types.ModuleType(name);package.__path__=[];sys.modules[name]=package
for name,text in texts:
    full="sevkit.probe."+name
    module=sys.modules.get(full) or types.ModuleType(full)
    sys.modules[full]=module
    exec(compile(text,full,"exec"),module.__dict__)
    parent,_,last=full.rpartition(".")
    setattr(sys.modules[parent],last,module)
def run(argv,timeout):
    done=subprocess.run(argv,stdin=subprocess.DEVNULL,stdout=subprocess.PIPE,stderr=subprocess.DEVNULL,timeout=timeout)
    return done.returncode,done.stdout.decode("utf-8","replace")
print(json.dumps(sys.modules["sevkit.probe.collect"].collect(run=run)))
"""


def payload() -> str:
    """One line of Python that reads a host: the collector's modules, compressed, and the code that starts them."""
    root = files("sevkit.probe")
    texts = []
    for name in _MODULES:
        parts = name.split(".") if name != "collect" else ["collect", "__init__"]
        texts.append((name, root.joinpath(*parts[:-1], f"{parts[-1]}.py").read_text(encoding="utf-8")))
    packed = base64.b64encode(zlib.compress(json.dumps(texts).encode(), 9)).decode()
    program = zlib.compress(_BOOTSTRAP.replace("PAYLOAD", f"'{packed}'").encode(), 9)
    return f"import base64,zlib;exec(zlib.decompress(base64.b64decode('{base64.b64encode(program).decode()}')))"


def probe_hosts(specs: Sequence[str], deadline: float = DEADLINE) -> tuple[Fleet, list[SevkitError]]:
    """Return ``data`` for a fleet, and the errors of the hosts that failed; those hosts have a row as well."""
    targets = _targets(specs)
    before = _children()
    rows: dict[int, HostRow] = {}
    errors: dict[int, SevkitError] = {}
    threads = []
    for number, (name, host) in enumerate(targets):
        thread = threading.Thread(target=_one, args=(number, name, host, rows, errors), daemon=True)
        thread.start()
        threads.append(thread)
    end = time.monotonic() + deadline
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    for number, (name, _) in enumerate(targets):
        if number not in rows:
            errors[number] = DeadlineError(f"{name}: no answer within {deadline:g} s", hint="is the host up?")
            rows[number] = _failed(name, errors[number])
    _end_children(before)
    ordered = [rows[number] for number in range(len(targets))]
    return {"hosts": ordered, "stands_out": stands_out(ordered)}, [errors[n] for n in sorted(errors)]


def _targets(specs: Sequence[str]) -> list[tuple[str, Any]]:
    """The hosts that the specifications name; an ansible pattern may name many."""
    with extra("testing"):
        import testinfra
    found: list[tuple[str, Any]] = []
    for spec in specs:
        if "://" not in spec:
            raise UsageError(f"--host {spec} does not say how to reach it", hint=f"did you mean ssh://{spec}?")
        try:
            hosts = testinfra.get_hosts([spec])
        except Exception as error:
            raise UsageError(f"--host {spec}: {error}", hint="for example ssh://root@server, docker://name") from error
        if not hosts:
            raise UsageError(f"--host {spec} names no host", hint="check the inventory and the pattern")
        many = len(hosts) > 1
        found += [(f"{spec} ({host.backend.get_hostname()})" if many else spec, host) for host in hosts]
    return found


def _one(number: int, name: str, host: Any, rows: dict[int, HostRow], errors: dict[int, SevkitError]) -> None:
    try:
        rows[number] = _row(name, report(read_host(name, host)))
    except SevkitError as error:
        errors[number] = error
        rows[number] = _failed(name, error)
    except Exception as error:  # noqa: BLE001 - a backend's own errors: a row, not the end
        wrapped = SevkitError(f"{name}: {_words(error)}", hint="try the connection by hand")
        errors[number] = wrapped
        rows[number] = _failed(name, wrapped)


def _words(error: Exception) -> str:
    """The error message, from the failed program's standard error if it has any."""
    for argument in error.args:
        said = str(getattr(argument, "stderr", "") or "").strip()
        if said:
            return safe.text(said[-300:])
    return safe.text(f"{type(error).__name__}: {error}"[:300])


def read_host(name: str, host: Any) -> Facts:
    """The facts of one host."""
    found = host.run("command -v python3 >/dev/null && python3 -c 'import sys; sys.exit(sys.version_info < (3, 9))'")
    if found.rc == 0:
        done = host.run("python3 -c %s", payload())
        if done.rc == 0:
            return Facts(checked(_json(name, done.stdout), name))
        raise SevkitError(f"{name}: the collector failed there", detail=done.stderr[-2000:], hint="report this defect")
    done = host.run("sh -c %s", SCRIPT)
    if not done.stdout:
        words = done.stderr.strip()[-300:] or f"exit status {done.rc}"
        raise SevkitError(f"{name}: {words}", hint="try the connection by hand")
    return Facts(checked(facts_of(done.stdout), name))


def _json(name: str, text: str) -> Any:
    if len(text) > _MAX_OUTPUT:
        raise BadInputError(
            f"{name}: answered with more than {_MAX_OUTPUT >> 20} MiB", hint="can this host be trusted?"
        )
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadInputError(f"{name}: the answer is no JSON", hint="does the login shell print something?") from error


def _row(name: str, data: Report) -> HostRow:
    verdicts = data["readiness"]
    return {
        "host": name,
        "status": "ok",
        "error": None,
        "cpu": data["cpu"],
        "leaf": {key: data["leaf"][key] for key in ("status", "raw", "derived")},
        "guest": data["guest"],
        "readiness": verdicts,
        "checks": {row["id"]: row["status"] for row in data["checks"]},
    }


def _failed(name: str, error: SevkitError) -> HostRow:
    return {
        "host": name,
        "status": "error",
        "error": error.message,
        "cpu": None,
        "leaf": None,
        "guest": None,
        "readiness": None,
        "checks": None,
    }


def stands_out(rows: Sequence[HostRow]) -> list[StandsOut]:
    """Properties in which a minority of the hosts differs from the majority; without a majority, all values."""
    columns: dict[str, dict[str, str]] = {}
    for row in rows:
        cpu, leaf = row["cpu"], row["leaf"]
        if cpu is None or leaf is None:  # the host did not answer
            continue
        values = {"brand": cpu["brand"], "leaf status": leaf["status"], "leaf": _hex(leaf["raw"])}
        values |= {f"verdict {mode}": verdict["verdict"] for mode, verdict in (row["readiness"] or {}).items()}
        values |= {f"check {name}": status for name, status in (row["checks"] or {}).items()}
        for key, value in values.items():
            columns.setdefault(key, {})[row["host"]] = str(value)
    found: list[StandsOut] = []
    for key, by_host in columns.items():
        counts = {value: list(by_host.values()).count(value) for value in by_host.values()}
        if len(counts) < 2:
            continue
        common = max(counts, key=lambda value: counts[value])
        usual = common if counts[common] * 2 > len(by_host) else None
        odd: list[Odd] = [{"host": host, "value": value} for host, value in by_host.items() if value != usual]
        found.append({"property": key, "common": usual, "hosts": odd})
    return found


def _hex(raw: dict[str, int] | None) -> str:
    return " ".join(f"{value:08x}" for value in raw.values()) if raw else "none"


def _children() -> "set[Process]":
    import psutil

    return set(psutil.Process().children(recursive=True))


def _end_children(before: "set[Process]") -> None:
    """End the child processes of connections that missed the deadline and are still open."""
    import contextlib

    import psutil

    for child in _children() - before:
        with contextlib.suppress(psutil.Error):
            child.kill()
