"""Make manual pages from the commands: `python -m sevkit.cli.man FOLDER` writes sevkit.1, sevkit-guest.1 and so on."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from sevkit import __version__
from sevkit.cli.tree import root

_EXITS = (
    ("0", "done"),
    ("1", "asked, and the answer is no"),
    ("2", "the command line makes no sense"),
    ("3", "inconclusive"),
    ("4", "the environment lacks something"),
    ("5", "a guest or hypervisor failed"),
    ("130", "interrupted"),
)


def pages(command: click.Command, ctx: click.Context) -> Iterator[tuple[str, str]]:
    """The pages of a command and of all below it: file name and text in man(7) macros."""
    yield ctx.command_path.replace(" ", "-") + ".1", page(command, ctx)
    if isinstance(command, click.Group):
        for name in command.list_commands(ctx):
            found = command.get_command(ctx, name)
            assert found is not None
            if not found.hidden:
                yield from pages(found, click.Context(found, info_name=name, parent=ctx))


def page(command: click.Command, ctx: click.Context) -> str:
    """One page."""
    title = ctx.command_path.replace(" ", "-")
    usage = " ".join(command.collect_usage_pieces(ctx))
    first, _, rest = (command.help or "").replace("\b\n", "").partition("\n")
    lines = [f'.TH "{title.upper()}" 1 "" "sevkit {__version__}"', ".SH NAME"]
    lines += [f"{_roff(title)} \\- {_roff(first.strip().rstrip('.'))}", ".SH SYNOPSIS"]
    lines += [f".B {_roff(ctx.command_path)}", _roff(usage), ".SH DESCRIPTION", _roff(first), *_paragraphs(rest)]
    options = [record for each in command.get_params(ctx) if (record := each.get_help_record(ctx))]
    if options:
        lines.append(".SH OPTIONS")
    for names, text in options:
        lines += [".TP", f".B {_roff(names)}", _roff(text) or "\\&"]
    if isinstance(command, click.Group):
        lines.append(".SH COMMANDS")
        for name in command.list_commands(ctx):
            found = command.get_command(ctx, name)
            if found is not None and not found.hidden:
                lines += [".TP", f".BR {_roff(title)}-{_roff(name)} (1)", _roff(found.get_short_help_str(200))]
    lines.append(".SH EXIT STATUS")
    for code, means in _EXITS:
        lines += [".TP", f".B {code}", means]
    return "\n".join(lines) + "\n"


def _paragraphs(text: str) -> list[str]:
    found = []
    for block in re.split(r"\n\s*\n", text):
        words = " ".join(block.split())
        if words:
            found += [".PP", _roff(words)]
    return found


def _roff(text: str) -> str:
    """Text in which troff sees no requests: backslashes and leading dots are escaped, hyphens are ASCII."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^([.'])", r"\\&\1", escaped, flags=re.MULTILINE)


def main() -> None:
    """Write all pages into the folder that is named."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages(root, click.Context(root, info_name="sevkit")):
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
