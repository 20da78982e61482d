"""Rules: what fails in a launch, what weakens its protection, and what makes a pair of launches unfair. Pure.

Sources: QEMU's target/i386/sev.c, hw/core/machine.c and docs/system/i386/amd-memory-encryption.rst; the firmware's
policies as in `sevkit.guest.policy`; APM 2, 15.34 to 15.36.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from sevkit.guest import policy
from sevkit.hypervisor.lint.model import Launch, number, switched
from sevkit.vocabulary import Mode


class Kind(StrEnum):
    """``fails``: it will not start or not come up; ``weakens``: less is protected than it seems."""

    FAILS = "fails"
    WEAKENS = "weakens"
    UNFAIR = "unfair"
    NOTE = "note"


@dataclass(frozen=True)
class Finding:
    """One remark on a launch: where, what, and what to change."""

    rule: str
    kind: Kind
    origin: str
    message: str
    fix: str

    def as_dict(self) -> dict[str, str]:
        """As JSON values."""
        return {
            "rule": self.rule,
            "kind": str(self.kind),
            "origin": self.origin,
            "message": self.message,
            "fix": self.fix,
        }


@dataclass(frozen=True)
class Host:
    """What is known about the CPU that the launch is for; None for unknown values."""

    c_bit_position: int | None = None


_KEEP_OUT = 0b11  # SEV policy: NODBG, NOKS
_KEPT = 0xFFFF003F  # SEV policy: all bits that are defined
Row = tuple[str, Kind, str, str]  # rule, kind, message, fix
Rule = Callable[[Launch, Host], Iterator[Row]]

RULES: dict[str, str] = {
    "not-protected": "an object that encrypts is defined, and the machine does not use it: the guest is plain",
    "no-such-object": "the machine names an object that is not defined",
    "policy": "a policy that the firmware refuses, or that lets the host look in",
    "pflash": "SEV-SNP takes its firmware by -bios; SEV-ES too, if the flash memory has no variable store",
    "no-firmware": "encrypted guests need OVMF, and none is named",
    "c-bit": "cbitpos is missing, or is not this CPU's",
    "phys-bits": "reduced-phys-bits is missing or out of range",
    "accel": "encryption by hardware needs KVM",
    "iommu-platform": "a virtio device is told to reach into memory that it cannot read",
    "smm": "SEV-ES and SEV-SNP guests have no system management mode",
    "cpu-model": "a CPU model that does not go with the mode",
    "kernel-hashes": "-kernel without kernel-hashes: kernel, initrd and command line are not measured",
    "no-session": "a launch whose owner holds no key: nobody but the host could check the measurement",
    "registers": "SEV alone leaves registers readable at each exit",
    "hotplug": "memory that is added later is not part of an encrypted guest",
    "balloon": "memory of encrypted guests is pinned: a balloon gives nothing back",
    "unknown": "values of variables were not judged",
    "pair": "two launches differ in more than the mode",
}


def check(launch: Launch, host: Host) -> list[Finding]:
    """All findings on one launch."""
    return [
        Finding(rule, kind, launch.origin, message, fix)
        for each in _RULES
        for rule, kind, message, fix in each(launch, host)
    ]


def _use(launch: Launch, _: Host) -> Iterator[Row]:
    used, found = launch.protected_by, launch.encryption
    if found is not None and not used:
        message = f"{found.kind} is defined, but no machine option uses it: the guest runs without encryption"
        name = found.options.get("id", "sev0")
        yield "not-protected", Kind.WEAKENS, message, f"-machine …,confidential-guest-support={name}"
    names = {part.options.get("id") for part in launch.objects}
    if used and used not in names and "$" not in used and not launch.unknown:
        yield "no-such-object", Kind.FAILS, f"the machine names {used}, which is not defined", "define it with -object"


def _policy(launch: Launch, _: Host) -> Iterator[Row]:
    found = launch.encryption
    if found is None:
        return
    text = found.options.get("policy")
    default = "0x30000" if launch.mode is Mode.SEV_SNP else "0x1"
    value = number(text if text is not None else default)
    if value is None or launch.igvm:
        return
    name = f"policy {value:#x}" + ("" if text is not None else " (the default)")
    better = 0x30000 if launch.mode is Mode.SEV_SNP else policy.DEFAULTS[launch.mode] | _KEEP_OUT | value & _KEPT
    for item in policy.lint(value, launch.mode):
        kind = Kind.FAILS if item.fatal else Kind.NOTE if "older" in item.text else Kind.WEAKENS
        yield "policy", kind, f"{name}: {item.text}", f"policy={better:#x}"
    if launch.mode is Mode.SEV:
        message = "the host sees and can change the guest's registers at each exit"
        yield "registers", Kind.WEAKENS, message, "set policy bit 2 (SEV-ES), or use sev-snp-guest"


_BY_BIOS = "-bios {} (libvirt: <loader type='rom' stateless='yes'/>)"


def _firmware(launch: Launch, _: Host) -> Iterator[Row]:
    if launch.encryption is None or launch.unknown:
        return
    if launch.mode is Mode.SEV_SNP and launch.pflash:
        message = "pflash with SEV-SNP: KVM refuses its memory (KVM_SET_USER_MEMORY_REGION2)"
        yield "pflash", Kind.FAILS, message, _BY_BIOS.format("OVMF.amdsev.fd")
    elif launch.mode is Mode.SEV_ES and launch.flash_without_store:
        message = (
            "SEV-ES with the code alone as flash memory: OVMF reads the missing variable store as MMIO, and its #VC"
            " handler does not know the instruction"
        )
        yield "pflash", Kind.FAILS, message, _BY_BIOS.format("OVMF.fd") + ", the image with the variable store"
    elif launch.mode is Mode.SEV_ES and launch.flash_without_store is None:
        message = "SEV-ES with one flash memory: its file was not judged, and must hold the variable store too"
        yield "pflash", Kind.NOTE, message, _BY_BIOS.format("OVMF.fd")
    elif not launch.pflash and not launch.bios and not launch.igvm:
        message = "no firmware is named: SeaBIOS, the default, cannot start an encrypted guest"
        yield "no-firmware", Kind.FAILS, message, "-bios OVMF.amdsev.fd, or -drive if=pflash,… for SEV and SEV-ES"


def _address(launch: Launch, host: Host) -> Iterator[Row]:
    found = launch.encryption
    if found is None:
        return
    c_bit, lost = found.options.get("cbitpos"), found.options.get("reduced-phys-bits")
    there = number(c_bit or "")
    if c_bit is None:
        yield "c-bit", Kind.FAILS, "cbitpos is not given", "cbitpos=51 (47 before EPYC 7003); sevkit probe says it"
    elif there is not None and host.c_bit_position is not None and there != host.c_bit_position:
        message = f"cbitpos={there}, and this CPU has it at {host.c_bit_position}"
        yield "c-bit", Kind.FAILS, message, f"cbitpos={host.c_bit_position}"
    elif there is not None and there not in (47, 51):
        yield "c-bit", Kind.NOTE, f"cbitpos={there}: known CPUs have 47 or 51", "sevkit probe says it"
    bits = number(lost or "")
    if lost is None or (bits is not None and not 1 <= bits <= 63):
        yield (
            "phys-bits",
            Kind.FAILS,
            f"reduced-phys-bits is {lost or 'not given'}; QEMU takes 1 to 63",
            "reduced-phys-bits=1",
        )


def _machine(launch: Launch, _: Host) -> Iterator[Row]:
    found = launch.encryption
    if found is None:
        return
    if launch.accel == "tcg" and "-tcg-" not in found.kind:
        yield "accel", Kind.FAILS, "accel=tcg: QEMU's own emulation does not encrypt", "-accel kvm"
    if switched(launch.machine.get("smm")) and launch.mode in (Mode.SEV_ES, Mode.SEV_SNP):
        yield "smm", Kind.FAILS, f"smm=on with {launch.mode}", "-machine …,smm=off"
    model = launch.cpu.split(",")[0]
    if not model and launch.unknown:
        return
    if launch.mode is Mode.SEV_SNP and model == "host":
        message = "-cpu host with SEV-SNP: refused before QEMU 9.1, and no two machines are alike"
        yield "cpu-model", Kind.NOTE, message, "-cpu EPYC-v4"
    elif launch.mode is Mode.SEV_SNP and model in ("", "qemu64", "kvm64", "qemu32", "kvm32"):
        message = (
            f"-cpu {model or '(default qemu64)'}: the firmware checks the CPUID page, and the guest needs its features"
        )
        yield "cpu-model", Kind.FAILS, message, "-cpu EPYC-v4"


def _devices(launch: Launch, _: Host) -> Iterator[Row]:
    if launch.encryption is None:
        return
    for device in launch.devices:
        words = f"{device.kind} in {launch.mode}"
        given = device.options.get("iommu_platform", device.options.get("iommu-platform"))
        states = switched(given), switched(device.options.get("disable-legacy"))
        if "virtio" in device.kind and False in states:
            message = f"{words}: iommu_platform or disable-legacy is off, so that it reads ciphertext"
            yield "iommu-platform", Kind.FAILS, message, f"{device.kind},disable-legacy=on,iommu_platform=on"
        elif device.kind.startswith("virtio") and "pci" in device.kind and given is None:
            message = f"{words}: iommu_platform is not set; QEMU sets it from 6.0 on, older ones do not"
            yield "iommu-platform", Kind.NOTE, message, f"{device.kind},disable-legacy=on,iommu_platform=on"
        if device.kind.startswith("virtio-balloon"):
            yield "balloon", Kind.NOTE, f"{words}: its memory stays pinned", "leave the balloon out"
        if device.kind in ("pc-dimm", "virtio-mem-pci"):
            yield (
                "hotplug",
                Kind.FAILS,
                f"{words}: added memory is neither measured nor encrypted",
                "give all memory by -m",
            )
    if "maxmem" in launch.memory:
        yield "hotplug", Kind.NOTE, f"-m {launch.memory}: memory cannot be added later", "give all memory by -m"


def _measured(launch: Launch, _: Host) -> Iterator[Row]:
    found = launch.encryption
    if found is None:
        return
    hashes = found.options.get("kernel-hashes")
    if launch.kernel and not launch.igvm and (hashes is None or switched(hashes) is False):
        message = "-kernel without kernel-hashes: the host can change kernel, initrd and command line unnoticed"
        yield (
            "kernel-hashes",
            Kind.WEAKENS,
            message,
            "kernel-hashes=on, with a firmware that checks them (OVMF.amdsev.fd)",
        )
    if launch.mode in (Mode.SEV, Mode.SEV_ES) and "session-file" not in found.options:
        message = "no session-file: the measurement's key is the platform's, and no owner can check it"
        yield "no-session", Kind.NOTE, message, "sevctl session; session-file=…,dh-cert-file=…"


def _left_out(launch: Launch, _: Host) -> Iterator[Row]:
    words = (*launch.unknown, *(word[:80] for word in launch.variables))
    if words:
        yield "unknown", Kind.NOTE, f"not judged: {', '.join(words[:5])}", "lint the running process: --pid"
    if launch.unclear:
        yield "unknown", Kind.NOTE, f"the mode is not known: {launch.unclear}", "lint the running process: --pid"
    if launch.igvm and launch.encryption is not None:
        yield "unknown", Kind.NOTE, "firmware and policy are in an IGVM file, which is not read", "sevkit measure"


_RULES: tuple[Rule, ...] = (_use, _policy, _firmware, _address, _machine, _devices, _measured, _left_out)


def pair(first: Launch, second: Launch) -> list[Finding]:
    """The differences of two launches besides the mode: with these, their ratio does not measure the mode."""
    found = []
    for name, left, right in _compared(first, second):
        if left != right:
            message = f"{name}: {left or '(default)'}, in {second.origin}: {right or '(default)'}"
            fix = "give both the same; sevkit guest launch --mode nosev,sev does"
            found.append(Finding("pair", Kind.UNFAIR, first.origin, message, fix))
    return found


def _compared(a: Launch, b: Launch) -> Iterator[tuple[str, str, str]]:
    yield "CPU model", a.cpu, b.cpu
    yield "vCPUs", a.smp, b.smp
    yield "memory", a.memory, b.memory
    yield "accelerator", a.accel, b.accel
    yield "machine", a.machine.get("type", ""), b.machine.get("type", "")
    yield "memory backends", _backends(a), _backends(b)
    yield "devices", _kinds(part.kind for part in a.devices), _kinds(part.kind for part in b.devices)
    yield "disk cache", _options(a, "cache"), _options(b, "cache")
    yield "disk aio", _options(a, "aio"), _options(b, "aio")
    yield "virtio transport", _transport(a), _transport(b)
    yield "firmware", _shape(a), _shape(b)


def _backends(launch: Launch) -> str:
    wanted = ("share", "hugetlb", "hugetlbsize", "prealloc", "mem-path", "host-nodes", "policy")
    rows = [part for part in launch.objects if part.kind.startswith("memory-backend")]
    return _kinds(f"{p.kind}({','.join(f'{k}={p.options[k]}' for k in wanted if k in p.options)})" for p in rows)


def _kinds(words: Iterator[str]) -> str:
    return ", ".join(sorted(words))


def _options(launch: Launch, name: str) -> str:
    return _kinds(d.options.get(name, "default") for d in launch.drives if d.options.get("if") != "pflash")


def _transport(launch: Launch) -> str:
    """Compare the transport: only if it is the same in the plain guest are bounce buffers a cost of the mode."""
    rows = [part for part in launch.devices if part.kind.startswith("virtio")]
    return _kinds(f"{p.kind}:{p.options.get('iommu_platform', 'default')}" for p in rows)


def _shape(launch: Launch) -> str:
    """Compare the firmware: for a benchmark OVMF as flash or with -bios is the same, but SeaBIOS is not."""
    return "OVMF" if launch.pflash or launch.bios or launch.unknown else "SeaBIOS"


def compare(launches: Sequence[Launch]) -> list[Finding]:
    """Compare each plain launch with each encrypted one."""
    known = [each for each in launches if not each.unclear]
    plain = [each for each in known if each.mode is Mode.NOSEV]
    return [finding for a in known if a.mode is not Mode.NOSEV for b in plain for finding in pair(a, b)]
