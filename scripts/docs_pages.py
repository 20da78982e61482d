"""Pages of the documentation that are made from the code: called by mkdocs (see mkdocs.yml, hooks).

Generated: the table of checks and the list of attacks. Links to files outside of docs/ become plain text with the path,
because those files are not part of the site.
"""

import re
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parent.parent


def on_files(files, config):
    """Add the generated pages."""
    for name, text in {"reference/checks.md": _checks(), "reference/attacks.md": _attacks()}.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown, page, config, files):
    """Links that leave docs/ have no target in the site: keep their text."""
    del page, config, files
    return re.sub(r"\[([^\]]+)\]\((?:\.\./)+(?!images)([^)#\s]+)\)", _outside, markdown)


def _outside(match):
    inside = ROOT / "docs" / match[2]
    return match[0] if inside.exists() else f"{match[1]} (`{match[2]}`)"


def _cell(text):
    return str(text).replace("|", "\\|").replace("\n", " ")


def _checks():
    from sevkit.probe.checks.readiness import table

    lines = [
        "# Checks of sevkit probe\n\nMade from the tables in `sevkit/probe/checks`.\n",
        "| check | for | what it checks |\n|---|---|---|",
    ]
    for check in table():
        modes = f"{', '.join(check.modes)}<br>{check.weight}"
        what = f"{_cell(check.description)}<br>*reads* {_cell(check.reads)}<br>*if not* {_cell(check.hint)}"
        lines.append(f"| `{check.id}` | {modes} | {what} |")
    return "\n".join(lines) + "\n"


def _attacks():
    from sevkit import attacks

    parts = ["# All attacks\n\nMade from the experiments in `sevkit/attacks`.\n"]
    for name, attack in sorted(attacks.discover().items()):
        parts.append(f"## {name}\n\n{attack.title}\n\n{attack.summary}\n")
    return "\n".join(parts)
