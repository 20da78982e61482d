"""`sevkit schema`: every command with --json has one, and commands print what it says (conftest checks all others)."""

import json

import jsonschema
import pytest

from tests.cli.conftest import Run, RunJson, schemas


def test_every_reporting_command_has_a_schema(sevkit: Run) -> None:
    names = [name for name in sevkit("schema")[1].split("\n") if name]
    assert set(names) == set(schemas())
    assert {"probe", "probe diff", "scan", "guest launch", "guest exec", "bench run", "doctor"} <= set(names)
    for name in names:
        status, out, _ = sevkit("schema", *name.split())
        assert status == 0
        jsonschema.Draft202012Validator.check_schema(json.loads(out))


def test_a_command_without_envelope_is_an_error(sevkit: Run) -> None:
    status, _, err = sevkit("schema", "guest", "console")
    assert status == 2
    assert "reports in JSON" in err


@pytest.mark.parametrize(
    "argv", [("doctor",), ("emulator", "status"), ("guest", "list"), ("bench", "list"), ("bench", "published")]
)
def test_commands_that_need_nothing_print_what_their_schema_says(argv: tuple[str, ...], sevkit_json: RunJson) -> None:
    _, envelope = sevkit_json(*argv)
    assert envelope["data"] is not None


def test_a_schema_refuses_what_it_does_not_describe() -> None:
    made = {"sevkit_result_version": 1, "command": "guest list", "status": "success", "exit_code": 0, "errors": []}
    jsonschema.validate({**made, "data": {"guests": [], "unlisted": []}}, schemas()["guest list"])
    for wrong in ({"guests": [], "unlisted": [], "more": 1}, {"guests": [{"name": "x"}], "unlisted": []}, {}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**made, "data": wrong}, schemas()["guest list"])
