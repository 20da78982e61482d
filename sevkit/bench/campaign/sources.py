"""The small C programs of sevkit/bench/data/src: compiled once on the host, static, to run in any guest."""

import hashlib
import os
from importlib import resources
from pathlib import Path

from sevkit import processes
from sevkit.errors import SevkitError, UsageError
from sevkit.paths import cache_dir

_FLAGS = ("-O2", "-static", "-Wall", "-pthread")


class CompileError(SevkitError):
    """A benchmark program does not compile here."""


def compiled(name: str) -> Path:
    """The program made from ``sevkit/bench/data/src/NAME``; raises MissingToolError without a compiler."""
    entry = resources.files("sevkit") / "bench" / "data" / "src" / name
    if not entry.is_file():
        raise UsageError(f"there is no benchmark program {name!r}")
    code = entry.read_bytes()
    digest = hashlib.sha256(code + " ".join(_FLAGS).encode()).hexdigest()[:16]
    target = cache_dir("bench") / f"{Path(name).stem}-{digest}"
    if not target.exists():
        compiler = processes.find_tool("gcc")
        scratch = target.with_name(f"{target.name}.{os.getpid()}")
        source = scratch.with_suffix(".c")
        try:
            source.write_bytes(code)
            processes.run([compiler, *_FLAGS, "-o", str(scratch), str(source)], timeout=120, check=CompileError)
            if not scratch.exists() or scratch.read_bytes()[:4] != b"\x7fELF":
                raise CompileError(f"{compiler} ended with status 0, but made no program of {name}")
            scratch.chmod(0o755)
            scratch.replace(target)
        finally:
            scratch.unlink(missing_ok=True)
            source.unlink(missing_ok=True)
    return target
