"""What typing, json and signal do for us, where to start takes as long as the work.

Python imports these three, with the re, enum and collections that they want, in the time in which `sevkit scan` reads
half a gigabyte. The modules that it needs take what is here instead, and import from them for type checkers alone.
"""

from __future__ import annotations

TYPE_CHECKING = False

if TYPE_CHECKING:
    import signal as signal
    from typing import Any
    from typing import NamedTuple as NamedTuple
else:
    import _signal as signal  # noqa: F401 - the same functions; the numbers are no enums

    try:
        from _collections import _tuplegetter as _field  # as collections.namedtuple has it
    except ImportError:
        from operator import itemgetter

        def _field(index, doc):
            return property(itemgetter(index), doc=doc)

    class _Fields(type):
        """Makes fields of what a class annotates."""

        def __new__(cls, name, bases, space):
            fields = tuple(space.get("__annotations__", ()))
            space["_field_defaults"] = {field: space[field] for field in fields if field in space}
            space["_last"] = tuple(space["_field_defaults"].values())
            space |= {field: _field(index, f"Field {index}") for index, field in enumerate(fields)}
            space |= {"_fields": fields, "__match_args__": fields, "__slots__": ()}
            return super().__new__(cls, name, bases, space)

    class NamedTuple(tuple, metaclass=_Fields):
        """typing.NamedTuple, without compiling a function for each class."""

        def __new__(cls, *values, **named):
            missing = len(cls._fields) - len(values)
            if named or not 0 <= missing <= len(cls._last):
                values = _by_name(cls, values, named)
            elif missing:
                values += cls._last[-missing:]
            return tuple.__new__(cls, values)

        def __getnewargs__(self):
            return tuple(self)

        def __repr__(self):
            return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self._asdict().items())})"

        @classmethod
        def _make(cls, values):
            return cls(*values)

        def _asdict(self):
            return dict(zip(self._fields, self, strict=True))

        def _replace(self, **named):
            return type(self)(**(self._asdict() | named))

    def _by_name(cls, values, named):
        """A value for each field, in their order, from those of a call. Raises TypeError as calls do."""
        given = dict(zip(cls._fields, values, strict=False))
        whole = cls._field_defaults | given | named
        unknown = [name for name in named if name in given or name not in cls._fields]
        missing = [name for name in cls._fields if name not in whole]
        if len(values) > len(cls._fields) or unknown or missing:
            raise TypeError(f"{cls.__name__}() takes {cls._fields}, but got {values} and {named}")
        return [whole[name] for name in cls._fields]


_CONSTANTS = {None: "null", True: "true", False: "false"}
_NO_NUMBERS = {"inf": "Infinity", "-inf": "-Infinity", "nan": "NaN"}  # as json has them
_ESCAPES = {code: f"\\u{code:04x}" for code in range(32)} | {
    ord(plain): f"\\{letter}" for plain, letter in zip('"\\\b\f\n\r\t', '"\\bfnrt', strict=True)
}


def to_json(value: Any, margin: str = "\n") -> str:
    """The text of json.dumps(value, indent=2, ensure_ascii=False). Raises TypeError as that does."""
    if isinstance(value, str):
        return _quoted(value)
    if value is None or value is True or value is False:
        return _CONSTANTS[value]
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, float):
        text = float.__repr__(value)
        return _NO_NUMBERS.get(text, text)
    inner = margin + "  "
    if isinstance(value, dict):
        names = [_quoted(name if isinstance(name, str) else to_json(name)) for name in value]
        pairs = [f"{name}: {to_json(item, inner)}" for name, item in zip(names, value.values(), strict=True)]
        return f"{{{inner}{f',{inner}'.join(pairs)}{margin}}}" if pairs else "{}"
    if isinstance(value, (list, tuple)):
        items = [to_json(item, inner) for item in value]
        return f"[{inner}{f',{inner}'.join(items)}{margin}]" if items else "[]"
    raise TypeError(f"{type(value).__name__} is no JSON value")


def _quoted(text: str) -> str:
    plain = text.isprintable() and '"' not in text and "\\" not in text
    return f'"{text}"' if plain else f'"{text.translate(_ESCAPES)}"'
