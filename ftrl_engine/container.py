"""One atomic, verified file of header + arrays.

A container is a valid safetensors file, readable by anything that reads safetensors::

    uint64 n | header: n bytes of JSON, padded with spaces to 8 | the arrays, little-endian, C order

``__metadata__`` of the header (str -> str) holds the caller's metadata and three keys of ours:

    kind       what the file is: "checkpoint", "snapshot", ...
    container  the version of this format
    checksum   XXH3-128, 32 hex digits, over every byte of the file with these digits as zeros

so that one flipped bit anywhere, or a cut at any length, is refused. Equal input gives equal bytes:
names are sorted and no time, host or user is recorded.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import msgspec
import numpy as np
import xxhash
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from ftrl_engine.errors import ConfigError, CorruptFileError, DataError

VERSION = 1
# Readers of safetensors refuse a longer header.
MAX_HEADER_BYTES = 100_000_000

_OURS = ("kind", "container", "checksum")
_UNSIGNED = "0" * 32
_LENGTH_BYTES = 8
_DTYPES = {
    "<f8": "F64",
    "<f4": "F32",
    "<f2": "F16",
    "<i8": "I64",
    "<i4": "I32",
    "<i2": "I16",
    "|i1": "I8",
    "<u8": "U64",
    "<u4": "U32",
    "<u2": "U16",
    "|u1": "U8",
    "|b1": "BOOL",
    "<c8": "C64",
}


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """An array that comes in parts, so that memory never holds all of it.

    parts  gives them in order, C-contiguous, little-endian and of ``dtype``; together they have ``shape``;
           what they are taken from must not change while they are written, and each must hold until the
           next one is asked for
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    parts: Callable[[], Iterable[NDArray[Any]]]


class _Header(msgspec.Struct):
    metadata: dict[str, str] = msgspec.field(name="__metadata__")


def write(
    path: Path, kind: str, arrays: Mapping[str, NDArray[Any] | Parts], metadata: Mapping[str, str]
) -> int:
    """Write a container in one atomic step and return its size in bytes.

    After a crash or an error ``path`` is either what it was before or the whole new file. Files named
    ``.tmp-*`` beside it are leftovers of a crash; nothing reads them. Arrays of any shape and of the
    dtypes bool, (u)int8-64, float16-64 and complex64 are written from where they stand; only one that
    is not C-contiguous and little-endian is copied.

    Raises DataError for another dtype, ConfigError for metadata that cannot be kept, and OSError, which
    names the file, when the disk refuses.
    """
    tensors = [_Tensor.of(path, name, array) for name, array in arrays.items()]
    # Large items first keeps every array aligned to its own item size.
    tensors.sort(key=lambda tensor: (-tensor.dtype.itemsize, tensor.name))
    header = _format_header(path, kind, tensors, metadata)
    try:
        _replace(path, header, _pieces(tensors))
    except OSError as error:
        # A full disk is reported by the kernel without saying which file it was.
        error.filename = error.filename or str(path)
        raise
    return len(header) + sum(tensor.nbytes for tensor in tensors)


def read(path: Path, kind: str) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """The arrays and the caller's metadata of a container, every byte verified.

    Arrays come in the order of the file and are writable, C-contiguous and little-endian; memory holds
    one copy of them. Raises CorruptFileError that names the file and what is wrong: empty, cut short,
    not a container, a newer version, a wrong checksum, another kind; FileNotFoundError where there is
    no file.
    """
    header, metadata = _read_header(path)
    _check_version(path, metadata)
    try:
        with safe_open(path, framework="np", backend="pread") as file:
            arrays = {name: file.get_tensor(name) for name in file.offset_keys()}
    except SafetensorError as error:
        _refuse(path, f"is cut short or damaged ({error})")
    signature = _signature(metadata["checksum"])
    unsigned = header.replace(signature, _signature(_UNSIGNED))
    # The checksum covers the very bytes that are returned, not another reading of the file.
    pieces = [_bytes(array) for array in arrays.values()]
    if header.count(signature) != 1 or _checksum(unsigned, pieces) != metadata["checksum"]:
        _refuse(path, "does not match its checksum: at least one bit has changed since it was written")
    return arrays, _own(path, kind, metadata)


def read_metadata(path: Path, kind: str) -> dict[str, str]:
    """The caller's metadata from the header alone, at the cost of one small read.

    UNVERIFIED: the checksum is not looked at, so damage may go unnoticed; decide nothing by it that
    :func:`read` does not confirm. Raises as :func:`read` does for what the header shows.
    """
    _, metadata = _read_header(path)
    _check_version(path, metadata)
    return _own(path, kind, metadata)


@dataclass(frozen=True, slots=True)
class _Tensor:
    """What is written under one name, and its bytes, as often as they are asked for."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    pieces: Callable[[], Iterable[memoryview]]

    @classmethod
    def of(cls, path: Path, name: str, array: NDArray[Any] | Parts) -> _Tensor:
        if isinstance(array, Parts):
            return cls(name, array.dtype, array.shape, lambda: map(_bytes, array.parts()))
        stored = _storable(path, name, array)
        return cls(name, stored.dtype, stored.shape, lambda: [_bytes(stored)])

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def _pieces(tensors: Iterable[_Tensor]) -> Iterator[memoryview]:
    for tensor in tensors:
        yield from tensor.pieces()


def _storable(path: Path, name: str, array: NDArray[Any]) -> NDArray[Any]:
    """``array`` itself where it is C-contiguous and little-endian, else such a copy."""
    if name == "__metadata__":
        raise ConfigError(f"{path}: array name '__metadata__' is reserved by the format; choose another")
    wanted = array.dtype.newbyteorder("<")
    if wanted.str not in _DTYPES:
        raise DataError(
            f"{path}: array {name!r} has dtype {array.dtype}; a container holds bool, (u)int8 to 64, "
            "float16 to 64 and complex64, so convert it first"
        )
    return np.require(array, dtype=wanted, requirements="C")


def _bytes(array: NDArray[Any]) -> memoryview:
    """The bytes of a C-contiguous array, where they stand."""
    return array.reshape(-1).view(np.uint8).data


def _format_header(path: Path, kind: str, tensors: Iterable[_Tensor], metadata: Mapping[str, str]) -> bytes:
    """The length and the JSON header, with zeros for the checksum."""
    for key in metadata:
        if key in _OURS:
            raise ConfigError(f"{path}: metadata key {key!r} is set by the container; choose another")
    ours = {"kind": kind, "container": str(VERSION), "checksum": _UNSIGNED}
    # The library writes metadata in random order, so equal input would give different bytes.
    header: dict[str, Any] = {"__metadata__": dict(sorted({**metadata, **ours}.items()))}
    end = 0
    for tensor in tensors:
        start, end = end, end + tensor.nbytes
        header[tensor.name] = {
            "dtype": _DTYPES[tensor.dtype.str],
            "shape": tensor.shape,
            "data_offsets": (start, end),
        }
    try:
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError as error:
        raise ConfigError(
            f"{path}: metadata and array names must be Unicode text, and {error.object[error.start]!r} is not"
        ) from None
    text += b" " * (-len(text) % _LENGTH_BYTES)
    if len(text) > MAX_HEADER_BYTES:
        raise ConfigError(
            f"{path}: metadata takes {len(text)} bytes and at most {MAX_HEADER_BYTES} are allowed; "
            "keep it in an array"
        )
    if text.count(_signature(_UNSIGNED)) != 1:
        raise ConfigError(f"{path}: no metadata key may end in '\"checksum'; choose another")
    return len(text).to_bytes(_LENGTH_BYTES, "little") + text


def _signature(checksum: str) -> bytes:
    return f'"checksum":"{checksum}"'.encode()


def _checksum(header: bytes, pieces: Iterable[memoryview]) -> str:
    digest = xxhash.xxh3_128(header)
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def _replace(path: Path, unsigned: bytes, pieces: Iterable[memoryview]) -> None:
    # The suffix is left out, so that a search for finished files never finds this one.
    temporary = path.with_name(f".tmp-{os.getpid()}-{path.stem}")
    try:
        with temporary.open("wb") as file:
            file.write(unsigned)
            checksum = _checksum(unsigned, _passed_to(file, pieces))
            # The checksum stands before the bytes it is of, which are gathered once.
            file.seek(0)
            file.write(unsigned.replace(_signature(_UNSIGNED), _signature(checksum)))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_directory(path.parent)


def _passed_to(file: BinaryIO, pieces: Iterable[memoryview]) -> Iterator[memoryview]:
    for piece in pieces:
        file.write(piece)
        yield piece


def _sync_directory(directory: Path) -> None:
    """Make the new name itself survive a power cut."""
    if os.name == "nt":  # Windows opens no directories
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_header(path: Path) -> tuple[bytes, dict[str, str]]:
    """The bytes before the arrays and the metadata in them, with our three keys present."""
    if path.is_dir():
        _refuse(path, "is a directory, not a file")
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        header = file.read(_LENGTH_BYTES)
        length = int.from_bytes(header, "little")
        if size == 0:
            _refuse(path, "is empty")
        if size >= _LENGTH_BYTES and length > MAX_HEADER_BYTES:
            _refuse(path, "is not a container: it does not begin with the length of a header")
        if size < _LENGTH_BYTES + length:
            _refuse(path, f"is cut short: {size} bytes, and its header alone needs {8 + length}")
        header += file.read(length)
    try:
        metadata = msgspec.json.decode(header[_LENGTH_BYTES:], type=_Header).metadata
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        _refuse(path, f"is not a container, or its header is damaged ({error})")
    if not all(key in metadata for key in _OURS):
        _refuse(path, f"is not a container, or its header is damaged: it does not hold {', '.join(_OURS)}")
    return header, metadata


def _check_version(path: Path, metadata: Mapping[str, str]) -> None:
    version = metadata["container"]
    if version != str(VERSION):
        raise CorruptFileError(
            f"{path}: container version {version!r}, and this program reads version {VERSION}; upgrade it, "
            "or use another file if no newer program wrote this one"
        )


def _own(path: Path, kind: str, metadata: Mapping[str, str]) -> dict[str, str]:
    """The caller's part of ``metadata``, where the file is of the kind asked for."""
    if metadata["kind"] != kind:
        raise CorruptFileError(
            f"{path}: is a {metadata['kind']}, and a {kind} is needed here; give the right file"
        )
    return {key: value for key, value in sorted(metadata.items()) if key not in _OURS}


def _refuse(path: Path, what: str) -> NoReturn:
    raise CorruptFileError(f"{path}: {what}; use an older file or make it again")
