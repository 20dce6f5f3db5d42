"""The scorer: the same scores as Snapshot.score, the fast way like the careful one, limits, refusals."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ftrl_engine.batch import Batch
from ftrl_engine.errors import DataError
from ftrl_engine.events import EventEncoder, flatten
from ftrl_engine.jit import COMPILED
from ftrl_engine.plan import make_plan
from ftrl_engine.schema import LABEL_NAMES, Schema
from ftrl_engine.sink import ROWS, make_sink
from ftrl_engine.snapshot import Snapshot
from serving.request_rows import MAX_REQUEST_FEATURES
from serving.request_values import TooLargeError
from serving.scorer import Scored, Scorer

BITS = 10
compiled = pytest.mark.skipif(not COMPILED, reason="millions of steps take too long as plain Python")
SCHEMA = Schema.from_toml("""
label = "click"
weight = "importance"
timestamp = "time"
ignore = ["id"]
crosses = [["user", "item"], ["user", "tags", "place"], ["city", "country"]]
[fields]
user = { kind = "token" }
item = { kind = "token", missing = "feature" }
tags = { kind = "tokens", separator = "|" }
price = { kind = "number", transform = "log_bucket" }
amount = { kind = "number", missing = "feature" }
depth = { bins = [1, 2.5, 10] }
""")
CLOSED = Schema.from_toml("""
others = "ignore"
crosses = [["user", "item"]]
[fields]
user = { kind = "token", missing = "feature" }
price = { kind = "number", transform = "log1p" }
""")


def snapshot_of(schema: Schema, seed: int = 0) -> Snapshot:
    """Every slot has a weight, so no two features can be confused."""
    random = np.random.default_rng(seed)
    slots = np.arange(1 << BITS, dtype=np.uint32)
    weights = random.normal(0, 0.2, len(slots)).astype(np.float32)
    return Snapshot(slots, weights, -0.5, BITS, schema, {"rows": 7})


def merged(context: dict[str, Any], candidate: dict[str, Any]) -> list[tuple[str, int, str]]:
    """The values of a row: the candidate's fields in place of the context's."""

    def hidden(event: dict[str, Any], prefix: str = "") -> set[str]:
        names = set()
        for key, value in event.items():
            names |= hidden(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key}
        return names

    mine = hidden(candidate)
    return [value for value in flatten(context) if value[0] not in mine] + list(flatten(candidate))


def expected(snapshot: Snapshot, rows: list[list[tuple[str, int, str]]]) -> list[float] | None:
    """The scores by EventEncoder and Snapshot.score; None where a row is refused."""
    schema = snapshot.schema
    left_out = {*((schema.label,) if schema.label else LABEL_NAMES), schema.weight}
    plan = make_plan(schema, snapshot.bits)
    sink = make_sink(len(rows), 1 << 16)
    for record, values in enumerate(rows):
        encoder = EventEncoder(plan)
        _add_values(encoder, sink, record, [value for value in values if value[0] not in left_out])
    if int(sink.state[ROWS]) < len(rows):
        return None
    scores: list[float] = snapshot.score(Batch.from_sink(sink, 1 << snapshot.bits)).tolist()
    return scores


def _add_values(encoder: EventEncoder, sink: Any, record: int, values: list[tuple[str, int, str]]) -> None:
    from ftrl_engine.events import KEPT, add_event
    from ftrl_engine.hashing import as_buffer, salt

    pieces = [text.encode() for _, _, text in values]
    bounds = np.cumsum([0, *map(len, pieces)])
    add_event(
        KEPT.words(encoder.plan, sink), np.array([salt(field) for field, _, _ in values], dtype=np.uint64),
        np.array([form for _, form, _ in values], dtype=np.int64), bounds.astype(np.int64),
        as_buffer(b"".join(pieces), padding=64), record, False,
    )  # fmt: skip


names = st.one_of(
    st.sampled_from(["user", "item", "tags", "price", "amount", "depth", "place", "city", "country"]),
    st.sampled_from(["click", "importance", "time", "id", "other", "ünknown", "a.b", ""]),
)
numbers = st.one_of(
    st.integers(-(10**20), 10**20),
    st.floats(-1e9, 1e9),
    st.sampled_from([0, 1, -0.0, 5.0, 1e300, 1e-300, 0.1]),
)
texts = st.one_of(
    st.sampled_from(["u1", "i2", "a|b||a", "", "3.5", "7", "1e3", "-2", "x" * 40, 'q"\\\n', "é"]),
    st.text(max_size=12),
)
scalars = st.one_of(texts, numbers, st.booleans(), st.none())
values_ = st.one_of(
    scalars, st.lists(scalars, max_size=4), st.dictionaries(st.sampled_from(["b", "c"]), scalars, max_size=2)
)
plain_events = st.dictionaries(
    st.sampled_from(["user", "item", "tags", "place", "other"]),
    st.sampled_from(["u1", "i2", "a|b", "é"]),
    max_size=5,
)
events = st.one_of(plain_events, st.dictionaries(names, values_, max_size=6))


@given(events, st.lists(events, max_size=4), st.sampled_from([SCHEMA, CLOSED, Schema()]), st.booleans())
@example(
    {"user": "u1", "tags": "a|b"}, [{"tags": None}, {"tags": []}, {}, {"user": ["u1", "u2"]}], SCHEMA, True
)
@example({"amount": 1e308, "user": "u"}, [{"amount": 1}, {"amount": None}], SCHEMA, True)
def test_scores_are_those_of_the_snapshot(
    context: dict[str, Any], candidates: list[dict[str, Any]], schema: Schema, ascii: bool
) -> None:
    scorer = Scorer(snapshot_of(schema))
    body = json.dumps({"context": context, "candidates": candidates}, ensure_ascii=ascii)
    try:
        data = body.encode()
    except UnicodeEncodeError:
        return
    want: list[float] | None
    try:
        want = expected(scorer.snapshot, [merged(context, candidate) for candidate in candidates])
    except (DataError, UnicodeEncodeError):
        want = None
    try:
        got = scorer.score(data)
    except DataError:
        # The context is read even where there is no candidate, and a field of one value takes no object.
        single = {field.name for field in schema.fields}
        objects = any(isinstance(e.get(n), dict) for e in [context, *candidates] for n in single)
        assert want is None or objects or _context_is_wrong(scorer.snapshot, context, candidates)
        return
    assert want is not None
    assert got.scores == pytest.approx(want, abs=1e-9, rel=1e-9)
    assert got == scorer.score_carefully(data)


def _context_is_wrong(snapshot: Snapshot, context: dict[str, Any], candidates: list[dict[str, Any]]) -> bool:
    """A value of the context has no meaning, though every candidate hides it."""
    try:
        return expected(snapshot, [merged(context, {})]) is None
    except DataError:
        return True


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return Scorer(snapshot_of(SCHEMA), max_candidates=50, max_body=100_000)


def score(scorer: Scorer, context: dict[str, Any] | None = None, candidates: Any = None) -> list[float]:
    body: dict[str, Any] = {} if context is None else {"context": context}
    if candidates is not None:
        body["candidates"] = candidates
    return scorer.score(json.dumps(body).encode()).scores


def test_context_alone_is_one_event(scorer: Scorer) -> None:
    event = {"user": "u1", "item": "i1", "price": 3.5}
    (alone,) = score(scorer, event)
    assert score(scorer, event, [{}, {}]) == [alone, alone]
    assert score(scorer, None, [event]) == pytest.approx([alone], rel=1e-12)
    assert score(scorer, {"user": "u1"}, [{"item": "i1", "price": 3.5}]) == pytest.approx([alone], rel=1e-12)
    assert score(scorer, event, []) == []


def test_order_and_space_do_not_matter(scorer: Scorer) -> None:
    want = scorer.score(b'{"context":{"user":"u"},"candidates":[{"item":"i"},{"item":"j"}]}').scores
    for body in (
        b'{"candidates":[{"item":"i"},{"item":"j"}],"context":{"user":"u"}}',
        b' \n{ "context" : {\t"user" : "u" } , "candidates" : [ {"item": "i"} ,\r\n{"item":"j" } ] } \n',
        b'{"c\\u006fntext":{"user":"u"},"candidates":[{"item":"i"},{"item":"j"}]}',
    ):
        assert scorer.score(body).scores == pytest.approx(want, rel=1e-12)


def test_the_last_of_two_equal_keys_wins(scorer: Scorer) -> None:
    want = score(scorer, {"user": "b"}, [{"item": "i"}])
    for body in (
        b'{"context":{"user":"a","user":"b"},"candidates":[{"item":"i"}]}',
        b'{"context":{"user":"a"},"context":{"user":"b"},"candidates":[{"item":"i"}]}',
        b'{"context":{"user":"b"},"candidates":[{"item":"j","item":"i"}]}',
        b'{"context":{"user":"b"},"candidates":[],"candidates":[{"item":"i"}]}',
    ):
        assert scorer.score(body).scores == pytest.approx(want, rel=1e-12)


def test_fast_and_careful_read_the_same(scorer: Scorer) -> None:
    random = np.random.default_rng(3)
    fields = ["user", "item", "place", "price", "tags", "new"]
    things = [7, -3, 2.75, 4.0, "text", True, None, ["a", 1, None], []]

    def event() -> dict[str, Any]:
        return {
            fields[random.integers(6)]: things[random.integers(len(things))]
            for _ in range(random.integers(5))
        }

    refused = 0
    for _ in range(200):
        body = json.dumps({"context": event(), "candidates": [event() for _ in range(3)]}).encode()
        want, got = outcome(scorer.score_carefully, body), outcome(scorer.score, body)
        assert got == want
        refused += isinstance(got, str)
    assert 20 < refused < 180


requests = st.builds(
    lambda context, candidates: json.dumps({"context": context, "candidates": candidates}).encode(),
    events, st.lists(events, max_size=4),
)  # fmt: skip


@given(st.lists(st.tuples(st.integers(0, 2), requests), max_size=6))
def test_scorers_in_one_scratch_score_as_if_alone(asked: list[tuple[int, bytes]]) -> None:
    snapshots = [snapshot_of(SCHEMA, seed) for seed in range(3)]
    first = Scorer(snapshots[0])
    second = first.successor(snapshots[1])
    assert second is not None
    third = second.successor(snapshots[2])
    assert third is not None
    for which, body in asked:
        scorer = (first, second, third)[which]
        assert scorer.snapshot is snapshots[which]
        assert outcome(scorer.score, body) == outcome(Scorer(snapshots[which]).score, body)


def test_a_scratch_is_for_one_schema(scorer: Scorer) -> None:
    assert scorer.successor(snapshot_of(CLOSED)) is None
    one = np.ones(1)
    wider = Snapshot(one.astype(np.uint32), one.astype(np.float32), 0.0, BITS + 1, SCHEMA)
    assert scorer.successor(wider) is None


def outcome(score: Callable[[bytes], Scored], body: bytes) -> Scored | str:
    try:
        return score(body)
    except DataError as error:
        return str(error)


def test_label_importance_and_time_are_left_out(scorer: Scorer) -> None:
    (plain,) = score(scorer, {"user": "u"})
    for extra in (
        {"click": "banana"},
        {"importance": -1},
        {"time": [1, 2]},
        {"id": 1},
        {"click": None},
    ):
        assert score(scorer, {"user": "u", **extra}) == [plain]


def test_unknown_and_missing_fields_are_counted() -> None:
    scorer = Scorer(snapshot_of(CLOSED))
    body = {
        "context": {"user": "u", "nope": 1, "list": [1, 2]},
        "candidates": [{"price": 1}, {"odd": 2, "item": 3}],
    }
    scored = scorer.score(json.dumps(body).encode())
    assert scored.unknown == 3
    assert scored.missing == 3 - 2 + 3 - 2  # user, item and price are named; LABEL_NAMES are no features
    plain = scorer.score(b'{"context":{"user":"u"},"candidates":[{"price":1},{"item":3}]}')
    assert plain.unknown == 0
    assert plain.scores == scored.scores


def test_a_field_without_a_weight_is_unknown_to_an_open_schema() -> None:
    weightless = Snapshot(np.empty(0, np.uint32), np.empty(0, np.float32), 0.0, BITS, Schema())
    assert Scorer(weightless).score(b'{"context":{"a":"x","b":["x","y"],"c":null}}').unknown == 2
    assert Scorer(snapshot_of(Schema())).score(b'{"context":{"a":"x","b":["x","y"]}}').unknown == 0


@pytest.mark.parametrize(
    ("body", "names"),
    [
        (b"", ["JSON"]),
        (b"[]", ["object", "a list"]),
        (b"{}", ["context"]),
        (b'{"contest": {}}', ["'contest'", "context"]),
        (b'{"context": [1]}', ["context", "a list"]),
        (b'{"context": null}', ["context", "null"]),
        (b'{"candidates": {}}', ["candidates", "an object"]),
        (b'{"candidates": [{}, 3]}', ["candidates[1]", "a number"]),
        (b'{"context": {"price": "cheap"}}', ["'price'", "'cheap'"]),
        (b'{"context": {"price": true}}', ["'price'"]),
        (b'{"context": {"price": [1]}}', ["'price'"]),
        (b'{"context": {"price": {"x": 1}}}', ["'price'", "object"]),
        (b'{"context": {"user": {"x": 1}}}', ["'user'", "object"]),
        (b'{"context": {"price": NaN}}', ["'price'", "finite"]),
        (b'{"candidates": [{"a": {"b": [1, -Infinity]}}]}', ["'a.b'", "finite"]),
        (b'{"context": {"price": 1e999}}', ["'price'", "finite"]),
        (b'{"context": {"price": "nan"}}', ["'price'", "'nan'"]),
        (b'{"context": {"price": "1e999"}}', ["'price'"]),
        (b'{"context": {}, "candidates": [{}, {"amount": "x"}]}', ["'amount'", "candidates[1]"]),
        (b'{"context": {"x": [[1]]}}', ["'x'", "a list"]),
        (b'{"context": {"x": "\xff"}}', ["UTF-8"]),
        (b'{"context": {"x": "\\ud800"}}', ["JSON"]),
        (b'{"context": {"x": "a\x00"}}', ["JSON"]),
        (b'{"context": {"x": 01}}', ["JSON"]),
        (b'{"context": {"x": 1.}}', ["JSON"]),
        (b'{"context": {"x": 1}} trailing', ["JSON"]),
        (b'{"context": ' + b'{"a":' * 50 + b"1" + b"}" * 51, ["deep"]),
        (b"[" * 90_000, ["deep"]),
        (
            b'{"context": {"amount": 1e308, "user": ["a"]}, "candidates": [{"amount": "1e308"}]}',
            ["too large"],
        ),
    ],
)
def test_refusals_name_what_is_wrong(scorer: Scorer, body: bytes, names: list[str]) -> None:
    if b"1e308" in body:
        scorer = Scorer(_steep(scorer.snapshot))
    with pytest.raises(DataError) as caught:
        scorer.score(body)
    for name in names:
        assert name in str(caught.value)


def _steep(snapshot: Snapshot) -> Snapshot:
    """The same with weights so large that a product overflows."""
    return Snapshot(snapshot.slots, snapshot.weights * 1e6, 0.0, BITS, SCHEMA)


def test_limits(scorer: Scorer) -> None:
    assert len(score(scorer, {}, [{}] * 50)) == 50
    with pytest.raises(TooLargeError, match="51 candidates are more than the 50"):
        score(scorer, {}, [{}] * 51)
    with pytest.raises(TooLargeError, match="100001 bytes"):
        scorer.score(b'{"context": {}}'.ljust(100_001))
    assert len(scorer.score(b'{"context": {}}'.ljust(100_000)).scores) == 1


@compiled
def test_crosses_cannot_multiply_without_end() -> None:
    scorer = Scorer(snapshot_of(SCHEMA))
    many = [f"t{i}" for i in range(250)]
    context = {"user": many, "item": many[:200]}
    assert len(score(scorer, context, [{"place": "p"}] * 4)) == 4
    with pytest.raises(DataError, match="65536"):
        score(scorer, {"user": many * 2, "item": many})
    with pytest.raises(TooLargeError, match=str(MAX_REQUEST_FEATURES)):
        score(scorer, context, [{"user": many}] * 200)


@compiled
def test_many_values_and_colliding_names_take_bounded_work() -> None:
    scorer = Scorer(snapshot_of(Schema()), max_fields=30_000)
    context = {f"f{i}": i for i in range(30_000)}
    (alone,) = score(scorer, context)
    assert score(scorer, context, [{}, {"f1": 1}, {"f29999": 29_999}]) == pytest.approx([alone] * 3, rel=1e-9)
    with pytest.raises(TooLargeError):
        score(scorer, context, [{"f1": 2}] * 10_000)


def test_the_next_request_is_not_touched_by_the_last(scorer: Scorer) -> None:
    body = b'{"context":{"user":"u","tags":"a|b"},"candidates":[{"item":"i"},{"tags":"c"}]}'
    want = scorer.score(body)
    for other in (
        b'{"context":{"user":"v","tags":"z|y|x|w","other":["1","2"]},"candidates":[{"user":"u"}]}',
        b"{",
    ):
        try:
            scorer.score(other)
        except DataError:
            assert other == b"{"
        assert scorer.score(body) == want
