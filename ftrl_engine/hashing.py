"""Bytes to 64-bit hashes, hashes to slots.

A feature is a value in a field. Its hash is ``XXH64(value, seed=salt(field))`` with
``salt(field) = XXH64(field, seed=0)``, bit-equal to the ``xxhash`` package; its slot is
the top ``bits`` bits of the hash. A number that stands for itself (a bucket) is hashed as
its eight little-endian bytes, and a cross folds the hashes of its parts the same way:
``h = salt(cross); h = XXH64(le8(part), seed=h)`` for each part in order.

Source: Y. Collet, XXH64 specification.
"""

from __future__ import annotations

import numpy as np
import xxhash
from numpy.typing import NDArray

from ftrl_engine.errors import ConfigError
from ftrl_engine.intrinsics import at, load32, load64
from ftrl_engine.jit import inlined, kernel

MIN_BITS, MAX_BITS = 1, 31

_P1 = np.uint64(0x9E3779B185EBCA87)
_P2 = np.uint64(0xC2B2AE3D27D4EB4F)
_P3 = np.uint64(0x165667B19E3779F9)
_P4 = np.uint64(0x85EBCA77C2B2AE63)
_P5 = np.uint64(0x27D4EB2F165667C5)
_ZERO, _BYTE, _HALF = np.uint64(0), np.uint64(0xFF), np.uint64(0xFFFFFFFF)
_R1, _R7, _R11, _R12 = np.uint64(1), np.uint64(7), np.uint64(11), np.uint64(12)
_R18, _R23, _R27, _R31 = np.uint64(18), np.uint64(23), np.uint64(27), np.uint64(31)
_R29, _R32, _R33, _R64 = np.uint64(29), np.uint64(32), np.uint64(33), np.uint64(64)


@inlined
def _rotate(x: np.uint64, r: np.uint64) -> np.uint64:
    return (x << r) | (x >> (_R64 - r))


@inlined
def _round(accumulator: np.uint64, lane: np.uint64) -> np.uint64:
    return _rotate(accumulator + lane * _P2, _R31) * _P1


@inlined
def _merge(h: np.uint64, accumulator: np.uint64) -> np.uint64:
    return (h ^ _round(_ZERO, accumulator)) * _P1 + _P4


@inlined
def _avalanche(h: np.uint64) -> np.uint64:
    h = (h ^ (h >> _R33)) * _P2
    h = (h ^ (h >> _R29)) * _P3
    return h ^ (h >> _R32)


@kernel
def _stripes(data: NDArray[np.uint8], lo: int, hi: int, seed: np.uint64) -> np.uint64:
    """The 32-byte stripes of a long input (at least 32 bytes)."""
    v1, v2, v3, v4 = seed + _P1 + _P2, seed + _P2, seed, seed - _P1
    while lo + 32 <= hi:
        v1 = _round(v1, load64(data, lo))
        v2 = _round(v2, load64(data, lo + 8))
        v3 = _round(v3, load64(data, lo + 16))
        v4 = _round(v4, load64(data, lo + 24))
        lo += 32
    h = _rotate(v1, _R1) + _rotate(v2, _R7) + _rotate(v3, _R12) + _rotate(v4, _R18)
    return _merge(_merge(_merge(_merge(h, v1), v2), v3), v4)


@inlined
def xxh64(data: NDArray[np.uint8], lo: int, hi: int, seed: np.uint64) -> np.uint64:
    """XXH64 of ``data[lo:hi]``; never reads outside that range."""
    h = seed + _P5
    length = np.uint64(hi - lo)
    if hi - lo >= 32:
        h = _stripes(data, lo, hi, seed)
        lo += (hi - lo) & ~31
    h += length
    while lo + 8 <= hi:
        h = _rotate(h ^ _round(_ZERO, load64(data, lo)), _R27) * _P1 + _P4
        lo += 8
    if lo + 4 <= hi:
        h = _rotate(h ^ (np.uint64(load32(data, lo)) * _P1), _R23) * _P2 + _P3
        lo += 4
    while lo < hi:
        h = _rotate(h ^ (np.uint64(at(data, lo)) * _P5), _R11) * _P1
        lo += 1
    return _avalanche(h)


@inlined
def _byte_step(h: np.uint64, bytes_left: np.uint64, do: bool) -> np.uint64:
    """One step of :func:`xxh64` for the lowest byte where ``do``, without a branch."""
    stepped = _rotate(h ^ ((bytes_left & _BYTE) * _P5), _R11) * _P1
    return stepped if do else h


@inlined
def xxh64_short(data: NDArray[np.uint8], lo: int, hi: int, seed: np.uint64) -> np.uint64:
    """As :func:`xxh64`, faster up to eight bytes; reads eight bytes from ``lo`` on.

    The lengths of tokens cannot be foreseen, and a wrong guess costs more than steps done in vain.
    """
    length = hi - lo
    if length > 8:
        return xxh64(data, lo, hi, seed)
    word = load64(data, lo)
    if length == 8:
        return xxh64_word(word, seed)
    h = seed + _P5 + np.uint64(length)
    stepped = _rotate(h ^ ((word & _HALF) * _P1), _R23) * _P2 + _P3
    h, word = (stepped, word >> _R32) if length >= 4 else (h, word)
    rest = length & 3
    h = _byte_step(h, word, rest > 0)
    h = _byte_step(h, word >> np.uint64(8), rest > 1)
    return _avalanche(_byte_step(h, word >> np.uint64(16), rest > 2))


@inlined
def xxh64_word(word: np.uint64, seed: np.uint64) -> np.uint64:
    """XXH64 of the eight little-endian bytes of ``word``."""
    h = seed + _P5 + np.uint64(8)
    return _avalanche(_rotate(h ^ _round(_ZERO, word), _R27) * _P1 + _P4)


def as_buffer(data: bytes, padding: int = 0) -> NDArray[np.uint8]:
    """A writable uint8 copy of ``data`` followed by ``padding`` zero bytes, as the kernels take it."""
    return np.frombuffer(bytearray(data) + bytes(padding), dtype=np.uint8)


def hash_bytes(value: bytes, seed: int = 0) -> int:
    """XXH64 of ``value`` as a Python integer in [0, 2**64)."""
    return xxhash.xxh64_intdigest(value, seed)


def salt(field: str) -> int:
    """The seed under which the values of ``field`` are hashed."""
    return hash_bytes(field.encode())


def check_bits(bits: int) -> int:
    """``bits`` if 2**bits slots can be addressed, else ConfigError."""
    if not MIN_BITS <= bits <= MAX_BITS:
        raise ConfigError(f"bits must be between {MIN_BITS} and {MAX_BITS}, got {bits}")
    return bits
