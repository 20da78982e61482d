"""Every Python and shell block in the documentation runs, or says why it does not.

A block that cannot run here has a comment directly before it: ``<!-- not run: the reason -->``. The blocks of a
page run in order, in one empty directory per page, Python blocks with one namespace per page.
"""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CODING_STYLE.md", "SECURITY.md", "attacks/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
LANGUAGES = {"python", "py", "sh", "bash", "shell", "console"}
_NOT_RUN = re.compile(r"^<!-- not run: (?P<reason>\S.*\S) -->\s*$")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, the line it starts in, and why it is not run (None: it is)."""

    language: str
    text: str
    line: int
    reason: str | None


def blocks(page: Path) -> list[Block]:
    """The blocks of a page in a language that could run, in order."""
    tokens = MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8"))
    found = []
    for index, token in enumerate(tokens):
        language = token.info.split()[0] if token.info else ""
        if token.type == "fence" and language in LANGUAGES:
            assert token.map is not None
            reason = _reason(tokens[index - 1]) if index else None
            found.append(Block(language, token.content, token.map[0] + 1, reason))
    return found


def _reason(token: object) -> str | None:
    match = _NOT_RUN.match(token.content.strip()) if token.type == "html_block" else None
    return match["reason"] if match else None


def commands(text: str) -> str:
    """The commands of a console transcript: lines behind ``$`` with their continuations."""
    lines, keep = [], False
    for line in text.splitlines():
        if line.startswith("$ "):
            lines.append(line[2:])
            keep = line.endswith("\\")
        elif keep:
            lines.append(line.removeprefix("> "))
            keep = line.endswith("\\")
    return "\n".join(lines)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda page: page.name)
def test_the_blocks_of_a_page_run(page: Path, tmp_path: Path) -> None:
    namespace: dict[str, object] = {"__name__": "__main__"}
    before = Path.cwd()
    (tmp_path / ".venv").symlink_to(Path(sys.executable).parents[1])
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "COLUMNS": "100"}
    os.chdir(tmp_path)
    try:
        for block in blocks(page):
            if block.reason is None:
                _run(block, f"{page.relative_to(ROOT)}:{block.line}", namespace, environment)
    finally:
        os.chdir(before)


def _run(block: Block, where: str, namespace: dict[str, object], environment: dict[str, str]) -> None:
    if block.language in ("python", "py"):
        exec(compile("\n" * (block.line) + block.text, where, "exec"), namespace)
        return
    script = commands(block.text) if block.language == "console" else block.text
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, (
        f"{where}: status {done.returncode}\n{script}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    )


def test_a_failing_block_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```sh\nfalse\n```\n\n<!-- not run: a reason -->\n```python\nraise SystemExit\n```\n")
    first, second = blocks(page)
    assert (first.reason, second.reason, second.line) == (None, "a reason", 6)
    with pytest.raises(AssertionError, match="status 1"):
        _run(first, "page.md:1", {}, dict(os.environ))


def test_only_the_commands_of_a_transcript_run() -> None:
    assert commands("$ a \\\n> b\nout\n$ c\n") == "a \\\nb\nc"
