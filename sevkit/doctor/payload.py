"""What `sevkit doctor --json` prints as ``data``, as types."""

from typing import TypedDict


class User(TypedDict):
    """Who asked."""

    uid: int
    root: bool
    container: bool


class AbilityRow(TypedDict):
    """Something that a user may want to do."""

    what: str
    command: str
    core: bool
    works: bool
    missing: list[str]


class NeedRow(TypedDict):
    """Something that commands need."""

    name: str
    what: str
    works: bool
    found: str
    hint: str | None
    needed_for: list[str]


class Examination(TypedDict):
    """What works here as this user."""

    user: User
    python: str
    core_works: bool
    abilities: list[AbilityRow]
    needs: list[NeedRow]
