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


class BuiltImages(TypedDict):
    """What was built."""

    engine: EngineRow
    images: list[ImageRow]
