"""The evidence at the end of a report: who, where, with which files; and the result itself as JSON."""

from sevkit import cleantext as clean
from sevkit import evidence
from sevkit.evidence.payload import Record
from sevkit.render.page import page


def attach(html: str, found: Record) -> str:
    """Add its record to a report, before the end of its main part."""
    host = found["host"]
    identity = [
        ("Operator", found["operator"]),
        ("Ticket", found["ticket"]),
        ("Host", host["name"]),
        ("Processor", host["cpu"]),
        ("Family/model/stepping", host["cpu_signature"]),
        ("Microcode", host["microcode"]),
        ("BIOS", host["bios"]),
        ("Machine", host["product"]),
        ("Kernel", host["kernel"]),
        ("System", host["system"]),
        ("sevkit", found["sevkit"]),
    ]
    section = page(
        "evidence.html.j2",
        identity=[(name, clean.line(value)) for name, value in identity if value],
        files=found["files"],
        digest=found["result_sha256"],
    )
    before, _, after = html.rpartition("</main>")
    whole = evidence.sealed(found, f"{before}{section}{evidence.END}{after}")
    return f"{before}{section}{evidence.embedded(whole)}{evidence.END}{after}"
