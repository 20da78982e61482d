"""The firmware file that a guest boots with: an installed one, or one pinned by its checksum and fetched with apt.

SEV-SNP needs a firmware that validates RAM before it uses it. Debian 12's OVMF (2022.11) copies its variable store to
RAM before AmdSevSnpInitialize has validated it, and dies of #VC 0x404; Debian 13's (2025.02) does not. So SEV-SNP
guests use Debian 13's OVMF; both the package and the file in it are checked by SHA-256.
"""

import hashlib
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sevkit.errors import BadInputError, MissingToolError
from sevkit.guest import apt, debian
from sevkit.paths import cache_dir, cache_path
from sevkit.vocabulary import Mode

Progress = Callable[[str], None]

VARIABLE = "SEVKIT_OVMF"  # names a firmware file that takes precedence over all others
_INSTALLED = ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/edk2/x64/OVMF_CODE.fd")
# Code and variable store in one file, for firmware that is mapped by -bios.
_WHOLE = ("/usr/share/ovmf/OVMF.fd",)
# The build for measured direct boot: what distributions that have it offer for SEV-SNP on hardware.
_AMDSEV = ("/usr/share/ovmf/OVMF.amdsev.fd", "/usr/share/OVMF/OVMF.amdsev.fd")


@dataclass(frozen=True)
class Pin:
    """A file in a Debian package: the package's path in the archive, and both checksums (SHA-256)."""

    package: str
    package_sha256: str
    member: str
    sha256: str

    @property
    def cached(self) -> Path:
        """The path that the file has, or would have, in the cache."""
        return cache_path("firmware") / f"{Path(self.member).stem}-{self.sha256[:16]}{Path(self.member).suffix}"


# Tried in this order: an archive keeps a version only as long as some release has it.
SNP_PINS = (
    Pin(
        "pool/main/e/edk2/ovmf_2025.02-8+deb13u1_all.deb",
        "78e0d54df11fc77406cb7a0bc9a39e5bca6d1cbe06556b91d9a73491c52decdf",
        "usr/share/ovmf/OVMF.fd",
        "14954040cc754ade0c625ac3470ea46d4c14318b5b1396de4ef77090203d76db",
    ),
    Pin(
        "pool/main/e/edk2/ovmf_2025.02-8_all.deb",
        "d82312d863b18aebde958133144185c45685d3c6e1d217b4969913d713c05bf7",
        "usr/share/ovmf/OVMF.fd",
        "4226e006ccff0ec70cb9909c75314b7c46ea90fe15ca9dca757a608d30576310",
    ),
)


def find(mode: Mode, *, emulated: bool = False, fetch: bool = True, progress: Progress | None = None) -> Path:
    """The OVMF file for guests of a mode.

    ``emulated``: the guest runs with the engine of emulator/. Without ``fetch``, returns the path that the file would
    have, for a command line that is not executed. Raises MissingToolError if there is none.
    """
    candidates = [os.environ[VARIABLE]] if VARIABLE in os.environ else []
    snp, whole = mode is Mode.SEV_SNP, mode is Mode.SEV_ES
    candidates += [] if snp and emulated else _AMDSEV if snp else _WHOLE if whole else _INSTALLED
    for path in candidates:
        if Path(path).exists():
            return Path(path)
    if VARIABLE in os.environ and fetch:
        raise MissingToolError(f"{VARIABLE} names {os.environ[VARIABLE]}, which does not exist")
    if snp or whole:
        return pinned(SNP_PINS, progress or (lambda _: None)) if fetch else _expected(SNP_PINS)
    if not fetch:
        return Path(candidates[0])
    raise MissingToolError(
        f"no OVMF firmware for mode {mode}: looked for {', '.join(candidates)}",
        hint=f"apt-get install ovmf, or point {VARIABLE} at a firmware file",
    )


def _expected(pins: tuple[Pin, ...]) -> Path:
    return next((pin.cached for pin in pins if pin.cached.exists()), pins[0].cached)


def pinned(pins: tuple[Pin, ...], progress: Progress) -> Path:
    """The first of the pinned files that is in the cache or can be fetched; raises MissingToolError."""
    for pin in pins:
        if pin.cached.exists() and _sha256(pin.cached) == pin.sha256:
            return pin.cached
    for pin in pins:
        progress(f"fetching {Path(pin.package).name}")
        if _fetch(pin):
            return pin.cached
    raise MissingToolError(
        f"the firmware for SEV-SNP cannot be fetched: {', '.join(Path(pin.package).name for pin in pins)}",
        hint=f"check apt's Debian mirror, or point {VARIABLE} at Debian 13's /usr/share/ovmf/OVMF.fd (package ovmf)",
    )


def _fetch(pin: Pin) -> bool:
    """Fetch a package, check it, and put its member into the cache; returns whether the archive had it."""
    with tempfile.TemporaryDirectory(dir=cache_dir("firmware"), prefix=".fetch-") as scratch:
        package = Path(scratch) / "package.deb"
        if not apt.download_pinned(pin.package, pin.package_sha256, package):
            return False
        if _sha256(package) != pin.package_sha256:
            raise BadInputError(f"{pin.package} does not have the checksum it is pinned to")
        debian.unpack(package, Path(scratch) / "root")
        member = Path(scratch) / "root" / pin.member
        if _sha256(member) != pin.sha256:
            raise BadInputError(f"{pin.member} in {pin.package} does not have the checksum it is pinned to")
        member.rename(pin.cached)
    return True


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
