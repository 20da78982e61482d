"""Progress for people: on stderr, only on a terminal, removed at the end."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress(start: str = "") -> Iterator[Callable[[str], None]]:
    """A line that says what is being done; on anything but a terminal nothing is shown."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console

    console = Console(stderr=True)
    with console.status(start or "working") as status:
        yield status.update
