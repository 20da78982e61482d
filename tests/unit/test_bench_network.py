"""The network and exit programs, run on this machine against the host's end of them."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sevkit import processes
from sevkit.bench import suite
from sevkit.bench.campaign import guests, sources
from sevkit.bench.campaign.directory import Wish, prepare
from sevkit.bench.campaign.traffic import Traffic
from sevkit.bench.imports import parse
from sevkit.bench.suite import Profile
from sevkit.errors import BadInputError
from sevkit.guest.spec import Firmware
from sevkit.vocabulary import Mode

pytestmark = pytest.mark.skipif(not processes.have_tool("gcc"), reason="needs gcc")


@pytest.fixture
def server() -> Iterator[Traffic]:
    traffic = Traffic()
    yield traffic
    traffic.close()


def run(*words: str | Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([str(word) for word in words], capture_output=True, timeout=60, check=False)


@pytest.mark.parametrize(("kind", "count"), [("send", 3), ("receive", 3), ("latency", 50)])
def test_what_the_guest_measures_is_read(server: Traffic, kind: str, count: int) -> None:
    done = run(sources.compiled("netbench.c"), kind, "127.0.0.1", str(server.port), str(count))
    assert done.returncode == 0
    values = dict(parse.read(suite.workloads()[f"net-{kind}"], done.stdout, 1.0))
    primary = [value for metric, value in values.items() if metric.primary]
    assert len(primary) == 1
    assert primary[0] > 0
    names = {metric.name for metric in values}
    assert names == ({"latency_mean", "latency_p50", "latency_p99"} if kind == "latency" else {"bandwidth"})


def test_a_server_that_is_gone_is_a_failure_and_no_value() -> None:
    traffic = Traffic()
    traffic.close()
    done = run(sources.compiled("netbench.c"), "send", "127.0.0.1", str(traffic.port), "1")
    assert (done.returncode, done.stdout) == (4, b"")


def test_the_cost_of_an_exit_has_a_distribution() -> None:
    done = run(sources.compiled("vmexit.c"), "null", "500")
    values = {metric.name: value for metric, value in parse.read(suite.workloads()["exit-syscall"], done.stdout, 1.0)}
    assert list(values) == ["exit_cost", "exit_cost_p10", "exit_cost_p50", "exit_cost_p90", "exit_cost_p99"]
    assert values["exit_cost_p10"] <= values["exit_cost_p50"] <= values["exit_cost_p90"] <= values["exit_cost_p99"]


def test_a_report_needs_the_device() -> None:
    if Path("/dev/sev-guest").exists():
        pytest.skip("this is an SEV-SNP guest")
    assert run(sources.compiled("attest.c"), "1").returncode == 4
    workload = suite.workloads()["attestation-report"]
    with pytest.raises(BadInputError):
        parse.read(workload, b"", 1.0)
    assert workload.device == "/dev/sev-guest"


def test_only_guests_with_network_workloads_reach_the_host() -> None:
    def outgoing(*workloads: str) -> bool:
        plan = prepare(Wish(Profile("t", "t", workloads), where="mock")).plan
        return guests.spec_of(plan.configs[0], Mode.SEV, firmware=Firmware.OVMF).outgoing

    assert outgoing("net-send", "sha256")
    assert not outgoing("sha256")


def test_the_server_is_on_the_loopback_only(server: Traffic) -> None:
    listening = Path("/proc/net/tcp").read_text()
    assert re.search(rf" 0100007F:{server.port:04X} ", listening)
