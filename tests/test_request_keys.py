"""Keys of a request: found again from one object to the next, whatever their order and length."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftrl_engine.schema import Schema
from ftrl_engine.snapshot import Snapshot
from serving.request_json import SLOW_REQUEST, scan_request
from serving.scorer import Scored, Scorer

BITS = 10
SCHEMA = Schema.from_toml("""
crosses = [["user", "item"]]
[fields]
user = { kind = "token" }
item = { kind = "token", missing = "feature" }
""")
# Of all lengths about a word, and such that one begins another or differs late.
KEYS = [
    "", "k", "k1", "kk", "item", "items", "price", "user", "seven77", "eight888", "eight889", "nine99999",
    "nine99998", "candidate_price_0", "candidate_price_1", "candidate_price", "x" * 70, "x" * 69 + "y", "é",
]  # fmt: skip
keys = st.sampled_from(KEYS)
values = st.sampled_from(["a", "bb", "sixteen_letters_", 7, -2, 2.5, None, True, ["a", "b"], []])
# An object is a list of pairs, because JSON has keys that occur twice.
objects = st.lists(st.tuples(keys, values), max_size=8)
whole = st.permutations(KEYS).flatmap(
    lambda order: st.tuples(*(st.tuples(st.just(k), values) for k in order))
)


def snapshot() -> Snapshot:
    random = np.random.default_rng(1)
    slots = np.arange(0, 1 << BITS, 2, dtype=np.uint32)  # every other feature has no weight
    return Snapshot(slots, random.normal(0, 0.2, len(slots)).astype(np.float32), -0.5, BITS, SCHEMA, {})


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return Scorer(snapshot())


def written(pairs: Any, space: str = "") -> str:
    return "{" + ("," + space).join(
        f"{json.dumps(key, ensure_ascii=False)}:{space}{json.dumps(value)}" for key, value in pairs
    ) + "}"  # fmt: skip


def request(context: Any, candidates: list[Any], space: str = "") -> bytes:
    rows = ",".join(written(candidate, space) for candidate in candidates)
    return f'{{"context":{written(context)},"candidates":[{rows}]}}'.encode()


def is_fast(scorer: Scorer, body: bytes) -> bool:
    scorer._data[: len(body)] = body
    return scan_request(scorer._words, len(body)) != SLOW_REQUEST


def check(scorer: Scorer, context: Any, candidates: list[Any], space: str = "") -> None:
    body = request(context, candidates, space)
    got, want = scorer.score(body), scorer.score_carefully(body)
    assert got.scores == pytest.approx(want.scores, rel=1e-12)
    assert (got.unknown, got.missing) == (want.unknown, want.missing)
    twice = any(len({key for key, _ in pairs}) < len(pairs) for pairs in [context, *candidates])
    assert is_fast(scorer, body) is not twice


@given(objects, st.lists(objects, max_size=5), st.sampled_from(["", " "]))
def test_any_keys_in_any_order(context: Any, candidates: list[Any], space: str) -> None:
    check(Scorer(snapshot()), context, candidates, space)


@given(whole, st.lists(st.tuples(st.integers(0, 2**19 - 1), st.integers(0, 18)), max_size=6), st.booleans())
def test_objects_like_the_one_before(base: Any, changes: list[tuple[int, int]], more: bool) -> None:
    candidates = []
    for left_out, doubled in changes:
        pairs = [pair for i, pair in enumerate(base) if not left_out >> i & 1]
        candidates += [base, pairs, [*pairs, base[doubled]] if more else pairs[::-1]]
    check(Scorer(snapshot()), base[:3], candidates)


def test_a_key_that_occurs_twice_is_seen_wherever_it_stands(scorer: Scorer) -> None:
    row = [(key, "v") for key in KEYS]
    for first in range(len(row)):
        for second in range(first + 1, len(row) + 1):
            body = request([], [row, [*row[:second], row[first], *row[second:]], row])
            assert not is_fast(scorer, body)
    assert is_fast(scorer, request([], [row, row[::-1], row]))


def test_what_is_remembered_is_of_this_request_only(scorer: Scorer) -> None:
    first, second = request([], [[("user", "u")]] * 2), request([("item", "i")], [[("used", "u")]] * 2)
    want: dict[bytes, Scored] = {body: Scorer(snapshot()).score(body) for body in (first, second)}
    for body in (first, second, first, second):
        assert scorer.score(body) == want[body]
