"""AMD's root certificates, pinned: the trust anchors of reports. They are part of the package."""

import hashlib
import json
from functools import cache
from importlib import resources
from typing import Any

from sevkit.attestation.report.certificates import Certificate, Role, Store
from sevkit.errors import BadInputError

_FOLDER = resources.files("sevkit.attestation") / "data" / "certificates"


@cache
def sources() -> dict[str, Any]:
    """File name -> where it is from and its SHA-256."""
    found: dict[str, Any] = json.loads((_FOLDER / "sources.json").read_text())
    return found


@cache
def builtin() -> Store:
    """ARK, ASK and ASVK of each product; raises BadInputError if a file differs from the shipped one."""
    store = Store()
    for name, about in sources().items():
        data = (_FOLDER / name).read_bytes()
        if hashlib.sha256(data).hexdigest() != about["sha256"]:
            raise BadInputError(f"{name} of this installation is not the file that was shipped", hint="install again")
        store.add(name, data)
    return store


def amd_roots() -> tuple[Certificate, ...]:
    """The ARKs."""
    return tuple(builtin().role(Role.ARK))
