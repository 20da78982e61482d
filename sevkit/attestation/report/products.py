"""Products: the EPYC that a report is from, and the layout of its TCB version. Pure.

Sources: SEV-SNP firmware ABI (56860), TCB_VERSION and ATTESTATION_REPORT (CPUID_FAM_ID, CPUID_MOD_ID); VCEK
certificate and KDS interface specification (57230), section 3.1. Family and model of Venice: virtee/sev, src/lib.rs.
"""

from dataclasses import dataclass, fields
from enum import StrEnum

from sevkit.errors import BadInputError


class Product(StrEnum):
    """A product line as the KDS names it: Bergamo and Siena have the certificates of Genoa."""

    MILAN = "Milan"
    GENOA = "Genoa"
    TURIN = "Turin"
    VENICE = "Venice"


# (family, first model, last model, product line, name of the part)
MODELS = (
    (0x19, 0x00, 0x0F, Product.MILAN, "Milan"),
    (0x19, 0x10, 0x1F, Product.GENOA, "Genoa"),
    (0x19, 0xA0, 0xAF, Product.GENOA, "Bergamo or Siena"),
    (0x1A, 0x00, 0x0F, Product.TURIN, "Turin"),
    (0x1A, 0x10, 0x1F, Product.TURIN, "Turin Dense"),
    (0x1A, 0x50, 0x57, Product.VENICE, "Venice"),
    (0x1A, 0x90, 0x9F, Product.VENICE, "Venice"),
    (0x1A, 0xA0, 0xAF, Product.VENICE, "Venice"),
    (0x1A, 0xC0, 0xC7, Product.VENICE, "Venice"),
)

# Component -> byte of TCB_VERSION. Turin puts the FMC first; Venice is known to follow Turin (virtee/sev).
_MILAN_LAYOUT = {"bootloader": 0, "tee": 1, "snp": 6, "microcode": 7}
_TURIN_LAYOUT = {"fmc": 0, "bootloader": 1, "tee": 2, "snp": 3, "microcode": 7}
LAYOUTS = {
    Product.MILAN: _MILAN_LAYOUT,
    Product.GENOA: _MILAN_LAYOUT,
    Product.TURIN: _TURIN_LAYOUT,
    Product.VENICE: _TURIN_LAYOUT,
}
CHIP_ID_SIZES = {Product.MILAN: 64, Product.GENOA: 64, Product.TURIN: 8, Product.VENICE: 8}


@dataclass(frozen=True)
class TcbVersion:
    """Security version numbers, each 0 to 255. ``fmc`` is None on products without it."""

    bootloader: int
    tee: int
    snp: int
    microcode: int
    fmc: int | None = None

    @classmethod
    def unpack(cls, raw: bytes, product: Product) -> "TcbVersion":
        """From the 8 bytes of TCB_VERSION."""
        return cls(**{name: raw[at] for name, at in LAYOUTS[product].items()})

    def pack(self, product: Product) -> bytes:
        """The 8 bytes of TCB_VERSION."""
        raw = bytearray(8)
        for name, at in LAYOUTS[product].items():
            raw[at] = getattr(self, name) or 0
        return bytes(raw)

    def below(self, floor: "TcbVersion") -> list[str]:
        """The components that are lower than in ``floor``."""
        return [name for name, value in floor.components().items() if (getattr(self, name) or 0) < value]

    def components(self) -> dict[str, int]:
        """The components of this product, by name."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    def __str__(self) -> str:
        return " ".join(f"{name} {value}" for name, value in self.components().items())


COMPONENTS = tuple(item.name for item in fields(TcbVersion))


def reserved_tcb_bytes(product: Product) -> tuple[int, ...]:
    """The bytes of TCB_VERSION that must be zero."""
    return tuple(sorted(set(range(8)) - set(LAYOUTS[product].values())))


def from_cpuid(family: int, model: int) -> tuple[Product, str] | None:
    """Product line and part of a family and model; None for an unknown processor."""
    for known_family, first, last, product, part in MODELS:
        if family == known_family and first <= model <= last:
            return product, part
    return None


def named(text: str) -> Product:
    """The product line of a name in a certificate ("Milan-B0", "Genoa"); raises BadInputError."""
    try:
        return Product(text.partition("-")[0])
    except ValueError as error:
        known = ", ".join(Product)
        raise BadInputError(f"unknown product {text!r}", hint=f"known: {known}") from error
