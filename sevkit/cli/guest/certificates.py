"""``sevkit guest certificates``."""

from pathlib import Path
from typing import Any

import click

from sevkit.cli.output import finish, json_option
from sevkit.errors import UsageError
from sevkit.result import Result


@click.command()
@click.argument("name")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@json_option
def certificates(name: str, folder: Path, as_json: bool) -> None:
    """Write the certificates that a guest's attestation reports are signed under to FOLDER.

    The files are vcek.pem, ask.pem and ark.pem: of sevkit's own chain, for emulated SEV-SNP guests. The chain of a real
    processor comes from AMD.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    from sevkit.hypervisor import registry
    from sevkit.hypervisor.qemu import firmware_model

    record = registry.read(name)
    keys = firmware_model.endorser(registry.folder(record.name))
    if keys is None:
        raise UsageError(
            f"{name} is no emulated SEV-SNP guest: sevkit has no keys for its reports",
            hint="sevkit guest launch --hypervisor emulated --mode sev-snp",
        )
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for kind, der in keys.certificates().items():
        path = folder / f"{kind}.pem"
        path.write_bytes(x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM))
        files[kind] = str(path)
    data = {"guest": name, "provenance": record.provenance, "chip_id": keys.info.chip_id.hex(), "files": files}
    finish(Result("guest certificates", data), as_json=as_json, human=_show)


def _show(data: dict[str, Any]) -> None:
    for path in data["files"].values():
        click.echo(path)
