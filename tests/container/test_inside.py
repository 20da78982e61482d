"""The tests again, inside the test image: with the mock, and with real guests in QEMU without /dev/kvm."""

import os
import re
import sys
from pathlib import Path

import pytest

from sevkit.container import run as runner
from sevkit.container.engine import Engine
from tests.container.conftest import image

pytestmark = pytest.mark.container

# What has run outside and does not depend on where it runs is left out by default; SEVKIT_TEST_INSIDE=all runs it all.
CHOSEN = (
    "tests/cli",
    "tests/unit",
    "tests/integration/test_leak.py",
    "tests/integration/test_guests.py::test_the_channels",
    "tests/integration/test_guests.py::test_testinfra_asserts_on_a_guest",
    "tests/integration/test_guests.py::test_ram_blocks_cover_the_guests_memory",
    "tests/integration/test_guests.py::test_guests_die_with_their_owner",
    "tests/integration/test_trust.py::test_no_output_and_no_leftover_holds_a_secret",
    "tests/integration/test_faults.py::test_sevkit_is_killed",
)

# Calculations: bytes and numbers in, bytes and numbers out. No permission, device, program or mount changes them.
CALCULATIONS = (
    *(f"attestation_{name}" for name in ("explain", "forged", "measure", "protobuf", "reports", "tcb")),
    *(f"bench_{name}" for name in ("attribution", "foreign", "import", "lint", "published", "selftest", "tricks")),
    *(f"model_{name}" for name in ("attacks", "digest", "docs", "psp", "rmp", "tlb", "vcpu")),
)


@pytest.mark.parametrize("name", CALCULATIONS)
def test_what_is_left_out_is_there(name: str) -> None:
    """pytest does not complain of a file to ignore that does not exist."""
    assert (Path(__file__).parents[1] / f"unit/test_{name}.py").is_file()


def test_the_suite_passes_inside(engine: Engine) -> None:
    image(engine, "test")
    everything = os.environ.get("SEVKIT_TEST_INSIDE") == "all"
    argv = ["-m", "not container", "-q", "-p", "no:cacheprovider", "-n", "logical"]
    argv += ["--dist", "loadfile", "--max-worker-restart=0"]
    if not everything:
        argv += [*CHOSEN, *(f"--ignore=tests/unit/test_{name}.py" for name in CALCULATIONS)]
    said: list[bytes] = []

    def show(data: bytes, is_error: bool) -> None:
        said.append(data)
        sys.stdout.buffer.write(data)

    own = (("HYPOTHESIS_STORAGE_DIRECTORY", "/tmp/hypothesis"),)
    status = runner.run(engine, argv, runner.Wish(image="test", room_mib=6144, environment=own), show)
    text = b"".join(said).decode(errors="replace")
    assert status == 0, text[-4000:]
    assert "QEMU is not installed" not in text
    passed = re.search(r"(\d+) passed", text)
    assert passed is not None
    assert int(passed[1]) > 100
