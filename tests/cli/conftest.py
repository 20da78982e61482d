"""Running the command line in this process, as a user would see it."""

import functools
import json
from collections.abc import Callable, Sequence
from typing import Any

import click
import jsonschema
import pytest

from sevkit.cli import main
from sevkit.cli.schema import reporting_commands, schema_of
from sevkit.cli.tree import root

Run = Callable[..., tuple[int, str, str]]
RunJson = Callable[..., tuple[int, dict[str, Any]]]


@functools.cache
def schemas() -> dict[str, dict[str, Any]]:
    """The schema of every command whose function returns a Result."""
    commands = reporting_commands(root, click.Context(root, info_name="sevkit"))
    return {name: schema_of(name, found) for name, found in commands}


@functools.cache
def validator(command: str) -> Any:
    """What validates against the schema of a command; None if the command has none.

    The schema itself is checked here, once: jsonschema.validate would do it each time, for 0.2 s.
    """
    schema = schemas().get(command)
    if schema is None:
        return None
    kind = jsonschema.validators.validator_for(schema)
    kind.check_schema(schema)
    return kind(schema)


def check_against_schema(envelope: dict[str, Any], argv: Sequence[str]) -> None:
    """Raises unless the envelope is what `sevkit schema` promises for its command (of a usage error, any)."""
    found = validator(envelope["command"])
    assert found is not None or envelope["data"] is None
    if found is not None:
        found.validate(envelope)


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
        check_against_schema(envelope, argv)
        assert (envelope["status"] == "success") == (not envelope["errors"])
        return status, envelope

    return run
