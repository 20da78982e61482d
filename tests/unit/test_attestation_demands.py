"""Each demand of a policy is compared with its own field, at its own limit: all other fields say the opposite."""

from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevkit.attestation.report import layout
from sevkit.attestation.report.certificates import store_of
from sevkit.attestation.report.demands import DEMANDS
from sevkit.attestation.report.evidence import Evidence
from sevkit.attestation.report.policy import Policy
from sevkit.attestation.report.products import COMPONENTS, Product, TcbVersion
from sevkit.attestation.report.verify import Verifier, setting
from sevkit.attestation.vectors import authority as ca
from sevkit.attestation.vectors.platform import Chip, make_chip

VALUES = {
    "measurements": "measurement",
    "host_data": "host_data",
    "report_data": "report_data",
    "family_ids": "family_id",
    "image_ids": "image_id",
    "id_key_digests": "id_key_digest",
    "author_key_digests": "author_key_digest",
    "chip_ids": "chip_id",
}
FLOORS = {
    "minimum_tcb": "reported_tcb",
    "minimum_committed_tcb": "committed_tcb",
    "minimum_launch_tcb": "launch_tcb",
}
TCBS = ("current_tcb", *FLOORS.values())
LINES = (Product.MILAN, Product.TURIN)


@cache
def chip(product: Product) -> Chip:
    return make_chip(_keys().authority(product))


@cache
def _keys() -> ca.Keys:
    return ca.make_keys(2048)


def met(policy: Policy, product: Product = Product.MILAN, /, version: Any = 5, **fields: Any) -> bool:
    """Whether a report with these fields meets a policy, whoever signed it."""
    where = setting(store_of({}), policy=policy, now=ca.NOW, amd=False)
    found = Verifier(where, DEMANDS).verify(Evidence(chip(product).report(version, **fields), "raw"))
    return not any(item.status == "fail" for item in found.findings)


@pytest.mark.parametrize("demand", VALUES)
def test_a_value_is_compared_with_its_own_field(demand: str) -> None:
    own, other = b"\xa5" * 64, b"\x5a" * 64
    sizes = {name: layout.FIELDS[name].size for name in VALUES.values()}
    size = sizes[VALUES[demand]]
    # A demand for zeros is one too: a report of a launch without an ID block has no key digest.
    for wanted, wrong in ((own, other), (other, own), (bytes(64), own), (own, bytes(64))):
        policy = Policy(**{demand: frozenset({wanted[:size]})})  # type: ignore[arg-type]
        right = {name: wrong[:length] for name, length in sizes.items()} | {VALUES[demand]: wanted[:size]}
        swapped = {name: wanted[:length] for name, length in sizes.items()} | {VALUES[demand]: wrong[:size]}
        assert met(policy, **right)
        assert not met(policy, **swapped)
        assert not met(policy, **{VALUES[demand]: wanted[: size - 1] + bytes([wanted[0] ^ 1])})


@given(
    product=st.sampled_from(LINES),
    demand=st.sampled_from(list(FLOORS)),
    component=st.sampled_from(COMPONENTS),
    floor=st.integers(1, 255),
    below=st.integers(1, 255),
    by_product=st.booleans(),
)
def test_a_floor_is_compared_with_its_own_tcb(
    product: Product, demand: str, component: str, floor: int, below: int, by_product: bool
) -> None:
    policy = Policy(**{demand: {product if by_product else None: {component: floor}}})  # type: ignore[arg-type]
    have = product is Product.TURIN or component != "fmc"
    lower = max(floor - below, 0)

    def raw(level: int, rest: int) -> bytes:
        values = dict.fromkeys(COMPONENTS, rest) | {component: level}
        return TcbVersion(**values).pack(product) if product is Product.TURIN else _without_fmc(values).pack(product)

    enough = dict.fromkeys(TCBS, raw(lower, 255)) | {FLOORS[demand]: raw(floor, 0)}
    short = dict.fromkeys(TCBS, raw(255, 255)) | {FLOORS[demand]: raw(lower, 255)}
    assert met(policy, product, **enough) is have
    assert not met(policy, product, **short)


def _without_fmc(values: dict[str, int]) -> TcbVersion:
    return TcbVersion(**{name: value for name, value in values.items() if name != "fmc"})


def test_a_products_floor_adds_to_the_general_one() -> None:
    """The general floor of another component stays; a floor for another product alone says nothing, and so refuses."""
    both = Policy(minimum_tcb={None: {"snp": 30}, Product.MILAN: {"microcode": 1}})
    assert not met(both)
    assert met(Policy(minimum_tcb={None: {"snp": 27}, Product.MILAN: {"microcode": 222}}))
    assert not met(Policy(minimum_tcb={Product.TURIN: {"snp": 1}}))
    floors = Policy(minimum_tcb={None: {"snp": 1}})
    assert not met(floors, cpuid_family=0x17)  # a processor whose layout is not known
    assert not met(floors, version=2)


def limits() -> Iterator[tuple[Policy, dict[str, Any], tuple[dict[str, Any], ...]]]:
    """A demand, fields that just meet it, and fields that do not."""
    yield Policy(minimum_guest_svn=5), {"guest_svn": 5}, ({"guest_svn": 4}, {"guest_svn": 0})
    yield Policy(minimum_report_version=4), {"version": 4}, ({"version": 3}, {"version": 2})
    abi = ({"policy": 0x30136}, {"policy": 0x300FF}, {"policy": 0x33700})
    yield Policy(minimum_abi=(1, 0x37)), {"policy": 0x30137}, abi[:2]
    yield Policy(minimum_abi=(0x37, 1)), {"policy": 0x33701}, abi
    firmware = ({"current_version": bytes(raw)} for raw in ((6, 55, 1), (255, 54, 1), (255, 255, 0)))
    older = {"current_version": bytes((7, 55, 1)), "committed_version": bytes(3)}
    yield Policy(minimum_firmware=(1, 55, 7)), older, tuple(firmware)
    yield Policy(vmpls=frozenset({1})), {"vmpl": 1}, ({"vmpl": 0}, {"vmpl": 2}, {"vmpl": layout.HOST_REQUEST})
    yield Policy(products=frozenset({Product.MILAN})), {}, ({"cpuid_model": 0x11}, {"cpuid_family": 0x17})
    others = tuple({"key_info": number << 2} for number in range(1, 8))
    yield Policy(signing_keys=frozenset({"vcek"})), {"key_info": 0}, others
    others = tuple({"key_info": number << 2} for number in (0, *range(2, 8)))
    yield Policy(signing_keys=frozenset({"vlek"})), {"key_info": 4}, others
    for name, other in (("launch", "current"), ("current", "launch")):
        own, rest = f"{name}_mit_vector", f"{other}_mit_vector"
        lacking = tuple({own: have, rest: 0xFF} for have in (0, 1, 4, 0xFA))
        yield Policy(**{own: 5}), {own: 5, rest: 0}, lacking  # type: ignore[arg-type]


@pytest.mark.parametrize(("policy", "enough", "short"), list(limits()))
def test_a_limit_is_met_exactly(policy: Policy, enough: dict[str, Any], short: tuple[dict[str, Any], ...]) -> None:
    assert met(policy, **enough)
    for fields in short:
        assert not met(policy, **fields), fields


def test_a_provider_is_named_by_a_certificate_alone() -> None:
    assert not met(Policy(csp_ids=frozenset({"somebody"})))


@pytest.mark.parametrize(
    ("kind", "field", "bits"),
    [("policy", "policy", layout.POLICY_BITS), ("platform", "platform_info", layout.PLATFORM_BITS)],
)
def test_a_bit_is_its_own(kind: str, field: str, bits: dict[str, int]) -> None:
    every = sum(1 << bit for bit in bits.values())
    for name, bit in bits.items():
        alone, all_others = {field: 1 << bit}, {field: every ^ 1 << bit}
        required = Policy(**{f"{kind}_required": frozenset({name})})  # type: ignore[arg-type]
        forbidden = Policy(**{f"{kind}_forbidden": frozenset({name})})  # type: ignore[arg-type]
        assert met(required, **alone)
        assert not met(required, **all_others)
        assert met(forbidden, **all_others)
        assert not met(forbidden, **alone)
