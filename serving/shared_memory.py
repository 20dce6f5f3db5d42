"""Memory without a name that the processes of one server map; it is gone when none of them is left."""

from __future__ import annotations

import mmap
import os
import tempfile
from typing import Any


def new_memory(size: int) -> int:
    """A descriptor of ``size`` bytes of zeros; OSError where there is no room for them.

    On Linux it is memory, elsewhere a file that was removed at once: a server that is killed leaves
    nothing behind.
    """
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("ftrl", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    try:
        if hasattr(os, "posix_fallocate"):
            # Without it a full system would end the process at the first byte that has no room.
            os.posix_fallocate(descriptor, 0, size)
        else:
            os.ftruncate(descriptor, size)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def map_memory(descriptor: int, size: int) -> mmap.mmap:
    """The memory, written and read by all."""
    return mmap.mmap(descriptor, size)


def map_sealed(descriptor: int, size: int) -> mmap.mmap:
    """The memory, read by all; what a process writes would be its own copy of that page.

    It is mapped so and not as read-only because compiled code is made for arrays that can be written.
    """
    if os.name == "nt":
        return mmap.mmap(descriptor, size, access=mmap.ACCESS_COPY)
    return mmap.mmap(descriptor, size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)


def seal(descriptor: int) -> None:
    """Nobody may change the memory any more, where the system can promise that."""
    fcntl: Any
    try:
        import fcntl
    except ImportError:
        return
    if hasattr(fcntl, "F_ADD_SEALS"):
        seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
