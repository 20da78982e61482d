"""The kernel's lines on memory encryption: their beginning, their meaning, and the kernel versions. Pure data.

From the format strings of arch/x86/mm/mem_encrypt*.c, arch/x86/coco, arch/x86/kernel/sev.c, arch/x86/kernel/cpu,
arch/x86/virt/svm, arch/x86/kvm, drivers/crypto/ccp, drivers/iommu/amd and drivers/virt/coco, Linux 4.14 to 6.18; of the
host kernels that AMD published before SNP was merged (5.14 to 6.10, ``AMD``); and of Hygon's kernels (``Hygon``).
"""

from typing import NamedTuple


class Rule(NamedTuple):
    """Lines that begin with one of ``begins`` and match ``pattern``. The first rule that matches a line is used.

    ``since`` and ``until`` are the versions of Linux that print them; empty: always, or to this day.
    """

    begins: tuple[str, ...]
    pattern: str | None
    means: str
    effects: tuple[str, ...]
    since: str
    until: str = ""


_ALL_UNUSABLE = ("host:sev:unusable", "host:sev_es:unusable", "host:sev_snp:unusable", "role:host")
_NO_KVM = (*_ALL_UNUSABLE[:3], "role:weak-host")
_FIRMWARE_FAILED = ("host:sev:unusable", "host:sev_es:unusable", "host:sev_snp:doubt", "role:host")
_NOT_YET = ("host:sev:doubt", "host:sev_es:doubt", "host:sev_snp:doubt", "role:host")
_NO_SNP = ("host:sev_snp:unusable", "role:host")
_SNP_DOUBT = ("host:sev_snp:doubt", "role:host")
_HOST, _GUEST, _WEAK_HOST = ("role:host",), ("role:guest",), ("role:weak-host",)
_IN_SNP = ("active:sev", "active:sev-es", "active:sev-snp", "role:guest")
_NOTHING: tuple[str, ...] = ()

RULES: tuple[Rule, ...] = (
    # drivers/crypto/ccp: the secure processor and its firmware
    Rule(("SEV: memory encryption not enabled by BIOS",), None, "the BIOS has not enabled memory encryption", _ALL_UNUSABLE, "5.19"),
    Rule(("SEV: failed to INIT", "SEV: INIT failed", "SEV: INIT_EX failed", "SEV: failed to get status"), None, "the SEV firmware was not initialised", _FIRMWARE_FAILED, "4.16"),
    Rule(("SEV: DF_FLUSH failed",), r".*failed (?:0x)?[0-9a-f]+, rc", "the SEV firmware was not initialised", _FIRMWARE_FAILED, "6.8"),
    Rule(("SEV: INIT_EX NV memory", "CSV: failed to INIT"), None, "the SEV firmware was not initialised", _FIRMWARE_FAILED, "4.16"),
    Rule(("SEV: failed to SHUTDOWN",), None, "the SEV firmware was not shut down; what state it is in is not known", _FIRMWARE_FAILED, "4.16"),
    Rule(("sev command 0x", "psp command 0x"), r".*timed out", "the secure processor stopped answering", _ALL_UNUSABLE, "4.16"),
    Rule(("sev initialization failed", "psp initialization failed", "psp: unable to allocate an IRQ", "psp: missing driver data", "sev: missing driver data", "csv initialization failed"), None, "the driver of the secure processor did not start", _ALL_UNUSABLE, "4.16"),
    Rule(("unable to access the device: you might be running a broken BIOS",), None, "the secure processor cannot be reached", _ALL_UNUSABLE, "5.7"),
    Rule(("PSP driver not init",), None, "KVM came before the driver of the secure processor: the firmware was not initialised for it", _NOT_YET, "6.11", "6.13"),
    Rule(("SEV: TMR allocation failed",), None, "no trusted memory region, so no SEV-ES", ("host:sev_es:unusable", "role:host"), "5.8"),
    Rule(("SEV: SNP_INIT_EX range list", "SEV: SNP_INIT_EX walk_iomem_res_desc failed"), None, "SNP_INIT was not tried", _NO_SNP, "6.9"),
    Rule(("SEV-SNP: failed to INIT", "SEV-SNP: SNP_INIT failed", "SEV-SNP: SNP_INIT_EX failed", "SEV-SNP: SNP_DF_FLUSH failed"), None, "SNP_INIT failed in the firmware", _NO_SNP, "6.9"),
    Rule(("SNP PLATFORM_STATUS command failed", "SNP FEATURE_INFO command failed"), None, "the SNP firmware does not answer", _NO_SNP, "6.17"),
    Rule(("SEV-SNP support requires firmware version",), None, "the firmware is too old for SNP", _NO_SNP, "AMD"),
    Rule(("SEV-SNP DF_FLUSH failed", "SEV-SNP firmware shutdown failed", "SNP IOMMU shutdown failed"), None, "SNP was not shut down", _SNP_DOUBT, "6.9"),
    Rule(("SEV: retrying INIT command",), None, "INIT failed and is tried again", _HOST, "5.18"),
    Rule(("SEV API:", "CSV API:"), None, "the SEV firmware answered; that it can be used is not said", _HOST, "4.16"),
    Rule(("SEV-SNP API:",), None, "the firmware knows SNP; hosts that cannot run it print this too", _HOST, "6.9"),
    Rule(("SEV firmware update successful", "SEV firmware updated from"), None, "the driver loaded a newer firmware", _HOST, "4.20"),
    Rule(("sev enabled", "csv enabled"), None, "a secure processor with SEV was found; nothing is said of its state", _HOST, "5.5"),
    Rule(("TSME enabled",), None, "all memory is encrypted transparently (TSME), which guests do not notice", _HOST, "6.0"),
    Rule(("Both TSME and SME are active",), None, "TSME and SME are both on", _HOST, "6.0"),
    Rule(("psp enabled", "tee enabled", "no command queues available"), None, "a secure processor was found; nothing is said of SEV", _WEAK_HOST, "4.16"),
    Rule(("SEV: could not open", "SEV: could not read", "SEV: failed to write", "SEV: too many firmware commands", "SEV: failed to prepare buffer", "SEV: failed to reclaim buffer", "Failed to allocate bounce buffer for SEV", "Error moving pages to firmware-owned", "Failed to reclaim firmware-owned"), None, "a command to the firmware had trouble", _HOST, "5.18"),
    Rule(("SEV: ",), r".* does not exist and will be created later", "the firmware's data will be written to a file", _HOST, "5.18"),
    Rule(("CSV3: fail to set secure memory region",), None, "CSV3 cannot be used", _HOST, "Hygon"),
    # arch/x86/virt/svm, arch/x86/kernel/sev.c: the reverse map table
    Rule(("SEV-SNP: Memory for the RMP table has not been reserved by BIOS",), None, "the BIOS reserved no reverse map table", _NO_SNP, "6.9"),
    Rule(("SEV-SNP: RMP configuration not valid", "SEV-SNP: Invalid RMP", "SEV-SNP: Memory reserved for the RMP table does not cover", "SEV-SNP: Failed to map RMP", "SEV-SNP: No RMP", "SEV-SNP: Unable to", "SEV-SNP: RMP segment count", "SEV-SNP: Segmented RMP enabled but"), None, "the reverse map table cannot be used", _NO_SNP, "6.9"),
    Rule(("unchecked MSR access error: WRMSR to 0xc0010010",), None, "the register that switches SNP on (SYSCFG) could not be written", _NO_SNP, ""),
    Rule(("SEV-SNP: RMP table physical", "SEV-SNP: Segmented RMP", "SEV-SNP: RMP segment", "SEV-SNP: Reserving start/end of RMP"), None, "a reverse map table was found; hosts that cannot run SNP print this too", _HOST, "6.9"),
    Rule(("SEV-SNP: RMPUPDATE failed", "SEV-SNP: Leaking PFN", "SEV-SNP: Failed to read RMP entry", "SEV-SNP: PFN", "SEV-SNP: Failed to split direct map", "SEV-SNP: Error", "SEV-SNP: Can't dump RMP", "IOMMU PFN", "PSMASH failed for IOMMU PFN"), None, "an entry of the reverse map table made trouble at run time", _HOST, "6.9"),
    # drivers/iommu/amd
    Rule(("SNP: ", "SEV-SNP: IOMMU "), r".*(?:SNP cannot be supported|Too late to enable SNP|is either disabled or)", "the IOMMU's configuration rules SNP out", _NO_SNP, "6.0"),
    Rule(("SEV-SNP: Failed to enable SNP support", "SEV-SNP: failed to enable SNP"), None, "the IOMMU could not be set up for SNP", _NO_SNP, "AMD"),
    Rule(("IOMMU not currently supported when SME is active",), None, "the IOMMU is off because SME is active", _NO_SNP, "5.15"),
    Rule(("IOMMU SNP support enabled", "SNP enabled", "Force to disable Virtual APIC due to SNP", "Force to using AMD IOMMU v1 page table due to SNP"), None, "the IOMMU supports SNP; nothing is said of the firmware", _HOST, "6.0"),
    Rule(("Found IOMMU", "Interrupt remapping enabled", "Virtual APIC enabled", "X2APIC enabled"), None, "an AMD IOMMU is in use", _WEAK_HOST, ""),
    # arch/x86/kvm, arch/x86/kernel/cpu: SVM itself
    Rule(("SVM disabled (by BIOS)", "disabled by bios", "support for 'kvm_amd' disabled by bios", "SVM not supported by CPU", "has_svm: svm not available", "svm not available", "no hardware support"), None, "SVM is off or missing, so KVM does not run; look for SVM mode in the BIOS", _NO_KVM, ""),
    Rule(("KVM is unsupported when running as an SEV guest",), None, "this kernel runs in an SEV guest", ("active:sev", "role:guest"), "4.16"),
    Rule(("SEV-ES guest requested termination",), None, "a guest with SEV-ES ended itself", _HOST, "5.11"),
    Rule(("SEV: Failed to decode instruction", "SEV: Failure in communication with VMM", "SEV: Unsupported exit-code", "SEV: Unsupported exception", "SEV: clear VMSA page failed", "SEV: set VMSA page failed", "SEV: SNP AP Creation error", "SEV: Unable to locate", "SEV: Unknown result", "SEV: count=", "SEV: index="), None, "a kernel in an SEV-ES or SNP guest says so", _GUEST, "5.10"),
    Rule(("SEV Guest triggered AMD Erratum", "KVM: SEV Guest triggered", "KVM_SET_GUEST_DEBUG for SEV-ES guest"), None, "KVM had trouble with a guest", _HOST, "5.8"),
    Rule(("SEV: ",), r"SEV: \d+ locked pages exceed", "a guest may not lock its memory: RLIMIT_MEMLOCK", _HOST, "4.16"),
    Rule(("SEV: DF_FLUSH failed, ret=", "SEV: Unexpected RMP fault", "SEV: Unable to split RMP", "SEV: Failed to", "SEV: Failure locking", "Failed to create SEV-SNP context", "SEV: SNP_PLATFORM_STATUS failed", "SEV-SNP: DF_FLUSH failed"), None, "KVM had trouble with a guest", _HOST, "4.16"),
    Rule(("SEV-SNP requires private memory support",), None, "KVM refused a guest's memory: SNP needs guest_memfd", _HOST, "AMD"),
    Rule(("SEV-TIO status: ", "SEV-TIO STATUS failed", "Failed to enable SEV-TIO"), None, "trusted I/O of devices; nothing is said of guests", _HOST, "6.19"),
    Rule(("SEV-SNP ciphertext hiding enabled",), None, "the host cannot read the ciphertext of SNP guests", _HOST, "6.18"),
    # Guests: arch/x86/coco/sev, arch/x86/hyperv, drivers/virt/coco
    Rule(("SEV: Using SNP CPUID table", "SEV: SNP running at VMPL", "SEV: SNP guest platform device"), None, "the guest kernel runs with SEV-SNP", _IN_SNP, "5.19"),
    Rule(("Hyper-V: Isolation Config: Group A 0x",), r".*Group B 0x[0-9a-f]*2\b", "Hyper-V runs this guest isolated by SEV-SNP", ("active:sev-snp", "role:guest"), "5.12"),
    Rule(("sev-guest sev-guest: Initialized SEV guest driver", "sev-guest: Initialized SEV guest driver"), None, "the guest has a channel to the SNP firmware", _GUEST, "5.19"),
    Rule(("Hypervisor detected: ",), None, "a hypervisor runs this kernel", _GUEST, ""),
    Rule(("Booting paravirtualized kernel on bare hardware",), None, "no hypervisor", _HOST, ""),
    Rule(("Booting paravirtualized kernel on ",), None, "a hypervisor runs this kernel", _GUEST, ""),
    Rule(("DMI: QEMU", "DMI: Google Google Compute Engine", "DMI: Microsoft Corporation Virtual Machine", "DMI: VMware"), None, "the machine is a virtual one", _GUEST, ""),
    Rule(("DMI: Amazon EC2 ",), r"(?!.*metal)", "the machine is a virtual one", _GUEST, ""),
    Rule(("AMD Secure Memory Encryption (SME) active",), None, "SME is active", ("active:sme", "role:weak-host"), "4.14", "5.9"),
    Rule(("AMD Secure Encrypted Virtualization (SEV) active",), None, "SEV is active in this guest", ("active:sev", "role:guest"), "4.15", "5.9"),
    Rule(("SEV is active and system is using DMA bounce buffers", "software IO TLB: SEV is active and system is using DMA bounce buffers"), None, "SEV is active in this guest", ("active:sev", "role:guest"), "4.15"),
    Rule(("HYGON CSV3",), r"\S+ CSV3$", "CSV3 is active in this guest", _GUEST, "Hygon"),
    Rule(("HYGON CSV2",), r"\S+ CSV2$", "CSV2, Hygon's SEV-ES, is active in this guest", ("active:sev-es", "role:guest"), "Hygon"),
    Rule(("HYGON CSV",), r"\S+ CSV$", "CSV, Hygon's SEV, is active in this guest", ("active:sev", "role:guest"), "Hygon"),
    Rule(("HYGON SME",), r"\S+ SME$", "SME is active", ("active:sme", "role:weak-host"), "Hygon"),
)  # fmt: skip

# Lines with words of memory encryption that say nothing about it: they do not count as "not understood".
SILENT = (
    "Command line:", "Kernel command line:", "Linux version ", "Unknown kernel command line parameters", "DMI:",
    "SEV: #VC", "SEV: SEV command-line option", "SEV: Status:", "audit:", "AMD-Vi: Extended features", "Extended features",
)  # fmt: skip

LISTS = ("Memory Encryption Features active:", "AMD Memory Encryption Features active:")
STATUS = "SEV: Status: "
# Prefixes of the drivers' messages. Linux up to 6.8 printed some messages without a prefix.
DRIVERS = r"(?:(?:ccp|hct|hygon_psp) [0-9a-fA-F:.]{7,20}|psp|SVM|kvm_amd|kvm-amd|kvm|AMD-Vi|x86/cpu): "
# KVM: "supported: N ASIDs" to 5.19 (and AMD's kernels), "enabled (ASIDs a - b)" since 6.0, "unusable" since 6.3.
RANGE = r"(SEV(?:-ES|-SNP)?|CSV2?) (enabled|disabled|unusable)(?: \(ASIDs (\d{1,12}) - (\d{1,12})\))?\s*$"
COUNT = r"(SEV(?:-ES|-SNP)?|SEV-ES and SEV-SNP|CSV2?) supported(?:: (\d{1,12}) ASIDs)?\s*$"
FEATURES = {
    "SEV": ("sev",), "CSV": ("sev",), "SEV-ES": ("sev_es",), "CSV2": ("sev_es",), "SEV-SNP": ("sev_snp",),
    "SEV-ES and SEV-SNP": ("sev_es", "sev_snp"),
}  # fmt: skip
# The first lines of kvm_amd when it is loaded: the messages of an earlier load no longer count.
LOADED = ("TSC scaling supported", "Nested Virtualization enabled", "Nested Paging ")
# The driver of the secure processor prints this once for each time that it takes a device.
PROBED = ("sev enabled", "csv enabled")
