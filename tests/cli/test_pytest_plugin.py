"""The pytest plugin, run as users run it: a project of its own with tests in it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs/guests.md"
TESTS = """
import pytest

@pytest.mark.sev_guest(mode="sev", hypervisor="mock")
def test_one(sev_guest):
    assert sev_guest.run(["echo", "a"]).stdout == b"a\\n"
    open("one", "w").write(f"{sev_guest.name} {sev_guest.pid}")

@pytest.mark.sev_guest(mode="sev", hypervisor="mock")
def test_same(sev_guest):
    open("same", "w").write(f"{sev_guest.name} {sev_guest.pid}")

@pytest.mark.sev_guest(mode="sev", hypervisor="mock", fresh=True)
def test_fresh(sev_guest):
    open("fresh", "w").write(f"{sev_guest.name} {sev_guest.pid}")

@pytest.mark.sev_guest("sev-snp", hypervisor="mock")
def test_fails(sev_guest):
    sev_guest.run("echo here-i-am >/dev/console")
    assert False

@pytest.mark.sev_guest(mode="sev-snp", hypervisor="qemu")
def test_needs_hardware(sev_guest):
    pass

@pytest.mark.sev_guest(bogus=1, hypervisor="mock")
def test_wrong(sev_guest):
    pass
"""


def run(folder: Path, *argv: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "SEVKIT_QEMU": "no-such-qemu"}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "-rs", *argv]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=240, check=False, env=environment
    )


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_guests_are_shared_skipped_and_ended(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(TESTS)
    done = run(tmp_path)
    assert "3 passed" in done.stdout, done.stdout + done.stderr
    assert "1 skipped" in done.stdout
    assert "no hypervisor here runs mode sev-snp" in done.stdout
    assert "console of the sev-snp guest pytest-" in done.stdout
    assert "a guest has no bogus" in done.stdout
    one, same, fresh = ((tmp_path / name).read_text().split() for name in ("one", "same", "fresh"))
    assert one == same != fresh
    assert not any(alive(int(pid)) for _, pid in (one, same, fresh))


@pytest.mark.parametrize(
    ("marker", "words"),
    [
        ('"sev", "sev-es"', "takes one mode"),
        ('"sev", mode="nosev"', "takes one mode"),
        ('"sev3"', "there is no mode 'sev3' (modes: nosev"),
        ('fresh="no"', "neither True nor False"),
        ('memory_mib="1G"', "no guest can have"),
        ("vcpu=2", "a guest has no vcpu"),
    ],
)
def test_a_marker_that_is_wrong_is_said_to_be_without_a_traceback(marker: str, words: str, tmp_path: Path) -> None:
    lines = ("import pytest", f"@pytest.mark.sev_guest({marker}, hypervisor='mock')", "def test_it(sev_guest): pass")
    (tmp_path / "test_it.py").write_text("\n".join(lines))
    done = run(tmp_path)
    assert words in done.stdout, done.stdout + done.stderr
    assert "1 error" in done.stdout
    assert "sevkit/testing" not in done.stdout


def test_a_skip_is_a_failure_where_guests_are_required(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(TESTS)
    done = run(tmp_path, "--sevkit-require", "-k", "hardware")
    assert done.returncode == 1
    assert "--sevkit-require: no hypervisor here runs mode sev-snp" in done.stdout


def test_workers_have_guests_of_their_own(tmp_path: Path) -> None:
    pytest.importorskip("xdist")
    (tmp_path / "test_it.py").write_text(TESTS)
    done = run(tmp_path, "-n", "2", "-k", "one or same or fresh")
    assert "3 passed" in done.stdout, done.stdout


def test_the_first_example_of_the_documentation_runs(tmp_path: Path) -> None:
    example = DOCS.read_text().partition("```python\n# test_mine.py")[2].partition("```")[0]
    assert "sev_guest" in example
    (tmp_path / "test_mine.py").write_text(example.replace('mode="sev-snp"', 'mode="sev-snp", hypervisor="mock"'))
    done = run(tmp_path)
    assert done.returncode == 0, done.stdout


KDS = """
from sevkit.attestation.report import fetch
from sevkit.attestation.report.certificates import Store
from sevkit.attestation.report.evidence import Evidence

def test_certificates_come_from_here(fake_kds):
    for chip in fake_kds.chips.values():
        fetched = fetch.missing(Evidence(chip.chip.report(5), "raw"), Store(), fake_kds.address)
        assert fetched and all(url.startswith("http://127.0.0.1:") for url in fetched)
    assert fake_kds.asked
"""


def test_a_key_distribution_service_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(KDS)
    done = run(tmp_path)
    assert done.returncode == 0, done.stdout


def test_testinfra_without_such_a_guest_says_which_run() -> None:
    testinfra = pytest.importorskip("testinfra")
    with pytest.raises(ValueError, match=r"no guest named nope is running .running guests: none"):
        testinfra.get_host("sevkit://nope")
