"""The code of the functions of :mod:`ftrl_engine.intrinsics`, as numba wants it: types and a generator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from ftrl_engine.entry import array_at

_WORD = ir.IntType(64)
_ALIGNED = 8  # bytes, of a float64 among others


def _address(context: Any, builder: Any, array_type: Any, array: Any, offset: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.gep(builder.bitcast(data, ir.IntType(8).as_pointer()), [offset])


def _loader(bits: int) -> Callable[..., Any]:
    """An unaligned little-endian load of ``bits`` bits from a uint8 array."""
    result = types.uint64 if bits == 64 else types.uint32

    def load(typingctx: Any, buffer: Any, index: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            pointer = _address(context, builder, signature.args[0], args[0], args[1])
            typed = builder.bitcast(pointer, ir.IntType(bits).as_pointer())
            value = builder.load(typed)
            value.align = 1
            return value

        return result(buffer, types.intp), codegen

    return load


load64 = _loader(64)
load32 = _loader(32)


def at(typingctx: Any, array: Any, index: Any) -> Any:
    """``array[index]`` of a 1-d array for an index that is never negative.

    An ordinary signed index may count from the end, which costs three instructions and a
    register for every access; loops over bytes and cells do without.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array_type = signature.args[0]
        data = context.make_array(array_type)(context, builder, args[0]).data
        return context.unpack_value(builder, array_type.dtype, builder.gep(data, [args[1]]))

    return array.dtype(array, types.intp), codegen


def put_at(typingctx: Any, array: Any, index: Any, value: Any) -> Any:
    """``array[index] = value`` of a 1-d array for an index that is never negative."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array_type = signature.args[0]
        data = context.make_array(array_type)(context, builder, args[0]).data
        context.pack_value(builder, array_type.dtype, args[2], builder.gep(data, [args[1]]))
        return context.get_dummy_value()

    return types.void(array, types.intp, array.dtype), codegen


def flat(typingctx: Any, table: Any) -> Any:
    """As ``table.reshape(-1)``, for which numba calls a function of its own."""
    result = types.Array(table.dtype, 1, "C")

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, args[0])
        rows, columns = cgutils.unpack_tuple(builder, array.shape, 2)
        shape, strides = [builder.mul(rows, columns)], [array.itemsize]
        return array_at(context, builder, result, array.data, shape, strides)

    return result(table), codegen


def take_four(typingctx: Any, cells: Any, slots: Any, index: Any, first: Any, second: Any, place: Any) -> Any:
    """Four loads of 16 bytes and two stores of 32, so that loads of 32 bytes need not wait for the stores."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        indices = [builder.add(args[2], _WORD(k)) for k in range(4)]
        fours = _taken(context, builder, signature, args, indices)
        for four, target in zip(fours, _fours(context, builder, signature, args), strict=True):
            builder.store(four, target).align = _ALIGNED
        return context.get_dummy_value()

    return types.void(cells, slots, types.intp, first, second, types.intp), codegen


def take_rest(
    typingctx: Any, cells: Any, slots: Any, index: Any, first: Any, second: Any, place: Any, count: Any
) -> Any:
    """The last slot is read again for those that are not there, and what came of it dropped."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        last = builder.sub(args[6], _WORD(1))
        present, indices = ir.Constant(ir.VectorType(ir.IntType(1), 4), ir.Undefined), []
        for k in range(4):
            there = builder.icmp_signed("<=", _WORD(k), last)
            present = builder.insert_element(present, there, ir.IntType(32)(k))
            indices.append(builder.add(args[2], builder.select(there, _WORD(k), last)))
        nothing = ir.Constant(ir.VectorType(ir.DoubleType(), 4), [0.0] * 4)
        fours = _taken(context, builder, signature, args, indices)
        for four, target in zip(fours, _fours(context, builder, signature, args), strict=True):
            builder.store(builder.select(present, four, nothing), target).align = _ALIGNED
        return context.get_dummy_value()

    return types.void(cells, slots, types.intp, first, second, types.intp, types.intp), codegen


def _taken(context: Any, builder: Any, signature: Any, args: Any, indices: list[Any]) -> list[Any]:
    """The first and the second cells of four slots."""
    places = _pairs_of_four(context, builder, signature, args, indices)
    pairs = [_load(builder, pointer) for pointer in places]
    low, high = (builder.shuffle_vector(pairs[k], pairs[k + 1], _places(0, 1, 2, 3)) for k in range(0, 4, 2))
    return [
        builder.shuffle_vector(low, high, _places(lane, lane + 2, lane + 4, lane + 6)) for lane in range(2)
    ]


def put_four(typingctx: Any, cells: Any, slots: Any, index: Any, first: Any, second: Any, place: Any) -> Any:
    """The way back of :func:`take_four`."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        fours = [_load(builder, pointer) for pointer in _fours(context, builder, signature, args)]
        indices = [builder.add(args[2], _WORD(k)) for k in range(4)]
        for lane, target in enumerate(_pairs_of_four(context, builder, signature, args, indices)):
            pair = builder.shuffle_vector(*fours, _places(lane, lane + 4))
            builder.store(pair, target).align = _ALIGNED
        return context.get_dummy_value()

    return types.void(cells, slots, types.intp, first, second, types.intp), codegen


def _pairs_of_four(context: Any, builder: Any, signature: Any, args: Any, indices: list[Any]) -> list[Any]:
    """Where the two cells of each of four slots stand."""
    cells, slots = (
        context.make_array(kind)(context, builder, array).data
        for kind, array in zip(signature.args[:2], args[:2], strict=True)
    )
    pair = ir.VectorType(ir.DoubleType(), 2)
    pointers = []
    for index in indices:
        slot = builder.zext(builder.load(builder.gep(slots, [index])), _WORD)
        pointers.append(builder.bitcast(builder.gep(cells, [builder.shl(slot, _WORD(1))]), pair.as_pointer()))
    return pointers


def _fours(context: Any, builder: Any, signature: Any, args: Any) -> list[Any]:
    """Where the four first and the four second cells stand side by side."""
    four = ir.VectorType(ir.DoubleType(), 4)
    arrays = (context.make_array(signature.args[i])(context, builder, args[i]).data for i in (3, 4))
    return [builder.bitcast(builder.gep(array, [args[5]]), four.as_pointer()) for array in arrays]


def _load(builder: Any, pointer: Any) -> Any:
    value = builder.load(pointer)
    value.align = _ALIGNED
    return value


def _places(*places: int) -> Any:
    """Which elements of two vectors make a third."""
    return ir.Constant(ir.VectorType(ir.IntType(32), len(places)), list(places))


def byte_mask(typingctx: Any, buffer: Any, index: Any, byte: Any) -> Any:
    """Bit i of the uint64 tells whether ``buffer[index + i] == byte``; reads 64 bytes."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _address(context, builder, signature.args[0], args[0], args[1])
        wide = ir.VectorType(ir.IntType(8), 64)
        text = builder.load(builder.bitcast(pointer, wide.as_pointer()))
        text.align = 1
        one = builder.insert_element(
            ir.Constant(wide, ir.Undefined), builder.trunc(args[2], ir.IntType(8)), ir.IntType(32)(0)
        )
        all_of_it = builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(ir.IntType(32), 64), [0] * 64))
        return builder.bitcast(builder.icmp_unsigned("==", text, all_of_it), ir.IntType(64))

    return types.uint64(buffer, types.intp, types.intp), codegen


def string_mask(typingctx: Any, buffer: Any, index: Any) -> Any:
    """Bit i of the uint32: ``buffer[index + i]`` is a quote, a backslash or below 32; reads 32 bytes."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _address(context, builder, signature.args[0], args[0], args[1])
        wide = ir.VectorType(ir.IntType(8), 32)
        text = builder.load(builder.bitcast(pointer, wide.as_pointer()))
        text.align = 1
        quotes, backslashes, controls = (
            builder.icmp_unsigned(how, text, ir.Constant(wide, [byte] * 32))
            for how, byte in (("==", 34), ("==", 92), ("<", 32))
        )
        found = builder.or_(builder.or_(quotes, backslashes), controls)
        return builder.bitcast(found, ir.IntType(32))

    return types.uint32(buffer, types.intp), codegen


_EIGHT = ir.VectorType(ir.IntType(32), 8)


def _eight_at(builder: Any, data: Any, index: Any) -> Any:
    cells = builder.load(builder.bitcast(builder.gep(data, [index]), _EIGHT.as_pointer()))
    cells.align = 4
    return cells


def _which_of_eight(builder: Any, data: Any, index: Any, value: Any) -> Any:
    """Which of eight uint32 are the value."""
    one = builder.insert_element(ir.Constant(_EIGHT, ir.Undefined), value, ir.IntType(32)(0))
    all_of_it = builder.shuffle_vector(one, one, ir.Constant(_EIGHT, [0] * 8))
    return builder.icmp_unsigned("==", _eight_at(builder, data, index), all_of_it)


def equal_eight(typingctx: Any, array: Any, index: Any, value: Any) -> Any:
    """Bit i of the uint32 tells whether ``array[index + i] == value``, i below 8, of a uint32 array."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        found = builder.bitcast(_which_of_eight(builder, data, args[1], args[2]), ir.IntType(8))
        return builder.zext(found, ir.IntType(32))

    return types.uint32(array, types.intp, types.uint32), codegen


def taken_of_eight(typingctx: Any, array: Any, index: Any, value: Any, place: Any) -> Any:
    """``array[place + i]`` for the i below 8, at most one, where ``array[index + i] == value``; else 0."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        found = builder.sext(_which_of_eight(builder, data, args[1], args[2]), _EIGHT)
        kind = ir.FunctionType(ir.IntType(32), [_EIGHT])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.vector.reduce.or.v8i32")
        return builder.call(function, [builder.and_(found, _eight_at(builder, data, args[3]))])

    return types.uint32(array, types.intp, types.uint32, types.intp), codegen


def as_float32(typingctx: Any, bits: Any) -> Any:
    """The float32 that these bits of a uint32 are."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.FloatType())

    return types.float32(types.uint32), codegen


def _ask_for(builder: Any, pointer: Any, write: int) -> None:
    """Have the memory fetch what stands at an address."""
    int32 = ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [pointer.type, int32, int32, int32])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
    builder.call(function, [pointer, int32(write), int32(3), int32(1)])


def prefetch(typingctx: Any, table: Any, row: Any) -> Any:
    """Ask the memory for row ``row`` of a table that will be written soon."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, args[0])
        stride = cgutils.unpack_tuple(builder, array.strides, signature.args[0].ndim)[0]
        offset = builder.mul(args[1], stride)
        _ask_for(builder, _address(context, builder, signature.args[0], args[0], offset), 1)
        return context.get_dummy_value()

    return types.void(table, types.intp), codegen


def prefetch_read(typingctx: Any, array: Any, index: Any) -> Any:
    """Ask the memory for ``array[index]`` of a 1-d array, which will be read soon."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        place = builder.bitcast(builder.gep(data, [args[1]]), ir.IntType(8).as_pointer())
        _ask_for(builder, place, 0)
        return context.get_dummy_value()

    return types.void(array, types.intp), codegen


def strtod(typingctx: Any, text: Any) -> Any:
    """The C library's correctly rounded reader of decimals."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.DoubleType(), [pointer, pointer])
        function = cgutils.get_or_insert_function(builder.module, kind, "strtod")
        return builder.call(function, [builder.inttoptr(args[0], pointer), ir.Constant(pointer, None)])

    return types.float64(types.intp), codegen


def stack_text(typingctx: Any) -> Any:
    """The address of 1024 bytes that live until the calling function returns."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        text = cgutils.alloca_once(builder, ir.IntType(8), size=1024)
        return builder.ptrtoint(text, ir.IntType(types.intp.bitwidth))

    return types.intp(), codegen


def put(typingctx: Any, address: Any, byte: Any) -> Any:
    """Write one byte to an address."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = builder.inttoptr(args[0], ir.IntType(8).as_pointer())
        builder.store(builder.trunc(args[1], ir.IntType(8)), pointer)
        return context.get_dummy_value()

    return types.void(types.intp, types.int64), codegen


def ldexp(typingctx: Any, x: Any, exponent: Any) -> Any:
    """The C library's."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(ir.DoubleType(), [ir.DoubleType(), ir.IntType(32)])
        function = cgutils.get_or_insert_function(builder.module, kind, "ldexp")
        return builder.call(function, [args[0], builder.trunc(args[1], ir.IntType(32))])

    return types.float64(types.float64, types.int64), codegen


def count_ones(typingctx: Any, word: Any) -> Any:
    """How many bits of a uint64 are set."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ctpop(args[0])

    return types.int64(types.uint64), codegen


def trailing_zeros(typingctx: Any, word: Any) -> Any:
    """The number of zero bits below the lowest set bit of a uint64; 64 where none is set."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.IntType(1)(0))

    return types.int64(types.uint64), codegen
