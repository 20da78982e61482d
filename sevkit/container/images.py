"""Build the images from docker/Dockerfile, on a base that is pulled or, without a registry, built locally."""

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sevkit import processes
from sevkit.container.context import context, source_root
from sevkit.container.engine import Engine
from sevkit.errors import MissingToolError, SevkitError, UsageError
from sevkit.paths import work_dir

BASE = "debian:bookworm-slim"
TARGETS = ("tools", "test", "guest-build")
_PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")

Progress = Callable[[str], None]


class BuildError(SevkitError):
    """An image could not be built."""


@dataclass(frozen=True)
class Built:
    """An image that was built. ``size`` in bytes; ``seconds`` is the build time."""

    name: str
    ident: str
    size: int
    seconds: float


def tag(target: str) -> str:
    """The name of an image in the engine."""
    from sevkit import __version__

    return f"sevkit-{target}:{__version__}"


def check(targets: Sequence[str]) -> None:
    """Raise UsageError for an image that does not exist."""
    for target in targets:
        if target not in TARGETS:
            raise UsageError(f"there is no image {target!r}", hint=f"images: {', '.join(TARGETS)}")


def build(engine: Engine, targets: Sequence[str], progress: Progress) -> list[Built]:
    """Build images; raises BuildError with the end of the engine's log."""
    check(targets)
    base(engine, progress)
    built = []
    progress("collecting sources and packages")
    with context() as stream:
        for target in targets:
            stream.seek(0)
            built.append(_build(engine, target, stream, progress))
    return built


def _build(engine: Engine, target: str, stream: Any, progress: Progress) -> Built:
    import os

    started = time.monotonic()
    # Packages come from the sources of this machine's apt, which are reachable in this machine's network.
    steps = engine.client.api.build(
        fileobj=stream,
        custom_context=True,
        dockerfile="docker/Dockerfile",
        target=target,
        tag=tag(target),
        network_mode="host",
        decode=True,
        rm=True,
        forcerm=True,
        buildargs={name: os.environ[name] for name in _PROXIES if name in os.environ},
        timeout=1800,
    )
    log: list[str] = []
    made = ""
    for step in steps:
        made = str((step.get("aux") or {}).get("ID") or made)
        text = str(step.get("stream") or step.get("error") or "").rstrip()
        log += text.splitlines()
        if text.startswith("Step "):
            progress(f"{target}: {text}")
        if "error" in step:
            raise BuildError(f"the image {target} could not be built", detail="\n".join(log[-20:]))
    image = engine.client.images.get(tag(target))
    if made != str(image.id):  # a log that just ends is no success: the name may still be that of an older image
        raise BuildError(
            f"the engine ended without an image {target}: the one of that name is another", detail="\n".join(log[-20:])
        )
    return Built(tag(target), str(image.id), int(image.attrs["Size"]), round(time.monotonic() - started, 1))


def base(engine: Engine, progress: Progress) -> str:
    """Make sure that the base image exists: present, pulled by digest, or built from packages. Returns which."""
    from docker.errors import APIError, ImageNotFound
    from requests.exceptions import RequestException

    name, _, label = BASE.partition(":")
    digest = pinned()
    try:
        there = engine.client.images.get(BASE)
    except ImageNotFound:
        pass
    else:
        if f"{name}@{digest}" not in (there.attrs.get("RepoDigests") or []):
            progress(f"{BASE} is there already, but it is not the pinned {digest[:19]}: made here, or of another date")
        return "there"
    try:
        progress(f"pulling {name}@{digest[:19]}")
        engine.client.images.pull(f"{name}@{digest}").tag(name, label)
    except (APIError, RequestException) as error:
        progress(f"no registry answers: making {BASE} from packages")
        _make_base(engine, str(error))
        return "made"
    return "pulled"


def pinned() -> str:
    """The digest of the base image (``sha256:...``), which scripts/base-image renews; raises BuildError."""
    text = (source_root() / "docker/base.pin").read_text().strip()
    found = re.fullmatch(re.escape(BASE) + "@(sha256:[0-9a-f]{64})", text)
    if found is None:
        raise BuildError(f"docker/base.pin does not name {BASE} and a digest", hint="scripts/base-image writes it")
    return found[1]


def _make_base(engine: Engine, why: str) -> None:
    """Build a minimal Debian as the image of that name (mmdebstrap), with the package sources of this machine."""
    from docker.errors import ImageNotFound

    if not processes.have_tool("mmdebstrap"):
        raise MissingToolError(
            f"{BASE} cannot be pulled, and mmdebstrap, which could make it, is not installed",
            hint="apt-get install mmdebstrap",
            detail=why,
        )
    release = BASE.partition(":")[2].removesuffix("-slim")
    leave_out = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("man", "locale", "info", "doc")]
    keep = "--dpkgopt=path-include=/usr/share/doc/*/copyright"
    with work_dir("base") as folder:
        archive = Path(folder) / "base.tar"
        processes.run(
            ["mmdebstrap", "--quiet", "--variant=apt", *leave_out, keep, *_merged_usr(), release, str(archive)],
            timeout=900,
            check=BuildError,
        )
        name, _, label = BASE.partition(":")
        said = engine.client.api.import_image_from_file(str(archive), repository=name, tag=label)
    try:
        engine.client.images.get(BASE)
    except ImageNotFound as error:
        raise BuildError(f"the engine did not take the image {BASE}", detail=str(said)[-500:]) from error


def _merged_usr() -> list[str]:
    """Create the directory layout of new Debian systems (merged /usr), so that no Perl script has to convert it."""
    hook = Path("/usr/share/mmdebstrap/hooks/merged-usr")
    return [f"--hook-dir={hook}", "--include=usr-is-merged"] if hook.is_dir() else []
