"""Trust: what sevkit is given to keep, it keeps; what others could have written, it does not believe."""

import json
import os
import re
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from sevkit import processes, procfs
from sevkit.errors import NotPermittedError, UsageError
from sevkit.guest import image, secrets
from sevkit.guest.spec import GuestSpec
from sevkit.hypervisor import registry, select
from sevkit.hypervisor.mock.hypervisor import MockHypervisor
from sevkit.paths import cache_dir, private_dir
from tests.integration.sandbox import Sandbox
from tests.integration.table import Row
from tests.integration.watch import Watch, contents, shapes
from tests.support.waiting import PATIENCE, until

HYPERVISORS = ["mock", pytest.param("qemu", marks=pytest.mark.guest)]


@pytest.mark.parametrize("hypervisor", HYPERVISORS)
@pytest.mark.parametrize("capture", ["gcore", "live"])
def test_no_output_and_no_leftover_holds_a_secret(
    hypervisor: str, capture: str, box: Sandbox, request: pytest.FixtureRequest
) -> None:
    if capture == "gcore" and not processes.have_tool("gdb"):
        pytest.skip("gdb is not installed")
    if hypervisor == "qemu":
        request.getfixturevalue("qemu")
    argv = ["attack", "run", "leak", "--hypervisor", hypervisor, "--modes", "nosev", "--capture", capture]
    argv += ["--memory", "192"]
    report = box.path / "report.html"
    with Watch(box) as watch:
        done = box.sevkit("--debug", *argv, "--json", "--report", str(report))
        text = box.sevkit(*argv)
    assert done.status == text.status == 0, done.err
    (experiment,) = done.data["experiments"]
    assert experiment["verdict"] == "leaked"
    assert len(experiment["hits"]) >= 4
    box.settle()
    everything = [done.out, done.err, text.out, text.err, report.read_bytes(), *watch.seen, *contents(box)]
    nonce = bytes.fromhex(experiment["details"]["nonce"])
    for place in secrets.PLACES:
        for shape in shapes(secrets.secret(nonce, place)):
            assert not any(shape in each for each in everything), f"the secret of {place} got out, as {shape[:20]!r}…"
    assert not any(secrets.secret(b"", "file")[:12] in each for each in (text.out, text.err, report.read_bytes()))
    assert len(watch.seen) > 5
    assert watch.open_to_others == set()
    report.unlink()
    assert box.left() == "nothing"


def test_a_kept_core_is_the_only_file_with_the_secret(box: Sandbox) -> None:
    if not processes.have_tool("gdb"):
        pytest.skip("gdb is not installed")
    kept = box.path / "kept"
    argv = ["attack", "run", "leak", "--hypervisor", "mock", "--modes", "nosev", "--memory", "64", "--json"]
    argv += ["--keep", str(kept)]
    previous = os.umask(0)
    try:
        done = box.sevkit(*argv)
    finally:
        os.umask(previous)
    assert done.status == 0, done.err
    (core,) = kept.iterdir()
    assert box.secrets() == [str(core.relative_to(box.path))]
    assert stat.S_IMODE(core.stat().st_mode) == 0o600
    assert stat.S_IMODE(kept.stat().st_mode) == 0o700


# --- the registry


@pytest.fixture
def guests() -> Path:
    """The registry's folder."""
    return registry.folder("x").parent


def test_a_record_is_believed_only_when_nobody_else_can_have_written_it(guests: Path, row: Row) -> None:
    guest = MockHypervisor().launch(GuestSpec(name="g", memory_mib=64))
    try:
        file = guests / "g/guest.json"
        good = file.read_text()
        file.chmod(0o666)
        _unknown("g")
        file.chmod(0o600)
        assert registry.read("g").pid == guest.pid
        file.rename(guests / "g/real.json")
        file.symlink_to("real.json")
        _unknown("g")
        file.unlink()
        for damaged in _damaged(good):
            file.write_text(damaged)
            _unknown("g")
        file.write_text(good)
        (guests / "g").chmod(0o777)
        _unknown("g")
        (guests / "g").chmod(0o700)
        assert registry.read("g").pid == guest.pid
    finally:
        guest.stop()
    row("a registry entry is damaged, writable by others, or a link", "guest …", "exit 2, `UsageError`", "nothing")


def _unknown(name: str) -> None:
    with pytest.raises(UsageError, match="no guest named"):
        select.attach(name)


def _damaged(good: str) -> Iterator[str]:
    yield ""
    yield good[: len(good) // 2]
    yield "[]"
    yield "[" * 100_000
    data = json.loads(good)
    for key in data:
        for value in (None, [], {}, -1, "../../etc", 1.5, True, 10**30):
            changed = {**data, key: value}
            if type(value) is type(data[key]) and key not in {"mode", "provenance", "hypervisor", "name"}:
                continue  # nothing wrong with its form
            yield json.dumps(changed)
    yield json.dumps({**data, "name": "other"})


@pytest.mark.root
def test_an_entry_of_another_user_is_left_alone(guests: Path, row: Row) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    foreign = guests / "foreign"
    foreign.mkdir(mode=0o755)
    os.chown(foreign, 65534, 65534)
    assert registry.running() == []
    assert foreign.exists()
    with pytest.raises(NotPermittedError, match="not a folder that sevkit made"):
        MockHypervisor().launch(GuestSpec(name="foreign", memory_mib=64))
    row("a registry entry belongs to another user", "guest launch", "exit 4, `NotPermittedError`", "the entry")


def test_links_in_the_registry_lead_nowhere(guests: Path, tmp_path: Path, row: Row) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (target / "precious").write_text("data")
    (guests / "link").symlink_to(target)
    assert registry.running() == []
    with pytest.raises(NotPermittedError):
        registry.claim("link")
    assert (target / "precious").read_text() == "data"
    (guests / "link").unlink()
    lock = guests / ".lock"
    lock.unlink(missing_ok=True)
    lock.symlink_to(target / "precious")
    with pytest.raises(NotPermittedError, match="cannot lock"):
        registry.running()
    assert (target / "precious").read_text() == "data"
    row("a registry entry is a link", "guest launch", "exit 4, `NotPermittedError`", "the link")


def test_a_pid_used_again_is_not_taken_for_a_guest(guests: Path, row: Row) -> None:
    bystander = subprocess.Popen(["sleep", "600"])
    time.sleep(0.05)  # start times are in ticks of 10 ms
    try:
        guest = MockHypervisor().launch(GuestSpec(name="g", memory_mib=64))
        try:
            record = json.loads((guests / "g/guest.json").read_text())
        finally:
            guest.stop()
        registry.claim("g")
        (guests / "g/guest.json").write_text(json.dumps({**record, "pid": bystander.pid}))
        (guests / "g/guest.json").chmod(0o600)
        _unknown("g")
        assert bystander.poll() is None
        processes.end(bystander.pid, 12345)
        assert bystander.poll() is None
        (guests / "g").mkdir(exist_ok=True)
        (guests / "g/vmm.mark").write_text(f"{bystander.pid} 12345")
        (guests / "g/owner").write_text("2 1")
        assert registry.running() == []
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()
    row("the PID of a guest that is gone is used again", "guest stop", "exit 2, `UsageError`", "the other process")


def test_directories_that_others_can_replace_are_refused(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(NotPermittedError, match="anybody may rename"):
        private_dir(tmp_path / "open/state")
    (tmp_path / "open").chmod(0o1777)
    assert stat.S_IMODE(private_dir(tmp_path / "open/state").stat().st_mode) == 0o700
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(NotPermittedError):
        private_dir(tmp_path / "link")


def test_a_cache_that_others_can_write_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEVKIT_CACHE_DIR", str(tmp_path / "cache"))
    cache_dir("images").chmod(0o777)
    with pytest.raises(NotPermittedError, match="another user could put a kernel"):
        cache_dir("images")


# --- what comes from users


@pytest.mark.parametrize(
    "options",
    [
        ("--cache", "none,file=/etc/shadow"),
        ("--cpu", "max -monitor stdio"),
        ("--cpu", "max\n-S"),
        ("--machine", "x -monitor stdio"),
        ("--name", "a,b=c"),
        ("--name", "../up"),
        ("--name", "-daemonize"),
        ("--name", "a\nb"),
        ("--aio", "native,cache=none"),
    ],
)
def test_what_tries_to_inject_is_refused(options: tuple[str, str], box: Sandbox) -> None:
    done = box.sevkit("guest", "launch", "--storage", "nvme", "--hypervisor", "qemu", "--dry-run", "--json", *options)
    assert done.status == 2
    assert done.envelope["errors"][0]["kind"] == "UsageError"


def test_paths_stay_words(tmp_path: Path) -> None:
    """Whatever a path holds, it stays one value of one option: commas are doubled, nothing is a shell's to read."""
    from sevkit.guest.spec import Accel, Storage, StorageKind
    from sevkit.qemu import argv

    hostile = tmp_path / 'a,readonly=on $(touch x) `y` "z" ; q'
    spec = GuestSpec(storage=Storage(StorageKind.NVME, path=hostile))
    place = argv.LaunchFiles(*[hostile] * 7, data_disk=hostile)
    line = argv.build(spec, argv.Capabilities("qemu", "8", frozenset()), Accel.TCG, place, None)
    drives = [line[i + 1] for i, word in enumerate(line) if word == "-drive"]
    assert len(drives) == 1
    assert _parse_options(drives[0])["file"] == str(hostile)
    assert "readonly" not in _parse_options(drives[0])


def _parse_options(text: str) -> dict[str, str]:
    """As QEMU's option parser does it: a doubled comma is a comma."""
    parts = [part.replace("\0", ",") for part in text.replace(",,", "\0").split(",")]
    return dict(part.split("=", 1) for part in parts)


def test_no_shell_is_ever_started() -> None:
    root = Path(select.__file__).parents[1]
    for file in [*root.rglob("*.py"), *(root.parent / "attacks").glob("*.py")]:
        text = file.read_text()
        assert not re.search(r"shell\s*=\s*True|os\.system\(|os\.popen\(|getoutput\(", text), file


# --- cycles and company


def test_cycles_of_launch_attack_stop_leave_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Number of cycles: SEVKIT_TEST_CYCLES (8 by default, 200 for the figures in docs/reliability.md)."""
    from sevkit import attacks
    from sevkit.attacks import runner
    from sevkit.attacks.plan import Target
    from sevkit.vocabulary import Mode

    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    cycles = int(os.environ.get("SEVKIT_TEST_CYCLES", "8"))
    me = psutil.Process()
    target = Target(hypervisor="mock", capture="live", spec=GuestSpec(memory_mib=64))
    before: tuple[int, int, int] | None = None
    settled = max(3, cycles // 4)
    others = me.children(recursive=True)  # of tests that ran before, such as multiprocessing's resource tracker
    for number in range(cycles):
        (found,) = runner.run(attacks.find("leak"), [Mode.NOSEV], target)
        assert found.as_expected
        if number == settled - 1:
            before = me.num_fds(), me.num_threads(), me.memory_info().rss
    assert before is not None
    print(f"after {settled} and {cycles} cycles: {before}, {(me.num_fds(), me.num_threads(), me.memory_info().rss)}")
    # The kernel ends a joined thread a little later than Python says, on a busy machine.
    until(lambda: me.num_threads() <= before[1], lambda: f"{me.num_threads()} threads, not {before[1]}")
    assert me.num_fds() == before[0]
    assert me.memory_info().rss - before[2] < 16 << 20
    assert me.children(recursive=True) == others
    assert [path.name for path in registry.folder("x").parent.iterdir()] == [".lock"]
    assert list(tmp_path.iterdir()) == []


def test_eight_at_once_in_one_registry(box: Sandbox) -> None:
    argv = ["attack", "run", "leak", "--hypervisor", "mock", "--modes", "nosev", "--memory", "64", "--capture", "live"]
    with ThreadPoolExecutor(8) as pool:
        runs = list(pool.map(lambda _: box.sevkit(*argv, "--json"), range(8)))
    assert [run.status for run in runs] == [0] * 8, [run.err for run in runs]
    assert len({run.data["experiments"][0]["details"]["nonce"] for run in runs}) == 8
    assert box.left() == "nothing"


def test_only_one_of_eight_gets_a_name(box: Sandbox) -> None:
    argv = ["guest", "launch", "--hypervisor", "mock", "--memory", "64", "--detach", "--json"]
    with ThreadPoolExecutor(8) as pool:
        runs = list(pool.map(lambda _: box.sevkit(*argv), range(8)))
    assert sorted(run.status for run in runs) == [0] + [2] * 7
    assert box.sevkit("guest", "stop", "guest").status == 0
    assert box.left() == "nothing"


_BUILD = """
import os, sys, time
from pathlib import Path
from sevkit.guest import image
def build(work, made, series, progress):
    with open(os.environ["BUILDS"], "a") as log: log.write("built\\n")
    time.sleep(float(os.environ.get("SLOW", "0.3")))
    for name in ("vmlinuz", "initrd.img"): (made / name).write_bytes(name.encode() * 1000)
    return {"image": "mini"}
image._BUILDERS["mini"] = build
got = image.get("mini")
assert got.kernel.read_bytes() == b"vmlinuz" * 1000
"""


def test_eight_at_once_in_one_cache(box: Sandbox) -> None:
    builds = box.path / "builds"
    box.environment |= {"SEVKIT_CACHE_DIR": str(box.path / "cache"), "BUILDS": str(builds)}
    running = [box.start([sys.executable, "-c", _BUILD]) for _ in range(8)]
    assert [process.wait(60) for process in running] == [0] * 8
    assert builds.read_text() == "built\n"
    names = sorted(path.name.split("-")[0] for path in (box.path / "cache/images").iterdir())
    assert names == ["mini", "mini"]  # the image and its lock


@pytest.mark.parametrize("how", ["cut", "changed", "removed", "no info", "bad info"])
def test_a_damaged_image_is_built_again(how: str, box: Sandbox, row: Row) -> None:
    builds = box.path / "builds"
    box.environment |= {"SEVKIT_CACHE_DIR": str(box.path / "cache"), "BUILDS": str(builds)}
    assert box.start([sys.executable, "-c", _BUILD]).wait(60) == 0
    (folder,) = [path for path in (box.path / "cache/images").iterdir() if path.is_dir()]
    kernel = folder / "vmlinuz"
    if how == "cut":
        os.truncate(kernel, 10)
    elif how == "changed":
        kernel.write_bytes(b"X" + kernel.read_bytes()[1:])
    elif how == "removed":
        kernel.unlink()
    else:
        (folder / "info.json").write_text("" if how == "no info" else '{"files": {"vmlinuz": 3}}')
    assert box.start([sys.executable, "-c", _BUILD]).wait(60) == 0
    assert builds.read_text() == "built\n" * 2
    row("a cached image is damaged", f"its kernel or description: {how}", "it is built again", "nothing")


def test_a_build_that_was_killed_is_cleaned_up(box: Sandbox, row: Row) -> None:
    box.environment |= {"SEVKIT_CACHE_DIR": str(box.path / "cache"), "BUILDS": str(box.path / "builds")}
    box.environment["SLOW"] = "600"
    first = box.start([sys.executable, "-c", _BUILD])
    until((box.path / "builds").exists, "no build has begun")
    first.kill()
    first.wait()
    assert list((box.path / "cache/images").glob(".building-*"))
    del box.environment["SLOW"]
    assert box.start([sys.executable, "-c", _BUILD]).wait(60) == 0
    assert not list((box.path / "cache/images").glob(".building-*"))
    row("`kill -9` of sevkit", "while it builds an image", "killed; the next build goes through", "nothing")


def test_children_do_not_outlive_a_parent_that_dies_at_once() -> None:
    """The kernel is asked after the fork: a parent that died before that must not leave a child."""
    script = (
        "import os, signal; from sevkit import processes;"
        "child = processes.start(['sleep', '600']); print(child.pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, timeout=PATIENCE)
    pid = int(done.stdout)
    until(lambda: procfs.thread_state(pid, pid) in ("", "Z", "X"), "the child outlives its parent")


def test_images_in_use_are_named() -> None:
    """The cache's layout that the tests above rely on."""
    assert image.expected("mini").kernel.name == "vmlinuz"
