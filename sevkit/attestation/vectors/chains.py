"""Vectors with a genuine report and a single error in the certificates."""

import datetime as dt
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from sevkit.attestation.report import products
from sevkit.attestation.report.certificates import AMD
from sevkit.attestation.report.products import Product
from sevkit.attestation.vectors import authority as ca
from sevkit.attestation.vectors.authority import Issuer, Template, issue
from sevkit.attestation.vectors.bench import Bench, Vector


def of_chip(bench: Bench) -> Iterator[Vector]:
    """Errors in the chip's certificate: one wrong extension each, issued correctly; the wrong kind of certificate."""
    yield from _of_versions(bench)
    yield from _of_identity(bench)
    yield from _of_kinds(bench)
    yield from _of_curves(bench)


def _with_vcek(bench: Bench, name: str, about: str, check: str, **changes: Any) -> Vector:
    """A genuine report beside a chip certificate with some changes."""
    certificate = ca.der(bench.chip.vcek_certificate(**changes))
    files = {**bench.good(), "vcek.der": certificate}
    return bench.vector(name, about, bench.chip.report(5), check=check, certificates=files)


def _of_versions(bench: Bench) -> Iterator[Vector]:
    """The TCB in the certificate: another one, a missing one, and numbers that are not DER."""
    for component, oid in {"bootloader": "3.1", "tee": "3.2", "snp": "3.3", "microcode": "3.8"}.items():
        yield _reported_above(bench, component, oid)
        for step in (-1, 1):
            value = getattr(bench.chip.tcb, component) + step
            yield _with_vcek(
                bench,
                f"vcek-{component}{step:+}",
                "another TCB",
                "certificate.tcb",
                extensions={f"{AMD}.{oid}": ca.integer(value)},
            )
        yield _with_vcek(
            bench,
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
        "short": b"\x02\x00\x04",
    }.items():
        yield _with_vcek(
            bench, f"vcek-der-{name}", "a malformed number", "certificate.extensions", extensions={f"{AMD}.3.1": raw}
        )


def _reported_above(bench: Bench, component: str, oid: str) -> Vector:
    """A reported TCB above the committed one, beside the certificate of that TCB: only the order is wrong."""
    high = replace(bench.chip.tcb, **{component: 255})
    certificate = ca.der(bench.chip.vcek_certificate(extensions={f"{AMD}.{oid}": ca.integer(255)}))
    return bench.vector(
        f"reported-above-{component}",
        "reported above committed",
        bench.chip.report(5, reported_tcb=high.pack(bench.product)),
        check="report.tcb_order",
        certificates={**bench.good(), "vcek.der": certificate},
    )


def _of_identity(bench: Bench) -> Iterator[Vector]:
    """The product and the chip that the certificate names."""
    yield _with_vcek(
        bench, "vcek-no-product", "no product name", "certificate.extensions", drop=frozenset({f"{AMD}.2"})
    )
    yield _with_vcek(
        bench,
        "vcek-bad-product",
        "an unknown product",
        "certificate.extensions",
        extensions={f"{AMD}.2": ca.text("Naples")},
    )
    other = Product.GENOA if bench.product is Product.MILAN else Product.MILAN
    yield _with_vcek(
        bench, "vcek-other-product", "another product", "certificate.product", extensions={f"{AMD}.2": ca.text(other)}
    )
    wrong_id = bytes(255 - byte for byte in bench.chip.chip_id[: products.CHIP_ID_SIZES[bench.product]])
    yield _with_vcek(bench, "vcek-other-chip", "another chip", "certificate.chip", extensions={f"{AMD}.4": wrong_id})
    long = bench.chip.chip_id[:8] if len(wrong_id) == 64 else bench.chip.chip_id
    for name, report in {
        "": bench.chip.report(5, chip_id=long),
        "-masked": bench.chip.report(5, chip_id=bytes(64)),
    }.items():
        yield bench.vector(
            f"vcek-chip-size{name}",
            "a chip id of another product's size",
            report,
            check="certificate.chip",
            certificates={
                **bench.good(),
                "vcek.der": ca.der(bench.chip.vcek_certificate(extensions={f"{AMD}.4": long})),
            },
        )
    tail = bytes([*bench.chip.chip_id[:-1], bench.chip.chip_id[-1] ^ 1])
    yield bench.vector(
        "chip-id-tail", "another last byte of the chip id", bench.chip.report(5, chip_id=tail), check="certificate.chip"
    )
    yield _with_vcek(bench, "vcek-no-chip", "no chip id", "certificate.chip", drop=frozenset({f"{AMD}.4"}))
    yield _with_vcek(
        bench, "vcek-and-provider", "a chip and a provider", "certificate.owner", extensions={f"{AMD}.5": ca.text("x")}
    )


def _of_kinds(bench: Bench) -> Iterator[Vector]:
    """A VCEK where the report names a VLEK, and the other way round."""
    yield bench.vector(
        "vcek-for-vlek", "a VCEK where the report says VLEK", bench.chip.report(5, key_info=4), check="certificate.kind"
    )
    vlek_as_vcek = bench.chip.report(5, vlek=True, key_info=0)
    yield bench.vector(
        "vlek-for-vcek", "a VLEK where the report says VCEK", vlek_as_vcek, check=None, certificates=bench.good_vlek()
    )


def _of_curves(bench: Bench) -> Iterator[Vector]:
    """Keys on other curves than P-384."""
    for curve in (ec.SECP256R1(), ec.SECP521R1()):
        key = ec.generate_private_key(curve)
        certificate = issue(bench.chip.vcek_template(), key.public_key(), bench.authority.ask)
        yield bench.vector(
            f"curve-{curve.name}",
            "another curve",
            bench.chip.report(5),
            check="signature.valid",
            certificates={**bench.good(), "vcek.der": ca.der(certificate)},
        )


def of_issuers(bench: Bench) -> Iterator[Vector]:
    """Issuers, validity, roots, revocation."""
    yield from _of_the_vceks_issue(bench)
    yield from _of_asks(bench)
    yield from _of_asks_forged(bench)
    yield from _of_roots(bench)


def _chained(bench: Bench, name: str, about: str, check: str, *chain: Any, vcek: Any = None, **more: Any) -> Vector:
    """A genuine report beside another chain or another chip certificate."""
    files = {**bench.good(), "cert_chain.pem": ca.pem(*chain) if chain else bench.chain}
    files["vcek.der"] = ca.der(vcek) if vcek is not None else bench.vcek
    return bench.vector(name, about, bench.chip.report(5), check=check, certificates={**files, **more})


def _of_the_vceks_issue(bench: Bench) -> Iterator[Vector]:
    """A chip certificate that is out of its time, signed wrongly, or by the wrong authority."""
    chip, own = bench.chip, bench.authority
    past, future = ca.NOW - dt.timedelta(days=1), ca.NOW + dt.timedelta(days=1)
    yield _chained(bench, "vcek-expired", "the VCEK expired", "chain.validity", vcek=chip.vcek_certificate(end=past))
    yield _chained(
        bench, "vcek-early", "the VCEK is not yet valid", "chain.validity", vcek=chip.vcek_certificate(start=future)
    )
    yield _chained(
        bench,
        "vcek-sha256",
        "the VCEK is signed with SHA-256",
        "chain.algorithm",
        vcek=chip.vcek_certificate(digest=hashes.SHA256()),
    )
    yield _chained(
        bench,
        "vcek-authority",
        "the VCEK is an authority",
        "chain.authority",
        vcek=chip.vcek_certificate(authority=True),
    )
    forged = Issuer(own.ask.certificate, own.stranger.key)
    yield _chained(
        bench, "vcek-forged", "the VCEK is signed by another key", "chain.signature", vcek=chip.vcek_certificate(forged)
    )
    by_asvk = chip.vcek_certificate(own.asvk)
    yield _chained(
        bench,
        "vcek-by-asvk",
        "the VCEK is issued by the ASVK",
        "chain.signature",
        own.asvk.certificate,
        own.ark.certificate,
        vcek=by_asvk,
    )
    other = Product.GENOA if bench.product is Product.MILAN else Product.MILAN
    foreign = issue(Template(f"SEV-{other}", authority=True), own.ask.key.public_key(), own.ark)
    yield _chained(
        bench,
        "vcek-by-other-ask",
        "the VCEK is issued by another product's ASK",
        "certificate.product",
        foreign,
        own.ark.certificate,
        vcek=chip.vcek_certificate(Issuer(foreign, own.ask.key)),
    )


def _of_asks(bench: Bench) -> Iterator[Vector]:
    """Issuers of the chip certificate that may not issue it."""
    own = bench.authority
    past, future = ca.NOW - dt.timedelta(days=1), ca.NOW + dt.timedelta(days=1)
    asks = {
        "expired": (Template(f"SEV-{bench.product}", authority=True, end=past), "chain.validity"),
        "early": (Template(f"SEV-{bench.product}", authority=True, start=future), "chain.validity"),
        "not-ca": (Template(f"SEV-{bench.product}", authority=False), "chain.authority"),
        "no-constraints": (Template(f"SEV-{bench.product}"), "chain.authority"),
        "sha256": (Template(f"SEV-{bench.product}", authority=True, digest=hashes.SHA256()), "chain.algorithm"),
    }
    for name, (template, check) in asks.items():
        ask = issue(template, own.ask.key.public_key(), own.ark)
        yield _chained(bench, f"ask-{name}", f"the ASK: {name}", check, ask, own.ark.certificate)
    short = rsa.generate_private_key(65537, 1024)  # noqa: S505 - the error of this vector
    ask = issue(Template(f"SEV-{bench.product}", authority=True), short.public_key(), own.ark)
    vcek = bench.chip.vcek_certificate(Issuer(ask, short))
    about = "the ASK has an RSA key of 1024 bits"
    yield _chained(bench, "ask-short", about, "chain.algorithm", ask, own.ark.certificate, vcek=vcek)


def _of_asks_forged(bench: Bench) -> Iterator[Vector]:
    """An ASK that another root's key signed."""
    own = bench.authority
    ask = issue(
        Template(f"SEV-{bench.product}", authority=True),
        own.ask.key.public_key(),
        Issuer(own.ark.certificate, own.stranger.key),
    )
    yield _chained(bench, "ask-forged", "the ASK is not signed by the ARK", "chain.signature", ask, own.ark.certificate)


def _of_roots(bench: Bench) -> Iterator[Vector]:
    """Roots of others, an ASK that issued itself, and a revoked one."""
    own = bench.authority
    yield _chained(
        bench,
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
    yield _chained(bench, "cycle", "the ASK issued itself", "chain.signature", cyclic)
    yield _chained(bench, "ask-revoked", "the ASK is revoked", "chain.revocation", **{"crl.der": own.crl(1)})
