"""Vectors as files: a folder per vector, and a manifest with the expected verdicts."""

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from sevkit.attestation.payload import VectorRow
from sevkit.attestation.vectors.authority import Keys, der
from sevkit.attestation.vectors.bench import Vector
from sevkit.attestation.vectors.cases import PRODUCTS

MANIFEST = "manifest.json"
FORMAT = 1


def write(folder: Path, vectors: Iterable[Vector], keys: Keys) -> Counter[str]:
    """Write all vectors; returns their number per verdict. Equal certificates share one file."""
    reports, shared, roots = folder / "reports", folder / "certificates", folder / "roots"
    for place in (reports, shared, roots):
        place.mkdir(parents=True, exist_ok=True)
    for product in PRODUCTS:
        (roots / f"ark-{product}.der").write_bytes(der(keys.authority(product).ark.certificate))
    rows, counts, names = [], Counter[str](), dict[bytes, str]()
    for vector in vectors:
        (reports / f"{vector.name}.bin").write_bytes(vector.report)
        files = [_certificate(shared, names, name, data) for name, data in vector.certificates.items()]
        rows.append(_row(vector, files))
        counts[vector.verdict.value] += 1
    document = {"format": FORMAT, "count": len(rows), "vectors": rows}
    (folder / MANIFEST).write_text(json.dumps(document, indent=1))
    return counts


def _certificate(folder: Path, names: dict[bytes, str], name: str, data: bytes) -> str:
    if data not in names:
        names[data] = f"{len(names):05d}-{name}"
        (folder / names[data]).write_bytes(data)
    return f"certificates/{names[data]}"


def _row(vector: Vector, files: list[str]) -> dict[str, object]:
    row: VectorRow = {
        "name": vector.name,
        "report": f"reports/{vector.name}.bin",
        "certificates": files,
        "verdict": vector.verdict.value,
        "check": vector.check,
        "about": vector.about,
    }
    more = {"root": f"roots/ark-{vector.product}.der", "at": vector.at.isoformat(), "policy": vector.policy}
    return {**row, **more}
