"""Parse the 1184 bytes of a report: every field of every version. Pure."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sevkit.attestation.report import layout, products
from sevkit.attestation.report.layout import FIELDS, Kind, SigningKey
from sevkit.attestation.report.products import Product, TcbVersion
from sevkit.errors import BadInputError


@dataclass(frozen=True)
class Report:
    """An attestation report: its bytes, decoded. Nothing in it is verified.

    ``hint`` is the product in the certificate: reports of version 2 do not name theirs.
    """

    raw: bytes
    hint: Product | None = None

    def number(self, name: str) -> int:
        """A field as a number; 0 for one that this version does not have."""
        return int.from_bytes(self.bytes_of(name), "little")

    def bytes_of(self, name: str) -> bytes:
        """A field as bytes; empty for one that this version does not have."""
        field = FIELDS[name]
        if field.since > max(self.version, 2):
            return b""
        return self.raw[field.offset : field.offset + field.size]

    def tcb(self, name: str) -> TcbVersion:
        """A TCB version, in the layout of the product."""
        return TcbVersion.unpack(self.bytes_of(name), self.product or Product.MILAN)

    @cached_property
    def version(self) -> int:
        """The version of the report's format."""
        return int.from_bytes(self.raw[:4], "little")

    @property
    def known_version(self) -> bool:
        """Whether the format is one that this program knows."""
        return self.version in layout.VERSIONS

    @cached_property
    def signing_key(self) -> SigningKey:
        """The key that the report says it was signed with."""
        return layout.signing_key(self.number("key_info"))

    @cached_property
    def product(self) -> Product | None:
        """The product line: from CPUID since version 3, else from the certificate; None if unknown.

        A chip id has 8 bytes on Turin and 64 before it: this decides the layout of version 2 reports.
        """
        if self.version >= 3:
            found = products.from_cpuid(self.number("cpuid_family"), self.number("cpuid_model"))
            return found[0] if found else None
        if self.hint is not None:
            return self.hint
        chip_id = self.bytes_of("chip_id")
        return Product.TURIN if any(chip_id) and not any(chip_id[8:]) else None

    @property
    def part(self) -> str | None:
        """The part by CPUID: "Genoa", "Bergamo or Siena"."""
        found = products.from_cpuid(self.number("cpuid_family"), self.number("cpuid_model"))
        return found[1] if found and self.version >= 3 else None

    @property
    def signed_bytes(self) -> bytes:
        """The bytes that the signature covers."""
        return self.raw[: layout.SIGNED]

    @property
    def signature(self) -> tuple[int, int]:
        """R and S."""
        start = layout.SIGNED
        r = self.raw[start : start + layout.SCALAR]
        s = self.raw[start + layout.SCALAR : start + 2 * layout.SCALAR]
        return int.from_bytes(r, "little"), int.from_bytes(s, "little")

    def as_dict(self) -> dict[str, Any]:
        """All fields, JSON-ready: byte strings as hex, versions as text, bit fields by their names."""
        values: dict[str, Any] = {}
        for name, field in FIELDS.items():
            if field.since <= max(self.version, 2):
                values[name] = self._value(name, field.kind)
        policy, platform, key_info = (self.number(name) for name in ("policy", "platform_info", "key_info"))
        values["policy"] = {
            "value": f"{policy:#x}",
            "abi_minor": policy & 0xFF,
            "abi_major": policy >> 8 & 0xFF,
            **layout.bits(policy, layout.POLICY_BITS),
        }
        values["platform_info"] = {"value": f"{platform:#x}", **layout.bits(platform, layout.PLATFORM_BITS)}
        values["key_info"] = {
            "value": f"{key_info:#x}",
            "author_key_en": bool(key_info & layout.AUTHOR_KEY_EN),
            "mask_chip_key": bool(key_info & layout.MASK_CHIP_KEY),
            "signing_key": self.signing_key.value,
        }
        r, s = self.signature
        values |= {"product": self.product, "part": self.part, "signature": {"r": f"{r:#x}", "s": f"{s:#x}"}}
        return values

    def _value(self, name: str, kind: Kind) -> Any:
        if kind is Kind.NUMBER:
            return self.number(name)
        if kind is Kind.VERSION:
            build, minor, major = self.bytes_of(name)
            return f"{major}.{minor}.{build}"
        if kind is Kind.TCB and self.product is not None:
            return {"value": self.bytes_of(name).hex(), **self.tcb(name).components()}
        return self.bytes_of(name).hex()


def parse(data: bytes, hint: Product | None = None) -> Report:
    """A report from exactly 1184 bytes; raises BadInputError for another size, or if it is not a report."""
    if len(data) != layout.SIZE:
        raise BadInputError(f"an attestation report has {layout.SIZE} bytes, not {len(data)}")
    if not any(data):
        raise BadInputError("the report is all zeros", hint="the request for it failed; ask the guest's firmware again")
    return Report(bytes(data), hint)
