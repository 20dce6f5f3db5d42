"""The keys of JSON objects, remembered from one object to the next.

Programs write the same keys in the same order again and again. So the key at hand is compared
with the one that came next the last time, and only a key that is none of these is hashed and
looked up. Two keys of an object may not be equal: every known key carries the stamp of the
object it was last seen in.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ftrl_engine.counted_values import BUCKET_TEXT, way_of
from ftrl_engine.hashing import xxh64, xxh64_word
from ftrl_engine.intrinsics import at, load64, put_at
from ftrl_engine.jit import inlined, kernel
from ftrl_engine.numbers import BUCKETS_END, SMALL_BUCKETS, log_bucket
from ftrl_engine.plan import Plan, find_field
from ftrl_engine.text import skip_space, string_end

# More keys, or longer ones, are left to the careful path.
MAX_KEYS = 1024
MAX_KEY_BYTES = 64
_KEY_ROOM = 72
_CELLS = 4096
# How many keys beyond the expected one are compared: fields may be left out.
_LOOK_AHEAD = 3
_PLACES = MAX_KEYS + _LOOK_AHEAD + 1

# Places in Keys.facts of each key, and of its state.
KEY_LENGTH, KEY_FIELD, KEY_WAY, KEY_STAMP = range(4)
KEY_FACTS = 4
_COUNT, _STAMP = range(2)
_QUOTE, _COLON = 34, 58
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)


class Keys(NamedTuple):
    """Up to MAX_KEYS keys in the order in which they were first seen.

    text   uint8, _KEY_ROOM for each key: the key, its closing quote and a colon
    words, masks  uint64: the first eight bytes of that text, and which of them belong to it; all bits set
           where there is no key, which no text has
    salts  uint64, the hash of each key
    buckets  uint64, BUCKETS_END for each key of a field of numbers: the hashes of their small buckets
    facts  int64, KEY_FACTS for each: its length, field, way (see counted_values.way_of) and stamp
    cells  int64[4096] open-addressing hash table by salt: 1 + the number of a key, or 0
    state  int64[2]: how many keys there are, and the stamp of the object at hand
    """

    text: NDArray[np.uint8]
    words: NDArray[np.uint64]
    masks: NDArray[np.uint64]
    salts: NDArray[np.uint64]
    buckets: NDArray[np.uint64]
    facts: NDArray[np.int64]
    cells: NDArray[np.int64]
    state: NDArray[np.int64]


def make_keys() -> Keys:
    """No keys yet; one such memory belongs to one plan."""
    return Keys(
        text=np.zeros(MAX_KEYS * _KEY_ROOM, dtype=np.uint8),
        words=np.full(_PLACES, _ALL, dtype=np.uint64),
        masks=np.full(_PLACES, _ALL, dtype=np.uint64),
        salts=np.zeros(MAX_KEYS, dtype=np.uint64),
        buckets=np.empty(MAX_KEYS * BUCKETS_END, dtype=np.uint64),
        facts=np.zeros(_PLACES * KEY_FACTS, dtype=np.int64),
        cells=np.zeros(_CELLS, dtype=np.int64),
        state=np.zeros(2, dtype=np.int64),
    )


@kernel
def _clear(keys: Keys) -> None:
    keys.state[_COUNT] = 0
    keys.facts[:] = 0
    keys.cells[:] = 0
    keys.words[:] = _ALL
    keys.masks[:] = _ALL


@inlined
def start_object(keys: Keys) -> None:
    """Forget which keys the object before had, and every key where there is no room for another."""
    keys.state[_STAMP] += 1
    if keys.state[_COUNT] == MAX_KEYS:
        _clear(keys)


@inlined
def _is_key(keys: Keys, key: int, data: NDArray[np.uint8], lo: int) -> bool:
    """Whether this key, a quote and a colon stand at ``lo``."""
    if (load64(data, lo) ^ at(keys.words, key)) & at(keys.masks, key) != np.uint64(0):
        return False
    return at(keys.masks, key) != _ALL or _is_long_key(keys, key, data, lo)


@kernel
def _is_long_key(keys: Keys, key: int, data: NDArray[np.uint8], lo: int) -> bool:
    text = _KEY_ROOM * key
    for k in range(8, keys.facts[KEY_FACTS * key + KEY_LENGTH] + 2):
        if data[lo + k] != keys.text[text + k]:
            return False
    return True


@kernel
def _look_up(keys: Keys, plan: Plan, data: NDArray[np.uint8], lo: int, hi: int) -> int:
    """The number of the key that starts at ``lo``, which becomes known; -1 for the careful path."""
    end = string_end(data, lo, hi)
    if end == hi or end - lo > MAX_KEY_BYTES:
        return -1
    salt = xxh64(data, lo, end, np.uint64(0))
    cell = np.int64(salt & np.uint64(_CELLS - 1))
    while keys.cells[cell] != 0:
        if keys.salts[keys.cells[cell] - 1] == salt:
            return int(keys.cells[cell]) - 1
        cell = (cell + 1) & (_CELLS - 1)
    key = keys.state[_COUNT]
    if key == MAX_KEYS:
        return -1
    keys.state[_COUNT] = key + 1
    keys.cells[cell] = key + 1
    keys.salts[key] = salt
    text = _KEY_ROOM * key
    for k in range(end - lo):
        keys.text[text + k] = data[lo + k]
    keys.text[text + end - lo], keys.text[text + end - lo + 1] = _QUOTE, _COLON
    keys.words[key] = load64(keys.text, text)
    keys.masks[key] = _ALL >> np.uint64(8 * max(6 - (end - lo), 0))
    field = find_field(plan, salt)
    facts = KEY_FACTS * key
    keys.facts[facts + KEY_LENGTH] = end - lo
    keys.facts[facts + KEY_FIELD] = field
    way = way_of(plan, field)
    keys.facts[facts + KEY_WAY] = way
    if way == BUCKET_TEXT:
        for bucket in range(BUCKETS_END):
            keys.buckets[key * BUCKETS_END + bucket] = xxh64_word(np.uint64(bucket), salt)
    return int(key)


@inlined
def bucket_hash(keys: Keys, key: int, whole: int) -> np.uint64:
    """The hash of the bucket of a whole number that is not negative, in a field of numbers."""
    if whole < len(SMALL_BUCKETS):
        known: np.uint64 = at(keys.buckets, key * BUCKETS_END + at(SMALL_BUCKETS, whole))
        return known
    return xxh64_word(np.uint64(log_bucket(float(whole))), at(keys.salts, key))


@inlined
def find_key(
    keys: Keys, plan: Plan, expected: int, data: NDArray[np.uint8], lo: int, hi: int
) -> tuple[int, int]:
    """The number of the key that starts at ``lo``, and the index after its colon.

    Most likely it is ``expected`` or one soon after it. The number is -1 for the careful path: the
    object has the key already, or it is no plain text before a colon.
    """
    key, beyond = np.int64(expected), np.int64(expected + _LOOK_AHEAD)
    while key < beyond and not _is_key(keys, int(key), data, lo):
        key += 1
    i = lo + at(keys.facts, KEY_FACTS * key + KEY_LENGTH) + 2
    if key == beyond:
        key = np.int64(_look_up(keys, plan, data, lo, hi))
        if key < 0:
            return -1, hi
        i = skip_space(data, lo + at(keys.facts, KEY_FACTS * key + KEY_LENGTH) + 1, hi) + 1
        if i <= hi and at(data, i - 1) != _COLON:
            return -1, hi
    stamp = KEY_FACTS * key + KEY_STAMP
    # The bytes after a record may be those of another one.
    if i > hi or at(keys.facts, stamp) == keys.state[_STAMP]:
        return -1, hi
    put_at(keys.facts, stamp, keys.state[_STAMP])
    return int(key), int(i)
