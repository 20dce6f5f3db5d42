"""Counting the scores of a request, in one compiled call."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ftrl_engine.jit import kernel

# Upper bounds of the histogram of scores: click rates are small, so small ones are told apart best.
SCORE_BUCKETS = (
    0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 0.99, 1.0,
)  # fmt: skip
# What the counts are of: fields that changed no score, fields of the schema without a value, candidates,
# the sum of their probabilities; then the histogram, whose last bucket has no upper bound.
UNKNOWN, MISSING, CANDIDATES, SUM, FIRST_BUCKET = range(5)
COUNTED = FIRST_BUCKET + len(SCORE_BUCKETS) + 1
# A result begins with the first two; the probabilities follow.
FIRST_RESULT = 2
_BOUNDS = np.array(SCORE_BUCKETS)


@kernel
def count_scores(counts: NDArray[np.float64], results: NDArray[np.float64]) -> None:
    """Add one result to the COUNTED counts; bucket i holds probabilities of at most SCORE_BUCKETS[i]."""
    total = 0.0
    for row in range(FIRST_RESULT, len(results)):
        score = results[row]
        total += score
        bucket = FIRST_BUCKET
        for bound in range(len(_BOUNDS)):
            bucket += score > _BOUNDS[bound]
        counts[bucket] += 1.0
    counts[UNKNOWN] += results[UNKNOWN]
    counts[MISSING] += results[MISSING]
    counts[CANDIDATES] += len(results) - FIRST_RESULT
    counts[SUM] += total
