"""``sevkit attack matrix``."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sevkit.attacks.payload import MatrixData, MatrixPlan
from sevkit.cli import outfile
from sevkit.cli.attack.options import attacks_option, width
from sevkit.cli.output import colour, reporting
from sevkit.cli.progress import progress
from sevkit.errors import ExitCode, UsageError
from sevkit.result import Result
from sevkit.vocabulary import Level

if TYPE_CHECKING:
    from sevkit.attacks.experiment import Attack
    from sevkit.attacks.flaws import Flaw
    from sevkit.attacks.matrix import Cell

_LEVELS = {"model": (Level.MODEL,), "emulator": (Level.EMULATOR,), "all": (Level.MODEL, Level.EMULATOR)}


@click.command()
@click.argument("names", nargs=-1)
@click.option(
    "--level",
    type=click.Choice(list(_LEVELS)),
    default="model",
    show_default=True,
    help="The software model, real guests on the emulator (minutes), or both side by side.",
)
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), help="Write the matrix as one HTML page.")
@click.option("--markdown", is_flag=True, help="Print the matrix as Markdown.")
@click.option("--seed", default=1, show_default=True, help="The same seed gives the same experiments, byte for byte.")
@click.option(
    "--vulnerable",
    metavar="LIST",
    help="Add a column: SEV-SNP on a platform that lacks these fixes, by bulletin, such as AMD-SB-3020 (in the model).",
)
@click.option("--dry-run", is_flag=True, help="Show which cells would be performed, and start nothing.")
@attacks_option
@reporting
def matrix(
    names: tuple[str, ...],
    level: str,
    html: Path | None,
    markdown: bool,
    seed: int,
    vulnerable: str | None,
    dry_run: bool,
    folder: Path | None,
) -> Result[MatrixData] | Result[MatrixPlan]:
    """Perform every attack in every mode: expected against observed.

    NAMES are attacks; the default is all. Exits 0 when every cell is as expected and the levels agree, 1 when not, 3
    when a cell is inconclusive.
    """
    from sevkit import attacks
    from sevkit.attacks import flaws, runner
    from sevkit.attacks import matrix as cells_of

    known = attacks.discover(folder)
    chosen = [attacks.find(name, folder) for name in dict.fromkeys(names)] or list(known.values())
    outfile.checked(html, "--html")
    levels, lacking = _LEVELS[level], flaws.parse(vulnerable)
    if lacking and Level.MODEL not in levels:
        raise UsageError("--vulnerable is for the software model", hint="--level model or all")
    if Level.EMULATOR in levels and (why := cells_of.nothing_runs(Level.EMULATOR)):
        raise UsageError(f"--level {level}: {why}", hint="--level model needs nothing")
    plan = cells_of.planned(chosen, levels)
    formless = sorted({attack.name for attack in chosen} - {cell["attack"] for cell in plan})
    if names and formless:
        raise UsageError(f"nothing to perform at level {level}: {', '.join(formless)}", hint="sevkit attack list")
    if dry_run:
        return Result("attack matrix", MatrixPlan(dry_run=True, cells=plan), human=_show_plan)
    cells = _perform(chosen, levels, lacking, seed)
    data = cells_of.as_data(chosen, cells, levels, seed, lacking)
    code = runner.exit_code([cell.run for cell in cells])
    if code == ExitCode.DONE and data["disagreements"]:
        code = ExitCode.NO
    unwritten = None if html is None else outfile.failure(lambda: _write_page(html, data))
    if unwritten is not None:
        return Result("attack matrix", data, unwritten.exit_code, [unwritten], human=lambda d: _show(d, markdown))
    return Result("attack matrix", data, code, human=lambda d: _show(d, markdown))


def _write_page(path: Path, data: MatrixData) -> None:
    from sevkit.render import matrix as renderer

    outfile.write(path, renderer.html(data))


def _perform(
    chosen: "Sequence[Attack]", levels: "Sequence[Level]", lacking: "Sequence[Flaw]", seed: int
) -> "list[Cell]":
    """All cells; those of real guests last, with progress."""
    from sevkit.attacks import matrix as cells_of

    cells: list[Cell] = []
    if Level.MODEL in levels:
        cells += cells_of.run_model(chosen, seed=seed)
        cells += cells_of.run_vulnerable(chosen, lacking, seed=seed) if lacking else []
    if Level.EMULATOR in levels:
        with progress("the matrix on real guests") as say:
            cells += cells_of.run_guests(chosen, Level.EMULATOR, progress=say)
    return cells


def _show(data: Mapping[str, Any], markdown: bool) -> Iterator[str]:
    from sevkit.render import matrix as renderer

    yield renderer.markdown(data) if markdown else renderer.text(data, colour=colour(sys.stdout), width=width(140))


def _show_plan(data: Mapping[str, Any]) -> Iterator[str]:
    for cell in data["cells"]:
        yield f"{cell['level']:<9} {cell['column']:<22} {cell['attack']}"
