"""Text for terminals that show ASCII only: boxes, dashes and signs by what comes nearest."""

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
    """Whether a stream cannot show more than ASCII: by its encoding, or by the locale of the terminal behind it."""
    if (stream.encoding or "ascii").lower().replace("-", "") not in ("utf8", "utf16", "utf32"):
        return True
    locale = next((value for name in ("LC_ALL", "LC_CTYPE", "LANG") if (value := os.environ.get(name))), "")
    return locale in ("C", "POSIX") and stream.isatty()
