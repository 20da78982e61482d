"""The options that describe a launch, shared by `sevkit measure` and `sevkit measure explain`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from sevkit.attestation.measure import cpus
from sevkit.cli.attestation import files
from sevkit.cli.refuse import given
from sevkit.errors import UsageError
from sevkit.model.digest import VMMS, Kernel, LaunchInputs, Svsm
from sevkit.model.vmsa import SNP_ACTIVE
from sevkit.vocabulary import Mode

# sevkit's names first, then those of sev-snp-measure.
MODES = {
    "sev": Mode.SEV,
    "sev-es": Mode.SEV_ES,
    "sev-snp": Mode.SEV_SNP,
    "seves": Mode.SEV_ES,
    "snp": Mode.SEV_SNP,
    "snp:svsm": Mode.SEV_SNP,
    "snp:ovmf-hash": Mode.SEV_SNP,
}
FIRMWARE_ALONE = "snp:ovmf-hash"
_OF_SAVE_AREAS = {
    *("vcpus", "vcpu_type", "vcpu_sig", "vcpu_family", "vcpu_model", "vcpu_stepping", "guest_features", "vmm"),
}
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


class Number(click.ParamType[int]):
    """A number in decimal or with 0x."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read it."""
        if isinstance(value, int):
            return value
        try:
            return int(value, 0)
        except ValueError:
            self.fail(f"{value!r} is no number", param, ctx)


class Hex(click.ParamType[bytes]):
    """Bytes in hex or base64."""

    name = "hex"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> bytes:
        """Read it."""
        if isinstance(value, bytes):
            return value
        from sevkit.attestation.report.evidence import decode

        raw = decode(value.strip())
        if not raw:
            self.fail(f"{value!r} is neither hex nor base64", param, ctx)
        return raw


_OPTIONS = [
    click.option("--mode", type=click.Choice(list(MODES)), help="How the guest is protected."),
    click.option("--vcpus", type=int, metavar="N", help="Number of virtual CPUs."),
    click.option("--vcpu-type", metavar="TYPE", help="QEMU's CPU model, such as EPYC-v4."),
    click.option("--vcpu-sig", type=Number(), help="CPUID 1 EAX in place of a CPU model."),
    click.option("--vcpu-family", type=int, help="Family in place of a CPU model, with model and stepping."),
    click.option("--vcpu-model", type=int, help="Model, with --vcpu-family."),
    click.option("--vcpu-stepping", type=int, help="Stepping, with --vcpu-family."),
    click.option("--ovmf", type=FILE, help="The firmware image."),
    click.option("--kernel", type=FILE, help="A kernel that QEMU boots, with kernel-hashes=on."),
    click.option("--initrd", type=FILE, help="Its initrd."),
    click.option("--append", metavar="TEXT", help="Its command line."),
    click.option(
        "--guest-features",
        type=Number(),
        help="SEV_FEATURES: 1 if it is not given; DebugSwap is 0x20. SEV-ES: without 1.",
    ),
    click.option(
        "--vmm", "--vmm-type", type=click.Choice(VMMS, case_sensitive=False), default="qemu", show_default=True
    ),
    click.option("--ovmf-hash", "--snp-ovmf-hash", type=Hex(), help="The firmware's digest, in place of its pages."),
    click.option("--svsm", type=FILE, help="An SVSM image that is loaded below the firmware."),
    click.option("--vars-size", type=int, help="Size of the firmware's variables, with --svsm."),
    click.option("--vars-file", type=FILE, help="The firmware's variables, with --svsm."),
]


def launch_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that describe a launch."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


NAMES = frozenset(
    parameter.lstrip("-").replace("-", "_")
    for parameter in (
        *("mode", "vcpus", "vcpu-type", "vcpu-sig", "vcpu-family", "vcpu-model", "vcpu-stepping", "ovmf", "kernel"),
        *("initrd", "append", "guest-features", "vmm", "ovmf-hash", "svsm", "vars-size", "vars-file"),
    )
)


def launch_inputs(options: dict[str, Any]) -> LaunchInputs:
    """The launch that the options describe; raises UsageError for what does not go together."""
    if options["mode"] is None:
        raise UsageError("missing option '--mode'", hint=f"one of {', '.join(MODES)}")
    if options["ovmf"] is None:
        raise UsageError("missing option '--ovmf'", hint="the firmware image, such as /usr/share/ovmf/OVMF.fd")
    if options["mode"] == FIRMWARE_ALONE:
        raise UsageError(f"--mode {FIRMWARE_ALONE} is the firmware's part of a digest, not a launch")
    mode = MODES[options["mode"]]
    _refuse(mode, options)
    vcpus = options["vcpus"] if mode is not Mode.SEV else 1
    if vcpus is None:
        raise UsageError(f"missing option '--vcpus' in mode {mode}")
    return LaunchInputs(
        mode,
        files.read(options["ovmf"]),
        vcpus=vcpus,
        signature=_signature(mode, options),
        features=1 if options["guest_features"] is None else options["guest_features"],
        kernel=_kernel(options),
        vmm=options["vmm"].lower(),
        svsm=_svsm(options),
        firmware_digest=options["ovmf_hash"],
    )


def _refuse(mode: Mode, options: dict[str, Any]) -> None:
    """Options that would have no effect are mistakes."""
    if options["kernel"] is None and (options["initrd"] is not None or options["append"] is not None):
        raise UsageError("--initrd and --append need --kernel")
    if options["svsm"] is None and (options["vars_size"] is not None or options["vars_file"] is not None):
        raise UsageError("--vars-size and --vars-file need --svsm")
    if options["mode"] == "snp:svsm" and options["svsm"] is None:
        raise UsageError("mode snp:svsm needs --svsm")
    features = options["guest_features"]
    if options["svsm"] is not None and features not in (None, SNP_ACTIVE):
        raise UsageError(
            f"--guest-features {features:#x} has no effect with --svsm: its save areas have SNPActive alone",
            hint="leave it out",
        )
    if mode is Mode.SEV:
        _refuse_of_save_areas()
    if mode is Mode.SEV_ES and features is not None and features & SNP_ACTIVE:
        raise UsageError(f"--guest-features {features:#x}: bit 0 (SNPActive) is set in SEV-SNP guests alone")


def _refuse_of_save_areas() -> None:
    for item in given(click.get_current_context()):
        if item.name in _OF_SAVE_AREAS:
            raise UsageError(
                f"{item.opts[0]} is for SEV-ES and SEV-SNP: SEV measures no save areas", hint="leave it out"
            )


def _signature(mode: Mode, options: dict[str, Any]) -> int:
    family, model, stepping = (options[f"vcpu_{name}"] for name in ("family", "model", "stepping"))
    ways = [options["vcpu_type"], options["vcpu_sig"], family]
    if sum(way is not None for way in ways) > 1:
        raise UsageError("--vcpu-type, --vcpu-sig and --vcpu-family exclude each other")
    if family is None and (model is not None or stepping is not None):
        raise UsageError("--vcpu-model and --vcpu-stepping need --vcpu-family")
    if family is not None:
        return cpus.signature(family, model or 0, stepping or 0)
    if options["vcpu_type"] is not None:
        return cpus.signature_of(options["vcpu_type"])
    if options["vcpu_sig"] is None and mode is not Mode.SEV and options["vmm"].lower() == "qemu":
        raise UsageError(f"missing option '--vcpu-type' in mode {mode}", hint=f"such as {', '.join(cpus.SIGNATURES)}")
    return int(options["vcpu_sig"] or 0)


def _kernel(options: dict[str, Any]) -> Kernel | None:
    if options["kernel"] is None:
        return None
    return Kernel(files.read(options["kernel"]), files.read_optional(options["initrd"]) or b"", options["append"] or "")


def _svsm(options: dict[str, Any]) -> Svsm | None:
    if options["svsm"] is None:
        return None
    size, path = options["vars_size"], options["vars_file"]
    if (size is None) == (path is None):
        raise UsageError("an SVSM needs --vars-size or --vars-file: it is loaded below the variables")
    return Svsm(files.read(options["svsm"]), size if path is None else path.stat().st_size)
