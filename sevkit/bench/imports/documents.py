"""Read JSON as programs write it to files: with messages around it, several documents in a row, nan and inf."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sevkit import strictjson, textfile
from sevkit.errors import BadInputError

LARGEST_FILE = 64 << 20
_TELLING = 256  # characters
_START = re.compile(r"^[ \t]*\{", re.MULTILINE)
_NEXT = re.compile(r"\s*\{")
# fio prints C's names of values that are not numbers (nan, inf).
_NO_NUMBER = re.compile(r"(?<=[:,\[])(\s*)[-+]?(?:nan|inf(?:inity)?)(?=\s*[,}\]])", re.IGNORECASE)


@dataclass(frozen=True)
class Documents:
    """The documents of a file in order, and the text around them."""

    found: tuple[Any, ...]
    around: str


def read_text(path: Path) -> str:
    """The text of a file of results; raises BadInputError."""
    data, name = textfile.read_bytes(str(path), LARGEST_FILE)
    return textfile.text(data, name, LARGEST_FILE)


def digest(path: Path) -> str:
    """Tells copies of a file, however they are indented; empty for one so short that two runs may have written it."""
    text = "".join(read_text(path).split())
    return hashlib.sha256(text.encode(errors="replace")).hexdigest() if len(text) >= _TELLING else ""


def read(path: Path) -> Documents:
    """All JSON documents of a file; raises BadInputError when there is none, or one is damaged."""
    return split(read_text(path), path)


def split(text: str, path: Path) -> Documents:
    """All JSON documents in a text. What is not a number (nan, inf) reads as None."""
    text = _NO_NUMBER.sub(r"\1null", text)
    decoder = strictjson.decoder(lambda _: None)
    found: list[Any] = []
    around: list[str] = []
    at = 0
    while start := (at and _NEXT.match(text, at)) or _START.search(text, at):
        around.append(text[at : start.start()])
        try:
            document, at = decoder.raw_decode(text, start.end() - 1)
        except RecursionError as error:
            raise BadInputError(f"{path} is nested too deeply to be a benchmark result") from error
        except ValueError as error:
            line = text.count("\n", 0, start.start()) + 1
            raise BadInputError(
                f"{path} is not JSON: {error} (in the document that begins in line {line})", hint="is the file cut off?"
            ) from error
        found.append(document)
    around.append(text[at:])
    if not found:
        raise BadInputError(f"{path} is not JSON: no document begins in it", hint="is the file cut off?")
    return Documents(tuple(found), "\n".join(part.strip() for part in around if part.strip()))
