"""What is done with memory that blocks and batches have left, and with what is loaded for good."""

from __future__ import annotations

import functools
import gc

import numpy as np

# The largest piece that glibc still takes as a sign of what a program frees again and again.
_PIECE = (32 << 20) - (64 << 10)
# From here on, objects between collections are the choice of a command, not of another program.
_SELDOM = 10_000


@functools.cache
def keep_freed_memory() -> None:
    """Let glibc keep what is freed for the next block, up to twice the size of a piece freed before.

    It gives larger pieces back to the system at once, until one as large was freed; then each block
    and each batch costs a page fault for every 4 KB, a tenth of reading and encoding. The piece
    itself is never touched. Other C libraries do as they would without it.
    """
    np.empty(_PIECE, dtype=np.uint8)


def keep_loaded() -> None:
    """Have garbage no longer looked for among what a command has loaded: 30 ms less in every run.

    Of a program that calls commands as functions, objects are left as they are.
    """
    if gc.get_threshold()[0] >= _SELDOM:
        gc.freeze()
