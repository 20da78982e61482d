"""Running the command line in this process, as a user would see it."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from sevkit.cli import main

Run = Callable[..., tuple[int, str, str]]
RunJson = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def sevkit(capfdbinary: pytest.CaptureFixture[bytes]) -> Run:
    """``sevkit("guest", "list")`` gives exit status, stdout, stderr."""

    def run(*argv: str) -> tuple[int, str, str]:
        capfdbinary.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(list(argv))
        out, err = capfdbinary.readouterr()
        status = ended.value.code
        assert isinstance(status, int)
        return status, out.decode(), err.decode()

    return run


@pytest.fixture
def sevkit_json(sevkit: Run) -> RunJson:
    """As ``sevkit`` with ``--json``: exit status and the envelope, which must agree."""

    def run(*argv: str) -> tuple[int, dict[str, Any]]:
        status, out, _ = sevkit(*argv, "--json")
        envelope = json.loads(out)
        assert set(envelope) == {"sevkit_result_version", "command", "status", "exit_code", "data", "errors"}
        assert envelope["sevkit_result_version"] == 1
        assert envelope["exit_code"] == status
        assert (envelope["status"] == "success") == (not envelope["errors"])
        return status, envelope

    return run
