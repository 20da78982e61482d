"""JSON in which no key stands twice: of two values, programs would disagree which one counts. Pure."""

import json
from collections.abc import Callable
from typing import Any


def loads(text: str) -> Any:
    """The document; raises ValueError (or RecursionError) if it is not JSON, or an object has a key twice."""
    return json.loads(text, object_pairs_hook=_unique)


def decoder(constant: Callable[[str], Any]) -> json.JSONDecoder:
    """A decoder for other programs' JSON, which raises ValueError where a key has two different values.

    The same value twice passes: fio 2 writes an empty percentile several times. So does an object of texts alone, of
    which the last counts: fio lists an option as often as it was given, and so obeys it. ``constant`` reads NaN and
    Infinity.
    """
    return json.JSONDecoder(parse_constant=constant, object_pairs_hook=_agreed)


def _agreed(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) == len(pairs) or all(isinstance(value, str) for _, value in pairs):
        return found
    return _unique(list({f"{k!r}: {v!r}": (k, v) for k, v in pairs}.values()))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} stands twice")
    return found
