"""python -m tests.guarded_scorer: requests scored where each array ends at memory that may not be touched.

Kernels look at no bounds, so a read or a write beyond an array would pass unnoticed; here it ends the
process. Exits with 0 where every request has the outcome that the careful way gives it.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import random
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ftrl_engine.errors import DataError
from ftrl_engine.schema import Schema
from ftrl_engine.snapshot import Snapshot
from serving.request_arrays import KEPT
from serving.request_json import ROOM
from serving.scorer import Scored, Scorer

BITS, MANY = 10, 1500
KEYS = ["user", "item", "tags", "price", "click", "k", "eight888", "é"]
VALUES = ["v", "a|b", "15", "1.5", "", 7, None, True, ["a", 1], [], "text of more than thirty-two bytes", "é"]
GUARD = 1 << 24  # bytes, more than any array of a small scorer is missed by
SCHEMA = Schema.from_toml("""
label = "click"
crosses = [["user", "item"]]
[fields]
user = { kind = "token" }
item = { kind = "token", missing = "feature" }
tags = { kind = "tokens", separator = "|" }
price = { kind = "number" }
""")
_C = ctypes.CDLL(None, use_errno=True)


def guarded(array: NDArray[Any]) -> NDArray[Any]:
    """A copy that ends where a page begins that may not be touched."""
    size = -(-max(array.nbytes, 1) // mmap.PAGESIZE) * mmap.PAGESIZE
    memory = mmap.mmap(-1, size + GUARD)  # which the copy keeps alive
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    if _C.mprotect(ctypes.c_void_p(start + size), ctypes.c_size_t(GUARD), 0) != 0:
        raise OSError(ctypes.get_errno(), "mprotect")
    end = np.frombuffer(memory, dtype=np.uint8, count=size)[size - array.nbytes :]
    copy = end.view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


class Bytes:
    """What a scorer writes a request into, at such a place."""

    def __init__(self, data: NDArray[np.uint8]) -> None:
        self.data = data

    def __setitem__(self, part: slice, body: bytes) -> None:
        self.data[part] = np.frombuffer(body, dtype=np.uint8)


def guarded_scorer(schema: Schema, **limits: int) -> Scorer:
    """A scorer all of whose arrays are guarded but those of the plan and of the sink."""
    draw = np.random.default_rng(1)
    slots = np.arange(0, 1 << BITS, 2, dtype=np.uint32)
    weights = draw.normal(0, 0.2, len(slots)).astype(np.float32)
    scorer: Any = Scorer(Snapshot(slots, weights, -0.5, BITS, schema, {}), **limits)
    for name in ("values", "scan", "like", "work", "answer"):
        before = getattr(scorer, f"_{name}")
        setattr(scorer, f"_{name}", type(before)(*map(guarded, before)))
    scorer._weights = scorer._weights._replace(cells=guarded(scorer._weights.cells))
    scorer._data = Bytes(scorer._values.data)
    scorer._results = scorer._answer.results
    scorer._words = KEPT.words(
        *scorer._fixed,
        scorer._values,
        scorer._scan,
        scorer._like,
        scorer._work,
        scorer._weights,
        scorer._answer,
    )
    made: Scorer = scorer
    return made


def outcome(score: Any, body: bytes) -> Scored | str:
    try:
        found: Scored = score(body)
    except DataError as error:
        return str(error)
    return found


def check(scorer: Scorer, body: bytes) -> None:
    got, want = outcome(scorer.score, body), outcome(scorer.score_carefully, body)
    if isinstance(got, str) or isinstance(want, str):
        assert got == want, (body[:500], got, want)
        return
    assert (got.unknown, got.missing) == (want.unknown, want.missing), body[:500]
    np.testing.assert_allclose(got.scores, want.scores, rtol=1e-12, err_msg=str(body[:500]))


def candidates(draw: random.Random) -> Iterator[dict[str, Any]]:
    """Some that are like the one before, with and without a difference."""
    keys = [*KEYS, "long" * draw.randrange(30), "x" * 600]
    draw.shuffle(keys)
    del keys[draw.randrange(2, 11) :]
    for _ in range(draw.randrange(12)):
        event: dict[str, Any] = {key: f"{draw.choice('abc')}{draw.randrange(50_000)}" for key in keys}
        event |= {"price": draw.randrange(99)} if "price" in event else {}
        for _ in range(draw.choice((0, 0, 1, 2))):
            event[draw.choice(keys)] = draw.choice(VALUES)
        if draw.random() < 0.2:
            event.pop(draw.choice(keys))
        yield event


def bodies(seed: int, count: int) -> Iterator[bytes]:
    """Requests as programs write them; some are cut short or have bytes of others."""
    draw = random.Random(seed)
    for _ in range(count):
        context = next(candidates(draw), {})
        separators = draw.choice(((",", ":"), (", ", ": "), (" ,\n", " : ")))
        request = {"context": context, "candidates": list(candidates(draw))}
        body = bytearray(
            json.dumps(request, separators=separators, ensure_ascii=draw.random() < 0.1).encode()
        )
        for _ in range(draw.choice((0, 0, 0, 0, 0, 0, 1, 2))):
            body[draw.randrange(len(body))] = draw.choice(b'"\\{}[]:, \n\x00\x1f0aZ\xff')
        yield bytes(body[: draw.randrange(len(body)) if draw.random() < 0.1 else len(body)])


def main() -> int:
    """Returns the exit status."""
    for schema in (Schema(), SCHEMA):
        for body in bodies(seed=len(schema.fields), count=MANY):
            # It ends where the room for it does.
            check(_of_size(schema, len(body)), body)
    # A key of nearly all the bytes there are, and one that is compared with it.
    for most in (1000, 1 << 20):
        check(
            guarded_scorer(Schema(), max_body=most),
            b'{"candidates":[{"%b":1},{"a":1}]}' % (b"k" * (most - 60)),
        )
    # More keys than there is room for, in candidates that are read one by one.
    row = "{" + ",".join(f'"k{i}":"v"' for i in range(40)) + ',"t":["a"]}'
    many = f'{{"candidates":[{",".join([row] * 9000)}]}}'.encode()
    check(guarded_scorer(Schema(), max_body=8 << 20, max_candidates=10_000), many)
    return 0


_SCORERS: dict[int, Scorer] = {}


def _of_size(schema: Schema, size: int) -> Scorer:
    """The scorer of a schema, whose bytes now end ROOM bytes after so many."""
    scorer: Any = _SCORERS.get(len(schema.fields)) or guarded_scorer(schema, max_body=1 << 15)
    _SCORERS[len(schema.fields)] = scorer
    whole = scorer._values.data
    keep = size + len(whole) - (1 << 15)
    assert keep > size + ROOM - 1
    data = whole[len(whole) - keep :]
    scorer._data = Bytes(data)
    values = scorer._values._replace(data=data)
    scorer._words = KEPT.words(
        *scorer._fixed, values, scorer._scan, scorer._like, scorer._work, scorer._weights, scorer._answer
    )
    made: Scorer = scorer
    return made


if __name__ == "__main__":
    sys.exit(main())
