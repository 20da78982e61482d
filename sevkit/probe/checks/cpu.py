"""Checks on what the CPU reports. A set bit alone is not a usable feature: the related numbers are checked as well."""

from collections.abc import Callable

from sevkit.probe import leaf as leaf_table
from sevkit.probe.checks.frame import (
    ADVICE,
    ALL,
    ES_UP,
    REQUIRED,
    SEV_UP,
    SNP,
    Case,
    Check,
    Conclusion,
    decide,
    failed,
    passed,
    unknown,
)
from sevkit.probe.cpu import identify
from sevkit.probe.leaf import BY_NAME, VENDORS, Registers
from sevkit.probe.report_leaf import differences, reason

_LEAF = "CPUID 0x8000001F"
_EXTENDED = 0x80000000
_ANNOUNCED = Registers(leaf_table.LEAF, 0, 0, 0)
_ASID_HINT = 'BIOS: set "SEV-ES ASID Space Limit" (Minimum SEV non-ES ASID) above 1 and below the number of guests'


def _vendor(case: Case) -> Conclusion:
    vendor = case.facts.identity.vendor
    machine = case.read("kernel.machine").value
    if vendor is None:
        if machine not in (None, "x86_64", "i686"):
            return failed(f"this machine is {machine}")
        return unknown("the source does not hold CPUID leaf 0")
    return decide(vendor in VENDORS, vendor, f"{vendor} has no SEV")


def _leaf(case: Case) -> Conclusion:
    status = case.leaf_status
    words = reason(case.facts, status, case.facts.leaf)
    if status == "present" and case.facts.cpus[0][1].get((_EXTENDED, 0), _ANNOUNCED).eax < leaf_table.LEAF:
        return unknown("CPUID 0x80000000 announces no such leaf, and yet there is one: was this edited?")
    return passed(words) if status == "present" else unknown(words) if status is None else failed(words)


def _leaf_equal(case: Case) -> Conclusion:
    found = differences(case.facts)
    unreadable = case.facts.raw["cpuid"]["unreadable"]
    if found:
        return failed("differs between CPUs: " + ", ".join(entry["field"] for entry in found))
    identities = [identify(leaves) for _, leaves in case.facts.cpus]
    for name in ("vendor", "hypervisor_bit"):
        if len({getattr(identity, name) for identity in identities} - {None}) > 1:
            return unknown(f"the {name.replace('_', ' ')} differs between CPUs: these are several machines")
    if unreadable:
        return unknown(f"{len(unreadable)} CPUs could not be read: {unreadable[0]['why']}")
    return passed(f"the same on {len(case.facts.cpus)} CPUs")


def _bare_metal(case: Case) -> Conclusion:
    in_guest = case.guest["in_guest"]
    if in_guest is None:
        return unknown("the source does not hold CPUID leaf 1")
    return decide(not in_guest, "no hypervisor", f"a guest of {case.guest['hypervisor'] or 'a hypervisor'}")


def _epyc(case: Case) -> Conclusion:
    brand, generation = case.facts.identity.brand, case.facts.identity.generation
    if brand is None:
        return unknown("the source does not hold the brand string")
    note = f" (silicon of {generation})" if generation else ""
    return decide("EPYC" in brand.upper(), brand + note, f"{brand}{note} is not sold as a server part")


def _flag(name: str) -> "Callable[[Case], Conclusion]":
    def run(case: Case) -> Conclusion:
        if not case.leaves:
            return unknown("the source does not hold the leaf")
        low = BY_NAME[name].low
        have = sum(registers.eax >> low & 1 for registers in case.leaves)
        if 0 < have < len(case.leaves):
            return failed(f"set on {have} of {len(case.leaves)} CPUs")
        return decide(bool(have), f"{BY_NAME[name].bits} is set", f"{BY_NAME[name].bits} is clear")

    return run


def _number(name: str, least: int) -> "Callable[[Case], Conclusion]":
    def run(case: Case) -> Conclusion:
        if not case.leaves:
            return unknown("the source does not hold the leaf")
        value = int(min(leaf_table.decode(registers)[name] for registers in case.leaves))
        return decide(value >= least, str(value), f"{value}, though the feature is announced")

    return run


def _asids(kind: str) -> "Callable[[Case], Conclusion]":
    def run(case: Case) -> Conclusion:
        if not case.leaves:
            return unknown("the source does not hold the leaf")
        worst = min((leaf_table.asids(registers) for registers in case.leaves), key=lambda x: getattr(x, kind))
        count, span = getattr(worst, kind), getattr(worst, f"{kind}_range")
        numbers = f"minimum {case.leaves[0].edx}, maximum {case.leaves[0].ecx}"
        return decide(count > 0, f"{count} (ASIDs {span[0]} to {span[1]})" if span else "", f"none left: {numbers}")

    return run


def _page_flush(case: Case) -> Conclusion:
    if not case.leaves:
        return unknown("the source does not hold the leaf")
    eax = case.leaves[0].eax
    if eax >> 2 & 1:
        return passed("the MSR is there")
    return decide(bool(eax >> 10 & 1), "not there, not needed: caches are coherent", "not there: flushes cost a WBINVD")


def _svm(case: Case) -> Conclusion:
    leaf = case.facts.cpus[0][1].get((0x80000001, 0)) if case.facts.cpus else None
    if leaf is None:
        return unknown("the source does not hold CPUID leaf 0x80000001")
    disabled = case.msr("vm_cr")
    if disabled.known and any(value >> 4 & 1 for value in disabled.value.values()):
        return failed("SVM is disabled: VM_CR.SVMDIS (MSR C001_0114 bit 4) is set")
    return decide(bool(leaf.ecx >> 2 & 1), "SVM is there", "CPUID 0x80000001 ECX[2] is clear")


def _secure_tsc(case: Case) -> Conclusion:
    if not case.leaves:
        return unknown("the source does not hold the leaf")
    if not case.leaves[0].eax >> 8 & 1:
        return failed("the CPU lacks it")
    features = case.read("kvm.vmsa_features")
    if not features.known:
        return unknown(features)
    return decide(bool(features.value >> 9 & 1), "CPU and KVM offer it", "the CPU has it, this KVM does not offer it")


CHECKS: tuple[Check, ...] = (
    Check("cpu.vendor", "cpu", ALL, REQUIRED, "The CPU is made by AMD or Hygon", "CPUID 0 EBX, EDX, ECX",
          "SEV needs an AMD EPYC (or Hygon) processor", (), _vendor),
    Check("cpu.leaf", "cpu", ALL, REQUIRED, "The leaf that announces memory encryption is visible", _LEAF,
          "probe the host itself: hypervisors hide this leaf; on bare metal enable SVM and SMEE in the BIOS",
          ("cpu.vendor",), _leaf),
    Check("cpu.leaf_equal", "cpu", ALL, REQUIRED, "All online CPUs report the same leaf", f"{_LEAF} of every CPU",
          "update BIOS and microcode; take CPUs that differ offline", ("cpu.leaf",), _leaf_equal),
    Check("cpu.bare_metal", "cpu", SEV_UP, REQUIRED, "This is a host, not a guest", "CPUID 1 ECX[31], kernel log",
          "guests cannot launch SEV guests of their own: probe the host", (), _bare_metal),
    Check("cpu.server_part", "cpu", SEV_UP, ADVICE, "The brand says EPYC", "CPUID 0x80000002 to 0x80000004",
          "firmware with SEV support is published for EPYC parts only", ("cpu.vendor",), _epyc),
    Check("cpu.svm", "cpu", SEV_UP, REQUIRED, "Virtualization (SVM) is there and not locked off",
          "CPUID 0x80000001 ECX[2], MSR C001_0114 bit 4", "BIOS: enable SVM mode", ("cpu.vendor", "cpu.bare_metal"), _svm),
    Check("cpu.sme", "cpu", ("sme",), REQUIRED, "The CPU announces SME", f"{_LEAF} EAX[0]",
          "needs EPYC 7001 or later, with SMEE enabled in the BIOS", ("cpu.leaf",), _flag("sme")),
    Check("cpu.sev", "cpu", SEV_UP, REQUIRED, "The CPU announces SEV", f"{_LEAF} EAX[1]",
          "needs EPYC 7001 or later, with SEV enabled in the BIOS", ("cpu.leaf",), _flag("sev")),
    Check("cpu.sev_es", "cpu", ES_UP, REQUIRED, "The CPU announces SEV-ES", f"{_LEAF} EAX[3]",
          "needs EPYC 7001 or later, with SEV-ES enabled in the BIOS", ("cpu.sev",), _flag("sev_es")),
    Check("cpu.sev_snp", "cpu", SNP, REQUIRED, "The CPU announces SEV-SNP", f"{_LEAF} EAX[4]",
          "needs EPYC 7003 or later, with SEV-SNP Support enabled in the BIOS", ("cpu.sev_es",), _flag("sev_snp")),
    Check("cpu.vmpl", "cpu", SNP, REQUIRED, "VM permission levels are there", f"{_LEAF} EAX[5]",
          "update the BIOS", ("cpu.sev_snp",), _flag("vmpl")),
    Check("cpu.num_vmpl", "cpu", SNP, ADVICE, "The number of VM permission levels", f"{_LEAF} EBX[15:12]",
          "update the BIOS: a part with SNP has four", ("cpu.vmpl",), _number("num_vmpl", 1)),
    Check("cpu.c_bit", "cpu", ALL, REQUIRED, "The encryption bit lies in the upper half of an address", f"{_LEAF} EBX[5:0]",
          "the leaf contradicts itself: update the BIOS", ("cpu.leaf",), _number("c_bit_position", 32)),
    Check("cpu.phys_addr_reduction", "cpu", ALL, ADVICE, "Physical address bits lost to encryption", f"{_LEAF} EBX[11:6]",
          "for your information: guests need this number (reduced-phys-bits)", ("cpu.leaf",),
          _number("phys_addr_reduction", 0)),
    Check("cpu.encrypted_guests", "cpu", SEV_UP, REQUIRED, "There is room for encrypted guests", f"{_LEAF} ECX",
          "BIOS: the part announces SEV with no ASID; enable SEV ASID count (253 or 509)", ("cpu.sev",),
          _number("num_encrypted_guests", 1)),
    Check("cpu.asids_sev", "cpu", ("sev",), REQUIRED, "ASIDs are left for plain SEV guests", f"{_LEAF} ECX, EDX",
          _ASID_HINT, ("cpu.encrypted_guests",), _asids("sev")),
    Check("cpu.asids_es_snp", "cpu", ES_UP, REQUIRED, "ASIDs are left for SEV-ES and SEV-SNP guests", f"{_LEAF} ECX, EDX",
          _ASID_HINT, ("cpu.sev_es", "cpu.encrypted_guests"), _asids("sev_es_snp")),
    Check("cpu.page_flush", "cpu", SEV_UP, ADVICE, "Guest pages can be flushed from caches cheaply", f"{_LEAF} EAX[2], EAX[10]",
          "for your information", ("cpu.sev",), _page_flush),
    Check("cpu.secure_tsc", "cpu", SNP, ADVICE, "Guests can have a time stamp counter the host cannot change",
          f"{_LEAF} EAX[8], KVM_X86_SEV_VMSA_FEATURES bit 9", "needs a kernel from 6.18 on", ("cpu.sev_snp",), _secure_tsc),
)  # fmt: skip
