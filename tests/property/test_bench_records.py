"""What happened beside the measurements: each record reads back as it was written, and nothing else reads as one."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevkit.bench.records import (
    ClockJump,
    Discarded,
    Event,
    Failure,
    Skipped,
    SkippedFile,
    SlotEnd,
    Stop,
    event_from,
)
from sevkit.errors import BadInputError

KINDS = (SlotEnd, Failure, Skipped, SkippedFile, Discarded, ClockJump, Stop)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
EVENTS = st.one_of(*(st.builds(kind, **({"seconds": FINITE} if kind is SlotEnd else {})) for kind in KINDS)).filter(
    lambda event: all(v == v and abs(v) != float("inf") for v in event.record().values() if isinstance(v, float))
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
FIELDS = ("id", "booted", "seconds", "slot", "workload", "message", "reason", "file", "attempt", "time", "rounds")


@given(EVENTS)
def test_records_read_back_as_they_were_written(event: Event) -> None:
    assert event_from(json.loads(json.dumps(event.record()))) == event


@given(
    st.sampled_from(["slot", "failure", "skipped", "discarded", "clock", "stop", "later", 1, None, []]),
    st.dictionaries(st.sampled_from(FIELDS), JSON),
)
def test_whatever_a_line_holds_it_is_an_event_or_an_error(kind: object, fields: dict[str, object]) -> None:
    try:
        found = event_from({**fields, "kind": kind})
    except BadInputError:
        return
    if found is not None:
        assert found.record()["kind"] == kind


def test_a_kind_of_a_later_version_is_passed_over() -> None:
    assert event_from({"kind": "later"}) is None


@pytest.mark.parametrize(
    "record",
    [
        {"kind": "slot", "id": "c0.b0.sev", "booted": True, "seconds": "long"},
        {"kind": "slot", "booted": True, "seconds": 1.0},
        {"kind": "stop", "reason": "boots"},
        {"kind": "clock", "seconds": float("nan")},
    ],
)
def test_a_record_that_is_none_is_told(record: dict[str, object]) -> None:
    with pytest.raises(BadInputError, match=f"not a record of kind {record['kind']}"):
        event_from(record)
