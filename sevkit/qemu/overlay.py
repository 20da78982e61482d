"""The temporary file in which QEMU keeps what a guest writes to its root disk (``snapshot=on``)."""

import os
from pathlib import Path


def folder() -> Path:
    """Its folder: TMPDIR, but /var/tmp instead of /tmp (create_tmp_file() in QEMU's block.c)."""
    named = os.environ.get("TMPDIR") or "/tmp"  # noqa: S108
    return Path("/var/tmp" if named == "/tmp" else named)  # noqa: S108
