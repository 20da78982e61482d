"""The images from outside: what is in them, and what a run may not do."""

import json
import subprocess
import sys
from typing import Any

import pytest

from sevkit.container import images
from sevkit.container import run as runner
from sevkit.container.engine import Engine
from tests.container.conftest import image

pytestmark = pytest.mark.container


def test_the_base_is_debian_and_nothing_is_left_of_its_package_lists(host: Any) -> None:
    assert host.system_info.distribution == "debian"
    assert host.system_info.codename == "bookworm"
    assert host.run("ls /var/lib/apt/lists /var/cache/apt/archives").stdout.split("\n")[1:2] != ["lock"]
    assert host.run("du -sm /var/lib/apt /var/cache/apt 2>/dev/null | cut -f1").stdout.split() < ["3", "3"]


def test_it_runs_as_an_ordinary_user_that_can_change_nothing(host: Any) -> None:
    assert host.user().name == "sevkit"
    assert host.run("id -u").stdout.strip() == "1000"
    assert host.run("touch /opt/sevkit/x").rc != 0
    assert host.run("touch /usr/bin/x").rc != 0
    assert host.run("touch /etc/x").rc != 0
    assert host.run("touch /tmp/x && rm /tmp/x").rc == 0
    status = dict(line.split(":", 1) for line in host.file("/proc/self/status").content_string.splitlines())
    assert {status[name].strip() for name in ("CapPrm", "CapEff", "CapBnd")} == {"0" * 16}
    assert status["NoNewPrivs"].strip() == "1"
    assert status["Seccomp"].strip() == "2"


def test_no_program_can_make_its_user_root(host: Any) -> None:
    """Programs that are set-user-ID gain nothing under no-new-privileges; only Debian's own are there."""
    found = host.run("find / -xdev -perm -4000 -type f 2>/dev/null").stdout.split()
    assert all(path.startswith(("/usr/", "/bin/")) for path in found)


def test_there_is_no_network(host: Any) -> None:
    assert host.run("ls /sys/class/net").stdout.split() == ["lo"]


def test_nothing_of_the_machine_that_built_it_is_in_it(host: Any) -> None:
    for path in ("/root/.config", "/root/.netrc", "/root/.cache", "/etc/pip.conf", "/root/.pip", "/wheels"):
        assert not host.file(path).exists
    assert host.run("env | grep -iE 'pip_|token|secret|password|proxy'").stdout == ""


def test_the_tools_are_there(tools: Any) -> None:
    assert tools.file("/opt/sevkit/bin/sevkit").is_file
    for name in ("qemu-system-x86_64", "gdb", "ssh"):
        assert tools.exists(name)
    for name in ("qemu-system-x86", "gdb-minimal", "ovmf", "openssh-client"):
        assert tools.package(name).is_installed
    assert not tools.exists("gcc")
    assert tools.file("/opt/sevkit/lib/python3.11/site-packages/scipy").is_directory
    assert not tools.exists("pytest-mypy")
    found = tools.run("sevkit --version")
    assert found.rc == 0
    assert found.stdout.startswith("sevkit")


def test_doctor_says_that_the_core_works(tools: Any) -> None:
    done = tools.run("sevkit doctor --json")
    assert done.rc == 0, done.stdout
    data = json.loads(done.stdout)["data"]
    assert data["core_works"] is True
    assert data["user"] == {"uid": 1000, "root": False, "container": True}
    works = {ability["command"]: ability["works"] for ability in data["abilities"]}
    assert works["sevkit attack run leak --hypervisor mock"] is True
    assert works["sevkit guest launch --hypervisor qemu"] is True


def test_the_size_stays_small(engine: Engine) -> None:
    """Bytes; Python's numerical libraries are two fifths of it, QEMU and its firmware one fifth."""
    assert image(engine, "tools").attrs["Size"] < 700 << 20


@pytest.mark.parametrize("hypervisor", ["mock", "qemu"])
def test_run_passes_streams_and_status_on(engine: Engine, hypervisor: str) -> None:
    image(engine, "tools")
    inside = ["attack", "run", "leak", "--hypervisor", hypervisor, "--modes", "nosev", "--memory", "256", "--json"]
    done = _sevkit("container", "run", "--", *inside)
    assert done.returncode == 0, done.stderr
    (experiment,) = json.loads(done.stdout)["data"]["experiments"]
    assert experiment["verdict"] == "leaked"
    assert experiment["controls"] == {"positive": True, "negative": True, "secret_alive": True}
    assert experiment["coverage"]["read_bytes"] > 0
    assert experiment["details"]["capture"]["method"] == "gcore"


def test_run_passes_failures_on(engine: Engine) -> None:
    image(engine, "tools")
    done = _sevkit("container", "run", "--", "guest", "exec", "nobody", "--", "true")
    assert done.returncode == 2
    assert done.stdout == b""
    assert b"no guest named nobody" in done.stderr


def test_nothing_is_left_when_the_owner_is_killed(engine: Engine) -> None:
    image(engine, "tools")
    owner = subprocess.Popen(
        [sys.executable, "-m", "sevkit", "container", "run", "--", "guest", "launch", "--hypervisor", "mock"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert owner.stdout is not None
    assert owner.stdout.readline()
    owner.kill()
    owner.wait()
    assert runner.reap(engine) == 1
    assert runner.reap(engine) == 0


def test_what_is_not_built_is_named(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "tag", lambda target: f"sevkit-{target}:none")
    from sevkit.errors import MissingToolError

    with pytest.raises(MissingToolError, match="is not there"):
        runner.run(engine, ["--version"], runner.Wish(), lambda data, is_error: None)


def test_guest_build_has_what_builds_need(engine: Engine) -> None:
    image(engine, "guest-build")
    tools = "gcc flex bison patch xz pkg-config python3 mmdebstrap mke2fs apt-get dpkg-deb"
    script = (
        f"set -e; for t in {tools}; do command -v $t; done; pkg-config --exists glib-2.0 slirp zlib; sevkit --version"
    )
    engine.client.containers.run(
        images.tag("guest-build"), ["-c", script], entrypoint=["/bin/sh"], network_mode="none", remove=True
    )


def _sevkit(*argv: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run([sys.executable, "-m", "sevkit", *argv], capture_output=True, check=False, timeout=300)
