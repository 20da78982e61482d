"""Ends a worker whose test does not end: where every thread stood is printed, and the run fails with the test's name.

pytest-timeout raises an error in the test. Code that waits where no Python runs, or that catches every error, goes on
waiting, and the whole run with it.
"""

import faulthandler
import os
from collections.abc import Generator

import pytest

GRACE = 120.0
"""Seconds beyond a test's own limit: for its error to be raised and its fixtures to end."""


class Watchdog:
    """A plugin. It prints to the standard error that the process had before pytest captured it."""

    def __init__(self) -> None:
        self._stderr = os.dup(2)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        limit = limit_of(item)
        if limit:
            faulthandler.dump_traceback_later(limit + GRACE, exit=True, file=self._stderr)
        try:
            return (yield)
        finally:
            faulthandler.cancel_dump_traceback_later()


def limit_of(item: pytest.Item) -> float:
    """The limit that pytest-timeout has for a test, in seconds; 0 for none."""
    own = item.get_closest_marker("timeout")
    if own is not None:
        return float(own.args[0] if own.args else own.kwargs["timeout"])
    given = item.config.getoption("timeout", None)
    return float(given if given is not None else item.config.getini("timeout") or 0)
