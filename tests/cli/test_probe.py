"""`sevkit probe` as a command: every output, every option, exit codes."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from tests.support.container import not_in_the_container
from tests.unit import probe_samples as sample

GENOA = """CPU 0:
   0x00000000 0x00: eax=0x00000010 ebx=0x68747541 ecx=0x444d4163 edx=0x69746e65
   0x00000001 0x00: eax=0x00a10f11 ebx=0x00000800 ecx=0x7ef8320b edx=0x178bfbff
   0x80000000 0x00: eax=0x80000028 ebx=0x68747541 ecx=0x444d4163 edx=0x69746e65
   0x8000001f 0x00: eax=0x030ffffb ebx=0x80004173 ecx=0x000003ee edx=0x00000064
"""
SHOWS = ("human", "cpuid", "prometheus", "nfd", "junit", "json")


def run(*words: str, stdin: bytes | None = None) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [sys.executable, "-m", "sevkit", "probe", *words], input=stdin, capture_output=True, timeout=60, check=False
    )


def envelope(*words: str, code: int = 0) -> dict[str, Any]:
    done = run(*words)
    assert done.returncode == code, done.stderr.decode()
    answer = json.loads(done.stdout)
    assert answer["sevkit_result_version"] == 1
    assert answer["exit_code"] == code
    assert done.stderr == b""
    return dict(answer)


@pytest.fixture
def dump(tmp_path: Path) -> str:
    path = tmp_path / "genoa.txt"
    path.write_text(GENOA)
    return str(path)


@pytest.fixture
def works(tmp_path: Path) -> str:
    path = tmp_path / "works.json"
    path.write_text(json.dumps(sample.ready()))
    return str(path)


@pytest.fixture
def broken(tmp_path: Path) -> str:
    raw = sample.ready()
    raw["readings"]["kernel.cmdline"]["value"].append("iommu=pt")
    raw["readings"]["sev.snp_platform_status"]["value"]["state"] = "uninit"
    sample.set_msr(raw, 0x250, 1, 2)
    path = tmp_path / "broken.json"
    path.write_text(json.dumps(raw))
    return str(path)


def test_this_machine() -> None:
    data = envelope("--json")["data"]
    assert set(data) == {"source", "cpu", "leaf", "guest", "kernel_log", "readiness", "checks"}
    assert set(data["kernel_log"]) >= {"role", "active", "host", "evidence"}
    assert data["leaf"]["status"] in ("present", "masked", "beyond_max_leaf", "not_amd")


def test_a_dump(dump: str) -> None:
    answer = envelope("--json", "--from", dump)
    leaf = answer["data"]["leaf"]
    assert answer["command"] == "probe"
    assert leaf["raw"] == {"eax": 0x030FFFFB, "ebx": 0x80004173, "ecx": 0x3EE, "edx": 0x64}
    assert leaf["unknown_bits"] == {"ebx": [31]}
    assert leaf["fields"]["sev_snp"] is True
    assert leaf["fields"]["min_sev_no_es_asid"] == 100
    assert answer["data"]["cpu"]["vendor"] == "AuthenticAMD"
    assert answer["data"]["cpu"]["family"] == 25


def test_standard_input(dump: str) -> None:
    done = run("--json", "--from", "-", stdin=GENOA.encode())
    assert json.loads(done.stdout)["data"]["leaf"]["status"] == "present"


@pytest.mark.parametrize("form", SHOWS)
@pytest.mark.parametrize("which", ["works", "broken"])
def test_every_format_is_as_recorded(
    form: str, which: str, request: pytest.FixtureRequest, golden: Callable[[str, str], None]
) -> None:
    path = request.getfixturevalue(which)
    done = run("--format", form, "--from", path)
    assert done.returncode == 0
    assert done.stderr == b""
    golden(f"probe/{which}.{form}", done.stdout.decode())


def test_short(works: str, golden: Callable[[str, str], None]) -> None:
    golden("probe/works.short", run("--short", "--from", works).stdout.decode())


def test_junit_is_xml_and_counts(broken: str) -> None:
    root = ET.fromstring(run("--format", "junit", "--from", broken).stdout)
    assert int(root.get("failures", 0)) == len(root.findall(".//failure")) > 0
    assert int(root.get("tests", 0)) == len(root.findall(".//testcase"))


def test_prometheus_is_read_by_prometheus(works: str) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    text = run("--format", "prometheus", "--from", works).stdout.decode()
    samples = {(s.name, *s.labels.values()): s.value for f in text_string_to_metric_families(text) for s in f.samples}
    assert samples["sevkit_ready", "sev-snp"] == 1
    assert samples["sevkit_cpuid_value", "c_bit_position"] == 51


def test_facts_of_a_file_say_so(works: str) -> None:
    """What a program reads of a saved host must not pass for this machine."""
    told = {form: run("--format", form, "--from", works).stdout.decode() for form in SHOWS}
    assert told["human"].startswith("saved facts of ")
    assert run("--short", "--from", works).stdout.startswith(b"saved facts of ")
    assert 'sevkit_source_info{host="' in told["prometheus"]
    assert 'kind="snapshot"' in told["prometheus"]
    assert "sevkit-source.kind=snapshot" in told["nfd"].splitlines()
    suites = ET.fromstring(told["junit"]).findall("testsuite")
    assert suites
    assert all(suite.find("properties/property[@name='source.kind']").get("value") == "snapshot" for suite in suites)
    assert json.loads(told["json"])["data"]["source"]["kind"] == "snapshot"
    assert not run("--short").stdout.startswith(b"saved facts")


def test_nfd_lines_are_labels(works: str) -> None:
    import re

    lines = run("--format", "nfd", "--from", works).stdout.decode().splitlines()
    assert "cpu-security.sev.snp.enabled=true" in lines
    assert "cpu-security.sev.asids=907" in lines
    assert all(re.fullmatch(r"[a-z0-9._-]+=[A-Za-z0-9._-]{1,63}", line, re.IGNORECASE) for line in lines)


def test_a_requirement_that_is_met(works: str) -> None:
    answer = envelope("--json", "--require", "sev-snp", "--from", works)
    assert answer["data"]["required"]["met"] is True


def test_a_requirement_that_is_not_met_names_the_first_check(broken: str) -> None:
    done = run("--require", "sev-snp", "--short", "--from", broken)
    assert done.returncode == 1
    assert "bios.snp_init_equal" in done.stderr.decode()
    answer = envelope("--json", "--require", "sev-snp", "--from", broken, code=1)
    need = answer["data"]["required"]
    assert need["blocking"] == ["bios.snp_init_equal", "firmware.snp_initialised", "iommu.translation"]
    assert need["met"] is False
    assert "bios.snp_init_equal" in answer["errors"][0]["message"]
    assert envelope("--json", "--require", "sev", "--from", broken)["data"]["required"]["met"] is True


def test_a_requirement_that_cannot_be_decided(dump: str) -> None:
    answer = envelope("--json", "--require", "sev", "--from", dump, code=3)
    assert answer["data"]["required"]["verdict"] == "unknown"


def test_a_guest_with_snp_meets_the_requirement(tmp_path: Path) -> None:
    path = tmp_path / "guest.json"
    path.write_text(json.dumps(sample.guest(["Hypervisor detected: KVM"], sev_status=7)))
    need = envelope("--json", "--require", "sev-snp", "--from", str(path))["data"]["required"]
    assert (need["met"], need["as"]) == (True, "guest")


def test_save_and_replay(tmp_path: Path) -> None:
    path = str(tmp_path / "host.json")
    here = envelope("--json", "--save", path)["data"]
    there = envelope("--json", "--from", path)["data"]
    del here["source"], there["source"]
    assert here == there


def test_a_log_alone(tmp_path: Path) -> None:
    path = tmp_path / "dmesg"
    path.write_text("\n".join(f"[    1.0] {line}" for line in sample.LOG))
    data = envelope("--json", "--log", str(path))["data"]
    log = data["kernel_log"]
    assert log["role"] == "host"
    assert log["active"] == ["sme"]
    assert log["host"] == {"sev": "usable", "sev_es": "usable", "sev_snp": "usable"}
    assert len(log["evidence"]) >= 3
    assert b"kvm_amd: SEV-SNP enabled" in run("--log", str(path)).stdout


def test_diff_explains(works: str, broken: str, golden: Callable[[str, str], None]) -> None:
    data = envelope("diff", works, broken, "--json")["data"]
    (verdict,) = data["verdicts"]
    assert (verdict["mode"], verdict["a"], verdict["b"], verdict["worse"]) == ("sev-snp", "ready", "not_ready", "b")
    causes = [cause["check"] for cause in verdict["causes"]]
    assert causes == ["bios.snp_init_equal", "firmware.snp_initialised", "iommu.translation"]
    names = {row["name"] for row in data["readings"]}
    assert names == {"kernel.cmdline", "msr.00000250", "sev.snp_platform_status.state"}
    text = run("diff", works, broken).stdout.decode().replace(works, "works").replace(broken, "broken")
    golden("probe/diff.txt", text)


def test_diff_of_the_same(works: str) -> None:
    data = envelope("--json", "diff", works, works)["data"]
    assert [data[key] for key in ("verdicts", "cpu", "leaf", "checks", "readings")] == [[], [], [], [], []]


@pytest.mark.parametrize(
    "words",
    [
        ("--format", "yaml"),
        ("--require", "tdx"),
        ("--from", "a", "--log", "b"),
        ("--log", "a", "--require", "sev"),
        ("--nonsense",),
        ("diff", "a"),
        ("--from", "/nonexistent"),
        ("--log", "/nonexistent"),
        ("--host", "nonsense://x"),
        ("extra",),
    ],
)
def test_mistakes_are_usage_errors_in_both_forms(words: tuple[str, ...]) -> None:
    done = run(*words)
    assert done.returncode == 2
    assert done.stderr.startswith(b"error: ")
    assert b"Traceback" not in done.stderr
    answer = envelope(*words, "--json", code=2)
    assert answer["status"] == "error"
    assert answer["data"] is None


def test_hosts_in_a_table_and_one_that_fails_is_a_row() -> None:
    answer = envelope("--json", "--host", "local://", "--host", "ssh://nobody@127.0.0.1:1")
    here, there = answer["data"]["hosts"]
    assert (here["status"], there["status"]) == ("ok", "error")
    if Path("/dev/cpu/0/cpuid").exists():  # elsewhere (a container) only the whole sevkit can ask the CPU
        assert here["leaf"]["status"] == envelope("--json")["data"]["leaf"]["status"]
    assert answer["status"] == "partial"
    done = run("--host", "local://", "--host", "ssh://nobody@127.0.0.1:1")
    assert done.returncode == 0
    assert b"failed" in done.stdout
    assert (done.stdout + done.stderr).count(b"ssh: ") == 1, "the cause is said once"


def test_metrics_and_lines_of_a_fleet() -> None:
    hosts = ("--host", "local://", "--host", "ssh://nobody@127.0.0.1:1")
    metrics = run("--format", "prometheus", *hosts).stdout.decode()
    assert 'sevkit_host_up{host="local://"} 1.0' in metrics
    assert 'sevkit_host_up{host="ssh://nobody@127.0.0.1:1"} 0.0' in metrics
    samples = [line for line in metrics.splitlines() if not line.startswith("#")]
    assert all('host="' in line for line in samples)
    assert any(line.startswith("sevkit_check_status{") and 'host="local://"' in line for line in samples)
    lines = [json.loads(line) for line in run("--format", "jsonl", *hosts).stdout.splitlines()]
    assert [(line["host"], line["status"]) for line in lines] == [("local://", "ok"), (hosts[3], "error")]
    root = ET.fromstring(run("--format", "junit", *hosts).stdout)
    here, there = root
    assert (there.get("tests"), there.get("errors")) == ("1", "1")
    assert int(here.get("tests", 0)) == len(here) > 20
    for kind in ("failure", "error", "skipped"):
        assert int(root.get(f"{kind}s" if kind != "skipped" else kind, 0)) == len(root.findall(f".//{kind}"))
    statuses = {case.get("name"): case[0].tag if len(case) else "" for case in here}
    mine = {c["id"]: c for c in envelope("--json")["data"]["checks"]}
    wrong = {"failure", "error"}
    assert not any(statuses[name] in wrong for name, c in mine.items() if c["weight"] == "advice")
    (alone,) = run("--format", "jsonl").stdout.splitlines()
    assert json.loads(alone)["readiness"]


def test_when_every_host_fails() -> None:
    assert run("--host", "ssh://nobody@127.0.0.1:1").returncode == 4


@pytest.mark.parametrize(
    "words", [[], ["--from", "DUMP"], ["--from", "DUMP", "--require", "sev-snp"], ["--from", "/none"]]
)
def test_both_ways_answer_the_same(words: list[str], dump: str) -> None:
    words = [dump if word == "DUMP" else word for word in words]
    quick, whole = run("--json", *words), run("--format", "json", *words)
    assert quick.returncode == whole.returncode
    one, other = json.loads(quick.stdout), json.loads(whole.stdout)
    for answer in (one, other):
        if answer["data"]:
            answer["data"]["source"].pop("taken")
    assert one == other


def test_a_reader_that_goes_away() -> None:
    done = subprocess.run(
        f"{sys.executable} -m sevkit probe --json | head -c 10",
        shell=True,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == b""


@pytest.mark.skipif(not Path("/usr/bin/cpuid").exists(), reason="Todd Allen's cpuid is not installed")
def test_this_machine_as_the_real_tool_prints_it() -> None:
    if json.loads(run("--json").stdout)["data"]["leaf"]["raw"] is None:
        pytest.skip("this CPU has no leaf 0x8000001F: the tool prints zeros all the same")
    real = subprocess.run(["cpuid", "-1", "-l", "0x8000001f"], capture_output=True, check=True).stdout
    assert run("--format", "cpuid").stdout == real


@not_in_the_container("in a container CPUID is read by a child process")
def test_what_monitoring_asks_again_and_again_imports_little() -> None:
    """Each of these takes a fifth of the time that `sevkit probe --json` may take: 5 times a bare interpreter's."""
    code = (
        "import sys\n"
        "from sevkit.cli import main\n"
        "try:\n    main(['probe', '--json'])\n"
        "except SystemExit as done:\n"
        "    bad = set(sys.modules) & {'click', 'rich', 'numpy', 'inspect', 'dataclasses', 'pathlib', 'subprocess'}\n"
        "    sys.exit(f'imported: {bad}' if bad else done.code)\n"
    )
    # Without `site`, which runs what other packages left in this environment.
    environment = {"PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], capture_output=True, text=True, check=False, timeout=60, env=environment
    )
    assert done.returncode == 0, done.stderr
