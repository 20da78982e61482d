"""Kernels that the machine's own apt does not offer: Debian's backports, by a private apt configuration."""

import os
import re
from pathlib import Path

from sevkit import processes
from sevkit.errors import SevkitError
from sevkit.guest import image


class KernelMissingError(Exception):
    """The kernel is not to be had here; the message says why."""


def backports_image(series: str, folder: Path) -> image.Image:
    """The mini image with the newest cloud kernel of ``series`` (such as 6.12) from the release's backports."""
    config = _private_apt(folder)
    before = {name: os.environ.get(name) for name in ("APT_CONFIG", "SEVKIT_GUEST_KERNEL_PACKAGE")}
    os.environ["APT_CONFIG"] = str(config)
    try:
        done = processes.run(["apt-get", "update", "-q"], timeout=300)
        if done.status != 0:
            raise KernelMissingError(f"apt-get update for the backports failed: {done.error_text[-300:]}")
        names = processes.run(["apt-cache", "pkgnames", f"linux-image-{series}."], timeout=60).text.split()
        found = [name for name in names if re.fullmatch(rf"linux-image-{re.escape(series)}\.[\w.+]+-cloud-amd64", name)]
        if not found:
            raise KernelMissingError(f"the backports have no {series} cloud kernel")
        os.environ["SEVKIT_GUEST_KERNEL_PACKAGE"] = max(found, key=_version)
        return image.get("mini")
    except SevkitError as error:
        raise KernelMissingError(error.message) from error
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)


def _version(name: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", name)]


def _private_apt(folder: Path) -> Path:
    """An apt configuration of our own: the machine's Debian mirror with the backports of its release added."""
    targets = processes.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME) $(COMPONENT)", "Created-By: Packages"],
        timeout=60,
    ).text.splitlines()
    debian = [line.split() for line in targets if re.search(r"/debian(-security)?/? [a-z-]+ main$", line)]
    main = [words for words in debian if re.fullmatch("[a-z]+", words[1])]
    keyring = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
    if not main or not keyring.exists():
        raise KernelMissingError("apt has no Debian mirror configured")
    uri, release, _ = main[0]
    wanted = [(where, suite) for where, suite, _ in debian] + [(uri, f"{release}-backports")]
    lists = folder / "lists/partial"
    lists.mkdir(parents=True, exist_ok=True)
    (folder / "sources.list").write_text(
        "".join(f"deb [signed-by={keyring}] {where} {suite} main\n" for where, suite in wanted)
    )
    config = folder / "apt.conf"
    config.write_text(
        f'Dir::Etc::sourcelist "{folder}/sources.list";\nDir::Etc::sourceparts "/dev/null";\n'
        f'Dir::State::lists "{folder}/lists";\nDir::Cache::pkgcache "";\nDir::Cache::srcpkgcache "";\n'
    )
    return config
