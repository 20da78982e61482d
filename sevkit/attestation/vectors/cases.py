"""The vectors: valid ones, and ones with a single error each, signed again unless the signature is the error.

Each wrong vector names the check that must detect it. Many cheap vectors need only a signature check: a flipped bit
in each byte of a report. The others are signed correctly: a verifier without the one named check accepts them.
"""

import hashlib
import struct
from collections.abc import Iterator

from sevkit.attestation.report import layout, products
from sevkit.attestation.report.finding import Trust
from sevkit.attestation.report.products import Product
from sevkit.attestation.vectors import chains, policies
from sevkit.attestation.vectors.authority import Keys
from sevkit.attestation.vectors.bench import Bench, Vector
from sevkit.attestation.vectors.platform import make_chip, with_scalars

PRODUCTS = (Product.MILAN, Product.GENOA, Product.TURIN)
_ORDER = int("FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973", 16)
_ACCEPTED, _REJECTED = Trust.ACCEPTED, Trust.REJECTED


def vectors(keys: Keys, product_lines: tuple[Product, ...] = PRODUCTS) -> Iterator[Vector]:
    """All vectors, in a fixed order."""
    for product in product_lines:
        bench = Bench(product, keys)
        for make in (
            _valid,
            _flips,
            _signatures,
            _fields,
            _bits,
            _reserved,
            chains.of_chip,
            chains.of_issuers,
            policies.demands,
            policies.missing,
        ):
            yield from make(bench)


def versions(product: Product) -> tuple[int, ...]:
    """The report versions that the firmware of a product produces."""
    return layout.VERSIONS if product is not Product.TURIN else layout.VERSIONS[1:]


def _valid(bench: Bench) -> Iterator[Vector]:
    chip = bench.chip
    for version in versions(bench.product):
        yield bench.vector(f"valid-v{version}", "as firmware signs it", chip.report(version), verdict=_ACCEPTED)
        report = chip.report(version, vlek=True)
        good = bench.good_vlek()
        yield bench.vector(f"valid-vlek-v{version}", "VLEK", report, verdict=_ACCEPTED, certificates=good)
    masked = chip.report(5, chip_id=bytes(64))
    yield bench.vector("valid-masked", "the chip id is masked", masked, verdict=_ACCEPTED)
    old = _tcb(bench, snp=20)
    yield bench.vector(
        "valid-launch-old", "launched under an older TCB", chip.report(5, launch_tcb=old), verdict=_ACCEPTED
    )
    for name, bit in layout.POLICY_BITS.items():
        report = chip.report(5, policy=0x30000 | 1 << bit)
        yield bench.vector(f"valid-policy-{name}", "a known policy bit", report, verdict=_ACCEPTED)
    for name, bit in layout.PLATFORM_BITS.items():
        report = chip.report(5, platform_info=1 << bit)
        yield bench.vector(f"valid-platform-{name}", "a known platform bit", report, verdict=_ACCEPTED)
    hypervisor = chip.report(5, vmpl=0xFFFFFFFF)
    yield bench.vector("valid-host-request", "asked for by the host", hypervisor, verdict=_ACCEPTED)


def _tcb(bench: Bench, **changes: int) -> bytes:
    values = {**bench.chip.tcb.components(), **changes}
    return products.TcbVersion(**values).pack(bench.product)


def _flips(bench: Bench) -> Iterator[Vector]:
    """Flip one bit in each byte of the signed part and of the signature."""
    good = bench.chip.report(versions(bench.product)[-1])
    for at in range(layout.SIGNED + 2 * 48):
        where = at if at < layout.SIGNED + 48 else at - 48 + layout.SCALAR
        wrong = bytearray(good)
        wrong[where] ^= 1 << where % 8
        yield bench.vector(f"flip-{where:03x}", f"bit flipped at {where:#x}", bytes(wrong), check="signature.valid")


def _signatures(bench: Bench) -> Iterator[Vector]:
    body = bytes(bench.chip.body(5))
    good = bench.chip.sign(body)
    r, s = (
        int.from_bytes(good[at : at + layout.SCALAR], "little") for at in (layout.SIGNED, layout.SIGNED + layout.SCALAR)
    )
    scalars = {
        "r-0": (0, s), "s-0": (r, 0), "both-0": (0, 0), "r-order": (_ORDER, s), "s-order": (r, _ORDER),
        "r-plus-order": (r + _ORDER, s), "s-plus-order": (r, s + _ORDER), "r-1": (1, s), "s-1": (r, 1),
        "swapped": (s, r), "r-huge": ((1 << 575) - 1, s), "s-huge": (r, (1 << 575) - 1), "ones": (1, 1),
    }  # fmt: skip
    for name, (first, second) in scalars.items():
        report = with_scalars(body, first, second)
        yield bench.vector(f"signature-{name}", "scalars out of range or wrong", report, check="signature.valid")
    big_endian = body + r.to_bytes(72, "big") + s.to_bytes(72, "big")
    yield bench.vector(
        "signature-big-endian", "R and S big-endian", big_endian.ljust(layout.SIZE, b"\0"), check="signature.valid"
    )
    other = make_chip(bench.authority)
    yield bench.vector("signature-other-key", "another chip's key", other.sign(body), check="signature.valid")
    algorithms = (0, 2, 3, 0xFFFFFFFF)
    for value in algorithms:
        report = bench.chip.report(5, signature_algo=value)
        yield bench.vector(f"algorithm-{value:x}", "another signature algorithm", report, check="signature.algorithm")
    unsigned = bench.chip.report(5, key_info=layout.MASK_CHIP_KEY)
    yield bench.vector("mask-chip-key", "the firmware was told not to sign", unsigned, check="signature.signed")
    nobody = bench.chip.report(5, key_info=7 << 2)
    yield bench.vector("signing-key-none", "no signing key", nobody, check="signature.signed")


def _fields(bench: Bench) -> Iterator[Vector]:
    chip = bench.chip
    for version in (0, 1, 6, 7, 0xFF, 0xFFFFFFFF):
        yield bench.vector(f"version-{version:x}", "an unknown version", chip.report(version), check="report.version")
    for family, model in ((0x17, 0x31), (0x19, 0x20), (0x19, 0x61), (0x1A, 0x24), (0x1A, 0x44), (0, 0)):
        report = chip.report(5, cpuid_family=family, cpuid_model=model)
        yield bench.vector(f"cpuid-{family:x}-{model:x}", "no EPYC with SNP", report, check="report.product")
    for vmpl in (4, 5, 0xFF, 0xFFFFFFFE):
        yield bench.vector(f"vmpl-{vmpl:x}", "no such VMPL", chip.report(5, vmpl=vmpl), check="report.vmpl")
    for key in (2, 3, 4, 5, 6):
        report = chip.report(5, key_info=key << 2)
        yield bench.vector(f"signing-key-{key}", "a reserved signing key", report, check="report.key_info")
    author = chip.report(5, author_key_digest=b"\1" * 48)
    yield bench.vector("author-key", "an author key that is said not to be there", author, check="report.author_key")
    for name in bench.chip.tcb.components():
        high = _tcb(bench, **{name: 255})
        report = chip.report(5, committed_tcb=high)
        yield bench.vector(f"committed-above-{name}", "committed above current", report, check="report.tcb_order")
    for name, triple in {"": (8, 55, 1), "-minor": (0, 56, 1), "-major": (0, 0, 2)}.items():
        newer = chip.report(5, committed_version=bytes(triple))
        yield bench.vector(
            f"committed-version{name}", "committed above current version", newer, check="report.version_order"
        )
    yield from _runtime(bench)


def _runtime(bench: Bench) -> Iterator[Vector]:
    """Azure's blob: with runtime data whose hash is in REPORT_DATA, or is not."""
    data = b'{"keys":[]}'
    for name, digest, verdict in (
        ("bound", hashlib.sha256(data).digest().ljust(64, b"\0"), _ACCEPTED),
        ("not-bound", hashlib.sha256(data + b" ").digest().ljust(64, b"\0"), _REJECTED),
        ("bound-tail", hashlib.sha256(data).digest() + b"\1" * 32, _REJECTED),
    ):
        report = bench.chip.report(5, report_data=digest)
        blob = struct.pack("<4sIII16s", b"HCLA", 1, 0, 2, bytes(16)) + report
        blob += struct.pack("<5I", 20 + len(data), 1, 2, 1, len(data)) + data
        check = None if verdict is _ACCEPTED else "report.runtime_data"
        yield bench.vector(f"azure-{name}", "runtime data in an HCL blob", blob, verdict=verdict, check=check)


def _bits(bench: Bench) -> Iterator[Vector]:
    chip = bench.chip
    for bit in range(26, 64):
        report = chip.report(5, policy=0x30000 | 1 << bit)
        yield bench.vector(f"policy-bit-{bit}", "a reserved policy bit", report, check="report.policy")
    yield bench.vector("policy-bit-17", "bit 17 must be one", chip.report(5, policy=0x10000), check="report.policy")
    for bit in range(8, 64):
        report = chip.report(5, platform_info=0x25 | 1 << bit)
        yield bench.vector(f"platform-bit-{bit}", "a reserved platform bit", report, check="report.platform_info")
    for bit in range(5, 32):
        report = chip.report(5, key_info=1 << bit)
        yield bench.vector(f"key-info-bit-{bit}", "a reserved KEY_INFO bit", report, check="report.key_info")


def _reserved(bench: Bench) -> Iterator[Vector]:
    """Set reserved bytes and sign the report again."""
    for version in versions(bench.product):
        for start, end in layout.reserved_ranges(version):
            for at in sorted({start, end - 1, *range(start, end, 8)}):
                yield bench.vector(
                    f"reserved-v{version}-{at:03x}",
                    f"reserved byte {at:#x}",
                    _with(bench, version, at),
                    check="report.reserved",
                )
    for name in ("current_tcb", "committed_tcb", "launch_tcb", "reported_tcb"):
        for at in products.reserved_tcb_bytes(bench.product):
            where = layout.FIELDS[name].offset + at
            yield bench.vector(
                f"reserved-{name}-{at}", "a reserved TCB byte", _with(bench, 5, where), check="report.reserved_tcb"
            )


def _with(bench: Bench, version: int, at: int) -> bytes:
    body = bench.chip.body(version)
    if at < len(body):
        body[at] = 1
        return bench.chip.sign(bytes(body))
    report = bytearray(bench.chip.sign(bytes(body)))
    report[at] = 1
    return bytes(report)
