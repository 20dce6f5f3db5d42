"""A function that is compiled when it is first called with arguments of some kind, and kept on disk.

Compiling needs numba, which takes most of a second and a hundred megabytes to load. What was compiled
before needs neither: its machine code is read from the cache, linked by LLVM and called like any other
function written in C. So numba is loaded only where something is missing in the cache
(:mod:`ftrl_engine.compiling`).

The files of the cache are named after module and line, and after what else the code depends on: the kinds
of the arguments, the processor and the Python. Its directory belongs to one version of all sources, and
may be shared by checkouts and processes; those that need the same kernel at once wait for the first.
"""

from __future__ import annotations

import functools
import hashlib
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ftrl_engine import machine_code
from ftrl_engine.machine_code import MISMATCH

# A process waits so long for another that compiles the same kernel; then it compiles too.
WAIT_SECONDS = 120.0
_CHECK_BYTES = 32


class Kernel:
    """A function that Python and other kernels call.

    For Python it is machine code, one piece for each combination of kinds of arguments; for a kernel
    it is a part of that kernel.

    compiled, read  how many pieces this process has compiled, and read from disk
    """

    def __init__(self, function: Callable[..., Any], options: Mapping[str, Any], cache: Path | None) -> None:
        functools.update_wrapper(self, function)
        self.py_func = function
        self.options = dict(options)
        self.compiled = self.read = 0
        self._cache = cache
        self._pieces: dict[str, Callable[..., Any]] = {}
        self._call: Callable[..., Any] = _mismatch

    def __call__(self, *args: Any) -> Any:
        result = self._call(*args)
        return self._call_other(args) if result is MISMATCH else result

    def __deepcopy__(self, memo: Any) -> Kernel:
        return self

    def __reduce__(self) -> str:
        """Another process finds it by module and name."""
        return self.py_func.__qualname__

    @property
    def _numba_type_(self) -> Any:
        """What a kernel that calls this one is told about it."""
        return self.part._numba_type_

    @functools.cached_property
    def part(self) -> Any:
        """This function as numba knows it."""
        from ftrl_engine.compiling import Part

        return Part(self.py_func, self.options)

    def _call_other(self, given: tuple[Any, ...]) -> Any:
        """The call for arguments that are not of the kinds of the call before."""
        args = machine_code.plain(given)
        kinds, objects = machine_code.describe(args)
        piece = self._pieces.get(kinds)
        if piece is None:
            self._check(given)
            code = self.py_func.__code__
            key = _key(kinds, _source_stamp(code.co_filename))
            name = f"{self.__module__}.{code.co_name}-{code.co_firstlineno}-{key}"
            piece = machine_code.link(self._code(name, args), name, objects)
            self._pieces[kinds] = piece
        result = piece(*args)
        if result is MISMATCH:
            self._check(given)
            raise TypeError(f"{self.py_func.__qualname__}: cannot take arguments of the kinds {kinds}")
        self._call = piece
        return result

    def _check(self, given: tuple[Any, ...]) -> None:
        """Refuse by name what no kernel takes, or not so many."""
        name, code = self.py_func.__qualname__, self.py_func.__code__
        places = code.co_varnames[: code.co_argcount]
        if len(given) != len(places):
            taken = f"{name}({', '.join(places)})"
            raise TypeError(f"{taken}: the number of arguments must be {len(places)}, got {len(given)}")
        for place, arg in zip(places, given, strict=True):
            if trouble := machine_code.trouble_with(arg):
                raise TypeError(f"{name}, argument {place}: {trouble}")

    def _code(self, name: str, args: tuple[Any, ...]) -> bytes:
        """The machine code for these arguments, from the cache or new."""
        if self._cache is None:
            return self._compile(name, args)
        path = self._cache / f"{name}.o"
        code = _read(path)
        if code is None:
            with _alone(path):
                code = _read(path)
                if code is None:
                    code = self._compile(name, args)
                    _write(path, code)
                    return code
        self.read += 1
        return code

    def _compile(self, name: str, args: tuple[Any, ...]) -> bytes:
        from ftrl_engine.compiling import compile_for

        self.compiled += 1
        return compile_for(self.part, name, args)


def _mismatch(*_: Any) -> Any:
    """What is called before anything is compiled."""
    return MISMATCH


class Intrinsic:
    """A function that numba has no words for: plain Python, and a generator of code for kernels.

    build  makes the typing function that numba's ``intrinsic`` takes, when a kernel is compiled
    """

    def __init__(self, function: Callable[..., Any], build: Callable[[], Callable[..., Any]]) -> None:
        functools.update_wrapper(self, function)
        self._name, self._build = function.__name__, build

    def __deepcopy__(self, memo: Any) -> Intrinsic:
        return self

    @functools.cached_property
    def _numba_type_(self) -> Any:
        from ftrl_engine.compiling import intrinsic_type

        return intrinsic_type(self._build())

    def __call__(self, *args: Any) -> Any:
        raise TypeError(f"{self._name} is for kernels; Python does not call it")


def _key(kinds: str, source: str) -> str:
    """What the machine code depends on, apart from the other sources of this project."""
    return hashlib.sha256("\0".join((kinds, source, *machine_code.target())).encode()).hexdigest()[:20]


@functools.cache
def _source_stamp(path: str) -> str:
    """The file of the function itself, which need not belong to this project."""
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError:
        return path


def _read(path: Path) -> bytes | None:
    """The code in a file of the cache; None where there is none or it is damaged or for other users."""
    try:
        data = path.read_bytes()
    except PermissionError:
        _warn_of_unreadable(path)
        return None
    except OSError:
        return None
    check, code = data[:_CHECK_BYTES], data[_CHECK_BYTES:]
    return code if hashlib.sha256(code).digest() == check else None


_warned: list[Path] = []


def _warn_of_unreadable(path: Path) -> None:
    """Say once why every start compiles."""
    if not _warned:
        _warned.append(path)
        warnings.warn(
            f"{path}: compiled code that this user may not read is compiled again; let all read the files "
            f"there (chmod -R a+rX {path.parent}), or set FTRL_CACHE_DIR to a directory of this user",
            RuntimeWarning,
            stacklevel=2,
        )


def _write(path: Path, code: bytes) -> None:
    """Keep the code, for all whom the umask lets read it; a full disk does not matter."""
    new = path.with_name(f".new-{os.urandom(8).hex()}")
    try:
        with new.open("xb") as file:
            file.write(hashlib.sha256(code).digest() + code)
        os.replace(new, path)
    except OSError:
        with suppress(OSError):
            new.unlink()


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Let one process compile what several need."""
    from filelock import FileLock, Timeout

    lock = FileLock(path.with_suffix(".lock"), timeout=WAIT_SECONDS)
    try:
        lock.acquire()
    except (Timeout, OSError, NotImplementedError):
        yield
        return
    try:
        yield
    finally:
        lock.release()
