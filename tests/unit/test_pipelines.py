"""No pipeline of the tree succeeds when its first stage failed."""

import subprocess
from pathlib import Path

import pytest

from sevkit import processes
from tests.support.pipelines import lost, of_tree

ROOT = Path(__file__).parents[2]
# Pipelines that stay: what they print is judged, and nothing, or a part, is no answer.
JUDGED = {
    ("sevkit/bench/campaign/environment.py", "dmesg 2>/dev/null"): "an empty fact is a missing one",
    ("sevkit/bench/campaign/environment.py", "grep -i"): "the same",
    ("sevkit/bench/campaign/environment.py", "sed -n"): "the same",
    ("sevkit/bench/campaign/place.py", "adjtimex"): "no time stamp is an error",
    ("sevkit/guest/secrets.py", "cut -c1-64"): "the same",
    ("sevkit/guest/secrets.py", "sha256sum"): "the host derives the same text: another one is a lost secret",
    ("sevkit/guest/secrets.py", "dd if=/proc/$pid/pagemap bs=8 skip=$first count=1 2>/dev/null"): "8 bytes or unknown",
    ("sevkit/guest/sourcetrees/full.sh", 'tar -tf "$tarball" 2>/dev/null'): "tar unpacks the same file after it",
    ("sevkit/guest/verify.py", "dd if=/dev/cpu/0/msr bs=8 count=1"): "16 digits or unknown",
    ("sevkit/guest/verify.py", "dd if=/dev/cpu/0/cpuid bs=16 count=1"): "four words or unknown",
    ("sevkit/hypervisor/qemu/guest.py", "grep -l sevkit-shareX"): "an empty name is an error",
    ("sevkit/probe/shell.py", "dd if=$d/cpuid bs=16 count=1"): "four words or unknown",
}


def tracked() -> list[str]:
    if not processes.have_tool("git"):
        pytest.skip("git is not installed")
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if done.returncode:
        pytest.skip("not a git checkout")
    return [name for name in done.stdout.decode().split("\0") if name and not name.startswith("tests/")]


def test_no_stage_of_a_pipeline_fails_unseen() -> None:
    found = [(name, stage) for name, stage, _ in of_tree(ROOT, tracked())]
    needed = {key for key in JUDGED for row in found if _judged(row, key)}
    assert [row for row in found if not any(_judged(row, key) for key in JUDGED)] == []
    assert needed == set(JUDGED), "an exception that is not needed any more"


def _judged(row: tuple[str, str], key: tuple[str, str]) -> bool:
    return row[0] == key[0] and row[1].startswith(key[1])


@pytest.mark.parametrize(
    ("text", "stages"),
    [
        ("head -c 9 $DISK | gzip -c >/dev/null", ["head -c 9 $DISK"]),
        ("cd x && ls *.c | xargs -n 1 gcc", ["ls *.c"]),
        ("a; dd if=x | tr -d y | sha256sum", ["dd if=x", "tr -d y"]),
        ('echo "fact=$(dmesg | sed -n 1p)"', ["dmesg"]),
        ("{ head -c 9 /dev/urandom; seq 9 | head -c 3; } | lz4 >x", ["{ head -c 9 /dev/urandom; seq 9 | head -c 3; }"]),
        ("{ cat x && : >$F; } | gzip >y", ["{ cat x && : >$F; }"]),
        ("{ cat x && : >$F; } | gzip >y && rm $G", ["{ cat x && : >$F; }"]),
        ("cat x | grep -v y", ["cat x"]),
        ("{ cat x && : >$F; } | gzip >y && rm $F", []),
        ("seq 3 | head -n 1; printf x | base64 -d", []),
        ("dmesg | grep -q SEV", []),
        ("a || grep x y; case $1 in wheel | tar) ;; esac", []),
        ("awk '{print | \"sort\"}' x; echo 'a | grep b'  # c | sort", []),
    ],
)
def test_the_search_for_pipelines_sees_what_it_should(text: str, stages: list[str]) -> None:
    assert [stage for stage, _ in lost(text)] == stages


@pytest.mark.parametrize("shell", ["dash", "busybox sh", "bash"])
@pytest.mark.parametrize(("source", "status"), [("true", 0), ("false", 1)])
def test_a_file_as_the_last_act_tells_whether_the_first_stage_came_to_its_end(
    shell: str, source: str, status: int, tmp_path: Path
) -> None:
    """The way that the workloads use, in each shell that runs them: two of them have no `pipefail` to rely on."""
    words = shell.split()
    try:
        argv = [processes.find_tool(words[0], package="shell"), *words[1:]]
    except Exception:  # noqa: BLE001 - not installed
        pytest.skip(f"{shell} is not installed")
    line = f"{{ {source} && : >$F; }} | cat >/dev/null && rm $F"
    done = subprocess.run([*argv, "-c", line], env={"F": str(tmp_path / "f"), "PATH": "/usr/bin:/bin"}, check=False)
    assert (done.returncode != 0) == (status != 0)
