"""The checks of a report itself and of the key that signed it: one entry per check. Pure."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric import ec

from sevkit.attestation.report import layout, products
from sevkit.attestation.report.case import ROLES, Case, made_by
from sevkit.attestation.report.certificates import DAMAGED, Certificate
from sevkit.attestation.report.chain import (
    algorithm_findings,
    authority_findings,
    revocation_findings,
    trust_findings,
    validity_findings,
)
from sevkit.attestation.report.finding import Finding, Status
from sevkit.attestation.report.layout import SigningKey
from sevkit.errors import BadInputError

# The order of the base point of P-384 (FIPS 186-4, D.1.2.4).
_ORDER = int("FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973", 16)


def _always(case: Case) -> bool:
    del case
    return True


class Check(NamedTuple):
    """A check: ``run`` yields one text per fault; no text means that it passed. It is omitted if it does not apply."""

    id: str
    says: str
    run: Callable[[Case], Iterator[str]]
    applies: Callable[[Case], bool] = _always


def _with_product(case: Case) -> bool:
    return case.report.product is not None


def _with_runtime(case: Case) -> bool:
    return case.evidence.runtime_data is not None


def _with_leaf(case: Case) -> bool:
    return case.leaf is not None


def _with_endorsement(case: Case) -> bool:
    return case.endorsement is not None and case.report.product is not None


def _version(case: Case) -> Iterator[str]:
    if not case.report.known_version:
        yield f"version {case.report.version} is not one of {', '.join(map(str, layout.VERSIONS))}"


def _product(case: Case) -> Iterator[str]:
    report = case.report
    if report.version >= 3 and report.product is None:
        family, model = report.number("cpuid_family"), report.number("cpuid_model")
        yield f"no EPYC with SEV-SNP has family {family:#x}, model {model:#x}"


def _reserved(case: Case) -> Iterator[str]:
    for start, end in layout.reserved_ranges(case.report.version):
        if any(case.report.raw[start:end]):
            yield f"reserved bytes {start:#x} to {end - 1:#x} are not zero"


def _reserved_tcb(case: Case) -> Iterator[str]:
    product = case.report.product
    for name in ("current_tcb", "reported_tcb", "committed_tcb", "launch_tcb"):
        raw = case.report.bytes_of(name)
        if product is not None and any(raw[at] for at in products.reserved_tcb_bytes(product)):
            yield f"reserved bytes of {name} are not zero: {raw.hex()}"


def _policy_bits(case: Case) -> Iterator[str]:
    policy = case.report.number("policy")
    if not policy & layout.POLICY_MUST_BE_ONE:
        yield f"bit 17 of the guest policy {policy:#x} must be one"
    if policy & ~layout.POLICY_KNOWN:
        yield f"the guest policy {policy:#x} has reserved bits"


def _platform_bits(case: Case) -> Iterator[str]:
    platform = case.report.number("platform_info")
    if platform & ~layout.PLATFORM_KNOWN:
        yield f"PLATFORM_INFO {platform:#x} has reserved bits"


def _key_info(case: Case) -> Iterator[str]:
    key_info = case.report.number("key_info")
    if key_info & ~layout.KEY_INFO_KNOWN:
        yield f"KEY_INFO {key_info:#x} has reserved bits"
    if case.report.signing_key is SigningKey.RESERVED:
        yield f"KEY_INFO {key_info:#x} names a reserved signing key"


def _vmpl(case: Case) -> Iterator[str]:
    vmpl = case.report.number("vmpl")
    if vmpl > 3 and vmpl != layout.HOST_REQUEST:
        yield f"there is no VMPL {vmpl}"


def _author_key(case: Case) -> Iterator[str]:
    enabled = case.report.number("key_info") & layout.AUTHOR_KEY_EN
    if not enabled and any(case.report.bytes_of("author_key_digest")):
        yield "an author key's digest is there, while KEY_INFO says that there is no author key"


def _tcb_order(case: Case) -> Iterator[str]:
    """Reported <= committed <= current, component by component (SNP_CONFIG, SNP_COMMIT)."""
    if case.report.product is None:
        return
    for low, high in (("reported_tcb", "committed_tcb"), ("committed_tcb", "current_tcb")):
        lower = case.report.tcb(high).below(case.report.tcb(low))
        if lower:
            yield f"{low} is above {high} in {', '.join(lower)}"


def _version_order(case: Case) -> Iterator[str]:
    current, committed = (case.report.bytes_of(f"{name}_version")[::-1] for name in ("current", "committed"))
    if committed > current:
        yield "the committed firmware is newer than the current one"


def _algorithm(case: Case) -> Iterator[str]:
    algorithm = case.report.number("signature_algo")
    if algorithm != layout.ECDSA_P384_SHA384:
        yield f"signature algorithm {algorithm} is not ECDSA P-384 with SHA-384 ({layout.ECDSA_P384_SHA384})"


def _signed(case: Case) -> Iterator[str]:
    if case.report.number("key_info") & layout.MASK_CHIP_KEY or case.report.signing_key is SigningKey.NONE:
        yield "the firmware was told not to sign: the report is evidence of nothing"


def _signature(case: Case) -> Iterator[str]:
    """ECDSA P-384 with SHA-384, by the certificate's key; a specific error is reported before a plain mismatch."""
    if case.leaf is None:
        return
    for name, value in zip("RS", case.report.signature, strict=True):
        if not 0 < value < _ORDER:
            yield f"{name} of the signature is not from 1 to the order of P-384"
    problem = _key_problem(case.leaf)
    if problem:
        yield problem
    elif not made_by(case.leaf, case.report):
        yield f"not made by the key of {_title(case.leaf)}"


def _key_problem(leaf: Certificate) -> str | None:
    try:
        key = leaf.x509.public_key()
    except DAMAGED as error:
        return f"{leaf.name}: {error}"
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        return f"{leaf.name} has no key on the curve P-384"
    return None


def _title(leaf: Certificate) -> str:
    try:
        return f"{leaf.name} ({leaf.endorsement.product_name}, {leaf.endorsement.tcb})"
    except BadInputError:
        return leaf.name


def _extensions(case: Case) -> Iterator[str]:
    if case.leaf is not None:
        try:
            _ = case.leaf.endorsement.product
        except BadInputError as error:
            yield error.message


def _key_kind(case: Case) -> Iterator[str]:
    wanted = ROLES.get(case.report.signing_key)
    if case.leaf is not None and wanted is not None and case.leaf.role is not wanted:
        yield f"the report says that it was signed with a {wanted}, the certificate is a {case.leaf.role}"


def _certificate_product(case: Case) -> Iterator[str]:
    if case.endorsement is None or case.leaf is None:
        return
    named = case.endorsement.product_name.partition("-")[0]
    if case.report.product is not None and named != case.report.product:
        yield f"the certificate is for {named}, the report from {case.report.product}"
    issuer = case.leaf.issuer_name.rpartition("-")[2]
    if issuer in {*products.Product} and issuer != named:
        yield f"the certificate is for {named}, its issuer for {issuer}"


def _certificate_tcb(case: Case) -> Iterator[str]:
    if case.endorsement is None or case.report.product is None:
        return
    reported = case.report.tcb("reported_tcb")
    if reported != case.endorsement.tcb:
        yield f"the report is of TCB {reported}, the certificate of TCB {case.endorsement.tcb}"


def _chip(case: Case) -> Iterator[str]:
    """A VCEK names its chip; a report of a platform that masks its chip id has zeros there."""
    chip_id, product = case.report.bytes_of("chip_id"), case.report.product
    if case.endorsement is None or case.report.signing_key is not SigningKey.VCEK:
        return
    if case.endorsement.chip_id is None:
        yield "the certificate names no chip"
    elif any(chip_id) and case.endorsement.chip_id.ljust(64, b"\0") != chip_id:
        yield f"the report is from chip {chip_id[:8].hex()}…, the certificate for {case.endorsement.chip_id[:8].hex()}…"
    elif product is not None and len(case.endorsement.chip_id) != products.CHIP_ID_SIZES[product]:
        yield f"a chip id of {len(case.endorsement.chip_id)} bytes is not one of {product}"


def _one_owner(case: Case) -> Iterator[str]:
    endorsement = case.endorsement
    if endorsement is not None and endorsement.chip_id is not None and endorsement.csp_id is not None:
        yield "the certificate names a chip and a provider: it can only be for one of them"


def _runtime_data(case: Case) -> Iterator[str]:
    if case.evidence.runtime_bound() is False:
        yield "REPORT_DATA is not the hash of the runtime data that came with the report"


REPORT_CHECKS = (
    Check("report.version", "the format is a known one", _version),
    Check("report.product", "the processor is a known one", _product),
    Check("report.reserved", "reserved bytes are zero", _reserved),
    Check("report.reserved_tcb", "reserved bytes of the TCB versions are zero", _reserved_tcb, _with_product),
    Check("report.policy", "the guest policy is well-formed", _policy_bits),
    Check("report.platform_info", "PLATFORM_INFO has known bits only", _platform_bits),
    Check("report.key_info", "KEY_INFO is well-formed", _key_info),
    Check("report.vmpl", "the VMPL exists", _vmpl),
    Check("report.author_key", "the author key agrees with KEY_INFO", _author_key),
    Check("report.tcb_order", "reported, committed and current TCB are in order", _tcb_order, _with_product),
    Check("report.version_order", "committed and current firmware are in order", _version_order),
    Check("report.runtime_data", "REPORT_DATA binds the runtime data", _runtime_data, _with_runtime),
    Check("signature.algorithm", "ECDSA P-384 with SHA-384", _algorithm),
    Check("signature.signed", "the firmware signed the report", _signed),
    Check("signature.valid", "made by the certificate's key", _signature, _with_leaf),
    Check("certificate.extensions", "AMD's extensions are there and well-formed", _extensions, _with_leaf),
    Check("certificate.kind", "VCEK or VLEK as the report says", _key_kind, _with_leaf),
    Check("certificate.product", "the same product", _certificate_product, _with_endorsement),
    Check("certificate.tcb", "the reported TCB is the certificate's", _certificate_tcb, _with_endorsement),
    Check("certificate.chip", "the same chip", _chip, _with_endorsement),
    Check("certificate.owner", "for a chip or for a provider", _one_owner, _with_endorsement),
)


class ChainCheck(NamedTuple):
    """A check of the chain: it yields findings of its own, which may be warnings."""

    id: str
    run: Callable[[Case], Iterator[Finding]]


def _built(case: Case) -> Iterator[Finding]:
    if case.chain is None:
        wanted = ROLES.get(case.report.signing_key)
        text = f"no certificate of a {wanted or 'VCEK or VLEK'} is at hand"
        yield Finding("certificate.present", Status.UNKNOWN, text)
    else:
        yield from case.chain.findings


def _of_chain(case: Case, run: Callable[..., Iterator[Finding]], *more: object) -> Iterator[Finding]:
    if case.chain is not None:
        yield from run(case.chain, *more)


CHAIN_CHECKS = (
    ChainCheck("chain.signature", _built),
    ChainCheck("chain.algorithm", lambda case: _of_chain(case, algorithm_findings)),
    ChainCheck("chain.authority", lambda case: _of_chain(case, authority_findings)),
    ChainCheck("chain.validity", lambda case: _of_chain(case, validity_findings, case.setting.now)),
    ChainCheck("chain.root", lambda case: _of_chain(case, trust_findings, case.setting.anchors)),
    ChainCheck(
        "chain.revocation",
        lambda case: _of_chain(case, revocation_findings, case.store.crls, case.setting.now),
    ),
)
