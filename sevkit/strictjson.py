"""JSON in which no key stands twice: of two values, programs would disagree which one counts. Pure."""

import json
from typing import Any


def loads(text: str) -> Any:
    """The document; raises ValueError (or RecursionError) if it is not JSON, or an object has a key twice."""
    return json.loads(text, object_pairs_hook=_unique)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} stands twice")
    return found
