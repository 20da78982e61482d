"""Text for ASCII-only terminals: replace boxes, dashes and signs by similar characters."""

import os
from typing import TextIO

_SAME = {
    "-": "─━═╌\u2013\u2014",
    "|": "│┃║",
    "+": "┌┐└┘├┤┬┴┼┏┓┗┛┣┫┳┻╋╔╗╚╝╭╮╯╰╇╈╪╡╞╘╛╒╕┡┩╀✓",
    ".": "·",
    "~": "≈",
    "x": "\u00d7✗",
    '"': "“”",
    "'": "\u2018\u2019",
    "<": "«",
    ">": "»",
    "...": "…",
    "+-": "±",
    "->": "→",
}
ASCII = str.maketrans({letter: plain for plain, letters in _SAME.items() for letter in letters})


def ascii_only(stream: TextIO) -> bool:
    """Whether a stream can show only ASCII, by its encoding or by the locale of its terminal."""
    if (stream.encoding or "ascii").lower().replace("-", "") not in ("utf8", "utf16", "utf32"):
        return True
    locale = next((value for name in ("LC_ALL", "LC_CTYPE", "LANG") if (value := os.environ.get(name))), "")
    return locale in ("C", "POSIX") and stream.isatty()
