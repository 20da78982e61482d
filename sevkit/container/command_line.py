"""What `sevkit container` would do, as command lines of docker or podman: for --dry-run, without an engine."""

from collections.abc import Iterator, Sequence
from typing import Any

from sevkit.container import images
from sevkit.container.run import EMULATOR, Wish, options


def of_run(argv: Sequence[str], wish: Wish) -> list[str]:
    """The command line that runs ``sevkit ARGV``. The volume with the emulator is added if the engine has it."""
    return ["docker", "run", "--rm", *_words(options(wish)), images.tag(wish.image), *argv]


def of_build(targets: Sequence[str]) -> list[list[str]]:
    """The command lines that build images, in a checkout; raises UsageError for one that does not exist."""
    images.check(targets)
    line = ["docker", "build", "--network", "host", "--file", "docker/Dockerfile"]
    return [[*line, "--target", target, "--tag", images.tag(target), "."] for target in targets]


def volume_note() -> str:
    """What the engine is asked for at the start of a real run."""
    return f"if the engine has the volume {EMULATOR}, it is mounted, read-only"


def _words(chosen: dict[str, Any]) -> Iterator[str]:
    """Options of the Docker SDK as those of its command line. The label says who waits for the container: nobody."""
    flags = {"read_only": "--read-only", "init": "--init"}
    values = {
        "cap_drop": "--cap-drop",
        "cap_add": "--cap-add",
        "security_opt": "--security-opt",
        "network_mode": "--network",
        "pids_limit": "--pids-limit",
        "devices": "--device",
        "group_add": "--group-add",
        "pid_mode": "--pid",
        "user": "--user",
        "working_dir": "--workdir",
    }
    for name, value in chosen.items():
        if name in flags:
            yield flags[name]
        for each in value if isinstance(value, list) else [value]:
            if name in values:
                yield from (values[name], str(each))
    for place, how in chosen["tmpfs"].items():
        yield from ("--tmpfs", f"{place}:{how}")
    for name, value in chosen["environment"].items():
        yield from ("--env", f"{name}={value}")
    for source, mount in chosen["volumes"].items():
        yield from ("--volume", f"{source}:{mount['bind']}:{mount['mode']}")
