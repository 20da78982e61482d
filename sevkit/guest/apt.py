"""Ask apt for packages: with the machine's configuration, or with sevkit's own one, which adds the backports.

No address of a registry is in this file: all come from the machine's configuration. Sevkit's configuration has its own
sources, lists and caches in sevkit's cache directory, so the machine's are not changed, and root is not needed.
"""

import fcntl
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sevkit import processes
from sevkit.errors import MissingToolError
from sevkit.paths import cache_dir

Progress = Callable[[str], None]

_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_HELPER = "/usr/lib/apt/apt-helper"
_FRESH = 6 * 3600.0  # seconds for which fetched package lists are not updated
_TIMEOUT = 600.0


@dataclass(frozen=True)
class Apt:
    """An apt configuration: the machine's own, or a file that is passed in APT_CONFIG."""

    config: Path | None = None

    def run(self, program: str, *arguments: str, timeout: float = 60.0, cwd: Path | None = None) -> processes.Completed:
        """Run ``apt-get``, ``apt-cache`` or another program of apt with this configuration."""
        env = None if self.config is None else processes.environment(APT_CONFIG=str(self.config))
        return processes.run(
            [processes.find_tool(program, package="apt"), *arguments], timeout=timeout, env=env, cwd=cwd
        )


@dataclass(frozen=True)
class Suite:
    """One Debian suite in the configuration of the machine's apt: its address and its name."""

    uri: str
    name: str


def suites(apt: Apt | None = None) -> list[Suite]:
    """The Debian suites in the configuration, the release itself first; empty if it has no Debian mirror."""
    text = (
        (apt or Apt())
        .run("apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME) $(COMPONENT)", "Created-By: Packages")
        .text
    )
    words = [line.split() for line in text.splitlines() if re.search(r"/debian(-security)?/? \S+ main$", line)]
    found = dict.fromkeys(Suite(uri, name) for uri, name, _ in words)
    return sorted(found, key=lambda suite: not re.fullmatch("[a-z]+", suite.name))


def with_backports(progress: Progress) -> Apt:
    """The machine's suites and the backports of its release, in sevkit's own configuration.

    Raises MissingToolError if apt has no Debian mirror configured, or the lists cannot be fetched.
    """
    known = suites()
    if not known or not re.fullmatch("[a-z]+", known[0].name) or not _KEYRING.exists():
        raise MissingToolError("apt knows no Debian mirror, from which to take the backports", hint="use Debian")
    main = known[0]
    wanted = dict.fromkeys([*known, Suite(main.uri, f"{main.name}-backports")])
    folder = cache_dir("apt", f"{main.name}-backports")
    with (folder / "lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)  # another process may be fetching the same lists
        apt = Apt(_configuration(folder, list(wanted)))
        _update(apt, folder / "updated", progress)
    return apt


def with_sources(progress: Progress) -> Apt:
    """The source packages of the machine's suites, in sevkit's own configuration; raises MissingToolError."""
    known = suites()
    if not known or not _KEYRING.exists():
        raise MissingToolError("apt knows no Debian mirror, from which to take source packages", hint="use Debian")
    folder = cache_dir("apt", f"{known[0].name}-sources")
    with (folder / "lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        apt = Apt(_configuration(folder, list(dict.fromkeys(known)), kind="deb-src"))
        _update(apt, folder / "updated", progress)
    return apt


def _configuration(folder: Path, wanted: list[Suite], kind: str = "deb") -> Path:
    (folder / "lists/partial").mkdir(parents=True, exist_ok=True)
    sources = folder / "sources.list"
    sources.write_text("".join(f"{kind} [signed-by={_KEYRING}] {suite.uri} {suite.name} main\n" for suite in wanted))
    config = folder / "apt.conf"
    config.write_text(
        f'Dir::Etc::sourcelist "{sources}";\nDir::Etc::sourceparts "/dev/null";\n'
        f'Dir::State::lists "{folder}/lists";\nDir::Cache::archives "{folder}/archives";\n'
        'Dir::Cache::pkgcache "";\nDir::Cache::srcpkgcache "";\nAPT::Sandbox::User "";\n'
    )
    return config


def _update(apt: Apt, stamp: Path, progress: Progress) -> None:
    if stamp.exists() and time.time() - stamp.stat().st_mtime < _FRESH:
        return
    progress("fetching the package lists")
    # By default apt-get exits with status 0 although lists could not be fetched: "ignored, or old ones used instead".
    done = apt.run("apt-get", "update", "-q", "-o", "APT::Update::Error-Mode=any", timeout=_TIMEOUT)
    if done.status != 0:
        raise MissingToolError("the package lists cannot be fetched", detail=done.error_text)
    stamp.touch()


def download_pinned(pool_path: str, sha256: str, target: Path) -> bool:
    """Fetch a file of a Debian archive's pool with apt's transport and check it; returns whether any mirror had it.

    ``pool_path`` is the path below the archive, such as ``pool/main/e/edk2/ovmf_1_all.deb``. Trust comes from the
    checksum, so the file need not belong to a release that is configured in the machine's apt.
    """
    if not Path(_HELPER).exists():
        return False
    escaped = pool_path.replace("+", "%2b").replace("~", "%7e")
    archive = "/debian-security" if pool_path.startswith("pool/updates/") else "/debian"
    for uri in dict.fromkeys(suite.uri for suite in suites() if suite.uri.rstrip("/").endswith(archive)):
        partial = target.with_name(f".{target.name}.part")
        done = processes.run(
            [_HELPER, "download-file", f"{uri.rstrip('/')}/{escaped}", str(partial), f"SHA256:{sha256}"],
            timeout=_TIMEOUT,
        )
        if done.status == 0 and partial.exists():
            partial.rename(target)
            return True
        partial.unlink(missing_ok=True)
    return False
