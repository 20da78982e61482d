"""Alternatives for each input of a launch digest: the values that people and tools mix up. Pure.

Each list starts with the given value. ``wide`` lists are long: they are tried alone, not in combination;
``deep`` ones have every possible value, and are tried alone after pairs of the others.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations, product
from typing import Any

from sevkit.attestation.measure import cpus
from sevkit.model.digest import VMMS, LaunchInputs
from sevkit.model.kernel_hashes import Kernel
from sevkit.model.measure import VMSA_GPA
from sevkit.vocabulary import Mode

MOST_VCPUS = 512


@dataclass(frozen=True)
class Option:
    """A value that an input may have had, and its name for the user."""

    label: str
    value: Any


@dataclass(frozen=True)
class Dimension:
    """An input with the values to try: ``options[0]`` is the given one."""

    name: str
    options: Sequence[Option]
    wide: Sequence[Option] = ()
    deep: Callable[[], Iterator[Option]] | None = None


@dataclass(frozen=True)
class Material:
    """Further files to try in place of the given ones: name -> contents."""

    firmware: Mapping[str, bytes] = field(default_factory=dict)
    kernels: Mapping[str, bytes] = field(default_factory=dict)
    initrds: Mapping[str, bytes] = field(default_factory=dict)
    cmdlines: Sequence[str] = ()


# Signatures of physical processors, which a guest with -cpu host has.
_REAL = {
    "Milan B0 (host)": 0x00A00F10,
    "Milan B1 (host)": 0x00A00F11,
    "Milan B2 (host)": 0x00A00F12,
    "Genoa B0 (host)": 0x00A10F10,
    "Genoa B1 (host)": 0x00A10F11,
    "Genoa B2 (host)": 0x00A10F12,
    "Bergamo or Siena A2 (host)": 0x00AA0F02,
    "Turin C0 (host)": 0x00B00F20,
    "Turin C1 (host)": 0x00B00F21,
    "Turin Dense (host)": 0x00B10F10,
    "Rome B0 (host)": 0x00830F10,
    "none (0)": 0,
}
_FEATURE_BITS = {
    "SNP": 0,
    "vTOM": 1,
    "ReflectVC": 2,
    "RestrictedInjection": 3,
    "AlternateInjection": 4,
    "DebugSwap": 5,
    "PreventHostIBS": 6,
    "BTBIsolation": 7,
    "VmplSSS": 8,
    "SecureTSC": 9,
    "VmgexitParam": 10,
    "IbsVirt": 12,
    "VmsaRegProt": 14,
    "SmtProt": 15,
}


def dimensions(inputs: LaunchInputs, material: Material) -> list[Dimension]:
    """All inputs of a launch with the values to try; inputs without effect in this mode are left out."""
    found = [_firmware(inputs, material)]
    if inputs.kernel is not None:
        found += _kernel(inputs.kernel, material) if isinstance(inputs.kernel, Kernel) else []
    found.append(_vmms(inputs))
    if inputs.mode is not Mode.SEV:
        found.append(_signatures(inputs.signature))
    if inputs.mode is Mode.SEV_ES:
        found.append(_es_features(inputs.sev_features))
    if inputs.mode is Mode.SEV_SNP:
        found += [_features(inputs.features), _order(), _quirks(svsm=inputs.svsm is not None)]
    return [dimension for dimension in found if len(dimension.options) > 1 or dimension.wide]


def _firmware(inputs: LaunchInputs, material: Material) -> Dimension:
    others = [Option(name, data) for name, data in material.firmware.items() if data != inputs.firmware]
    return Dimension("ovmf", [Option("as given", inputs.firmware), *others])


def _distinct(options: Sequence[Option]) -> list[Option]:
    """The first option unchanged, then each other value once, with all its names."""
    first = options[0]
    labels: dict[Any, dict[str, None]] = {}
    for option in options[1:]:
        if option.value != first.value:
            labels.setdefault(option.value, {})[option.label] = None
    return [first, *(Option(", ".join(names), value) for value, names in labels.items())]


def _kernel(kernel: Kernel, material: Material) -> list[Dimension]:
    kernels = [Option("as given", kernel.kernel), Option("no kernel hashes", None)]
    kernels += [Option(name, data) for name, data in material.kernels.items()]
    initrds = [Option("as given", kernel.initrd), Option("no initrd", b"")]
    initrds += [Option(name, data) for name, data in material.initrds.items()]
    lines = [Option(repr(text), text.encode(errors="surrogateescape") + b"\0") for text in _lines(kernel, material)]
    plain = kernel.line()[:-1]
    lines.append(Option("without the terminating zero", plain))
    lines.append(Option("with a newline and no terminating zero", plain + b"\n"))
    return [
        Dimension("kernel", _distinct(kernels)),
        Dimension("initrd", _distinct(initrds)),
        Dimension("append", _distinct(lines)),
    ]


def _lines(kernel: Kernel, material: Material) -> Iterator[str]:
    """The command line with the changes that shells, files, loaders and people make."""
    line = kernel.cmdline
    yield line
    yield line.strip()
    yield " ".join(line.split())
    yield from (line + end for end in ("\n", " ", "\r\n", "\t", "\0"))
    yield from (f" {line}", f'"{line}"', f"'{line}'", line.strip("\"'"), line.replace('"', ""), line.replace("'", ""))
    yield from (f"{line} initrd=initrd", f"{line} initrd=initrd.img", re.sub(r"\s*\binitrd=\S+", "", line))
    yield from (line.replace("\n", " "), line.rstrip(), line.lstrip(), "")
    words = line.split()
    for number in range(min(len(words), 40)):
        yield " ".join(words[:number] + words[number + 1 :])
    yield from (f"{line} {word}" for word in ("console=ttyS0", "quiet", "ro", "rw", "mem_encrypt=on"))
    yield from material.cmdlines


def _vmms(inputs: LaunchInputs) -> Dimension:
    names = [inputs.vmm, *(name for name in VMMS if name != inputs.vmm)] if inputs.svsm is None else [inputs.vmm]
    return Dimension("vmm", [Option(name, name) for name in names])


def _signatures(given: int) -> Dimension:
    first = Option(f"{cpus.type_of(given) or 'as given'} ({given:#x})", given)
    named = [Option(f"{name} ({value:#x})", value) for name, value in cpus.SIGNATURES.items()]
    real = [Option(f"{name} ({value:#x})", value) for name, value in _REAL.items()]
    known = {option.value for option in (first, *named, *real)}
    wide = [option for option in _parts((23, 25, 26), range(3)) if option.value not in known]
    tried = known | {option.value for option in wide}

    def deep() -> Iterator[Option]:
        return (option for option in _parts((6, 15, *range(21, 28)), range(16)) if option.value not in tried)

    return Dimension("vcpu-type", _distinct([first, *named, *real]), wide, deep)


def _parts(families: Iterable[int], steppings: Iterable[int]) -> Iterator[Option]:
    """Signatures of all models of the given families."""
    for family, model, stepping in product(families, range(256), steppings):
        yield Option(f"family {family}, model {model}, stepping {stepping}", cpus.signature(family, model, stepping))


def _features(given: int) -> Dimension:
    near = [Option(f"{given:#x}", given), *(Option(f"{value:#x}", value) for value in (1, 0x21, 0))]
    near += [Option(f"{given ^ 1 << bit:#x} ({name})", given ^ 1 << bit) for name, bit in _FEATURE_BITS.items()]
    near = _distinct(near)
    known = {option.value for option in near}
    wide = []
    bits = list(_FEATURE_BITS.values())[1:]
    for count in range(4):
        for chosen in combinations(bits, count):
            value = 1 | sum(1 << bit for bit in chosen)
            if value not in known:
                wide.append(Option(f"{value:#x}", value))
    tried = known | {option.value for option in wide}

    def deep() -> Iterator[Option]:
        return (Option(f"{value:#x}", value) for value in range(1 << 16) if value not in tried)

    return Dimension("guest-features", near, wide, deep)


def _es_features(given: int) -> Dimension:
    """What KVM may have set in a SEV-ES guest: nothing, or DebugSwap, by its own choice before KVM_SEV_INIT2."""
    swap = 1 << _FEATURE_BITS["DebugSwap"]
    options = [Option(f"{given:#x}", given), Option("0x0", 0), Option(f"{swap:#x} (DebugSwap)", swap)]
    return Dimension("guest-features", _distinct(options))


def _order() -> Dimension:
    return Dimension(
        "page order",
        [
            Option("as the VMM has it", "vmm"),
            Option("CPUID page last", "cpuid-last"),
            Option("by guest address", "by-gpa"),
            Option("by descending guest address", "by-gpa-down"),
            Option("kernel hashes first", "hashes-first"),
            Option("kernel hashes last", "hashes-last"),
            Option("no SVSM calling area (tools before it existed)", "no-caa"),
            Option("SEC_MEM unmeasured", "sec-mem-unmeasured"),
            Option("SEC_MEM left out", "no-sec-mem"),
            Option("no metadata pages at all", "none"),
        ],
    )


@dataclass(frozen=True)
class Quirk:
    """How a tool builds save areas: registers that it forces, the measured address, whether all vCPUs are alike."""

    registers: tuple[tuple[str, int], ...] = ()
    gpa: int = VMSA_GPA
    all_alike: bool = False
    first_is_ap: bool = False


def _quirks(*, svsm: bool) -> Dimension:
    options = [
        Option("as hardware", Quirk()),
        Option("every vCPU starts as the boot processor", Quirk(all_alike=True)),
        Option("the boot processor starts as the others", Quirk(first_is_ap=True)),
        Option("save areas at address -1", replace(Quirk(), gpa=(1 << 64) - 1)),
        Option("save areas at 0xFFFFFFFFFFFFF000", replace(Quirk(), gpa=0xFFFFFFFFFFFFF000)),
        Option("save areas at 0xFFFFFFFFFF000 (52 bits)", replace(Quirk(), gpa=0xFFFFFFFFFF000)),
        Option("RDX 0 (the sev crate's EC2)", Quirk((("rdx", 0),))),
        Option("RDX 0x600", Quirk((("rdx", 0x600),))),
        Option("MXCSR and FCW 0", Quirk((("mxcsr", 0), ("x87_fcw", 0)))),
        Option("without EFER.SVME", Quirk((("efer", 0),))),
        Option("without CR4.MCE", Quirk((("cr4", 0),))),
    ]
    if svsm:
        options.append(Option("FCW 0x37F (sev-snp-measure leaves it 0 for SVSM)", Quirk((("x87_fcw", 0x37F),))))
    return Dimension("vmsa", options)
