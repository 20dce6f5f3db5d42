"""What the kernels of a scoring request read and write: its values, their scratch, the weights."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ftrl_engine.jit import inlined
from ftrl_engine.kept import Kept
from ftrl_engine.plan import TOKEN, TOKENS, Plan, make_plan
from ftrl_engine.schema import MAX_CROSS_FIELDS, Schema
from ftrl_engine.sink import MAX_ROW_FEATURES, make_sink
from serving.score_counts import FIRST_RESULT

# Forms beside those of ftrl_engine.values: a value that is not there, which in a candidate hides
# the context's, and a decimal as the client wrote it, which is no token.
MISSING, RAW_DECIMAL = -1, -2

# No row, value, entry or cell; and the number of the row before the first one.
NONE, CONTEXT = -1, -1
# Cells of Work.state. What the caller reads: the value (or -1) and the row (or -1, the context) at
# fault. The others: the fields that changed no score, the schema's fields without a value, features
# computed for the request, the keys looked up, the context's entries, linked cells; of the row at hand
# its features, the schema's fields that have one, whether it hides a field of the context; the schema's
# fields; the context's linked cells, features and fields.
VALUE, ROW, UNKNOWN_FIELDS, MISSING_FIELDS = range(4)
FEATURES, KEYS, ENTRIES, LINKED = range(4, 8)
ROW_FEATURES, PRESENT, HIDES = range(8, 11)
NAMED, CONTEXT_LINKED, CONTEXT_FEATURES, CONTEXT_PRESENT = range(11, 15)
# Columns of Work.entries and of Work.fields.
FIELD, COUNT, HIDDEN_IN = range(3)
CONTEXT_HEAD, ROW_HEAD, GIVEN_IN, PRESENT_IN = range(4)
FIELD_CELLS = 4
# What Work.notes has of a key.
KEY_FIELD, KEY_WAY, KEY_ENTRY, KEY_PLAIN = range(4)
NOTES = 4
# What Likeness has of a key, and of how many.
LIKE_START, LIKE_END, LIKE_MASK, LIKE_SALT = range(4)
LIKE_PLACE, LIKE_LENGTH, LIKE_FIELD, LIKE_WAY = range(4)
LIKE_WORDS, LIKE_FACTS = 4, 4
MAX_LIKE = 256


class Values(NamedTuple):
    """A request's n values and r rows, flat.

    keys    int64[n], the number of each value's key; new numbers follow each other, and a key may have
            several, but only one in a row
    salts   uint64, by number, of the keys, which are the fields' names
    forms   int64[n], MISSING, RAW_DECIMAL or as in ftrl_engine.values
    starts, ends  int64[n]; the text of value i is ``data[starts[i]:ends[i]]``
    bounds  int64[r + 1]; the context has the values below ``bounds[0]``, row i those of
            ``bounds[i]:bounds[i + 1]``
    data    uint8, at least eight readable bytes after the last text
    """

    keys: NDArray[np.int64]
    salts: NDArray[np.uint64]
    forms: NDArray[np.int64]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    bounds: NDArray[np.int64]
    data: NDArray[np.uint8]


class Scan(NamedTuple):
    """Scratch of the scan.

    starts, ends  int64; the text of the k-th key of the request is ``data[starts[k]:ends[k]]``
    numbers  int64, the number that it has in Values
    stamps   int64, which keys the object at hand has had; cell 0 counts objects
    """

    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    numbers: NDArray[np.int64]
    stamps: NDArray[np.int64]


class Likeness(NamedTuple):
    """What a candidate is expected to look like: see :mod:`serving.request_like`.

    words    uint64, LIKE_WORDS for each key: the first and the last eight bytes up to the value, which of
             them belong to it, the key's salt
    facts    int64, LIKE_FACTS for each key: where that text begins, its length, the key's field and way
    known    int64[1], how many keys there are
    """

    words: NDArray[np.uint64]
    facts: NDArray[np.int64]
    known: NDArray[np.int64]


class Work(NamedTuple):
    """Scratch for K keys and N values, E of them in the context (T cells, F fields of the schema, C crosses).

    notes    int64[NOTES * K]  of each key its field, the field's way (see ftrl_engine.counted_values), the
             context's entry of that field (or NONE), and whether it has none and no cross joins it
    ends     int64[N]  the cells of a row up to and with those of each value
    table    int64[T]  hash table from a name's salt to the context's entry of that field
    entry_salt uint64[E], entry_margin float64[E], entries int64[E, 3]: its number in the plan,
             features, and the row that hides it
    hashes, amounts, following  [2 * MAX_ROW_FEATURES]  cells that crosses may join; those of one
             field are linked
    fields   int64[F, 4]  a field's first such cell in the context and in the row, the row that
             gives it, the row that has a feature of it
    cross_margin float64[C], cross_count int64[C]: of the crosses in the context alone
    path, path_hashes, path_values: the combination at hand
    shared   float64[1], the margin of the context without its crosses
    state    int64[16]: where the work stands
    """

    notes: NDArray[np.int64]
    ends: NDArray[np.int64]
    table: NDArray[np.int64]
    entry_salt: NDArray[np.uint64]
    entry_margin: NDArray[np.float64]
    entries: NDArray[np.int64]
    hashes: NDArray[np.uint64]
    amounts: NDArray[np.float64]
    following: NDArray[np.int64]
    fields: NDArray[np.int64]
    cross_margin: NDArray[np.float64]
    cross_count: NDArray[np.int64]
    path: NDArray[np.int64]
    path_hashes: NDArray[np.uint64]
    path_values: NDArray[np.float64]
    shared: NDArray[np.float64]
    state: NDArray[np.int64]


class Answer(NamedTuple):
    """What is read after the call.

    results  float64[2 + r]: the fields that changed no score, the schema's fields without a value,
             both over all rows, and the probability of each row
    """

    results: NDArray[np.float64]


class Weights(NamedTuple):
    """The cells of the snapshot's table (see :mod:`ftrl_engine.weight_table`), and its intercept."""

    cells: NDArray[np.uint32]
    intercept: float


def make_scan(keys: int, stamps: int) -> Scan:
    """Scratch for the scan of so many keys; ``stamps`` of an object are told apart at once."""
    starts, ends, numbers = (np.empty(keys, dtype=np.int64) for _ in range(3))
    return Scan(starts, ends, numbers, np.zeros(1 + stamps, dtype=np.int64))


def make_likeness() -> Likeness:
    """No likeness yet."""
    words, facts = (
        np.empty(LIKE_WORDS * MAX_LIKE, dtype=np.uint64),
        np.empty(LIKE_FACTS * MAX_LIKE, dtype=np.int64),
    )
    return Likeness(words, facts, np.zeros(1, dtype=np.int64))


def make_work(plan: Plan, entries: int, values: int) -> Work:
    """Scratch for ``values`` values of as many keys, at most ``entries`` of them in the context.

    The system gives memory when it is touched.
    """
    fields, crosses = len(plan.salts), len(plan.cross_salts)
    return Work(
        notes=np.empty(NOTES * values, dtype=np.int64),
        ends=np.empty(values, dtype=np.int64),
        table=np.empty(table_size(entries), dtype=np.int64),
        entry_salt=np.empty(entries, dtype=np.uint64),
        entry_margin=np.empty(entries),
        entries=np.empty((entries, 3), dtype=np.int64),
        hashes=np.empty(2 * MAX_ROW_FEATURES, dtype=np.uint64),
        amounts=np.empty(2 * MAX_ROW_FEATURES),
        following=np.empty(2 * MAX_ROW_FEATURES, dtype=np.int64),
        fields=np.empty((fields, FIELD_CELLS), dtype=np.int64),
        cross_margin=np.empty(crosses),
        cross_count=np.empty(crosses, dtype=np.int64),
        path=np.empty(MAX_CROSS_FIELDS, dtype=np.int64),
        path_hashes=np.empty(MAX_CROSS_FIELDS + 1, dtype=np.uint64),
        path_values=np.empty(MAX_CROSS_FIELDS + 1),
        shared=np.zeros(1),
        state=np.zeros(16, dtype=np.int64),
    )


def make_answer(rows: int) -> Answer:
    """Room for the answer to ``rows`` rows."""
    return Answer(np.empty(FIRST_RESULT + rows))


def _examples() -> tuple[tuple[Any, ...], ...]:
    plan, none = make_plan(Schema(), 1), np.empty(0, dtype=np.int64)
    values = Values(none, none.astype(np.uint64), none, none, none, none, none.astype(np.uint8))
    weights = Weights(none.astype(np.uint32), 0.0)
    scan, like, work = make_scan(0, 0), make_likeness(), make_work(plan, 0, 0)
    return plan, make_sink(0, 0), values, scan, like, work, weights, make_answer(0)


# What a request's kernels are called with: plan, sink, values, scan, likeness, work, weights and answer.
KEPT = Kept(_examples)
recall = KEPT.recall


@inlined
def is_token_kind(kind: int) -> bool:
    """Whether a decimal as the client wrote it has no meaning: its token is that of its shortest form."""
    return kind == TOKEN or kind == TOKENS


def table_size(entries: int) -> int:
    """A power of two, at least twice the entries."""
    size = 16
    while size < 2 * entries:
        size *= 2
    return size
