"""What `sevkit container build --json` prints as ``data``, as types."""

from typing import TypedDict


class EngineRow(TypedDict):
    """The engine that built."""

    where: str
    version: str


class ImageRow(TypedDict):
    """An image that was built."""

    name: str
    id: str
    size: int
    seconds: float


class BuildPlan(TypedDict):
    """`sevkit container build --dry-run`: the command lines that would do the same."""

    dry_run: bool
    command_lines: list[list[str]]


class BuiltImages(TypedDict):
    """What was built."""

    engine: EngineRow
    images: list[ImageRow]
