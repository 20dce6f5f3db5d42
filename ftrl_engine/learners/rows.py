"""What the row loops of all learners share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ftrl_engine.jit import inlined

# Features whose cells are fetched ahead; two to three rows of forty hide the memory's delay.
AHEAD = 112


@inlined
def total(terms: NDArray[np.float64], count: int) -> float:
    """The sum of ``terms[:count]`` in four interleaved partial sums, the same on every machine."""
    a, b, c, d = 0.0, 0.0, 0.0, 0.0
    quads = count & ~3
    for k in range(0, quads, 4):
        a += terms[k]
        b += terms[k + 1]
        c += terms[k + 2]
        d += terms[k + 3]
    for k in range(quads, count):
        a += terms[k]
    return (a + b) + (c + d)
