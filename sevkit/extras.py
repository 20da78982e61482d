"""The optional dependencies: what a command does where one is missing."""

from collections.abc import Iterator
from contextlib import contextmanager

from sevkit.errors import MissingToolError


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Import inside: raises MissingToolError with the pip command where the extra ``name`` is not installed."""
    try:
        yield
    except ImportError as error:
        package = (error.name or str(error)).partition(".")[0]
        raise MissingToolError(
            f"the Python package {package} is not installed", hint=f"pip install 'sevkit[{name}]'"
        ) from error
