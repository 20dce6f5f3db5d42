"""Compiling with numba: once as a whole, not function by function.

numba compiles each function that a kernel calls to a library of its own: optimised, turned into machine
code, wrapped for Python, and optimised again in each library that links it. Here a function is only
lowered to the compiler's intermediate language; it is optimised once, where it ends: behind the entry that
Python calls. That takes a third of the time for the same code.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from typing import Any, cast

from numba import types
from numba.core import codegen, compiler, registry
from numba.core.compiler_lock import global_compiler_lock
from numba.core.errors import NumbaError
from numba.extending import intrinsic

from ftrl_engine.entry import Entry, numba_type
from ftrl_engine.machine_code import Args

_PART = {"nopython": True, "no_cfunc_wrapper": True, "no_cpython_wrapper": True}


class Part(registry.CPUDispatcher):  # type: ignore[misc]
    """A function as a part of kernels, told its types once for all literals."""

    def __init__(self, function: Callable[..., Any], options: Mapping[str, Any]) -> None:
        super().__init__(function, targetoptions=_PART | dict(options), pipeline_class=_PartCompiler)

    def get_call_template(self, args: Any, kws: Any) -> Any:
        """What a kernel that calls this one is told about its types."""
        return super().get_call_template(
            [types.unliteral(kind) for kind in args],
            {name: types.unliteral(kind) for name, kind in kws.items()},
        )


def intrinsic_type(typing: Callable[..., Any]) -> Any:
    """The type by which numba knows an intrinsic that this function types."""
    context = registry.cpu_target.typing_context
    made = intrinsic(typing)
    context.refresh()
    return context.resolve_value_type(made)


def compile_for(part: Part, name: str, args: Args) -> bytes:
    """An object file with the entry ``name`` for arguments of the kinds of these."""
    with global_compiler_lock:
        kinds = tuple(numba_type(arg) for arg in args)
        try:
            part.compile(kinds)
        except NumbaError as error:
            kernel = part.py_func.__qualname__
            listed = ", ".join(map(str, kinds))
            raise TypeError(f"{kernel}: cannot be compiled for ({listed}): {error}") from error
        # Not the newest: this one may be older, compiled as a part of another kernel.
        result = part.overloads[kinds]
        library = _EntryLibrary(result.target_context.codegen(), name)
        module = library.create_ir_module(name)
        Entry(result, module, name, args).build()
        library.add_ir_module(module)
        library.add_linking_library(result.library)
        library.finalize()
        return library.object


class _EntryLibrary(codegen.JITCodeLibrary):  # type: ignore[misc]
    """What is optimised as a whole and turned into machine code."""

    object: bytes

    def _optimize_final_module(self) -> None:
        """Hide all but the entry, so that no function takes or returns what nobody uses.

        Of an array in C order its address and length remain, of a tuple of arrays those that are used.
        """
        for function in self._final_module.functions:
            if not function.is_declaration and function.name != self.name:
                function.linkage = "internal"
        super()._optimize_final_module()

    def _finalize_final_module(self) -> None:
        self._verify_declare_only_symbols()
        for function in self._final_module.functions:
            outside = function.is_declaration and not function.name.startswith("llvm.")
            if outside and not hasattr(ctypes.pythonapi, function.name):
                raise TypeError(f"{self.name}: calls {function.name}, which only numba has; do without")
        self.object = cast(bytes, self._codegen._tm.emit_object(self._final_module))
        self._finalized = True


class _PartLibrary(codegen.JITCodeLibrary):  # type: ignore[misc]
    """The intermediate code of a function and of all it calls, for the entry that links it."""

    @property
    def codegen(self) -> Any:
        return _WithoutEnvironments(self._codegen)

    def finalize(self) -> None:
        """Link, and leave optimising and machine code to the entry."""
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
