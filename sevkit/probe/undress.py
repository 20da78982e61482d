"""Remove what mail, trackers, shells and terminals add to lines: quotes, comments, colours, numbers. Pure."""

from __future__ import annotations

import re

# Colours and cursor movements (ECMA-48 control sequences), and operating system commands such as window titles.
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]{0,40}[ -/]{0,4}[@-~]|\][^\x07\x1b]{0,400}(?:\x07|\x1b\\)|[@-Z\\^_])")
# Web pages: the marks around and at the end of lines.
_MARKUP = re.compile(r"</?(?:pre|code|br|span|p|div|td|tr|li|samp|tt|b|mark)(?: [^<>]{0,200})?/?>", re.IGNORECASE)
_ENTITIES = (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&#39;", "'"), ("&nbsp;", " "), ("&amp;", "&"))
# Quotes of mail, comments, list items, tables, diffs. "-- Boot" is journalctl's marker, not a list item.
_QUOTES = re.compile(r"^(?:[ \t]|>|&gt;|\||#|\*|//|;|•|-(?= )|\+(?=[ \t\[]))+")
# grep -n, grep -H: "12:", "dmesg.txt:12:", "dmesg.txt-12-", "/var/log/kern.log.1:"; not "2025-11-20", not "10:15:33".
# cat -n and nl: "  12<tab>"; lists: "12. ".
_NUMBERED = re.compile(
    r"^(?:[\w./+-]{1,200}?[:-])?\d{1,8}[:-](?=\D|0x|\d{4}-\d\d-\d\d[T ])"
    r"|^(?:[\w.+-]{0,100}/)*(?:[\w.+-]{0,100}\.(?:txt|log|out)|syslog|messages|dmesg)(?:\.\d{1,3})?(?:\.gz)?:"
    r"|^\d{1,8}(?:\t|  +)(?=\S)|^\d{1,4}[.)] (?=\S)"
)


def uncoloured(line: str) -> str:
    """The line without terminal sequences, marks of HTML, carriage returns, and with plain spaces."""
    if "\x1b" in line:
        line = _ESCAPES.sub("", line)
    if "<" in line:
        line = _MARKUP.sub("", line)
    if "&" in line:
        line = _unescaped(line)
    return line.replace("\xa0", " ").rstrip("\r\n ").removesuffix("^M")


def _unescaped(line: str) -> str:
    for entity, character in _ENTITIES:
        line = line.replace(entity, character)
    return line


def unquoted(line: str) -> str:
    """The line without indentation, marks of a quotation or comment, and back-quotes around it."""
    found = _QUOTES.match(line)
    if found:
        line = line[found.end() :]
        line = line.removesuffix("|").rstrip() if "|" in found[0] else line
    inner = line.strip()
    return inner.strip("`") if inner[:1] == "`" or inner[-1:] == "`" else line


def unnumbered(line: str) -> str:
    """The line without the file name and number that grep puts before it."""
    found = _NUMBERED.match(line)
    return line[found.end() :] if found else line
