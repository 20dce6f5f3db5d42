"""What kernels do that numba has no words for: memory by address, many bytes at once, prefetching.

Here stands what each does, in plain Python, which is what runs with ``NUMBA_DISABLE_JIT=1``; the code of
each for kernels stands under the same name in :mod:`ftrl_engine.intrinsic_code`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ftrl_engine.jit import intrinsic


@intrinsic
def load64(buffer: Any, index: Any) -> Any:
    """The uint64 whose little-endian bytes are ``buffer[index : index + 8]``."""
    return np.uint64(int.from_bytes(bytes(buffer[index : index + 8]), "little"))


@intrinsic
def load32(buffer: Any, index: Any) -> Any:
    """The uint32 whose little-endian bytes are ``buffer[index : index + 4]``."""
    return np.uint32(int.from_bytes(bytes(buffer[index : index + 4]), "little"))


@intrinsic
def at(array: Any, index: Any) -> Any:
    """``array[index]`` of a 1-d array for an index that is never negative.

    An ordinary signed index may count from the end, which costs three instructions and a
    register for every access; loops over bytes and cells do without.
    """
    return array[index]


@intrinsic
def put_at(array: Any, index: Any, value: Any) -> None:
    """``array[index] = value`` of a 1-d array for an index that is never negative."""
    array[index] = value


@intrinsic
def flat(table: Any) -> Any:
    """The cells of a 2-d table in C order, one after the other."""
    return table.reshape(-1)


@intrinsic
def take_four(cells: Any, slots: Any, index: Any, first: Any, second: Any, place: Any) -> None:
    """Copy the two cells of each of ``slots[index : index + 4]``, the even ones of ``cells`` to
    ``first[place : place + 4]``, the odd ones to ``second``."""
    for k in range(4):
        cell = 2 * int(slots[index + k])
        first[place + k], second[place + k] = cells[cell], cells[cell + 1]


@intrinsic
def take_rest(cells: Any, slots: Any, index: Any, first: Any, second: Any, place: Any, count: Any) -> None:
    """As :func:`take_four` for ``slots[index : index + count]``, 1 to 3 slots; zeros follow up to four."""
    for k in range(4):
        cell = 2 * int(slots[index + k]) if k < count else 0
        first[place + k], second[place + k] = (cells[cell], cells[cell + 1]) if k < count else (0.0, 0.0)


@intrinsic
def put_four(cells: Any, slots: Any, index: Any, first: Any, second: Any, place: Any) -> None:
    """The way back of :func:`take_four`."""
    for k in range(4):
        cell = 2 * int(slots[index + k])
        cells[cell], cells[cell + 1] = first[place + k], second[place + k]


@intrinsic
def byte_mask(buffer: Any, index: Any, byte: Any) -> Any:
    """Bit i of the uint64 tells whether ``buffer[index + i] == byte``; reads 64 bytes."""
    found = np.packbits(buffer[index : index + 64] == byte, bitorder="little")
    return np.uint64(int.from_bytes(found.tobytes(), "little"))


@intrinsic
def string_mask(buffer: Any, index: Any) -> Any:
    """Bit i of the uint32: ``buffer[index + i]`` is a quote, a backslash or below 32; reads 32 bytes."""
    text = buffer[index : index + 32]
    found = np.packbits((text == 34) | (text == 92) | (text < 32), bitorder="little")
    return np.uint32(int.from_bytes(found.tobytes(), "little"))


@intrinsic
def equal_eight(array: Any, index: Any, value: Any) -> Any:
    """Bit i of the uint32 tells whether ``array[index + i] == value``, i below 8, of a uint32 array."""
    return np.uint32(sum(1 << i for i in range(8) if array[index + i] == value))


@intrinsic
def taken_of_eight(array: Any, index: Any, value: Any, place: Any) -> Any:
    """``array[place + i]`` for the i below 8, at most one, where ``array[index + i] == value``; else 0."""
    return np.uint32(sum(int(array[place + i]) for i in range(8) if array[index + i] == value))


@intrinsic
def as_float32(bits: Any) -> Any:
    """The float32 that these bits of a uint32 are."""
    return np.uint32(bits).view(np.float32)


@intrinsic
def prefetch_read(array: Any, index: Any) -> None:
    """Ask the memory for ``array[index]`` of a 1-d array, which will be read soon."""
    return None


@intrinsic
def prefetch(table: Any, row: Any) -> None:
    """Ask the memory for row ``row`` of a table that will be written soon."""
    return None


@intrinsic
def strtod(text: int) -> float:
    """The number whose text, ended by a zero byte, stands at the address ``text``."""
    raise NotImplementedError("plain Python has no addresses")


@intrinsic
def stack_text() -> int:
    """The address of 1024 bytes that live until the calling function returns."""
    raise NotImplementedError("plain Python has no addresses")


@intrinsic
def put(address: int, byte: Any) -> None:
    """Write one byte to an address."""
    raise NotImplementedError("plain Python has no addresses")


@intrinsic
def ldexp(x: float, exponent: Any) -> float:
    """x 2**exponent."""
    return math.ldexp(x, exponent)


@intrinsic
def count_ones(word: Any) -> int:
    """How many bits of a uint64 are set."""
    return int(word).bit_count()


@intrinsic
def trailing_zeros(word: Any) -> int:
    """The number of zero bits below the lowest set bit of a uint64; 64 where none is set."""
    value = int(word)
    return (value & -value).bit_length() - 1 if value else 64
