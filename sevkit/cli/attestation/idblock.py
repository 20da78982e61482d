"""``sevkit measure idblock``: the ID block and its authentication, signed."""

import base64
from pathlib import Path
from typing import Any

import click

from sevkit.attestation.payload import SignedBlock
from sevkit.cli.attestation import files
from sevkit.cli.attestation.launch_options import FILE, Hex, Number, launch_inputs, launch_options
from sevkit.cli.output import reporting
from sevkit.errors import UsageError
from sevkit.render import attestation as text
from sevkit.result import Result


@click.command("idblock")
@launch_options
@click.option("--measurement", type=Hex(), help="The launch digest, in place of the options that describe a launch.")
@click.option("--id-key", type=FILE, required=True, help="Private key on P-384 that signs the block (PEM).")
@click.option("--author-key", type=FILE, help="Private key on P-384 that signs the ID key (PEM).")
@click.option("--policy", type=Number(), default=0x30000, show_default="0x30000", help="The guest policy.")
@click.option("--family-id", type=Hex(), default="00" * 16, help="16 bytes in hex.")
@click.option("--image-id", type=Hex(), default="00" * 16, help="16 bytes in hex.")
@click.option("--guest-svn", type=Number(), default=0, show_default=True)
@click.option("--output", type=click.Path(file_okay=False, path_type=Path), help="Write id-block.bin and id-auth.bin.")
@reporting
def idblock(**options: Any) -> Result[SignedBlock]:
    """Make and sign the ID block: the firmware then starts the guest only with this digest and policy.

    The values are base64, as QEMU's sev-snp-guest object takes them: id-block=…,id-auth=…
    """
    from sevkit.attestation.measure import idblock as block_format
    from sevkit.model.digest import launch_digest

    if options["measurement"] is None:
        inputs = launch_inputs(options)
        if inputs.mode != "sev-snp":
            raise UsageError(f"an ID block is for SEV-SNP, not for {inputs.mode}")
        digest = launch_digest(inputs)
    else:
        digest = options["measurement"]
    block = block_format.IdBlock(
        digest, options["policy"], options["family_id"], options["image_id"], options["guest_svn"]
    )
    id_key = block_format.load_key(files.read(options["id_key"]), "ID key")
    author = options["author_key"]
    author_key = block_format.load_key(files.read(author), "author key") if author is not None else None
    signed = block_format.sign(block, id_key, author_key)
    if options["output"] is not None:
        options["output"].mkdir(parents=True, exist_ok=True)
        (options["output"] / "id-block.bin").write_bytes(signed.block)
        (options["output"] / "id-auth.bin").write_bytes(signed.auth)
    data: SignedBlock = {
        "launch_digest": digest.hex(),
        "id_block": base64.b64encode(signed.block).decode(),
        "id_auth": base64.b64encode(signed.auth).decode(),
        "id_key_digest": signed.id_key_digest.hex(),
        "author_key_digest": signed.author_key_digest.hex() if signed.author_key_digest else None,
    }
    return Result("measure idblock", data, human=text.id_block)
