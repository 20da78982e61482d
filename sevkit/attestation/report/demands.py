"""The relying party's demands as checks of a report: only demands in the policy are checked. Pure."""

from collections.abc import Callable, Iterator

from sevkit.attestation.report import layout
from sevkit.attestation.report.case import Case
from sevkit.attestation.report.checks import Check
from sevkit.attestation.report.finding import Finding, Status
from sevkit.attestation.report.policy import Policy

_VALUES = {
    "measurements": "measurement",
    "host_data": "host_data",
    "report_data": "report_data",
    "family_ids": "family_id",
    "image_ids": "image_id",
    "id_key_digests": "id_key_digest",
    "author_key_digests": "author_key_digest",
    "chip_ids": "chip_id",
}


def _values(case: Case) -> Iterator[str]:
    for demand, name in _VALUES.items():
        allowed: frozenset[bytes] = getattr(case.policy, demand)
        value = case.report.bytes_of(name)
        if allowed and value not in allowed:
            yield f"{name} {value.hex()} is not among the {len(allowed)} allowed"


def _minimum(case: Case) -> Iterator[str]:
    for demand, name in (
        ("minimum_tcb", "reported_tcb"),
        ("minimum_committed_tcb", "committed_tcb"),
        ("minimum_launch_tcb", "launch_tcb"),
    ):
        floors = getattr(case.policy, demand)
        if not floors:
            continue
        if case.report.product is None:
            yield f"{demand}: the product is not known"
            continue
        own, general = floors.get(case.report.product), floors.get(None)
        if own is None and general is None:
            yield f"{demand} names no {case.report.product}"
        have = case.report.tcb(name).components()
        for component, least in {**(general or {}), **(own or {})}.items():
            if have.get(component, -1) < least:
                yield f"{name}: {component} is {have.get(component, 'missing')}, at least {least} is demanded"


def _numbers(case: Case) -> Iterator[str]:
    report, policy = case.report, case.policy
    if report.number("guest_svn") < policy.minimum_guest_svn:
        yield f"guest SVN {report.number('guest_svn')} is below {policy.minimum_guest_svn}"
    if report.version < policy.minimum_report_version:
        yield f"report version {report.version} is below {policy.minimum_report_version}"
    abi = (report.number("policy") >> 8 & 0xFF, report.number("policy") & 0xFF)
    if abi < policy.minimum_abi:
        yield f"the guest policy asks for ABI {abi[0]}.{abi[1]}, at least {policy.minimum_abi} is demanded"
    firmware = tuple(report.bytes_of("current_version")[::-1])
    if firmware < policy.minimum_firmware:
        yield f"firmware {'.'.join(map(str, firmware))} is older than {'.'.join(map(str, policy.minimum_firmware))}"
    if policy.vmpls and report.number("vmpl") not in policy.vmpls:
        yield f"VMPL {report.number('vmpl')} is not among {sorted(policy.vmpls)}"


def _origin(case: Case) -> Iterator[str]:
    report, policy = case.report, case.policy
    if policy.products and report.product not in policy.products:
        yield f"product {report.product} is not among {', '.join(sorted(policy.products))}"
    if policy.signing_keys and report.signing_key.value not in policy.signing_keys:
        yield f"signed with a {report.signing_key}, not with {' or '.join(sorted(policy.signing_keys))}"
    csp_id = case.endorsement.csp_id if case.endorsement else None
    if policy.csp_ids and csp_id not in policy.csp_ids:
        yield f"the provider {csp_id!r} is not among {', '.join(sorted(policy.csp_ids))}"


def _bits(case: Case) -> Iterator[str]:
    for name, table in (("policy", layout.POLICY_BITS), ("platform", layout.PLATFORM_BITS)):
        value = case.report.number("policy" if name == "policy" else "platform_info")
        have = layout.bits(value, table)
        for bit in sorted(getattr(case.policy, f"{name}_required")):
            if not have[bit]:
                yield f"{name} bit {bit} is demanded, and not set"
        for bit in sorted(getattr(case.policy, f"{name}_forbidden")):
            if have[bit]:
                yield f"{name} bit {bit} is forbidden, and set"


def _vectors(case: Case) -> Iterator[str]:
    for name in ("launch_mit_vector", "current_mit_vector"):
        wanted = getattr(case.policy, name)
        lacking = wanted & ~case.report.number(name)
        if lacking:
            note = "" if case.report.version >= 5 else f" (version {case.report.version} reports have none)"
            yield f"{name} lacks the bits {lacking:#x}{note}"


def _runtime(case: Case) -> Iterator[str]:
    if case.policy.require_runtime_data and case.evidence.runtime_data is None:
        yield "no runtime data came with the report"


def _demanding(*names: str) -> Callable[[Case], bool]:
    """Whether the policy has one of these demands."""
    return lambda case: any(getattr(case.policy, name) != getattr(_NOTHING, name) for name in names)


_NOTHING = Policy()
_NUMBERS = ("minimum_guest_svn", "minimum_report_version", "minimum_abi", "minimum_firmware", "vmpls")
_BITS = ("policy_required", "policy_forbidden", "platform_required", "platform_forbidden")
_LEVELS = ("minimum_tcb", "minimum_committed_tcb", "minimum_launch_tcb")
_VECTORS = ("launch_mit_vector", "current_mit_vector")

DEMANDS = (
    Check("policy.values", "the values are allowed ones", _values, _demanding(*_VALUES)),
    Check("policy.minimum_tcb", "the TCB is new enough", _minimum, _demanding(*_LEVELS)),
    Check("policy.numbers", "versions, SVN and VMPL as demanded", _numbers, _demanding(*_NUMBERS)),
    Check(
        "policy.origin",
        "product, key and provider as demanded",
        _origin,
        _demanding("products", "signing_keys", "csp_ids"),
    ),
    Check("policy.bits", "policy and platform bits as demanded", _bits, _demanding(*_BITS)),
    Check("policy.mit_vectors", "mitigations as demanded", _vectors, _demanding(*_VECTORS)),
    Check("policy.runtime_data", "runtime data as demanded", _runtime, _demanding("require_runtime_data")),
)


def remarks(case: Case) -> Iterator[Finding]:
    """Remarks on facts that the policy allows but a reader should know."""
    policy = case.report.number("policy")
    if policy >> layout.POLICY_BITS["debug"] & 1 and "debug" not in case.policy.policy_required:
        text = "the guest policy allows debugging: the host can read the guest's memory"
        yield Finding("report.debug", Status.WARNING, text)
    if policy >> layout.POLICY_BITS["migrate_ma"] & 1:
        text = "the guest policy allows a migration agent, which can read the guest's memory"
        yield Finding("report.migrate_ma", Status.WARNING, text)
    if case.report.number("vmpl") == layout.HOST_REQUEST:
        text = "the host requested this report, not the guest: it says nothing of who presents it"
        yield Finding("report.vmpl", Status.WARNING, text)
    if not any(case.report.bytes_of("chip_id")) and case.leaf is not None and case.report.signing_key == "vcek":
        yield Finding("certificate.chip", Status.WARNING, "the platform masks its chip id: told by the signature alone")
