"""Foreign text, made safe for where it is shown: names in a core file, labels in a results file, a host's messages.

Who wrote the file must not move the cursor, forge a line, turn the reading direction round, start a formula in a
spreadsheet, or open a tag. What is taken out is shown as U+FFFD, so that a reader sees that something was there.
"""

import re

_SIGN = "\ufffd"
_COLOUR = re.compile(r"(\x1b\[[0-9;]{0,20}m)")  # ECMA-48, SGR: what sevkit's own renderers write
_FORMULA = ("=", "+", "-", "@")
_TEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "µ": r"\textmu{}",
}


def text(value: str) -> str:
    """Text of several lines: no control characters but tab and newline, no bidirectional controls, no surrogates."""
    if value.isascii() and value.isprintable():
        return value
    return "".join(c if c.isprintable() or c in "\n\t" else _SIGN for c in value)


def line(value: str) -> str:
    """Text within a line."""
    return value if value.isascii() and value.isprintable() else "".join(c if c.isprintable() else _SIGN for c in value)


def coloured(value: str) -> str:
    """Like ``text``; colours pass."""
    if "\x1b" not in value:
        return text(value)
    return "".join(part if at % 2 else text(part) for at, part in enumerate(_COLOUR.split(value)))


def csv_cell(value: str) -> str:
    """A cell that no spreadsheet takes for a formula (OWASP, CSV Injection)."""
    found = line(value)
    return f"'{found}" if found.lstrip().startswith(_FORMULA) and not _is_number(found) else found


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True


def markdown_cell(value: str) -> str:
    """A cell of a Markdown table: no new cells, no tags, no links, no code."""
    found = line(value).replace("\\", "\\\\").replace("|", "\\|").replace("`", "\\`").replace("<", "&lt;")
    return found.replace("](", "]\\(")


def tex(value: str) -> str:
    """Text in LaTeX; a character that pdflatex does not know, which would end the run, as ``[U+6F22]``."""
    return "".join(
        _TEX.get(character) or (character if character <= "\xff" else f"[U+{ord(character):04X}]")
        for character in line(value)
    )
