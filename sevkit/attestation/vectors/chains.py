"""Vectors with a genuine report and a single error in the certificates."""

import datetime as dt
from collections.abc import Iterator
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from sevkit.attestation.report import products
from sevkit.attestation.report.certificates import AMD
from sevkit.attestation.report.products import Product
from sevkit.attestation.vectors import authority as ca
from sevkit.attestation.vectors.authority import Issuer, Template, issue
from sevkit.attestation.vectors.bench import Bench, Vector


def of_chip(bench: Bench) -> Iterator[Vector]:
    """Errors in the chip's certificate: one wrong extension each, issued correctly."""
    chip, good = bench.chip, bench.chip.report(5)

    def with_vcek(name: str, about: str, check: str, by: Issuer | None = None, **changes: Any) -> Vector:
        certificate = ca.der(chip.vcek_certificate(by, **changes))
        return bench.vector(name, about, good, check=check, certificates={**bench.good(), "vcek.der": certificate})

    for component, oid in {"bootloader": "3.1", "tee": "3.2", "snp": "3.3", "microcode": "3.8"}.items():
        for step in (-1, 1):
            value = getattr(chip.tcb, component) + step
            yield with_vcek(
                f"vcek-{component}{step:+}",
                "another TCB",
                "certificate.tcb",
                extensions={f"{AMD}.{oid}": ca.integer(value)},
            )
        yield with_vcek(
            f"vcek-no-{component}",
            "an extension is missing",
            "certificate.extensions",
            drop=frozenset({f"{AMD}.{oid}"}),
        )
    for name, raw in {
        "empty": b"",
        "octets": b"\x04\x01\x04",
        "long": b"\x02\x02\x01\x00",
        "negative": b"\x02\x01\xff",
        "padded": b"\x02\x02\x00\x04",
        "trailing": b"\x02\x01\x04\x00",
    }.items():
        yield with_vcek(
            f"vcek-der-{name}", "a malformed number", "certificate.extensions", extensions={f"{AMD}.3.1": raw}
        )
    yield with_vcek("vcek-no-product", "no product name", "certificate.extensions", drop=frozenset({f"{AMD}.2"}))
    yield with_vcek(
        "vcek-bad-product", "an unknown product", "certificate.extensions", extensions={f"{AMD}.2": ca.text("Naples")}
    )
    other = Product.GENOA if bench.product is Product.MILAN else Product.MILAN
    yield with_vcek(
        "vcek-other-product", "another product", "certificate.product", extensions={f"{AMD}.2": ca.text(other)}
    )
    wrong_id = bytes(255 - byte for byte in chip.chip_id[: products.CHIP_ID_SIZES[bench.product]])
    yield with_vcek("vcek-other-chip", "another chip", "certificate.chip", extensions={f"{AMD}.4": wrong_id})
    yield with_vcek("vcek-no-chip", "no chip id", "certificate.chip", drop=frozenset({f"{AMD}.4"}))
    yield with_vcek(
        "vcek-and-provider", "a chip and a provider", "certificate.owner", extensions={f"{AMD}.5": ca.text("x")}
    )
    yield bench.vector(
        "vcek-for-vlek", "a VCEK where the report says VLEK", chip.report(5, key_info=4), check="certificate.kind"
    )
    vlek_as_vcek = chip.report(5, vlek=True, key_info=0)
    yield bench.vector(
        "vlek-for-vcek", "a VLEK where the report says VCEK", vlek_as_vcek, check=None, certificates=bench.good_vlek()
    )
    for curve in (ec.SECP256R1(), ec.SECP521R1()):
        key = ec.generate_private_key(curve)
        certificate = issue(chip.vcek_template(), key.public_key(), bench.authority.ask)
        yield bench.vector(
            f"curve-{curve.name}",
            "another curve",
            good,
            check="signature.valid",
            certificates={**bench.good(), "vcek.der": ca.der(certificate)},
        )


def of_issuers(bench: Bench) -> Iterator[Vector]:
    """Issuers, validity, roots, revocation."""
    chip, good, own = bench.chip, bench.chip.report(5), bench.authority
    past, future = ca.NOW - dt.timedelta(days=1), ca.NOW + dt.timedelta(days=1)

    def chained(name: str, about: str, check: str, *chain: Any, vcek: Any = None, **more: Any) -> Vector:
        files = {**bench.good(), "cert_chain.pem": ca.pem(*chain) if chain else bench.chain}
        files["vcek.der"] = ca.der(vcek) if vcek is not None else bench.vcek
        return bench.vector(name, about, good, check=check, certificates={**files, **more})

    yield chained("vcek-expired", "the VCEK expired", "chain.validity", vcek=chip.vcek_certificate(end=past))
    yield chained("vcek-early", "the VCEK is not yet valid", "chain.validity", vcek=chip.vcek_certificate(start=future))
    yield chained(
        "vcek-sha256",
        "the VCEK is signed with SHA-256",
        "chain.algorithm",
        vcek=chip.vcek_certificate(digest=hashes.SHA256()),
    )
    yield chained(
        "vcek-authority", "the VCEK is an authority", "chain.authority", vcek=chip.vcek_certificate(authority=True)
    )
    forged = Issuer(own.ask.certificate, own.stranger.key)
    yield chained(
        "vcek-forged", "the VCEK is signed by another key", "chain.signature", vcek=chip.vcek_certificate(forged)
    )
    by_asvk = chip.vcek_certificate(own.asvk)
    yield chained(
        "vcek-by-asvk",
        "the VCEK is issued by the ASVK",
        "chain.signature",
        own.asvk.certificate,
        own.ark.certificate,
        vcek=by_asvk,
    )
    asks = {
        "expired": (Template(f"SEV-{bench.product}", authority=True, end=past), "chain.validity"),
        "early": (Template(f"SEV-{bench.product}", authority=True, start=future), "chain.validity"),
        "not-ca": (Template(f"SEV-{bench.product}", authority=False), "chain.authority"),
        "no-constraints": (Template(f"SEV-{bench.product}"), "chain.authority"),
        "sha256": (Template(f"SEV-{bench.product}", authority=True, digest=hashes.SHA256()), "chain.algorithm"),
    }
    for name, (template, check) in asks.items():
        ask = issue(template, own.ask.key.public_key(), own.ark)
        yield chained(f"ask-{name}", f"the ASK: {name}", check, ask, own.ark.certificate)
    ask = issue(
        asks["expired"][0].__class__(f"SEV-{bench.product}", authority=True),
        own.ask.key.public_key(),
        Issuer(own.ark.certificate, own.stranger.key),
    )
    yield chained("ask-forged", "the ASK is not signed by the ARK", "chain.signature", ask, own.ark.certificate)
    yield chained(
        "root-stranger",
        "a root of somebody else's with the same name",
        "chain.root",
        own.strange_ask.certificate,
        own.stranger.certificate,
        **{"crl.der": own.crl(by=own.stranger)},
    )
    cyclic = issue(
        Template(f"SEV-{bench.product}", authority=True),
        own.ask.key.public_key(),
        Issuer(own.ask.certificate, own.ask.key),
    )
    yield chained("cycle", "the ASK issued itself", "chain.signature", cyclic)
    yield chained("ask-revoked", "the ASK is revoked", "chain.revocation", **{"crl.der": own.crl(1)})
