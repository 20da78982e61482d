"""A relying party's demands on a report: a policy file, in TOML or JSON. Pure.

Every key is optional. An unknown key is an error, because a misspelt demand would not be checked.
"""

import difflib
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from sevkit import strictjson
from sevkit.attestation.report import layout, products
from sevkit.attestation.report.products import COMPONENTS, Product
from sevkit.errors import BadInputError

MOST_BYTES = 1 << 20
Minimum = Mapping[str, int]


@dataclass(frozen=True)
class Policy:
    """Demands on a report. An empty set of values demands nothing; bit names are those of `report show`."""

    minimum_tcb: Mapping[Product | None, Minimum] = field(default_factory=dict)
    minimum_committed_tcb: Mapping[Product | None, Minimum] = field(default_factory=dict)
    minimum_launch_tcb: Mapping[Product | None, Minimum] = field(default_factory=dict)
    measurements: frozenset[bytes] = frozenset()
    host_data: frozenset[bytes] = frozenset()
    report_data: frozenset[bytes] = frozenset()
    family_ids: frozenset[bytes] = frozenset()
    image_ids: frozenset[bytes] = frozenset()
    id_key_digests: frozenset[bytes] = frozenset()
    author_key_digests: frozenset[bytes] = frozenset()
    chip_ids: frozenset[bytes] = frozenset()
    products: frozenset[Product] = frozenset()
    signing_keys: frozenset[str] = frozenset()
    csp_ids: frozenset[str] = frozenset()
    vmpls: frozenset[int] = frozenset()
    minimum_guest_svn: int = 0
    minimum_report_version: int = 0
    minimum_abi: tuple[int, int] = (0, 0)
    minimum_firmware: tuple[int, int, int] = (0, 0, 0)
    policy_required: frozenset[str] = frozenset()
    policy_forbidden: frozenset[str] = frozenset()
    platform_required: frozenset[str] = frozenset()
    platform_forbidden: frozenset[str] = frozenset()
    launch_mit_vector: int = 0
    current_mit_vector: int = 0
    require_crl: bool = False
    require_runtime_data: bool = False

    @property
    def not_demanded(self) -> list[str]:
        """What nothing is demanded of: ``guest`` (its measurement, or the keys of its ID block), ``freshness``."""
        guest = self.measurements or self.id_key_digests or self.author_key_digests
        open_questions = {"guest": not guest, "freshness": not self.report_data and not self.require_runtime_data}
        return [name for name, is_open in open_questions.items() if is_open]


KEYS = tuple(item.name for item in fields(Policy))


def read(data: bytes, name: str = "policy") -> Policy:
    """A policy from the bytes of a TOML or JSON file; raises BadInputError with the key that is wrong."""
    if len(data) > MOST_BYTES:
        raise BadInputError(f"{name}: {len(data)} bytes are too many for a policy")
    document = _document(data, name)
    if not document:
        raise BadInputError(f"{name}: the policy demands nothing", hint=f"known: {', '.join(KEYS)}")
    values: dict[str, Any] = {}
    for key, value in document.items():
        if key not in _READERS:
            near = difflib.get_close_matches(key, KEYS, 1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(KEYS)}"
            raise BadInputError(f"{name}: unknown key {key!r}", hint=hint)
        try:
            values[key] = _READERS[key](value)
        except BadInputError as error:
            raise BadInputError(f"{name}: {key}: {error.message}", hint=error.hint) from error
    return Policy(**values)


def _document(data: bytes, name: str) -> dict[str, Any]:
    try:
        text = data.decode("utf-8-sig")
        document = strictjson.loads(text) if text.lstrip().startswith("{") else tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and both decoders' errors are ValueErrors
        raise BadInputError(f"{name}: neither TOML nor JSON: {error}") from error
    if not isinstance(document, dict):
        raise BadInputError(f"{name}: a policy is a table of keys")
    return document


def _number(value: Any, most: int = 0xFF) -> int:
    if isinstance(value, str):
        try:
            value = int(value, 0)
        except ValueError as error:
            raise BadInputError(f"{value!r} is no number") from error
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise BadInputError(f"{value!r} is no number from 0 to {most}")
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise BadInputError(f"{value!r} is neither true nor false")
    return value


def _list(value: Any) -> list[Any]:
    listed = value if isinstance(value, list) else [value]
    if not listed:
        raise BadInputError("an empty list accepts nothing", hint="leave the key out to demand nothing")
    return listed


def _digests(size: int) -> Callable[[Any], frozenset[bytes]]:
    """A reader of hex strings of one size; shorter ones are refused, unless the field is zero-padded by definition."""

    def one(value: Any) -> bytes:
        if not isinstance(value, str):
            raise BadInputError(f"{value!r} is no hex string")
        try:
            raw = bytes.fromhex(value.removeprefix("0x"))
        except ValueError as error:
            raise BadInputError(f"{value!r} is no hex string") from error
        if len(raw) != size:
            raise BadInputError(f"{value!r} has {len(raw)} bytes, not {size}")
        return raw

    return lambda value: frozenset(one(item) for item in _list(value))


def _words(known: tuple[str, ...]) -> Callable[[Any], frozenset[str]]:
    def read_words(value: Any) -> frozenset[str]:
        for item in _list(value):
            if item not in known:
                near = difflib.get_close_matches(str(item), known, 1)
                hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
                raise BadInputError(f"{item!r} is not known", hint=hint)
        return frozenset(_list(value))

    return read_words


def _texts(value: Any) -> frozenset[str]:
    if not all(isinstance(item, str) for item in _list(value)):
        raise BadInputError(f"{value!r} is no list of texts")
    return frozenset(_list(value))


def _version(parts: int) -> Callable[[Any], tuple[int, ...]]:
    def read_version(value: Any) -> tuple[int, ...]:
        pieces = str(value).split(".")
        if len(pieces) != parts or isinstance(value, float | bool):
            raise BadInputError(f"{value!r} is no version of {parts} numbers", hint='write it as a string: "1.55"')
        return tuple(_number(piece) for piece in pieces)

    return read_version


def _minimum(value: Any) -> dict[Product | None, Minimum]:
    """Components for every product, or tables of components by product."""
    if not isinstance(value, dict) or not value:
        raise BadInputError(f"{value!r} is no table", hint=f"components: {', '.join(COMPONENTS)}")
    general = {key: part for key, part in value.items() if not isinstance(part, dict)}
    found: dict[Product | None, Minimum] = {None: _components(general)} if general else {}
    for key, part in value.items():
        if isinstance(part, dict):
            found[products.named(key)] = _components(part)
    return found


def _components(table: Mapping[str, Any]) -> dict[str, int]:
    for key in table:
        if key not in COMPONENTS:
            raise BadInputError(f"unknown component {key!r}", hint=f"components: {', '.join(COMPONENTS)}")
    return {key: _number(part) for key, part in table.items()}


def _product_names(value: Any) -> frozenset[Product]:
    return frozenset(products.named(str(item)) for item in _list(value))


_POLICY_BITS = tuple(layout.POLICY_BITS)
_PLATFORM_BITS = tuple(layout.PLATFORM_BITS)
_U64 = (1 << 64) - 1
_READERS: dict[str, Callable[[Any], Any]] = {
    "minimum_tcb": _minimum,
    "minimum_committed_tcb": _minimum,
    "minimum_launch_tcb": _minimum,
    "measurements": _digests(48),
    "host_data": _digests(32),
    "report_data": _digests(64),
    "family_ids": _digests(16),
    "image_ids": _digests(16),
    "id_key_digests": _digests(48),
    "author_key_digests": _digests(48),
    "chip_ids": _digests(64),
    "products": _product_names,
    "signing_keys": _words(("vcek", "vlek")),
    "csp_ids": _texts,
    "vmpls": lambda value: frozenset(_number(item, 3) for item in _list(value)),
    "minimum_guest_svn": lambda value: _number(value, 0xFFFFFFFF),
    "minimum_report_version": lambda value: _number(value, max(layout.VERSIONS)),
    "minimum_abi": _version(2),
    "minimum_firmware": _version(3),
    "policy_required": _words(_POLICY_BITS),
    "policy_forbidden": _words(_POLICY_BITS),
    "platform_required": _words(_PLATFORM_BITS),
    "platform_forbidden": _words(_PLATFORM_BITS),
    "launch_mit_vector": lambda value: _number(value, _U64),
    "current_mit_vector": lambda value: _number(value, _U64),
    "require_crl": _flag,
    "require_runtime_data": _flag,
}
