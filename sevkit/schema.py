"""The JSON Schema of a command's --json output, from the types of its payload."""

import types
import typing
from typing import Any

from sevkit.errors import SevkitError
from sevkit.result import RESULT_VERSION

_TEXT = {"type": ["string", "null"]}
_ERROR = {
    "type": "object",
    "properties": {
        "kind": {"type": "string", "description": "The class of the error: what programs test for."},
        "message": {"type": "string"},
        "hint": _TEXT,
        "detail": {**_TEXT, "description": "The words of another program, unchanged."},
        "exit_code": {"type": "integer"},
    },
    "required": ["kind", "message", "hint", "detail", "exit_code"],
    "additionalProperties": False,
}


def payload_types(annotation: Any) -> list[Any]:
    """The types that ``data`` may have, from what a command returns: ``Result[A] | Result[B] | int`` gives A and B.

    Raises SevkitError for a command that returns no Result.
    """
    found = [payload for part in _members(annotation) for payload in typing.get_args(part)]
    if found:
        return found
    raise SevkitError("this command prints no envelope", hint="only commands with --json do")


def envelope_schema(command: str, annotation: Any) -> dict[str, Any]:
    """The JSON Schema (2020-12) of a command's envelope; ``data`` is null if the command failed."""
    import msgspec

    schemas, definitions = msgspec.json.schema_components(payload_types(annotation), ref_template="#/$defs/{name}")
    for definition in definitions.values():
        if "properties" in definition:
            definition["additionalProperties"] = False
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"sevkit {command} --json",
        "type": "object",
        "properties": {
            "sevkit_result_version": {"const": RESULT_VERSION},
            "command": {"type": "string"},
            "status": {"enum": ["success", "partial", "error"]},
            "exit_code": {"type": "integer"},
            "data": {"anyOf": [*schemas, {"type": "null"}]},
            "errors": {"type": "array", "items": _ERROR},
        },
        "required": ["sevkit_result_version", "command", "status", "exit_code", "data", "errors"],
        "additionalProperties": False,
        "$defs": definitions,
    }


def _members(annotation: Any) -> list[Any]:
    """The members of a union, or the one type."""
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        return [member for member in typing.get_args(annotation) if member is not type(None)]
    return [annotation]
