"""The machine's own limits, measured by compiled code that does nothing else.

A learner reads and writes one random cell of 16 bytes for each feature, and reads each byte of
its input once; an interpreter has to start. Nothing here learns.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.contenders.base import Job, Measures
from bench.hashed_rows import FEATURES, HashedRows
from ftrl_engine.intrinsics import prefetch
from ftrl_engine.jit import kernel

_REPEATS = 3
# Cells asked for before they are used, as in the learners.
_AHEAD = 112
_SCAN_BYTES = 256 << 20

_NEWLINES = np.uint64(0x0A0A0A0A0A0A0A0A)
_LOW7 = np.uint64(0x7F7F7F7F7F7F7F7F)
_SHIFT = np.uint64(7)
_LANE_WORDS = 255  # a byte counts so far


def limit_cells(job: Job) -> Measures:
    """Random read-modify-write of 16-byte cells in the order in which the rows use them."""
    rows = HashedRows.load(job["hashed"], job["bits"])
    slots = rows.slots.ravel()
    state = np.empty((1 << rows.bits, 2))
    state.fill(0.0)
    change_cells(slots[:1000], state)
    change_cells_ahead(slots[:1000], state)
    plain = _fastest(lambda: change_cells(slots, state))
    ahead = _fastest(lambda: change_cells_ahead(slots, state))
    return {"ns_per_cell": min(plain, ahead) / len(slots) * 1e9}


def learn_rows(job: Job) -> Measures:
    """What learning at that speed would be: one change of a cell for each feature."""
    return {"rows_per_second": 1e9 / (limit_cells(job)["ns_per_cell"] * FEATURES)}


def limit_scan(job: Job) -> Measures:
    """Look for newlines in text that lies in memory."""
    text = Path(job["text"]).read_bytes()
    # Larger than the caches, like a file that streams by.
    words = np.frombuffer((text * (1 + _SCAN_BYTES // len(text)))[:_SCAN_BYTES], np.uint64)
    count_newlines(words[:1024])
    return {"gb_per_second": words.nbytes / _fastest(lambda: count_newlines(words)) / 1e9}


def _fastest(function: Callable[[], object]) -> float:
    """The least seconds of a few calls: a limit is not made of interruptions."""
    times = []
    for _ in range(_REPEATS):
        started = time.perf_counter()
        function()
        times.append(time.perf_counter() - started)
    return min(times)


@kernel
def change_cells(slots: NDArray[np.uint32], state: NDArray[np.float64]) -> None:
    """Add 1 to both numbers of every cell in turn."""
    for k in range(len(slots)):
        state[slots[k], 0] += 1.0
        state[slots[k], 1] += 1.0


@kernel
def change_cells_ahead(slots: NDArray[np.uint32], state: NDArray[np.float64]) -> None:
    """The same, with each cell asked for some time before its turn."""
    n = len(slots)
    for k in range(n):
        prefetch(state, np.int64(slots[min(k + _AHEAD, n - 1)]))
        state[slots[k], 0] += 1.0
        state[slots[k], 1] += 1.0


@kernel
def count_newlines(words: NDArray[np.uint64]) -> int:
    """The number of newline bytes; the inner loop counts in eight lanes of a word and vectorises."""
    total = 0
    for start in range(0, len(words), _LANE_WORDS):
        lanes = np.uint64(0)
        for k in range(start, min(start + _LANE_WORDS, len(words))):
            x = words[k] ^ _NEWLINES
            lanes += ~(((x & _LOW7) + _LOW7) | x | _LOW7) >> _SHIFT
        low = lanes & np.uint64(0x00FF00FF00FF00FF)
        high = (lanes >> np.uint64(8)) & np.uint64(0x00FF00FF00FF00FF)
        total += int(((low + high) * np.uint64(0x0001000100010001)) >> np.uint64(48))
    return total
