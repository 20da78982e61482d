"""The envelope has one shape for success and failure alike."""

import json

import pytest

from sevkit import errors
from sevkit.result import Result, failure


def test_success() -> None:
    made = json.loads(Result("probe", {"x": 1}).to_json())
    assert made == {
        "sevkit_result_version": 1,
        "command": "probe",
        "status": "success",
        "exit_code": 0,
        "data": {"x": 1},
        "errors": [],
    }


def test_partial_has_data_and_errors() -> None:
    result = Result(
        "guest stop", {"stopped": []}, errors.ExitCode.USAGE, [errors.UsageError("no such guest", hint="h")]
    )
    made = result.envelope()
    assert made["status"] == "partial"
    assert made["errors"][0]["kind"] == "UsageError"
    assert made["errors"][0]["hint"] == "h"


@pytest.mark.parametrize("kind", errors.SevkitError.__subclasses__())
def test_each_error_has_an_exit_code_of_its_cause(kind: type[errors.SevkitError]) -> None:
    made = failure("x", kind("what went wrong")).envelope()
    assert made["status"] == "error"
    assert made["exit_code"] in {1, 2, 3, 4, 5}
    assert made["data"] is None
