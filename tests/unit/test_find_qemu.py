"""QEMU is found where distributions put it."""

from pathlib import Path

import pytest

from sevkit.errors import MissingToolError
from sevkit.qemu import capabilities
from tests.support.container import not_in_the_container


@not_in_the_container("nothing in /tmp can be run in the container")
@pytest.mark.parametrize("name", ["qemu-system-x86_64", "qemu-kvm", "libexec"])
def test_the_first_program_that_is_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    program = tmp_path / name
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.delenv("SEVKIT_QEMU", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(capabilities, "PROGRAMS", ("qemu-system-x86_64", "qemu-kvm", str(tmp_path / "libexec")))
    assert capabilities.find_qemu() == str(program)
    monkeypatch.setenv("SEVKIT_QEMU", "none-such")
    with pytest.raises(MissingToolError, match="none-such"):
        capabilities.find_qemu()


def test_none_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEVKIT_QEMU", raising=False)
    monkeypatch.setattr(capabilities, "PROGRAMS", ("no-such-qemu", "/no/such/qemu-kvm"))
    with pytest.raises(MissingToolError) as caught:
        capabilities.find_qemu()
    assert "/no/such/qemu-kvm" in caught.value.message
    assert "SEVKIT_QEMU" in str(caught.value.hint)
