"""``sevkit attack run``."""

import shutil
import sys
import time
from pathlib import Path
from typing import Any

import click

from sevkit.cli.attack.on_guest import run_on_guest
from sevkit.cli.attack.step import mitigations_option, run_model
from sevkit.cli.guest.options import guest_options, hypervisor_option, make_spec
from sevkit.cli.output import colour, finish, json_option
from sevkit.cli.progress import progress
from sevkit.errors import ExitCode, UsageError
from sevkit.result import Result
from sevkit.vocabulary import Mode, Verdict


@click.command()
@click.argument("name")
@click.option("--modes", default="nosev,sev", show_default=True, help="Modes, separated by commas.")
@click.option("--capture", type=click.Choice(["gcore", "live"]), default="gcore", show_default=True)
@click.option("--keep", type=click.Path(file_okay=False, path_type=Path), help="Keep the cores (secret data!) here.")
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), help="Write an HTML report.")
@click.option("--timeout", default=180.0, show_default=True, metavar="SECONDS", help="For a guest to come up.")
@click.option("--dry-run", is_flag=True, help="Show what would be launched, and launch nothing.")
@click.option("--step", is_flag=True, help="Tell the experiment in the software model as it happens, key by key.")
@click.option("--seed", default=1, show_default=True, help="Seed of the software model.")
@mitigations_option
@hypervisor_option
@guest_options
@json_option
def run(name: str, modes: str, as_json: bool, **options: Any) -> None:
    """Run an attack: `leak` on real guests, the others in the software model (`leak --step` as well).

    With `--hypervisor emulated` (or `qemu`, on hardware) replay, corruption and block-move run on a real guest too.

    Exits 0 when each mode behaves as predicted, 1 when one does not, 3 when the outcome is inconclusive.
    """
    chosen = list(dict.fromkeys(_mode(word) for word in modes.split(",")))
    model = {"step": options.pop("step"), "mitigations": options.pop("mitigations"), "seed": options.pop("seed")}
    if name != "leak" and options["hypervisor"] in {"qemu", "emulated"}:
        spec = make_spec(name, Mode.NOSEV, {**options, "policy_text": None})
        run_on_guest(name, chosen, options["hypervisor"], spec, as_json)
    if name != "leak" or model["step"]:
        run_model(name, chosen, as_json=as_json, **model)
    _leak(chosen, as_json, options)


def _mode(word: str) -> Mode:
    try:
        return Mode(word.strip())
    except ValueError as error:
        raise UsageError(f"{word!r} is not a mode", hint=f"modes: {', '.join(Mode)}") from error


def _leak(modes: list[Mode], as_json: bool, options: dict[str, Any]) -> None:
    from sevkit.attacks.leak import attack as leak

    keep = options["keep"]
    if keep is not None:
        keep.mkdir(mode=0o700, parents=True, exist_ok=True)
    setup = leak.Setup(
        modes=tuple(dict.fromkeys(modes)),
        hypervisor=options["hypervisor"],
        capture=options["capture"],
        spec=make_spec("leak", Mode.NOSEV, {**options, "policy_text": None}),
        keep=keep,
        timeout=options["timeout"],
    )
    if options["dry_run"]:
        _dry_run(setup, as_json)
    began = time.monotonic()
    with progress("choosing hypervisors") as say:
        experiments = list(leak.run(setup, say))
    data = leak.as_dict(experiments, time.monotonic() - began)
    if options["report"]:
        _report(options["report"], data, [e.picture for e in experiments])
    code = ExitCode.DONE if data["as_predicted"] else ExitCode.NO
    if any(experiment.decision.verdict is Verdict.INCONCLUSIVE for experiment in experiments):
        code = ExitCode.INCONCLUSIVE
    from sevkit.render import leak as renderer

    finish(Result("attack run", data, code), as_json=as_json, human=lambda d: _show(renderer.text, d))


def _show(text: Any, data: dict[str, Any]) -> None:
    width = min(120, shutil.get_terminal_size((100, 24)).columns)
    click.echo(text(data, colour=colour(sys.stdout), width=width), nl=False)


def _dry_run(setup: Any, as_json: bool) -> None:
    from sevkit import processes
    from sevkit.attacks.leak import attack as leak

    chosen = leak.choose(setup, lambda _: None)
    plan = [
        {
            "mode": str(mode),
            "hypervisor": choice.hypervisor.name,
            "command_line": list(choice.hypervisor.command_line(leak.guest_spec(setup, mode, chosen))),
        }
        for mode, choice in chosen.items()
    ]
    finish(
        Result("attack run", {"attack": "leak", "dry_run": True, "plan": plan}),
        as_json=as_json,
        human=lambda d: click.echo(
            "\n".join(f"# {p['mode']}\n{processes.pasteable(p['command_line'])}" for p in d["plan"])
        ),
    )


def _report(path: Path, data: dict[str, Any], maps: list[Any]) -> None:
    from sevkit import processes
    from sevkit.render import leak_report

    path.write_text(leak_report.render({**data, "command": processes.pasteable(["sevkit", *sys.argv[1:]])}, maps))
