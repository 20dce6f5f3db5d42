"""Compiled code as Python calls it: linked by LLVM, and given Python's own objects.

The code of a kernel begins with a function that has the form of one written in C for Python. It takes
the arguments apart itself: arrays, numbers, and tuples of them, whose types it compares with a table of
objects that it is given. Where one differs it returns MISMATCH and has done nothing.
"""

from __future__ import annotations

import ctypes
import functools
import struct
import sys
from typing import Any

import llvmlite.binding as llvm
import numpy as np

Args = tuple[Any, ...]


class _Mismatch:
    """The type of MISMATCH."""


MISMATCH = _Mismatch()
# The objects that every kernel knows, and their places in its table.
FIRST_OBJECTS: tuple[Any, ...] = (MISMATCH, None, True, np.ndarray, int, float, np.float64, bool)
AT_MISMATCH, AT_NONE, AT_TRUE, AT_ARRAY, AT_INT, AT_FLOAT, AT_FLOAT64, AT_BOOL = range(len(FIRST_OBJECTS))

_TAKEN = "a kernel takes arrays, numbers and tuples of them"
_NUMBERS = frozenset("?bhilqBHILQfdFD")  # numpy's letters for what is a number for machine code too

_METH_VARARGS = 1
_LINKED: list[Any] = []  # code, tables and definitions stay as long as the process


class _Definition(ctypes.Structure):
    """Python's PyMethodDef."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )


def describe(args: Args) -> tuple[str, tuple[Any, ...]]:
    """The kinds of the arguments in words, and the objects that tell whether others are of these kinds.

    The objects stand in the order in which the code asks for them: see FIRST_OBJECTS. Whether there can
    be code for such arguments, :func:`trouble_with` tells.
    """
    objects = list(FIRST_OBJECTS)
    kinds = ",".join(_describe(arg, objects) for arg in args)
    return kinds, tuple(objects)


def _describe(arg: Any, objects: list[Any]) -> str:
    if isinstance(arg, np.ndarray):
        place_of(arg.dtype, objects)
        return f"{arg.dtype.str}[{arg.ndim}{'C' if arg.flags.c_contiguous else 'A'}]"
    if isinstance(arg, tuple):
        kind = type(arg)
        place_of(kind, objects)
        return f"{kind.__module__}.{kind.__qualname__}({','.join(_describe(part, objects) for part in arg)})"
    if isinstance(arg, np.generic):
        place_of(type(arg), objects)
    return type(arg).__name__


def trouble_with(arg: Any) -> str:
    """Why no kernel takes this argument, and what to do; empty where kernels do."""
    if isinstance(arg, tuple):
        return next(filter(None, map(trouble_with, arg)), "")
    if isinstance(arg, np.ndarray):
        return _trouble_with_array(arg)
    number = arg.dtype.char in _NUMBERS if isinstance(arg, np.generic) else type(arg) in (int, float, bool)
    return "" if number else f"{_TAKEN}, got {arg!r} of type {type(arg).__name__}"


def _trouble_with_array(array: Any) -> str:
    if array.dtype.char not in _NUMBERS:
        return f"{_TAKEN}, got an array of {array.dtype}; convert it (array.astype(...))"
    if not array.dtype.isnative:
        native = array.dtype.newbyteorder("=")
        return (
            "a kernel takes arrays in the byte order of the processor, "
            f"got {array.dtype.str}; convert it (array.astype({native.str!r}))"
        )
    if array.flags.writeable and not array.flags.aligned:
        return (
            "a kernel takes arrays that stand at a multiple of the size of their items, where it may write "
            f"to them, got {array.dtype} at {array.__array_interface__['data'][0]:#x}; copy it (array.copy())"
        )
    return ""


def place_of(thing: Any, objects: list[Any]) -> int:
    """Where the object stands in the list, which it joins if it is new."""
    for place, known in enumerate(objects):
        if known is thing:
            return place
    objects.append(thing)
    return len(objects) - 1


def plain(args: Args) -> Args:
    """The arguments with numbers and arrays of the one form that stands for all that are equal to it.

    An array that is not aligned is copied where it is read-only; what is written to a copy would be lost.
    """
    return tuple(_plain(arg) for arg in args)


def _plain(arg: Any) -> Any:
    if isinstance(arg, np.ndarray):
        dtype = np.dtype(arg.dtype.str)
        array = arg if type(arg) is np.ndarray else arg.view(np.ndarray)
        array = array if array.flags.aligned or array.flags.writeable else array.copy()
        return array if array.dtype is dtype or dtype.char not in _NUMBERS else array.view(dtype)
    if isinstance(arg, tuple):
        parts = [_plain(part) for part in arg]
        if all(new is old for new, old in zip(parts, arg, strict=True)):
            return arg
        make = getattr(type(arg), "_make", tuple)
        return make(parts)
    if isinstance(arg, np.bool_):
        return bool(arg)
    return float(arg) if isinstance(arg, np.float64) else arg


@functools.cache
def target() -> tuple[str, ...]:
    """For which processors and which Python code is compiled here."""
    features = llvm.get_host_cpu_features().flatten()
    return (
        llvm.get_process_triple(),
        llvm.get_host_cpu_name(),
        features,
        str(sys.implementation.cache_tag),
        f"{object.__basicsize__} {tuple.__basicsize__} {bytes.__basicsize__}",
        np.__version__,
    )


@functools.cache
def _target() -> Any:
    """LLVM's target for code that is linked here."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.Target.from_triple(llvm.get_process_triple())


def link(code: bytes, name: str, objects: tuple[Any, ...]) -> Any:
    """The function ``name`` of an object file as a function of Python."""
    machine = _target().create_target_machine(jit=True)
    module = llvm.parse_assembly(f'target triple = "{llvm.get_process_triple()}"')
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    address = engine.get_function_address(name)
    definition = _Definition(name.encode(), address, _METH_VARARGS, None)
    table = struct.pack(f"={len(objects)}Q", *map(id, objects))
    _LINKED.append((engine, definition, objects))
    make = ctypes.pythonapi.PyCFunction_NewEx
    make.restype, make.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p]
    return make(ctypes.addressof(definition), table, None)
