"""Sizes and times on the command line, as people write them."""

import re

import click

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


SIZE = Mebibytes()
SECONDS = click.FloatRange(min=0, min_open=True)
