"""``sevkit guest attest``: verify a guest's report and compare it with the guest's launch."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sevkit.attestation.payload import AttestedGuest
from sevkit.cli.output import reporting
from sevkit.errors import ExitCode
from sevkit.result import Result

if TYPE_CHECKING:
    from sevkit.attestation.report.certificates import Certificate

_CODES = {"accepted": ExitCode.DONE, "rejected": ExitCode.NO, "inconclusive": ExitCode.INCONCLUSIVE}


@click.command("attest")
@click.argument("name")
@click.option(
    "--policy",
    "policy_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A policy: what else the report must contain (TOML or JSON).",
)
@click.option(
    "--interface",
    type=click.Choice(["auto", "configfs", "device"]),
    default="auto",
    show_default=True,
    help="How the guest asks: configfs-tsm (Linux 6.7), or /dev/sev-guest (Linux 5.19).",
)
@click.option("--vmpl", type=click.IntRange(0, 3), help="The VMPL that the report must name [default: the kernel's].")
@click.option("--save", type=click.Path(dir_okay=False, path_type=Path), help="Keep the report in a file.")
@reporting
def attest(
    name: str, policy_file: Path | None, interface: str, vmpl: int | None, save: Path | None
) -> Result[AttestedGuest]:
    """Ask a SEV-SNP guest for a report, judge it, and compare its measurement with the digest of its launch.

    Exits 0 when it is accepted, 1 when it is rejected, 3 when the verdict is inconclusive. A report of an emulated
    guest is judged by the emulated chip's own root: it shows how attestation works, and is evidence of no hardware.
    """
    from sevkit.attestation.ask import Interface
    from sevkit.attestation.attest import attest as ask
    from sevkit.attestation.report.policy import Policy, read
    from sevkit.hypervisor import registry
    from sevkit.hypervisor.select import attach
    from sevkit.render import attestation as text

    policy = read(policy_file.read_bytes(), str(policy_file)) if policy_file is not None else Policy()
    record = registry.read(name)
    found = ask(attach(name), record.command_line, _roots(name), policy, interface=Interface(interface), vmpl=vmpl)
    if save is not None:
        save.write_bytes(found.evidence.report)
    data: AttestedGuest = {
        **found.verification.as_dict(),
        "guest": name,
        "provenance": record.provenance,
        "launch_digest": found.expected.hex(),
        "measurement": found.verification.report.bytes_of("measurement").hex(),
        "equal": found.expected == found.verification.report.bytes_of("measurement"),
    }
    return Result("guest attest", data, _CODES[data["verdict"]], human=text.attested)


def _roots(name: str) -> "list[Certificate]":
    """The emulated chip's root; none for a guest on hardware, whose root is AMD's."""
    from sevkit.attestation.report.certificates import load
    from sevkit.hypervisor import registry
    from sevkit.hypervisor.qemu import firmware_model

    keys = firmware_model.endorser(registry.folder(name))
    return load(keys.certificates()["ark"])[0] if keys is not None else []
