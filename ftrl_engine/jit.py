"""The one way to compile.

Every compiled function of the project goes through :func:`kernel`. numba stamps a
cached kernel with its own source file only, so a change in a helper would leave its
callers stale; the cache directory is therefore keyed by a digest of all sources that
hold kernels. Where no cache can be written, kernels are compiled in memory.

With ``NUMBA_DISABLE_JIT=1`` the same functions run as plain Python, which is how the
tests compare them with the slow oracles.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic

Function = TypeVar("Function", bound=Callable[..., Any])

COMPILED = not config.DISABLE_JIT
_DIGEST = re.compile("[0-9a-f]{20}")
_KEPT_SECONDS = 30 * 86_400
_PACKAGES = ("ftrl_engine", "streams", "serving", "bench")


def _digest_of_sources() -> str:
    digest = hashlib.sha256(f"{numba.__version__} {np.__version__}".encode())
    root = Path(__file__).resolve().parent.parent
    for package in _PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            text = path.read_bytes()
            if b"kernel" in text or b"inlined" in text:
                digest.update(path.relative_to(root).as_posix().encode() + b"\0" + text)
    return digest.hexdigest()[:20]


def spare_blas() -> None:
    """Let numba start without BLAS, for which it loads scipy.linalg: a fifth of a command's start.

    No kernel here needs it. For programs of this project only, because kernels of others in the
    same process would be refused linear algebra.
    """
    if "scipy.linalg" in sys.modules or "numba.np.arraymath" in sys.modules:
        return
    blocked: dict[str, Any] = cast(dict[str, Any], sys.modules)
    blocked["scipy.linalg"] = None
    try:
        importlib.import_module("numba.np.arraymath")
    finally:
        del blocked["scipy.linalg"]


def _writable(directory: Path) -> bool:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(directory, os.W_OK)


def _find_cache() -> Path | None:
    chosen = os.environ.get("FTRL_CACHE_DIR")
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    root = Path(chosen) if chosen else Path(base).expanduser() / "ftrl_engine"
    directory = root / _digest_of_sources()
    new = not directory.exists()
    if not _writable(directory):
        return None
    if new:
        _forget_old(root, directory)
    else:
        with suppress(OSError):
            os.utime(directory)
    return directory


def _forget_old(root: Path, newest: Path) -> None:
    """Remove the kernels of versions that were not used for a month before the newest one was made."""
    with suppress(OSError):
        made = newest.stat().st_mtime
        for other in root.iterdir():
            if _DIGEST.fullmatch(other.name) and other.stat().st_mtime < made - _KEPT_SECONDS:
                shutil.rmtree(other, ignore_errors=True)


CACHE: Path | None = _find_cache() if COMPILED else None


def cache_is_cold() -> bool:
    """True when the kernels of this version are not on disk yet and must be compiled."""
    return COMPILED and (CACHE is None or next(CACHE.rglob("*.nbi"), None) is None)


@contextmanager
def _numba_cache_at(directory: Path) -> Iterator[None]:
    """numba reads its cache directory when a function is decorated, and only then."""
    before = config.CACHE_DIR
    config.CACHE_DIR = str(directory)
    try:
        yield
    finally:
        config.CACHE_DIR = before


def kernel(function: Function) -> Function:
    """Compile ``function``: releases the GIL, cached on disk, IEEE arithmetic, no fastmath.

    A kernel allocates nothing (numba's reference counting is off, which would cost more than
    the work between two features): its caller passes scratch arrays and owns all memory.
    """
    return _compile(function, {})


def inlined(function: Function) -> Function:
    """A kernel that is merged into every kernel that calls it.

    Passing arrays by value to a function that is not merged costs tens of nanoseconds, more
    than most helpers compute; rare branches and large bodies should stay plain kernels.
    """
    return _compile(function, {"forceinline": True})


def _compile(function: Function, extra: dict[str, Any]) -> Function:
    if not COMPILED:
        # Plain Python: unsigned arithmetic wraps as it does when compiled.
        return np.errstate(over="ignore")(function)
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "_nrt": False} | extra
    if CACHE is None:
        return cast(Function, numba.njit(**options)(function))
    with _numba_cache_at(CACHE):
        return cast(Function, numba.njit(cache=True, **options)(function))


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


if COMPILED:
    load64 = intrinsic(_loader(64))
    load32 = intrinsic(_loader(32))

    @intrinsic
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

    @intrinsic
    def put_at(typingctx: Any, array: Any, index: Any, value: Any) -> Any:
        """``array[index] = value`` of a 1-d array for an index that is never negative."""

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            array_type = signature.args[0]
            data = context.make_array(array_type)(context, builder, args[0]).data
            context.pack_value(builder, array_type.dtype, args[2], builder.gep(data, [args[1]]))
            return context.get_dummy_value()

        return types.void(array, types.intp, array.dtype), codegen

    @intrinsic
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
            all_of_it = builder.shuffle_vector(
                one, one, ir.Constant(ir.VectorType(ir.IntType(32), 64), [0] * 64)
            )
            return builder.bitcast(builder.icmp_unsigned("==", text, all_of_it), ir.IntType(64))

        return types.uint64(buffer, types.intp, types.intp), codegen

    @intrinsic
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

    @intrinsic
    def prefetch(typingctx: Any, table: Any, row: Any) -> Any:
        """Ask the memory for row ``row`` of a 2-d table that will be written soon."""

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            array = context.make_array(signature.args[0])(context, builder, args[0])
            stride = cgutils.unpack_tuple(builder, array.strides, 2)[0]
            offset = builder.mul(args[1], stride)
            pointer = _address(context, builder, signature.args[0], args[0], offset)
            int32 = ir.IntType(32)
            kind = ir.FunctionType(ir.VoidType(), [pointer.type, int32, int32, int32])
            function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
            builder.call(function, [pointer, int32(1), int32(3), int32(1)])
            return context.get_dummy_value()

        return types.void(table, types.intp), codegen

else:

    def load64(buffer: Any, index: int) -> Any:
        return np.uint64(int.from_bytes(bytes(buffer[index : index + 8]), "little"))

    def load32(buffer: Any, index: int) -> Any:
        return np.uint32(int.from_bytes(bytes(buffer[index : index + 4]), "little"))

    def at(array: Any, index: int) -> Any:
        return array[index]

    def put_at(array: Any, index: int, value: Any) -> None:
        array[index] = value

    def byte_mask(buffer: Any, index: int, byte: int) -> Any:
        found = np.packbits(buffer[index : index + 64] == byte, bitorder="little")
        return np.uint64(int.from_bytes(found.tobytes(), "little"))

    def string_mask(buffer: Any, index: int) -> Any:
        text = buffer[index : index + 32]
        found = np.packbits((text == 34) | (text == 92) | (text < 32), bitorder="little")
        return np.uint32(int.from_bytes(found.tobytes(), "little"))

    def prefetch(table: Any, row: int) -> None:
        return None


if COMPILED:
    # The C library's correctly rounded reader of decimals; addresses are integers here.
    _strtod = types.ExternalFunction("strtod", types.float64(types.intp, types.intp))

    @numba.njit(nogil=True, _nrt=False)
    def strtod(text: int) -> float:
        """The number whose text, ended by a zero byte, stands at the address ``text``."""
        return float(_strtod(text, np.intp(0)))

    @intrinsic
    def stack_text(typingctx: Any) -> Any:
        """The address of 1024 bytes that live until the calling function returns."""

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            text = cgutils.alloca_once(builder, ir.IntType(8), size=1024)
            return builder.ptrtoint(text, ir.IntType(types.intp.bitwidth))

        return types.intp(), codegen

    @intrinsic
    def put(typingctx: Any, address: Any, byte: Any) -> Any:
        """Write one byte to an address."""

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            pointer = builder.inttoptr(args[0], ir.IntType(8).as_pointer())
            builder.store(builder.trunc(args[1], ir.IntType(8)), pointer)
            return context.get_dummy_value()

        return types.void(types.intp, types.int64), codegen

    @intrinsic
    def trailing_zeros(typingctx: Any, word: Any) -> Any:
        """The number of zero bits below the lowest set bit of a non-zero uint64."""

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.cttz(args[0], ir.IntType(1)(1))

        return types.int64(types.uint64), codegen

else:

    def strtod(text: int) -> float:
        raise NotImplementedError("plain Python has no addresses")

    def stack_text() -> int:
        raise NotImplementedError("plain Python has no addresses")

    def put(address: int, byte: int) -> None:
        raise NotImplementedError("plain Python has no addresses")

    def trailing_zeros(word: Any) -> int:
        value = int(word)
        return (value & -value).bit_length() - 1
