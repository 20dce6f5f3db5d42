"""The code by which kernels read what :mod:`ftrl_engine.kept` has written down."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types

from ftrl_engine.entry import array_at, item_size, numba_type


def recaller(examples: tuple[Any, ...]) -> Callable[..., Any]:
    """The typing function of the intrinsic that turns words into tuples like these."""
    result = types.Tuple([numba_type(example) for example in examples])

    def recall(typingctx: Any, words: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            reader = _Reader(context, builder, signature.args[0], args[0])
            made = [
                context.make_tuple(builder, each, [reader.part(part) for part in each.types])
                for each in result.types
            ]
            return context.make_tuple(builder, result, made)

        return result(words), codegen

    return recall


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
        builder = self._builder
        address = builder.inttoptr(self._word(), ir.IntType(8).as_pointer())
        shape = [self._word() for _ in range(kind.ndim)]
        step = item_size(kind)
        strides: list[Any] = []
        for length in reversed(shape):
            strides.insert(0, step)
            step = builder.mul(step, length)
        return array_at(self._context, builder, kind, address, shape, strides)
