"""Keys of a request: found again from one object to the next, whatever their order and length."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftrl_engine.errors import DataError
from ftrl_engine.schema import Schema
from ftrl_engine.snapshot import Snapshot
from serving.request_answer import SLOW_REQUEST, answer_request
from serving.scorer import Scored, Scorer

BITS = 10
OPEN = Schema.from_toml("""
crosses = [["user", "item"]]
[fields]
user = { kind = "token" }
item = { kind = "token", missing = "feature" }
""")
NAMED = Schema.from_toml("""
label = "k"
timestamp = "kk"
others = "ignore"
[fields]
user = { kind = "token", missing = "feature" }
item = { kind = "tokens", separator = "t" }
items = { kind = "number", missing = "feature", transform = "log1p" }
price = { kind = "number", transform = "log_bucket" }
candidate_price_1 = { bins = [1, 2.5, 10] }
eight888 = { kind = "token" }
""")
SCHEMAS = [OPEN, NAMED, Schema()]
# Of all lengths about a word, and such that one begins another or differs late.
KEYS = [
    "", "k", "k1", "kk", "item", "items", "price", "user", "seven77", "eight888", "eight889", "nine99999",
    "nine99998", "candidate_price_0", "candidate_price_1", "candidate_price", "x" * 70, "x" * 69 + "y", "é",
]  # fmt: skip
keys = st.sampled_from(KEYS)
values = st.sampled_from(
    ["a", "bb", "sixteen_letters_", "12", "-1.5", "", 7, -2, 2.5, None, True, ["a", "b"], []]
)
plain = st.sampled_from(["a", "bb", "sixteen_letters_", "a text of more than thirty-two bytes", "7", 7])
numbers = st.sampled_from(["3", 7, -2, 2.5, "1e3"])
# An object is a list of pairs, because JSON has keys that occur twice.
objects = st.lists(st.tuples(keys, values), max_size=8)
whole = st.permutations(KEYS).flatmap(
    lambda order: st.tuples(*(st.tuples(st.just(k), values) for k in order))
)


def scorer_of(schema: Schema) -> Scorer:
    random = np.random.default_rng(1)
    slots = np.arange(0, 1 << BITS, 2, dtype=np.uint32)  # every other feature has no weight
    weights = random.normal(0, 0.2, len(slots)).astype(np.float32)
    return Scorer(Snapshot(slots, weights, -0.5, BITS, schema, {}))


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return scorer_of(OPEN)


def written(pairs: Any, space: str = "") -> str:
    return "{" + ("," + space).join(
        f"{json.dumps(key, ensure_ascii=False)}:{space}{json.dumps(value)}" for key, value in pairs
    ) + "}"  # fmt: skip


def request(context: Any, candidates: list[Any], space: str = "") -> bytes:
    rows = ",".join(written(candidate, space) for candidate in candidates)
    return f'{{"context":{written(context)},"candidates":[{rows}]}}'.encode()


def is_fast(scorer: Scorer, body: bytes) -> bool:
    scorer._data[: len(body)] = body
    return answer_request(scorer._words, len(body), 1000) != SLOW_REQUEST


def outcome(score: Callable[[bytes], Scored], body: bytes) -> Scored | str:
    try:
        return score(body)
    except DataError as error:
        return str(error)


def check(scorer: Scorer, context: Any, candidates: list[Any], space: str = "") -> None:
    body = request(context, candidates, space)
    got, want = outcome(scorer.score, body), outcome(scorer.score_carefully, body)
    if isinstance(want, str) or isinstance(got, str):
        assert got == want
        return
    assert got.scores == pytest.approx(want.scores, rel=1e-12)
    assert (got.unknown, got.missing) == (want.unknown, want.missing)
    pairs = [context, *candidates]
    twice = any(len({key for key, _ in each}) < len(each) for each in pairs)
    decimal = any(type(value) is float for each in pairs for _, value in each)
    assert is_fast(scorer, body) is not twice or decimal, "decimals are no tokens as they are written"


@given(objects, st.lists(objects, max_size=5), st.sampled_from(["", " "]), st.sampled_from(SCHEMAS))
def test_any_keys_in_any_order(context: Any, candidates: list[Any], space: str, schema: Schema) -> None:
    check(scorer_of(schema), context, candidates, space)


@given(
    whole,
    st.lists(st.tuples(st.integers(0, 2**19 - 1), st.integers(0, 18)), max_size=6),
    st.booleans(),
    st.sampled_from(SCHEMAS),
)
def test_objects_like_the_one_before(
    base: Any, changes: list[tuple[int, int]], more: bool, schema: Schema
) -> None:
    candidates = []
    for left_out, doubled in changes:
        pairs = [pair for i, pair in enumerate(base) if not left_out >> i & 1]
        candidates += [base, pairs, [*pairs, base[doubled]] if more else pairs[::-1]]
    check(scorer_of(schema), base[:3], candidates)


def rows_of(names: list[str]) -> st.SearchStrategy[Any]:
    """A candidate of these keys and, now and then, less or others."""
    kinds = {"items": numbers, "price": numbers, "candidate_price_1": numbers}
    alike = st.tuples(*(st.tuples(st.just(name), kinds.get(name, plain)) for name in names))
    return st.one_of(
        alike, alike, alike, alike.map(lambda row: row[1:]), alike.map(lambda row: row[:-2]), objects
    )


@given(
    objects, st.lists(rows_of([key for key in KEYS if key != "item"]), max_size=8),
    st.sampled_from(["", " ", "  "]), st.sampled_from(SCHEMAS),
)  # fmt: skip
def test_candidates_of_the_same_keys(context: Any, candidates: Any, space: str, schema: Schema) -> None:
    check(scorer_of(schema), context, candidates, space)


def scanned(scorer: Scorer, body: bytes) -> int:
    """How many keys were read one by one."""
    scorer._scan.starts[:] = -1
    assert is_fast(scorer, body)
    return int((scorer._scan.starts >= 0).sum())


@pytest.mark.parametrize("space", ["", " "])
def test_what_looks_like_the_one_before_is_not_read_one_by_one(space: str) -> None:
    names = [key for key in KEYS if key not in ("user", "item")]
    rows: list[Any] = [[(name, f"v{len(name)}-{i}") for name in names] for i in range(20)]
    rows[3] = rows[3][:4] + rows[3][5:]  # one may be lacking
    rows[4] = rows[4][:-3]
    numbers = [[*row[:-1], (row[-1][0], i)] for i, row in enumerate(rows)]
    for candidates in (rows, numbers):
        body = request([("user", "u")], candidates, space)
        assert scanned(scorer_of(Schema()), body) == 1 + len(names)
    # What is crossed, what the context has too, lists and other space are read one by one.
    for context, row, expected in (
        ([("user", "u")], [("item", "i"), ("k", "v")], 1 + 3 * 2),
        ([("k", "u")], [("k1", "i"), ("k", "v")], 1 + 3 * 2),
        ([("k", "u")], [("k1", ["i"])], 1 + 3),
        ([], [("k1", "i"), ("k", "v")], 2),
    ):
        assert scanned(scorer_of(OPEN), request(context, [row] * 3, space)) == expected
    assert scanned(scorer_of(OPEN), request([], [[("k1", "i"), ("k", "v")]] * 3, "  ")) == 3 * 2


def test_a_key_that_occurs_twice_is_seen_wherever_it_stands(scorer: Scorer) -> None:
    row = [(key, "v") for key in KEYS]
    for first in range(len(row)):
        for second in range(first + 1, len(row) + 1):
            body = request([], [row, [*row[:second], row[first], *row[second:]], row])
            assert not is_fast(scorer, body)
    assert is_fast(scorer, request([], [row, row[::-1], row]))


def test_what_is_remembered_is_of_this_request_only(scorer: Scorer) -> None:
    first, second = request([], [[("user", "u")]] * 2), request([("item", "i")], [[("used", "u")]] * 2)
    want: dict[bytes, Scored] = {body: scorer_of(OPEN).score(body) for body in (first, second)}
    for body in (first, second, first, second):
        assert scorer.score(body) == want[body]
