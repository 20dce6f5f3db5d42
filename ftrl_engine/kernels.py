"""A compiled function and the way it is compiled: once as a whole, not function by function.

numba compiles each function that a kernel calls to a library of its own: optimised, turned into machine
code, wrapped for Python, and optimised again in each library that links it. Here a function that is
called by a kernel is only lowered to the compiler's intermediate language; it is optimised once, where it
ends: in the kernel that Python calls. That takes a third of the time for the same code.

What is compiled is kept in a directory that belongs to one version of all sources, so its files are named
after module and line and may be shared by checkouts at different paths. Processes that need the same
kernel at the same time wait for the first of them.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from numba import types
from numba.core import caching, codegen, compiler, registry

# A process waits so long for another that compiles the same kernel; then it compiles too.
WAIT_SECONDS = 120.0
_ENTRY = {"nopython": True, "no_cfunc_wrapper": True}
_PART = _ENTRY | {"no_cpython_wrapper": True}


class Kernel(registry.CPUDispatcher):  # type: ignore[misc]
    """A function that Python and other kernels call.

    For Python it is compiled to machine code and kept on disk; for a kernel it is a part of that kernel.
    """

    def __init__(self, function: Callable[..., Any], options: Mapping[str, Any], cache: Path | None) -> None:
        super().__init__(py_func=function, targetoptions=_ENTRY | dict(options))
        self._part = registry.CPUDispatcher(
            py_func=function, targetoptions=_PART | dict(options), pipeline_class=_PartCompiler
        )
        self._directory = cache
        if cache is not None:
            self._cache = _cache_at(cache)(function)

    def get_call_template(self, args: Any, kws: Any) -> Any:
        """What a kernel that calls this one is told about its types: once for all literals."""
        return self._part.get_call_template(
            [types.unliteral(kind) for kind in args],
            {name: types.unliteral(kind) for name, kind in kws.items()},
        )

    def get_overload(self, signature: Any) -> Any:
        """What a kernel that calls this one calls."""
        return self._part.get_overload(signature)

    def compile(self, signature: Any) -> Any:
        """Compile for Python, or read what was compiled before."""
        with self._alone():
            return super().compile(signature)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Let one process compile what several need."""
        if self._directory is None or self._cache.is_on_disk():
            yield
            return
        from filelock import FileLock, Timeout

        lock = FileLock(self._directory / f"{self._cache.base_name}.lock", timeout=WAIT_SECONDS)
        try:
            lock.acquire()
        except (Timeout, OSError, NotImplementedError):
            yield
            return
        try:
            yield
        finally:
            lock.release()


class _PartLibrary(codegen.JITCodeLibrary):  # type: ignore[misc]
    """The intermediate code of a function and of all it calls, for the kernel that links it."""

    @property
    def codegen(self) -> Any:
        return _WithoutEnvironments(self._codegen)

    def finalize(self) -> None:
        """Link, and leave optimising and machine code to the kernel."""
        self._raise_if_finalized()
        for library in dict.fromkeys(self._linking_libraries):
            self._final_module.link_in(library._get_module_for_linking(), preserve=True)
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        """There is no machine code to point to."""
        self._ensure_finalized()
        return 0


class _WithoutEnvironments:
    """The code generator for functions without machine code, whose environments have no address.

    Kernels need none: it holds the Python objects of a function, for errors with arguments and the like.
    """

    def __init__(self, generator: Any) -> None:
        self._generator = generator

    def __getattr__(self, name: str) -> Any:
        return getattr(self._generator, name)

    def set_env(self, name: str, environment: Any) -> None:
        """Nowhere to write it."""


class _PartCompiler(compiler.Compiler):  # type: ignore[misc]
    """numba's compiler with the library above."""

    def __init__(
        self, typing: Any, target: Any, library: Any, args: Any, result: Any, flags: Any, kinds: Any
    ) -> None:
        library = _PartLibrary(target.codegen(), "part")
        library.enable_object_caching()
        super().__init__(typing, target, library, args, result, flags, kinds)


@functools.cache
def _source_stamp(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


@functools.cache
def _cache_at(directory: Path) -> type[Any]:
    class Locator(caching._CacheLocator):  # type: ignore[misc]
        """Files in one directory, good while the file with the function stays the same."""

        def __init__(self, function: Callable[..., Any], path: str) -> None:
            self._py_file, self._function = path, function

        @classmethod
        def from_function(cls, function: Callable[..., Any], path: str) -> Locator:
            return cls(function, path)

        def get_cache_path(self) -> str:
            return str(directory)

        def get_source_stamp(self) -> str:
            return _source_stamp(self._py_file)

        def get_disambiguator(self) -> str:
            return f"{self._function.__module__}-{self._function.__code__.co_firstlineno}"

    class Results(caching.CompileResultCacheImpl):  # type: ignore[misc]
        _locator_classes = (Locator,)

    class Cache(caching.FunctionCache):  # type: ignore[misc]
        _impl_class = Results

        @property
        def base_name(self) -> str:
            return str(self._impl.filename_base)

        def is_on_disk(self) -> bool:
            """Whether something was compiled for this function."""
            return (directory / f"{self.base_name}.nbi").exists()

    return Cache
