"""Arguments that stay: tuples of arrays which cross into compiled code as one array of words.

To take apart sixty arrays, as a request for scores needs, costs several microseconds when the caches
have seen other work meanwhile. So their addresses and shapes are written down once, and kernels read
those they use::

    KEPT = Kept(lambda: (make_plan(...), make_sink(...)))
    recall = KEPT.recall

    @kernel
    def count(words):
        plan, sink = recall(words)

    count(KEPT.words(plan, sink))
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from ftrl_engine.jit import COMPILED, made_of

Tuples = tuple[Any, ...]


class Kept:
    """Named tuples of arrays (C order) and 8-byte numbers, of the types of those that ``examples`` makes.

    recall  in a kernel: the tuples whose words it is given
    """

    def __init__(self, examples: Callable[[], Tuples]) -> None:
        def build() -> Callable[..., Any]:
            from ftrl_engine.kept_code import recaller

            return recaller(examples())

        self.recall: Callable[[Any], Any] = made_of(_itself, build)

    @staticmethod
    def words(*tuples: Tuples) -> Any:
        """Where the arrays stand, uint64[n]; good for as long as the caller keeps the arrays."""
        if not COMPILED:
            return tuples
        return np.array([word for each in tuples for part in each for word in _words_of(part)], np.uint64)


def _itself(words: Any) -> Any:
    return words


def _words_of(part: Any) -> list[int]:
    if isinstance(part, np.ndarray):
        assert part.flags.c_contiguous, "only arrays in C order can be kept"
        return [part.__array_interface__["data"][0], *part.shape]
    kind = "<d" if isinstance(part, float) else "<Q" if part >= 0 else "<q"
    return [int.from_bytes(struct.pack(kind, part), "little")]
