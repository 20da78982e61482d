"""The launch inputs that a QEMU command line describes. Pure except for the function that reads files."""

import json
from collections.abc import Callable, Iterator, Sequence

from sevkit.attestation.measure import cpus
from sevkit.errors import BadInputError, UsageError
from sevkit.hypervisor.lint import command_line
from sevkit.hypervisor.lint.model import SEV_OBJECTS
from sevkit.model.digest import Kernel, LaunchInputs
from sevkit.vocabulary import Mode

_ES = 1 << 2  # of the policy of SEV (SEV API 55766, guest policy)
_SNP_ACTIVE, _DEBUG_SWAP = 1 << 0, 1 << 5

Reader = Callable[[str], bytes]


def line_in(data: bytes, origin: str) -> list[str]:
    """The one command line in a file: as text, or as `guest launch --dry-run --json` prints it.

    Raises BadInputError if there is none, UsageError if there are several.
    """
    text = data.decode("utf-8-sig", "replace")
    if text.lstrip().startswith("{"):
        try:
            found = json.loads(text)["data"]["command_lines"]
            lines = [[str(word) for word in line] for line in found]
        except (ValueError, RecursionError, LookupError, TypeError) as error:
            raise BadInputError(f"{origin}: not what `guest launch --dry-run --json` prints") from error
    else:
        lines = command_line.arguments(text, origin)
    if len(lines) != 1:
        raise UsageError(f"{origin}: {len(lines)} command lines", hint="give a file with one")
    return lines[0]


def launch_of(argv: Sequence[str], read: Reader) -> LaunchInputs:
    """The launch of a command line; raises UsageError if its guest has no launch digest."""
    kind, properties = _encryption(argv)
    mode = Mode.SEV_SNP if "snp" in kind else Mode.SEV
    if mode is Mode.SEV and int(properties.get("policy", "0"), 0) & _ES:
        mode = Mode.SEV_ES
    if any(word == "-igvm-cfg" or word.startswith("igvm-cfg,") for word in argv):
        raise UsageError("this guest starts from an IGVM file", hint="sevkit measure --igvm FILE")
    features = (_SNP_ACTIVE if mode is Mode.SEV_SNP else 0) | (
        _DEBUG_SWAP if properties.get("debug-swap") == "on" else 0
    )
    return LaunchInputs(
        mode,
        read(_firmware(argv)),
        vcpus=_vcpus(argv),
        signature=_signature(argv, emulated="tcg" in kind),
        features=features or 1,
        kernel=_kernel(argv, read) if properties.get("kernel-hashes") == "on" else None,
    )


def _encryption(argv: Sequence[str]) -> tuple[str, dict[str, str]]:
    for item in command_line.launch(argv, "").objects:
        if item.kind in SEV_OBJECTS:
            return item.kind, dict(item.options)
    raise UsageError("this guest is not encrypted: it has no launch digest")


def _signature(argv: Sequence[str], *, emulated: bool) -> int:
    """That of the CPU model; ``host``, and ``max`` under KVM, is whatever the host has."""
    model = _last(argv, "-cpu", "qemu64").partition(",")[0]
    if model == "host" or (model == "max" and not emulated):
        raise UsageError(
            f"-cpu {model} has the host's signature", hint="give the options of the launch, with --vcpu-sig"
        )
    return cpus.signature_of(model)


def _values(argv: Sequence[str], option: str) -> Iterator[str]:
    for number, word in enumerate(argv[:-1]):
        if word.lstrip("-") == option.lstrip("-") and word.startswith("-"):
            yield argv[number + 1]


def _last(argv: Sequence[str], option: str, default: str) -> str:
    return next(reversed(list(_values(argv, option))), default)


def _vcpus(argv: Sequence[str]) -> int:
    words = _last(argv, "-smp", "1").split(",")
    given = dict(word.partition("=")[::2] for word in words)
    count = given.get("cpus", words[0])
    if not count.isdecimal():
        raise UsageError(f"-smp {','.join(words)} names no number of vCPUs")
    return int(count)


def _firmware(argv: Sequence[str]) -> str:
    """``-bios``, or the first flash drive."""
    bios = _last(argv, "-bios", "")
    if bios:
        return bios
    for value in _values(argv, "-drive"):
        options = dict(part.partition("=")[::2] for part in value.split(","))
        if options.get("if") == "pflash" and options.get("unit", "0") == "0" and options.get("file"):
            return options["file"]
    raise UsageError("this guest has no firmware of its own: QEMU's default is not measured as a file")


def _kernel(argv: Sequence[str], read: Reader) -> Kernel | None:
    kernel, initrd = _last(argv, "-kernel", ""), _last(argv, "-initrd", "")
    if not kernel:
        return None
    return Kernel(read(kernel), read(initrd) if initrd else b"", _last(argv, "-append", ""))
