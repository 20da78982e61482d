"""The stand-ins of light.py are what they stand for."""

from __future__ import annotations  # which light.py relies on

import json
import pickle
from typing import NamedTuple as Real

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevkit.errors import ExitCode
from sevkit.light import NamedTuple as Light
from sevkit.light import to_json
from sevkit.memory.sources.base import Stretch
from sevkit.result import Result

Letters = st.text(alphabet=st.characters(exclude_categories=()))  # lone surrogates too
Leaf = st.none() | st.booleans() | st.integers() | st.floats() | Letters
Keys = Letters | st.integers() | st.booleans() | st.none() | st.floats(allow_nan=False)
Values = st.recursive(Leaf, lambda inner: st.lists(inner) | st.dictionaries(Keys, inner), max_leaves=30)


@given(Values)
def test_json_is_what_json_writes(value: object) -> None:
    assert to_json(value) == json.dumps(value, indent=2, ensure_ascii=False)


def test_json_of_what_is_none_is_refused() -> None:
    for value in (object(), {1, 2}, b"bytes", {b"bytes": 1}, [{"deep": object()}]):
        with pytest.raises(TypeError):
            to_json(value)


class LightOne(Light):
    """One."""

    first: int
    second: str = "two"
    third: float | None = None

    @property
    def double(self) -> int:
        """A property."""
        return 2 * self.first


class RealOne(Real):
    """One."""

    first: int
    second: str = "two"
    third: float | None = None


CALLS = st.tuples(
    st.lists(st.integers(), max_size=4),
    st.dictionaries(st.sampled_from(["first", "second", "third", "fourth"]), st.integers()),
)


@given(CALLS)
def test_a_named_tuple_takes_what_typing_takes(call: tuple[list[int], dict[str, int]]) -> None:
    values, named = call
    try:
        real = RealOne(*values, **named)
    except TypeError:
        with pytest.raises(TypeError):
            LightOne(*values, **named)
        return
    light = LightOne(*values, **named)
    assert light == real == tuple(light)
    assert repr(light) == repr(real).replace("RealOne", "LightOne")
    assert light._asdict() == real._asdict()
    assert light._replace(second="other") == real._replace(second="other")
    assert (light.first, light.second, light.third, light.double) == (*real, 2 * real.first)
    assert pickle.loads(pickle.dumps(light)) == light
    assert LightOne._make(real) == light


def test_a_named_tuple_cannot_be_changed_and_has_no_room_for_more() -> None:
    light = LightOne(1)
    for name in ("first", "fourth"):
        with pytest.raises(AttributeError):
            setattr(light, name, 2)
    with pytest.raises(TypeError):
        light._replace(fourth=4)
    match light:
        case LightOne(first, second):
            assert (first, second) == (1, "two")
    assert LightOne._fields == RealOne._fields
    assert LightOne._field_defaults == RealOne._field_defaults


def test_those_in_use_are_tuples_with_their_names_and_documentation() -> None:
    stretch = Stretch(4096, 8192)
    assert (stretch.size, stretch) == (4096, (4096, 8192, "data", ""))
    assert Result("x") == ("x", None, ExitCode.DONE, ())
    assert "one state" in (Stretch.__doc__ or "")
