"""``sevkit emulator``: build and inspect the memory-encrypting QEMU."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import click

import sevkit
from sevkit.cli.output import reporting
from sevkit.errors import ExitCode, MissingToolError
from sevkit.hypervisor.payload import EmulatorStatus
from sevkit.result import Result


@click.group()
def command() -> None:
    """Build and inspect the memory-encrypting QEMU."""


@command.command()
@reporting
def status() -> Result[EmulatorStatus]:
    """Show whether the emulator is built, from which sources, and which modes it runs. Exits 1 if it is not built."""
    from sevkit.hypervisor.qemu import emulated
    from sevkit.qemu import capabilities

    path = emulated.find()
    data: EmulatorStatus = {
        "built": path is not None,
        "binary": None if path is None else str(path),
        "modes": [],
        "build": None,
    }
    if path is not None:
        data["modes"] = list(map(str, capabilities.of_binary(str(path)).emulated_modes))
        info = path.resolve().parent.parent / "build-info.json"
        data["build"] = json.loads(info.read_text()) if info.exists() else None
    code = ExitCode.DONE if path is not None else ExitCode.NO
    return Result("emulator status", data, code, human=_show)


def _show(data: EmulatorStatus) -> Iterator[str]:
    if data["binary"] is None:
        yield "the emulator is not built: `make emulator` builds it (minutes, once)"
        return
    yield data["binary"]
    yield f"  modes: {', '.join(data['modes']) or 'none'}"
    for key, value in (data["build"] or {}).items():
        yield f"  {key}: {value}"


@command.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def build(arguments: tuple[str, ...]) -> None:
    """Build it from the project's sources; arguments go to emulator/build.sh."""
    script = Path(sevkit.__file__).resolve().parent.parent / "emulator/build.sh"
    if not script.exists():
        raise MissingToolError(
            "the emulator's sources are not part of an installed sevkit",
            hint="clone the project, and run `make emulator` there",
        )
    os.execv(script, [str(script), *arguments])  # noqa: S606 - its progress and exit status are ours
