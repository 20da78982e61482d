"""Every `sevkit` command that a page of the documentation shows exists, with the options that it is given.

Blocks that are not run (test_blocks.py) are read too: a newcomer types these first.
"""

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from markdown_it import MarkdownIt

from sevkit.cli.tree import root
from tests.docs.test_blocks import PAGES, ROOT

# The word before is a program that starts sevkit, a prompt, or nothing.
_COMMAND = re.compile(r"(?:^|[;&|(]|\$|sudo|-m)\s*(?:[\w./]*/)?sevkit(?P<rest>\s.*)?$")
# In a message: between backquotes, or at its beginning or after "as root" and the like.
_NAMED = re.compile(r"(?:^|`|: )sevkit (?P<rest>[a-z][a-z-]*(?: (?:[a-z][a-z-]*|--?[a-z][a-z-]*))*)(?=`|$|[ .,;:])")
_ENDS = re.compile(r"[|;&<>)]|\$\(")


def shown(page: Path) -> Iterator[tuple[int, str]]:
    """The commands in the blocks of a page: the number of the line, and what follows `sevkit`."""
    for token in MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8")):
        if token.type != "fence" or token.map is None or token.info.split()[:1] in (["python"], ["py"], ["yaml"]):
            continue
        text = re.sub(r"\\\n\s*", lambda match: " " * len(match[0]), token.content)
        for number, line in enumerate(text.splitlines(), token.map[0] + 2):
            for part in line.split("; "):
                if match := _COMMAND.search(part.strip()):
                    yield number, (match["rest"] or "").strip()


def complaint(words: list[str]) -> str | None:
    """What is wrong with a command line, as far as names can tell; None if nothing is."""
    command: click.Command = root
    path = "sevkit"
    known = {name for each in command.params for name in each.opts + each.secondary_opts} | {"-h", "--help"}
    for word in words:
        if word == "--":
            return None
        if word.startswith("-") and len(word) > 1 and not word[1].isdigit():
            name = word.split("=", maxsplit=1)[0]
            if name not in known and not any(len(each) == 2 and word.startswith(each) for each in known):
                return f"{path} has no option {name}"
        elif isinstance(command, click.Group):
            found = command.get_command(click.Context(command), word)
            if found is None:
                return None if command.invoke_without_command else f"{path} has no command {word!r}"
            command, path = found, f"{path} {word}"
            known |= {name for each in command.params for name in each.opts + each.secondary_opts}
    return None


@pytest.mark.parametrize("page", [page for page in PAGES if any(shown(page))], ids=lambda page: page.name)
def test_commands_and_options_exist(page: Path) -> None:
    wrong = []
    for number, line in shown(page):
        rest = _ENDS.split(line, maxsplit=1)[0]
        try:
            words = shlex.split(rest, comments=True)
        except ValueError:  # a quote that ends in the next line
            words = rest.split()
        if "…" not in rest.split("#")[0] and (why := complaint(words)):
            wrong.append(f"{page.relative_to(ROOT)}:{number}: sevkit {rest}: {why}")
    assert not wrong, "\n".join(wrong)


def hints() -> Iterator[tuple[str, str]]:
    """The commands that messages of the program name: their places, and what follows `sevkit`.

    Sentences begin with "sevkit" too; a command is what begins with the name of one.
    """
    names = set(root.list_commands(click.Context(root)))
    for path in sorted((ROOT / "sevkit").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and "\n" not in node.value:
                for match in _NAMED.finditer(node.value):
                    if match["rest"].split()[0] not in names:
                        continue
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", match["rest"]


def test_commands_that_messages_name_exist() -> None:
    found = list(hints())
    assert len(found) > 40
    wrong = [f"{where}: sevkit {rest}: {why}" for where, rest in found if (why := complaint(rest.split()))]
    assert not wrong, "\n".join(wrong)


def test_a_wrong_command_is_noticed() -> None:
    assert complaint(["bench", "report", "results", "--html", "r.html"]) is None
    assert complaint(["bench", "report", "results", "-o", "r.html"]) == "sevkit bench report has no option -o"
    assert complaint(["guest", "lunch"]) == "sevkit guest has no command 'lunch'"
    assert complaint(["guest", "exec", "g", "--", "ls", "--nothing"]) is None
