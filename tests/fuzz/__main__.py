"""Fuzz with atheris (coverage-guided): ``python -m tests.fuzz [--seconds N] [TARGET]…``.

Each target runs in a process of its own. New inputs that reach new code are added to its corpus when --keep is given;
an input that is a find is written to the corpus as ``find-…`` in any case. ``--inputs N`` runs N seeded mutations instead,
without coverage and without atheris, at several times the speed.
"""

import argparse
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz.mutate import inputs
from tests.fuzz.targets import TARGETS


def main() -> int:
    """Fuzz the targets one after the other; the exit status is 1 when there was a find."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=int, help="for each target [30; with --inputs: no limit]")
    parser.add_argument("--keep", action="store_true", help="add inputs that reach new code to the corpus")
    parser.add_argument("--inputs", type=int, metavar="N", help="this many seeded mutations for each target")
    parser.add_argument("--seed", type=int, default=1, help="of --inputs [1]")
    if sys.argv[1:2] == ["--inside"]:
        _inside(sys.argv[2], sys.argv[3:])
        return 0
    options = parser.parse_args()
    if unknown := set(options.targets) - set(TARGETS):
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    if options.inputs:
        return _seeded(options.targets or list(TARGETS), options.inputs, options.seed, options.seconds or math.inf)
    try:
        import atheris  # noqa: F401
    except ImportError:
        print("atheris is not installed: pip install atheris (Python 3.11 to 3.13)", file=sys.stderr)
        return 4
    finds = [name for name in options.targets or TARGETS if not _fuzz(name, options.seconds or 30, options.keep)]
    print(f"finds in: {', '.join(finds)}" if finds else "no finds")
    return 1 if finds else 0


def _seeded(names: list[str], count: int, seed: int, seconds: float) -> int:
    """Run mutations in this process; the first find of a target is kept, and ends it."""
    finds = 0
    for name in names:
        target = TARGETS[name]
        corpus = [path.read_bytes() for path in sorted(target.corpus.iterdir())]
        begin, tried = time.monotonic(), 0
        for tried, data in enumerate(inputs(corpus, count, seed), 1):  # noqa: B007 - the number is reported
            try:
                target.run(data)
            except Exception as error:
                finds += 1
                find = target.corpus / f"find-{seed}-{tried}"
                find.write_bytes(data)
                print(f"{find}: {type(error).__name__}: {error}", file=sys.stderr)
                break
            if time.monotonic() - begin > seconds:
                break
        rate = tried / max(time.monotonic() - begin, 1e-6)
        print(f"{name:10} {tried:>9} inputs  seed {seed}  {rate:>6.0f} per s", flush=True)
    return 1 if finds else 0


def _fuzz(name: str, seconds: int, keep: bool) -> bool:
    corpus = TARGETS[name].corpus
    with tempfile.TemporaryDirectory() as new:
        folders = [str(corpus), new] if keep else [new, str(corpus)]
        argv = [sys.executable, "-m", "tests.fuzz", "--inside", name, f"-max_total_time={seconds}", "-max_len=16384"]
        argv += ["-timeout=20", "-rss_limit_mb=2048", "-print_final_stats=1", f"-artifact_prefix={corpus}/find-"]
        done = subprocess.run([*argv, *folders], check=False, stderr=subprocess.PIPE, text=True)
    lines = done.stderr.splitlines()
    tried = next((line.split(":")[-1].strip() for line in lines if "number_of_executed_units" in line), "?")
    covered = next((line.split("cov: ")[1].split()[0] for line in reversed(lines) if "cov: " in line), "?")
    print(f"{name:10} {tried:>9} inputs  {covered:>6} edges  {'ok' if done.returncode == 0 else 'FIND'}", flush=True)
    if done.returncode != 0:
        print("\n".join(lines[-40:]), file=sys.stderr)
    return done.returncode == 0


def _inside(name: str, rest: list[str]) -> None:
    import atheris

    target = TARGETS[name]
    with atheris.instrument_imports(include=list(target.packages)):
        for path in sorted(target.corpus.iterdir())[:1]:
            target.run(path.read_bytes())  # readers import what they need when they are first called
    atheris.Setup([sys.argv[0], *rest], target.run)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.path.insert(0, str(Path.cwd()))
    sys.exit(main())
