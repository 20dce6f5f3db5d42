"""Arguments that stay: tuples of arrays which cross into compiled code as one array of words.

An array as an argument costs a fifth of a microsecond a call, and several times that when the caches
have seen other work meanwhile; a request for scores needs sixty. So their addresses and shapes are
written down once, and kernels read those they use::

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

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array

from ftrl_engine.jit import COMPILED

Tuples = tuple[Any, ...]


class Kept:
    """Named tuples of arrays (C order) and 8-byte numbers, of the types of those that ``examples`` makes.

    recall  in a kernel: the tuples whose words it is given
    """

    def __init__(self, examples: Callable[[], Tuples]) -> None:
        self.recall: Callable[[Any], Any] = _recaller(examples) if COMPILED else _itself

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


def _recaller(examples: Callable[[], Tuples]) -> Callable[[Any], Any]:
    def recall(typingctx: Any, words: Any) -> Any:
        result = types.Tuple([numba.typeof(example) for example in examples()])

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            reader = _Reader(context, builder, signature.args[0], args[0])
            made = [
                context.make_tuple(builder, each, [reader.part(part) for part in each.types])
                for each in result.types
            ]
            return context.make_tuple(builder, result, made)

        return result(words), codegen

    made: Callable[[Any], Any] = intrinsic(recall)
    return made


class _Reader:
    """Reads words one after the other, while code is generated."""

    def __init__(self, context: Any, builder: Any, words_type: Any, words: Any) -> None:
        self._context, self._builder = context, builder
        self._words = context.make_array(words_type)(context, builder, words).data
        self._place = 0

    def part(self, kind: Any) -> Any:
        """The next array or number."""
        if isinstance(kind, types.Array):
            return self._array(kind)
        wanted = self._context.get_value_type(kind)
        return self._builder.bitcast(self._word(), wanted)

    def _word(self) -> Any:
        place = ir.Constant(ir.IntType(64), self._place)
        self._place += 1
        return self._builder.load(self._builder.gep(self._words, [place]))

    def _array(self, kind: Any) -> Any:
        context, builder = self._context, self._builder
        item = context.get_data_type(kind.dtype)
        address = builder.inttoptr(self._word(), item.as_pointer())
        shape = [self._word() for _ in range(kind.ndim)]
        size = ir.Constant(ir.IntType(64), context.get_abi_sizeof(item))
        strides: list[Any] = []
        step = size
        for length in reversed(shape):
            strides.insert(0, step)
            step = builder.mul(step, length)
        array = context.make_array(kind)(context, builder)
        populate_array(array, data=address, shape=shape, strides=strides, itemsize=size, meminfo=None)
        return array._getvalue()
