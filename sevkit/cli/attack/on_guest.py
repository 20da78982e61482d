"""``sevkit attack run replay|corruption|block-move --hypervisor emulated``: the same attacks on a real guest."""

import secrets as randomness
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import click

from sevkit.cli.output import finish
from sevkit.cli.progress import progress
from sevkit.errors import ExitCode, UsageError
from sevkit.guest.spec import Firmware, GuestSpec
from sevkit.result import Result
from sevkit.vocabulary import Mode


def run_on_guest(name: str, modes: Sequence[Mode], hypervisor: str, spec: GuestSpec, as_json: bool) -> None:
    """Perform an attack on a real guest in each mode, one guest after the other."""
    from sevkit.attacks.labs import guest_lab

    if name not in guest_lab.EXPERIMENTS:
        raise UsageError(
            f"{name} has no form for real guests", hint=f"on real guests: leak, {', '.join(guest_lab.EXPERIMENTS)}"
        )
    with progress(f"{name} on a real guest") as say:
        same = replace(spec, name=f"{name}-{randomness.token_hex(4)}", firmware=Firmware.OVMF)
        stories = [_perform(name, mode, hypervisor, same.with_mode(mode), say) for mode in modes]
    data = {"attack": name, "experiments": stories, "as_predicted": all(story["as_expected"] for story in stories)}
    code = ExitCode.DONE if data["as_predicted"] else ExitCode.NO
    if any(story["observed"] == "inconclusive" for story in stories):
        code = ExitCode.INCONCLUSIVE
    finish(Result("attack run", data, code), as_json=as_json, human=_show)


def _perform(name: str, mode: Mode, hypervisor: str, spec: GuestSpec, say: Any) -> dict[str, Any]:
    from sevkit.attacks.experiment import Notebook
    from sevkit.attacks.labs import guest_lab
    from sevkit.hypervisor import select
    from sevkit.hypervisor.qemu.guest import QemuGuest

    if mode not in guest_lab.EXPECTED[name]:
        raise UsageError(f"{name} on a real guest is not defined for {mode}", hint="modes: nosev, sev, sev-es")
    choice = select.choose(hypervisor, mode, say)
    say(f"{name}: starting a {mode} guest on {choice.hypervisor.name}")
    guest = choice.hypervisor.launch(spec)
    assert isinstance(guest, QemuGuest)
    try:
        say(f"{name}: looking for the page in all of DRAM")
        note = Notebook(mode)
        seen = guest_lab.perform(name, guest, note)
    finally:
        guest.stop()
    expected = guest_lab.EXPECTED[name][mode]
    return {
        "mode": str(mode),
        "provenance": str(guest.provenance),
        "hypervisor": choice.hypervisor.name,
        "expected": str(expected),
        "observed": str(seen.outcome),
        "as_expected": seen.outcome is expected,
        "check": seen.check,
        "detail": dict(seen.detail),
        "steps": [{"stage": str(s.stage), "text": s.text, "data": s.data} for s in note.steps],
    }


def _show(data: dict[str, Any]) -> None:
    for story in data["experiments"]:
        click.echo(
            f"\n{data['attack']}: {story['mode']} [{story['provenance']}: a real guest on {story['hypervisor']}]"
        )
        stage = None
        for step in story["steps"]:
            if step["stage"] != stage:
                stage = step["stage"]
                click.echo(f"  {stage}")
            click.echo(f"    {step['text']}")
            if step["data"]:
                click.echo(f"      {step['data']}")
        verdict = "as expected" if story["as_expected"] else f"expected: {story['expected']}"
        click.echo(f"  the attack {story['observed']} ({story['check']}), {verdict}")
