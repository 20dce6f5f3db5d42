"""The entry of a kernel: a C function for Python that takes Python's own objects apart.

``PyObject *entry(PyObject *table, PyObject *args)`` reads the arguments where they stand, whose types it
compares with those in the table; where one differs it returns MISMATCH. It lets other threads of Python
run while the kernel does.
"""

from __future__ import annotations

import functools
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.np import numpy_support

from ftrl_engine.machine_code import (
    AT_ARRAY,
    AT_BOOL,
    AT_FLOAT,
    AT_FLOAT64,
    AT_INT,
    AT_MISMATCH,
    AT_NONE,
    AT_TRUE,
    FIRST_OBJECTS,
    Args,
    place_of,
)

# Where things stand in Python's objects, in bytes; an array's from the end of what all objects have.
_HEAD, _TUPLE, _BYTES = object.__basicsize__, tuple.__basicsize__, bytes.__basicsize__ - 1
_DATA, _DIMENSIONS, _SHAPE, _STRIDES, _DTYPE, _FLAGS = 0, 8, 16, 24, 40, 48
_C_CONTIGUOUS, _ALIGNED = 0x1, 0x100

_INT64, _INT32 = ir.IntType(64), ir.IntType(32)
_POINTER = ir.IntType(8).as_pointer()


def numba_type(arg: Any) -> Any:
    """numba's type of an argument; an array may be written, whatever its flag says."""
    if isinstance(arg, np.ndarray):
        layout = "C" if arg.flags.c_contiguous else "A"
        return types.Array(numpy_support.from_dtype(arg.dtype), arg.ndim, layout)
    if isinstance(arg, tuple):
        return types.BaseTuple.from_types([numba_type(part) for part in arg], type(arg))
    return types.int64 if type(arg) is int else numba.typeof(arg)


def item_size(kind: Any) -> Any:
    """The bytes of an item of an array of this type."""
    return ir.Constant(_INT64, numpy_support.as_dtype(kind.dtype).itemsize)


def array_at(context: Any, builder: Any, kind: Any, data: Any, shape: list[Any], strides: list[Any]) -> Any:
    """The array of this type at an address, which it does not own."""
    item = context.get_data_type(kind.dtype)
    model = context.data_model_manager[kind]
    array = ir.Constant(model.get_value_type(), None)
    for name, part in (
        ("nitems", functools.reduce(builder.mul, shape, _INT64(1))),
        ("itemsize", item_size(kind)),
        ("data", builder.bitcast(data, item.as_pointer())),
        ("shape", cgutils.pack_array(builder, shape)),
        ("strides", cgutils.pack_array(builder, strides)),
    ):
        array = model.set(builder, array, part, name)
    return array


class Entry:
    """Writes the function that Python calls."""

    def __init__(self, result: Any, module: Any, name: str, args: Args) -> None:
        self._result, self._context, self._args = result, result.target_context, args
        self._objects = list(FIRST_OBJECTS)
        self._module = module
        kind = ir.FunctionType(_POINTER, [_POINTER, _POINTER])
        self._function = ir.Function(module, kind, name)
        self._builder = ir.IRBuilder(self._function.append_basic_block("entry"))
        self._mismatch = self._function.append_basic_block("mismatch")

    def build(self) -> None:
        builder = self._builder
        given = self._function.args[1]
        self._require_length(given, len(self._args))
        values = [self._value(arg, self._item(given, k)) for k, arg in enumerate(self._args)]
        state = self._call("PyEval_SaveThread", _POINTER)
        function = self._context.declare_function(self._module, self._result.fndesc)
        signature = self._result.signature
        _, value = self._context.call_conv.call_function(
            builder, function, signature.return_type, signature.args, values
        )
        self._call("PyEval_RestoreThread", ir.VoidType(), state)
        builder.ret(self._boxed(signature.return_type, value))
        builder.position_at_end(self._mismatch)
        builder.ret(self._owned(self._object(AT_MISMATCH)))

    def _value(self, arg: Any, thing: Any) -> Any:
        """The value of a Python object of the kind of ``arg``, as numba's functions take it."""
        if isinstance(arg, np.ndarray):
            return self._array(arg, thing)
        if isinstance(arg, tuple):
            self._require_type(thing, place_of(type(arg), self._objects))
            self._require_length(thing, len(arg))
            parts = [self._value(part, self._item(thing, k)) for k, part in enumerate(arg)]
            return self._context.make_tuple(self._builder, numba_type(arg), parts)
        if isinstance(arg, np.generic):
            self._require_type(thing, place_of(type(arg), self._objects))
            return self._load(thing, _HEAD, self._context.get_value_type(numba_type(arg)))
        return self._number(type(arg), thing)

    def _number(self, kind: type, thing: Any) -> Any:
        if kind is bool:
            self._require_type(thing, AT_BOOL)
            return self._builder.icmp_unsigned("==", thing, self._object(AT_TRUE))
        if kind is int:
            self._require_type(thing, AT_INT)
            return self._integer(thing)
        found = self._type_of(thing)
        either = self._builder.or_(
            self._builder.icmp_unsigned("==", found, self._object(AT_FLOAT)),
            self._builder.icmp_unsigned("==", found, self._object(AT_FLOAT64)),
        )
        self._unless_mismatch(either)
        return self._load(thing, _HEAD, ir.DoubleType())

    def _integer(self, thing: Any) -> Any:
        """The value of an int; OverflowError where it has more than 64 bits."""
        builder = self._builder
        value = self._call("PyLong_AsLongLong", _INT64, thing)
        with builder.if_then(builder.icmp_signed("==", value, ir.Constant(_INT64, -1)), likely=False):
            error = self._call("PyErr_Occurred", _POINTER)
            with builder.if_then(builder.icmp_unsigned("!=", error, ir.Constant(_POINTER, None))):
                builder.ret(ir.Constant(_POINTER, None))
        return value

    def _array(self, arg: Any, thing: Any) -> Any:
        self._require_type(thing, AT_ARRAY)
        place = place_of(arg.dtype, self._objects)
        self._require(self._load(thing, _HEAD + _DTYPE, _POINTER), self._object(place))
        dimensions = self._load(thing, _HEAD + _DIMENSIONS, _INT32)
        self._require(dimensions, ir.Constant(_INT32, arg.ndim))
        wanted = ir.Constant(_INT32, _ALIGNED | (_C_CONTIGUOUS if arg.flags.c_contiguous else 0))
        self._require(self._builder.and_(self._load(thing, _HEAD + _FLAGS, _INT32), wanted), wanted)
        shape, strides = (self._load(thing, _HEAD + part, _POINTER) for part in (_SHAPE, _STRIDES))
        return array_at(
            self._context,
            self._builder,
            numba_type(arg),
            self._load(thing, _HEAD + _DATA, _POINTER),
            [self._load(shape, 8 * k, _INT64) for k in range(arg.ndim)],
            [self._load(strides, 8 * k, _INT64) for k in range(arg.ndim)],
        )

    def _boxed(self, kind: Any, value: Any) -> Any:
        """The result as a new Python object."""
        if kind == types.none:
            return self._owned(self._object(AT_NONE))
        if kind == types.boolean:
            return self._call("PyBool_FromLong", _POINTER, self._builder.zext(value, _INT64))
        if isinstance(kind, types.Integer):
            extend = self._builder.sext if kind.signed else self._builder.zext
            name = "PyLong_FromLongLong" if kind.signed else "PyLong_FromUnsignedLongLong"
            return self._call(name, _POINTER, extend(value, _INT64) if kind.bitwidth < 64 else value)
        if kind == types.float64:
            return self._call("PyFloat_FromDouble", _POINTER, value)
        if isinstance(kind, types.BaseTuple):
            return self._boxed_tuple(kind, value)
        raise TypeError(f"{self._function.name}: a kernel returns numbers or nothing, not {kind}")

    def _boxed_tuple(self, kind: Any, value: Any) -> Any:
        boxed = self._call("PyTuple_New", _POINTER, ir.Constant(_INT64, len(kind)))
        for place, (part, number) in enumerate(
            zip(kind, cgutils.unpack_tuple(self._builder, value, len(kind)), strict=True)
        ):
            owned = self._boxed(part, number)
            self._call("PyTuple_SetItem", _INT32, boxed, ir.Constant(_INT64, place), owned)
        return boxed

    def _owned(self, thing: Any) -> Any:
        self._call("Py_IncRef", ir.VoidType(), thing)
        return thing

    def _call(self, name: str, result: Any, *args: Any) -> Any:
        """A call of Python's own functions."""
        kind = ir.FunctionType(result, [arg.type for arg in args])
        known = self._module.globals.get(name)
        function = ir.Function(self._module, kind, name) if known is None else known
        return self._builder.call(function, args)

    def _load(self, base: Any, offset: int, kind: Any) -> Any:
        place = self._builder.gep(base, [ir.Constant(_INT64, offset)])
        return self._builder.load(self._builder.bitcast(place, kind.as_pointer()))

    def _item(self, parts: Any, number: int) -> Any:
        return self._load(parts, _TUPLE + 8 * number, _POINTER)

    def _object(self, place: int) -> Any:
        """An object of the table, whose addresses stand in a bytes object."""
        return self._load(self._function.args[0], _BYTES + 8 * place, _POINTER)

    def _type_of(self, thing: Any) -> Any:
        return self._load(thing, _HEAD - 8, _POINTER)

    def _require_type(self, thing: Any, place: int) -> None:
        self._require(self._type_of(thing), self._object(place))

    def _require_length(self, parts: Any, length: int) -> None:
        """So many objects in a tuple; nothing beyond its end is read."""
        self._require(self._load(parts, _HEAD, _INT64), ir.Constant(_INT64, length))

    def _require(self, found: Any, wanted: Any) -> None:
        self._unless_mismatch(self._builder.icmp_unsigned("==", found, wanted))

    def _unless_mismatch(self, fits: Any) -> None:
        block = self._function.append_basic_block()
        self._builder.cbranch(fits, block, self._mismatch)
        self._builder.position_at_end(block)
