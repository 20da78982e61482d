"""Parse sizes and times on the command line."""

import re

import click

_YEAR = 366 * 86400.0
_UNITS = {"": 1, "m": 1, "g": 1 << 10, "t": 1 << 20}


class Mebibytes(click.ParamType[int]):
    """A size: ``512`` and ``512M`` are 512 MiB, ``16G`` is 16 GiB; ``MiB``, ``GB`` and the like mean the same."""

    name = "size"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The size in MiB; fails with examples."""
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([mgt]?)(?:i?b)?", str(value).strip().lower())
        if match is None:
            self.fail(f"{value!r} is not a size; such as 512M or 16G", param, ctx)
        size = float(match[1]) * _UNITS[match[2]]
        if size != int(size):
            self.fail(f"{value!r} is not a whole number of MiB", param, ctx)
        return int(size)


class Seconds(click.ParamType[float]):
    """A time limit: more than nothing, and at most a year (no clock takes more)."""

    name = "seconds"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The seconds; fails for what is no number, zero, negative, or not finite."""
        try:
            seconds = float(str(value))
        except ValueError:
            self.fail(f"{value!r} is not a number of seconds", param, ctx)
        if not 0 < seconds <= _YEAR:
            self.fail(f"{value} is not in the range x>0 (and at most a year)", param, ctx)
        return seconds


SIZE = Mebibytes()
SECONDS = Seconds()
