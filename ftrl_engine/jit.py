"""The one way to compile.

Every compiled function of the project goes through :func:`kernel` or :func:`inlined`. A change in
a helper must reach its callers, so the cache directory is keyed by a digest of all sources
that hold kernels. Where no cache can be made, kernels are compiled in memory.

With ``NUMBA_DISABLE_JIT=1`` the same functions run as plain Python, which is how the
tests compare them with the slow oracles.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np

from ftrl_engine.kernels import Intrinsic, Kernel

Function = TypeVar("Function", bound=Callable[..., Any])

COMPILED = os.environ.get("NUMBA_DISABLE_JIT", "0") in ("", "0")
_DIGEST = re.compile("[0-9a-f]{20}")
_KEPT_SECONDS = 30 * 86_400
_PACKAGES = ("ftrl_engine", "streams", "serving", "bench")


def _compiler_version() -> bytes:
    """What tells one numba from another, without loading it."""
    found = importlib.util.find_spec("numba")
    folders = (found.submodule_search_locations or ()) if found is not None else ()
    return b"".join((Path(folder) / "_version.py").read_bytes() for folder in folders)


def _digest_of_sources() -> str:
    digest = hashlib.sha256(_compiler_version())
    root = Path(__file__).resolve().parent.parent
    for package in _PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            text = path.read_bytes()
            if b"kernel" in text or b"inlined" in text or b"intrinsic" in text:
                digest.update(path.relative_to(root).as_posix().encode() + b"\0" + text)
    return digest.hexdigest()[:20]


def _find_cache() -> Path | None:
    """The directory of this version; None where there is none and none can be made."""
    version = _digest_of_sources()
    chosen = os.environ.get("FTRL_CACHE_DIR")
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        root = Path(chosen) if chosen else Path(base).expanduser() / "ftrl_engine"
        return _made(root, root / version)
    except (OSError, RuntimeError):
        # No permission, no space, or (RuntimeError) a user without a home.
        return None


def _made(root: Path, directory: Path) -> Path:
    if directory.is_dir():
        # It may be read-only, as in an image that was warmed up when it was built.
        with suppress(OSError):
            os.utime(directory)
        return directory
    directory.mkdir(parents=True, exist_ok=True)
    _forget_old(root, directory)
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
    return COMPILED and (CACHE is None or next(CACHE.glob("*.o"), None) is None)


def kernel(function: Function) -> Function:
    """Compile ``function``: releases the GIL, cached on disk, IEEE arithmetic, no fastmath.

    A kernel allocates nothing (numba's reference counting is off, which would cost more than
    the work between two features): its caller passes scratch arrays and owns all memory.

    A kernel reads and writes arrays where they stand, and does not look at their flag ``writeable``: batches
    may be read-only or mapped from a file, and a kernel does not declare what it writes. Its caller must not
    pass a read-only array for one that it fills. Writable arrays must be aligned.
    """
    # Said aloud: what a merged function calls would be merged too.
    return _compile(function, {"forceinline": False})


def inlined(function: Function) -> Function:
    """A kernel that is merged into every kernel that calls it.

    Passing arrays by value to a function that is not merged costs tens of nanoseconds, more
    than most helpers compute; rare branches and large bodies should stay plain kernels.
    """
    return _compile(function, {"forceinline": True})


def intrinsic(function: Function) -> Function:
    """A function whose code for kernels stands under its name in :mod:`ftrl_engine.intrinsic_code`."""
    name = function.__name__
    return made_of(function, lambda: getattr(importlib.import_module("ftrl_engine.intrinsic_code"), name))


def made_of(function: Function, build: Callable[[], Callable[..., Any]]) -> Function:
    """A function whose code for kernels is made by what ``build`` returns, as numba's intrinsics are."""
    return cast(Function, Intrinsic(function, build)) if COMPILED else function


def _compile(function: Function, extra: dict[str, Any]) -> Function:
    if not COMPILED:
        # Plain Python: unsigned arithmetic wraps as it does when compiled.
        return np.errstate(over="ignore")(function)
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "_nrt": False} | extra
    return cast(Function, Kernel(function, options, CACHE))
