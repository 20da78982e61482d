"""A key distribution service for tests, with one chip of each product."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from sevkit.attestation.report.products import Product
from sevkit.attestation.vectors import kds
from sevkit.attestation.vectors.authority import make_keys
from sevkit.attestation.vectors.bench import Bench

_BITS = 2048  # bits of the RSA keys: shorter than AMD's, so that they are generated faster


@dataclass(frozen=True)
class FakeKds:
    """``address`` is its URL, ``asked`` the requested paths, ``chips`` the chips that sign reports, by product."""

    address: str
    asked: list[str]
    chips: Mapping[Product, Bench]


@contextmanager
def serving() -> Iterator[FakeKds]:
    """Serve on loopback while the block runs."""
    keys = make_keys(_BITS)
    service = kds.Service(Bench(product, keys) for product in (Product.MILAN, Product.GENOA, Product.TURIN))
    with kds.serving(service) as address:
        yield FakeKds(address, service.asked, service.benches)
