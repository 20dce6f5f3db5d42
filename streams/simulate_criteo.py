"""Rows in the form of the Criteo display advertising log, with a signal that can be learned.

A row is a label, 13 counts and 26 categories of 8 hexadecimal digits. Counts and categories
are missing about as often as in the real log, categories follow a Zipf law over about as many
values. The true weight of a category value is a function of (column, value): no table is kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from streams.draws import Floats, Ints, check_range, sigmoid, solve_intercept, zipf
from streams.text_columns import Bytes, Column, join_rows, numerals, word_table

COUNTS, CATEGORIES = 13, 26
CTR = 0.2
BLOCK_ROWS = 16_384

# Per column: the share of missing values, and the location and scale of ln(1 + count).
_MISSING_COUNTS = np.array([0.45, 0.0, 0.21, 0.22, 0.03, 0.22, 0.04, 0.0, 0.04, 0.45, 0.04, 0.76, 0.22])
_LOCATION = np.array([0.9, 2.2, 1.8, 1.7, 7.0, 3.4, 1.6, 1.9, 3.7, 0.4, 0.9, 0.4, 1.7])
_SCALE = np.array([0.9, 1.8, 1.2, 0.9, 2.2, 1.6, 1.3, 1.1, 1.5, 0.5, 0.8, 0.6, 1.0])
_MISSING_CATEGORIES = np.array(
    [0, 0, 0.03, 0.03, 0, 0.12, 0, 0, 0, 0, 0, 0.03, 0,
     0, 0, 0.03, 0, 0, 0.44, 0.44, 0.03, 0.76, 0, 0.03, 0.44, 0.44]
)  # fmt: skip
_VALUES = np.array(
    [1460, 583, 1_000_000, 1_000_000, 305, 24, 12_517, 633, 3, 93_145, 5683, 1_000_000, 3194, 27, 14_992,
     1_000_000, 10, 5652, 2173, 4, 1_000_000, 18, 15, 286_181, 105, 142_572]
)  # fmt: skip
_EXPONENT, _OFFSET = 1.15, 1.0
_SHARE, _WEIGHT = 0.3, 0.45  # how many category values matter, and the deviation of their weights

_MAX_COUNT = 999_999
MAX_BLOCK_ROWS = 1_000_000
_SAMPLE_ROWS = 20_000
_TRUTH, _ROWS = 2, 3  # the kinds of random numbers of one seed
# The four digits of every 16-bit number, as one 32-bit word each.
_HEX = np.frombuffer(b"".join(b"%04x" % number for number in range(1 << 16)), np.uint32)
Words = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class CriteoRows:
    """Rows as arrays.

    label, probability  int64[rows], float64[rows]: the drawn click and its true probability
    counts              int64[rows, 13], and which of them are there: bool[rows, 13]
    categories          uint32[rows, 26], and which of them are there: bool[rows, 26]
    """

    label: Ints
    probability: Floats
    counts: Ints
    has_count: NDArray[np.bool_]
    categories: NDArray[np.uint32]
    has_category: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.label)

    def part(self, start: int, stop: int) -> CriteoRows:
        """The rows ``start`` to ``stop`` of these."""
        return CriteoRows(**{field.name: getattr(self, field.name)[start:stop] for field in fields(self)})


class CriteoStream:
    """Rows in the Criteo form; every block can be made again from (seed, index, rows)."""

    def __init__(self, seed: int = 0, ctr: float = CTR) -> None:
        check_range("seed", seed, 0, 2**63 - 1)
        check_range("ctr", ctr, 1e-6, 1.0 - 1e-6)
        self.seed = seed
        random = np.random.default_rng([seed, _TRUTH])
        self._slopes = random.normal(0.0, 0.3, COUNTS)
        self._missing = random.normal(0.0, 0.2, COUNTS)
        self._salts = random.integers(0, 2**64, CATEGORIES, dtype=np.uint64)
        self.intercept = 0.0
        self.intercept = solve_intercept(self._draw(random, _SAMPLE_ROWS)[0], ctr)

    def block(self, index: int, rows: int) -> CriteoRows:
        """Block ``index`` of the stream of blocks of ``rows`` rows."""
        check_range("index", index, 0, 2**40)
        check_range("rows", rows, 0, MAX_BLOCK_ROWS)
        random = np.random.default_rng([self.seed, _ROWS, index])
        logits, counts, has_count, categories, has_category = self._draw(random, rows)
        probability = sigmoid(logits)
        label = (random.random(rows) < probability).astype(np.int64)
        return CriteoRows(label, probability, counts, has_count, categories, has_category)

    def _draw(
        self, random: np.random.Generator, rows: int
    ) -> tuple[Floats, Ints, NDArray[np.bool_], NDArray[np.uint32], NDArray[np.bool_]]:
        """(logits, counts, which are there, categories, which are there)."""
        spread = random.standard_normal((rows, COUNTS))
        has_count = random.random((rows, COUNTS)) >= _MISSING_COUNTS
        counts = np.minimum(np.exp(_LOCATION + _SCALE * spread) - 1.0, _MAX_COUNT).astype(np.int64)
        # As in the real log, the second count is sometimes -1.
        counts[:, 1] -= random.random(rows) < 0.1
        effects = np.where(has_count, spread * self._slopes, self._missing)

        has_category = random.random((rows, CATEGORIES)) >= _MISSING_CATEGORIES
        ranks = zipf(random.random((rows, CATEGORIES)), _VALUES, _EXPONENT, _OFFSET)
        words = _mix(ranks.astype(np.uint64) + self._salts)
        logits = self.intercept + effects.sum(axis=1) + (_weights(words) * has_category).sum(axis=1)
        return logits, counts, has_count, words.astype(np.uint32), has_category


def _mix(words: Words) -> Words:
    """The finalizer of splitmix64: neighbours become independent 64-bit words."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def _weights(words: Words) -> Floats:
    """The true weight of a category from bits 32 to 63 of its word: mostly 0, the rest bell-shaped."""
    matters = ((words >> np.uint64(32)) & np.uint64(255)) < np.uint64(round(_SHARE * 256))
    total = np.zeros(words.shape, np.int64)
    for shift in (40, 48, 56):
        total += ((words >> np.uint64(shift)) & np.uint64(255)).astype(np.int64)
    # Three bytes: mean 382.5, deviation 256 sqrt(3/12) = 128.
    weights: Floats = np.where(matters, (total - 382.5) * (_WEIGHT / 128.0), 0.0)
    return weights


def to_criteo(rows: CriteoRows) -> bytes:
    """label, 13 counts, 26 categories, tab separated; missing values are empty."""
    counts = numerals(rows.counts.ravel()).reshape(len(rows), COUNTS, -1)
    columns: list[Column] = [
        numerals(rows.label, 1),
        _cells([b"\t"] * COUNTS, counts, rows.has_count),
        _cells([b"\t"] * CATEGORIES, _hexadecimal(rows.categories), rows.has_category),
        b"\n",
    ]
    return join_rows(columns, len(rows))


def to_criteo_vw(rows: CriteoRows) -> bytes:
    """The same rows as Vowpal Wabbit text with the features of the ``criteo`` schema.

    ``1 |i I1=5 ... |c C1=68fd1e64 ...``: every feature is a token of value 1, a count stands for
    its log bucket (see :func:`log_buckets`), and missing values are left out.
    """
    buckets = numerals(log_buckets(rows.counts).ravel()).reshape(len(rows), COUNTS, -1)
    columns: list[Column] = [
        word_table([b"-1", b"1"])[rows.label],
        b" |i",
        _cells([b" I%d=" % (at + 1) for at in range(COUNTS)], buckets, rows.has_count, all_or_none=True),
        b" |c",
        _cells(
            [b" C%d=" % (at + 1) for at in range(CATEGORIES)],
            _hexadecimal(rows.categories),
            rows.has_category,
            all_or_none=True,
        ),
        b"\n",
    ]
    return join_rows(columns, len(rows))


def log_buckets(counts: Ints) -> Ints:
    """The log buckets of whole numbers: x itself up to 2, then 3 + floor(ln(x)^2)."""
    buckets: Ints = np.where(
        counts <= 2, counts, 3 + np.floor(np.log(np.maximum(counts, 1)) ** 2).astype(np.int64)
    )
    return buckets


def _cells(names: list[bytes], values: Bytes, there: NDArray[np.bool_], all_or_none: bool = False) -> Bytes:
    """One column of all cells: before each value its name, without values that are not there.

    values       uint8[rows, cells, width]
    there        bool[rows, cells]
    all_or_none  leave the name out together with the value
    """
    rows, cells, width = values.shape
    table = word_table(names)[:cells]
    before = table.shape[1]
    out = np.empty((rows, cells, before + width), np.uint8)
    out[:, :, :before] = table
    out[:, :, before:] = values
    out[:, :, 0 if all_or_none else before :][~there] = 0
    return out.reshape(rows, -1)


def _hexadecimal(values: NDArray[np.uint32]) -> Bytes:
    """uint8[rows, cells, 8]: eight hexadecimal digits each."""
    halves = values.astype(">u4").view(">u2")
    digits: Bytes = _HEX[halves].view(np.uint8).reshape(*values.shape, 8)
    return digits


def criteo_rows(seed: int, rows: int) -> bytes:
    """``rows`` rows in the Criteo form (about 230 bytes each)."""
    return b"".join(map(to_criteo, _blocks(seed, rows)))


def criteo_rows_vw(seed: int, rows: int) -> bytes:
    """The rows of :func:`criteo_rows` as Vowpal Wabbit text (see :func:`to_criteo_vw`)."""
    return b"".join(map(to_criteo_vw, _blocks(seed, rows)))


def _blocks(seed: int, rows: int) -> Iterator[CriteoRows]:
    stream = CriteoStream(seed)
    for first in range(0, rows, BLOCK_ROWS):
        block = stream.block(first // BLOCK_ROWS, BLOCK_ROWS)
        yield block.part(0, min(BLOCK_ROWS, rows - first))
