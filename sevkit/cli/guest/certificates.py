"""``sevkit guest certificates``."""

from collections.abc import Iterator
from pathlib import Path

import click

from sevkit.cli.output import reporting
from sevkit.errors import UsageError
from sevkit.hypervisor.payload import GuestCertificates
from sevkit.result import Result


@click.command()
@click.argument("name")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@reporting
def certificates(name: str, folder: Path) -> Result[GuestCertificates]:
    """Write the certificate chain of a guest's attestation reports to FOLDER.

    The files are vcek.pem, ask.pem and ark.pem: sevkit's own chain, for emulated SEV-SNP guests. The chain of a real
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
    data: GuestCertificates = {
        "guest": name,
        "provenance": record.provenance,
        "chip_id": keys.info.chip_id.hex(),
        "files": files,
    }
    return Result("guest certificates", data, human=_show)


def _show(data: GuestCertificates) -> Iterator[str]:
    yield from data["files"].values()
