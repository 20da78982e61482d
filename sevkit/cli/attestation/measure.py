"""``sevkit measure``: the launch digest that a guest will report."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sevkit.attestation.payload import IgvmMeasurement, Measurement
from sevkit.cli.attestation import files
from sevkit.cli.attestation.explain import explain
from sevkit.cli.attestation.idblock import idblock
from sevkit.cli.attestation.launch_options import FILE, FIRMWARE_ALONE, MODES, launch_inputs, launch_options
from sevkit.cli.output import json_wanted, reporting
from sevkit.cli.refuse import given, misplaced
from sevkit.errors import ExitCode, UsageError
from sevkit.render import attestation as text
from sevkit.result import Result

if TYPE_CHECKING:
    from sevkit.attestation.measure.igvm import Measured
    from sevkit.model.digest import LaunchInputs


@click.group("measure", invoke_without_command=True)
@launch_options
@click.option("--guest", metavar="NAME", help="A guest that sevkit runs, in place of the options of a launch.")
@click.option(
    "--launch",
    type=FILE,
    help="QEMU's command line, or what `guest launch --dry-run --json` printed, in place of the options of a launch.",
)
@click.option("--igvm", type=FILE, help="An IGVM file in place of firmware and vCPUs.")
@click.option("--native-zero", is_flag=True, help="Pages without data count as zero pages, with --igvm.")
@click.option("--trace", "with_trace", is_flag=True, help="Print each page with the digest after it.")
@click.option("--dump-vmsa", type=click.Path(file_okay=False, path_type=Path), help="Write save areas to a folder.")
@click.option("--output-format", type=click.Choice(["hex", "base64"]), default="hex", show_default=True)
@reporting
@click.pass_context
def command(ctx: click.Context, /, **options: Any) -> Result[Measurement] | Result[IgvmMeasurement] | None:
    """Compute the launch digest of a SEV, SEV-ES or SEV-SNP guest, equal to what the hardware measures.

    With a command: `explain` finds out why a report has another digest, `idblock` makes the ID block that a guest's
    owner signs. Their options stand behind their names.
    """
    if ctx.invoked_subcommand is not None:
        misplaced(ctx)
        return None
    base64 = options["output_format"] == "base64"
    if options["igvm"] is None:
        launch = _launch(options)
        _warn(launch["warnings"])
        return Result("measure", launch, human=lambda data: text.measurement(data, base64=base64))
    measured = _igvm(options)
    _warn(measured["warnings"])
    code = ExitCode.NO if measured["id_block_matches"] is False else ExitCode.DONE
    return Result("measure", measured, code, human=lambda data: text.igvm(data, base64=base64))


def _launch(options: dict[str, Any]) -> Measurement:
    from sevkit.attestation.measure import cpus
    from sevkit.attestation.measure.trace import trace
    from sevkit.model.digest import firmware_run, launch_digest
    from sevkit.model.measure import fold
    from sevkit.model.ovmf import parse
    from sevkit.vocabulary import Mode

    if options["native_zero"]:
        raise UsageError("--native-zero is for --igvm")
    inputs = _inputs(options)
    if options["mode"] == FIRMWARE_ALONE:
        digest = fold(bytes(48), [firmware_run("firmware", parse(inputs.firmware))])
    else:
        digest = launch_digest(inputs)
    data: Measurement = {
        "launch_digest": digest.hex(),
        "mode": inputs.mode.value,
        "vcpus": inputs.vcpus,
        "vcpu_sig": f"{inputs.signature:#x}",
        "vcpu_type": options["vcpu_type"] or cpus.type_of(inputs.signature),
        "guest_features": f"{inputs.sev_features if inputs.mode is not Mode.SEV else 0:#x}",
        "vmm": inputs.vmm,
        "kernel_hashes": inputs.kernel is not None,
        "warnings": list(_warnings(inputs)),
    }
    if options["with_trace"]:
        data["trace"] = [line.as_dict() for line in trace(inputs)]
    if options["dump_vmsa"] is not None:
        data["vmsa_files"] = _dump(inputs, options["dump_vmsa"])
    return data


def _warn(warnings: Sequence[str]) -> None:
    """On standard error: what stands on standard output is the digest."""
    for line in () if json_wanted() else warnings:
        click.echo(f"warning: {line}", err=True)


def _warnings(inputs: "LaunchInputs") -> Iterator[str]:
    """What makes the digest one that no guest will report."""
    from sevkit.model.ovmf import parse
    from sevkit.vocabulary import Mode

    if inputs.mode is Mode.SEV_SNP and not parse(inputs.firmware).sections:
        yield "this firmware has no SEV metadata: QEMU starts no SEV-SNP guest with it"


def _inputs(options: dict[str, Any]) -> "LaunchInputs":
    if options["guest"] is not None:
        return _of_guest(options)
    if options["launch"] is not None:
        return _of_line(options)
    if options["mode"] == FIRMWARE_ALONE:
        _refuse_others(options, _WITH_FIRMWARE, f"--mode {FIRMWARE_ALONE}: the firmware says it all")
        options = {**options, "mode": "sev-snp", "vcpus": 1, "vcpu_sig": 0}
    return launch_inputs(options)


def _of_line(options: dict[str, Any]) -> "LaunchInputs":
    """The launch that a command line in a file describes; relative paths are taken from here."""
    from sevkit.attestation.measure.qemu_line import launch_of, line_in

    _refuse_others(options, _WITH_LAUNCH, "--launch: the command line says it all")
    path = options["launch"]
    return launch_of(line_in(files.read(path, _MOST_LINE), str(path)), lambda name: files.read(Path(name)))


def _of_guest(options: dict[str, Any]) -> "LaunchInputs":
    """The launch of a running guest, from the command line that its VMM was started with."""
    from sevkit.attestation.measure.qemu_line import launch_of
    from sevkit.hypervisor import registry

    _refuse_others(options, _WITH_GUEST, "--guest: its command line says it all")
    return launch_of(registry.read(options["guest"]).command_line, lambda name: files.read(Path(name)))


def _refuse_others(options: dict[str, Any], allowed: set[str], why: str) -> None:
    ctx = click.get_current_context()
    for item in given(ctx):
        if item.name in options and item.name not in allowed:
            raise UsageError(f"{item.opts[0]} has no effect with {why}")


def _dump(inputs: Any, folder: Path) -> list[str]:
    from sevkit.model.digest import save_areas
    from sevkit.model.ovmf import parse
    from sevkit.vocabulary import Mode

    if inputs.mode is Mode.SEV or inputs.svsm is not None:
        raise UsageError("--dump-vmsa is for SEV-ES and SEV-SNP without an SVSM")
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for number, page in enumerate(save_areas(inputs, parse(inputs.firmware))):
        path = folder / f"vmsa{number}.bin"
        path.write_bytes(page)
        names.append(str(path))
    return names


def _of_id_block(measured: "Measured") -> Iterator[str]:
    if measured.id_block_digest not in {None, measured.digest}:
        yield f"the file's ID block expects another digest: {(measured.id_block_digest or b'').hex()}"


_MOST_LINE = 1 << 22
_WITH_FIRMWARE = {"mode", "ovmf", "output_format"}
_WITH_LAUNCH = {"launch", "with_trace", "dump_vmsa", "output_format"}
_WITH_GUEST = {"guest", "with_trace", "dump_vmsa", "output_format"}
_WITH_IGVM = {"igvm", "mode", "native_zero", "with_trace", "output_format"}


def _igvm(options: dict[str, Any]) -> IgvmMeasurement:
    from sevkit.attestation.measure import igvm
    from sevkit.attestation.measure.trace import trace_runs
    from sevkit.vocabulary import Mode

    _refuse_others(options, _WITH_IGVM, "--igvm: the file says it all")
    mode = MODES[options["mode"] or "sev-snp"]
    file = igvm.parse(files.read(options["igvm"]))
    measured = igvm.measure(file, mode, native_zero=options["native_zero"])
    data: IgvmMeasurement = {
        "launch_digest": measured.digest.hex(),
        "mode": mode.value,
        "policy": None if measured.policy is None else f"{measured.policy:#x}",
        "warnings": [*measured.warnings, *_of_id_block(measured)],
        "id_block_digest": measured.id_block_digest.hex() if measured.id_block_digest else None,
        "id_block_matches": measured.id_block_digest == measured.digest if measured.id_block_digest else None,
    }
    if options["with_trace"]:
        if mode is not Mode.SEV_SNP:
            raise UsageError("--trace of an IGVM file is for SEV-SNP")
        runs = igvm.snp_runs(file, native_zero=options["native_zero"])
        data["trace"] = [line.as_dict() for line in trace_runs(bytes(48), runs)]
    return data


command.add_command(explain)
command.add_command(idblock)
