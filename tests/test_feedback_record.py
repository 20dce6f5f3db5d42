"""Feedback as records: what is refused and how it is named; the learner learns the event as it was."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftrl_engine.errors import DataError
from ftrl_engine.schema import Schema
from ftrl_engine.snapshot import Snapshot
from serving.feedback_record import ID_KEY, FeedbackReader, key_in, key_of
from serving.scorer import Scorer
from streams.codecs.base import open_codec
from streams.source import PADDING, Block

BITS = 14
CLICKS = Schema.from_toml(
    'label = "click"\nweight = "importance"\nignore = ["id"]\n[fields]\nprice = { kind = "number" }'
)
ITEMS = Schema.from_toml('label = "click"\n[fields]\nid = { kind = "token" }')
STARS = Schema.from_toml('label = { field = "rating", at_least = 4 }')
DEEP = Schema.from_toml('label = "outcome.click"')


def block_of(lines: bytes) -> Block:
    data = np.frombuffer(lines + bytes(PADDING), dtype=np.uint8)
    ends = np.flatnonzero(data == 10)
    starts = np.concatenate([[0], ends[:-1] + 1])
    return Block("test", data.copy(), starts, ends, ends + 1, 0, len(lines))


def learned(schema: Schema, lines: bytes) -> list[tuple[float, float, list[int]]]:
    """(label, importance, slots) of each record as the learner reads it; refused ones are an error."""
    rows = []
    for part in open_codec("jsonl", schema, BITS).encode(block_of(lines)):
        assert part.refused == ()
        batch = part.batch
        assert batch.labels is not None
        assert batch.importance is not None
        for row in range(len(batch)):
            slots = batch.slots[batch.indptr[row] : batch.indptr[row + 1]]
            rows.append((float(batch.labels[row]), float(batch.importance[row]), slots.tolist()))
    return rows


def read(schema: Schema, body: Any) -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return b"".join(record.line for record in FeedbackReader(schema).read(data).records)


def test_one_event_and_several() -> None:
    reader = FeedbackReader(CLICKS)
    one = reader.read(b'{"click": 1, "user": "u"}')
    assert (one.single, len(one.records), one.records[0].key, one.records[0].label) == (True, 1, None, 1.0)
    assert one.records[0].line == b'{"click":1,"user":"u"}\n'
    several = reader.read(b'{"events": [{"click": 0}, {"click": true, "id": "x"}, {"click": "1", "id": 7}]}')
    assert not several.single
    assert [record.label for record in several.records] == [0.0, 1.0, 1.0]
    assert [record.key for record in several.records] == [None, key_of("x"), key_of("7")]
    assert json.loads(several.request) == {
        "candidates": [json.loads(record.line) for record in several.records]
    }


def test_the_id_is_in_the_record_and_no_feature() -> None:
    event = {"click": 1, "user": "u", "price": 2.5, "id": 'a "quoted" ünusual\nid'}
    plain = {name: value for name, value in event.items() if name != "id"}
    for schema in (CLICKS, Schema(), STARS, Schema.from_toml('label = "click"\nothers = "ignore"')):
        given_event = event | {"rating": 5} if schema is STARS else event
        without = plain | {"rating": 5} if schema is STARS else plain
        line = read(schema, given_event)
        assert key_in(line) == key_of(str(event["id"]))
        assert json.loads(line)[ID_KEY + str(event["id"])] is None
        assert learned(schema, line) == learned(schema, json.dumps(without).encode() + b"\n")
    # The schema names it, so other readers of the stream find it.
    assert json.loads(read(CLICKS, event))["id"] == event["id"]
    assert "id" not in json.loads(read(Schema(), event))


def test_where_the_id_is_a_feature_it_is_no_id() -> None:
    event = {"click": 1, "id": "item7"}
    line = read(ITEMS, event)
    assert key_in(line) is None
    assert json.loads(line) == event
    crossed = Schema.from_toml('label = "click"\ncrosses = [["id", "user"]]')
    assert key_in(read(crossed, event)) is None


texts = st.one_of(st.sampled_from(["u1", "", "a|b", "3.5", 'q"\\\n', "é", "2.5e3"]), st.text(max_size=8))
values = st.one_of(texts, st.integers(-(10**25), 10**25), st.floats(-1e6, 1e6), st.booleans(), st.none())
events = st.dictionaries(
    st.sampled_from(["user", "item", "price", "deep", "tags", "ünknown", "x.y"]),
    st.one_of(values, st.lists(values, max_size=3), st.dictionaries(st.sampled_from(["b", "c"]), values)),
    max_size=5,
)


@given(st.lists(st.tuples(events, st.integers(0, 1)), min_size=1, max_size=4), st.sampled_from([None, 2]))
def test_what_is_accepted_is_learned_as_it_was(
    found: list[tuple[dict[str, Any], int]], indent: int | None
) -> None:
    rows = [{**event, "click": label} for event, label in found]
    try:
        body = json.dumps({"events": rows}, indent=indent).encode()
        feedback = FeedbackReader(CLICKS).read(body)
        Scorer(empty(CLICKS)).score(feedback.request)
    except DataError:
        return  # refused: then nothing is stored
    lines = b"".join(record.line for record in feedback.records)
    assert lines.count(b"\n") == len(rows)
    plain = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    assert learned(CLICKS, lines) == learned(CLICKS, plain)


def empty(schema: Schema) -> Snapshot:
    return Snapshot(np.empty(0, np.uint32), np.empty(0, np.float32), 0.0, BITS, schema)


@pytest.mark.parametrize(
    ("schema", "body", "names"),
    [
        (CLICKS, b"", ["body"]),
        (CLICKS, b"[]", ["body", "events"]),
        (CLICKS, b"{}", ["body", "events"]),
        (CLICKS, b'{"events": []}', ["events", "empty"]),
        (CLICKS, b'{"events": {}}', ["events"]),
        (CLICKS, b'{"events": [1]}', ["body"]),
        (CLICKS, b'{"events": [{"click": 1}], "more": 1}', ["'more'"]),
        (CLICKS, b'{"user": "u"}', ["label", "missing", "'click'"]),
        (CLICKS, b'{"click": null}', ["missing", "'click'"]),
        (CLICKS, b'{"click": ""}', ["missing", "'click'"]),
        (CLICKS, b'{"events": [{"click": 1}, {"click": 2}]}', ["'click'", "events[1]", "0 or 1", "2"]),
        (CLICKS, b'{"click": "yes"}', ["'click'", "'yes'"]),
        (CLICKS, b'{"click": [1]}', ["'click'"]),
        (CLICKS, b'{"click": 0.5}', ["'click'", "0.5"]),
        (CLICKS, b'{"click": -1}', ["'click'", "-1"]),
        (CLICKS, b'{"click": 1, "importance": -1}', ["'importance'", "-1"]),
        (CLICKS, b'{"click": 1, "importance": "x"}', ["'importance'", "'x'"]),
        (CLICKS, b'{"click": 1, "importance": true}', ["'importance'"]),
        (CLICKS, b'{"click": 1, "importance": 1e60}', ["'importance'"]),
        (CLICKS, b'{"click": 1, "id": {"a": 1}}', ["'id'"]),
        (CLICKS, b'{"click": 1, "id": ""}', ["'id'"]),
        (CLICKS, b'{"click": 1, "id": 1.5}', ["'id'", "1.5"]),
        (CLICKS, b'{"click": 1, "id": "' + b"x" * 257 + b'"}', ["'id'", "256"]),
        (CLICKS, b'{"click": 1, "id": NaN}', ["body"]),
        (Schema(), b'{"user": 1}', ["'label'", "'click'", "'target'"]),
        (Schema(), b'{"click": 1, "label": 0}', ["'label'", "'click'"]),
        (STARS, b'{"rating": "good"}', ["'rating'", "'good'"]),
        (STARS, b'{"rating": true}', ["'rating'"]),
        (DEEP, b'{"outcome": {"click": 3}}', ["'outcome.click'", "3"]),
        (DEEP, b'{"outcome": 1}', ["missing", "'outcome.click'"]),
    ],
)
def test_refusals_name_the_field(schema: Schema, body: bytes, names: list[str]) -> None:
    with pytest.raises(DataError) as caught:
        FeedbackReader(schema).read(body)
    for name in names:
        assert name in str(caught.value)


def test_labels_as_the_schema_wants_them() -> None:
    for schema, event, label in (
        (STARS, {"rating": 4}, 1.0),
        (STARS, {"rating": 3.9}, 0.0),
        (STARS, {"rating": -1}, 0.0),
        (DEEP, {"outcome": {"click": 1}}, 1.0),
        (DEEP, {"outcome.click": False}, 0.0),
        (Schema(), {"target": 0.0}, 0.0),
        (CLICKS, {"click": 1, "importance": None}, 1.0),
    ):
        body = json.dumps(event).encode()
        assert FeedbackReader(schema).read(body).records[0].label == label
        assert learned(schema, read(schema, event))[0][0] == label


def test_lines_of_others_have_no_id() -> None:
    for line in (b"", b"{}", b'{"click": 1}', b'{"feedback_id:', b'{"feedback_id:x" 1}', b"\xff\xfe"):
        assert key_in(line) is None
